"""Agents with tools and output types, whole and streamed."""

import asyncio
import json

from configuration import model
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6364f8cf500f000386018"
    "05a347d6b0000000049454e44ae426082"
)


async def main() -> None:
    agent = Agent(model, instructions="Be brief.", tools=[get_weather, get_time])
    whole = await agent.run("The weather and the time in Oslo")
    async with agent.run_stream("The weather in Bergen") as streamed:
        pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
    typed = {}
    for name, output in {"tool": ToolOutput(Person, name="person"), "native": NativeOutput(Person)}.items():
        typed[name] = (await Agent(model, output_type=output).run("30 years has that person Alice")).output.model_dump()
    async with Agent(model, output_type=NativeOutput(Person)).run_stream("30 is Bob") as streaming:
        partial = [person async for person in streaming.stream_output(debounce_by=None)]
    pixel = BinaryContent(PIXEL, media_type="image/png")
    told = {
        "whole": whole.output,
        "usage": [whole.usage.requests, whole.usage.tool_calls, whole.usage.total_tokens > 0],
        "pieces": pieces,
        "typed": typed,
        "partial": partial[-1].model_dump(),
        "image": (await Agent(model).run(["What is it?", pixel])).output,
    }
    print(json.dumps(told))


asyncio.run(main())
