"""Tool calls, answers from tool results, and JSON filled from text. Held-out tools live in `cases.py`, not here."""

import json
import random
from typing import Any

from . import chat, words
from .conversation import QUIET_OFF, QUIET_ON, Arg, Conversation, Message, Tool
from .invented import KINDS as TYPED
from .invented import Spec, alike, invent, spoken

# name(key:kind, ...) description :: question :: question. A kind is an entry of KINDS; `{key}` is the argument's value.
SPECS = """
get_weather(location:city) Get the current weather in a city :: What is the weather like in {location}? :: What's the weather in {location} today? :: How is the weather in {location}? :: Is it raining in {location}? :: What is the weather like in {location} today?
get_weather(city:city) Weather for a city :: What is the weather in {city}? :: Will it be sunny in {city} today? :: Weather in {city}?
get_weather(location:city, unit:celsius/fahrenheit) Get the weather :: What is the weather in {location} in {unit}? :: How warm is it in {location} in {unit}? :: Weather in {location}, {unit} please.
get_weather(city:city, day:day) Get the forecast :: What will the weather be in {city} on {day}? :: Weather for {city} on {day}?
get_current_weather(location:city) Get current weather :: What's the weather like in {location}? :: Tell me the weather in {location}.
get_temperature(place:city) Get the temperature :: How hot is it in {place}? :: What is the temperature in {place}?
get_time(city:city) Get the local time :: What time is it in {city}? :: Tell me the time in {city}.
send_email(to:email, subject:phrase) Send an email :: Send an email to {to} with the subject {subject}. :: Email {to} about {subject}. :: Write to {to} about {subject}.
send_message(recipient:name, text:phrase) Send a message :: Send {recipient} the message {text}. :: Tell {recipient}: {text} :: Message {recipient} that {text}.
call_contact(name:name) Call a person :: Call {name}. :: Please call {name}. :: I want to talk to {name}.
get_order(order_id:code) Look up an order :: Where is my order {order_id}? :: What is the status of order {order_id}? :: Look up order {order_id}.
cancel_order(order_id:code) Cancel an order :: Cancel order {order_id}. :: Please cancel my order {order_id}.
get_user(user_id:int) Look up a user :: Who is user {user_id}? :: Find the user {user_id}. :: Get user number {user_id}.
add_item(item:thing, quantity:int) Add an item to the cart :: Add {quantity} {item}s to my cart. :: Put {quantity} {item}s in the cart. :: I want to buy {quantity} {item}s.
add_numbers(a:int, b:int) Add two numbers :: Add {a} and {b}. :: What is {a} plus {b}? :: Sum {a} and {b}.
multiply(x:int, y:int) Multiply two numbers :: Multiply {x} by {y}. :: What is {x} times {y}?
roll_dice(sides:int) Roll a die :: Roll a die with {sides} sides. :: Roll a {sides} sided die.
search(query:phrase) Search the web :: Search for {query}. :: Search the web for {query}. :: Look up {query} online.
search_web(query:thing) Search the web :: Find {query} on the web. :: Search {query}.
search_documents(query:phrase, limit:int) Search documents :: Find {limit} documents about {query}. :: Show me {limit} documents about {query}.
read_file(path:file) Read a file :: Read the file {path}. :: Open {path}. :: What is in {path}? :: Show me {path}.
delete_file(path:file) Delete a file :: Delete {path}. :: Remove the file {path}.
write_file(path:file, content:phrase) Write a file :: Write {content} to {path}. :: Save {content} in {path}.
create_event(title:phrase, day:day) Create a calendar event :: Create an event {title} on {day}. :: Put {title} in my calendar for {day}. :: Plan {title} on {day}.
schedule_meeting(person:name, day:day) Schedule a meeting :: Schedule a meeting with {person} on {day}. :: Set up a meeting with {person} for {day}.
set_reminder(text:phrase, day:day) Set a reminder :: Remind me about {text} on {day}. :: Set a reminder for {text} on {day}.
set_temperature(room:room, degrees:int) Set the temperature :: Set the {room} to {degrees} degrees. :: Heat the {room} to {degrees} degrees.
open_door(room:room) Open a door :: Open the door of the {room}. :: Open the {room} door.
turn_off(device:thing) Turn a device off :: Turn off the {device}. :: Switch off the {device}. :: Please turn the {device} off.
play_music(artist:name) Play music :: Play music by {artist}. :: I want to hear {artist}.
play_video(title:phrase) Play a video :: Play the video {title}. :: Show the video {title}.
get_capital(country:city) Find a capital :: Which city is the capital of {country}? :: Find the capital of {country}.
find_restaurant(city:city, food:thing) Find a restaurant :: Find a {food} restaurant in {city}. :: Where can I eat {food} in {city}?
book_hotel(city:city, nights:int) Book a hotel :: Book a hotel in {city} for {nights} nights. :: I need a hotel in {city} for {nights} nights.
book_train(origin:city, target:city) Book a train :: Book a train from {origin} to {target}. :: I need a train from {origin} to {target}.
get_distance(start:city, end:city) Distance between two cities :: How far is it from {start} to {end}? :: What is the distance from {start} to {end}?
get_route(start:city, end:city) Find a route :: Show me the way from {start} to {end}. :: Find a route from {start} to {end}.
translate(text:phrase, language:language) Translate text :: Translate {text} to {language}. :: How do you say {text} in {language}?
get_price(product:thing) Price of a product :: How much is a {product}? :: What does a {product} cost? :: Price of the {product}?
check_stock(product:thing) Check the stock :: Do you have a {product}? :: Is the {product} in stock?
create_ticket(title:phrase, priority:low/medium/high) Open a ticket :: Open a ticket {title} with {priority} priority. :: Create a {priority} priority ticket: {title}
assign_task(task:phrase, person:name) Assign a task :: Assign {task} to {person}. :: Let {person} do {task}.
get_balance(account:code) Account balance :: What is the balance of account {account}? :: How much money is in {account}?
transfer_money(recipient:name, amount:int) Send money :: Send {amount} dollars to {recipient}. :: Transfer {amount} to {recipient}. :: Pay {recipient} {amount} dollars.
generate_image(prompt:phrase) Make an image :: Draw {prompt}. :: Make an image of {prompt}. :: Generate a picture of {prompt}.
get_definition(word:made) Define a word :: Define {word}. :: What does the word {word} mean? :: Look up the word {word}.
get_horoscope(sign:made) Horoscope for a sign :: What is my horoscope? I am {sign}. :: What is the horoscope for {sign}?
get_news(topic:thing) Get news :: What is the news about {topic}? :: Any news on {topic}? :: News about {topic}.
rename_file(old:file, new:file) Rename a file :: Rename {old} to {new}. :: Change the name of {old} to {new}.
find_contact(name:name) Find a contact :: What is the number of {name}? :: Find {name} in my contacts.
order_food(dish:thing, count:int) Order food :: Order {count} {dish}s. :: I would like {count} {dish}s, please. :: Get me {count} {dish}s.
query_database(table:thing, limit:int) Query the database :: Show {limit} rows of the table {table}. :: Get {limit} rows from {table}.
run_command(command:command) Run a command :: Run {command}. :: Run the command {command}.
""".strip().splitlines()
KINDS: dict[str, Any] = {
    "city": words.place,
    "name": words.name,
    "int": words.number,
    "code": words.code,
    "email": words.email,
    "thing": words.thing,
    "phrase": words.phrase,
    "made": words.made_up,
    "day": lambda r: r.choice(words.DAYS),
    "month": lambda r: r.choice(words.MONTHS),
    "file": lambda r: f"{words.thing(r)}.{r.choice(('txt', 'md', 'py', 'csv', 'pdf'))}",
    "room": lambda r: r.choice(("kitchen", "bedroom", "bathroom", "living room", "garage", "office", "hall", "garden")),
    "language": lambda r: (
        r.choice("French German Spanish Italian Japanese Chinese Dutch Polish Greek".split())
        if r.random() < 0.6
        else words.made_up(r).capitalize()
    ),
    "command": lambda r: r.choice(
        ("ls", "pwd", "date", "whoami", "ls -la", f"cat {words.thing(r)}.txt", f"echo {words.thing(r)}")
    ),
    **TYPED,
}
TWINS = {
    "city": ("city", "location", "place", "town", "address"),
    "name": ("name", "person", "contact", "user"),
    "code": ("id", "code", "number", "reference"),
    "thing": ("item", "object", "product", "kind", "topic", "type"),
    "phrase": ("text", "title", "message", "note", "label", "query"),
    "int": ("count", "amount", "number", "size", "level", "minutes"),
    "day": ("day", "date", "when"),
}


