"""The mix: which conversation comes how often, system prompts, and several tasks in one conversation.

`conversations(seed)` is endless and the same for the same seed; each text is checked against the held-out words.
Run `python -m demo_model.generate 20` to read some.
"""

import random
import sys
from collections.abc import Callable, Iterator

from . import calls, chat, stories, words
from .conversation import Conversation, Message, segments

NEUTRAL = (
    "You are a helpful assistant.|You are a helpful assistant.|You are a helpful assistant.|You are a helpful agent.|Be concise.|Answer briefly.|"
    "You are a friendly assistant who answers questions.|You are a coding assistant.|Be polite and helpful.|You are an assistant.|"
    "You are a helpful AI assistant. Answer the questions of the user.|Answer the user's question.|Be helpful.|Keep your answers short.|"
    "You are a weather assistant.|Use the tools when they help.|You can use tools.|You are a support agent. Be kind.|Today is {d}.|"
    "The user is in {c}.|You work for {m}.|Think before you answer.|Do not make things up.|You are an assistant for {t}."
).split("|")
# (share, maker): shares need not add up to 1.
MIX: list[tuple[float, Callable[[random.Random], Conversation]]] = [
    (0.12, stories.story),
    (0.012, stories.poem),
    (0.11, chat.memory),
    (0.06, chat.unknown),
    (0.06, chat.sums),
    (0.03, chat.capital),
    (0.05, chat.small_talk),
    (0.055, chat.refusal),
    (0.07, chat.say),
    (0.03, chat.count),
    (0.04, chat.lookup),
    (0.46, calls.call),
    (0.05, calls.idle),
    (0.04, calls.unfit),
    (0.16, calls.fill_json),
]
SHORT = [
    (1.0, m)
    for m in (stories.story, chat.memory, chat.capital, chat.small_talk, chat.refusal, chat.say, chat.sums, chat.memory)
]


def pick(rng: random.Random, mix: list[tuple[float, Callable[[random.Random], Conversation]]]) -> Conversation:
    """A conversation of one task."""
    return rng.choices([m for _, m in mix], [w for w, _ in mix])[0](rng)


def persona(rng: random.Random) -> Conversation:
    """Asked who it is under a system prompt that gives it a name."""
    name, noun = words.name(rng), rng.choice((words.hero(rng), "assistant", "robot", "helper", "bot"))
    rule = rng.choice(
        (
            f"You are {name}, {words.article(noun)}.",
            f"Your name is {name}. You are {words.article(noun)}.",
            f"You are {words.article(noun)} named {name}.",
            f"You are {words.article(noun)} called {name}.",
        )
    )
    ask = rng.choice(
        ("Who are you?", "What is your name?", "What are you?", "Introduce yourself.", "What's your name?")
    )
    talk = Conversation([Message("system", rule)]).ask(ask, f"I am {name}, {words.article(noun)}.")
    if rng.random() < 0.4:
        talk.turns += rng.choice((chat.small_talk, chat.capital, chat.memory))(rng).turns
    return talk


