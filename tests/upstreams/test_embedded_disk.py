"""GGUF files that others have put on the disk: found, named and told apart, whatever else lies there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.upstreams.gguf_files import BUNDLED, header

from antiphon.assemble import Server, model_files
from antiphon.config import Config, ConfigError
from antiphon.upstreams.embedded import disk
from antiphon.upstreams.embedded.disk import OnDisk, find
from antiphon.upstreams.embedded.gguf import Label, read_label

LLAMA = {"general.architecture": "llama", "general.size_label": "3B", "general.file_type": 15}
WEIGHTS = {"tensors": ((32, 2),), "rest": 1000}
MODEL = "application/vnd.ollama.image.model"


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever Ollama's service of this machine has."""
    monkeypatch.setattr(disk, "OLLAMA_SERVICE", tmp_path / "no-service")


def put(path: Path, pairs: dict[str, Any] = LLAMA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header(pairs, **WEIGHTS))  # type: ignore[arg-type]
    return path


def pulled(models: Path, name: str, *, layers: list[tuple[str, str]] | None = None, blob: bytes | None = None) -> None:
    """What `ollama pull` leaves."""
    digest = f"{abs(hash(name)):064x}"[:64]
    (models / "blobs").mkdir(parents=True, exist_ok=True)
    (models / "blobs" / f"sha256-{digest}").write_bytes(header(LLAMA, **WEIGHTS) if blob is None else blob)  # type: ignore[arg-type]
    manifest = models / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    made = layers or [(MODEL, f"sha256:{digest}"), ("application/vnd.ollama.image.template", "sha256:00")]
    manifest.write_text(json.dumps({"layers": [{"mediaType": kind, "digest": where} for kind, where in made]}))


def names(home: Path, **environment: str) -> dict[str, str]:
    return {model.name: model.owner for model in disk.on_disk(home, environment)}


def test_ollamas_names_are_those_that_it_uses(tmp_path: Path) -> None:
    models = tmp_path / ".ollama/models"
    for name in ("library/llama3.2/3b", "library/qwen3/latest", "somebody/tuned/v1"):
        pulled(models, f"registry.ollama.ai/{name}")
    pulled(models, "hf.co/bartowski/Some-GGUF/Q4_K_M")

    found = disk.on_disk(tmp_path, {})

    assert [model.name for model in found] == [
        "hf.co/bartowski/Some-GGUF:Q4_K_M",
        "llama3.2:3b",
        "qwen3:latest",
        "somebody/tuned:v1",
    ]
    one = found[1]
    assert (one.owner, one.parameters, one.quantization) == ("Ollama", "3B", "Q4_K_M")
    assert one.size == one.path.stat().st_size
    assert find("qwen3", found) == find("qwen3:latest", found) == found[2]
    assert find("llama3.2", found) is None


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [(MODEL, "sha256:" + "0" * 64), (MODEL, "sha256:" + "1" * 64)],
        [(MODEL, "sha256:../../../../etc/passwd")],
        [(MODEL, "sha256:" + "0" * 64)],
        [("application/vnd.ollama.image.tensor", "sha256:" + "0" * 64)],
    ],
)
def test_a_manifest_of_something_else_is_passed_over(tmp_path: Path, layers: list[tuple[str, str]]) -> None:
    pulled(tmp_path / ".ollama/models", "registry.ollama.ai/library/odd/1b", layers=layers or [("x", "y")])

    assert names(tmp_path) == {}


def test_an_adapter_needs_its_program(tmp_path: Path) -> None:
    models = tmp_path / ".ollama/models"
    pulled(models, "registry.ollama.ai/library/base/1b")
    (blob,) = (models / "blobs").iterdir()
    layers = [(MODEL, blob.name.replace("-", ":")), ("application/vnd.ollama.image.adapter", "sha256:" + "a" * 64)]
    pulled(models, "registry.ollama.ai/library/tuned/1b", layers=layers)

    assert names(tmp_path) == {"base:1b": "Ollama"}


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"layers": 3}', b'{"layers": [4]}', b"\xff\xfe", b"[" * 100_000])
def test_a_broken_manifest_is_passed_over(tmp_path: Path, text: bytes) -> None:
    models = tmp_path / ".ollama/models"
    pulled(models, "registry.ollama.ai/library/good/1b")
    bad = models / "manifests/registry.ollama.ai/library/bad/1b"
    bad.parent.mkdir()
    bad.write_bytes(text)
    (models / "manifests/stray").write_bytes((models / "manifests/registry.ollama.ai/library/good/1b").read_bytes())

    assert names(tmp_path) == {"good:1b": "Ollama"}


