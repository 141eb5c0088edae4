"""Prompt templates: files that a request names by ``prompt`` (reference 5.1, 9.5), laid under its other members.

A folder holds ``ID.json``, and older or newer versions of it as ``ID/VERSION.json``.  Without a version a request means
``ID.json``, and where there is none the highest version: ``10`` is above ``9``.  A file is a JSON object:

    {"version": "2",                     of an ``ID.json``; "1" where it is left out
     "description": "For the operator; nobody else sees it.",
     "projects": ["support"],            who may use it; all where it is left out
     "variables": {"tone": "friendly"},  defaults: a string or an input part; null says that there is none
     "instructions": "You answer for {{company}} in a {{tone}} tone.",
     "input": [{"role": "user", "content": "Look at this: {{photo}}"}],
     "model": "some-model", "temperature": 0.2, "tools": [...], ...}

Whatever else stands there is a default of the parameter of this name.  What the request says itself takes its place,
``instructions`` too; only ``input`` comes after the template's.  ``{{name}}`` is replaced in ``instructions`` and in
the content of messages, once: what a variable brings is not looked at again.  An image or a file becomes a part of the
message's content between the texts around it.

Must not know how responses are made or stored.  Changed files are seen at the next request; one that was changed into
something that is no template leaves the one before in force, and the log says so.
"""

import logging
import re
import stat
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from antiphon.protocol.decoding import decode, members_of
from antiphon.protocol.errors import ApiError, bad_choice, invalid, missing, quoted
from antiphon.protocol.items import Part
from antiphon.protocol.requests import read_create

logger = logging.getLogger("antiphon.prompts")
encode = msgspec.json.encode

#: Templates held in memory, the size of a file, and files of one folder, at the most.
TEMPLATES_MAX, FILE_MAX_BYTES, FILES_MAX = 128, 1 << 20, 10_000
#: Bytes of variables in a rendered prompt, unless told otherwise: one may stand in many places.
RENDERED_MAX_BYTES = 64 << 20
FIRST_VERSION = "1"

#: Ids and versions.  No separator and no leading dot: such a name cannot leave the folder.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
_VARIABLE = re.compile(r"\{\{[ \t]*([A-Za-z_][A-Za-z0-9_.-]{0,63})[ \t]*\}\}")
_DIGITS = re.compile(r"(\d+)")
_PARTS = ("input_text", "input_image", "input_file")
_SOURCES = {"input_text": ("text",), "input_image": ("image_url", "file_id")}
_SOURCES |= {"input_file": ("file_id", "file_url", "file_data")}
#: Parameters of one request alone, which no template can stand for.
_OWN = {"prompt", "previous_response_id", "conversation", "background", "stream", "stream_options"}


class TemplateError(ValueError):
    """A file that is no template, told in one sentence."""


class PromptParam(msgspec.Struct):
    """``prompt`` of a request."""

    id: str
    version: str | None = None
    variables: dict[str, msgspec.Raw] | None = None


class Value(NamedTuple):
    """What is filled in: a text, or an input part with its JSON."""

    text: str | None
    part: dict[str, Any] | None
    size: int


class Template(msgspec.Struct, frozen=True):
    """A template as it was read.  ``uses``: how often each variable stands in it."""

    version: str
    projects: frozenset[str] | None
    defaults: dict[str, Value]
    instructions: str | None
    items: list[dict[str, Any]]
    members: dict[str, msgspec.Raw]
    uses: Counter[str]

    def serves(self, project: str) -> bool:
        return self.projects is None or project in self.projects


class _File(msgspec.Struct):
    """What a template's file may hold besides parameters."""

    version: str | None = None
    description: str | None = None
    projects: list[str] | None = None
    variables: dict[str, msgspec.Raw] = {}
    instructions: str | None = None
    input: str | list[dict[str, Any]] | None = None


_file = msgspec.json.Decoder(_File)
_param = msgspec.json.Decoder(PromptParam)
_part = msgspec.json.Decoder(Part)
_ABOUT = {field.name for field in msgspec.structs.fields(_File)}


# --- A file into a template ---


