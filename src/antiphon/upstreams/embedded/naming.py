"""The names under which GGUF files are offered: the model's own where it has a good one, else the file's."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from antiphon.upstreams.embedded.gguf import Header, read_header

NAME_MAX = 80
#: What converters write when nobody told them a name.
_EMPTY_NAMES = frozenset({"model", "models", "output", "out", "tmp", "unknown", "none", "snapshot", "merged", "hf"})
_DIGEST = re.compile(r"[0-9a-f]{24,}")


def named(paths: Iterable[str | Path]) -> dict[str, Path]:
    """Every file under a name of its own.  Raises ``ValueError``, one sentence, for what cannot be served."""
    files = [expanded(path).absolute() for path in paths]
    names = [name_of(file, read_header(file)) for file in files]
    # Two quantisations of one model say the same name; their files differ.
    often = Counter(names)
    names = [slug(file.stem) if often[name] > 1 else name for name, file in zip(names, files, strict=True)]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ValueError(f"two files have the name '{double}'; rename one of them.")
    return dict(zip(names, files, strict=True))


def expanded(path: str | Path) -> Path:
    """With the home folder that it begins with; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def name_of(path: Path, header: Header) -> str:
    """``general.name`` as a slug where it says something, else the file's stem."""
    told = slug(header.name or "")
    if len(told) < 2 or len(told) > NAME_MAX or told in _EMPTY_NAMES or _DIGEST.fullmatch(told):
        return slug(path.stem)
    return told


def slug(text: str) -> str:
    """Lower case; what is no letter, digit, dot, colon or underscore becomes one hyphen."""
    return re.sub(r"[^a-z0-9._:]+", "-", text.lower()).strip("-._:") or "model"
