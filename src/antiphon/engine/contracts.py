"""What a request promises of its reply where ``strict`` is true or a tool has a grammar, compiled once per definition.

A contract makes checkers for texts as they come, and tells what is wrong with a whole one.
Must not know upstreams, or what is done about a broken contract (``strictness``).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jsonschema_rs
import msgspec

from antiphon.engine.grammars import BadGrammar, Grammar
from antiphon.engine.json_checker import JsonChecker
from antiphon.engine.shapes import Judge, Scalar, Shapes, TooComplex
from antiphon.protocol import schemas
from antiphon.protocol.decoding import decode
from antiphon.protocol.errors import ApiError, invalid, quoted, unavailable
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.tools import Tool

#: Compiled definitions that are kept, and the characters of what they were made from.
CACHED_MAX = 512
CACHED_CHARS_MAX = 1 << 20
#: Processor time that the definitions of one request may take, and how long it waits for its turn.
COMPILE_SECONDS_MAX = 3.0
COMPILE_WAIT_SECONDS = 30.0
COMPILERS = 2
#: Memory of one ``pattern`` when compiled, and processor time for all patterns of a schema.
PATTERN_BYTES_MAX = 1 << 20
PATTERNS_SECONDS_MAX = 0.5
#: Errors that are told of one text, and characters of each.
ERRORS_MAX = 10
ERROR_CHARS_MAX = 300
#: Steps in which all errors may be looked for; beyond them the first one must do.
ERROR_STEPS_MAX = 2_000_000

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES_MAX, dfa_size_limit=2 * PATTERN_BYTES_MAX)
#: They say which schema this is and where it is from, and change nothing in what it asks for.
_NAMES = ("$schema", "$id")


class Checker(Protocol):
    """One text as it comes."""

    reason: str | None

    def feed(self, text: str) -> bool:
        """Takes the next piece; False: the whole can no longer fit, and stays so."""

    @property
    def complete(self) -> bool:
        """Whether what was said fits as it is."""


class Contract(Protocol):
    """What a text must be."""

    #: What a sentence calls it.
    name: str
    #: Its text, for a model that must be told.
    definition: str

    def checker(self) -> Checker:
        """For one text."""

    def errors(self, text: str) -> list[str]:
        """What is wrong with a whole text, as sentences with places; none: it is right."""


# --- Schemas ---------------------------------------------------------------------------------------------------


class SchemaContract:
    """A strict JSON schema.  Raises ``schemas``' 400 in the words of ``place``."""

    name = "JSON schema"

    def __init__(self, schema: object, place: schemas.Place) -> None:
        problem = schemas.strict_problem(schema) or schema_problem(schema)
        if problem is not None:
            raise place.refuse(problem)
        assert isinstance(schema, dict)
        self._schema = {name: value for name, value in schema.items() if name not in _NAMES}
        self.definition = msgspec.json.encode(self._schema).decode()
        try:
            self._shapes = Shapes(self._schema, _Bench())
        except TooComplex as error:
            raise place.refuse(f"the schema is too complex: {error}") from None
        except jsonschema_rs.ValidationError as error:
            raise place.refuse(f"{quoted(repr(error.instance))} is not a 'regex'.") from None
        self._validator: jsonschema_rs.Validator | None = None

    def checker(self) -> JsonChecker:
        """For one text."""
        return JsonChecker(self._shapes)

    def errors(self, text: str) -> list[str]:
        """The text is right or not by the checker; the library tells all that is wrong with it."""
        checker = self.checker()
        checker.feed(text)
        if checker.complete:
            return []
        first = [checker.reason or "The text ends too early."]
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return first
        if self._shapes.branching ** _depth(value) * len(text) > ERROR_STEPS_MAX:
            return first
        return self._all_errors(value) or first

    def _all_errors(self, value: object) -> list[str]:
        if self._validator is None:
            self._validator = _validator(self._schema)
        told: list[str] = []
        for error in self._validator.iter_errors(value):
            told.append(_sentence(error))
            if len(told) == ERRORS_MAX:
                break
        return told


