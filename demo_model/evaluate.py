"""Evaluation: `python -m demo_model.evaluate` in process, or `--base-url http://127.0.0.1:8600/v1` through any server.

Both ways ask the same cases; the second uses the official SDK's Responses API with previous_response_id.
Prints the table as Markdown; `--wrong` shows the wrong answers, `--samples` some conversations.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .cases import Case, Reply, all_cases, user
from .export import OUT
from .held_tools import Item

LIMIT = 240


class Talk(Protocol):
    """One conversation with a model: each turn's items in, the reply out."""

    def say(self, items: list[Item]) -> Reply:
        """The reply to one turn."""
        ...


class Remote:
    """A conversation over the Responses API; the server keeps the earlier turns."""

    def __init__(self, client: Any, model: str, temperature: float | None, case: Case) -> None:
        self.client, self.last = client, None
        self.fixed: dict[str, Any] = {"model": model, "max_output_tokens": LIMIT}
        if temperature is not None:
            self.fixed["temperature"] = temperature
        if case.instructions:
            self.fixed["instructions"] = case.instructions
        if case.effort:
            self.fixed["reasoning"] = {"effort": case.effort}
        if case.tools:
            self.fixed["tools"] = case.tools
        if case.schema:
            self.fixed["text"] = {
                "format": {"type": "json_schema", "name": "answer", "schema": case.schema, "strict": True}
            }

    def say(self, items: list[Item]) -> Reply:
        """One responses.create call."""
        more: dict[str, Any] = {"previous_response_id": self.last} if self.last else {}
        got = self.client.responses.create(input=items, **self.fixed, **more)
        self.last = got.id
        calls = [
            (i.name, json.loads(i.arguments))
            for i in got.output
            if i.type == "function_call" and got.status == "completed"
        ]
        thought = [part.text for i in got.output if i.type == "reasoning" for part in i.content or i.summary]
        return Reply(got.output_text, calls, got.status == "completed", "".join(thought))


