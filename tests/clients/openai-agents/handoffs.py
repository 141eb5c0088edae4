"""A triage agent hands off to one of two; an agent stands as a tool of another."""

import asyncio
import json

import configuration  # noqa: F401
from agents import Agent, RunContextWrapper, Runner, function_tool, handoff
from pydantic import BaseModel

reasons: list[str] = []


class Reason(BaseModel):
    reason: str


async def note(context: RunContextWrapper[None], given: Reason) -> None:
    reasons.append(given.reason)


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"soleado en {city}"


spanish = Agent(name="Spanish", instructions="You speak Spanish.", model="gpt-4.1", tools=[get_weather])
refunds = Agent(name="Refunds", instructions="You pay back.", model="gpt-4.1")
triage = Agent(name="Triage", model="gpt-4.1", handoffs=[spanish, handoff(refunds, on_handoff=note, input_type=Reason)])
orchestra = Agent(
    name="Orchestra",
    model="gpt-4.1",
    tools=[refunds.as_tool(tool_name="ask_accounting", tool_description="Asks them.")],
)


async def main() -> None:
    spoken = await Runner.run(triage, "In Spanish please: the weather in Oslo")
    history = [*spoken.to_input_list(), {"role": "user", "content": "Thank you"}]
    again = await Runner.run(spoken.last_agent, history)
    paid = await Runner.run(triage, "I want refunds for shoes")
    asked = await Runner.run(orchestra, "Tell accounting about hats")
    told = {
        "spanish": [spoken.last_agent.name, spoken.final_output, again.final_output],
        "refunds": [paid.last_agent.name, reasons],
        "as_tool": [asked.last_agent.name, asked.final_output],
    }
    print(json.dumps(told))


asyncio.run(main())
