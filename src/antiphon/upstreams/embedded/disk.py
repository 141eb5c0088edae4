"""GGUF files that other programs have put on this disk: Ollama, LM Studio, Hugging Face's hub and llama.cpp.

Nothing is written, and what is broken is passed over: these folders belong to others, who may be at work in them.
Must not know what is done with a file.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from antiphon.upstreams.embedded import gguf
from antiphon.upstreams.embedded.gguf import read_label
from antiphon.upstreams.embedded.naming import expanded, slug

#: Files and folders looked at in one place, and levels of folders below it.
ENTRIES_MAX, DEPTH_MAX = 20_000, 6
#: Where Ollama's service for the whole machine keeps its files.
OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")
#: A manifest is a page of JSON.
MANIFEST_MAX = 1 << 20
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_OLLAMA_ADAPTER = "application/vnd.ollama.image.adapter"
_OLLAMA_REGISTRY = ("registry.ollama.ai",)
_OLLAMA_LIBRARY = ("library",)
#: Architectures that read text and write none: they make embeddings.
_ENCODERS = ("bert", "t5encoder")
_PART = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})$")


class OnDisk(msgspec.Struct, frozen=True):
    """A model: its name, its first file, the bytes of all its files, who put it there; empty: it does not say."""

    name: str
    path: Path
    size: int
    owner: str
    parameters: str = ""
    quantization: str = ""


def on_disk(home: Path, environment: Mapping[str, str]) -> list[OnDisk]:
    """Every model that could be served, by name; of two with one name the first place's."""
    seen: dict[str, OnDisk] = {}
    files: set[tuple[int, int]] = set()
    for owner, candidates in _places(home, environment):
        for candidate in candidates:
            if not f"{candidate.name}{candidate.path}".isprintable():
                continue  # nobody could say its name, nor could it be told in JSON
            file = _identity(candidate.path)
            if file is None or file in files or candidate.name in seen:
                continue
            model = _labelled(candidate, owner)
            if model is not None:
                files.add(file)
                seen[model.name] = model
    return sorted(seen.values(), key=lambda model: model.name)


def find(name: str, models: Sequence[OnDisk]) -> OnDisk | None:
    """The model of this name; as in Ollama, a name without a tag means ``latest``."""
    by_name = {model.name: model for model in models}
    return by_name.get(name) or by_name.get(f"{name}:latest")


def is_whole(model: OnDisk) -> bool:
    """Whether its first file is as long as its tensors need; reads the header, some megabytes of it."""
    try:
        gguf.check(model.path)
    except ValueError:
        return False
    return True


class _Candidate(NamedTuple):
    name: str
    path: Path
    #: All parts of it.
    files: tuple[Path, ...]


def _places(home: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, Iterator[_Candidate]]]:
    """Where each program keeps its files when nobody told it otherwise, and where its variables say."""
    for models in (
        _told(environment, "OLLAMA_MODELS"),
        home / ".ollama/models",
        OLLAMA_SERVICE,
    ):
        if models is not None:
            yield "Ollama", _of_ollama(models)
    for folder in (home / ".lmstudio/models", home / ".cache/lm-studio/models"):
        yield "LM Studio", _gguf_files(folder)
    cache = _told(environment, "XDG_CACHE_HOME") or home / ".cache"
    hub = _told(environment, "HF_HUB_CACHE") or (_told(environment, "HF_HOME") or cache / "huggingface") / "hub"
    yield "Hugging Face", _gguf_files(hub)
    for llamacpp in (_told(environment, "LLAMA_CACHE"), cache / "llama.cpp", home / "Library/Caches/llama.cpp"):
        if llamacpp is not None:
            yield "llama.cpp", _gguf_files(llamacpp)


def _told(environment: Mapping[str, str], name: str) -> Path | None:
    return expanded(environment[name]) if environment.get(name) else None


def _identity(path: Path) -> tuple[int, int] | None:
    """The same for every link to a file; None for what is no file, of which even opening may not return."""
    try:
        told = path.stat()
    except OSError:
        return None
    return (told.st_dev, told.st_ino) if stat.S_ISREG(told.st_mode) else None


def _labelled(candidate: _Candidate, owner: str) -> OnDisk | None:
    """None for what is no language model: projectors for images, encoders, files that are cut or not ours to read."""
    try:
        label = read_label(candidate.path)
        size = sum(file.stat().st_size for file in candidate.files)
    except (OSError, ValueError):
        return None
    if label.architecture == "clip" or label.architecture.endswith(_ENCODERS):
        return None
    return OnDisk(candidate.name, candidate.path, size, owner, label.size, label.quantization)


# --- Folders of files ---


def _gguf_files(folder: Path) -> Iterator[_Candidate]:
    """Every file, by its own name; of one in parts the first, when all are there: llama.cpp finds the others."""
    for path in _walk(folder):
        if path.suffix.lower() != ".gguf":
            continue
        part = _PART.match(path.stem)
        if part is None:
            yield _Candidate(slug(path.stem), path, (path,))
        elif int(part["part"]) == 1:
            parts = int(part["parts"])
            files = tuple(
                path.with_name(f"{part['stem']}-{number:05}-of-{parts:05}{path.suffix}")
                for number in range(1, min(parts, ENTRIES_MAX) + 1)
            )
            if all(file.is_file() for file in files):
                yield _Candidate(slug(part["stem"]), path, files)


def _walk(folder: Path) -> Iterator[Path]:
    """The files below, in the order of their names; links to folders are not followed, so that there is an end."""
    waiting = [(folder, 0)]
    left = ENTRIES_MAX
    while waiting:
        folder, depth = waiting.pop()
        entries = _listed(folder, left)
        left -= len(entries)
        yield from (Path(entry.path) for entry in entries if not _is_folder(entry))
        if depth < DEPTH_MAX:
            waiting += [(Path(entry.path), depth + 1) for entry in reversed(entries) if _is_folder(entry)]


def _listed(folder: Path, at_most: int) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return sorted(islice(listing, at_most), key=lambda entry: entry.name)
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


# --- Ollama ---


class _Layer(msgspec.Struct):
    mediaType: str = ""  # noqa: N815 - as it is written
    digest: str = ""


class _Manifest(msgspec.Struct):
    layers: list[_Layer] = []


def _of_ollama(models: Path) -> Iterator[_Candidate]:
    """``manifests/HOST/NAMESPACE/MODEL/TAG`` names the layers, which are ``blobs/sha256-...``."""
    manifests = models / "manifests"
    for path in _walk(manifests):
        blob = _model_layer(path)
        parts = path.relative_to(manifests).parts
        if blob is None or len(parts) < 3:
            continue
        *where, tag = parts
        if tuple(where[:1]) == _OLLAMA_REGISTRY:
            where = where[2:] if tuple(where[1:2]) == _OLLAMA_LIBRARY else where[1:]
        file = models / "blobs" / blob.replace(":", "-")
        yield _Candidate(f"{'/'.join(where)}:{tag}", file, (file,))


def _model_layer(path: Path) -> str | None:
    """The digest of the one file that is the model; None where it is more than that, or nothing of the kind."""
    try:
        with path.open("rb") as file:
            manifest = msgspec.json.decode(file.read(MANIFEST_MAX), type=_Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = [layer.digest for layer in manifest.layers if layer.mediaType == _OLLAMA_MODEL]
    adapted = any(layer.mediaType == _OLLAMA_ADAPTER for layer in manifest.layers)
    if len(found) != 1 or adapted or not re.fullmatch(r"sha256[:-][0-9a-f]{64}", found[0]):
        return None
    return found[0]