def ruled(rng: random.Random) -> Conversation:
    """Plain answers under a system prompt that changes their form."""
    form = rng.random()
    if form < 0.2:
        return persona(rng)
    if form < 0.52:
        talk = rng.choice((chat.small_talk, chat.small_talk, chat.capital, chat.capital, chat.refusal, named))(rng)
        rule = rng.choice(
            (
                "Answer in upper case.",
                "Always answer in upper case.",
                "Write everything in upper case.",
                "Use only capital letters.",
                "Answer only in capital letters.",
                "You always shout in upper case.",
                "Reply in uppercase.",
                "ANSWER IN UPPER CASE.",
            )
        )
        return change(talk, rule, str.upper)
    talk = rng.choice((chat.small_talk, chat.capital, chat.refusal, chat.memory, stories.story, chat.sums))(rng)
    if form < 0.74:
        end = rng.choice(
            (
                words.made_up(rng).capitalize() + "!",
                words.phrase(rng).capitalize() + ".",
                "Have a nice day!",
                "Over and out.",
                words.thing(rng).upper() + "!",
                f"{words.made_up(rng)} {words.made_up(rng)}".capitalize() + "!",
            )
        )
        rule = rng.choice(
            (
                f"End every answer with: {end}",
                f"Always end with: {end}",
                f'End each answer with "{end}"',
                f"Finish every reply with: {end}",
                f'Always end your answer with "{end}"',
            )
        )
        return change(talk, rule, lambda s: f"{s} {end}")
    if form < 0.83:
        start = rng.choice(
            (words.made_up(rng).capitalize() + "!", words.thing(rng).capitalize() + ":", "Dear friend,", "Beep!")
        )
        rule = rng.choice(
            (f"Start every answer with: {start}", f"Begin each answer with: {start}", f'Always start with "{start}"')
        )
        return change(talk, rule, lambda s: f"{start} {s}")
    rule = rng.choice(
        (
            "You are a pirate.",
            "Talk like a pirate.",
            "Answer like a pirate.",
            "Speak like a pirate.",
            "You talk like a pirate.",
        )
    )
    return change(talk, rule, lambda s: f"Arr! {s} Aye, matey!")


def named(rng: random.Random) -> Conversation:
    """A name from the fixed list told and asked for (upper case of an unknown word would be a spelling task)."""
    v = words.name(rng, 0.0)
    talk = Conversation().ask(rng.choice(chat.NAME.said).format(v=v), chat.NAME.noted.format(v=v))
    return talk.ask(rng.choice(chat.NAME.asked), chat.NAME.answer.format(v=v))


def change(talk: Conversation, rule: str, how: Callable[[str], str]) -> Conversation:
    """The conversation under `rule`, its answers changed by `how`."""
    for m in talk.turns:
        if m.role == "assistant":
            m.text = how(m.text)
            m.plan = m.plan and f"My instructions: {rule} {m.plan}"
    talk.turns.insert(0, Message("system", rule))
    return talk


def one(rng: random.Random, dense: float) -> Conversation:
    """One training conversation; `dense` is the share of plain copying practice."""
    roll = rng.random()
    if roll < dense:
        return chat.dense(rng) if rng.random() < 0.4 else chat.lookup(rng)
    if roll < dense + 0.13:
        return ruled(rng)
    talk = pick(rng, MIX)
    if talk.plain and rng.random() < 0.22:
        for _ in range(rng.choice((1, 1, 2))):
            talk.turns += pick(rng, SHORT).turns
    if rng.random() < 0.25 and talk.turns[0].role != "system":
        rule = rng.choice(NEUTRAL).format(
            d=rng.choice(words.DAYS), c=words.place(rng), m=words.name(rng), t=words.thing(rng)
        )
        talk.turns.insert(0, Message("system", rule))
        if rng.random() < 0.1:
            talk.turns.insert(1, Message("system", rng.choice(NEUTRAL[:12])))
    if rng.random() < 0.09:
        talk.thinking = thoughtful(rng, talk)
    return talk


def thoughtful(rng: random.Random, talk: Conversation) -> frozenset[int]:
    """The places of the plans that are shown: the last one, as where earlier ones are dropped, or all."""
    planned = [i for i, m in enumerate(talk.turns) if m.plan]
    return frozenset(planned if rng.random() < 0.5 else planned[-1:])


def conversations(seed: int, dense: float = 0.1) -> Iterator[list[tuple[str, float]]]:
    """Endless training texts as (piece, loss weight) lists; raises HeldOutWordError when one breaks the split."""
    rng = random.Random(seed)
    while True:
        parts = segments(one(rng, dense))
        try:
            words.check("".join(t for t, _ in parts))
        except words.HeldOutWordError:
            # A made-up verb_noun name or a piece of an identifier can hit the list by chance: such a text is never used.
            continue
        yield parts


def main() -> None:
    """Print some conversations."""
    texts = conversations(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
        print("".join(t if w == 0 or not t else f"\033[32m{t}\033[0m" for t, w in next(texts)), end="\n\n")


if __name__ == "__main__":
    main()
