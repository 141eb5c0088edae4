"""Guardrails: one asks a model of its own whether to let the input pass, one looks at the output."""

import asyncio
import json
from typing import Any

import configuration  # noqa: F401
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunContextWrapper,
    Runner,
    input_guardrail,
    output_guardrail,
)
from pydantic import BaseModel


class Homework(BaseModel):
    is_homework: bool
    subject: str


judge = Agent(name="Judge", model="gpt-4.1", output_type=Homework)


@input_guardrail
async def no_homework(context: RunContextWrapper[Any], agent: Agent, given: Any) -> GuardrailFunctionOutput:
    """The model says of each text that it is homework, its last word being the subject; algebra is not allowed."""
    judged = (await Runner.run(judge, given)).final_output
    return GuardrailFunctionOutput(judged, judged.is_homework and judged.subject == "algebra")


@output_guardrail
async def no_secret(context: RunContextWrapper[Any], agent: Agent, said: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(said, "secret" in said)


agent = Agent(name="Tutor", model="gpt-4.1", input_guardrails=[no_homework], output_guardrails=[no_secret])


async def tried(text: str) -> str:
    try:
        return str((await Runner.run(agent, text)).final_output)
    except InputGuardrailTripwireTriggered as tripped:
        return f"input: {tripped.guardrail_result.output.output_info.subject}"
    except OutputGuardrailTripwireTriggered:
        return "output"


async def main() -> None:
    print(json.dumps([await tried(text) for text in ("Help me with algebra", "Hello there", "This is secret now")]))


asyncio.run(main())
