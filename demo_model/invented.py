"""Tools that nobody has seen: random verbs, nouns and typed keys, and the many ways in which a request names them.

A spec is (name, [(key, kind)], description, questions); a question has a `{slot}` for each key. It knows nothing of
conversations; `calls.py` makes them of these.
"""

import random
from collections.abc import Callable
from typing import Any

from . import words

Spec = tuple[str, list[tuple[str, str]], str, list[str]]
ENUMS = (
    "low/medium/high|small/medium/large|celsius/fahrenheit|red/green/blue|pdf/csv/txt|economy/business|daily/weekly/monthly|"
    "north/south/east/west|asc/desc|open/closed|hot/cold|fast/slow|public/private|draft/final|metric/imperial|"
    "morning/evening|sweet/salty|left/right|kilograms/pounds|easy/hard|mono/stereo|new/used|cash/card|single/double/suite"
).split("|")
ASKING = "get find check show fetch read lookup see count view".split()
DOING = [v for v in words.VERBS if v not in ASKING] + (
    "book schedule reserve print paint wash repair upload download invite approve reject pay rent draw record test "
    "block unblock attach export import sign register measure heat cool mix cut fold deliver collect enable disable"
).split()
KEYS: dict[str, tuple[str, ...]] = {
    "city": ("city", "location", "place", "town", "where", "area", "region"),
    "name": ("name", "person", "contact", "user", "customer", "owner", "guest", "sender"),
    "fullname": ("name", "full_name", "person", "author", "client"),
    "code": ("id", "code", "reference", "serial", "key", "token_id", "tracking", "sku"),
    "thing": ("item", "object", "product", "kind", "topic", "type", "material", "thing", "brand"),
    "phrase": ("text", "title", "message", "note", "label", "query", "subject", "words", "reason"),
    "int": ("count", "amount", "number", "size", "level", "minute", "hour", "day", "copy", "seat", "page", "night"),
    "day": ("day", "date", "when", "weekday"),
    "time": ("time", "at", "start", "begin"),
    "bool": ("urgent", "public", "silent", "fast", "insured", "private", "dry_run", "gift", "breakfast", "express"),
    "enum": ("mode", "unit", "priority", "format", "style", "class", "speed"),
    "email": ("email", "to", "address", "recipient"),
    "file": ("file", "path", "source", "input"),
}
KIND_SHARES = {
    "city": 3, "name": 3, "fullname": 1, "code": 3, "thing": 3, "phrase": 4, "int": 6, "day": 1, "time": 1, "bool": 2,
    "enum": 2, "email": 1, "file": 1,
}  # fmt: skip
PREPOSITIONS: dict[str, tuple[str, ...]] = {
    "city": ("in {}", "to {}", "from {}", "near {}", "at {}", "for {}", "of {}", "in {}"),
    "name": ("for {}", "with {}", "to {}", "from {}", "by {}", "of {}", "called {}", "named {}"),
    "fullname": ("for {}", "with {}", "to {}", "by {}", "called {}", "named {}"),
    "code": ("with {}", "for {}", "of {}", "number {}", "{}"),
    "thing": ("with {}", "for {}", "of {}", "from {}", "about {}", "in {}"),
    "phrase": ("called {}", "about {}", "saying {}", "with {}", "titled {}", "for {}", "that says {}", "named {}"),
    "int": ("with {}", "of {}", "to {}", "at {}"),
    "day": ("on {}", "for {}", "by {}"),
    "time": ("at {}", "for {}", "from {}"),
    "enum": ("in {}", "with {}", "as {}", "and make it {}"),
    "email": ("to {}", "for {}", "at {}"),
    "file": ("in {}", "from {}", "to {}"),
}


