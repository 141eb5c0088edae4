"""GGUF files for tests: made from nothing but a header, or from the bundled model."""

from __future__ import annotations

import struct
from importlib import resources
from pathlib import Path
from typing import Any

BUNDLED = Path(str(resources.files("antiphon") / "models" / "antiphon-demo.gguf"))

_U32, _U64, _I32 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<i")


def text(value: str) -> bytes:
    encoded = value.encode()
    return _U64.pack(len(encoded)) + encoded


def header(
    pairs: dict[str, Any], *, version: int = 3, tensors: tuple[tuple[int, ...], ...] = (), rest: int = 0
) -> bytes:
    """A file with these pairs and 32-bit float tensors of these shapes, then ``rest`` zero bytes."""
    made = b"GGUF" + _U32.pack(version) + _U64.pack(len(tensors)) + _U64.pack(len(pairs))
    made += b"".join(text(key) + _value(value) for key, value in pairs.items())
    offset = 0
    for number, shape in enumerate(tensors):
        made += text(f"t{number}") + _U32.pack(len(shape)) + b"".join(map(_U64.pack, shape))
        made += _U32.pack(0) + _U64.pack(offset)
        size = 4
        for side in shape:
            size *= side
        offset += -(-size // 32) * 32
    return made + bytes(-len(made) % 32) + bytes(rest) if tensors else made


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return _U32.pack(7) + bytes([value])
    if isinstance(value, str):
        return _U32.pack(8) + text(value)
    if isinstance(value, float):
        return _U32.pack(6) + struct.pack("<f", value)
    if isinstance(value, list) and value and isinstance(value[0], str):
        return _U32.pack(9) + _U32.pack(8) + _U64.pack(len(value)) + b"".join(map(text, value))
    if isinstance(value, list):
        return _U32.pack(9) + _U32.pack(5) + _U64.pack(len(value)) + b"".join(map(_I32.pack, value))
    return _U32.pack(4) + _U32.pack(value)


def with_temperature(temperature: float) -> bytes:
    """The bundled model with another default of its own."""
    data = bytearray(BUNDLED.read_bytes())
    key = text("general.sampling.temp")
    at = data.index(key) + len(key) + 4
    data[at : at + 4] = struct.pack("<f", temperature)
    return bytes(data)


def with_template(template: str) -> bytes:
    """The bundled model with another chat template, which is no longer than its own."""
    data = bytearray(BUNDLED.read_bytes())
    key = text("tokenizer.chat_template")
    at = data.index(key) + len(key) + 4
    (size,) = _U64.unpack_from(data, at)
    comment = b"{#" + b" " * (size - len(template.encode()) - 4) + b"#}"
    data[at + 8 : at + 8 + size] = template.encode() + comment
    return bytes(data)
