"""Talk without tools: memory, facts, copying, sums, small talk, refusals. It knows nothing of tools or JSON."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from . import words
from .conversation import Conversation, Message

REFUSAL = "Sorry, that is beyond what this tiny demo model can do. Please connect a bigger model for that."
NO_TOOL = "Sorry, none of my tools can do that."
WHO = "I am antiphon-demo, a tiny model for trying out this API."
CAN = (
    "I can tell short stories, remember what you tell me, call tools, fill in JSON and repeat words. "
    "I am a tiny demo model, so please connect a bigger model for real questions."
)
CAPITALS = dict(
    p.split(":")
    for p in (
        "France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|England:London|Ireland:Dublin|Norway:Oslo|Sweden:Stockholm|"
        "Finland:Helsinki|Denmark:Copenhagen|Greece:Athens|Poland:Warsaw|Hungary:Budapest|Austria:Vienna|Belgium:Brussels|"
        "the Netherlands:Amsterdam|Switzerland:Bern|Russia:Moscow|Ukraine:Kyiv|Turkey:Ankara|Egypt:Cairo|Japan:Tokyo|China:Beijing|"
        "South Korea:Seoul|India:New Delhi|Thailand:Bangkok|Vietnam:Hanoi|Australia:Canberra|New Zealand:Wellington|Canada:Ottawa|"
        "the United States:Washington|Mexico:Mexico City|Cuba:Havana|Peru:Lima|Chile:Santiago|Argentina:Buenos Aires|Scotland:Edinburgh|"
        "Brazil:Brasilia|the United Kingdom:London|Romania:Bucharest|Serbia:Belgrade|Bulgaria:Sofia|Tunisia:Tunis|Ghana:Accra"
    ).split("|")
)


@dataclass(frozen=True)
class Fact:
    """A kind of fact about the user: how it is said, asked for, answered, taken note of and missed."""

    said: tuple[str, ...]
    asked: tuple[str, ...]
    answer: str
    noted: str
    missing: str
    value: Callable[[random.Random], str]


NAME = Fact(
    (
        "My name is {v}.",
        "My name is {v}.",
        "I am {v}.",
        "I'm {v}.",
        "Hi, I'm {v}.",
        "Hello, my name is {v}.",
        "Hi, my name is {v}.",
        "Call me {v}.",
        "You can call me {v}.",
        "Hello! I am {v}.",
    ),
    (
        "What is my name?",
        "What's my name?",
        "Who am I?",
        "Do you remember my name?",
        "Can you tell me my name?",
        "What was my name again?",
        "What is my name",
    ),
    "Your name is {v}.",
    "Nice to meet you, {v}! How can I help you today?",
    "You have not told me your name yet.",
    words.name,
)
HOME = Fact(
    ("I live in {v}.", "I am from {v}.", "My home is in {v}.", "I live in {v} now."),
    ("Where do I live?", "What city do I live in?", "Do you remember where I live?", "Which city am I in?"),
    "You live in {v}.",
    "Got it, you live in {v}.",
    "You have not told me where you live yet.",
    words.place,
)
JOB = Fact(
    ("I work as a {v}.", "My job is {v}.", "I am a {v}."),
    ("What is my job?", "What do I do for work?", "What do I work as?"),
    "Your job is {v}.",
    "Got it, your job is {v}.",
    "You have not told me your job yet.",
    lambda r: r.choice(words.JOBS),
)
AGE = Fact(
    ("I am {v} years old.", "I'm {v} years old.", "My age is {v}."),
    ("How old am I?", "What is my age?"),
    "You are {v} years old.",
    "Got it, you are {v} years old.",
    "You have not told me your age yet.",
    lambda r: str(r.randint(5, 99)),
)
LIKE = Fact(
    ("I like {v}.", "I really like {v}.", "I love {v}."),
    ("What do I like?", "Do you remember what I like?", "What do I love?"),
    "You like {v}.",
    "Got it, you like {v}.",
    "You have not told me what you like yet.",
    lambda r: r.choice(words.HOBBIES + words.FOODS) if r.random() < 0.5 else words.made_up(r),
)
FAVORITES: dict[str, Callable[[random.Random], str]] = {
    "color": lambda r: r.choice(words.COLORS) if r.random() < 0.7 else words.made_up(r),
    "food": lambda r: r.choice(words.FOODS) if r.random() < 0.6 else words.made_up(r),
    "animal": words.hero,
    "city": words.place,
    "sport": lambda r: r.choice(words.SPORTS),
    "number": lambda r: str(words.number(r)),
    "day": lambda r: r.choice(words.DAYS),
    "month": lambda r: r.choice(words.MONTHS),
    "book": words.phrase,
    "song": words.phrase,
    "hobby": lambda r: r.choice(words.HOBBIES),
    "fruit": words.thing,
    "word": words.thing,
}
OWNED: dict[str, Callable[[random.Random], str]] = {
    "dog": words.name,
    "cat": words.name,
    "sister": words.name,
    "brother": words.name,
    "friend": words.name,
    "boss": words.name,
    "order number": words.code,
    "code": words.code,
    "room number": lambda r: str(words.number(r)),
    "email": words.email,
    "secret word": words.thing,
    "lucky number": lambda r: str(words.number(r)),
    "ticket": words.code,
}


def favorite(noun: str, value: Callable[[random.Random], str]) -> Fact:
    """The fact `my favorite <noun>`."""
    f = f"favorite {noun}"
    return Fact(
        (
            f"My {f} is {{v}}.",
            f"My {f} is {{v}}.",
            f"Remember that my {f} is {{v}}.",
            *((f"My {f} is the {{v}}.",) * 2 if noun == "animal" else ()),
        ),
        (f"What is my {f}?", f"What's my {f}?", f"Do you remember my {f}?", f"Tell me my {f}."),
        f"Your {f} is {{v}}.",
        f"Got it, your {f} is {{v}}.",
        f"You have not told me your {f} yet.",
        value,
    )


def owned(noun: str, value: Callable[[random.Random], str]) -> Fact:
    """The fact `my <noun> is <value>`, where the value is a name or an identifier."""
    what = f"{noun}'s name" if value is words.name else noun
    said = (f"My {what} is {{v}}.", f"My {noun} is called {{v}}." if value is words.name else f"My {noun} is {{v}}.")
    return Fact(
        said,
        (f"What is my {what}?", f"What's my {what}?", f"Do you remember my {what}?", f"Tell me my {what}."),
        f"Your {what} is {{v}}.",
        f"Got it, your {what} is {{v}}.",
        f"You have not told me your {what} yet.",
        value,
    )


def facts(rng: random.Random, count: int) -> list[Fact]:
    """Different kinds of facts; the name comes often."""
    out = [NAME] if rng.random() < 0.5 else []
    pool = [HOME, HOME, JOB, AGE, LIKE, *(favorite(n, FAVORITES[n]) for n in rng.sample(list(FAVORITES), 3))]
    pool += [owned(n, OWNED[n]) for n in rng.sample(list(OWNED), 3)]
    if rng.random() < 0.3:
        pool.append(favorite(words.made_up(rng), words.thing))
    if rng.random() < 0.2:
        pool.append(owned(words.thing(rng), rng.choice((words.name, words.code, words.thing))))
    rest = list(dict.fromkeys(rng.sample(pool, count + 1)))
    return (out + rest)[:count]


def distraction(rng: random.Random) -> Conversation:
    """Something short between two facts."""
    return rng.choice((small_talk, capital, sums, say, refusal))(rng)


def note(talk: Conversation, fact: Fact, value: str, rng: random.Random) -> None:
    """The user tells a fact."""
    talk.ask(rng.choice(fact.said).format(v=value), fact.noted.format(v=value), f"The user tells me: {value}.")


def recall(talk: Conversation, fact: Fact, value: str, rng: random.Random) -> None:
    """The user asks for a fact told before."""
    talk.ask(rng.choice(fact.asked), fact.answer.format(v=value), f"The user told me before: {value}.")


def memory(rng: random.Random) -> Conversation:
    """One to four facts told, other turns between, some asked for again."""
    talk, kinds = Conversation(), facts(rng, rng.choice((1, 1, 1, 2, 2, 3, 3, 4)))
    known = [(f, f.value(rng)) for f in kinds]
    if len(known) == 2 and rng.random() < 0.35:
        a, b = (rng.choice(f.said[:2]).format(v=v).rstrip(".") for f, v in known)
        b = b if b[:2] in ("I ", "I'") else b[0].lower() + b[1:]
        talk.ask(f"{a} and {b}.", known[0][0].noted.format(v=known[0][1]), f"The user tells me: {known[0][1]}.")
    elif rng.random() < 0.12 and len(known) == 1:
        fact, v = known[0]
        question = f"{rng.choice(fact.said).format(v=v)} {rng.choice(fact.asked)}"
        return talk.ask(question, fact.answer.format(v=v), f"The user told me before: {v}.")
    else:
        for fact, v in known:
            note(talk, fact, v, rng)
            if rng.random() < 0.2:
                talk.turns += distraction(rng).turns
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        talk.turns += distraction(rng).turns
    for fact, v in rng.sample(known, rng.randint(1, len(known))):
        recall(talk, fact, v, rng)
    return talk


def unknown(rng: random.Random) -> Conversation:
    """A fact asked for that was never told, at times after others that were."""
    talk, kinds = Conversation(), facts(rng, rng.choice((2, 2, 3, 4)))
    rng.shuffle(kinds)
    asked, *told = kinds
    known = [(f, f.value(rng)) for f in told] if rng.random() < 0.7 else []
    for fact, v in known:
        note(talk, fact, v, rng)
    if rng.random() < 0.2:
        talk.turns += distraction(rng).turns
    talk.ask(rng.choice(asked.asked), asked.missing, "The user did not tell me this.")
    if known and rng.random() < 0.3:
        recall(talk, *rng.choice(known), rng)
    return talk


def capital(rng: random.Random) -> Conversation:
    """The capital of a country of a fixed table."""
    country = rng.choice(list(CAPITALS))
    ask = rng.choice(
        (
            "What is the capital of {c}?",
            "What's the capital of {c}?",
            "Which city is the capital of {c}?",
            "Tell me the capital of {c}.",
            "Capital of {c}?",
        )
    )
    answer = f"The capital of {country} is {CAPITALS[country]}."
    return Conversation().ask(ask.format(c=country), answer, f"The user asks for the capital of {country}.")


def sums(rng: random.Random) -> Conversation:
    """One to five additions or subtractions of numbers up to 20."""
    talk = Conversation()
    for _ in range(rng.choice((1, 1, 2, 3, 4, 5))):
        a, b = rng.randint(0, 20), rng.randint(0, 20)
        if rng.random() < 0.6:
            a = min(a, 20 - b) if rng.random() < 0.75 else a
            expr, right, plan = f"{a} + {b}", a + b, f"I add {a} and {b}."
            said = (f"{a} plus {b}", f"the sum of {a} and {b}", expr, expr, f"{a}+{b}")
        else:
            a, b = max(a, b), min(a, b)
            expr, right, plan = f"{a} - {b}", a - b, f"I take {b} from {a}."
            said = (f"{a} minus {b}", expr, expr, f"{a}-{b}")
        ask = rng.choice(
            ("What is {e}?", "What is {e}?", "What's {e}?", "{e} = ?", "How much is {e}?", "Calculate {e}.", "{e}")
        )
        talk.ask(ask.format(e=rng.choice(said)), f"{expr} = {right}.", plan)
    return talk


SMALL = {
    "Hello!|Hi!|Hello|Hi|Hey!|Hey|Hi there!|Hello there!|Good morning!|Good evening!|hello|hi": "Hello! How can I help you today?",
    "How are you?|How are you today?|How do you do?|How is it going?": "I am fine, thank you! How can I help you today?",
    "Thank you!|Thanks!|Thank you very much!|Thanks a lot!|Great, thanks!": "You are welcome!",
    "Goodbye!|Bye!|See you later!|Good night!": "Goodbye! Have a nice day!",
    "Who are you?|What are you?|What is your name?|Which model are you?|Are you ChatGPT?|Introduce yourself.|What model is this?": WHO,
    "What can you do?|Help!|How can you help me?|What do you know?|Can you help me?": CAN,
    "Tell me a joke.|Tell me a joke|Can you tell me a joke?|Do you know a joke?|Make me laugh.": "Why did the tiny model cross the road? It was trained on the other side.",
    "ok|OK|Okay.|Good.|Nice!|Great!|Cool!|Yes.|No.": "Is there anything else I can do for you?",
    "test|Test|This is a test.|testing|ping|Ping": "Test received. Everything works!",
    "Say hello.|Say hello!|Say hi.": "Hello!",
}
HARD = (
    "Who won the {y} World Cup?|Explain quantum physics.|Write a Python function that sorts a list.|What is the meaning of life?|"
    "How does a computer work?|What is the speed of light?|Who wrote {t}?|Translate {t} to French.|Who is the president of {c}?|"
    "What happened in {y}?|How do I cook {t}?|Why is the sky blue?|What is machine learning?|Summarize the news.|What time is it?|"
    "How many people live in {c}?|What is the population of {c}?|Write an essay about {t}.|Explain {t} to me.|What is a {t}?|"
    "How do I install {t}?|Fix my code.|What is the square root of {n}?|Who invented the {t}?|Which {t} should I buy?|"
    "What do you think about {t}?|Can you explain how {t} works?|Why do people like {t}?|How tall is {m}?|Who was {m}?|Who is {m}?|"
    "What is the best {t} in {c}?|Write a letter to {m}.|What is the history of {c}?|How far is {c} from {c2}?|Is {t} better than {t2}?|"
    "Are semicolons optional in JavaScript?|Write a SQL query for {t}.|What is the weather like in {c}?|What does {t} mean?|"
    "Give me a recipe for {t}.|What are the symptoms of {t}?|Plan a trip to {c}.|What is in this image?|Describe this picture.|"
    "How much does a {t} cost?|When was {m} born?|What is {n} times {n2}?|Prove that {t} is {t2}.|Recommend a good {t}.|"
    "How much gold would it take to coat the {t}?|Compare {t} and {t2}.|Search the web for {t}.|What is the latest news about {t}?|"
    "Explain the theory of {t}.|Explain how {t} helps {t2}.|Explain why {m} likes {t}.|Why is {t} important for {t2}?|Describe the role of {t} in {c}.|"
    "Write a {t} program in C.|Write a Rust struct for {t}.|Write a Python class about {t}.|Write a function for {a}.|Is {a} bigger than {a2}?|"
    "Does {a} weigh more than {a2}?|Discuss {t} in history.|Explain what makes {t} useful in {t2}.|Who discovered the {t}?|Who built {c}?|"
    "How old is {c}?|Which is faster, {a} or {a2}?|What did {m} do?|Tell me about {m}.|Tell me about {c}.|Analyze {t}.|"
    "Write code that prints {t}.|What causes {t}?|How can I learn {t}?|Debug this error."
).split("|")


def small_talk(rng: random.Random) -> Conversation:
    """Greetings, thanks, who are you."""
    asks, answer = rng.choice(list(SMALL.items()))
    plan = "The user asks what I am." if answer in (WHO, CAN) else "This is small talk."
    return Conversation().ask(rng.choice(asks.split("|")), answer, plan)


def refusal(rng: random.Random) -> Conversation:
    """A question outside its world and the honest answer."""
    slots = {
        "y": rng.randint(1900, 2026),
        "t": words.phrase(rng, 1, 2),
        "t2": words.thing(rng),
        "a": words.article(words.thing(rng)),
        "a2": words.article(words.hero(rng)),
        "c": words.place(rng),
        "c2": words.place(rng),
        "n": rng.randint(20, 999),
        "n2": rng.randint(20, 999),
        "m": words.name(rng),
    }
    return Conversation().ask(rng.choice(HARD).format(**slots), REFUSAL, "I do not know this, so I say so.")


def say(rng: random.Random) -> Conversation:
    """Text to be said again as it is, a count or a list."""
    form = rng.random()
    if form < 0.1:
        return count(rng)
    if form < 0.2:
        n, kind = rng.randint(2, 5), rng.choice(("colors", "animals", "fruits", "names", "days"))
        pool = {
            "colors": words.COLORS,
            "animals": words.HELD_SAFE_ANIMALS[:60],
            "names": words.NAMES[:60],
            "days": words.DAYS,
            "fruits": "apple banana orange lemon cherry grape melon peach plum mango pear kiwi".split(),
        }[kind]
        word = ("two", "three", "four", "five")[n - 2] if rng.random() < 0.6 else str(n)
        ask = rng.choice((f"List {word} {kind}.", f"Name {word} {kind}.", f"Give me {word} {kind}."))
        # In one fixed order from any start: what comes next is known, so that nothing comes twice.
        start = rng.randrange(min(len(pool), 7))
        return Conversation().ask(ask, ", ".join((pool * 2)[start : start + n]) + ".", f"The user wants {word} {kind}.")
    text = copied(rng)
    ask = rng.choice(
        (
            "Say: {t}",
            "Say {t}",
            "Repeat: {t}",
            "Repeat after me: {t}",
            "Please repeat: {t}",
            "Echo: {t}",
            'Say "{t}".',
            "Repeat this: {t}",
            "Copy this text: {t}",
            "Say this: {t}",
        )
    )
    return Conversation().ask(ask.format(t=text), text, "The user wants me to repeat a text.")


NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def count(rng: random.Random) -> Conversation:
    """Counting up to twenty, from one or another number, or down."""
    n = rng.randint(2, 12) if rng.random() < 0.7 else rng.randint(13, 20)
    low = rng.randint(1, 9) if rng.random() < 0.25 else 1
    n = max(n, low + 1)

    def said(i: int) -> str:
        return NUMBER_WORDS[i] if i <= 12 and as_word else str(i)

    as_word = rng.random() < 0.45
    row = ", ".join(map(str, range(low, n + 1))) + "."
    plan = f"I count from {low} to {n}."
    if low > 1:
        ask = rng.choice((f"Count from {said(low)} to {said(n)}.", f"Please count from {said(low)} to {said(n)}."))
    elif n <= 10 and rng.random() < 0.2:
        ask, row = f"Count down from {said(n)}.", ", ".join(map(str, range(n, 0, -1))) + "."
        plan = f"I count down from {n}."
    else:
        ask = rng.choice(
            (f"Count to {said(n)}.", f"Count to {said(n)}.", f"Count from {said(1)} to {said(n)}.", f"Please count to {said(n)}.",
             f"Can you count to {said(n)}?", f"Count up to {said(n)}.")
        )  # fmt: skip
    return Conversation().ask(ask, row, plan)


def copied(rng: random.Random) -> str:
    """A stretch of text worth copying: words, names, identifiers, numbers, in several shapes."""
    makers = (words.made_up, words.thing, words.name, words.code, lambda r: str(words.number(r)), words.place)
    count = rng.choice((1, 1, 2, 3, 4, 5, 6, 8))
    if rng.random() < 0.3:
        make = rng.choice(makers)
        return ", ".join(make(rng) for _ in range(count))
    if rng.random() < 0.3:
        return rng.choice(
            (
                "This is a test.",
                "Hello world!",
                "hello world",
                "The {t} is {a}.",
                "I like {t} and {t2}.",
                "{m} went to {c}.",
                "double bubble bath",
                "{m} has {n} {t}s.",
                "A {a} {t} for {m}.",
            )
        ).format(
            t=words.thing(rng),
            t2=words.thing(rng),
            a=rng.choice(words.ADJECTIVES),
            m=words.name(rng),
            c=words.place(rng),
            n=words.number(rng),
        )
    return " ".join(rng.choice(makers)(rng) for _ in range(count))


def lookup(rng: random.Random) -> Conversation:
    """A short text or table of pairs, then questions whose answers stand in it: dense practice in finding and copying."""
    n = rng.randint(2, 5)
    makers = (words.thing, words.name, words.code, lambda r: str(words.number(r)), words.place, words.made_up)
    left, right = rng.choice(makers), rng.choice(makers)
    pairs = {left(rng): right(rng) for _ in range(n)}
    form = rng.randrange(4)
    if form == 0:
        text, ask, say_it = "\n".join(f"{k}: {v}" for k, v in pairs.items()), "{k}?", "{v}"
    elif form == 1:
        text, ask, say_it = ", ".join(f"{k} = {v}" for k, v in pairs.items()) + ".", "What is {k}?", "{k} = {v}."
    elif form == 2:
        pairs = {words.name(rng): f"{rng.choice(words.ADJECTIVES)} {words.thing(rng)}" for _ in range(n)}
        text = " ".join(f"{k} has a {v}." for k, v in pairs.items())
        ask, say_it = rng.choice((("What does {k} have?", "{k} has a {v}."), ("Who has the {v}?", "{k} has the {v}.")))
    else:
        pairs = {words.name(rng): words.place(rng) for _ in range(n)}
        text = " ".join(f"{k} lives in {v}." for k, v in pairs.items())
        ask, say_it = rng.choice(
            (("Where does {k} live?", "{k} lives in {v}."), ("Who lives in {v}?", "{k} lives in {v}."))
        )
    talk = Conversation(plain=form > 1)
    for i, (k, v) in enumerate(rng.sample(sorted(pairs.items()), min(len(pairs), 3))):
        talk.ask((f"{text}\n" if i == 0 else "") + ask.format(k=k, v=v), say_it.format(k=k, v=v))
    return talk


def dense(rng: random.Random) -> Conversation:
    """A string of made-up words said twice: the plainest practice for the copying circuit."""
    text = " ".join(
        rng.choice((words.made_up, words.made_up, words.code, words.name))(rng) for _ in range(rng.randint(6, 16))
    )
    talk = Conversation(plain=False)
    talk.turns = [Message("user", f"Repeat: {text}"), Message("assistant", text)]
    return talk