def parse(line: str) -> Spec:
    """A line of SPECS as (name, [(key, kind)], description, questions)."""
    head, *asks = (p.strip() for p in line.split(" :: "))
    signature, _, about = head.partition(") ")
    name, _, args = signature.partition("(")
    return name, [(k, v) for k, v in (a.split(":") for a in args.split(", "))], about, asks


HAND: list[Spec] = [parse(line) for line in SPECS]


def renamed(rng: random.Random, name: str) -> str:
    """Another name for the same tool, so that names are read from the list instead of remembered."""
    verb, _, rest = name.partition("_")
    noun = rest or verb
    return rng.choice(
        (
            f"{noun}_{verb}",
            f"{noun}_tool",
            f"{words.made_up(rng)}_{noun}",
            f"{rng.choice(words.VERBS)}_{noun}",
            noun,
            f"{name}_{words.made_up(rng)}",
            f"my_{name}",
            f"{verb}{noun.capitalize()}",
            words.made_up(rng),
        )
    )


def spec(rng: random.Random) -> Spec:
    """A hand-written tool (at times with another key) or an invented one."""
    if rng.random() < 0.65:
        return invent(rng)
    name, args, about, asks = rng.choice(HAND)
    if rng.random() < 0.5:
        name = renamed(rng, name)
    if rng.random() < 0.2:
        key, kind = args[0]
        new = rng.choice(TWINS.get(kind, (key,)))
        if new not in dict(args):
            args = [(new, kind), *args[1:]]
            asks = [a.replace("{" + key + "}", "{" + new + "}") for a in asks]
    return name, args, about, asks