def read_template(data: bytes, version: str | None = None) -> Template:
    """The template in a file's bytes; ``version`` is the one that its name gives it.  Raises ``TemplateError``."""
    try:
        data, members = members_of(data)
        file = decode(_file, data)
        defaults = {name: _value(raw, f"variables.{name}") for name, raw in file.variables.items() if raw != _NULL}
        parameters = {name: raw for name, raw in members.items() if name not in _ABOUT}
        _check_parameters(parameters)
    except ApiError as error:
        raise TemplateError(error.message) from None
    items = [{"role": "user", "content": file.input}] if isinstance(file.input, str) else file.input or []
    uses = Counter(name for text in _texts(file.instructions, items) for name in _VARIABLE.findall(text))
    _check_file(file, uses, version)
    projects = None if file.projects is None else frozenset(file.projects)
    version = version or file.version or FIRST_VERSION
    return Template(version, projects, defaults, file.instructions, items, parameters, uses)


_NULL = msgspec.Raw(b"null")


def _check_parameters(parameters: Mapping[str, msgspec.Raw]) -> None:
    own = next((name for name in parameters if name in _OWN), None)
    if own is not None:
        raise invalid(f"'{own}' belongs to a request and not to a template.")
    read_create(encode({**parameters, "input": "-"}))


def _check_file(file: _File, uses: Counter[str], version: str | None) -> None:
    idle = next((name for name in file.variables if name not in uses), None)
    if idle is not None:
        raise TemplateError(f"The variable '{quoted(idle)}' stands nowhere in it.")
    if file.version is not None and _NAME.fullmatch(file.version) is None:
        raise TemplateError(f"The version '{quoted(file.version)}' is none that a file could be named after.")
    if version is not None and file.version not in (None, version):
        raise TemplateError(f"Its version is '{file.version}', but its name says '{version}'.")


def _is_message(item: Mapping[str, Any]) -> bool:
    return "role" in item and item.get("type", "message") == "message"


def _texts(instructions: str | None, items: list[dict[str, Any]]) -> Iterator[str]:
    """Every text in which variables may stand."""
    if instructions is not None:
        yield instructions
    for item in items:
        content = item.get("content") if _is_message(item) else None
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield from (text for part in content if isinstance(part, dict) for text in _strings(part))


def _strings(part: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in part.values() if isinstance(value, str))


# --- A template and a request's ``prompt`` into members ---


def lay_over(
    members: Mapping[str, msgspec.Raw],
    asked: PromptParam,
    template: Template,
    rendered_max_bytes: int = RENDERED_MAX_BYTES,
) -> dict[str, msgspec.Raw]:
    """The members of a request with the template's under them; ``prompt`` becomes what the Response shows of it.

    Raises ``ApiError`` 400 naming the variable that is missing, unknown or not what can stand there.
    """
    values = _values(asked, template)
    if sum(values[name].size * count for name, count in template.uses.items()) > rendered_max_bytes:
        message = f"Invalid 'prompt.variables': with them the prompt has more than {rendered_max_bytes} bytes."
        raise invalid(message, "prompt.variables", "string_above_max_length")
    given = {name: value for name, value in members.items() if value != _NULL}
    laid = {**template.members, **given, "prompt": _echo(asked, template)}
    if template.instructions is not None:
        instructions = _text(template.instructions, values)
        laid.setdefault("instructions", msgspec.Raw(encode(instructions)))
    if template.items:
        laid["input"] = _before(given.get("input"), b",".join(encode(_item(item, values)) for item in template.items))
    return laid


def _echo(asked: PromptParam, template: Template) -> msgspec.Raw:
    return msgspec.Raw(encode({"id": asked.id, "version": template.version, "variables": asked.variables}))


def _before(given: msgspec.Raw | None, items: bytes) -> msgspec.Raw:
    """The template's items and then the request's input; what cannot be an input is left for others to refuse."""
    data = b"" if given is None else bytes(given)
    if data[:1] == b'"':
        items += b',{"role":"user","content":%b}' % data
    elif data[:1] == b"[":
        rest = data[1:-1].strip()
        items += b"," + rest if rest else b""
    elif data:
        return msgspec.Raw(data)
    return msgspec.Raw(b"[%b]" % items)


