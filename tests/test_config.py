"""Settings: sources, order, and one sentence for each thing that is wrong."""

from pathlib import Path
from typing import Any

import pytest

from antiphon.assemble import Server, upstream_entries
from antiphon.clock import SystemClock
from antiphon.config import Config, ConfigError, UpstreamConfig, default_of, describe, fields, load, shown
from antiphon.upstreams.chat_completions import ChatCompletions
from antiphon.upstreams.pool import Pool


def test_defaults_need_nothing() -> None:
    config = load(None, {}, {})

    assert (config.host, config.port, config.upstreams, config.aliases) == ("127.0.0.1", 8600, [], {})


def test_every_setting_has_a_sentence_and_a_default() -> None:
    for field in fields().values():
        assert describe(field).endswith(".") or describe(field).endswith("`"), field.name
        default_of(field)


def test_the_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text('port = 1\nhost = "127.0.0.2"\nretries = 5\n')

    config = load(file, {"ANTIPHON_PORT": "2", "ANTIPHON_HOST": "127.0.0.3"}, {"port": "3", "host": None})

    assert (config.port, config.host, config.retries) == (3, "127.0.0.3", 5)


def test_lists_and_maps_come_from_every_source(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text('[aliases]\na = "b"\n')
    environment = {
        "ANTIPHON_UPSTREAMS": "http://a/v1, http://b/v1",
        "ANTIPHON_UPSTREAM_KEY": "k",
        "ANTIPHON_MODELS": "/x.gguf",
        "ANTIPHON_API_KEYS": "one,p=two",
    }

    config = load(file, environment, {"aliases": ("x=y", "*=z=1")})

    assert config.upstreams == [UpstreamConfig(url="http://a/v1", key="k"), UpstreamConfig(url="http://b/v1", key="k")]
    assert (config.models, config.api_keys) == (["/x.gguf"], ["one", "p=two"])
    assert config.aliases == {"x": "y", "*": "z=1"}
    assert load(file, {}, {}).aliases == {"a": "b"}
    assert load(file, {"ANTIPHON_ALIASES": "c=d,e=f"}, {}).aliases == {"c": "d", "e": "f"}


def test_several_servers_and_several_models_come_from_every_source(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text('[aliases]\na = ["b", "c"]\n[[upstreams]]\nurls = ["http://a/v1", "http://b/v1"]\nname = "p"\n')
    told = load(file, {}, {})
    given = load(None, {}, {"upstreams": ("http://a/v1 http://b/v1", "http://c/v1"), "aliases": ("a=b", "x=y", "a=c")})
    environment = load(None, {"ANTIPHON_UPSTREAMS": "http://a/v1 http://b/v1,http://c/v1"}, {})

    assert (told.upstreams[0].urls, told.upstreams[0].label) == (["http://a/v1", "http://b/v1"], "p")
    assert [one.addresses for one in given.upstreams] == [["http://a/v1", "http://b/v1"], ["http://c/v1"]]
    assert [(one.label, one.is_pool) for one in given.upstreams] == [("a", True), ("c", False)]
    assert environment.upstreams == given.upstreams
    assert (told.aliases, given.aliases) == ({"a": ["b", "c"]}, {"a": ["b", "c"], "x": "y"})
    assert shown(given, "aliases") == "a=b, a=c, x=y"


def test_the_example_of_several_servers_is_a_configuration(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs/upstreams.md").read_text("utf-8")
    file = tmp_path / "antiphon.toml"
    file.write_text(page.partition("```toml\n")[2].partition("```")[0])

    config = load(file, {"OPENAI_API_KEY": "k"}, {})

    assert [entry.name for entry in upstream_entries(config, SystemClock())] == ["vllm", "openai"]


def test_what_nobody_decides_about_has_nobody_between() -> None:
    def made(**upstream: Any) -> type:
        (entry,) = upstream_entries(Config(upstreams=[UpstreamConfig(**upstream)]), SystemClock())
        return type(entry.upstream)

    assert made(url="http://a/v1") is ChatCompletions
    assert made(url="http://a/v1", max_concurrent=3) is Pool
    assert made(urls=["http://a/v1"]) is Pool
    with pytest.raises(ConfigError, match="is no http or https URL"):
        made(urls=["http://a/v1", "ftp://b"])


def test_an_upstreams_key_may_stand_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text('[[upstreams]]\nurl = "http://a/v1"\nkey_env = "SOME_KEY"\n')

    assert load(file, {"SOME_KEY": "secret"}, {}).upstreams[0].key == "secret"
    with pytest.raises(ConfigError, match="SOME_KEY"):
        load(file, {}, {})


def test_a_webhooks_secret_may_stand_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text(
        '[[webhooks]]\nurl = "http://a.example/secret"\nsecret_env = "HOOK"\nevents = ["response.failed"]\n'
    )

    [hook] = load(file, {"HOOK": "one"}, {}).webhooks
    assert (hook.secret, hook.events, hook.project) == ("one", ["response.failed"], "")
    [hook] = load(None, {"ANTIPHON_WEBHOOK_SECRET": "two"}, {"webhooks": ("http://b.example/",)}).webhooks
    assert (hook.url, hook.secret) == ("http://b.example/", "two")
    for path, given, name in ((file, {}, "HOOK"), (None, {"webhooks": ("http://b/",)}, "ANTIPHON_WEBHOOK_SECRET")):
        with pytest.raises(ConfigError, match=name) as told:
            load(path, {}, given)
        assert "/secret" not in str(told.value)
    assert shown(load(file, {"HOOK": "one"}, {}), "webhooks") == "a.example"


@pytest.mark.parametrize(
    ("name", "variable", "dialect"),
    [("openai", "OPENAI_API_KEY", "responses"), ("anthropic", "ANTHROPIC_API_KEY", "messages")],
)
def test_a_cloud_is_an_upstream_by_its_name_alone(name: str, variable: str, dialect: str) -> None:
    upstream = load(None, {variable: "secret"}, {"upstreams": (name,)}).upstreams[0]

    assert (upstream.name, upstream.url) == (name, f"https://api.{name}.com/v1")
    assert (upstream.dialect, upstream.key) == (dialect, "secret")
    with pytest.raises(ConfigError, match=variable):
        load(None, {}, {"upstreams": (name,)})
    assert load(None, {variable: "secret"}, {}).upstreams == [], "a key that lies about is not used"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", None),
        ("/tmp/a.db", Path("/tmp/a.db")),
        ("relative.db", Path("relative.db")),
        ("sqlite:///relative.db", Path("relative.db")),
        ("sqlite:////tmp/a.db", Path("/tmp/a.db")),
    ],
)
def test_databases_are_written_as_sqlalchemy_writes_them(text: str, path: Path | None) -> None:
    found = Config(database=text).database_path()

    assert found is not None
    assert found == path or (path is None and found.name == "antiphon.db")


@pytest.mark.parametrize("text", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_memory_is_no_file(text: str) -> None:
    assert Config(database=text).database_path() is None


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "postgres"])
def test_a_postgresql_url_is_kept_whole(scheme: str) -> None:
    url = f"{scheme}://u:p@h/n?sslmode=require"

    assert Config(database=url).database_url() == url


