"""The request's input as items: every form that clients send, and what is refused with which words."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.engine.playbook import CountingClock, shell_of
from tests.specification.conformance import check_item

from antiphon.engine import intake
from antiphon.engine.intake import Taken
from antiphon.engine.ports.stores import Record, StoredItem
from antiphon.protocol.errors import ApiError
from antiphon.protocol.items import ID_PREFIXES, decode_item
from antiphon.protocol.responses import Outcome
from antiphon.stores.sqlite import SqliteStore

Json = dict[str, Any]


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(None)
    yield opened
    await opened.close()


async def take(store: SqliteStore, given: Any, project: str = "p") -> list[Taken]:
    raw = given if isinstance(given, bytes) else json.dumps(given).encode()
    return await intake.take(msgspec.Raw(raw), project, store, CountingClock())


async def one(store: SqliteStore, item: Json) -> Json:
    """The item as it is stored, which is also what the engine sees of it and what lists may show."""
    (taken,) = await take(store, [item])
    stored: Json = json.loads(taken.body)
    assert taken.view.id == stored["id"]
    assert taken.view.kind == stored["type"]
    assert b"\n" not in taken.body
    check_item(stored)
    return stored


async def test_a_string_is_a_message(store: SqliteStore) -> None:
    (taken,) = await take(store, 'Say "hé"\n')

    assert json.loads(taken.body) == {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": 'Say "hé"\n'}],
    }


@pytest.mark.parametrize("nothing", [b"", b"null", b"[]"])
async def test_nothing_is_no_items(store: SqliteStore, nothing: bytes) -> None:
    assert await take(store, nothing) == []


@pytest.mark.parametrize("role", ["user", "system", "developer"])
@pytest.mark.parametrize("typed", [{}, {"type": "message"}, {"type": None}])
async def test_easy_messages_of_every_role(store: SqliteStore, role: str, typed: Json) -> None:
    assert await one(store, {**typed, "role": role, "content": "Hi"}) == {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": role,
        "content": [{"type": "input_text", "text": "Hi"}],
    }


async def test_an_easy_message_of_the_assistant_has_output_text(store: SqliteStore) -> None:
    stored = await one(store, {"role": "assistant", "content": "Hi", "phase": "commentary"})

    assert stored["content"] == [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}]
    assert stored["phase"] == "commentary"


@pytest.mark.parametrize("annotations", [{}, {"annotations": []}, {"annotations": None}])
async def test_replayed_output_text_is_made_whole(store: SqliteStore, annotations: Json) -> None:
    part = {"type": "output_text", "text": "Hi", **annotations}
    stored = await one(store, {"role": "assistant", "content": [part, {"type": "refusal", "refusal": "no"}]})

    assert stored["content"][0] == {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}


@pytest.mark.parametrize("status", ["in_progress", "completed", "incomplete"])
async def test_a_replayed_message_keeps_its_id_and_status(store: SqliteStore, status: str) -> None:
    stored = await one(
        store, {"type": "message", "id": "msg_old", "status": status, "role": "assistant", "content": "Hi"}
    )

    assert (stored["id"], stored["status"]) == ("msg_old", status)


async def test_images_and_files_are_parts(store: SqliteStore) -> None:
    parts = [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"type": "input_image", "file_id": "file-1", "detail": "high"},
        {"type": "input_file", "file_data": "aGk=", "filename": "a.txt"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
    ]
    stored = await one(store, {"role": "user", "content": parts})

    assert stored["content"] == [parts[0], {**parts[1], "detail": "auto"}, *parts[2:]]


CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}


async def test_a_call_without_id_is_given_one(store: SqliteStore) -> None:
    assert await one(store, CALL) == {"id": "fc_1", "status": "completed", **CALL}


@pytest.mark.parametrize("kind", ["function_call", "custom_tool_call"])
@pytest.mark.parametrize(
    "output",
    [
        "42",
        "",
        [],
        [{"type": "input_text", "text": "42"}],
        [{"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low"}],
        [{"type": "input_file", "file_data": "aGk=", "filename": "a.txt"}],
    ],
)
async def test_outputs_of_tools_are_strings_or_parts(store: SqliteStore, kind: str, output: Any) -> None:
    stored = await one(store, {"type": f"{kind}_output", "call_id": "call_1", "output": output})

    assert stored["output"] == output
    assert stored["status"] == "completed"


async def test_images_in_outputs_are_made_whole(store: SqliteStore) -> None:
    part = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
    (taken,) = await take(store, [{"type": "function_call_output", "call_id": "call_1", "output": [part]}])

    assert json.loads(taken.body)["output"] == [{**part, "detail": "auto"}]
    assert json.loads(bytes(taken.view.output)) == [{**part, "detail": "auto"}]


@pytest.mark.parametrize("summary", [{}, {"summary": []}, {"summary": None}])
async def test_reasoning_with_and_without_summary(store: SqliteStore, summary: Json) -> None:
    stored = await one(store, {"type": "reasoning", "encrypted_content": "gAAA", **summary})

    assert (stored["id"], stored["summary"], stored["encrypted_content"]) == ("rs_1", [], "gAAA")


REPLAYED: list[Json] = [
    {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "text"},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["x"], "results": None},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "code": "1",
        "container_id": "c",
        "outputs": None,
    },
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": None},
    {
        "type": "mcp_call",
        "id": "mcp_1",
        "server_label": "x",
        "name": "y",
        "arguments": "{}",
        "output": "z",
        "status": "completed",
    },
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "x", "tools": []},
    {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "x", "name": "y", "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {
        "type": "tool_search_call",
        "id": "tsc_1",
        "call_id": "call_1",
        "execution": "client",
        "arguments": {"query": "x"},
    },
    {"type": "tool_search_output", "call_id": "call_1", "execution": "client", "tools": []},
    {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}},
    {"type": "apply_patch_call", "call_id": "call_1", "operation": {"type": "delete_file", "path": "a"}},
    {"type": "compaction", "encrypted_content": "gAAA"},
    {"type": "additional_tools", "role": "developer", "tools": []},
]


@pytest.mark.parametrize("item", REPLAYED, ids=[item["type"] for item in REPLAYED])
async def test_items_of_hosted_tools_are_carried(store: SqliteStore, item: Json) -> None:
    (taken,) = await take(store, [item])

    stored = json.loads(taken.body)
    assert {name: stored[name] for name in item} == item
    assert stored["id"].startswith(ID_PREFIXES[item["type"]])
    assert decode_item(taken.body).kind == item["type"]


async def test_items_that_bring_tools_keep_them_to_the_byte(store: SqliteStore) -> None:
    open_ones = b'"description":null,"strict":null'
    one = b'{"type":"function", "name":"f",%b,"parameters":{"const":1.10,"e":"\\u00e9"}}' % open_ones
    tools = b'[%b,{"type":"namespace","name":"n",  "tools":[%b]}]' % (one, one)
    for kind, more in (("additional_tools", b'"role":"developer"'), ("tool_search_output", b'"call_id":"c"')):
        (taken,) = await take(store, b'[{"type":"%b",%b,"tools":%b}]' % (kind.encode(), more, tools))

        assert bytes(msgspec.json.decode(taken.body, type=dict[str, msgspec.Raw])["tools"]) == tools


async def test_a_null_of_a_message_is_not_listed(store: SqliteStore) -> None:
    (taken,) = await take(store, [{"role": "assistant", "content": "a", "phase": None}])

    assert "phase" not in json.loads(taken.body)


async def test_functions_that_items_bring_are_listed_as_published(store: SqliteStore) -> None:
    brought = {"type": "function", "name": "f", "defer_loading": None}
    (taken,) = await take(store, [{"type": "additional_tools", "role": "developer", "tools": [brought]}])

    assert json.loads(taken.body)["tools"] == [CALLEE]


async def test_secrets_of_tools_in_items_are_not_stored(store: SqliteStore) -> None:
    server = {"type": "mcp", "server_label": "x", "authorization": "s3cret", "headers": {"a": "s3cret"}}
    (taken,) = await take(store, [{"type": "additional_tools", "role": "developer", "tools": [CALLEE, server]}])

    assert b"s3cret" not in taken.body
    assert json.loads(taken.body)["tools"][0] == CALLEE
    assert b"s3cret" in bytes(taken.view.tools), "this request needs them"


CALLEE: Json = {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}


async def test_items_without_a_status_are_given_none(store: SqliteStore) -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": []}
    update = {"type": "configuration_update", "reasoning": {"effort": "low"}}

    assert json.loads((await take(store, [added]))[0].body) == {"id": "at_1", **added}
    assert json.loads((await take(store, [update]))[0].body) == {"id": "cfg_1", **update}


@pytest.mark.parametrize(
    ("joined", "execution"), [({"call_id": "c1"}, "client"), ({}, "server"), ({"call_id": None}, "server")]
)
async def test_tool_searches_are_made_whole(store: SqliteStore, joined: Json, execution: str) -> None:
    called = await one(store, {"type": "tool_search_call", **joined, "arguments": {"a": 1}})
    found = await one(store, {"type": "tool_search_output", **joined, "tools": []})

    for stored in (called, found):
        assert (stored["execution"], stored["call_id"]) == (execution, joined.get("call_id"))
        assert stored["status"] == "completed"


@pytest.mark.parametrize("phase", ["commentary", "final_answer", "something_new"])
async def test_the_phase_of_a_message_is_carried(store: SqliteStore, phase: str) -> None:
    (taken,) = await take(store, [{"role": "assistant", "content": "Hi", "phase": phase}])

    assert json.loads(taken.body)["phase"] == phase


async def test_the_namespace_of_a_call_is_carried(store: SqliteStore) -> None:
    assert (await one(store, {**CALL, "namespace": "crm"}))["namespace"] == "crm"
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "namespace": "crm", "input": "x"}
    assert (await one(store, custom))["namespace"] == "crm"


UNKNOWN_FIELDS = b"""{
    "internal_chat_message_metadata_passthrough": {"a": [1.0, 1e5, "\\u00e9\\/", null, 12345678901234567890123]},
    "zzz": "\\ud83e\\udd84"
}"""


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "message", "id": "msg_x", "status": "completed", "role": "user", "content": []},
        CALL,
        {"id": "fc_x", "status": "completed", **CALL},
        {"type": "function_call_output", "call_id": "call_1", "output": "x"},
        {"type": "reasoning", "summary": []},
    ],
)
async def test_fields_that_nobody_knows_come_back_to_the_byte(store: SqliteStore, item: Json) -> None:
    raw = json.dumps(item).encode()[:-1] + b"," + UNKNOWN_FIELDS.strip()[1:]
    (taken,) = await take(store, b"[" + raw + b"]")

    given = msgspec.json.decode(UNKNOWN_FIELDS, type=dict[str, msgspec.Raw])
    stored = msgspec.json.decode(taken.body, type=dict[str, msgspec.Raw])
    assert {name: bytes(stored[name]) for name in given} == {name: bytes(value) for name, value in given.items()}


async def test_fields_that_nobody_knows_in_parts_come_back_too(store: SqliteStore) -> None:
    part = {"type": "input_text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
    whole = {"type": "output_text", "text": "Hi", "odd": [1.0]}

    assert (await one(store, {"role": "user", "content": [part]}))["content"] == [part]
    stored = await one(store, {"role": "assistant", "content": [whole]})
    assert stored["content"][0]["odd"] == [1.0]


@pytest.mark.parametrize("named", [{"id": "new_1"}, {"call_id": "call_9"}, {"id": "new_1", "call_id": "call_9"}])
async def test_items_of_a_newer_client_are_carried(store: SqliteStore, named: Json) -> None:
    (taken,) = await take(store, [{"type": "holodeck_call", "arguments": {"a": 1}, "output": 5, **named}])

    stored = json.loads(taken.body)
    assert stored["type"] == "holodeck_call"
    assert stored["arguments"] == {"a": 1}
    assert decode_item(taken.body).kind == "holodeck_call"


# --- References ---


async def stored_item(store: SqliteStore, project: str) -> None:
    item = StoredItem("msg_old", b'{"id":"msg_old","type":"message","status":"completed","role":"user","content":[]}')
    outcome = Outcome("completed", 1)
    await store.save(Record(project, shell_of(), outcome, None, [item], [], b"{}", False, None))


@pytest.mark.parametrize("typed", [{}, {"type": None}, {"type": "item_reference"}])
async def test_a_reference_is_the_item_that_it_names(store: SqliteStore, typed: Json) -> None:
    await stored_item(store, "p")
    (taken,) = await take(store, [{**typed, "id": "msg_old"}])

    assert (taken.view.id, taken.view.role) == ("msg_old", "user")


async def test_a_reference_to_an_item_of_another_project_points_at_nothing(store: SqliteStore) -> None:
    await stored_item(store, "other")

    with pytest.raises(ApiError, match="Item with id 'msg_old' not found") as refused:
        await take(store, [{"id": "msg_old"}])
    assert (refused.value.status, refused.value.param) == (404, "input")


# --- What is refused ---

REFUSED: list[tuple[Any, str, str, str]] = [
    ([5], "invalid_type", "input[0]", "expected an object, but got an integer"),
    (["Hi"], "invalid_type", "input[0]", "expected an object, but got a string"),
    ([None], "invalid_type", "input[0]", "expected an object, but got null"),
    ([{}], "missing_required_parameter", "input[0].type", "Missing required parameter"),
    ([{"type": 5}], "invalid_type", "input[0].type", "expected a string"),
    ([{"id": 5}], "invalid_type", "input[0].id", "expected a string"),
    ([{"type": "item_reference"}], "missing_required_parameter", "input[0].id", "input"),
    (
        [CALL, {"type": "holodeck_call"}],
        "invalid_value",
        "input[1].type",
        "'holodeck_call'. Supported values are: 'mes",
    ),
    ([{"type": "message", "content": "x"}], "missing_required_parameter", "input[0].role", "role"),
    ([{"role": "tool", "content": "x"}], "invalid_value", "input[0].role", "'tool'. Supported values are: 'assistant'"),
    ([{"role": 1, "content": "x"}], "invalid_type", "input[0].role", "expected a string"),
    ([{"role": "user"}], "missing_required_parameter", "input[0].content", "content"),
    ([{"role": "user", "content": None}], "missing_required_parameter", "input[0].content", "content"),
    ([{"role": "user", "content": 5}], "invalid_type", "input[0].content", "expected an array, but got an integer"),
    ([{"role": "user", "content": {}}], "invalid_type", "input[0].content", "expected an array, but got an object"),
    ([{"role": "user", "content": ["x"]}], "invalid_type", "input[0].content[0]", "expected an object"),
    ([{"role": "user", "content": [{}]}], "missing_required_parameter", "input[0].content[0].type", "type"),
    ([{"role": "user", "content": "x", "status": "done"}], "invalid_value", "input[0].status", "'in_progress'"),
    (
        [{"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "text", "text": "x"}]}],
        "invalid_value",
        "input[0].content[1].type",
        "'text'. Supported values are: 'input_text', 'input_image', 'input_file'",
    ),
    (
        [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}],
        "invalid_value",
        "input[0].content[0].type",
        "Supported values are: 'input_text'",
    ),
    (
        [{"role": "assistant", "content": [{"type": "input_image", "image_url": "x"}]}],
        "invalid_value",
        "input[0].content[0].type",
        "Supported values are: 'output_text', 'refusal'",
    ),
    (
        [{"role": "user", "content": [{"type": "input_text"}]}],
        "missing_required_parameter",
        "input[0].content[0].text",
        "",
    ),
    (
        [{"role": "user", "content": [{"type": "input_text", "text": 5}]}],
        "invalid_type",
        "input[0].content[0].text",
        "",
    ),
    (
        [{"role": "user", "content": [{"type": "input_image"}]}],
        "missing_required_parameter",
        "input[0].content[0].image_url",
        "",
    ),
    (
        [{"role": "user", "content": [{"type": "input_image", "image_url": {"url": "x"}}]}],
        "invalid_type",
        "input[0].content[0].image_url",
        "expected a string, but got an object",
    ),
    (
        [{"role": "user", "content": [{"type": "input_file", "filename": "x"}]}],
        "missing_required_parameter",
        "input[0].content[0].file_data",
        "",
    ),
    ([{**CALL, "call_id": None}], "missing_required_parameter", "input[0].call_id", ""),
    ([{"type": "additional_tools", "role": "developer"}], "missing_required_parameter", "input[0].tools", ""),
    ([{"type": "agent_message", "id": "amsg_1"}], "missing_required_parameter", "input[0].content", "content"),
    ([{"type": "agent_message", "content": 1}], "invalid_type", "input[0].content", "array"),
    ([{"type": "agent_message", "content": [{"type": "x"}]}], "invalid_value", "input[0].content[0].type", "'x'"),
    (
        [{"type": "agent_message", "content": [{"type": "encrypted_content"}]}],
        "missing_required_parameter",
        "input[0].content[0].encrypted_content",
        "encrypted_content",
    ),
    ([{"type": "additional_tools", "role": "user", "tools": []}], "invalid_value", "input[0].role", "'developer'"),
    ([{"type": "additional_tools", "tools": 5}], "invalid_type", "input[0].tools", ""),
    (
        [CALL, {"type": "tool_search_output", "tools": [{"type": "function"}]}],
        "missing_required_parameter",
        "input[1].tools[0].name",
        "",
    ),
    ([{"type": "tool_search_output", "tools": None}], "missing_required_parameter", "input[0].tools", ""),
    ([{"type": "tool_search_call", "execution": "x"}], "invalid_value", "input[0].execution", "'server', 'client'"),
    (
        [{"type": "configuration_update", "reasoning": {"effort": "much"}}],
        "invalid_value",
        "input[0].reasoning.effort",
        "Supported values are",
    ),
    (
        [{"type": "configuration_update", "text": {"format": {"type": "json_schema", "schema": {}}}}],
        "missing_required_parameter",
        "input[0].text.format.name",
        "",
    ),
    ([{"type": "configuration_update", "text": 5}], "invalid_type", "input[0].text", ""),
    ([{**CALL, "namespace": 5}], "invalid_type", "input[0].namespace", "expected a string"),
    ([{**CALL, "name": None}], "missing_required_parameter", "input[0].name", ""),
    ([{**CALL, "arguments": None}], "missing_required_parameter", "input[0].arguments", ""),
    ([{**CALL, "arguments": {}}], "invalid_type", "input[0].arguments", "expected a string"),
    ([{"type": "custom_tool_call", "call_id": "c", "name": "n"}], "missing_required_parameter", "input[0].input", ""),
    ([{"type": "function_call_output", "output": "x"}], "missing_required_parameter", "input[0].call_id", ""),
    ([{"type": "function_call_output", "call_id": "c"}], "missing_required_parameter", "input[0].output", ""),
    ([{"type": "function_call_output", "call_id": "c", "output": 5}], "invalid_type", "input[0].output", "a string or"),
    (
        [{"type": "function_call_output", "call_id": "c", "output": {}}],
        "invalid_type",
        "input[0].output",
        "a string or",
    ),
    ([{"type": "function_call_output", "call_id": "c", "output": [5]}], "invalid_type", "input[0].output[0]", "object"),
    (
        [{"type": "function_call_output", "call_id": "c", "output": [{"type": "output_text", "text": "x"}]}],
        "invalid_value",
        "input[0].output[0].type",
        "Supported values are: 'input_text'",
    ),
    ([{"type": "custom_tool_call_output", "call_id": "c"}], "missing_required_parameter", "input[0].output", ""),
    ([{"type": "compaction"}], "missing_required_parameter", "input[0].encrypted_content", ""),
]


@pytest.mark.parametrize(
    ("given", "code", "param", "message"), REFUSED, ids=[f"{case[2]}-{case[1]}" for case in REFUSED]
)
async def test_what_is_wrong_is_refused_by_name(
    store: SqliteStore, given: Any, code: str, param: str, message: str
) -> None:
    with pytest.raises(ApiError) as refused:
        await take(store, given)

    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, param)
    assert re.search(re.escape(message), refused.value.message)


# --- Ids that recur, limits, reasoning ---


async def test_an_id_that_recurs_is_given_to_its_first_item_alone(store: SqliteStore) -> None:
    await stored_item(store, "p")
    same = {"type": "message", "role": "user", "content": "Hi", "id": "msg_old"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "1", "id": "msg_old"}
    taken = await take(store, [same, same, {"id": "msg_old"}, {**CALL, "id": "fc_a"}, output])

    ids = [item.view.id for item in taken]
    assert ids[0] == "msg_old"
    assert len(set(ids)) == 5
    assert [json.loads(item.body)["id"] for item in taken] == ids
    assert [item.stored().id for item in taken] == ids
    assert [item.view.call_id for item in taken[3:]] == ["call_1", "call_1"]
    assert json.loads(taken[1].body) == {**json.loads(taken[0].body), "id": ids[1]}


async def test_a_request_has_a_limit_of_items(store: SqliteStore) -> None:
    with pytest.raises(ApiError) as refused:
        await take(store, b"[" + b",".join([b"{}"] * (intake.ITEMS_MAX + 1)) + b"]")

    assert (refused.value.code, refused.value.param) == ("array_above_max_length", "input")


async def test_others_run_while_many_items_are_taken(store: SqliteStore) -> None:
    taking = asyncio.ensure_future(take(store, [{"role": "user", "content": "x"}] * (3 * intake.ITEMS_AT_ONCE)))
    turns = 0
    while not taking.done():
        await asyncio.sleep(0)
        turns += 1

    assert len(taking.result()) == 3 * intake.ITEMS_AT_ONCE
    assert turns >= 3


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"content": {"type": "input_image"}}, "input[0].content"),
        ({"content": "Hm"}, "input[0].content"),
        ({"content": [{"type": "input_image"}]}, "input[0].content[0].text"),
        ({"content": [{"text": "Hm"}]}, "input[0].content[0].type"),
        ({"summary": "Hm"}, "input[0].summary"),
        ({"summary": [5]}, "input[0].summary"),
    ],
)
async def test_reasoning_has_parts_of_text(store: SqliteStore, members: Json, param: str) -> None:
    with pytest.raises(ApiError) as refused:
        await take(store, [{"type": "reasoning", "id": "rs_1", **members}])

    assert refused.value.status == 400
    assert (refused.value.param or "").startswith(param)
