"""What the model sees: pairs of calls and outputs, attachments made readable, the oldest turns dropped."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from antiphon.engine import context
from antiphon.engine.ports.upstreams import Capabilities, ContextItem
from antiphon.protocol.errors import ApiError

Json = dict[str, Any]


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def says(text: str, role: str = "assistant") -> Json:
    return {"type": "message", "role": role, "content": [{"type": "output_text", "text": text}]}


def call(call_id: str, kind: str = "function_call", **members: Any) -> Json:
    return {"type": kind, "call_id": call_id, "name": "look", "arguments": "{}", **members}


def output(call_id: str, kind: str = "function_call_output") -> Json:
    return {"type": kind, "call_id": call_id, "output": "42"}


def items(*shown: Json) -> list[ContextItem]:
    return context.view([json.dumps(item).encode() for item in shown])


def shown(kept: list[ContextItem] | None) -> list[Json] | None:
    return None if kept is None else [json.loads(item.body) for item in kept]


# --- Pairs ---


@pytest.mark.parametrize(
    "good",
    [
        [],
        [user("a")],
        [call("1"), output("1")],
        [call("1"), call("2"), output("2"), output("1")],
        [call("1"), user("quick"), output("1")],
        [call("1"), output("1"), call("1"), output("1")],
        [call("1"), output("1"), output("1")],
        [call("1", "custom_tool_call"), output("1", "custom_tool_call_output")],
        [{"type": "web_search_call", "id": "ws_1"}],
        [{"type": "tool_search_call", "id": "tsc_1", "call_id": None}],
        [{"type": "tool_search_output", "id": "tso_1", "call_id": "1", "tools": []}],
    ],
)
def test_calls_with_their_outputs(good: list[Json]) -> None:
    context.check_pairs(items(*good))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([output("9")], "No tool call found for function call output with call_id 9."),
        ([output("1"), call("1")], "No tool call found for function call output with call_id 1."),
        ([call("1")], "No tool output found for function call 1."),
        ([call("1"), output("1"), call("1")], "No tool output found for function call 1."),
        ([call("1"), call("2"), output("1")], "No tool output found for function call 2."),
        ([call("1", "custom_tool_call"), output("1")], "No tool call found"),
        ([call("1"), output("1", "custom_tool_call_output")], "No tool call found"),
    ],
)
def test_calls_without_outputs_and_outputs_without_calls(bad: list[Json], message: str) -> None:
    with pytest.raises(ApiError) as refused:
        context.check_pairs(items(*bad))

    assert (refused.value.status, refused.value.code, refused.value.param) == (400, None, "input")
    assert refused.value.message.startswith(message)


def test_a_call_that_was_cut_off_is_left_out_unless_it_was_answered() -> None:
    cut, whole = call("1", status="incomplete"), call("2", status="completed")

    assert context.whole_calls(items(user("a"), cut, whole)) == [0, 2]
    assert context.whole_calls(items(cut, output("1"))) == [0, 1]


# --- Dropping turns ---

RULES = says("Be brief.", "developer")


def test_the_oldest_turns_go_and_instructions_stay() -> None:
    talk = items(RULES, user("1"), says("a"), user("2"), says("b"), user("3"))

    assert shown(context.drop_oldest_turns(talk)) == [RULES, user("2"), says("b"), user("3")]
    assert shown(context.drop_oldest_turns(talk, 2)) == [RULES, user("3")]


def test_more_than_there_are_leaves_the_newest() -> None:
    assert shown(context.drop_oldest_turns(items(user("1"), user("2")), 99)) == [user("2")]


@pytest.mark.parametrize("newest", [[], [user("1")], [RULES, user("1"), call("1"), output("1")], [says("a")]])
def test_the_newest_turn_is_not_dropped(newest: list[Json]) -> None:
    assert context.drop_oldest_turns(items(*newest)) is None


def test_instructions_between_turns_keep_their_place() -> None:
    talk = items(user("1"), user("2"), RULES, user("3"))

    assert shown(context.drop_oldest_turns(talk)) == [user("2"), RULES, user("3")]


def test_what_stands_before_the_first_turn_goes_with_it() -> None:
    assert shown(context.drop_oldest_turns(items(says("Welcome"), user("1"), user("2")))) == [user("2")]


def test_calls_go_with_their_outputs() -> None:
    talk = items(user("1"), call("1"), output("1"), says("a"), user("2"))

    assert shown(context.drop_oldest_turns(talk)) == [user("2")]


def test_a_call_is_not_parted_from_an_output_that_comes_after_the_user_spoke() -> None:
    talk = items(user("1"), call("1"), user("quick"), output("1"), user("3"))

    assert shown(context.drop_oldest_turns(talk)) == [user("3")]
    assert context.drop_oldest_turns(talk[:-1]) is None


# --- Attachments ---


class Attachments:
    """Tells what it was asked for."""

    async def image(self, url: str, param: str) -> str:
        return f"data:{url}@{param}"

    async def text(self, url: str | None, data: str | None, filename: str | None, param: str) -> str:
        return f"text of {url or data} named {filename} at {param}"

    async def file(self, url: str, param: str) -> tuple[str, str]:
        kind = "application/pdf" if url.endswith("pdf") else "text/html;charset=utf-8"
        return url.rpartition("/")[2], f"data:{kind};base64,{param}"


def with_parts(*parts: Json, kind: str = "message", role: str | None = "user") -> Json:
    field = "output" if kind.endswith("_output") else "content"
    return {"type": kind, "role": role, "call_id": "1", field: list(parts)}


IMAGE = {"type": "input_image", "image_url": "https://example.com/a.png"}
FILE = {"type": "input_file", "file_url": "https://example.com/a.pdf", "filename": "a.pdf"}


async def read(*shown: Json, earlier: int = 0, takes: Capabilities | None = None) -> list[list[Json]]:
    read = await context.readable(items(*shown), earlier, takes or Capabilities(), Attachments(), 10)
    fields = [item.view.output if item.view.kind.endswith("_output") else item.view.content for item in read]
    decoded = [json.loads(bytes(field)) for field in fields]
    return [[{k: v for k, v in part.items() if v is not None} for part in parts] for parts in decoded]


async def test_images_become_data() -> None:
    ((image, text),) = await read(with_parts(IMAGE, {"type": "input_text", "text": "x"}))

    assert image["image_url"] == "data:https://example.com/a.png@input[0].content[0].image_url"
    assert text == {"type": "input_text", "text": "x"}


async def test_images_in_the_outputs_of_tools_become_data() -> None:
    ((image,),) = await read(with_parts(IMAGE, kind="function_call_output", role=None))

    assert image["image_url"].endswith("@input[0].output[0].image_url")


async def test_files_become_text() -> None:
    ((part,),) = await read(with_parts(FILE))

    assert part["type"] == "input_text"
    assert part["text"].startswith('<file name="a.pdf">\ntext of https://example.com/a.pdf named a.pdf at input[0]')


@pytest.mark.parametrize(
    ("file", "takes", "native"),
    [
        ({"file_data": "aGk=", "filename": "a.txt"}, ["*"], True),
        ({"file_data": "aGk="}, ["*"], True),
        ({"file_data": "data:application/pdf;base64,aGk="}, ["application/pdf"], True),
        ({"file_data": "aGk=", "filename": "a.PDF"}, ["application/pdf"], True),
        ({"file_data": "data:text/csv;charset=utf-8;base64,aGk=", "filename": "a.pdf"}, ["application/pdf"], False),
        ({"file_data": "aGk=", "filename": "a.docx"}, ["application/pdf", "text/*"], False),
        ({"file_data": "aGk="}, ["application/pdf"], False),
        ({"file_data": "aGk=", "filename": "a.pdf"}, [], False),
    ],
)
async def test_a_model_gets_the_files_that_it_takes(file: Json, takes: list[str], native: bool) -> None:
    data = {"type": "input_file", **file}

    ((part,),) = await read(with_parts(data), takes=Capabilities(files=tuple(takes)))

    assert part == data if native else part["type"] == "input_text"


@pytest.mark.parametrize("named", [{}, {"filename": "b.pdf"}])
async def test_a_model_that_takes_pdf_gets_the_one_behind_a_url(named: Json) -> None:
    file = {"type": "input_file", "file_url": "https://example.com/a.pdf", **named}

    ((part,),) = await read(with_parts(file), takes=Capabilities(files=("application/pdf",)))

    data = "data:application/pdf;base64,input[0].content[0].file_url"
    assert part == {"type": "input_file", "filename": named.get("filename", "a.pdf"), "file_data": data}


async def test_of_what_is_behind_a_url_and_no_pdf_it_gets_the_text() -> None:
    file = {"type": "input_file", "file_url": "https://example.com/a"}

    ((part,),) = await read(with_parts(file), takes=Capabilities(files=("application/pdf",)))

    assert part["text"].startswith('<file name="https://example.com/a">\ntext of data:text/html;charset=utf-8;base64,')


class Slow(Attachments):
    """Finishes images last to first, a few at a time; those called `bad` cannot be read."""

    def __init__(self, waits_for: int) -> None:
        self.begun: list[str] = []
        self.most = self.now = 0
        self._waits_for = waits_for
        self._enough = asyncio.Event()

    async def image(self, url: str, param: str) -> str:
        self.begun.append(url)
        self.now += 1
        self.most = max(self.most, self.now)
        if len(self.begun) >= self._waits_for:
            self._enough.set()
        try:
            await self._enough.wait()
        finally:
            self.now -= 1
        if "bad" in url:
            raise ApiError(400, url, param=param)
        return f"data:{url}"


def images(*names: str) -> list[Json]:
    return [{"type": "input_image", "image_url": f"https://example.com/{name}"} for name in names]


async def test_a_few_attachments_are_read_at_once_and_keep_their_order() -> None:
    slow = Slow(context.ATTACHMENTS_AT_ONCE)
    names = [f"{number}" for number in range(10)]
    sent = items(with_parts(*images(*names[:7])), with_parts(*images(*names[7:])))
    async with asyncio.timeout(10):
        read = await context.readable(sent, 0, Capabilities(), slow, 10)

    urls = [part["image_url"] for item in read for part in json.loads(bytes(item.view.content))]
    assert urls == [f"data:https://example.com/{name}" for name in names]
    assert slow.most == context.ATTACHMENTS_AT_ONCE


async def test_of_several_that_fail_the_first_by_place_is_told_and_the_rest_is_left() -> None:
    slow = Slow(context.ATTACHMENTS_AT_ONCE)
    sent = items(with_parts(*images("a", "bad1", "bad2", *"bcdefg")))
    async with asyncio.timeout(10):
        with pytest.raises(ApiError) as refused:
            await context.readable(sent, 0, Capabilities(), slow, 10)

    assert refused.value.param == "input[0].content[1].image_url"
    assert slow.now == 0


async def test_what_is_stored_stays_as_it_was_sent() -> None:
    sent = items(with_parts(IMAGE))
    (read_item,) = await context.readable(sent, 0, Capabilities(), Attachments(), 10)

    assert read_item.body == sent[0].body


@pytest.mark.parametrize(("earlier", "path"), [(0, "input[0].content[0]"), (1, "previous_response_id.content[0]")])
async def test_a_model_without_vision_is_refused_the_image_by_name(earlier: int, path: str) -> None:
    with pytest.raises(ApiError) as refused:
        await read(with_parts(IMAGE), earlier=earlier, takes=Capabilities(images=False))

    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "unsupported_value", path)


@pytest.mark.parametrize("part", [{"type": "input_image", "file_id": "file-1"}, {"type": "input_file", "file_id": "f"}])
async def test_files_by_id_do_not_exist_yet(part: Json) -> None:
    with pytest.raises(ApiError) as refused:
        await read(with_parts(part))

    assert (refused.value.status, refused.value.param) == (404, "input[0].content[0].file_id")


async def test_images_and_files_are_counted_before_any_is_fetched() -> None:
    assert len(await read(*[with_parts(IMAGE, FILE)] * 5)) == 5
    with pytest.raises(ApiError) as refused:
        await read(*[with_parts(IMAGE, FILE)] * 5, with_parts(IMAGE, kind="function_call_output", role=None))

    assert (refused.value.status, refused.value.param) == (400, "input")
    assert refused.value.code == "array_above_max_length"


@pytest.mark.parametrize("content", [{"type": "input_image"}, [{"type": "input_image"}], [{"type": "input_file"}]])
async def test_what_other_items_call_content_is_not_read(content: Any) -> None:
    carried = items({"type": "program_output", "id": "p", "content": content})

    assert await context.readable(carried, 0, Capabilities(), Attachments(), 0) == carried


def test_a_long_talk_between_a_call_and_its_output_costs_one_pass() -> None:
    """Looking anew from each message on would take hours here."""
    (asks,) = items(user("a"))
    talk = [*items(call("1")), *[asks] * 200_000, *items(output("1"), user("z"))]

    assert shown(context.drop_oldest_turns(talk)) == [user("z")]