def tool(s: Spec, rng: random.Random) -> Tool:
    """What the model is shown of a spec."""
    kinds = [
        (k, kind if "/" in kind else {"int": "integer", "bool": "boolean"}.get(kind, "string")) for k, kind in s[1]
    ]
    return Tool(s[0], tuple(Arg(k, kind) for k, kind in kinds), s[2] + rng.choice(("", ".")) if s[2] else "")


def fill(s: Spec, rng: random.Random) -> dict[str, Any]:
    """Random arguments."""
    return {k: rng.choice(kind.split("/")) if "/" in kind else KINDS[kind](rng) for k, kind in s[1]}


def choices(rng: random.Random, most: int = 4) -> tuple[Spec, list[Spec]]:
    """A spec to use, and those to show: it and none to three others in any order, some of them look-alikes."""
    while True:
        used = spec(rng)
        specs = {used[0]: used}
        for _ in range(min(rng.choice((0, 0, 1, 2, 2, 3, 3)), most - 1)):
            other = alike(rng, used) if rng.random() < 0.3 else spec(rng)
            specs.setdefault(other[0], other)
        if not any(name in words.HELD_TOOLS for name in specs):
            break
    shown = list(specs.values())
    rng.shuffle(shown)
    return used, shown


def listed(rng: random.Random, specs: list[Spec]) -> list[Tool]:
    """What the model is shown of them."""
    return [tool(s, rng) for s in specs]


def call(rng: random.Random) -> Conversation:
    """A question, the calls, mostly their results and the answer made from them, at times a second round."""
    used, specs = choices(rng)
    talk = Conversation(tools=listed(rng, specs), plain=False)
    if rng.random() < 0.1:
        talk.turns += chat.small_talk(rng).turns
    if rng.random() < 0.2:
        turn(talk, rng.choice(specs), rng, specs, answered=1.0)
    turn(talk, used, rng, specs, answered=0.6)
    if rng.random() < 0.1 and not talk.turns[-1].calls:
        talk.turns += chat.small_talk(rng).turns
    return talk


Made = tuple[str, list[tuple[str, dict[str, Any]]]]