class _Bench:
    """Makes judges of scalars from the keywords that the library knows best, each once."""

    def __init__(self) -> None:
        self._known: dict[bytes, Judge] = {}
        self._ends = time.thread_time() + PATTERNS_SECONDS_MAX

    def __call__(self, rules: Mapping[str, Any]) -> Judge:
        key = msgspec.json.encode(rules)
        judge = self._known.get(key)
        if judge is None:
            if time.thread_time() > self._ends:
                raise TooComplex("its patterns take too long to compile.")
            judge = self._known[key] = _judge(_validator(rules))
        return judge


def _judge(validator: jsonschema_rs.Validator) -> Judge:
    def right(value: Scalar) -> bool:
        return bool(validator.is_valid(value))

    return right


def _validator(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        dict(schema), validate_formats=True, offline=True, pattern_options=_PATTERNS, mask="the value"
    )


def schema_problem(schema: object) -> str | None:
    """What keeps a decoded value from being a JSON schema at all, as a sentence; None: nothing."""
    if not isinstance(schema, dict):
        return f"{quoted(repr(schema))} is not of type 'object'."
    known = {name: value for name, value in schema.items() if name not in _NAMES or not _is_foreign(name, value)}
    try:
        jsonschema_rs.meta.validate(known)
    except jsonschema_rs.ValidationError as error:
        return _meta_sentence(error)
    except ValueError as error:
        return f"{quoted(str(error))}."
    return None


def _is_foreign(name: str, value: object) -> bool:
    """A dialect that is not a published draft is read as the newest."""
    return name == "$id" or not (isinstance(value, str) and value.startswith(_DRAFTS))


_DRAFTS = tuple(
    f"{scheme}://json-schema.org/{draft}"
    for scheme in ("http", "https")
    for draft in ("draft-04/", "draft-06/", "draft-07/", "draft/2019-09/", "draft/2020-12/")
)


def _meta_sentence(error: jsonschema_rs.ValidationError) -> str:
    value, kind = quoted(repr(error.instance)), error.kind.name
    if kind == "anyOf":
        text = f"{value} is not valid under any of the given schemas"
    elif kind == "type":
        text = f"{value} is not of type {', '.join(repr(name) for name in _names(error.kind.value))}"
    elif kind == "format":
        text = f"{value} is not a {error.kind.value!r}"
    else:
        text = quoted(error.message)
    path = tuple(str(step) for step in error.instance_path[:-1])
    return f"In context={schemas.quoted_context(path)}, {text}."


def _names(value: object) -> Sequence[object]:
    return sorted(value) if isinstance(value, list) else [value]


def _sentence(error: jsonschema_rs.ValidationError) -> str:
    """Of a union that does not fit, what is wrong with the member that comes nearest."""
    while isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AnyOf):
        firsts = [branch[0] for branch in error.kind.context if branch]
        if not firsts:
            break
        error = max(firsts, key=lambda first: len(first.instance_path))
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    return f"At {quoted(path)}: {error.message[:ERROR_CHARS_MAX]}."


def _depth(value: object) -> int:
    """Containers inside containers."""
    depth, level = 0, [value]
    while level:
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
    return depth


# --- Grammars --------------------------------------------------------------------------------------------------


class GrammarContract:
    """The grammar of a custom tool's input.  Raises ``ApiError`` 400 naming ``param``."""

    def __init__(self, syntax: str, definition: str, tool: str, param: str) -> None:
        self.name = f"grammar ({syntax})"
        self.definition = definition
        try:
            self._grammar = Grammar(syntax, definition)
        except BadGrammar as error:
            raise invalid(f"Invalid grammar for tool '{quoted(tool)}': {str(error)[:ERROR_CHARS_MAX]}", param) from None

    def checker(self) -> Checker:
        """For one text."""
        return self._grammar.checker()

    def errors(self, text: str) -> list[str]:
        """The first byte that is wrong."""
        checker = self.checker()
        checker.feed(text)
        if checker.complete:
            return []
        return [checker.reason or "The text ends too early."]


# --- A request's contracts -------------------------------------------------------------------------------------


class Contracts(NamedTuple):
    """What a request promises: of its text, and by the tool's name of the arguments or the input of calls."""

    text: Contract | None = None
    functions: Mapping[str, Contract] = {}
    inputs: Mapping[str, Contract] = {}

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return self.text is not None or bool(self.functions) or bool(self.inputs)


NOTHING_PROMISED = Contracts()

_Key = tuple[str, ...]
_Make = Callable[[], Contract | None]


class _Wanted(NamedTuple):
    """A definition of the request: what it is cached under, and how its contract is made."""

    key: _Key
    make: _Make


