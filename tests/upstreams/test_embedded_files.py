"""GGUF files: what is read of them, what they are called, how they are loaded."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.upstreams.gguf_files import BUNDLED, header

from antiphon.upstreams.embedded.cores import physical_cores, quota
from antiphon.upstreams.embedded.gguf import Header, check, read_header
from antiphon.upstreams.embedded.naming import named
from antiphon.upstreams.embedded.sizing import SMALL_BYTES, Settings, sizes_of

GIB = 1 << 30
PAIRS = {
    "general.architecture": "qwen3",
    "general.name": "Qwen3 0.6B Instruct",
    "general.description": "small",
    "qwen3.context_length": 40960,
    "qwen3.block_count": 28,
    "qwen3.embedding_length": 1024,
    "qwen3.attention.head_count": 16,
    "qwen3.attention.head_count_kv": 8,
    "qwen3.attention.key_length": 128,
    "qwen3.attention.value_length": 128,
    "qwen3.rope.freq_base": 1e6,
    "tokenizer.ggml.tokens": ["a", "b", "ç"],
    "tokenizer.ggml.token_type": [1, 1, 3],
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.chat_template": "{{ messages }}",
}
WHOLE = header(PAIRS, tensors=((32, 4), (8,)), rest=128 * 4 + 32)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_header_tells_what_is_needed(tmp_path: Path) -> None:
    told = read_header(write(tmp_path / "m.gguf", WHOLE))

    assert told == Header(
        file_bytes=len(WHOLE),
        architecture="qwen3",
        name="Qwen3 0.6B Instruct",
        description="small",
        chat_template="{{ messages }}",
        context_length=40960,
        parameters=136,
        cache_bytes_per_token=28 * 8 * 256 * 2,
    )


def test_the_cache_of_layers_that_differ_is_summed(tmp_path: Path) -> None:
    pairs = {**PAIRS, "qwen3.attention.head_count_kv": [8] * 14 + [0] * 14}

    assert read_header(write(tmp_path / "m.gguf", header(pairs))).cache_bytes_per_token == 14 * 8 * 256 * 2


def test_the_bundled_model_is_a_whole_file() -> None:
    told = read_header(BUNDLED)

    check(BUNDLED)
    assert told.chat_template is not None
    assert told.context_length is not None
    assert told.parameters > 1_000_000


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is not a GGUF file"),
        (b"PK\x03\x04" + bytes(100), "is not a GGUF file"),
        (b"GGUF", "is truncated: it ends inside its header"),
        (header(PAIRS, version=1), "of version 1, which is not supported"),
        (b"GGUF\x00\x00\x00\x03" + bytes(100), "version 50331648"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 100, "counts more than any model has"),
        (header({"a": "b"}), "names no architecture"),
        (header({"general.architecture": "clip"}), "is a projector for images"),
        (WHOLE[:-100], "is truncated: its tensors go beyond"),
    ],
)
def test_a_file_that_cannot_be_served_is_one_sentence(tmp_path: Path, data: bytes, what: str) -> None:
    file = write(tmp_path / "m.gguf", data)

    with pytest.raises(ValueError, match=what) as raised:
        check(file)

    message = str(raised.value)
    assert message.startswith(str(file))
    assert message.endswith(".")
    assert "\n" not in message


def test_missing_files_and_directories_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.gguf does not exist\."):
        check(tmp_path / "nothing.gguf")
    with pytest.raises(ValueError, match="is a directory, not a GGUF file"):
        check(tmp_path)


def test_no_prefix_and_no_damage_does_more_than_raise(tmp_path: Path) -> None:
    chance = random.Random(7)
    file = tmp_path / "m.gguf"
    end = len(WHOLE) - 32

    for cut in range(0, end, 7):
        with pytest.raises(ValueError, match=r"GGUF|truncated"):
            read_header(write(file, WHOLE[:cut]))
    for _ in range(300):
        damaged = bytearray(WHOLE)
        for _ in range(4):
            damaged[chance.randrange(8, end)] = chance.randrange(256)
        try:
            read_header(write(file, bytes(damaged)))
        except ValueError as error:
            assert str(error).startswith(str(file))  # noqa: PT017 - most damage is harmless


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("Meta Llama 3.1 8B Instruct", "x.gguf", "meta-llama-3.1-8b-instruct"),
        ("Model", "Qwen3-0.6B-Q8_0.gguf", "qwen3-0.6b-q8_0"),
        ("..", "My Model.gguf", "my-model"),
        ("a5c1f0e2d3b4a5c1f0e2d3b4a5c1f0e2d3b4a5c1", "tiny.gguf", "tiny"),
        ("", "tiny.gguf", "tiny"),
        ("x" * 200, "tiny.gguf", "tiny"),
    ],
)
def test_a_model_is_called_by_its_own_name_or_its_files(tmp_path: Path, name: str, file: str, expected: str) -> None:
    path = write(tmp_path / file, header({"general.architecture": "llama", "general.name": name}))

    assert named([path]) == {expected: path}


def test_two_quantisations_of_one_model_are_called_by_their_files(tmp_path: Path) -> None:
    data = header({"general.architecture": "llama", "general.name": "Same Name"})
    small, large = write(tmp_path / "Same-Q4.gguf", data), write(tmp_path / "Same-Q8.gguf", data)

    assert named([small, str(large)]) == {"same-q4": small, "same-q8": large}
    with pytest.raises(ValueError, match="two files have the name 'same-q4'"):
        named([small, small])


def known(file_bytes: int, context: int | None = None, cache: int | None = None) -> Header:
    return Header(file_bytes, "llama", context_length=context, cache_bytes_per_token=cache)


def test_small_models_get_one_thread_and_large_ones_all_cores() -> None:
    assert sizes_of(known(SMALL_BYTES - 1), Settings(), 8, GIB).threads == 1
    assert sizes_of(known(SMALL_BYTES), Settings(), 8, GIB).threads == 8
    assert sizes_of(known(SMALL_BYTES), Settings(engine_threads=3), 8, GIB).threads == 3


@pytest.mark.parametrize(
    ("header_", "asked", "memory", "expected"),
    [
        (known(1, 2048, 3072), 0, 24 * GIB, 2048),  # all that it was trained with
        (known(1, 131072, 3072), 0, 24 * GIB, 32768),  # our bound
        (known(1, 131072, 131072), 0, 24 * GIB, 8192),  # 4 slots of 1 GiB in a quarter of 24
        (known(1, 131072, 131072), 0, 1 * GIB, 4096),  # never less than what a conversation needs
        (known(1, 131072, 131072), 0, 0, 32768),  # a machine that tells nothing
        (known(1, None, None), 0, GIB, 32768),
        (known(1, 131072, 131072), 65536, GIB, 65536),  # the operator knows
        (known(1, 2048, 3072), 65536, GIB, 2048),  # but not better than the model
    ],
)
def test_every_slot_gets_the_whole_context(header_: Header, asked: int, memory: int, expected: int) -> None:
    assert sizes_of(header_, Settings(engine_context=asked), 1, memory).context == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", None), ("", None), ("250000 100000", 2), ("50000 100000", 1), ("1 0", None)]
)
def test_the_quota_of_a_container_bounds_the_threads(text: str, expected: int | None) -> None:
    assert quota(text) == expected


def test_this_machine_has_a_core() -> None:
    assert physical_cores() >= 0