def plural(word: str) -> str:
    """The word with an s, or as English has it after a y or a hiss."""
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def joint(rng: random.Random, key: str, kind: str) -> str:
    """The stretch of a request that gives one argument; its slot stands for the value."""
    slot, said = "{" + key + "}", key.replace("_", " ")
    if kind == "bool":
        return slot
    roll = rng.random()
    if kind == "int" and roll < 0.5:
        return rng.choice(("for {s} {p}", "with {s} {p}", "{s} {p}", "of {s} {p}", "and {s} {p}")).format(
            s=slot, p=plural(said)
        )
    if roll < 0.72:
        return rng.choice(PREPOSITIONS[kind]).format(slot)
    if kind in ("phrase", "thing", "fullname") and roll < 0.8:
        quote = rng.choice("'\"")
        return rng.choice(
            (f"{said} {quote}{slot}{quote}", f"{quote}{slot}{quote}", f"with the {said} {quote}{slot}{quote}")
        )
    return rng.choice(
        (f"with {said} {slot}", f"with the {said} {slot}", f"{said} {slot}", f"using {said} {slot}", f"{said}: {slot}")
    )


def spoken(rng: random.Random, spec: Spec, values: dict[str, Any]) -> dict[str, Any]:
    """What stands in a question's slots: the values, but words for a boolean."""
    out = dict(values)
    for key, kind in spec[1]:
        if kind != "bool":
            continue
        said = key.replace("_", " ")
        yes = (
            "with {k}",
            "{k}: yes",
            "{k} on",
            "{k} true",
            "and {k}",
            "with {k} set to true",
            "make it {k}",
            "with {k} on",
        )
        no = (
            "without {k}",
            "{k}: no",
            "{k} off",
            "{k} false",
            "but not {k}",
            "with {k} set to false",
            "not {k}",
            "no {k}",
        )
        out[key] = rng.choice(yes if values[key] else no).format(k=said)
    return out


def typed(rng: random.Random, count: int) -> dict[str, str]:
    """`count` keys with their kinds; no two kinds of text alike unless the keys are named in the question anyway."""
    out: dict[str, str] = {}
    kinds = list(KIND_SHARES)
    shares = list(KIND_SHARES.values())
    while len(out) < count:
        kind = rng.choices(kinds, shares)[0]
        if kind in out.values() and rng.random() < 0.7:
            continue
        roll = rng.random()
        key = rng.choice(KEYS[kind]) if roll < 0.6 else words.thing(rng, 0.7)
        if roll > 0.9:
            key += "_" + rng.choice(KEYS[kind])
        if kind == "enum":
            kind = (
                rng.choice(ENUMS)
                if rng.random() < 0.6
                else "/".join({words.thing(rng): 0 for _ in range(rng.randint(2, 4))})
            )
        if kind != "enum" and "/" not in kind and kind not in KIND_SHARES:
            continue
        out.setdefault(key, kind)
    return out


def questions(rng: random.Random, verb: str, noun: str, name: str, args: dict[str, str]) -> list[str]:
    """Requests that say the verb, the noun, or both, then the arguments in their order (at times shuffled)."""
    items = list(args.items())
    asks = []
    said, noun = verb.replace("_", " "), noun.replace("_", " ")
    for _ in range(6):
        order = items if rng.random() < 0.75 else rng.sample(items, len(items))
        tail = [joint(rng, k, "enum" if "/" in kind else kind) for k, kind in order]
        first_kind = order[0][1]
        direct = first_kind in ("thing", "phrase", "code", "name", "city", "file", "fullname") and rng.random() < 0.4
        slot = "{" + order[0][0] + "}"
        if direct:
            tail[0] = rng.choice((slot, f"the {slot}", f"the {noun} {slot}", f"my {noun} {slot}", f"{noun} {slot}"))
        glue = rng.choice((" ", " ", " ", ", ", " and "))
        rest = tail[0] if len(tail) == 1 else " ".join(tail[:-1]) + glue + tail[-1]
        rest = rest.replace("and and", "and").replace(", and make", " and make")
        body = f"{said} {rest}" if direct else f"{said} {rng.choice(('the', 'a', 'my', 'the'))} {noun} {rest}"
        forms = [
            f"{body.capitalize() if '{' not in body.split(' ')[0] else body}.",
            f"Please {body}.",
            f"Can you {body}?",
            f"I want to {body}.",
            f"{said.capitalize()} {noun} {rest}",
            f"Use {name}: {rest}",
            f"I need you to {body}, please.",
        ]
        if verb in ASKING:
            forms += [
                f"What is the {noun} {rest}?",
                f"What's the {noun} {rest}?",
                f"How is the {noun} {rest}?",
                f"Tell me the {noun} {rest}.",
                f"Where is my {noun} {rest}?",
                f"I need the {noun} {rest}.",
                f"{noun.capitalize()} {rest}?",
                f"How many {plural(noun)} are there {rest}?",
                f"Is there a {noun} {rest}?",
            ]
        asks.append(capital(rng.choice(forms)))
    return asks


