"""The chat template and the Python rendering give the same text; the split of held-out words holds. Run with pytest."""

import json
import random
from itertools import islice, pairwise
from typing import Any

import jinja2
import pytest
import torch

from . import words
from .cases import UPPER, all_cases
from .conversation import QUIET_OFF, QUIET_ON, TEMPLATE, Conversation, render
from .generate import conversations, one
from .grow import grow
from .model import Model, Shape
from .tokenizer import load


def as_openai(talk: Conversation, count: int) -> dict[str, Any]:
    """Messages and tools in the shape of chat completions."""
    messages = []
    for place, m in enumerate(talk.turns[:count]):
        calls = [{"function": {"name": n, "arguments": a}} for n, a in m.calls]
        plan = {"reasoning_content": m.plan} if m.plan and place in talk.thinking else {}
        messages.append({"role": m.role, "content": m.text, **plan, **({"tool_calls": calls} if calls else {})})
    tools = [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema()}}
        for t in talk.tools
    ]
    return {"messages": messages, "tools": tools}


def jinja(talk: Conversation, count: int, **more: Any) -> str:
    """The template rendered by Jinja itself."""
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - no HTML here
    env.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    env.filters["tojson"] = lambda v: json.dumps(v, ensure_ascii=False)
    return env.from_string(TEMPLATE).render(add_generation_prompt=True, **as_openai(talk, count), **more)


def plain(text: str) -> str:
    """The text without the marks for the loss."""
    return text.replace(QUIET_ON, "").replace(QUIET_OFF, "")


@pytest.mark.parametrize("seed", range(400))
def test_template_equals_training_text(seed: int) -> None:
    talk = one(random.Random(seed), 0.1)
    asked = [i for i, m in enumerate(talk.turns) if m.role == "assistant"][-1]
    assert plain(jinja(talk, asked)) == plain(render(talk, asked))


@pytest.mark.parametrize("effort", ["none", "low", "high"])
@pytest.mark.parametrize("seed", range(40))
def test_effort_opens_a_plan_and_changes_nothing_before_it(seed: int, effort: str) -> None:
    talk = one(random.Random(seed), 0.1)
    asked = [i for i, m in enumerate(talk.turns) if m.role == "assistant"][-1]
    thinks = jinja(talk, asked, reasoning_effort=effort)
    assert plain(thinks) == plain(render(talk, asked, effort=effort != "none"))
    assert thinks.removesuffix("<think>") == jinja(talk, asked)


@pytest.mark.parametrize("seed", range(200))
def test_a_later_turn_only_appends(seed: int) -> None:
    talk = one(random.Random(seed), 0.1)
    asked = [i for i, m in enumerate(talk.turns) if m.role == "assistant"]
    prompts = [jinja(talk, i) for i in asked]
    assert all(after.startswith(before) for before, after in pairwise(prompts))


@pytest.mark.parametrize("word", sorted(words.HELD) + words.HELD_TOOLS)
def test_check_finds_held_out_words(word: str) -> None:
    with pytest.raises(words.HeldOutWordError):
        words.check(f"a text with {word} in it")


def test_generated_texts_keep_the_split() -> None:
    for parts in islice(conversations(4), 3000):
        words.check("".join(t for t, _ in parts))


def test_every_case_is_about_words_or_tools_that_no_training_text_holds() -> None:
    plain = {"Count", "List", "What"}  # counting, lists and sums are tables without words of their own
    for case in all_cases():
        asked = " ".join(str(i.get("content") or i.get("output")) for items in case.turns for i in items)
        asked += " ".join([case.instructions or "", *(t["name"] for t in case.tools if t["name"] in words.HELD_TOOLS)])
        is_table = asked.split()[0] in plain or "I am " in asked or case.instructions in UPPER
        if not is_table:
            with pytest.raises(words.HeldOutWordError):
                words.check(asked)


@pytest.mark.parametrize("grown", [Shape(300, 256, 6, 4, 704, scratch=64), Shape(300, 192, 7, 3, 512, scratch=64)])
def test_a_grown_network_says_what_the_small_one_said(grown: Shape) -> None:
    small = Model(Shape(300))
    bigger = Model(grown)
    bigger.load_state_dict(grow(small.state_dict(), small.shape, grown))
    ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before, after = small.logits(small(ids)), bigger.logits(bigger(ids))
    # The norm's epsilon weighs a little differently over more dimensions, nothing else may.
    assert (before - after).abs().mean() < 0.01 * before.std()
    assert (before.argmax(-1) == after.argmax(-1)).float().mean() > 0.99


def test_a_word_is_cut_the_same_after_space_and_quote() -> None:
    tok = load()
    same = [tok.encode(f" {w}").tokens == ["Ġ", *tok.encode(w).tokens] for w in words.HELD_NAMES + words.HELD_HEROES]
    assert sum(same) >= 0.9 * len(same)
