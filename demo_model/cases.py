"""What the evaluation asks, all about held-out words, and how an answer is judged. It talks to no model.

A case is one conversation: each turn's input is a list of Responses API items, and the judges see the replies to all
turns. Groups with a target have at least 50 cases; groups marked `-` break another one down.
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .held_tools import TOOLS, HeldTool, Item, words_of
from .stories import NUMBERS
from .words import HELD_HEROES, HELD_KEYS, HELD_NAMES, HELD_PLACES, HELD_THINGS, article

Judge = Callable[["list[Reply]"], bool]
COUNT = 50
UPPER = ("Answer in upper case.", "Use only capital letters.", "Always answer in upper case.")


@dataclass
class Reply:
    """What came back: text, (name, arguments) of the calls, whether it ended by itself, and the reasoning."""

    text: str
    calls: list[tuple[str, Any]] = field(default_factory=list)
    complete: bool = True
    plan: str = ""


@dataclass
class Case:
    """One conversation and what is judged of it, task by task."""

    judges: dict[str, Judge]
    turns: list[list[Item]]
    instructions: str | None = None
    tools: list[Item] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    effort: str | None = None


def user(text: str) -> list[Item]:
    """A turn of one user message."""
    return [{"role": "user", "content": text}]


def has(text: str, word: str) -> bool:
    """The word stands in the text, whole, upper and lower case as given."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def sentences(text: str) -> int:
    """Number of sentence ends."""
    return len(re.findall(r"[.!?](?=\s|$)", text))


def stories() -> list[Case]:
    """Every held-out hero, one to seven sentences, asked for in several ways."""
    out = []
    for i, hero in enumerate(HELD_HEROES):
        n, a = 1 + i % 7, article(hero)
        word = "sentence" if n == 1 else "sentences"
        ask = (
            f"Tell me a {NUMBERS[n - 1]} sentence bedtime story about {a}.",
            f"Tell me a story about {a} in {NUMBERS[n - 1]} {word}.",
            f"Write a {n} sentence story about {a}.",
            f"Tell me a {NUMBERS[n - 1]}-sentence story about {a}.",
            f"Write a short story about {a} in {n} {word}.",
        )[i % 5]
        hero_there: Judge = lambda r, h=hero: has(r[0].text, h) and r[0].complete  # noqa: E731
        length: Judge = lambda r, n=n: sentences(r[0].text) == n and r[0].complete  # noqa: E731
        judges: dict[str, Judge] = {
            "story: asked hero and number of sentences": lambda r, a=hero_there, b=length: a(r) and b(r),
            "- the hero": hero_there,
            "- the number of sentences": length,
        }
        out.append(Case(judges, [user(ask)]))
    return out


def facts(i: int) -> list[tuple[str, str, str, str]]:
    """(told, asked, value, question about it when it was not told) about one person; the held-out words are the values."""
    name, place, thing, hero = HELD_NAMES[i], HELD_PLACES[i], HELD_THINGS[i], HELD_HEROES[i]
    dog, age = HELD_NAMES[(i + 9) % 50], str(19 + i)
    return [
        ((f"My name is {name}.", f"I'm {name}.", f"Call me {name}.")[i % 3], ("What is my name?", "Who am I?")[i % 2], name, "name"),
        (f"I live in {place}.", "Where do I live?", place, "home"),
        (f"My favorite word is {thing}.", "What is my favorite word?", thing, "word"),
        (f"My dog is called {dog}.", "What is my dog's name?", dog, "dog"),
        (f"I am {age} years old.", "How old am I?", age, "age"),
        (f"My favorite animal is the {hero}.", "What's my favorite animal?", hero, "animal"),
    ]  # fmt: skip


def memory() -> list[Case]:
    """A name over two turns, several facts over three to six, facts never told."""
    out = []
    between = ("What is the capital of France?", "Hello!", "What is 2 + 3?", "Thank you!", "Tell me a joke.")
    for i in range(COUNT):
        known = facts(i)
        told, asked, value, _ = known[0]
        out.append(Case({"memory: name over 2 turns": lambda r, v=value: has(r[1].text, v)}, [user(told), user(asked)]))
        rng = random.Random(i)
        some = rng.sample(known, 1 + i % 3)
        turns = [user(f[0]) for f in some] + [user(between[i % 5])] * (1 + i % 2)
        want = rng.sample(some, 2 if len(some) > 1 and len(turns) < 5 else 1)
        turns += [user(f[1]) for f in want]
        several: Judge = lambda r, w=want: all(has(x.text, f[2]) for x, f in zip(r[-len(w) :], w, strict=True))  # noqa: E731
        out.append(Case({"memory: several facts over 3 to 6 turns": several}, turns))
        missing = rng.choice([f for f in known if f not in some])
        out.append(
            Case(
                {"memory: says so when it was never told": lambda r: "not told me" in r[-1].text},
                [user(f[0]) for f in some[:2]] + [user(missing[1])],
            )
        )
    return out


