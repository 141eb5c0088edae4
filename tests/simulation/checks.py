"""What must hold of every run: while the model is asked, and when everything has come to rest.

Must not know how a run came to its end, only what was noted of it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from tests.simulation.ledger import Attempt, Ledger, Truth
from tests.simulation.scenario import ASK, Scenario, exchanges, text_of
from tests.specification.streams import check_laws

from antiphon.engine.fold import Fold
from antiphon.engine.ports.stores import Stored
from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.protocol.events import TERMINAL_TYPES, Event
from antiphon.protocol.responses import TERMINAL

if TYPE_CHECKING:
    from tests.simulation.world import World

Json = dict[str, Any]
WORD = re.compile(r"(\d+)\.(\d+) ")

decode = msgspec.json.decode


# --- While the model is asked ---


def check_request(ledger: Ledger, truth: Truth, scenario: Scenario, request: ModelRequest, attempt: Attempt) -> None:
    """The owner of a run asks for what its log and its journal say, and for nothing else."""
    if truth.given_up:
        raise ledger.violation(f"I10: {truth.tag} goes on after {len(truth.claims)} takeovers")
    if request.prefix is not None and scenario.model != "prefill":
        raise ledger.violation(f"{truth.tag}: a prefix for a model that takes none")
    seen = Counter(call for call, tag, _ in exchanges(request) if tag == truth.tag)
    if seen and max(seen.values()) > 1:
        raise ledger.violation(f"I8: a model sees a call of {truth.tag} twice: {seen}")
    answers = {item.view.call_id: item.view for item in request.items if item.view.kind == "function_call_output"}
    for call, result in truth.results.items():
        if call not in seen:
            raise ledger.violation(f"I8: the model does not see call {call} of {truth.tag}, which was made")
        if text_of(answers[call].output) != result.for_model:
            raise ledger.violation(f"I8: the model sees another result of {call}: {answers[call]}")
    told = "".join(text_of(item.view.content) for item in request.items if item.view.kind == "message")
    for text in scenario.heard:
        if text not in told:
            raise ledger.violation(f"{truth.tag}: the model does not see {text!r}, which was said before")
    if truth.claims and not truth.asked_since_claim:
        _check_resumed(ledger, truth, request, attempt, told)


def _check_resumed(ledger: Ledger, truth: Truth, request: ModelRequest, attempt: Attempt, told: str) -> None:
    """The first model call after a takeover goes on where the log ends."""
    fold = Fold()
    for data in truth.events[: truth.claims[-1].claim.last + 1]:
        fold.apply(decode(data))
    # The model call that made a call is over, whatever of its text was not durable yet.
    called = bool(truth.intents.keys() - {item.id for item in fold.items})
    for item in fold.items:
        text = "".join(part.text for part in item.parts)
        if item.type != "message":
            continue
        if item.body is not None:
            if text not in told:
                raise ledger.violation(f"{truth.tag}: the model does not see {text!r}, which its log says")
        elif (attempt.went_on or "") != ("" if called else text):
            raise ledger.violation(f"{truth.tag}: the model goes on from {attempt.went_on!r}, the log says {text!r}")
    if attempt.went_on:
        ledger.saw["a text that goes on behind a prefix" if request.prefix else "a model asked to go on"] += 1
    if attempt.went_on and not (fold.items and fold.items[-1].body is None):
        raise ledger.violation(f"{truth.tag}: the model goes on from {attempt.went_on!r}, but nothing is open")


# --- At rest ---


async def check(world: World) -> None:
    """Everything that must hold of all runs, before and after their logs are packed."""
    if world.loop.reported:
        raise world.ledger.violation(f"asyncio reports: {world.loop.reported[0]}")
    logs: dict[Any, list[Event]] = {}
    for name, truth in world.ledger.runs.items():
        stored = await world.database.read(*name)
        if truth.deleted:
            if stored is not None:
                raise world.ledger.violation(f"{truth.tag} was deleted and is still there")
            logs[name] = []
            continue
        logs[name] = await whole_log(world, name)
        _check_run(world, truth, stored, logs[name])
    _check_sights(world)
    _check_told(world)
    while await world.database.compact(3):
        pass
    for name, log in logs.items():
        if await whole_log(world, name) != log:
            raise world.ledger.violation(f"I11: packing changed the log of {name}")


async def whole_log(world: World, name: Any) -> list[Event]:
    """All events, page by page."""
    events: list[Event] = []
    while page := await world.database.events(*name, events[-1].number if events else -1):
        events += page
    return events


def _check_run(world: World, truth: Truth, stored: Stored | None, log: list[Event]) -> None:
    def broken(text: str) -> Exception:
        return world.ledger.violation(f"{text} ({truth.tag}, {truth.name.response})")

    if stored is None:
        raise broken("an acknowledged run is gone")
    if stored.outcome.status not in TERMINAL:
        raise broken(f"the status is {stored.outcome.status}")
    if [event.number for event in log] != list(range(len(log))):
        raise broken(f"I1: the numbers are {[event.number for event in log]}")
    if [event.data for event in log] != truth.events:
        raise broken("I1: the log is not what was made durable")
    if [event.number for event in log if event.type in TERMINAL_TYPES] != [len(log) - 1]:
        raise broken("I6: not exactly one terminal event, at the end")
    events = [decode(event.data) for event in log]
    try:
        check_laws(events)
    except AssertionError as error:
        raise broken(f"the log breaks a law of streams: {error}") from error
    response = decode(stored.snapshot())
    fold = Fold()
    for event in events:
        fold.apply(event)
    if fold.response() != response:
        raise broken(f"I7: the fold of the log is {fold.response()}, stored is {response}")
    scenario = world.scenarios[truth.tag]
    _check_outcome(truth, scenario, response, broken)
    _check_whole(scenario, events, broken)
    _check_calls(world, truth, events, broken)
    _check_words(world, truth, scenario, response, events, broken)
    _check_takeovers(world, truth, events, broken)


def _check_outcome(truth: Truth, scenario: Scenario, response: Json, broken: Any) -> None:
    status, error = response["status"], response["error"]
    if truth.cancelled and status != "cancelled":
        raise broken(f"a cancel was acknowledged, the status is {status}")
    if status == "cancelled" and not truth.asked_to_cancel:
        raise broken("cancelled, but nobody asked for it")
    if truth.given_up and status not in ("failed", "cancelled"):
        raise broken(f"I10: taken over in vain, but {status}")
    if status == "cancelled" or (status == "failed" and truth.given_up):
        return
    expected = {"failure": "failed", "length": "incomplete", "content_filter": "incomplete"}.get(
        scenario.end, "completed"
    )
    if status != expected:
        raise broken(f"the status is {status}, the script ends with {scenario.end}: {error}")
    if status == "failed" and error["code"] != "simulated":
        raise broken(f"it failed for another reason: {error}")


def _check_whole(scenario: Scenario, events: list[Json], broken: Any) -> None:
    """What cannot be continued is told in one piece (I9)."""
    pieces: Counter[tuple[str, int]] = Counter()
    for event in events:
        if event["type"] == "response.function_call_arguments.delta":
            pieces[event["item_id"], -1] += 1
        elif event["type"] == "response.output_text.delta" and scenario.bound:
            pieces[event["item_id"], event["content_index"]] += 1
    if pieces and max(pieces.values()) > 1:
        raise broken(f"I9: told in pieces: {pieces}")


def _check_calls(world: World, truth: Truth, events: list[Json], broken: Any) -> None:
    """Hosted calls: journalled before and after, once where they have effects (I8)."""
    for call, called in world.ledger.calls.items():
        if called.tag == truth.tag and called.name == "change" and called.starts > 1 and not world.repeats:
            raise broken(f"I8: {call} was made {called.starts} times")
    most = world.scenarios[truth.tag].calls_max
    if most is not None and len(truth.intents) > most:
        raise broken(f"{len(truth.intents)} hosted calls were made, the request allows {most}")
    for number, event in enumerate(events):
        if event["type"] != "response.output_item.done" or not event["item"]["type"].startswith("antiphon:"):
            continue
        item = event["item"]
        known = truth.result_moments.get(item["id"])
        if item["status"] == "incomplete":
            continue
        if known is None or known > truth.moments[number]:
            raise broken(f"I8: {item['id']} was done before its result was durable")
        if "interrupted" in str(item.get("error")):
            world.ledger.saw["a call that was interrupted"] += 1
        shown = item.get("output") or item.get("error")
        told = world.ledger.calls.get(item["id"])
        if told is not None and shown not in told.told and "interrupted" not in str(shown) and "within" not in shown:
            raise broken(f"I8: {item['id']} shows {shown!r}, the tool told {told.told}")


def _check_words(
    world: World, truth: Truth, scenario: Scenario, response: Json, events: list[Json], broken: Any
) -> None:
    """Each attempt's words are there from its first on, without gap or repeat, one attempt after the other."""
    said: list[tuple[int, int]] = []
    for event in events:
        if event["type"] in _TEXTS:
            said += [(int(attempt), int(word)) for attempt, word in WORD.findall(event["delta"])]
    spans: dict[int, int] = {}
    before = 0
    for attempt, word in said:
        if attempt != before and attempt in spans:
            raise broken(f"attempt {attempt} speaks again after attempt {before}")
        if word != spans.get(attempt, 0) + 1:
            raise broken(f"word {word} of attempt {attempt} follows {spans.get(attempt, 0)}")
        spans[attempt] = word
        before = attempt
        if world.attempts[attempt].tag != truth.tag:
            raise broken(f"attempt {attempt} was not made for this run")
    ended = response["status"] in ("completed", "incomplete")
    for attempt in [attempt for attempt in world.attempts.values() if attempt.tag == truth.tag and attempt.whole]:
        kept = spans.get(attempt.number, 0)
        if (attempt.called or (ended and attempt.number == before)) and kept != attempt.words:
            # A call that was begun ends the model call: the text before it cannot be gone on with any more.
            raise broken(f"attempt {attempt.number} said {attempt.words} words, {kept} of them were kept")
    asked = [item for item in response["output"] if item["type"] == "function_call"]
    allowed = scenario.turns[-1].asks if scenario.parallel else min(1, scenario.turns[-1].asks)
    if response["status"] == "completed" and len(asked) > allowed:
        raise broken(f"{len(asked)} calls for the client, the model makes {allowed}")
    if any(item["name"] != ASK for item in asked):
        raise broken(f"a call of a hosted tool is left to the client: {asked}")


