"""The sixty tools that only the evaluation uses, with requests and values that no training text holds.

A line is `name(key:kind, ...) description :: request`. A slot `{key?yes|no}` is said for a boolean; every other slot is the
value itself. Kinds are those of `invented.py`; values come from the held-out words, identifiers from a seed.
"""

import random
import re
from typing import Any

from .words import HELD_NAMES, HELD_PLACES, HELD_THINGS, HELD_TOOLS

LINES = """
book_flight(destination:city, passengers:int) Book a flight :: Book a flight to {destination} for {passengers} passengers.
translate_text(text:phrase, language:French/Italian/Greek) Translate a text :: Translate {text} to {language}.
set_alarm(hour:int, silent:bool) Set an alarm :: Set an alarm for hour {hour} {silent?with silent on|with silent off}.
play_song(title:phrase) Play a song :: Play the song {title}.
find_recipe(dish:thing) Find a recipe :: Find a recipe for {dish}.
reserve_table(restaurant:thing, guests:int, day:day) Reserve a table :: Reserve a table at {restaurant} for {guests} guests on {day}.
track_package(tracking_id:code) Track a package :: Where is my package {tracking_id}?
convert_currency(amount:int, currency:thing) Convert money :: Convert {amount} dollars to {currency}.
create_playlist(name:phrase, public:bool) Create a playlist :: Create a playlist called {name} {public?and make it public|but not public}.
get_stock_price(symbol:code) Get a stock price :: What is the stock price of {symbol}?
turn_on_light(room:kitchen/bedroom/garage, brightness:int) Turn on a light :: Turn on the light in the {room} with brightness {brightness}.
rent_car(city:city, days:int, insured:bool) Rent a car :: Rent a car in {city} for {days} days {insured?with insured: yes|with insured: no}.
water_plants(plant:thing) Water the plants :: Water the plants called {plant}.
order_taxi(pickup:city, time:time) Order a taxi :: Order a taxi in {pickup} at {time}.
check_humidity(city:city) Check the humidity :: What is the humidity in {city}?
print_label(text:phrase, copies:int) Print a label :: Print a label with the text {text} and {copies} copies.
measure_altitude(place:city) Measure the altitude :: Measure the altitude of {place}.
start_timer(minutes:int) Start a timer :: Start a timer with {minutes} minutes.
lookup_warranty(serial:code) Look up a warranty :: Look up the warranty for {serial}.
paint_wall(color:thing, coats:int) Paint a wall :: Paint the wall with {color} and {coats} coats.
schedule_haircut(customer:name, day:day, time:time) Schedule a haircut :: Schedule a haircut for {customer} on {day} at {time}.
renew_passport(passport_number:code, express:bool) Renew a passport :: Renew the passport {passport_number} {express?with express on|without express}.
charge_vehicle(vehicle_id:code, percent:int) Charge a vehicle :: Charge the vehicle {vehicle_id} to {percent} percent.
encrypt_archive(archive:file, level:low/medium/high) Encrypt an archive :: Encrypt the archive {archive} with level {level}.
publish_article(title:phrase, author:fullname, draft:bool) Publish an article :: Publish the article {title} by {author} {draft?with draft set to true|with draft set to false}.
mute_channel(channel:thing, hours:int) Mute a channel :: Mute the channel {channel} for {hours} hours.
resize_picture(file:file, width:int, height:int) Resize a picture :: Resize the picture {file} to width {width} and height {height}.
dispatch_courier(origin:city, target:city, parcel:code, urgent:bool) Send a courier :: Dispatch a courier from {origin} to {target} with parcel {parcel} {urgent?and make it urgent|but not urgent}.
brew_coffee(cups:int, strength:mild/normal/strong) Brew coffee :: Brew {cups} cups of coffee with strength {strength}.
refund_payment(payment_id:code, reason:phrase) Refund a payment :: Refund the payment {payment_id} with the reason {reason}.
rate_restaurant(restaurant:phrase, stars:int) Rate a restaurant :: Rate the restaurant {restaurant} with {stars} stars.
donate_money(charity:thing, amount:int) Donate money :: Donate {amount} dollars to {charity}.
calculate_mortgage(price:int, years:int) Calculate a mortgage :: Calculate the mortgage for price {price} and {years} years.
subscribe_newsletter(email:email, frequency:daily/weekly/monthly) Subscribe to a newsletter :: Subscribe {email} to the {frequency} newsletter.
verify_signature(document:code, signer:fullname) Verify a signature :: Verify the signature of {signer} on document {document}.
launch_drone(base:city, height:int, camera:bool) Launch a drone :: Launch a drone in {base} at height {height} {camera?with camera on|with camera off}.
calibrate_scale(scale_id:code, unit:grams/pounds) Calibrate a scale :: Calibrate the scale {scale_id} in {unit}.
feed_aquarium(food:thing, portions:int) Feed the aquarium :: Feed the aquarium with {portions} portions of {food}.
hire_musician(instrument:thing, city:city, day:day, hours:int) Hire a musician :: Hire a musician for {instrument} in {city} on {day} for {hours} hours.
inspect_bridge(bridge:phrase, inspector:name) Inspect a bridge :: Inspect the bridge {bridge} with inspector {inspector}.
rotate_password(account:code) Change a password :: Rotate the password of {account}.
compress_folder(path:file, format:zip/tar/rar) Compress a folder :: Compress the folder {path} as {format}.
invite_guest(guest:fullname, event:phrase) Invite a guest :: Invite the guest {guest} to {event}.
approve_expense(expense_id:code, amount:int, note:phrase) Approve an expense :: Approve the expense {expense_id} of {amount} with the note {note}.
vacuum_carpet(room:phrase, turbo:bool) Vacuum a carpet :: Vacuum the carpet in {room} {turbo?with turbo|without turbo}.
pair_headset(headset:code) Pair a headset :: Pair the headset {headset}.
forecast_harvest(crop:thing, region:city) Forecast a harvest :: Forecast the harvest of {crop} in {region}.
adopt_kitten(kitten:name, age:int) Adopt a kitten :: Adopt the kitten {kitten} with age {age}.
register_vehicle(plate:code, owner:fullname, electric:bool) Register a vehicle :: Register the vehicle {plate} for {owner} {electric?with electric: yes|with electric: no}.
dim_chandelier(percent:int) Dim the chandelier :: Dim the chandelier to {percent} percent.
borrow_novel(title:phrase, weeks:int) Borrow a novel :: Borrow the novel {title} for {weeks} weeks.
sharpen_knife(knife:thing) Sharpen a knife :: Sharpen the knife {knife}.
tune_instrument(instrument:thing, pitch:int) Tune an instrument :: Tune the instrument {instrument} to {pitch}.
evaluate_essay(essay_id:code, strict:bool) Evaluate an essay :: Evaluate the essay {essay_id} {strict?with strict on|with strict off}.
ship_crate(crate_id:code, port:city, weight:int, fragile:bool) Ship a crate :: Ship the crate {crate_id} to {port} with weight {weight} {fragile?and fragile: yes|and fragile: no}.
dry_laundry(minutes:int, heat:low/medium/high) Dry the laundry :: Dry the laundry for {minutes} minutes with {heat} heat.
harvest_crop(crop:thing, field:code) Harvest a crop :: Harvest the crop {crop} from field {field}.
polish_trophy(trophy:phrase) Polish a trophy :: Polish the trophy {trophy}.
archive_ledger(ledger:code, year:int) Archive a ledger :: Archive the ledger {ledger} with year {year}.
unlock_scooter(scooter_id:code, minutes:int, helmet:bool) Unlock a scooter :: Unlock the scooter {scooter_id} for {minutes} minutes {helmet?with helmet|without helmet}.
""".strip().splitlines()
Item = dict[str, Any]