WEATHER: Item = {
    "type": "function",
    "name": "get_weather",
    "description": "Get current temperature for a given location.",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
        "additionalProperties": False,
    },
    "strict": True,
}


def among(i: int, count: int) -> list[Item]:
    """Tool `i` in a list of `count`, at a place that changes with `i`."""
    others = [TOOLS[(i + 7 * (k + 1)) % len(TOOLS)].offered() for k in range(count - 1)]
    others.insert(i % count, TOOLS[i].offered())
    return others


def tools() -> list[Case]:
    """Unseen tools alone and among two to four; the usual weather tool with unseen cities."""
    out = []
    for i, t in enumerate(TOOLS):
        for count in (1, 2 + i % 3):
            values = t.values(count)
            exact: Judge = lambda r, want=(t.name, values): r[0].calls == [want]  # noqa: E731
            judges = {"tools: unseen, 1 to 4, right tool and exact arguments": exact}
            if count == 1:
                judges["- alone"] = exact
            else:
                judges["- among 2 to 4"] = exact
                judges["- among 2 to 4: the right tool"] = lambda r, n=t.name: [c[0] for c in r[0].calls] == [n]
            judges[f"- {len(t.args)} argument{'s' * (len(t.args) > 1)}"] = exact
            out.append(Case(judges, [user(t.asked(values))], tools=among(i, count)))
    for i, place in enumerate(HELD_PLACES):
        ask = (f"What is the weather like in {place} today?", f"How is the weather in {place}?")[i % 2]
        right: Judge = lambda r, p=place: r[0].calls == [("get_weather", {"location": p})]  # noqa: E731
        out.append(Case({"tools: get_weather in an unseen city": right}, [user(ask)], tools=[WEATHER]))
    return out


def no_tool() -> list[Case]:
    """Tools are offered and none fits: small talk, the model's own knowledge, and requests for something else."""
    out = []
    for i in range(COUNT):
        t = TOOLS[i]
        ask = (
            "Hello!",
            f"What is the capital of {('Italy', 'Japan', 'Peru', 'Norway', 'Egypt')[i // 10]}?",
            f"My name is {HELD_NAMES[i]}.",
            f"Who was {HELD_NAMES[i]}?",
            t.asked(t.values(3)),
        )[i % 5]
        offered = [TOOLS[(i + 11 + 9 * k) % len(TOOLS)].offered() for k in range(1 + i % 4)]
        judge: Judge = lambda r: not r[0].calls and bool(r[0].text) and r[0].complete  # noqa: E731
        split = "- a request for another tool" if i % 5 == 4 else "- talk"
        out.append(Case({"tools: no call when none fits": judge, split: judge}, [user(ask)], tools=offered))
    return out


def parallel() -> list[Case]:
    """Two or three calls in one reply: one tool with several values, or two tools."""
    out = []
    single = [t for t in TOOLS if len(t.args) == 1 and next(iter(t.args.values())) in ("city", "thing", "code", "name")]
    for i in range(COUNT):
        a, b, c = HELD_PLACES[i], HELD_PLACES[(i + 21) % 50], HELD_PLACES[(i + 33) % 50]
        if i % 3 == 0:
            places = [a, b, c] if i % 2 else [a, b]
            ask = f"What is the weather like in {', '.join(places[:-1])} and {places[-1]} today?"
            want = [("get_weather", {"location": p}) for p in places]
            offered = [WEATHER]
        elif i % 3 == 1:
            t = single[i % len(single)]
            key = next(iter(t.args))
            both = [t.values(i)[key], t.values(i + 100)[key]]
            ask = t.request.format(**{key: f"{both[0]} and {both[1]}"})
            want, offered = [(t.name, {key: v}) for v in both], [t.offered()]
        else:
            t, u = TOOLS[i], TOOLS[(i + 13) % len(TOOLS)]
            v, w = t.values(5), u.values(5)
            second = u.asked(w)
            ask = (
                f"{t.asked(v).rstrip('.?')} and {second[0].lower()}{second[1:]}" if i % 2 else f"{t.asked(v)} {second}"
            )
            want, offered = [(t.name, v), (u.name, w)], [t.offered(), u.offered()]
        judge: Judge = lambda r, w=want: sorted(map(str, r[0].calls)) == sorted(map(str, w))  # noqa: E731
        split = "- two tools" if i % 3 == 2 else "- one tool, several values"
        out.append(Case({"tools: parallel calls, all exact": judge, split: judge}, [user(ask)], tools=offered))
    return out