def _check_takeovers(world: World, truth: Truth, events: list[Json], broken: Any) -> None:
    """An open text goes on in place after a takeover."""
    for taken in truth.claims:
        last = taken.claim.last
        fold = Fold()
        for event in events[: last + 1]:
            fold.apply(event)
        if not fold.items or fold.items[-1].body is not None or fold.items[-1].type != "message":
            continue
        following = next((event for event in events[last + 1 :] if event["type"] in _TEXTS), None)
        if following is None or following["item_id"] == fold.items[-1].id:
            continue
        spoken = WORD.search(following["delta"])
        assert spoken is not None
        attempt = world.attempts[int(spoken[1])]
        if attempt.begins_with_text and attempt.went_on is not None:
            raise broken(f"attempt {attempt.number} was to go on with {fold.items[-1].id}, it began another item")


def untold(ledger: Ledger) -> list[str]:
    """Runs that have ended and that no receiver has heard of."""
    return [truth.tag for truth in ledger.runs.values() if truth.ended and not truth.deleted and not truth.told]


def _check_told(world: World) -> None:
    """Every end is told at least once where somebody wants to hear of it, under one id, and as what it is."""
    for truth in world.ledger.runs.values():
        if not world.hooked and truth.told:
            raise world.ledger.violation(f"webhooks: {truth.tag} is told of, and nobody asked for it")
        if len(truth.told) > 1:
            raise world.ledger.violation(f"webhooks: {truth.tag} is told of as {truth.told}")
    if world.hooked and (missing := untold(world.ledger)):
        raise world.ledger.violation(f"webhooks: nobody heard of {missing}")


def _check_sights(world: World) -> None:
    """What anybody saw is a part of the log, byte for byte (I7)."""
    for client in world.everyone:
        for sight in client.sights:
            truth = world.ledger.runs[sight.name]
            for event in sight.events:
                if truth.events[event.number] != event.data:
                    raise world.ledger.violation(f"I7: a reader of {truth.tag} saw another event {event.number}")
            if not sight.whole or sight.last != len(truth.events) - 1:
                raise world.ledger.violation(f"I7: a reader of {truth.tag} was left at {sight.last}")


_TEXTS = ("response.output_text.delta", "response.refusal.delta", "response.reasoning_text.delta")
