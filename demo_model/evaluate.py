"""Evaluation: `python -m demo_model.evaluate` in process, or `--base-url http://127.0.0.1:8600/v1` through any server.

Both ways ask the same cases; the second uses the official SDK's Responses API with previous_response_id.
Prints the table as Markdown; `--wrong` shows the wrong answers, `--samples` some conversations.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .cases import Case, Item, Reply, all_cases, user
from .export import OUT

LIMIT = 220


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
        if case.tools:
            self.fixed["tools"] = case.tools
        if case.schema:
            self.fixed["text"] = {
                "format": {"type": "json_schema", "name": "answer", "schema": case.schema, "strict": True}
            }

    def say(self, items: list[Item]) -> Reply:
        """One responses.create call."""
        more = {"previous_response_id": self.last} if self.last else {}
        got = self.client.responses.create(input=items, **self.fixed, **more)
        self.last = got.id
        calls = [
            (i.name, json.loads(i.arguments))
            for i in got.output
            if i.type == "function_call" and got.status == "completed"
        ]
        return Reply(got.output_text, calls, got.status == "completed")


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
        return Reply(message.get("content") or "", calls, complete)


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


def measure(start: Callable[[Case], Talk], wrong: bool) -> tuple[dict[str, list[bool]], int, int]:
    """(task -> outcomes, replies in all, replies that hit the token limit)."""
    outcomes: dict[str, list[bool]] = {}
    replies = cut = 0
    for case in all_cases():
        talk = start(case)
        got = [talk.say(items) for items in case.turns]
        replies, cut = replies + len(got), cut + sum(not r.complete for r in got)
        right = bool(case.judge(got))
        outcomes.setdefault(case.task, []).append(right)
        if wrong and not right:
            asked = case.turns[-1][-1]
            print(f"- {case.task}: {asked.get('content') or asked.get('output')!r} -> {got[-1].text!r} {got[-1].calls}")
    return outcomes, replies, cut


SAMPLES: list[Case] = [
    Case("", [user("Tell me a three sentence bedtime story about a unicorn.")], bool),
    Case("", [user("My name is Alice."), user("What is my name?")], bool),
    Case(
        "", [user("Tell me a three sentence bedtime story about a walrus."), user("Now one about an astronaut.")], bool
    ),
    Case(
        "",
        [user("What is 3 + 4?"), user("Who won the 1998 World Cup?"), user("Who are you?"), user("Count to five.")],
        bool,
    ),
    Case("", [user("Hello!")], bool, "You are a pirate."),
]


def show(start: Callable[[Case], Talk]) -> None:
    """Some conversations as Markdown."""
    for case in SAMPLES:
        talk = start(case)
        for items in case.turns:
            rule = f"({case.instructions}) " if case.instructions else ""
            print(f'- {rule}"{items[0]["content"]}" -> "{talk.say(items).text}"')


def main() -> None:
    """Read the options, ask everything, print the table."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--base-url", help="an OpenAI-compatible server; without it the model runs in process")
    p.add_argument("--api-key", default="none")
    p.add_argument("--model", default="antiphon-demo")
    p.add_argument("--gguf", type=Path, default=OUT)
    p.add_argument("--temperature", default="0", help="a number, or `default` to send none")
    p.add_argument("--wrong", action="store_true")
    p.add_argument("--samples", action="store_true")
    args = p.parse_args()
    start = opener(args)
    if args.samples:
        show(start)
        return
    began = time.monotonic()
    outcomes, replies, cut = measure(start, args.wrong)
    print("\n| task (20 held-out cases each) | right | of |\n| --- | ---: | ---: |")
    for task, got in outcomes.items():
        print(f"| {task} | {sum(got)} | {len(got)} |")
    total = sum(sum(g) for g in outcomes.values())
    print(f"| **all** | **{total}** | **{sum(map(len, outcomes.values()))}** |")
    print(f"\n{replies} replies in {time.monotonic() - began:.0f} s; {cut} hit the limit of {LIMIT} tokens.")


if __name__ == "__main__":
    main()