def results() -> list[Case]:
    """Answers from what a tool gave back, with unseen keys and values."""
    out = []
    for i in range(COUNT):
        t: HeldTool = TOOLS[i]
        k, k2 = HELD_KEYS[i % 30], HELD_KEYS[(i * 3 + 7) % 30]
        value = (
            {k: 10 + 7 * i, k2: HELD_THINGS[i]},
            {k: HELD_PLACES[i]},
            {"status": "ok", k: HELD_NAMES[i]},
            {k: words_of(i, 2), k2: 100 + i},
            {f"{k}_{k2}": 20 + i},
        )[i % 5]
        called = {"call_id": f"call_{i}", "name": t.name, "arguments": json.dumps(t.values(2))}
        back = {"call_id": f"call_{i}", "output": json.dumps(value)}
        turn = [
            *user(t.asked(t.values(2))),
            {"type": "function_call", **called},
            {"type": "function_call_output", **back},
        ]
        said: Judge = lambda r, v=value: (  # noqa: E731
            r[0].complete and all(has(r[0].text, str(x)) for y, x in v.items() if y != "status")
        )
        out.append(Case({"tools: answer from a result with unseen keys": said}, [turn], tools=[t.offered()]))
    return out


def extraction() -> list[Case]:
    """JSON by schema; the object must equal the one asked for."""
    out = []
    for i in range(COUNT):
        n, m, c, t = HELD_NAMES[i], HELD_NAMES[i - 1], HELD_PLACES[i], HELD_THINGS[i]
        event, k, k2 = words_of(i, 2), HELD_KEYS[i % 30], HELD_KEYS[(i * 3 + 7) % 30]
        text, want = (
            (f"{n} and {m} are going to a {event} on Friday.", {"name": event, "date": "Friday", "participants": [n, m]}),
            (f"{n} is {21 + i} years old and lives in {c}.", {"name": n, "age": 21 + i, "city": c}),
            (f"{n} ordered {2 + i} {t}s for {40 + i} dollars.", {"customer": n, "quantity": 2 + i, "price": 40 + i}),
            (f"The {k} is {31 + i} and the {k2} is {t}.", {k: 31 + i, k2: t}),
            (f"{n} flies from {c} to {HELD_PLACES[i - 7]} on Monday.", {"name": n, "from": c, "to": HELD_PLACES[i - 7], "day": "Monday"}),
        )[i % 5]  # fmt: skip
        out.append(
            Case(
                {"JSON by schema: equal object": lambda r, w=want: loads(r[0].text) == w},
                [user(text)],
                instructions="Extract the information.",
                schema=schema_of(want),
            )
        )
    return out


def schema_of(value: dict[str, Any]) -> dict[str, Any]:
    """A strict schema that the value fits."""
    kinds = {
        k: {"type": "integer"}
        if isinstance(v, int)
        else {"type": "array", "items": {"type": "string"}}
        if isinstance(v, list)
        else {"type": "string"}
        for k, v in value.items()
    }
    return {"type": "object", "properties": kinds, "required": list(kinds), "additionalProperties": False}