def request(rng: random.Random, used: Spec, specs: list[Spec]) -> Made:
    """A question and the calls that it asks for: mostly one, at times two or three of one tool or of two."""
    values, ask = fill(used, rng), rng.choice(used[3])
    roll = rng.random()
    first = next(iter(values))
    if roll < 0.2 and len(values) <= 2 and dict(used[1])[first] in ("city", "name", "thing", "code", "made"):
        several = [values, *(fill(used, rng) for _ in range(rng.choice((1, 1, 2))))]
        each = [str(v[first]) for v in several]
        together = ", ".join(each[:-1]) + " and " + each[-1]
        question = ask.format(**{**spoken(rng, used, values), first: together})
        return question, [(used[0], {**values, first: v[first]}) for v in several]
    question = ask.format(**spoken(rng, used, values))
    if 0.2 <= roll < 0.3 and len(specs) > 1:
        other = rng.choice([s for s in specs if s is not used])
        more = fill(other, rng)
        second = rng.choice(other[3]).format(**spoken(rng, other, more))
        plain = question.rstrip(".?")
        glued = (
            f"{plain} and {second[0].lower()}{second[1:]}",
            f"{plain}. {second}",
            f"{plain}. Also, {second[0].lower()}{second[1:]}",
        )
        return rng.choice(glued), [(used[0], values), (other[0], more)]
    return question, [(used[0], values)]


def turn(talk: Conversation, used: Spec, rng: random.Random, specs: list[Spec], answered: float) -> None:
    """Append a question, its calls, and with probability `answered` their results with the answer."""
    question, calls = request(rng, used, specs)
    names = list(dict.fromkeys(n for n, _ in calls))
    plan = f"I use {' and '.join(names)}" + (f" {len(calls)} times" if len(calls) > len(names) else "") + "."
    talk.turns += [Message("user", question), Message("assistant", calls=tuple(calls), plan=plan)]
    if rng.random() < answered:
        answers = []
        for _ in calls:
            text, answer = result(rng)
            talk.turns.append(Message("tool", text))
            answers.append(answer)
        plan = (
            "The tool has answered, so I tell the user."
            if len(calls) == 1
            else "The tools have answered, so I tell the user."
        )
        talk.turns.append(Message("assistant", " ".join(answers), plan=plan))


def unfit(rng: random.Random) -> Conversation:
    """A request that none of the tools shown can serve."""
    used, specs = choices(rng)
    shown = [s for s in specs if s is not used] or [spec(rng)]
    taken = {w for s in shown for w in [*s[0].lower().split("_"), *s[2].lower().split()]}
    if taken & {*used[0].lower().split("_"), *used[2].lower().strip(".").split()} - {"a", "the"} or used[2] == "":
        return idle(rng)
    values = fill(used, rng)
    question = rng.choice(used[3]).format(**spoken(rng, used, values))
    talk = Conversation(tools=listed(rng, shown), plain=False)
    return talk.ask(question, chat.NO_TOOL, "None of my tools can do this.")


RESULT_KEYS: dict[str, Any] = {
    "temperature": lambda r: r.randint(-15, 45),
    "condition": lambda r: r.choice(("sunny", "cloudy", "rainy", "snowy", "windy", "foggy")),
    "status": lambda r: r.choice(("shipped", "pending", "delivered", "open", "closed", "done", "sent", "ok")),
    "price": words.number,
    "total": words.number,
    "count": words.number,
    "name": words.name,
    "city": words.place,
    "id": words.code,
    "time": lambda r: f"{r.randint(0, 23)}:{r.randint(10, 59)}",
    "date": lambda r: f"{r.choice(words.MONTHS)} {r.randint(1, 28)}",
    "result": words.number,
    "message": words.phrase,
    "title": words.phrase,
    "wind": lambda r: r.randint(0, 60),
    "distance": words.number,
    "delivery_date": lambda r: r.choice(words.DAYS),
    "email": words.email,
    "order_id": words.code,
    "capital": words.place,
    "color": lambda r: r.choice(words.COLORS),
    "size": words.number,
}


