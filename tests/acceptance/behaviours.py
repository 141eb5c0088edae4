"""What the scripted chat server says, by the name of the model that is asked.

A behaviour takes a request and yields steps; it knows nothing of HTTP, nor whether the reply is streamed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

STORY = (
    "A small unicorn found a lantern under the snow. "
    "She carried it home, and the whole valley began to glow. "
    "That night nobody in the valley was afraid of the dark."
)


@dataclass
class Text:
    text: str


@dataclass
class Reasoning:
    text: str


@dataclass
class Refusal:
    text: str


@dataclass
class Call:
    index: int
    name: str
    arguments: str
    id: str = ""


@dataclass
class Wait:
    """Holds the reply until a test opens the gate."""

    gate: str


@dataclass
class Fail:
    """An error inside of the reply."""

    message: str


@dataclass
class Break:
    """The connection is cut."""


@dataclass
class Finish:
    reason: str


Step = Text | Reasoning | Refusal | Call | Wait | Fail | Break | Finish


@dataclass(frozen=True)
class Asked:
    """A request as behaviours see it."""

    body: Json

    @property
    def said(self) -> str:
        """The last text of the user."""
        return next((text_of(message) for message in reversed(self.messages) if message["role"] == "user"), "")

    @property
    def messages(self) -> list[Json]:
        return list(self.body["messages"])

    @property
    def since_user(self) -> list[Json]:
        """The messages after the last one of the user."""
        roles = [message["role"] for message in self.messages]
        return self.messages[len(roles) - roles[::-1].index("user") :] if "user" in roles else self.messages

    @property
    def tools(self) -> dict[str, Json]:
        """The functions on offer, by name."""
        return {tool["function"]["name"]: tool["function"] for tool in self.body.get("tools", [])}


def text_of(message: Json) -> str:
    """The content of a message as one text; an image is told by its type and size."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(map(_text_of_part, content))


def _text_of_part(part: Json) -> str:
    if part["type"] != "image_url":
        return str(part["text"])
    kind, _, data = part["image_url"]["url"].partition(";base64,")
    return f"[{kind.removeprefix('data:')} of {len(data)} characters]"


def words(text: str) -> Iterator[Step]:
    """The text in the pieces that a model would send."""
    return (Text(piece) for piece in re.findall(r"\s*\S+\s*$|\s*\S+", text))


def echo(asked: Asked) -> Iterator[Step]:
    """Says what the user said."""
    yield from words(asked.said)


def played(asked: Asked, turns: list[list[Json]]) -> Iterator[Step]:
    """The turn of a test's own script that is due: as many are over as the assistant spoke since the user did.

    A turn is a list of `{"text": ...}`, `{"reasoning": ...}`, `{"call": NAME, "arguments": {...}}` and
    `{"wait": GATE}`; `{results}` in a text is what the tools returned.
    """
    roles = [message["role"] for message in asked.since_user]
    turn = turns[min(roles.count("assistant"), len(turns) - 1)]
    results = ", ".join(text_of(message) for message in asked.since_user if message["role"] == "tool")
    calls = [step for step in turn if "call" in step]
    for step in turn:
        if "wait" in step:
            yield Wait(step["wait"])
        elif "reasoning" in step:
            yield Reasoning(step["reasoning"])
        elif "text" in step:
            yield from words(step["text"].replace("{results}", results))
    earlier = sum(len(message.get("tool_calls", ())) for message in asked.messages)
    for index, step in enumerate(calls):
        yield Call(index, step["call"], json.dumps(step["arguments"]), f"call_{earlier + index}")
    if calls:
        yield Finish("tool_calls")


def story(asked: Asked) -> Iterator[Step]:
    yield from words(STORY)


def memory(asked: Asked) -> Iterator[Step]:
    """Knows the name that the user gave, if the conversation holds it."""
    told = " ".join(text_of(message) for message in asked.messages if message["role"] == "user")
    name = re.search(r"My name is (\w+)", told)
    yield from words(f"Your name is {name[1]}." if name else "I do not know your name.")


def scribe(asked: Asked) -> Iterator[Step]:
    """Knows the facts that stand in brackets, wherever in the conversation; summaries of it hold them all."""
    told = " ".join(text_of(message) for message in asked.messages)
    facts = dict.fromkeys(re.findall(r"<[^<>]+>", told))
    begin = "It was said: " if "write a summary" in asked.said else "I know "
    yield from words(begin + " ".join(facts))


def system(asked: Asked) -> Iterator[Step]:
    """Says what the instructions were."""
    told = [text_of(message) for message in asked.messages if message["role"] == "system"]
    yield from words(" | ".join(told) or "nothing")


def caller(asked: Asked) -> Iterator[Step]:
    """Calls every tool that the user names, or that the request demands; then tells what they returned."""
    results = [text_of(message) for message in asked.messages if message["role"] == "tool"]
    if asked.messages[-1]["role"] == "tool":
        yield from words("The tools said: " + ", ".join(results))
        return
    choice = asked.body.get("tool_choice")
    demanded = choice["function"]["name"] if isinstance(choice, dict) else None
    names = [name for name in asked.tools if name == demanded or (demanded is None and name in asked.said)]
    for index, name in enumerate(names):
        arguments = instance(asked.tools[name].get("parameters") or {}, asked.said)
        yield Call(index, name, json.dumps(arguments))
    yield Finish("tool_calls") if names else Text("No tool was named.")


