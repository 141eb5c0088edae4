"""Word lists of the generator, and the words that it must never write.

The held-out lists are what the evaluation asks about: no training text may contain them (`check` raises). Made-up words
come from syllables, so that the model has to learn to copy a word instead of knowing it.
"""

import random
import re

HELD_NAMES = (
    "Gwendolyn Bartholomew Priya Tomas Yuki Ingrid Rashid Beatrix Mateo Anneliese Kwame Dmitri Rosalind Thaddeus "
    "Xiomara Fergus Leilani Oswald Saoirse Zubair Cordelia Ignatius Seraphina Leopold Philippa Montgomery Henrietta "
    "Ludmila Cornelius Evangeline Balthazar Octavia Wilhelmina Absalom Tabitha Vladimir Esmeralda Humphrey Jacqueline "
    "Maximilian Persephone Reginald Clementine Archibald Guinevere Sylvester Magdalena Percival Ottoline Zachariah"
).split()
HELD_HEROES = (
    "walrus badger flamingo hedgehog lobster pelican yak gnome wizard mermaid ferret moth raccoon jaguar octopus "
    "blacksmith astronaut teapot snowman platypus narwhal armadillo wombat mongoose chinchilla capybara hyena gazelle "
    "antelope ostrich toucan cockatoo puffin vulture scorpion grasshopper centipede tadpole barracuda stingray manatee "
    "meerkat warthog lighthouse typewriter scarecrow goblin mammoth sphinx gladiator"
).split()
HELD_PLACES = (
    "Kyoto Zagreb Montevideo Reykjavik Osaka Marrakesh Bergen Tallinn Nairobi Quito Denver Valencia Lagos Geneva "
    "Bogota Jakarta Phoenix Riga Bristol Antwerp Gothenburg Rotterdam Thessaloniki Tbilisi Yerevan Samarkand Ulaanbaatar "
    "Vladivostok Adelboden Chattanooga Tucson Sacramento Albuquerque Anchorage Guadalajara Cartagena Asuncion Windhoek "
    "Lusaka Maputo Khartoum Mogadishu Damascus Islamabad Mandalay Brunei Nagasaki Christchurch Innsbruck Dubrovnik"
).split()
HELD_THINGS = (
    "lasagna accordion trombone cactus lantern pumpkin sculpture marathon pottery origami saxophone croissant telescope "
    "wheelbarrow cinnamon hammock tambourine papaya turquoise archery ukulele raspberry microscope chandelier trampoline "
    "cauliflower harmonica rhubarb typhoon avalanche parchment tapestry harpoon gazebo zucchini mosaic compass anvil "
    "binoculars sapphire marmalade broccoli catapult bagpipe porcelain velvet glacier meadowlark thermos quilt"
).split()
HELD_KEYS = (
    "destination passengers altitude warranty nutrition venue humidity tempo quota mileage latitude voltage gender "
    "deadline velocity inventory headquarters allergen dosage curriculum exchange circumference publisher "
    "ranking penalty salary surname depth donor habitat"
).split()
HELD_TOOLS = (
    "book_flight translate_text set_alarm play_song find_recipe reserve_table track_package convert_currency "
    "create_playlist get_stock_price turn_on_light rent_car water_plants order_taxi check_humidity print_label "
    "measure_altitude start_timer lookup_warranty paint_wall schedule_haircut renew_passport charge_vehicle "
    "encrypt_archive publish_article mute_channel resize_picture dispatch_courier brew_coffee refund_payment "
    "rate_restaurant donate_money calculate_mortgage subscribe_newsletter verify_signature launch_drone calibrate_scale "
    "feed_aquarium hire_musician inspect_bridge rotate_password compress_folder invite_guest approve_expense "
    "vacuum_carpet pair_headset forecast_harvest adopt_kitten register_vehicle dim_chandelier borrow_novel "
    "sharpen_knife tune_instrument evaluate_essay ship_crate dry_laundry harvest_crop polish_trophy archive_ledger "
    "unlock_scooter"
).split()

HELD = {w.lower() for w in HELD_NAMES + HELD_HEROES + HELD_PLACES + HELD_THINGS + HELD_KEYS}
_WORD = re.compile(r"[a-z]+")
_TOOL = re.compile("|".join(HELD_TOOLS))