def result(rng: random.Random) -> tuple[str, str]:
    """What a tool gave back and what to say about it."""
    form = rng.random()
    if form < 0.12:
        text = rng.choice(
            (
                "{t}, {n} degrees",
                "{n}",
                "{t}",
                "{p}",
                "The {t} is {n}",
                "{m}: {n}",
                "{n} degrees and sunny",
                "Sunny, {n} degrees",
                "{m} is in {c}",
                "{i}",
            )
        ).format(
            t=words.thing(rng),
            n=words.number(rng),
            p=words.phrase(rng),
            m=words.name(rng),
            c=words.place(rng),
            i=words.code(rng),
        )
        return text, f"The result is: {text}"
    if form < 0.18:
        text = rng.choice(("not found", "timeout", "permission denied", "{t} not found", "unknown {t}")).format(
            t=words.thing(rng)
        )
        return json.dumps({"error": text}), f"Sorry, the tool reported an error: {text}."
    if form < 0.24:
        return rng.choice(('{"ok": true}', '{"success": true}', "ok", "done", '{"status": "ok"}', "{}", "")), "Done."
    values: dict[str, Any] = {}
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        if rng.random() < 0.55:
            key = rng.choice(list(RESULT_KEYS))
            values[key] = RESULT_KEYS[key](rng)
        else:
            key = words.thing(rng, 0.6) + (f"_{words.thing(rng)}" if rng.random() < 0.3 else "")
            kind = rng.choice((words.number, words.thing, words.name, words.code, words.place, words.phrase))
            values[key] = kind(rng)
    parts = [f"the {k.replace('_', ' ')} is {v}" for k, v in values.items()]
    answer = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return json.dumps(values, ensure_ascii=False), f"T{answer[1:]}."


def idle(rng: random.Random) -> Conversation:
    """Tools are there but none is needed: the answer is the usual one."""
    makers = (chat.small_talk, chat.memory, chat.capital, chat.unknown, chat.say, chat.sums, chat.refusal)
    talk = rng.choice(makers)(rng)
    talk.tools = listed(rng, choices(rng)[1])
    if any(
        t.name in ("get_capital", "add_numbers", "multiply", "call_contact", "get_weather", "search_web")
        for t in talk.tools
    ):
        talk.tools = [
            Tool("create_ticket", (Arg("title", "string"), Arg("priority", "low/medium/high")), "Open a ticket")
        ]
    return talk


# Text with {slots} :: what an instruction may call it :: keys in the order of the schema (a key `a|b` has two names, `[]` marks lists)
FORMS = """
{n1} and {n2} are going to a {p} on {d}. :: event :: name=p, date=d, participants[]=n1+n2
{n1}, {n2} and {n3} meet for a {p} in {c} on {d}. :: event :: title|name|event=p, location|city|place=c, date|day=d, participants|people[]=n1+n2+n3
On {d} there is a {p} in {c}. :: event :: name|event|title=p, location|city=c, date|day=d
{n1} is {i} years old and lives in {c}. :: person :: name=n1, age=i, city|location|home=c
My name is {n1} and I am {i} years old. :: person :: name=n1, age=i
{n1} works as a {j} in {c}. :: person :: name=n1, job|occupation=j, city=c
{n1} from {c} likes {t} and {t2}. :: person :: name=n1, city=c, likes|hobbies|interests[]=t+t2
I would like {i} {t}s and a {t2}. :: order :: item=t, quantity|count=i
{n1} ordered {i} {t}s for {i2} dollars. :: order :: customer|name=n1, item|product=t, quantity=i, price|total=i2
Order {k}: {i} {t}s to {c}. :: order :: order_id|id=k, item|product=t, quantity|count=i, city|address=c
The book {p} was written by {n1} in {i4}. :: book :: title=p, author=n1, year=i4
{n1} wrote {p} in {i4}. :: book :: author=n1, title=p, year=i4
You can reach {n1} at {e} or {f}. :: contact :: name=n1, email=e, phone=f
Contact: {n1}, {e}. :: contact :: name=n1, email=e
It is {i} degrees and {w} in {c}. :: weather :: city|location=c, temperature=i, condition=w
The {a} {t} costs {i} dollars. :: product :: name|product|item=t, color|kind=a, price|cost=i
The train from {c} to {c2} leaves on {d}. :: trip :: from|start|origin=c, to|end=c2, day|date=d
{n1} flies from {c} to {c2} on {d}. :: trip :: traveler|name=n1, from|origin=c, to|arrival=c2, date|day=d
Buy {t}, {t2} and {t3}. :: list :: items[]=t+t2+t3
Mix {t}, {t2} and {t3} for {i} minutes. :: recipe :: ingredients[]=t+t2+t3, minutes|time=i
{n1} scored {i} points and {n2} scored {i2}. :: game :: winner|player=n1, score|points=i
Ticket {k} from {n1}: {p} :: ticket :: id|ticket=k, name|customer=n1, subject|problem|title=p
""".strip().splitlines()
VALUES: dict[str, Any] = {
    "n1": words.name,
    "n2": words.name,
    "n3": words.name,
    "p": words.phrase,
    "d": lambda r: r.choice(words.DAYS) if r.random() < 0.6 else f"{r.choice(words.MONTHS)} {r.randint(1, 28)}",
    "c": words.place,
    "c2": words.place,
    "i": lambda r: words.number(r, r.choice((1, 2, 2))),
    "i2": words.number,
    "i4": lambda r: r.randint(1800, 2026),
    "j": lambda r: r.choice(words.JOBS),
    "t": words.thing,
    "t2": words.thing,
    "t3": words.thing,
    "k": words.code,
    "e": words.email,
    "f": lambda r: f"555-{r.randint(1000, 9999)}",
    "w": RESULT_KEYS["condition"],
    "a": lambda r: r.choice(words.ADJECTIVES),
}


