"""Tools that the model's side runs itself: declared to it, told with our ids, and shown to it again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.runs.stage import Make, checked, types_of

from antiphon.engine.deltas import ItemDelta, ItemEvent, TextDelta
from antiphon.engine.ports.upstreams import Capabilities
from antiphon.protocol.errors import ApiError

Json = dict[str, Any]
WEB: Json = {"type": "web_search_preview"}
OWN = Capabilities(foreign_tools=("*",), foreign_items=True, forced_calls=True)
ACTION = b'{"type":"search","query":"news"}'
SEARCHED = [
    [ItemDelta(0, "web_search_call", {"action": ACTION})],
    [ItemEvent(0, f"response.web_search_call.{step}", {}) for step in ("in_progress", "searching", "completed")],
    [ItemDelta(0, "web_search_call", {"action": ACTION}, "completed"), TextDelta("Good news.")],
]


@pytest.mark.parametrize("choice", ["auto", "required", WEB])
async def test_a_search_of_the_upstream_goes_through_and_back(stage: Make, choice: Any) -> None:
    here = stage(SEARCHED, [[TextDelta("Yes.")]])
    here.upstream._capabilities = OWN

    run, follower = await here.stream(tools=[WEB], tool_choice=choice)
    events = checked(await follower.whole())
    first = events[-1]["response"]
    again = await here.create(input="Sure?", tools=[WEB], previous_response_id=first["id"])
    await again.finished()

    assert run.warnings == again.warnings == []
    assert types_of(events).count("web_search_call.searching") == 1
    assert [item["type"] for item in first["output"]] == ["web_search_call", "message"]
    assert first["output"][0]["id"].startswith("ws_")
    asked = here.upstream.requests
    assert [tool.raw for tool in asked[0].tools] == [json.dumps(WEB).encode()]
    assert json.loads(asked[1].items[1].body) == first["output"][0]


async def test_the_clients_items_of_such_tools_are_no_surprise(stage: Make) -> None:
    here = stage([[TextDelta("Yes.")]])
    here.upstream._capabilities = OWN
    item = {"type": "web_search_call", "id": "ws_theirs", "status": "completed", "action": json.loads(ACTION)}

    run = await here.create(input=[item, {"role": "user", "content": "Sure?"}])
    await run.finished()

    assert run.warnings == []
    assert json.loads(here.upstream.requests[0].items[0].body) == item


async def test_upstreams_without_such_tools_are_not_told_of_them(stage: Make) -> None:
    here = stage([[TextDelta("Well.")]])

    with pytest.raises(ApiError):
        await here.create(tools=[WEB])
    run = await here.create(tools=[WEB, {"type": "function", "name": "f"}])
    await run.finished()

    assert run.warnings == ["tools[0]"]
    assert [tool.type for tool in here.upstream.requests[0].tools] == ["function"]


async def test_what_an_upstream_cannot_be_told_is_named(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here = stage([[TextDelta("Well.")]])
    monkeypatch.setattr(here.upstream, "unheeded", lambda request, model: [f"temperature of {model}"])

    run = await here.create(temperature=0.5)
    await run.finished()

    assert run.warnings == ["temperature of demo"]
