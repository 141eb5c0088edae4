"""The pages of the clients: each has its row in the table, and its examples are run as they stand."""

from __future__ import annotations

import pytest
from tests.acceptance.serving import Served
from tests.clients.installed import CLIENTS, Client
from tests.clients.pages import PAGES, Page

NAMES = [page.name for page in Page.all()]


def test_every_client_has_its_page_and_its_pins() -> None:
    folders = {
        file.parent.name for pins in ("requirements.txt", "package-lock.json") for file in CLIENTS.glob(f"*/{pins}")
    }

    assert folders == set(NAMES)


def test_the_table_names_every_page() -> None:
    table = (PAGES / "README.md").read_text("utf-8")

    assert [name for name in NAMES if f"]({name}.md)" not in table] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_a_configuration_and_an_example(name: str) -> None:
    page = Page.of(name)

    assert page.files("http://elsewhere/v1")
    assert page.examples("http://elsewhere/v1")
    assert "\nTested: " in page.text


#: A page says of itself where its client asks for more than the bundled model can do.
WITH = [
    (name, served) for name in NAMES for served in ("bundled", "scripted") if served in Page.of(name).models_of_examples
]


@pytest.mark.parametrize(("name", "served"), WITH, indirect=["served"])
def test_the_examples_work_as_they_are_written(client: Client, served: Served, name: str) -> None:
    client.configure(served)

    for command in client.page.examples(served.base_url):
        assert client.execute(command).text.strip()
