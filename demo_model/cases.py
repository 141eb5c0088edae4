"""What the evaluation asks, all about held-out words, and how an answer is judged. It talks to no model.

A case is one conversation: each turn's input is a list of Responses API items, and `judge` sees the replies to all turns.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .stories import NUMBERS
from .words import HELD_HEROES, HELD_KEYS, HELD_NAMES, HELD_PLACES, HELD_THINGS, article

Item = dict[str, Any]


@dataclass
class Reply:
    """What came back: text, (name, arguments) of the calls, and whether it ended by itself."""

    text: str
    calls: list[tuple[str, Any]] = field(default_factory=list)
    complete: bool = True


@dataclass
class Case:
    """One conversation and its judge."""

    task: str
    turns: list[list[Item]]
    judge: Callable[[list[Reply]], bool]
    instructions: str | None = None
    tools: list[Item] = field(default_factory=list)
    schema: dict[str, Any] | None = None


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
    """Every held-out hero, one to seven sentences."""
    out = []
    for i, hero in enumerate(HELD_HEROES):
        n = (3, 1, 2, 3, 4, 5, 3, 6, 7, 3)[i % 10]
        ask = user(f"Tell me a {NUMBERS[n - 1]} sentence bedtime story about {article(hero)}.")
        out.append(Case("story: the asked hero", [ask], lambda r, h=hero: has(r[0].text, h) and r[0].complete))
        out.append(
            Case(
                "story: the asked number of sentences",
                [ask],
                lambda r, n=n: sentences(r[0].text) == n and r[0].complete,
            )
        )
    return out


def memory() -> list[Case]:
    """Names over two turns, two facts over five, facts never told."""
    out = []
    for i, (name, place) in enumerate(zip(HELD_NAMES, HELD_PLACES, strict=True)):
        hello, ask = (f"My name is {name}.", f"I'm {name}.")[i % 2], ("What is my name?", "Who am I?")[i % 3 == 2]
        out.append(Case("name over 2 turns", [user(hello), user(ask)], lambda r, n=name: has(r[1].text, n)))
        out.append(
            Case(
                "name and place over 5 turns",
                [
                    user(hello),
                    user(f"I live in {place}."),
                    user("What is the capital of France?"),
                    user("Where do I live?"),
                    user("What is my name?"),
                ],
                lambda r, n=name, p=place: has(r[3].text, p) and has(r[4].text, n),
            )
        )
        missing = ("What is my favorite color?", "How old am I?", "Where do I live?", "What is my dog's name?")[i % 4]
        out.append(Case("a fact never told", [user(hello), user(missing)], lambda r: "not told me" in r[1].text))
    return out


TOOLS: list[tuple[str, str, dict[str, str], str, dict[str, Any]]] = [
    (
        "book_flight",
        "Book a flight",
        {"destination": "string", "passengers": "integer"},
        "Book a flight to Kyoto for 3 passengers.",
        {"destination": "Kyoto", "passengers": 3},
    ),
    (
        "translate_text",
        "Translate text",
        {"text": "string", "language": "string"},
        "Translate pumpkin lantern to Italian.",
        {"text": "pumpkin lantern", "language": "Italian"},
    ),
    ("set_alarm", "Set an alarm", {"hour": "integer"}, "Set an alarm for hour 7.", {"hour": 7}),
    ("play_song", "Play a song", {"title": "string"}, "Play the song cinnamon hammock.", {"title": "cinnamon hammock"}),
    ("find_recipe", "Find a recipe", {"dish": "string"}, "Find a recipe for lasagna.", {"dish": "lasagna"}),
    (
        "reserve_table",
        "Reserve a table",
        {"restaurant": "string", "guests": "integer"},
        "Reserve a table at Valencia for 4 guests.",
        {"restaurant": "Valencia", "guests": 4},
    ),
    (
        "track_package",
        "Track a package",
        {"tracking_id": "string"},
        "Where is my package ZX-5519?",
        {"tracking_id": "ZX-5519"},
    ),
    (
        "convert_currency",
        "Convert money",
        {"amount": "integer", "currency": "string"},
        "Convert 250 dollars to euros.",
        {"amount": 250, "currency": "euros"},
    ),
    (
        "create_playlist",
        "Create a playlist",
        {"name": "string"},
        "Create a playlist called saxophone.",
        {"name": "saxophone"},
    ),
    (
        "get_stock_price",
        "Get a stock price",
        {"symbol": "string"},
        "What is the stock price of QRTX?",
        {"symbol": "QRTX"},
    ),
    ("turn_on_light", "Turn on a light", {"room": "string"}, "Turn on the light in the kitchen.", {"room": "kitchen"}),
    (
        "rent_car",
        "Rent a car",
        {"city": "string", "days": "integer"},
        "Rent a car in Geneva for 5 days.",
        {"city": "Geneva", "days": 5},
    ),
    ("water_plants", "Water plants", {"plant": "string"}, "Water the cactus.", {"plant": "cactus"}),
    ("order_taxi", "Order a taxi", {"pickup": "string"}, "Order a taxi in Lagos.", {"pickup": "Lagos"}),
    ("check_humidity", "Check the humidity", {"city": "string"}, "What is the humidity in Bergen?", {"city": "Bergen"}),
    (
        "print_label",
        "Print a label",
        {"text": "string", "copies": "integer"},
        "Print the label papaya with 12 copies.",
        {"text": "papaya", "copies": 12},
    ),
    (
        "measure_altitude",
        "Measure the altitude",
        {"place": "string"},
        "Measure the altitude of Quito.",
        {"place": "Quito"},
    ),
    ("start_timer", "Start a timer", {"minutes": "integer"}, "Start a timer with 25 minutes.", {"minutes": 25}),
    (
        "lookup_warranty",
        "Look up a warranty",
        {"serial": "string"},
        "Look up the warranty for KB-90210.",
        {"serial": "KB-90210"},
    ),
    ("paint_wall", "Paint a wall", {"color": "string"}, "Paint the wall turquoise.", {"color": "turquoise"}),
]


def function(name: str, about: str, args: dict[str, str]) -> Item:
    """A function tool in the shape of the Responses API."""
    schema = {
        "type": "object",
        "properties": {k: {"type": v} for k, v in args.items()},
        "required": list(args),
        "additionalProperties": False,
    }
    return {"type": "function", "name": name, "description": about, "parameters": schema, "strict": True}


WEATHER = function("get_weather", "Get current temperature for a given location.", {"location": "string"})


def tools() -> list[Case]:
    """Unseen tools alone and among three, the usual weather tool with unseen cities, no call when none fits."""
    out = []
    shown = [function(n, about, args) for n, about, args, _, _ in TOOLS]
    for i, (name, _, _, ask, values) in enumerate(TOOLS):
        others = [shown[(i + 7) % 20], shown[i], shown[(i + 13) % 20]]
        for task, given in (
            ("unseen tool, alone: exact call", [shown[i]]),
            ("unseen tool among three: exact call", others),
        ):
            out.append(Case(task, [user(ask)], lambda r, want=(name, values): r[0].calls == [want], tools=given))
        out.append(
            Case(
                "unseen tool among three: right tool",
                [user(ask)],
                lambda r, n=name: [c[0] for c in r[0].calls] == [n],
                tools=others,
            )
        )
        ask, place = (
            (f"What is the weather like in {HELD_PLACES[i]} today?", f"How is the weather in {HELD_PLACES[i]}?")[i % 2],
            HELD_PLACES[i],
        )
        out.append(
            Case(
                "get_weather in an unseen city",
                [user(ask)],
                lambda r, p=place: r[0].calls == [("get_weather", {"location": p})],
                tools=[WEATHER],
            )
        )
        idle = (
            "Hello!",
            "What is the capital of Italy?",
            "Who are you?",
            f"My name is {HELD_NAMES[i]}.",
            "Thank you!",
        )[i % 5]
        out.append(
            Case("no call when no tool fits", [user(idle)], lambda r: not r[0].calls and bool(r[0].text), tools=others)
        )
    return out


def results() -> list[Case]:
    """A call and its result are in the input; the answer must hold every value of the result."""
    out = []
    for i, (name, place) in enumerate(zip(HELD_NAMES, HELD_PLACES, strict=True)):
        key, other = HELD_KEYS[i % 10], HELD_KEYS[(i + 3) % 10]
        value: dict[str, Any] = (
            {"temperature": 7 + i, "condition": "sunny"},
            {key: 31 + i, other: HELD_THINGS[i]},
            {key: name},
        )[i % 3]
        items = [
            *user(f"What is the weather like in {place}?"),
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "get_weather",
                "arguments": json.dumps({"location": place}),
            },
            {"type": "function_call_output", "call_id": "call_1", "output": json.dumps(value)},
        ]
        out.append(
            Case(
                "answer from a tool's result",
                [items],
                lambda r, v=value: all(has(r[0].text, str(x)) for x in v.values()),
                tools=[WEATHER],
            )
        )
    return out


def extraction() -> list[Case]:
    """JSON by schema; the object must equal the one asked for."""
    out = []
    for i in range(20):
        n, m, c, t = HELD_NAMES[i], HELD_NAMES[i - 1], HELD_PLACES[i], HELD_THINGS[i]
        text, want = (
            (
                f"{n} and {m} are going to a {t} {HELD_THINGS[i - 1]} on Friday.",
                {"name": f"{t} {HELD_THINGS[i - 1]}", "date": "Friday", "participants": [n, m]},
            ),
            (f"{n} is {21 + i} years old and lives in {c}.", {"name": n, "age": 21 + i, "city": c}),
            (f"{n} ordered {2 + i} {t}s for {40 + i} dollars.", {"customer": n, "quantity": 2 + i, "price": 40 + i}),
            (
                f"The {HELD_KEYS[i % 10]} is {31 + i} and the {HELD_KEYS[(i + 4) % 10]} is {t}.",
                {HELD_KEYS[i % 10]: 31 + i, HELD_KEYS[(i + 4) % 10]: t},
            ),
        )[i % 4]
        out.append(
            Case(
                "JSON by schema: equal object",
                [user(text)],
                lambda r, w=want: loads(r[0].text) == w,
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
    """System prompts, copying, and questions outside its world."""
    out = []
    for i, name in enumerate(HELD_NAMES):
        thing = HELD_THINGS[i]
        rule, ask, judge = (
            (
                "Answer in upper case.",
                "What is the capital of Spain?",
                lambda r: "MADRID" in r[0].text and r[0].text.isupper(),
            ),
            (f"You are {name}, a helpful robot.", "Who are you?", lambda r, n=name: has(r[0].text, n)),
            (
                f"End every answer with: {thing.capitalize()}!",
                "Hello!",
                lambda r, t=thing: r[0].text.endswith(f" {t.capitalize()}!"),
            ),
            ("Talk like a pirate.", f"My name is {name}.", lambda r, n=name: "Arr" in r[0].text and has(r[0].text, n)),
        )[i % 4]
        out.append(Case("system prompt obeyed", [user(ask)], judge, instructions=rule))
        text = f"{thing} {HELD_HEROES[i]} {HELD_PLACES[i]}"
        out.append(
            Case(
                "three unseen words repeated",
                [user(f"Repeat after me: {text}")],
                lambda r, t=text: r[0].text.strip() == t,
            )
        )
        hard = (
            f"Who invented the {thing}?",
            f"Write a Java class for {article(thing)}.",
            f"How many people live in {HELD_PLACES[i]}?",
            f"Explain why {thing} matters in economics.",
            f"Who was {name}?",
        )[i % 5]
        out.append(Case("says so outside its world", [user(hard)], lambda r: "tiny demo model" in r[0].text))
    return out


def all_cases() -> list[Case]:
    """Every case, 20 of each task."""
    return [*stories(), *memory(), *tools(), *results(), *extraction(), *rules()]