def _values(asked: PromptParam, template: Template) -> dict[str, Value]:
    given = asked.variables or {}
    unknown = [name for name in given if name not in template.uses]
    if unknown:
        raise _about_variables("Unknown", unknown, "unknown_parameter")
    values = {**template.defaults, **{name: _value(raw, f"prompt.variables.{name}") for name, raw in given.items()}}
    absent = [name for name in template.uses if name not in values]
    if absent:
        raise _about_variables("Missing", absent, "missing_required_parameter")
    return values


def _about_variables(what: str, names: list[str], code: str) -> ApiError:
    told = quoted(", ".join(names))
    return invalid(f"{what} prompt variables: {told}.", f"prompt.variables.{quoted(names[0])}", code)


def _value(raw: msgspec.Raw, path: str) -> Value:
    """A variable's value.  Raises ``ApiError`` 400."""
    data, path = bytes(raw), quoted(path)
    if data[:1] == b'"':
        return Value(msgspec.json.decode(data, type=str), None, len(data))
    if data[:1] != b"{":
        raise invalid(f"Invalid type for '{path}': expected a string or an input part.", path, "invalid_type")
    part: Part = decode(_part, data, path)
    if not part.type:
        raise missing(f"{path}.type")
    if part.type not in _PARTS:
        raise bad_choice(f"{path}.type", part.type, _PARTS)
    sources = _SOURCES[part.type]
    if all(getattr(part, source) is None for source in sources):
        raise missing(f"{path}.{sources[0]}")
    return Value(part.text if part.type == "input_text" else None, msgspec.json.decode(data), len(data))


def _text(text: str, values: Mapping[str, Value]) -> str:
    """A text where only text can stand."""

    def filled(found: re.Match[str]) -> str:
        value = values[found[1]]
        if value.text is None:
            assert value.part is not None
            message = f"Invalid value: the variable '{found[1]}' stands within text and cannot be {value.part['type']}."
            raise invalid(message, f"prompt.variables.{found[1]}")
        return value.text

    return _VARIABLE.sub(filled, text)