def structured(asked: Asked) -> Iterator[Step]:
    """Fills the schema that the request asks for."""
    form = asked.body["response_format"]
    schema = form["json_schema"]["schema"] if form["type"] == "json_schema" else {"type": "object"}
    yield from words(json.dumps(instance(schema, asked.said)))


def talker(asked: Asked) -> Iterator[Step]:
    """Calls nothing, whatever is demanded; yet it fills a schema."""
    yield from structured(asked) if "response_format" in asked.body else words("Let us talk about something else.")


def persuaded(asked: Asked) -> Iterator[Step]:
    """Calls its first tool when it is asked a second time."""
    if any(message["role"] == "assistant" for message in asked.messages):
        name, declared = next(iter(asked.tools.items()))
        yield Call(0, name, json.dumps(instance(declared["parameters"], "Rome")))
        yield Finish("tool_calls")
    else:
        yield from words("I would rather not.")


def instance(schema: Json, text: str, root: Json | None = None) -> Any:
    """A value of the schema; strings are the last word of the text, numbers the first number in it."""
    root = root or schema
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].rpartition("/")[2]], text, root)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return instance(schema["anyOf"][0], text, root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(inner, text, root) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema["items"], text, root)]
    number = re.search(r"\d+", text)
    last = re.findall(r"\w+", text)[-1]
    return {"string": last, "integer": int(number[0]) if number else 0, "number": 0.5, "boolean": True, "null": None}[
        kind
    ]


def agent(asked: Asked) -> Iterator[Step]:
    """What a small model would do in an agent's loop.

    It calls the tools that the request demands or whose names the user's words call for, each once and all at the same
    time; then it fills the schema, if one is asked for, or tells what the tools returned.
    """
    turn, choice = asked.since_user, asked.body.get("tool_choice")
    demanded = choice["function"]["name"] if isinstance(choice, dict) else None
    called = {call["function"]["name"] for message in turn for call in message.get("tool_calls", ())}
    fresh = [name for name in asked.tools if name not in called and choice != "none"]
    wanted = [demanded] if demanded else [name for name in fresh if _calls_for(asked.said, name)]
    if wanted:
        for index, name in enumerate(wanted):
            yield Call(index, name, json.dumps(instance(asked.tools[name].get("parameters") or {}, asked.said)))
        yield Finish("tool_calls")
    elif asked.body.get("response_format", {}).get("type") == "json_schema":
        yield from structured(asked)
    elif results := [text_of(message) for message in turn if message["role"] == "tool"]:
        yield from words("The tools said: " + ", ".join(results))
    else:
        yield from memory(asked) if "my name" in asked.said else echo(asked)


#: Words in the names of tools that say nothing of what a tool is for.
EMPTY_WORDS = {"agent", "call", "for", "get", "the", "to", "tool", "transfer"}


def _calls_for(said: str, name: str) -> bool:
    """Whether a word of the tool's name is among the user's words."""
    parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+", name)} - EMPTY_WORDS
    return bool(parts & set(re.findall(r"[a-z]+", said.lower())))


def thinker(asked: Asked) -> Iterator[Step]:
    yield Reasoning("They said ")
    yield Reasoning(f"{asked.said!r}.")
    yield from words("I have thought about it.")


def refuser(asked: Asked) -> Iterator[Step]:
    yield Refusal("I will not ")
    yield Refusal("say that.")


def filtered(asked: Asked) -> Iterator[Step]:
    yield from words("This much is fine")
    yield Finish("content_filter")


def gated(asked: Asked) -> Iterator[Step]:
    """Says two words, waits at the gate that the user names (`gate NAME`), and says the rest; so it does when asked to
    go on with what was cut.
    """
    if "cut off" not in asked.said:
        yield from words("Once upon")
        yield Wait(asked.said.split()[-1])
    yield from words(" a time.")


def failing(asked: Asked) -> Iterator[Step]:
    yield from words("So far so good")
    yield Fail("The model crashed.")


def breaking(asked: Asked) -> Iterator[Step]:
    yield from words("So far so good")
    yield Break()


BEHAVIOURS: dict[str, Callable[[Asked], Iterator[Step]]] = {
    "agent": agent,
    "breaking": breaking,
    "caller": caller,
    "echo": echo,
    "failing": failing,
    "filtered": filtered,
    "gated": gated,
    "memory": memory,
    "persuaded": persuaded,
    "refuser": refuser,
    "scribe": scribe,
    "story": story,
    "structured": structured,
    "system": system,
    "talker": talker,
    "thinker": thinker,
}

#: Models that refuse before they say a word: status, body and headers.
REFUSALS: dict[str, tuple[int, Json, dict[str, str]]] = {
    "too-long": (
        400,
        {
            "message": "This model's maximum context length is 16 tokens. However, you asked for 99 tokens.",
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
        },
        {},
    ),
    "limited": (429, {"message": "Too many requests.", "type": "rate_limit_error", "code": None}, {"Retry-After": "1"}),
    "broken": (500, {"message": "The model fell over.", "type": "server_error", "code": None}, {}),
    "overloaded": (503, {"message": "Try again.", "type": "server_error", "code": None}, {}),
    "locked": (401, {"message": "Wrong key.", "type": "invalid_request_error", "code": "invalid_api_key"}, {}),
}