NAMES = (
    "Alice Bob Carol Dave Emma Liam Olivia Noah Ava Mia Sophia Lucas Ella Henry Jack Leo Grace Ruby Oscar Hugo Nina Omar "
    "Sara Lena Max Ben Tom Tim Sam Kate Anna Maria Peter Paul John Mary James David Laura Julia Lily Rose Jane Mark Luke "
    "Adam Eve Felix Clara Iris Ivan Olga Boris Elena Marco Luca Giulia Pierre Marie Jean Louis Chloe Hans Greta Klaus Heidi "
    "Carlos Diego Lucia Pablo Sofia Juan Ana Miguel Rosa Kenji Hana Akira Mei Wei Li Ming Chen Raj Arjun Anika Dev Sunita "
    "Fatima Ali Hassan Leila Amir Zara Yusuf Aisha Amara Kofi Nia Zola Tariq Samira Erik Astrid Lars Freya Sven Bjorn Nils "
    "Maja Karl Ida Otto Frida Emil Finn Aoife Niall Rory Fiona Duncan Isla Callum Megan Rhys Owen Bella Charlie Daisy Edward "
    "Frank George Harry Isaac Jasper Kevin Linda Michael Nathan Paula Quentin Robert Susan Steven Teresa Ursula Victor "
    "Wendy Xavier Yvonne Zoe Andrew Barbara Chris Diana Ethan Fred Gina Helen Irene Jacob Kim Lisa Martin Nora Oliver "
    "Philip Rachel Simon Theo Uma Vera William Yara Zack Sandra Daniel Thomas Eric Jessica Ashley Amanda Brian Jason Ryan "
    "Gary Jeff Scott Patrick Sean Hannah Abigail Madison Jordan Taylor Morgan Casey Alex Robin Pat Joe Amy Ken Ron Dan"
).split()
ANIMALS = (
    "unicorn dragon fox rabbit bear owl cat dog mouse lion tiger elephant monkey giraffe zebra kangaroo koala panda wolf deer "
    "horse pony donkey cow pig sheep goat lamb hen duck goose swan frog toad turtle snail bee ant spider butterfly ladybug "
    "dolphin whale shark seal penguin parrot sparrow robin eagle crow squirrel beaver mole bat camel llama alpaca lizard "
    "snake crab starfish jellyfish fish puppy kitten cub chick dinosaur phoenix fairy elf giant dwarf troll robot knight "
    "princess prince king queen pirate sailor baker farmer gardener painter teacher doctor witch ghost cloud star moon "
    "snowflake boat train tractor teddy doll kite balloon pebble tree flower mushroom acorn apple monster "
    "firefly cricket hamster otter moose bison peacock turkey rooster leopard cheetah hippo rhino crocodile alligator "
    "chameleon salamander salmon trout seahorse squid clam worm caterpillar dragonfly hummingbird woodpecker stork raven "
    "falcon hawk pigeon dove lynx skunk porcupine reindeer buffalo gorilla lemur sloth bicycle truck rocket spaceship "
    "scientist singer dancer chef fisherman miner shepherd clown child girl boy grandmother grandfather"
).split()
HELD_SAFE_ANIMALS = [a for a in ANIMALS if a not in HELD]
PLACES = (
    "Paris|London|Berlin|Madrid|Rome|Vienna|Prague|Lisbon|Dublin|Oslo|Stockholm|Helsinki|Copenhagen|Athens|Warsaw|Budapest|"
    "Brussels|Amsterdam|Zurich|Munich|Hamburg|Cologne|Frankfurt|Milan|Venice|Naples|Florence|Barcelona|Seville|Porto|Lyon|"
    "Nice|Marseille|Bordeaux|Edinburgh|Glasgow|Manchester|Liverpool|Oxford|Cambridge|York|Leeds|Boston|Chicago|Seattle|"
    "Portland|Austin|Dallas|Houston|Miami|Atlanta|Detroit|Toronto|Montreal|Vancouver|Ottawa|Havana|Lima|Santiago|Cairo|Tunis|"
    "Accra|Dakar|Cape Town|Johannesburg|Tel Aviv|Istanbul|Ankara|Dubai|Delhi|Mumbai|Chennai|Bangkok|Hanoi|Manila|Singapore|"
    "Seoul|Tokyo|Beijing|Shanghai|Hong Kong|Sydney|Melbourne|Perth|Auckland|Wellington|Honolulu|New York|Los Angeles|"
    "San Francisco|San Diego|Las Vegas|New Delhi|Mexico City|Buenos Aires|Rio de Janeiro|Sao Paulo|Kuala Lumpur|"
    "Saint Petersburg|Moscow|Kyiv|Sofia|Bucharest|Belgrade|Sarajevo|Ljubljana|Bratislava|Salzburg|Basel|Bern|Luxembourg|Nantes|"
    "Turin|Bologna|Palermo|Malaga|Granada|Bilbao|Springfield|Oakland|Memphis|Nashville|Orlando|Tampa|Cleveland|Baltimore|"
    "Salt Lake City|Quebec|Calgary|Winnipeg|Kingston|Panama City|Caracas|La Paz|Casablanca|Algiers|Kigali|Harare|Doha|Kuwait City|"
    "Tehran|Karachi|Lahore|Kabul|Dhaka|Colombo|Kathmandu|Taipei|Busan|Sapporo|Brisbane|Adelaide|Hobart|Suva|Santa Fe|St. Louis"
).split("|")
THINGS = (
    "apple banana orange lemon cherry grape melon peach plum mango carrot potato onion pepper tomato bread cheese butter milk egg "
    "soup salad pizza pasta rice cake cookie pie honey jam tea coffee juice water chocolate pancake sandwich burger noodle "
    "chair table lamp desk bed sofa shelf door window mirror clock carpet pillow blanket cup plate bowl spoon fork knife pot pan "
    "bottle basket box bag wallet key phone laptop tablet camera radio speaker printer keyboard monitor cable charger battery "
    "book pen pencil notebook paper letter card map ticket coin stamp hat coat shirt dress sock shoe boot scarf glove belt ring "
    "necklace watch umbrella tent rope ladder hammer nail screw saw drill brush bucket hose shovel rake ball bat drum guitar piano "
    "violin flute trumpet bike scooter skateboard sled boat canoe car bus train plane balloon kite puzzle doll toy robot game movie "
    "song poem story picture statue vase candle garden tree flower rose tulip daisy fern stone shell feather bell flag crown"
).split()
ADJECTIVES = (
    "small big tiny brave shy kind clever curious sleepy happy sad lonely gentle friendly funny old young quiet silly proud "
    "grumpy lazy busy little golden silver purple green blue red white black pink orange yellow magic lost hungry cheerful"
).split()
COLORS = "red blue green yellow purple orange pink black white brown gray silver gold violet crimson teal".split()
FOODS = (
    "pizza pasta soup salad rice bread cheese cake chocolate apples bananas pancakes noodles tacos sushi curry cookies honey "
    "strawberries cherries mangoes potatoes dumplings burgers waffles yogurt beans olives"
).split()
JOBS = (
    "teacher doctor nurse baker farmer gardener painter pilot sailor cook chef writer singer dancer driver lawyer engineer "
    "carpenter plumber librarian scientist photographer musician actor designer programmer dentist judge"
).split()
HOBBIES = (
    "swimming reading painting dancing singing cooking hiking fishing running cycling drawing gardening chess skating skiing "
    "knitting baking sailing climbing photography"
).split()
SPORTS = "football tennis basketball hockey chess golf rugby volleyball baseball badminton cricket".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
VERBS = (
    "get find send create delete update search list show open close start stop add remove check move copy read write save load "
    "buy sell order book cancel call play make count pick share lock unlock scan archive rename assign fetch run build sort clean"
).split()
NOUNS = (
    "message email file folder note task event user account order invoice ticket report photo video song playlist room door "
    "light window car train hotel table meal product item price stock city weather map route contact team project issue page "
    "document record comment tag label list cart payment account report sensor device robot camera bill letter package job "
    "lesson course exam game score player match movie book review poem story garden plant pet animal garage engine tool"
).split()
WORD_POOL = sorted(set(HELD_SAFE_ANIMALS + THINGS + ADJECTIVES + FOODS + JOBS + HOBBIES + NOUNS) - HELD)