def words_of(i: int, count: int) -> str:
    """Some held-out things in a row, others for each `i`."""
    return " ".join(HELD_THINGS[(i * 7 + 11 * k) % len(HELD_THINGS)] for k in range(count))


def identifier(rng: random.Random) -> str:
    """Letters and two to five digits."""
    letters = "".join(rng.choice("ABCDEFGHKLMNPRSTUVXZ") for _ in range(rng.randint(1, 3)))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 5)))
    return f"{letters}{rng.choice(('-', '-', '', '_'))}{digits}"


def value(kind: str, i: int, rng: random.Random) -> Any:
    """A value of the kind, made of the `i`-th held-out words where it holds words."""
    i %= 50
    match kind:
        case "int":
            return rng.choice((rng.randint(2, 12), rng.randint(13, 99), rng.randint(100, 9999)))
        case "bool":
            return rng.random() < 0.5
        case "code":
            return identifier(rng)
        case "city":
            return HELD_PLACES[i]
        case "name":
            return HELD_NAMES[i]
        case "fullname":
            return f"{HELD_NAMES[i]} {HELD_NAMES[(i + 17) % 50]}"
        case "thing":
            return HELD_THINGS[i]
        case "phrase":
            return words_of(i, 2 + i % 2)
        case "day":
            return ("Monday", "Tuesday", "Friday", "Sunday")[i % 4]
        case "time":
            return f"{7 + i % 12}:{15 + i % 40}"
        case "email":
            return f"{HELD_NAMES[i].lower()}@example.com"
        case "file":
            return f"{HELD_THINGS[i]}.{('txt', 'pdf', 'csv')[i % 3]}"
    return rng.choice(kind.split("/"))


class HeldTool:
    """One tool of the list: how it is offered, and requests for it with different values."""

    def __init__(self, line: str) -> None:
        head, self.request = line.split(" :: ")
        signature, _, self.about = head.partition(") ")
        self.name, _, args = signature.partition("(")
        self.args = dict(a.split(":") for a in args.split(", "))

    def offered(self) -> Item:
        """A function tool in the shape of the Responses API."""
        kinds = {"int": "integer", "bool": "boolean"}
        props = {
            k: {"type": "string", "enum": kind.split("/")} if "/" in kind else {"type": kinds.get(kind, "string")}
            for k, kind in self.args.items()
        }
        schema = {"type": "object", "properties": props, "required": list(props), "additionalProperties": False}
        return {"type": "function", "name": self.name, "description": self.about, "parameters": schema, "strict": True}

    def values(self, seed: int) -> Item:
        """Arguments, the same for the same seed."""
        rng = random.Random(f"{self.name} {seed}")
        first = rng.randrange(50)
        return {k: value(kind, first + n, rng) for n, (k, kind) in enumerate(self.args.items())}

    def asked(self, values: Item) -> str:
        """The request with these arguments."""
        text = re.sub(r"\{(\w+)\?([^|}]*)\|([^}]*)\}", lambda m: m[2] if values[m[1]] else m[3], self.request)
        return text.format(**values)


TOOLS = [HeldTool(line) for line in LINES]
if sorted(t.name for t in TOOLS) != sorted(HELD_TOOLS):
    raise ValueError("the held-out tools and their names in words.py differ")
