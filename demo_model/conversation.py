"""What a conversation is, and how it becomes the text that the model sees.

`TEMPLATE` is the chat template written into the GGUF file; `render` writes the same text in Python, and
`test_template.py` compares the two. It must not know any task. Prompts are byte-stable: a later turn only appends.
"""

import json
from dataclasses import dataclass, field
from typing import Any

END = "<|im_end|>"
ROLES = {r: f"<|{r}|>" for r in ("tools", "system", "user", "assistant", "tool")}
SPECIAL = ["<|endoftext|>", END, *ROLES.values(), "<tool_call>", "</tool_call>", "<think>", "</think>"]
# A stretch of an assistant's text between these two is the grammar's to write: it counts little in the loss.
QUIET_ON, QUIET_OFF = "\x01", "\x02"

TEMPLATE = """\
{%- if tools %}{{- '<|tools|>' }}
{%- for t in tools %}{%- set f = t.function if t.function else t %}
{%- set ns = namespace(args='') %}
{%- if f.parameters and f.parameters.properties %}
{%- for key, p in f.parameters.properties.items() %}
{%- if ns.args %}{%- set ns.args = ns.args + ', ' %}{%- endif %}
{%- if p.enum %}{%- set ns.args = ns.args + key + ': ' + (p.enum | join('/')) %}
{%- elif p.type is string %}{%- set ns.args = ns.args + key + ': ' + p.type %}
{%- else %}{%- set ns.args = ns.args + key %}{%- endif %}
{%- endfor %}{%- endif %}
{{- f.name + '(' + ns.args + ')' }}
{%- if f.description %}{{- ': ' + f.description }}{%- endif %}
{%- if not loop.last %}{{- '\\n' }}{%- endif %}
{%- endfor %}{{- '<|im_end|>' }}{%- endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{- '<|tool|>' }}
{%- elif m.role == 'assistant' %}{{- '<|assistant|>' }}
{%- if m.reasoning_content %}{{- '<think>' + m.reasoning_content + '</think>' }}{%- endif %}
{%- elif m.role == 'user' %}{{- '<|user|>' }}
{%- else %}{{- '<|system|>' }}{%- endif %}
{%- if m.content is string %}{{- m.content }}
{%- elif m.content %}{%- for part in m.content %}
{%- if part.text %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}
{%- if m.tool_calls %}{%- for call in m.tool_calls %}{%- set c = call.function if call.function else call %}
{{- '<tool_call>{"name": "' + c.name + '", "arguments": ' }}
{%- if c.arguments is string %}{{- c.arguments }}{%- else %}{{- c.arguments | tojson }}{%- endif %}
{{- '}</tool_call>' }}{%- endfor %}{%- endif %}
{{- '<|im_end|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}
{%- if reasoning_effort and reasoning_effort != 'none' %}{{- '<think>' }}{%- endif %}{%- endif %}"""


@dataclass(frozen=True)
class Arg:
    """One argument of a tool: `kind` is a JSON type, or the allowed words of an enum joined by `/`."""

    key: str
    kind: str


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    args: tuple[Arg, ...]
    description: str = ""

    def line(self) -> str:
        """How the template shows it to the model."""
        args = ", ".join(f"{a.key}: {a.kind}" for a in self.args)
        return f"{self.name}({args})" + (f": {self.description}" if self.description else "")

    def schema(self) -> dict[str, Any]:
        """Its JSON schema, shape `{type: object, properties, required, additionalProperties}`."""
        props = {
            a.key: {"type": "string", "enum": a.kind.split("/")} if "/" in a.kind else {"type": a.kind}
            for a in self.args
        }
        return {"type": "object", "properties": props, "required": list(props), "additionalProperties": False}


@dataclass
class Message:
    """One turn; `calls` are (tool name, arguments) pairs of an assistant, `plan` is what it thinks before it speaks."""

    role: str
    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    plan: str = ""


@dataclass
class Conversation:
    """Turns in order, after the tools that the model may call; `plain` answers may be changed by a system prompt.

    Only the turns at the places in `thinking` show their plans: where an effort was asked for and the plan is kept.
    """

    turns: list[Message] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    plain: bool = True
    thinking: frozenset[int] = frozenset()

    def ask(self, question: str, answer: str, plan: str = "") -> "Conversation":
        """Append a question and its answer; returns itself."""
        self.turns += [Message("user", question), Message("assistant", answer, plan=plan)]
        return self


def call_text(name: str, arguments: dict[str, Any]) -> str:
    """A tool call as the model writes it."""
    return f'<tool_call>{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}</tool_call>'


def segments(talk: Conversation) -> list[tuple[str, float]]:
    """The text in pieces with the loss weight of each: 0 for what the model reads, 1 for what it says."""
    out: list[tuple[str, float]] = []
    if talk.tools:
        out.append((ROLES["tools"] + "\n".join(t.line() for t in talk.tools) + END, 0.0))
    for place, m in enumerate(talk.turns):
        if m.role != "assistant":
            out.append((ROLES[m.role] + m.text + END, 0.0))
            continue
        out.append((ROLES["assistant"], 0.0))
        if place in talk.thinking and m.plan:
            out += [("<think>", 0.0), (m.plan + "</think>", 1.0)]
        for i, part in enumerate(m.text.split(QUIET_ON)):
            quiet, _, loud = part.rpartition(QUIET_OFF) if i else ("", "", part)
            out += [(quiet, 0.15), (loud, 1.0)]
        out.append(("".join(call_text(*c) for c in m.calls) + END, 1.0))
    return [(text, weight) for text, weight in out if text]


def render(talk: Conversation, count: int, *, effort: bool = False) -> str:
    """The prompt for the answer after the first `count` turns, equal to what `TEMPLATE` gives."""
    begun = Conversation(talk.turns[:count], talk.tools, thinking=talk.thinking)
    return "".join(t for t, _ in segments(begun)) + ROLES["assistant"] + ("<think>" if effort else "")