@pytest.mark.parametrize("text", ["", ":memory:", "sqlite:///x.db", "postgresql", "/postgresql://x"])
def test_everything_else_is_no_postgresql_url(text: str) -> None:
    assert Config(database=text).database_url() is None


def test_a_database_of_an_unknown_kind_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError, match=r"^database: 'mysql://' is not supported; .*\.$") as refused:
        Config(database="mysql://u:secret@h/n").database_path()

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"port": "x"}, "port"),
        ({"port": 70000}, "port"),
        ({"aliases": ("nonsense",)}, "aliases"),
        ({"aliases": 5}, "aliases"),
        ({"aliases": [5]}, "aliases"),
        ({"upstreams": 5}, "upstreams"),
        ({"upstreams": "http://a"}, "upstreams"),
        ({"shutdown_seconds": float("inf")}, "shutdown_seconds"),
        ({"loop": "trio"}, "loop"),
        ({"retries": -1}, "retries"),
        ({"colour": "red"}, "colour"),
        ({"upstreams": [{"url": "http://a", "nme": "x"}]}, "upstreams"),
        ({"upstreams": [{"url": "http://a", "urls": ["http://b"]}]}, "upstreams"),
        ({"upstreams": ("http://a http://b http://a",)}, "upstreams"),
        ({"upstreams": [{"urls": ["http://a"], "max_concurrent": 0}]}, "upstreams"),
        ({"upstreams": [{"urls": ["http://a"], "queue_max": -1}]}, "upstreams"),
        ({"upstreams": [{"urls": ["http://a"], "breaker_failures": 0}]}, "upstreams"),
        ({"upstreams": [{"urls": ["http://a"], "health_seconds": 0}]}, "upstreams"),
        ({"upstreams": [{"urls": ["http://a"], "health_path": "health"}]}, "upstreams"),
        ({"upstreams": [{"urls": ["http://a"], "health_path": "/he\r\nalth"}]}, "upstreams"),
        ({"upstreams": [{"dialect": "scripted", "max_concurrent": 1}]}, "upstreams"),
        ({"aliases": {"a": []}}, "aliases"),
        ({"aliases": {"a": [""]}}, "aliases"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(given: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        load(None, {}, given)

    assert str(wrong.value).startswith(f"{names}: ")
    assert str(wrong.value).endswith(".")
    assert "\n" not in str(wrong.value)


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("port = ")

    for path in (broken, tmp_path / "absent.toml"):
        with pytest.raises(ConfigError, match=r"^config: "):
            load(path, {}, {})


@pytest.mark.parametrize("url", ["http://u:SECRET@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?key=SECRET"])
@pytest.mark.parametrize("wrong", [{}, {"options": {"*": {"nothing": 1}}}, {"key_env": "ABSENT"}])
async def test_an_upstreams_url_has_no_secret_and_messages_do_not_tell_it(url: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^upstreams: ") as refused:
        Server(load(None, {}, {"database": ":memory:", "upstreams": [{"url": url, **wrong}]}))

    assert "SECRET" not in str(refused.value)
