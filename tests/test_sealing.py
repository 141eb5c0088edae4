"""Sealed content: what opens, for whom, and how what does not open is told apart."""

from __future__ import annotations

import re
import string
import tracemalloc

import pytest

from antiphon import sealing
from antiphon.sealing import NotIntact, Sealer, Sealing, TooLarge, sealer_of

KEY, OTHER = b"k" * 32, b"o" * 32
TEXT = b'{"text":"' + b"The first thing that I look at is the door. " * 40 + b'"}'
SIZES = [0, 1, 2, 3, 127, 128, 129, 5000]
URL_SAFE = string.ascii_letters + string.digits + "-_"


def seal(data: bytes = TEXT, *, by: Sealer | None = None, project: str = "one", purpose: str = "reasoning") -> str:
    return (by or Sealer([KEY])).seal(data, project=project, purpose=purpose)


def opened(text: str, *, by: Sealer | None = None, project: str = "one", purpose: str = "reasoning") -> bytes | None:
    return (by or Sealer([KEY])).open(text, project=project, purpose=purpose)


class Drawer:
    """Secrets in memory; remembers what was asked for."""

    def __init__(self, **kept: bytes) -> None:
        self.kept = dict(kept)

    async def secret(self, name: str, *, make: bool = True) -> bytes | None:
        if make:
            self.kept.setdefault(name, b"s" * 32)
        return self.kept.get(name)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_opens(size: int) -> None:
    data = bytes(n * n % 251 for n in range(size))

    assert opened(seal(data)) == data


def test_the_text_is_url_safe_shorter_than_what_repeats_and_never_the_same() -> None:
    texts = {seal() for _ in range(50)}

    assert len(texts) == 50
    assert all(set(text) <= set(URL_SAFE) and len(text) < len(TEXT) // 2 for text in texts)


def test_nothing_of_the_content_shows() -> None:
    text = seal(b"a secret that is too short to be compressed")

    assert opened(text) is not None
    assert not any(word in sealing._decoded(text[6:]) for word in (b"secret", b"compressed"))  # type: ignore[operator]


@pytest.mark.parametrize("data", [b"short", TEXT])
def test_no_character_can_be_another_one(data: bytes) -> None:
    """Each character once exchanged for each neighbour in the alphabet, so that every bit of it was turned."""
    text = seal(data)
    kept = len(sealing._FAMILY)
    for place in range(kept, len(text)):
        for bit in (1, 2, 4, 8, 16, 32):
            other = URL_SAFE[URL_SAFE.index(text[place]) ^ bit] if URL_SAFE.index(text[place]) ^ bit < 64 else "A"
            broken = text[:place] + other + text[place + 1 :]
            if broken != text:
                with pytest.raises(NotIntact):
                    opened(broken)


@pytest.mark.parametrize("cut", range(1, 80))
def test_nothing_can_be_cut_off(cut: int) -> None:
    with pytest.raises(NotIntact):
        opened(seal(b"short")[:-cut])


@pytest.mark.parametrize("more", ["A", "AAAA", "=", "==", "\n", " ", "é", "\ud800", "+", "/"])
def test_nothing_can_be_added(more: str) -> None:
    for data in (b"a", b"ab", b"abc"):
        text = seal(data)
        for broken in (text + more, text[:40] + more + text[40:]):
            with pytest.raises(NotIntact):
                opened(broken)


@pytest.mark.parametrize("size", [5, 6, 7])
def test_there_is_one_text_for_one_seal(size: int) -> None:
    """The last character has bits to spare; a text that differs in these alone is another text."""
    text = seal(b"x" * size)
    others = [text[:-1] + last for last in URL_SAFE if last != text[-1]]
    for other in others:
        with pytest.raises(NotIntact):
            opened(other)


def test_another_project_or_purpose_cannot_open_it() -> None:
    text = seal()

    for place in ({"project": "two"}, {"purpose": "compaction"}, {"project": "onereasoning", "purpose": ""}):
        with pytest.raises(NotIntact):
            opened(text, **place)


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "gAAAAABpQ2x0LXNlYWxlZC1ieS1hbm90aGVyLXByb3ZpZGVy",
        "ErUBCkYIBRgCIkA",
        "ant",
        "summary: it went well",
        "\ud800",
    ],
)
def test_what_others_sealed_is_tolerated(foreign: str) -> None:
    assert opened(foreign) is None


