"""Stories of one to seven sentences and short poems about any hero. It knows nothing of other tasks."""

import random
from dataclasses import dataclass

from . import words
from .conversation import Conversation

PLACES = (
    "a quiet forest|a small village|a tall tree|a cave by the sea|a sunny meadow|a snowy mountain|a little house|a big castle|"
    "a deep valley|a green garden|an old barn|a city by the river|a desert far away|a cozy cottage|a land of clouds|"
    "a tiny island|a windy hill|a busy town|a hidden lake|a field of flowers"
).split("|")
FINDS = (
    "a golden key|a shiny stone|a broken kite|an old map|a lost kitten|a silver bell|a tiny seed|a magic lamp|a red balloon|"
    "a warm blanket|a secret door|a jar of honey|a letter from a friend|a glowing feather|a wooden boat|a basket of apples"
).split("|")
FRIENDS = "a shy mouse|a wise owl|a funny frog|a kind bear|a little star|a lost lamb|an old turtle|a tiny bird|a young fox".split(
    "|"
)
# The first words of a story tell its length, and the first words of a later sentence tell how many are still to come: counting
# to seven is then one look at the asked number, and after that a look at the sentence before.
OPENINGS = {
    2: (
        "There once was {A} who could not fall asleep.",
        "There once was {A} with a very big dream.",
        "There once was {A} in {place}.",
    ),
    3: ("Once upon a time, {A} lived in {place}.", "Once upon a time, there was {A} who lived in {place}."),
    4: ("Long ago, {A} lived in {place}.", "Long ago, there was {A} who loved the moon."),
    5: ("Far away, in {place}, lived {A} who loved the moon.", "Far away, in {place}, there lived {A}."),
    6: ("In {place}, there lived {A}.", "In {place}, there was {A} with a very big dream."),
    7: (
        "Every child knows the story of {A} who lived in {place}.",
        "Every child knows the story of {A} with a very big dream.",
    ),
}
STARTS = {3: "One day,", 4: "One morning,", 5: "One evening,", 6: "One night,", 7: "One rainy day,"}
SECOND = (
    "{W} {H} found {find}.",
    "{W} {H} met {friend}.",
    "{W} {H} watched the clouds and made a wish.",
    "{W} {H} heard a soft sound outside.",
    "{W} {H} followed a trail of light.",
    "{W} {H} met {friend} who needed help.",
    "{W} {H} found {find} under a leaf.",
    "{W} {H} sang a song to the sky.",
    "{W} {H} went for a long walk in {place2}.",
)
LATER = (
    "{W} {H} danced under the silver moon.",
    "{W} {H} shared it with everyone.",
    "{W} a gentle wind carried {H} over the hills.",
    "{W} {H} was a little afraid but went on.",
    "{W} all the animals came to listen.",
    "{W} {H} and the moon became good friends.",
    "{W} {H} found the way home.",
    "{W} {H} learned that being kind is the best magic of all.",
    "{W} {H} laughed and felt brave and happy.",
    "{W} {H} met {friend} who wanted to play.",
    "{W} {H} found {find} by the road.",
    "{W} the stars shone brightly for {H}.",
)
WHEN = ("Later,", "After that,", "Soon", "Then")
ENDINGS = (
    "At last, {H} curled up in a cozy bed and fell fast asleep.",
    "At last, {H} smiled and slept until the morning.",
    "At last, {H} closed both eyes and had the sweetest dream.",
    "In the end, {H} was never lonely again.",
    "In the end, {H} went home and slept under the stars.",
    "In the end, {H} yawned and fell asleep.",
    "And {H} lived happily ever after.",
)
SINGLE = (
    "Under the silver moon, {A} found {find} in {place} and fell asleep with a happy smile.",
    "Under the silver moon, {A} drifted off to sleep in {place}, dreaming of gentle stars.",
    "Under the silver moon, {A} met {friend} in {place}, and they were friends ever after.",
    "Under the silver moon, {A} sang in {place} until all the stars fell asleep.",
)
POEM = (
    (
        "The {h} walks in morning light,",
        "It sings a song, it feels just right,",
        "The sun goes down, the stars are near,",
        "Good night, dear {h}, have no fear.",
    ),
    (
        "Oh little {h}, soft and slow,",
        "You dance wherever breezes blow,",
        "The moon above will light your way,",
        "And you will wake to a brand new day.",
    ),
)
HAIKU = (
    "Quiet {h} at dawn,\nsoft light falls upon the hills,\nthe day begins now.",
    "A {h} in the rain,\nsmall drops fall on silver leaves,\nnight is warm and still.",
)
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven")
KINDS = ("story", "bedtime story", "short story", "little story", "fairy tale", "tale")


@dataclass(frozen=True)
class Hero:
    """How a hero is asked for, brought in and spoken of later."""

    asked: str
    first: str
    later: str


