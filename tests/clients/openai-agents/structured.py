"""An output type, alone and after a tool."""

import asyncio
import json
from enum import Enum

import configuration  # noqa: F401
from agents import Agent, Runner, function_tool
from pydantic import BaseModel, Field


class Kind(Enum):
    city = "city"
    village = "village"


class Street(BaseModel):
    name: str
    number: int | None


class Place(BaseModel):
    kind: Kind
    name: str = Field(description="Its name")
    streets: list[Street]


@function_tool
def get_population(place: str) -> int:
    """How many live there."""
    return 700_000


async def main() -> None:
    agent = Agent(name="Assistant", model="gpt-4.1", output_type=Place, tools=[get_population])
    whole = await Runner.run(agent, "Describe Oslo")
    listed = await Runner.run(agent.clone(output_type=list[str], tools=[]), "Name towns like Oslo")
    streamed = Runner.run_streamed(agent, "Describe the population of Oslo")
    async for _ in streamed.stream_events():
        pass
    told = {"whole": whole.final_output.model_dump(mode="json"), "listed": listed.final_output}
    print(json.dumps({**told, "streamed": type(streamed.final_output).__name__, "items": len(streamed.new_items)}))


asyncio.run(main())