class Compiler:
    """Compiles what requests carry, and keeps it: agents send the same definitions in every request.

    The errors of a definition are not kept; they name the place in the request.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, Contract | None] = OrderedDict()
        self._chars = 0
        self._turns = asyncio.Semaphore(COMPILERS)

    async def contracts(self, request: CreateResponse, tools: Sequence[Tool]) -> Contracts:
        """``tools``: what the model sees of the request's functions and custom tools, under the names of its calls.

        Raises ``ApiError`` 400 naming the first definition that is wrong; the loop is not held up.
        """
        if not tools and (request.text is None or request.text.format is None):
            return NOTHING_PROMISED
        text = _of_text(request)
        functions = {tool.name or "": _of_function(tool) for tool in tools if tool.type == "function"}
        inputs = {tool.name or "": _of_custom(tool) for tool in tools if tool.type == "custom"}
        wanted = [one for one in (text, *functions.values(), *inputs.values()) if one is not None]
        made = await self._all(wanted)
        return Contracts(
            None if text is None else made[text.key],
            _found(functions, made),
            _found(inputs, made),
        )

    async def _all(self, wanted: Sequence[_Wanted]) -> dict[_Key, Contract | None]:
        new = {one.key: one.make for one in wanted if one.key not in self._kept}
        made = await self._in_turn(new) if new else {}
        found = {one.key: made[one.key] if one.key in made else self._kept[one.key] for one in wanted}
        for key, contract in found.items():
            self._keep(key, contract)
        return found

    async def _in_turn(self, new: Mapping[_Key, _Make]) -> dict[_Key, Contract | None]:
        try:
            async with asyncio.timeout(COMPILE_WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise unavailable("Too many schemas and grammars are being compiled.") from None
        try:
            return await asyncio.to_thread(_make_all, new)
        finally:
            self._turns.release()

    def _keep(self, key: _Key, contract: Contract | None) -> None:
        if key not in self._kept:
            self._chars += _chars(key)
        self._kept[key] = contract
        self._kept.move_to_end(key)
        while len(self._kept) > CACHED_MAX or (self._chars > CACHED_CHARS_MAX and self._kept):
            gone, _ = self._kept.popitem(last=False)
            self._chars -= _chars(gone)


def _chars(key: _Key) -> int:
    return sum(len(part) for part in key)


def _found(wanted: Mapping[str, _Wanted | None], made: Mapping[_Key, Contract | None]) -> dict[str, Contract]:
    pairs = ((name, made[one.key]) for name, one in wanted.items() if one is not None)
    return {name: contract for name, contract in pairs if contract is not None}


def _make_all(new: Mapping[_Key, _Make]) -> dict[_Key, Contract | None]:
    ends = time.thread_time() + COMPILE_SECONDS_MAX
    made = {}
    for key, make in new.items():
        if time.thread_time() > ends:
            raise ApiError(400, "The schemas and grammars of this request are too complex together.", param="tools")
        made[key] = make()
    return made


def _of_text(request: CreateResponse) -> _Wanted | None:
    form = request.text.format if request.text is not None else None
    if form is None or form.type != "json_schema":
        return None
    return _of_schema(bytes(form.schema), schemas.of_format(form.name), strict=form.strict is True)


def _of_function(tool: Tool) -> _Wanted | None:
    raw = bytes(tool.parameters)
    if raw == b"null":
        return None
    return _of_schema(raw, schemas.of_function(tool.name, tool.path), strict=tool.strict is True)


def _of_schema(raw: bytes, place: schemas.Place, *, strict: bool) -> _Wanted:
    """Without ``strict`` it need only be a schema, and no contract comes of it."""

    def make() -> Contract | None:
        schema = decode(_any, raw, place.param)
        if strict:
            return SchemaContract(schema, place)
        problem = schema_problem(schema)
        if problem is not None:
            raise place.refuse(problem)
        return None

    return _Wanted(("strict" if strict else "schema", raw.decode()), make)


_any = msgspec.json.Decoder(Any)


def _of_custom(tool: Tool) -> _Wanted | None:
    if tool.grammar is None:
        return None
    syntax, definition = tool.grammar
    name, param = tool.name or "", f"{tool.path}.format.definition"
    return _Wanted((syntax, definition), lambda: GrammarContract(syntax, definition, name, param))
