"""The OpenAI Agents SDK for Python."""

from __future__ import annotations

from tests.acceptance.serving import Served
from tests.clients.installed import Client

CLIENT = "openai-agents"


def test_tools_are_called_at_once_and_their_results_are_told(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "tools.py").json

    assert told["called"] == ["time Oslo", "weather Oslo"]
    assert "sunny in Oslo" in told["answer"]
    assert "noon in Oslo" in told["answer"]
    assert told["requests"] == 2
    assert told["tokens"][0] > 0
    assert sum(told["tokens"][:2]) == told["tokens"][2]