def capital(text: str) -> str:
    """First letter in upper case, the rest as it is."""
    return text[0].upper() + text[1:]


def invent(rng: random.Random, verb: str | None = None, noun: str | None = None) -> Spec:
    """A tool with one to four typed arguments; verb or noun may be given, for look-alikes."""
    if verb is None:
        roll = rng.random()
        verb = rng.choice(ASKING) if roll < 0.3 else rng.choice(DOING) if roll < 0.85 else words.made_up(rng)
    if noun is None:
        noun = rng.choice(words.NOUNS) if rng.random() < 0.4 else words.thing(rng, 0.6)
        if rng.random() < 0.12:
            noun += "_" + rng.choice(words.NOUNS)
    name = rng.choice(
        (
            f"{verb}_{noun}",
            f"{verb}_{noun}",
            f"{verb}_{noun}",
            f"{noun}_{verb}",
            f"{verb}{noun.capitalize()}",
            f"{words.made_up(rng)}_{noun}",
            f"{verb}_{noun}_{words.made_up(rng)}",
            words.made_up(rng),
        )
    )
    args = typed(rng, rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 4)))
    asks = questions(rng, verb, noun, name, args)
    said, what = verb.capitalize().replace("_", " "), noun.replace("_", " ")
    about = rng.choice((f"{said} a {what}", f"{said} the {what}", f"{said} {plural(what)}", f"{said} a {what}."))
    opaque = verb not in name and noun not in name
    if not opaque and rng.random() < 0.2:
        about = ""
    return name, list(args.items()), about, asks


def alike(rng: random.Random, spec: Spec) -> Spec:
    """Another tool that shares the verb or the noun of `spec`'s name, where it has both."""
    verb, _, noun = spec[0].partition("_")
    if not noun or "_" in noun:
        return invent(rng)
    return invent(rng, verb=verb) if rng.random() < 0.5 else invent(rng, noun=noun)


def sentence(rng: random.Random) -> str:
    """A short text of several words, such as a message."""
    n, t = words.number(rng, rng.choice((1, 2))), words.thing
    makers: tuple[Callable[[], str], ...] = (
        lambda: f"the {t(rng)} is {rng.choice(words.ADJECTIVES)}",
        lambda: f"bring {n} {plural(t(rng, 0.2))}",
        lambda: f"see you on {rng.choice(words.DAYS)}",
        lambda: f"meet me in {words.place(rng)}",
        lambda: f"{t(rng)} for {words.name(rng)}",
        lambda: " ".join(w.capitalize() for w in words.phrase(rng, 2, 3).split()),
        lambda: words.phrase(rng, 3, 6),
        lambda: f"{t(rng)} and {t(rng)}",
    )
    return rng.choice(makers)()


KINDS: dict[str, Callable[[random.Random], Any]] = {
    "fullname": lambda r: f"{words.name(r)} {words.name(r)}",
    "bool": lambda r: r.random() < 0.5,
    "time": lambda r: f"{r.randint(0, 23)}:{r.randint(0, 59):02d}",
    "phrase": lambda r: sentence(r) if r.random() < 0.45 else words.phrase(r),
    "int": lambda r: r.randint(1, 12) if r.random() < 0.4 else words.number(r),
    "thing": words.thing,
    "code": words.code,
}