def pick_hero(rng: random.Random) -> Hero:
    """A hero: a noun, perhaps with an adjective, a name, or a name alone."""
    noun = words.hero(rng)
    form = rng.random()
    if form < 0.68:
        first = words.article(noun)
        return Hero(first, first, f"the {noun}")
    if form < 0.8:
        first = words.article(f"{rng.choice(words.ADJECTIVES)} {noun}")
        return Hero(first, first, f"the {noun}")
    name = words.name(rng)
    if form < 0.92:
        asked = f"{words.article(noun)} {rng.choice(('named', 'called'))} {name}"
        return Hero(asked, f"{words.article(noun)} named {name}", name)
    return Hero(f"{name} the {noun}", f"{words.article(noun)} named {name}", name)


def tell(rng: random.Random, hero: Hero, count: int) -> str:
    """A story of exactly `count` sentences, 1 to 7."""
    if count == 1:
        plan = [rng.choice(SINGLE)]
    else:
        plan = [rng.choice(OPENINGS[count])]
        if count > 2:
            starts = [STARTS[count], *WHEN[len(WHEN) - (count - 3) :]]
            lines = [rng.choice(SECOND), *rng.sample(LATER, count - 3)]
            plan += [line.replace("{W}", start) for line, start in zip(lines, starts, strict=True)]
        plan.append(rng.choice(ENDINGS))
    slots = {
        "A": hero.first,
        "place": rng.choice(PLACES),
        "place2": rng.choice(PLACES),
        "find": rng.choice(FINDS),
        "friend": rng.choice(FRIENDS),
    }
    return " ".join(line.format(H=hero.later, **slots) for line in plan)


def request(rng: random.Random, asked: str, count: int | None, kind: str) -> str:
    """The user's words for a story."""
    if count is None:
        ask = rng.choice(
            (
                "Tell me a {k} about {a}.",
                "Write a {k} about {a}.",
                "Can you tell me a {k} about {a}?",
                "I want a {k} about {a}.",
                "Please tell me a {k} about {a}.",
            )
        )
        return ask.format(k=kind, a=asked)
    n = NUMBERS[count - 1] if rng.random() < 0.7 else str(count)
    s = "sentence" if count == 1 else "sentences"
    art = "an" if n in ("8", "eight") else "a"
    ask = rng.choice(
        (
            "Tell me {art} {n} sentence {k} about {a}.",
            "Tell me {art} {n}-sentence {k} about {a}.",
            "Write {art} {n}-sentence {k} about {a}.",
            "Write {art} {n} sentence {k} about {a}.",
            "Tell me a {k} about {a} in {n} {s}.",
            "Write a {k} about {a} in {n} {s}.",
            "Please write a {k} with {n} {s} about {a}.",
            "Can you tell me a {n} sentence {k} about {a}?",
            "In {n} {s}, tell me a {k} about {a}.",
        )
    )
    return ask.format(art=art, n=n, s=s, k=kind, a=asked)


def plan_of(hero: Hero, count: int | None) -> str:
    """What a thoughtful teller notes first."""
    n = count or 3
    return f"I tell a story about {hero.asked} in {NUMBERS[n - 1]} {'sentence' if n == 1 else 'sentences'}."


def story(rng: random.Random) -> Conversation:
    """A story, at times followed by another one about a new hero."""
    talk = Conversation()
    count = rng.choice((None, None, 1, 1, 2, 2, 3, 3, 3, 4, 5, 6, 7))
    kind = rng.choice(KINDS) if count is None or rng.random() < 0.6 else rng.choice(KINDS[:2])
    hero = pick_hero(rng)
    talk.ask(request(rng, hero.asked, count, kind), tell(rng, hero, count or 3), plan_of(hero, count))
    while rng.random() < 0.2 and len(talk.turns) < 6:
        hero = pick_hero(rng)
        ask = rng.choice(
            ("Now tell me one about {a}.", "Now one about {a}.", "Another one about {a}, please.", "And about {a}?")
        )
        talk.ask(ask.format(a=hero.asked), tell(rng, hero, count or 3), plan_of(hero, count))
    return talk


def poem(rng: random.Random) -> Conversation:
    """A four-line poem or a haiku."""
    word = words.hero(rng)
    if rng.random() < 0.4:
        ask = rng.choice(("Write a haiku about {a}.", "Write me a haiku about {a}.", "A haiku about {a}, please."))
        text = rng.choice(HAIKU)
    else:
        ask = rng.choice(
            ("Write a poem about {a}.", "Write a short poem about {a}.", "Can you write a poem about {a}?")
        )
        text = "\n".join(rng.choice(POEM))
    return Conversation().ask(ask.format(a=words.article(word)), text.format(h=word))
