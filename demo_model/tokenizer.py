"""The tokenizer: byte-level BPE, words apart from their spaces, single digits.

A name must look the same to the model after a space, a quote or a newline, or copying becomes spelling. So merges are
learnt with spaces split off, and afterwards (space, word) merges are appended for the commonest words alone: they rank
last, and a rare word is cut as it is without the space. In GGUF terms: model `gpt2`, pre-tokenizer `smollm`.
Run `python -m demo_model.tokenizer` to make `work/tokenizer.json`.
"""

import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from . import words
from .conversation import SPECIAL
from .generate import conversations

WORK = Path(__file__).parent / "work"
FILE = WORK / "tokenizer.json"
BASE, SPACED, SELDOM, SAMPLES = 2560, 1000, 250, 40_000


def corpus() -> list[str]:
    """Training text of the generator, without the special tokens, and the word lists."""
    special = re.compile("|".join(map(re.escape, SPECIAL)))
    texts = [special.sub("\n", "".join(t for t, _ in parts)) for parts in islice(conversations(77), SAMPLES)]
    lists = [" ".join(words.NAMES + words.PLACES + words.WORD_POOL + words.VERBS)] * 20
    return texts + lists


def base(texts: list[str]) -> Tokenizer:
    """Byte-level BPE whose pieces never hold a space together with something else."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [  # type: ignore[assignment]
            pre_tokenizers.Split(" ", "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=BASE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer)
    return tok


def spaced(texts: list[str], vocab: dict[str, int]) -> list[str]:
    """The commonest words and signs after a space that are one piece already."""
    special = set(SPECIAL)
    found = re.compile(r" ([A-Za-z]+(?![A-Za-z0-9_])|[^\sA-Za-z0-9]+)")
    counts = Counter(m for t in texts for m in found.findall(t))
    values = set(
        " ".join(words.WORD_POOL + words.NAMES + words.PLACES + words.DAYS + words.MONTHS + words.HOBBIES).split()
    )
    return [
        w for w, n in counts.most_common(SPACED) if n > SELDOM and w in vocab and w not in special and w not in values
    ]


def make() -> Tokenizer:
    """Train, append the spaced words, save."""
    texts = corpus()
    data = json.loads(base(texts).to_str())
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    for word in spaced(texts, vocab):
        merges.append(["Ġ", word])
        vocab["Ġ" + word] = len(vocab)
    tok = Tokenizer.from_str(json.dumps(data))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [  # type: ignore[assignment]
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tok.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    WORK.mkdir(exist_ok=True)
    tok.save(str(FILE))
    return tok


def load() -> Tokenizer:
    """The saved tokenizer, made first if there is none."""
    return Tokenizer.from_file(str(FILE)) if FILE.exists() else make()


def main() -> None:
    """Make it and show how some text is cut."""
    tok = make()
    print(tok.get_vocab_size(), "tokens")
    for text in (
        'What is the weather in Paris? {"location": "Paris"}',
        "Tell me a story about a walrus. The walrus",
        "Your name is Gwendolyn.",
    ):
        print(tok.encode(text).tokens)


if __name__ == "__main__":
    main()