_ON = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sm sn sp st t th tr v w y z".split()
_VO = "a e i o u a e i o u ai ea ee ia ie io oa oo ou".split()
_CO = ["", "", "", "", *"b d g k l m n n p r r s s t t x ck ff ld ll lt mp nd ng nk nt rd rk rn rt sh ss st th".split()]


_STEMS = sorted({w.lower() for w in WORD_POOL + NAMES + VERBS + [p for p in PLACES if " " not in p]})


class HeldOutWordError(ValueError):
    """A training document holds a word, key or tool name that only the evaluation may use."""


def check(text: str) -> None:
    """Raise HeldOutWordError when `text` holds any held-out word (any case) or tool name."""
    found = HELD.intersection(_WORD.findall(text.lower())) or set(_TOOL.findall(text))
    if found:
        raise HeldOutWordError(f"held-out words in training text: {sorted(found)}")


def made_up(rng: random.Random) -> str:
    """A lower-case word of one to three syllables that is no held-out word."""
    while True:
        count = rng.choice((1, 2, 2, 2, 3, 3))
        word = "".join(rng.choice(_ON) + rng.choice(_VO) + rng.choice(_CO) for _ in range(count))
        if rng.random() < 0.4:
            # Halves of two real words: English spelling, hence the pieces that an unseen English word has.
            first, last = rng.choice(_STEMS), rng.choice(_STEMS)
            word = first[: rng.randint(2, max(2, len(first) - 2))] + last[-rng.randint(2, 4) :]
        elif rng.random() < 0.15:
            word = rng.choice("aeiou") + word
        if rng.random() < 0.06:
            # A piece that comes twice: whoever copies has to look further back than to that piece.
            word = word[: rng.randint(2, 3)] + word
        if 3 <= len(word) <= 12 and word not in HELD:
            return word