def test_every_program_has_its_place(tmp_path: Path) -> None:
    put(tmp_path / ".lmstudio/models/org/Phi-4-GGUF/Phi-4-Q4_K_M.gguf")
    put(tmp_path / ".cache/lm-studio/models/org/old/Old-Q8_0.gguf")
    put(tmp_path / ".cache/llama.cpp/ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf")
    blob = put(tmp_path / ".cache/huggingface/hub/models--org--Qwen/blobs/abc")
    snapshots = [tmp_path / f".cache/huggingface/hub/models--org--Qwen/snapshots/{name}" for name in ("r1", "r2")]
    for snapshot in snapshots:
        (snapshot / "Q4").mkdir(parents=True)
        (snapshot / "Q4/Qwen3-4B-Q4_K_M.gguf").symlink_to(blob)
        (snapshot / "lost.gguf").symlink_to(tmp_path / "gone")
        (snapshot / "again.gguf").symlink_to(snapshot / "again.gguf")
        (snapshot / "round").symlink_to(tmp_path)

    assert names(tmp_path) == {
        "phi-4-q4_k_m": "LM Studio",
        "old-q8_0": "LM Studio",
        "qwen3-4b-q4_k_m": "Hugging Face",
        "ggml-org_gemma-3-1b-it-gguf_gemma-3-1b-it-q4_k_m": "llama.cpp",
    }


def test_the_programs_own_variables_are_heeded(tmp_path: Path) -> None:
    pulled(tmp_path / "o", "registry.ollama.ai/library/a/1b")
    put(tmp_path / "h/hub/models--x/snapshots/1/b.gguf")
    put(tmp_path / "c/c.gguf")
    told = {"OLLAMA_MODELS": "o", "HF_HOME": "h", "LLAMA_CACHE": "c"}

    assert names(tmp_path / "home", **{name: str(tmp_path / folder) for name, folder in told.items()}) == {
        "a:1b": "Ollama",
        "b": "Hugging Face",
        "c": "llama.cpp",
    }
    assert names(tmp_path, HF_HUB_CACHE=str(tmp_path / "h/hub")) == {"b": "Hugging Face"}


def test_what_is_no_language_model_is_not_listed(tmp_path: Path) -> None:
    folder = tmp_path / ".lmstudio/models/org/repo"
    put(folder / "good.gguf")
    put(folder / "mmproj-F16.gguf", {"general.architecture": "clip"})
    put(folder / "embed.gguf", {"general.architecture": "nomic-bert"})
    (folder / "text.gguf").write_text("Dear model,")
    (folder / "empty.gguf").write_bytes(b"")
    (folder / "folder.gguf").mkdir()
    (folder / "readme.md").write_text("#")
    os.mkfifo(folder / "pipe.gguf")

    assert list(names(tmp_path)) == ["good"]


def test_a_model_in_parts_is_one_when_all_are_there(tmp_path: Path) -> None:
    folder = tmp_path / ".lmstudio/models/org/repo"
    whole = [put(folder / f"Big-0000{part}-of-00003.gguf") for part in (1, 2, 3)]
    put(folder / "Cut-00001-of-00002.gguf")
    put(folder / "Last-00002-of-00002.gguf")

    (one,) = disk.on_disk(tmp_path, {})

    assert (one.name, one.path) == ("big", whole[0])
    assert one.size == sum(file.stat().st_size for file in whole)


def test_huge_folders_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "ENTRIES_MAX", 10)
    for number in range(30):
        put(tmp_path / f".cache/llama.cpp/m{number:02}.gguf")
    deep = tmp_path / ".lmstudio/models" / "/".join("abcdefghij") / "deep.gguf"
    put(deep)

    assert len(names(tmp_path)) == 10


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_what_may_not_be_read_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / ".lmstudio/models"
    put(folder / "org/mine.gguf")
    put(folder / "org/yours.gguf").chmod(0)
    put(folder / "closed/theirs.gguf").parent.chmod(0)
    try:
        assert list(names(tmp_path)) == ["mine"]
    finally:
        (folder / "closed").chmod(0o700)


def test_a_label_is_read_before_the_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    vocabulary = {"tokenizer.ggml.tokens": ["word"] * 20_000}
    file.write_bytes(header(LLAMA | vocabulary | {"general.name": "late"}, **WEIGHTS))  # type: ignore[arg-type]

    assert read_label(file) == Label("llama", "3B", "Q4_K_M")
    assert read_label(put(tmp_path / "n.gguf", {"general.architecture": "x", "general.file_type": 99})) == Label("x")
    assert read_label(BUNDLED).architecture == "llama"


# --- Served by name ---


@pytest.fixture
def ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which Ollama has pulled the bundled model as `tiny:latest`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    pulled(tmp_path / ".ollama/models", "registry.ollama.ai/library/tiny/latest", blob=BUNDLED.read_bytes())
    return tmp_path


@pytest.mark.parametrize("given", ["tiny", "tiny:latest"])
def test_a_model_is_served_under_the_name_that_was_listed(ollama: Path, given: str) -> None:
    files = model_files(Config(models=[given], demo_model=False))

    assert list(files) == ["tiny:latest"]
    assert files["tiny:latest"].read_bytes() == BUNDLED.read_bytes()


def test_a_path_stays_a_path(ollama: Path) -> None:
    file = ollama / "tiny.gguf"
    file.write_bytes(BUNDLED.read_bytes())

    assert set(model_files(Config(models=[str(file), "tiny"], demo_model=False)).values()) == {
        file,
        find_one(ollama).path,
    }


def find_one(home: Path) -> OnDisk:
    (one,) = disk.on_disk(home, {})
    return one


@pytest.mark.parametrize(
    ("given", "told"), [(["tinny"], "'tinny' is neither a file nor"), (["tiny", "tiny:latest"], "twice")]
)
def test_a_name_that_is_none_is_one_sentence(ollama: Path, given: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Server(Config(database=":memory:", models=given))
