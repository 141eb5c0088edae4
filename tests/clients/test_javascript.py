"""The JavaScript clients: their tests are in their own language, and run by Node's test runner."""

from __future__ import annotations

import pytest
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.serving import Served
from tests.clients.installed import CLIENTS, Client

#: What is asserted of the bundled model, which follows no script.
BUNDLED = "bundled.test.mjs"
#: In it the server is meant to refuse requests.
REFUSED = "errors.test.mjs"
FILES = sorted((path.parent.name, path.name) for path in CLIENTS.glob("*/*.test.mjs") if path.name != BUNDLED)


def test_every_client_is_tested_with_the_bundled_model_too() -> None:
    assert {name for name, _ in FILES} == {path.parent.name for path in CLIENTS.glob(f"*/{BUNDLED}")} != set()


@pytest.mark.parametrize(("name", "file"), [one for one in FILES if one[1] != REFUSED])
def test_with_a_scripted_model(client: Client, scripted: Served, chat: ChatControl, name: str, file: str) -> None:
    client.run_tests(scripted, file, CHAT_URL=chat.url)

    assert scripted.proxy.warnings == [], "the client sent what was not honoured"


@pytest.mark.refused
@pytest.mark.parametrize(("name", "file"), [one for one in FILES if one[1] == REFUSED])
def test_what_is_refused(client: Client, scripted: Served, chat: ChatControl, name: str, file: str) -> None:
    client.run_tests(scripted, file, CHAT_URL=chat.url)


@pytest.mark.parametrize("name", sorted({name for name, _ in FILES}))
def test_with_the_bundled_model(client: Client, bundled: Served, name: str) -> None:
    client.run_tests(bundled, BUNDLED)