def name(rng: random.Random, made: float = 0.5) -> str:
    """A first name, made up with probability `made`."""
    return made_up(rng).capitalize() if rng.random() < made else rng.choice(NAMES)


def hero(rng: random.Random, made: float = 0.45) -> str:
    """A noun that a story can be about."""
    if rng.random() < made:
        return made_up(rng)
    return rng.choice(HELD_SAFE_ANIMALS if rng.random() < 0.8 else WORD_POOL)


def thing(rng: random.Random, made: float = 0.4) -> str:
    """A common noun."""
    return made_up(rng) if rng.random() < made else rng.choice(WORD_POOL)


def place(rng: random.Random) -> str:
    """A city, of one or more words, half of them made up."""
    if rng.random() < 0.5:
        return rng.choice(PLACES)
    first = made_up(rng).capitalize()
    if rng.random() < 0.3:
        return rng.choice(("New", "San", "Saint", "Port", "Fort", "Lake", "El", "Los", "Mount")) + " " + first
    return f"{first} {made_up(rng).capitalize()}" if rng.random() < 0.12 else first


def phrase(rng: random.Random, low: int = 2, high: int = 4) -> str:
    """Several lower-case words in a row, such as a title or a message."""
    return " ".join(thing(rng, 0.3) for _ in range(rng.randint(low, high)))


def number(rng: random.Random, digits: int | None = None) -> int:
    """A positive integer of one to five digits, short ones more often."""
    size = digits or rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5))
    return rng.randint(10 ** (size - 1), 10**size - 1)


def code(rng: random.Random) -> str:
    """An identifier with digits, such as `SUB-4471`."""
    letters = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(1, 4)))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 6)))
    form = rng.randrange(5)
    if form == 0:
        return digits
    if form == 1:
        return f"{letters}{digits}"
    if form == 2:
        return f"{letters.lower()}_{digits}"
    return f"{letters}-{digits}"


def email(rng: random.Random) -> str:
    """A made-up address at a reserved domain."""
    return f"{name(rng).lower()}@{rng.choice(('example.com', 'example.org', 'mail.example'))}"


def article(word: str) -> str:
    """The word with `a` or `an` before it."""
    return ("an " if word[0].lower() in "aeiou" else "a ") + word
