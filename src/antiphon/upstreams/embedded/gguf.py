"""The header of a GGUF file: what must be known of a model before it is loaded.

Reads a bounded piece of the file, never the tensors.  Must not know what runs the model.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

import math
import struct
from pathlib import Path
from typing import Any

import msgspec

MAGIC = b"GGUF"
VERSIONS = (2, 3)
#: How much of a file is read for its header; the second bound where the first is not enough.
HEADER_BYTES = (16 << 20, 256 << 20)
LABEL_BYTES = 64 << 10
PAIRS_MAX = 65536
TENSORS_MAX = 1 << 20
DIMENSIONS_MAX = 8
TEXT_MAX = 1 << 20
ELEMENTS_MAX = 16 << 20
#: Arrays of numbers up to this length are kept (a value per layer); longer ones are skipped.
KEPT_MAX = 4096

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    kind: struct.Struct("<" + code)
    for kind, code in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
#: What most tensors of a file are kept as, in the order of llama.cpp's numbers for it.
_FILE_TYPES = (
    "F32 F16 Q4_0 Q4_1 - - - Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ2_XXS IQ2_XS "
    "Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M IQ4_XS IQ1_M BF16 - - - TQ1_0 TQ2_0 MXFP4"
)
_QUANTIZATIONS = {number: name for number, name in enumerate(_FILE_TYPES.split()) if name != "-"}
#: How tensors of each type lie in the file: elements of a block, and its bytes (``ggml.c``, ``type_traits``).
_BLOCKS = {
    **{kind: (1, size) for kind, size in {0: 4, 1: 2, 24: 1, 25: 2, 26: 4, 27: 8, 28: 8, 30: 2}.items()},
    **{kind: (32, size) for kind, size in {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 9: 36, 20: 18, 39: 17}.items()},
    **{kind: (256, size) for kind, size in {10: 84, 11: 110, 12: 144, 13: 176, 14: 210, 15: 292}.items()},
    **{kind: (256, size) for kind, size in {16: 66, 17: 74, 18: 98, 19: 50, 21: 110, 22: 82, 23: 136}.items()},
    **{kind: (256, size) for kind, size in {29: 56, 34: 54, 35: 66}.items()},
}
#: Bytes of a number in the cache of keys and values, which the engine keeps as 16-bit floats.
_CACHED_BYTES = 2


class Header(msgspec.Struct, frozen=True):
    """What a GGUF file says of its model; None where it does not say."""

    file_bytes: int
    architecture: str
    name: str | None = None
    description: str | None = None
    chat_template: str | None = None
    #: Tokens of context that it was trained with.
    context_length: int | None = None
    #: Weights in this file.
    parameters: int = 0
    #: Memory that a token of context takes while it can be attended to.
    cache_bytes_per_token: int | None = None


class Label(msgspec.Struct, frozen=True):
    """What the first bytes of a GGUF file say, where they do: enough for a list of many."""

    architecture: str
    size: str = ""
    quantization: str = ""


class _Cut(Exception):
    """The bytes end before the header does."""


def check(path: Path) -> None:
    """Raises ``ValueError``, one sentence, for a file that holds no model that could be run."""
    read_header(path)


def read_header(path: Path) -> Header:
    """The header of a model.  Raises ``ValueError``, one sentence naming the file, where there is none."""
    header = _read(path)
    if header.architecture == "clip":
        raise ValueError(f"{path} is a projector for images (mmproj), not a language model.")
    return header


def read_label(path: Path) -> Label:
    """The label of a model.  Raises ``ValueError`` for what is none, ``OSError`` for what cannot be read."""
    with path.open("rb") as file:
        data = file.read(LABEL_BYTES)
    reader = _Reader(data)
    pairs: dict[str, Any] = {}
    try:
        if data[:4] != MAGIC or reader.number(_U32) not in VERSIONS:
            raise ValueError(f"{path} is not a GGUF file.")
        reader.number(_U64)
        for _ in range(min(reader.number(_U64), PAIRS_MAX)):
            key, value = reader.pair()
            pairs[key] = value
    except _Cut:  # what describes the model stands before its vocabulary
        if len(data) < LABEL_BYTES:
            raise ValueError(f"{path} is truncated: it ends inside its header.") from None
    except _Malformed as error:
        raise ValueError(f"{path} {error}.") from None
    architecture = _text(pairs, "general.architecture")
    if architecture is None:
        raise ValueError(f"{path} is not a model: its header names no architecture.")
    kind: Any = pairs.get("general.file_type")
    quantization = _QUANTIZATIONS.get(kind, "") if isinstance(kind, int) else ""
    return Label(architecture, _text(pairs, "general.size_label") or "", quantization)


def _read(path: Path) -> Header:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ValueError(f"{path} is a directory, not a GGUF file.")
        for limit in HEADER_BYTES:
            with path.open("rb") as file:
                data = file.read(limit)
            try:
                return _header(data, size)
            except _Cut:
                if size <= limit:
                    break
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except _Malformed as error:
        raise ValueError(f"{path} {error}.") from None
    raise ValueError(f"{path} is truncated: it ends inside its header.")


class _Malformed(Exception):
    """What is wrong with the file, as the end of a sentence."""


def _header(data: bytes, size: int) -> Header:
    if data[:4] != MAGIC:
        raise _Malformed("is not a GGUF file: it does not begin with the letters GGUF")
    reader = _Reader(data)
    version = reader.number(_U32)
    if version not in VERSIONS:
        raise _Malformed(f"is a GGUF file of version {version}, which is not supported")
    tensors, count = reader.number(_U64), reader.number(_U64)
    if tensors > TENSORS_MAX or count > PAIRS_MAX:
        raise _Malformed("is not a valid GGUF file: its header counts more than any model has")
    pairs = dict(reader.pair() for _ in range(count))
    parameters = _tensors(reader, tensors, pairs.get("general.alignment", 32), size)
    return _told(pairs, size, parameters)


def _tensors(reader: "_Reader", count: int, alignment: Any, size: int) -> int:
    """The number of weights; a file that ends before its last tensor does is truncated."""
    parameters, end = 0, 0
    for _ in range(count):
        elements, offset, length = reader.tensor()
        parameters += elements
        end = max(end, offset + length)
    step = alignment if isinstance(alignment, int) and 0 < alignment <= 1 << 20 else 32
    if count and math.ceil(reader.at / step) * step + end > size:
        raise _Malformed(f"is truncated: its tensors go beyond its {size} bytes")
    return parameters


def _told(pairs: dict[str, Any], size: int, parameters: int) -> Header:
    architecture = pairs.get("general.architecture")
    if not isinstance(architecture, str):
        raise _Malformed("is not a model: its header names no architecture")
    context = pairs.get(f"{architecture}.context_length")
    return Header(
        file_bytes=size,
        architecture=architecture,
        name=_text(pairs, "general.name"),
        description=_text(pairs, "general.description"),
        chat_template=_text(pairs, "tokenizer.chat_template"),
        context_length=context if isinstance(context, int) and context > 0 else None,
        parameters=parameters,
        cache_bytes_per_token=_cache_bytes(pairs, architecture),
    )


def _text(pairs: dict[str, Any], key: str) -> str | None:
    value = pairs.get(key)
    return value if isinstance(value, str) and value else None


def _cache_bytes(pairs: dict[str, Any], architecture: str) -> int | None:
    """Of plain attention in every layer: an upper bound for models with windows or recurrent layers."""

    def whole(key: str) -> int:
        value = pairs.get(f"{architecture}.{key}")
        return value if isinstance(value, int) else 0

    layers, heads, width = whole("block_count"), whole("attention.head_count"), whole("embedding_length")
    per_layer = pairs.get(f"{architecture}.attention.head_count_kv", heads)
    kept = sum(per_layer) if isinstance(per_layer, list) else per_layer * layers
    head = width // heads if heads else 0
    sides = (whole("attention.key_length") or head) + (whole("attention.value_length") or head)
    return kept * sides * _CACHED_BYTES or None


class _Reader:
    """A place in the bytes.  Raises ``_Cut`` at their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = len(MAGIC)

    def number(self, form: struct.Struct) -> Any:
        try:
            (value,) = form.unpack_from(self._data, self.at)
        except struct.error:
            raise _Cut from None
        self.at += form.size
        return value

    def text(self) -> str:
        size = self.number(_U64)
        if size > TEXT_MAX:
            raise _Malformed("is not a valid GGUF file: a text in its header is too long")
        piece = self._data[self.at : self.at + size]
        if len(piece) < size:
            raise _Cut
        self.at += size
        return piece.decode("utf-8", "replace")

    def pair(self) -> tuple[str, Any]:
        return self.text(), self._value(self.number(_U32))

    def tensor(self) -> tuple[int, int, int]:
        """How many elements, where they begin behind the header, and their bytes: of a type unknown here at least 1."""
        self.text()
        dimensions = self.number(_U32)
        if dimensions > DIMENSIONS_MAX:
            raise _Malformed("is not a valid GGUF file: a tensor has too many dimensions")
        elements = math.prod(self.number(_U64) for _ in range(dimensions))
        block, size = _BLOCKS.get(self.number(_U32), (max(elements, 1), 1))
        return elements, self.number(_U64), elements // block * size

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _NUMBERS:
            raise _Malformed("is not a valid GGUF file: its header has a value of an unknown type")
        return self.number(_NUMBERS[kind])

    def _array(self) -> list[Any] | None:
        kind, count = self.number(_U32), self.number(_U64)
        if count > ELEMENTS_MAX:
            raise _Malformed("is not a valid GGUF file: a list in its header is too long")
        if kind == _STRING:
            self._skip_texts(count)
        elif kind in _NUMBERS and count <= KEPT_MAX:
            return [self.number(_NUMBERS[kind]) for _ in range(count)]
        elif kind in _NUMBERS:
            self.at += count * _NUMBERS[kind].size
        else:
            raise _Malformed("is not a valid GGUF file: its header has a list of an unknown type")
        return None

    def _skip_texts(self, count: int) -> None:
        """Vocabularies: hundreds of thousands, so without a call for each."""
        data, at, end = self._data, self.at, len(self._data)
        for _ in range(count):
            at += 8 + int.from_bytes(data[at : at + 8], "little")
            if at > end:
                raise _Cut
        self.at = at
