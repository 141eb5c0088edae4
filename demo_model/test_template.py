"""The chat template and the Python rendering give the same text; the split of held-out words holds. Run with pytest."""

import json
import random
from itertools import islice
from typing import Any

import jinja2
import pytest

from . import words
from .conversation import QUIET_OFF, QUIET_ON, TEMPLATE, Conversation, Message, render
from .generate import conversations, one
from .tokenizer import load


def as_openai(talk: Conversation, turns: list[Message]) -> dict[str, Any]:
    """Messages and tools in the shape of chat completions."""
    messages = []
    for m in turns:
        calls = [{"function": {"name": n, "arguments": a}} for n, a in m.calls]
        messages.append({"role": m.role, "content": m.text, **({"tool_calls": calls} if calls else {})})
    tools = [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema()}}
        for t in talk.tools
    ]
    return {"messages": messages, "tools": tools}


def jinja(talk: Conversation, turns: list[Message]) -> str:
    """The template rendered by Jinja itself."""
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - no HTML here
    env.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    env.filters["tojson"] = lambda v: json.dumps(v, ensure_ascii=False)
    return env.from_string(TEMPLATE).render(add_generation_prompt=True, **as_openai(talk, turns))


def plain(text: str) -> str:
    """The text without the marks for the loss."""
    return text.replace(QUIET_ON, "").replace(QUIET_OFF, "")


@pytest.mark.parametrize("seed", range(400))
def test_template_equals_training_text(seed: int) -> None:
    talk = one(random.Random(seed), 0.1)
    asked = [i for i, m in enumerate(talk.turns) if m.role == "assistant"][-1]
    assert plain(jinja(talk, talk.turns[:asked])) == plain(render(talk.turns[:asked], talk.tools))


@pytest.mark.parametrize("word", words.HELD_NAMES + words.HELD_HEROES + words.HELD_TOOLS)
def test_check_finds_held_out_words(word: str) -> None:
    with pytest.raises(words.HeldOutWordError):
        words.check(f"a text with {word} in it")


def test_generated_texts_keep_the_split() -> None:
    for parts in islice(conversations(4), 3000):
        words.check("".join(t for t, _ in parts))


def test_a_word_is_cut_the_same_after_space_and_quote() -> None:
    tok = load()
    same = [tok.encode(f" {w}").tokens == ["Ġ", *tok.encode(w).tokens] for w in words.HELD_NAMES + words.HELD_HEROES]
    assert sum(same) >= 0.9 * len(same)