@pytest.mark.parametrize("rest", ["", "1", "1AAAA", "2" + "A" * 200, "1" + "A" * 200, "0"])
def test_what_only_looks_like_ours_is_not_taken_for_foreign(rest: str) -> None:
    with pytest.raises(NotIntact):
        opened("antph" + rest)


def test_the_error_speaks_as_the_official_one() -> None:
    text = seal()
    with pytest.raises(NotIntact) as caught:
        opened(text, by=Sealer([OTHER]))

    assert str(caught.value) == (
        f"The encrypted content antp...{text[-4:]} could not be verified. "
        "Reason: Encrypted content could not be decrypted or parsed."
    )
    assert isinstance(caught.value, ValueError)


def test_all_keys_open_and_the_first_seals() -> None:
    before, after = Sealer([KEY]), Sealer([OTHER, KEY])
    old, new = seal(by=before), seal(by=after)

    assert opened(old, by=after) == opened(new, by=after) == opened(new, by=Sealer([OTHER])) == TEXT
    with pytest.raises(NotIntact):
        opened(new, by=before)


def test_what_is_sealed_has_a_limit_and_so_has_what_unpacks() -> None:
    small, large = Sealer([KEY], sealed_max_bytes=1000), Sealer([KEY], sealed_max_bytes=100_000)
    edge = seal(b"x" * 1000, by=small)

    assert opened(edge, by=small) == b"x" * 1000
    with pytest.raises(TooLarge):
        seal(b"x" * 1001, by=small)
    for data in (b"x" * 1001, b"x" * 100_000, bytes(n * n % 251 for n in range(1100))):
        text = seal(data, by=large)
        assert opened(text, by=large) == data
        with pytest.raises(NotIntact):
            opened(text, by=small)


def test_what_unpacks_to_too_much_is_not_held() -> None:
    """Megabytes of zeros in a few kilobytes are given up at the limit."""
    text, careful = seal(bytes(16 << 20)), Sealer([KEY], sealed_max_bytes=100_000)
    assert len(text) < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(NotIntact):
            opened(text, by=careful)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1 << 20


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b""]])
def test_keys_that_can_be_guessed_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Sealer(keys)


async def test_a_server_without_keys_makes_one_and_finds_it_again() -> None:
    drawer = Drawer()
    text = seal(by=await sealer_of([], drawer))

    assert opened(text, by=await sealer_of([], drawer)) == TEXT


async def test_the_operators_keys_go_first_and_the_servers_own_still_opens() -> None:
    drawer = Drawer()
    old = seal(by=await sealer_of([], drawer))
    given = await sealer_of(["a" * 44, "b" * 44], drawer)
    new = seal(by=given)

    assert opened(old, by=given) == TEXT
    assert opened(new, by=await sealer_of(["c" * 44, "a" * 44], Drawer())) == TEXT
    with pytest.raises(NotIntact):
        opened(new, by=await sealer_of(["b" * 44], drawer))


async def test_a_server_with_keys_makes_none() -> None:
    drawer = Drawer()
    await sealer_of(["a" * 44], drawer)

    assert drawer.kept == {}


async def test_a_short_key_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match=re.escape("at least 32 characters; make one with `openssl rand -base64 32`")):
        await sealer_of(["a" * 44, "too short"], Drawer())


def test_keys_for_other_purposes_are_their_own() -> None:
    made = [Sealer([key]).derive(purpose) for key in (KEY, OTHER) for purpose in ("a", "b")]

    assert [len(key) for key in made] == [32] * 4
    assert len({*made, KEY, OTHER}) == 6
    assert Sealer([KEY, OTHER]).derive("a") == made[0]


async def test_a_server_seals_when_it_has_started_and_opens_after_a_restart() -> None:
    drawer, first, second = Drawer(), Sealing(), Sealing()
    with pytest.raises(RuntimeError):
        first.seal(TEXT, project="p", purpose="x")

    await first.load([], drawer)
    await second.load(["k" * 32], drawer)

    assert second.open(first.seal(TEXT, project="p", purpose="x"), project="p", purpose="x") == TEXT
    assert first.derive("x") != second.derive("x")