def form_text(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """A text, the kind of thing it tells of, and the object that it holds."""
    text, kind, fields = rng.choice(FORMS).split(" :: ")
    slots = {k: make(rng) for k, make in VALUES.items()}
    out: dict[str, Any] = {}
    for entry in fields.split(", "):
        keys, source = entry.split("=")
        values = [slots[s] for s in source.split("+")]
        out[rng.choice(keys.removesuffix("[]").split("|"))] = values if keys.endswith("[]") else values[0]
    return text.format(**slots), kind, out


def ticket_code(rng: random.Random) -> str:
    """An identifier that is no bare number, so that its JSON type is plain to see."""
    return f"{words.code(rng)}-{rng.choice('ABCDEFGHXYZ')}"


def pairs_text(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """A text of `the key is value` in several shapes, keys of any kind."""
    out: dict[str, Any] = {}
    for _ in range(rng.randint(1, 4)):
        out[words.thing(rng)] = rng.choice((words.thing, words.name, words.place, words.number, ticket_code))(rng)
    parts = [
        rng.choice(("the {k} is {v}", "the {k} is {v}", "{k}: {v}", "{k} {v}", "{v} is the {k}")).format(k=k, v=v)
        for k, v in out.items()
    ]
    text = (", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]) + "."
    order = list(out)
    if rng.random() < 0.4:
        rng.shuffle(order)
    return text[0].upper() + text[1:], "data", {k: out[k] for k in order}


def quiet_json(value: dict[str, Any]) -> str:
    """JSON in which the keys are marked as the grammar's."""
    body = ", ".join(f'"{QUIET_ON}{k}{QUIET_OFF}": {json.dumps(v, ensure_ascii=False)}' for k, v in value.items())
    return "{" + body + "}"


def fill_json(rng: random.Random) -> Conversation:
    """A text and the JSON made of it; the keys are named in the request half of the time, else they are the grammar's."""
    text, kind, value = form_text(rng) if rng.random() < 0.6 else pairs_text(rng)
    talk = Conversation(plain=False)
    told = text.startswith(("My ", "I "))
    named, keys = rng.random() < 0.4, ", ".join(value)
    ask = (
        f"Return JSON with the keys {keys}."
        if named
        else rng.choice(
            (
                f"Extract the {kind} information.",
                f"Extract the {kind}.",
                f"Extract the {kind} as JSON.",
                "Answer in JSON.",
                *(() if told else ("",)),
                "Extract the data from the text.",
                "You extract structured data.",
            )
        )
    )
    answer = json.dumps(value, ensure_ascii=False) if named else quiet_json(value)
    if ask and rng.random() < 0.55:
        talk.turns = [Message("system", ask), Message("user", text)]
    else:
        talk.turns = [Message("user", f"{ask} {text}".strip() if rng.random() < 0.6 else f"{text} {ask}".strip())]
    talk.turns.append(Message("assistant", answer, plan=f"I fill in {keys} from the text."))
    if rng.random() < 0.15:
        text, _, value = form_text(rng)
        talk.turns += [Message("user", text), Message("assistant", quiet_json(value))]
    return talk