def _item(item: dict[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    content = item.get("content") if _is_message(item) else None
    split = item.get("role") != "assistant"  # what the model said is text
    if isinstance(content, str):
        parts = split and any(values[name].part is not None for name in _VARIABLE.findall(content))
        text = {"type": "input_text", "text": content}
        return {**item, "content": _split(text, values) if parts else _text(content, values)}
    if isinstance(content, list):
        return {**item, "content": [made for part in content for made in _content_part(part, values, split)]}
    return item


def _content_part(part: Any, values: Mapping[str, Value], split: bool) -> list[Any]:
    if not isinstance(part, dict):
        return [part]
    if split and part.get("type") == "input_text" and isinstance(part.get("text"), str):
        return _split(part, values)
    return [{name: _text(value, values) if isinstance(value, str) else value for name, value in part.items()}]


def _split(part: dict[str, Any], values: Mapping[str, Value]) -> list[dict[str, Any]]:
    """A text part as several, where parts are filled into its text."""
    made: list[dict[str, Any]] = []
    text: str = part["text"]
    begun = 0
    for found in _VARIABLE.finditer(text):
        filling = values[found[1]].part
        if filling is not None:
            made += [{**part, "text": _text(text[begun : found.start()], values)}, filling]
            begun = found.end()
    made.append({**part, "text": _text(text[begun:], values)})
    return [one for one in made if one.get("text") != ""] or made[:1]


# --- The folder ---


class _Kept(NamedTuple):
    """A file as it was last seen; the template is None when there never was one in it."""

    mark: tuple[int, int, int]
    template: Template | None


class Prompts:
    """The templates of a folder; None is a server without any."""

    def __init__(self, folder: Path | None, *, rendered_max_bytes: int = RENDERED_MAX_BYTES) -> None:
        self._folder = folder
        self._rendered_max_bytes = rendered_max_bytes
        self._kept: OrderedDict[Path, _Kept] = OrderedDict()

    def check(self) -> int:
        """Reads every file, and returns how many there are.  Raises ``TemplateError`` naming the first wrong one."""
        if self._folder is None:
            return 0
        if not self._folder.is_dir():
            raise TemplateError(f"{self._folder} is not a folder.")
        files = [*self._folder.glob("*.json"), *self._folder.glob("*/*.json")]
        paths = sorted(path for path in (file.relative_to(self._folder) for file in files) if not _is_hidden(path))
        if len(paths) > FILES_MAX:
            raise TemplateError(f"{self._folder} has {len(paths)} files; at most {FILES_MAX} are served.")
        for path in paths:
            _check_one(self._folder / path, path)
        return len(paths)

    def overlay(self, members: Mapping[str, msgspec.Raw], project: str) -> Mapping[str, msgspec.Raw]:
        """A request's members with those of the template that its ``prompt`` names; without one, as they are.

        Raises ``ApiError``: 404 for an unknown template, 400 for an unknown version or wrong variables.
        """
        raw = members.get("prompt", _NULL)
        if raw == _NULL:
            return members
        asked = decode(_param, raw, "prompt")
        return lay_over(members, asked, self.find(asked, project), self._rendered_max_bytes)

    def find(self, asked: PromptParam, project: str) -> Template:
        """The template that is meant.  Raises ``ApiError`` 404 or 400."""
        if self._folder is not None and _NAME.fullmatch(asked.id) is not None:
            exact = None if asked.version is None else self._version(self._folder, asked.id, asked.version)
            found = exact or self._current(self._folder, asked.id)
            if found is not None and found.serves(project):
                if exact is not None or asked.version in (None, found.version):
                    return found
                message = f"Version '{quoted(asked.version or '')}' of prompt '{quoted(asked.id)}' not found."
                raise invalid(message, "prompt.version")
        # The official words, and no code (reference 9.5).
        raise ApiError(404, f"Prompt with id '{quoted(asked.id)}' not found.")

    def _current(self, folder: Path, name: str) -> Template | None:
        own = self._load(folder / f"{name}.json", None)
        if own is not None:
            return own
        newest = max(_versions(folder / name), key=_by_number, default=None)
        return None if newest is None else self._version(folder, name, newest)

    def _version(self, folder: Path, name: str, version: str) -> Template | None:
        if _NAME.fullmatch(version) is None:
            return None
        return self._load(folder / name / f"{version}.json", version)

    def _load(self, file: Path, version: str | None) -> Template | None:
        """The template of a file as it is now; None where there is no file.  Raises ``ApiError`` 500."""
        try:
            seen = file.stat()
        except OSError:
            self._kept.pop(file, None)
            return None
        mark = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        kept = self._kept.get(file)
        if kept is None or kept.mark != mark:
            kept = _Kept(mark, self._reread(file, version, kept))
            self._kept[file] = kept
            if len(self._kept) > TEMPLATES_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(file)
        if kept.template is None:
            message = "The prompt template that the request names is broken on this server."
            raise ApiError(
                500, message, type="server_error", code="server_error", headers=(("x-should-retry", "false"),)
            )
        return kept.template

    def _reread(self, file: Path, version: str | None, before: _Kept | None) -> Template | None:
        try:
            return _read(file, version)
        except TemplateError as error:
            stays = before is not None and before.template is not None
            logger.error("%s is no template%s: %s", file, ", what it was stays in force" if stays else "", error)
            return None if before is None else before.template


def _is_hidden(path: Path) -> bool:
    return any(name.startswith(".") for name in path.parts)


def _check_one(file: Path, path: Path) -> None:
    try:
        odd = next((name for name in path.with_suffix("").parts if _NAME.fullmatch(name) is None), None)
        if odd is not None:
            raise TemplateError(f"'{odd}' is no name that a request could give.")
        _read(file, file.stem if len(path.parts) > 1 else None)
    except TemplateError as error:
        raise TemplateError(f"{file}: {error}") from None


def _read(file: Path, version: str | None) -> Template:
    try:
        seen = file.stat()
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > FILE_MAX_BYTES:
            raise TemplateError(f"It is no file of at most {FILE_MAX_BYTES} bytes.")
        data = file.read_bytes()
    except OSError as error:
        raise TemplateError(f"It cannot be read: {error.strerror}.") from None
    return read_template(data, version)


def _versions(folder: Path) -> list[str]:
    try:
        return [file.stem for file in folder.iterdir() if file.suffix == ".json" and _NAME.fullmatch(file.stem)]
    except OSError:
        return []


def _by_number(version: str) -> list[tuple[int, str]]:
    """Sorts ``10`` above ``9``, and numbers above words."""
    return [(int(piece), "") if piece.isdecimal() else (0, piece) for piece in _DIGITS.split(version) if piece]