class Local:
    """The same conversation in process through xllamacpp's chat completions."""

    def __init__(self, server: Any, temperature: float | None, case: Case) -> None:
        self.server, self.case = server, case
        self.messages: list[dict[str, Any]] = (
            [{"role": "system", "content": case.instructions}] if case.instructions else []
        )
        self.fixed: dict[str, Any] = {"max_tokens": LIMIT}
        if temperature is not None:
            self.fixed["temperature"] = temperature
        if case.effort:
            self.fixed["chat_template_kwargs"] = {"reasoning_effort": case.effort}
        if case.tools:
            functions = [{k: v for k, v in t.items() if k != "type"} for t in case.tools]
            self.fixed["tools"] = [{"type": "function", "function": f} for f in functions]
        if case.schema:
            self.fixed["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": case.schema},
            }

    def say(self, items: list[Item]) -> Reply:
        """One chat completion over all turns so far."""
        self.messages += [as_message(i) for i in items]
        got = self.server.handle_chat_completions({"messages": self.messages, **self.fixed})
        if "error" in got:
            raise RuntimeError(got["error"])
        choice = got["choices"][0]
        message, complete = choice["message"], choice["finish_reason"] != "length"
        self.messages.append(
            {
                "role": "assistant",
                "content": message.get("content") or "",
                **({"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {}),
            }
        )
        calls = [
            (c["function"]["name"], json.loads(c["function"]["arguments"]))
            for c in message.get("tool_calls") or []
            if complete
        ]
        return Reply(message.get("content") or "", calls, complete, message.get("reasoning_content") or "")


def as_message(item: Item) -> dict[str, Any]:
    """A Responses API input item as a chat message."""
    if item.get("type") == "function_call":
        call = {
            "id": item["call_id"],
            "type": "function",
            "function": {"name": item["name"], "arguments": item["arguments"]},
        }
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if item.get("type") == "function_call_output":
        return {"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}
    return {"role": item["role"], "content": item["content"]}


def opener(args: argparse.Namespace) -> Callable[[Case], Talk]:
    """How to begin a conversation, by the options."""
    temperature = None if args.temperature == "default" else float(args.temperature)
    if args.base_url:
        from openai import OpenAI

        client = OpenAI(base_url=args.base_url, api_key=args.api_key)
        return lambda case: Remote(client, args.model, temperature, case)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(args.gguf)
    params.n_ctx, params.n_parallel, params.use_jinja, params.verbosity = 4096, 1, True, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    return lambda case: Local(server, temperature, case)


@dataclass
class Score:
    """Outcomes by task, and how many replies there were, ran to the token limit, or thought without being asked to."""

    outcomes: dict[str, list[bool]] = field(default_factory=dict)
    replies: int = 0
    cut: int = 0
    unasked: int = 0


def measure(start: Callable[[Case], Talk], cases: list[Case], *, wrong: bool) -> Score:
    """Ask every case."""
    score = Score()
    for case in cases:
        talk = start(case)
        got = [talk.say(items) for items in case.turns]
        score.replies += len(got)
        score.cut += sum(not r.complete for r in got)
        score.unasked += sum(bool(r.plan) for r in got if not case.effort)
        for task, judge in case.judges.items():
            score.outcomes.setdefault(task, []).append(bool(judge(got)))
        task = next(iter(case.judges))
        if wrong and not score.outcomes[task][-1]:
            asked = case.turns[-1][-1]
            said = asked.get("content") or asked.get("output")
            print(f"- {task}: {said!r} -> {got[-1].plan!r} {got[-1].text!r} {got[-1].calls}", flush=True)
    return score


def table(score: Score) -> str:
    """The outcomes as Markdown, breakdowns (`- `) below their group."""
    lines = ["| task | right | of | share |", "| --- | ---: | ---: | ---: |"]
    for task, got in score.outcomes.items():
        lines.append(f"| {task} | {sum(got)} | {len(got)} | {100 * sum(got) / len(got):.0f} % |")
    groups = [g for task, g in score.outcomes.items() if not task.startswith("- ")]
    right, count = sum(map(sum, groups)), sum(map(len, groups))
    lines.append(f"| **all groups** | **{right}** | **{count}** | **{100 * right / count:.0f} %** |")
    return "\n".join(lines)


SAMPLES: list[Case] = [
    Case({}, [user("Tell me a three sentence bedtime story about a unicorn.")]),
    Case({}, [user("My name is Alice."), user("What is my name?")]),
    Case({}, [user("Tell me a three sentence bedtime story about a walrus."), user("Now one about an astronaut.")]),
    Case(
        {},
        [user("What is 3 + 4?"), user("Who won the 1998 World Cup?"), user("Who are you?"), user("Count to five.")],
    ),
    Case({}, [user("Hello!")], "You are a pirate."),
    Case({}, [user("Tell me a two sentence story about a lighthouse.")], effort="low"),
]


def show(start: Callable[[Case], Talk]) -> None:
    """Some conversations as Markdown."""
    for case in SAMPLES:
        talk = start(case)
        for items in case.turns:
            rule = f"({case.instructions}) " if case.instructions else ""
            got = talk.say(items)
            plan = f"(thinks: {got.plan}) " if got.plan else ""
            print(f'- {rule}"{items[0]["content"]}" -> {plan}"{got.text}"')


def main() -> None:
    """Read the options, ask everything, print the table."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--base-url", help="an OpenAI-compatible server; without it the model runs in process")
    p.add_argument("--api-key", default="none")
    p.add_argument("--model", default="antiphon-demo")
    p.add_argument("--gguf", type=Path, default=OUT)
    p.add_argument("--temperature", default="0", help="a number, or `default` to send none")
    p.add_argument("--only", default="", help="only groups whose name holds this")
    p.add_argument("--every", type=int, default=1, help="only every n-th case, for a quick look")
    p.add_argument("--wrong", action="store_true", help="print the wrong answers")
    p.add_argument("--samples", action="store_true")
    args = p.parse_args()
    start = opener(args)
    if args.samples:
        show(start)
        return
    began = time.monotonic()
    cases = [c for c in all_cases() if args.only in next(iter(c.judges))]
    score = measure(start, cases[:: args.every], wrong=args.wrong)
    print(f"\n{table(score)}\n")
    print(f"{score.replies} replies in {time.monotonic() - began:.0f} s; {score.cut} hit the limit of {LIMIT} tokens;")
    print(f"{score.unasked} thought without being asked to.")


if __name__ == "__main__":
    main()