def loads(text: str) -> Any:
    """The JSON in the text, None when it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def rules() -> list[Case]:
    """System prompts: upper case, a persona, a fixed ending; 17 each."""
    out = []
    shout = (
        ("What is the capital of Spain?", "MADRID"),
        ("Hello!", "HELLO"),
        ("Who are you?", "ANTIPHON"),
        ("What is the capital of Japan?", "TOKYO"),
        ("Thank you!", "WELCOME"),
        ("What is the capital of Greece?", "ATHENS"),
    )
    for i in range(51):
        name, thing, hero = HELD_NAMES[i % 50], HELD_THINGS[i % 50], HELD_HEROES[i % 50]
        upper = UPPER[i // 3 % 3]
        end = (f"{thing.capitalize()}!", f"{words_of(i, 2).capitalize()}.")[i // 3 % 2]
        question, word = shout[i // 3 % 6]
        rule, ask, judge, kind = (
            (upper, question, lambda r, w=word: w in r[0].text and r[0].text.isupper(), "upper case"),
            (
                (f"You are {name}, a helpful robot.", f"Your name is {name}. You are {article(hero)}.")[i // 3 % 2],
                ("Who are you?", "What is your name?")[i // 6 % 2],
                lambda r, n=name: has(r[0].text, n),
                "persona",
            ),
            (
                (f"End every answer with: {end}", f'Always end your answer with "{end}"')[i // 3 % 2],
                ("Hello!", "What is the capital of Cuba?", f"My name is {name}.")[i // 3 % 3],
                lambda r, e=end: r[0].text.endswith(f" {e}"),
                "fixed ending",
            ),
        )[i % 3]
        out.append(Case({"system prompt obeyed": judge, f"- {kind}": judge}, [user(ask)], instructions=rule))
    return out


def copies() -> list[Case]:
    """Unseen words repeated, counting and lists."""
    out = []
    kinds = ("colors", "animals", "fruits", "names", "days")
    numbers = [str(n) for n in range(2, 13)] + ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    for i in range(COUNT):
        text = f"{HELD_THINGS[i]} {HELD_HEROES[i]} {HELD_PLACES[i]}"
        ask = (f"Repeat after me: {text}", f"Say: {text}", f'Say "{text}".')[i % 3]
        copied: Judge = lambda r, t=text: r[0].text.strip() == t  # noqa: E731
        out.append(Case({"repeat, count, list": copied, "- three unseen words repeated": copied}, [user(ask)]))
        if i < len(numbers):
            n = 2 + i if i < 11 else i - 9
            ask, want = f"Count to {numbers[i]}.", ", ".join(map(str, range(1, n + 1))) + "."
            row: Judge = lambda r, w=want: r[0].text.strip() == w  # noqa: E731
            out.append(Case({"repeat, count, list": row, "- count": row}, [user(ask)]))
        elif i < len(numbers) + 20:
            n = 2 + i % 4
            ask = f"List {NUMBERS[n - 1]} {kinds[i % 5]}."
            listed: Judge = lambda r, n=n: len(set(r[0].text.strip(".").split(", "))) == n  # noqa: E731
            out.append(Case({"repeat, count, list": listed, "- list": listed}, [user(ask)]))
    return out


def sums() -> list[Case]:
    """Sums and differences of numbers up to 20; a table that the training knows too, so only the choice is new."""
    out = []
    rng = random.Random(20)
    for i in range(60):
        a, b = rng.randint(0, 20), rng.randint(0, 20)
        if i % 2:
            a, b = max(a, b), min(a, b)
            ask, right = f"What is {a} - {b}?", a - b
        else:
            b = rng.randint(0, 20 - a)
            ask, right = f"What is {a} + {b}?", a + b
        judge: Judge = lambda r, n=right: re.findall(r"\d+", r[0].text)[-1:] == [str(n)]  # noqa: E731
        out.append(Case({"sums 0 to 20": judge}, [user(ask)]))
    return out


def beyond() -> list[Case]:
    """Questions about the world."""
    out = []
    for i in range(COUNT):
        thing, name = HELD_THINGS[i], HELD_NAMES[i]
        ask = (
            f"Who invented the {thing}?",
            f"Write a Java class for {article(thing)}.",
            f"How many people live in {HELD_PLACES[i]}?",
            f"Explain why {thing} matters in economics.",
            f"Who was {name}?",
            f"Is {article(thing)} heavier than {article(HELD_HEROES[i])}?",
        )[i % 6]
        out.append(Case({"says so outside its world": lambda r: "tiny demo model" in r[0].text}, [user(ask)]))
    return out


def plans() -> list[Case]:
    """With an effort the reasoning names what the answer then does; without one there is none."""
    out = []
    for i in range(COUNT):
        hero, place, t = HELD_HEROES[i], HELD_PLACES[i], TOOLS[i]
        a, b, n = 2 + i % 9, 3 + i % 7, 1 + i % 7
        offered: list[Item] = []
        turns = [user(f"Tell me a {NUMBERS[n - 1]} sentence story about {article(hero)}.")]
        judge: Judge = lambda r, h=hero, n=n: (  # noqa: E731
            has(r[0].plan, h) and has(r[0].plan, NUMBERS[n - 1]) and has(r[0].text, h) and sentences(r[0].text) == n
        )
        if i % 5 == 1:
            turns = [user(f"I live in {place}."), user("Where do I live?")]
            judge = lambda r, p=place: has(r[1].plan, p) and has(r[1].text, p)  # noqa: E731
        elif i % 5 == 2:
            turns = [user(f"What is {a} + {b}?")]
            judge = lambda r, a=a, b=b: has(r[0].plan, str(a)) and has(r[0].plan, str(b)) and has(r[0].text, str(a + b))  # noqa: E731
        elif i % 5 == 3:
            turns, offered = [user(t.asked(t.values(9)))], among(i, 2)
            judge = lambda r, n=t.name: has(r[0].plan, n) and [c[0] for c in r[0].calls] == [n]  # noqa: E731
        elif i % 5 == 4:
            turns = [user(f"Who invented the {HELD_THINGS[i]}?")]
            judge = lambda r: "know" in r[0].plan and "tiny demo model" in r[0].text  # noqa: E731
        out.append(Case({"reasoning: a true plan, then what it says": judge}, turns, tools=offered, effort="low"))
    return out


def all_cases() -> list[Case]:
    """Every case of every group."""
    return [
        *stories(), *memory(), *tools(), *no_tool(), *parallel(), *results(), *extraction(), *rules(), *copies(),
        *sums(), *beyond(), *plans(),
    ]  # fmt: skip
