"""Two tools at once, and their results in the answer."""

import asyncio
import json

import configuration  # noqa: F401
from agents import Agent, Runner, function_tool

called: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    called.append(f"weather {city}")
    return f"sunny in {city}"


@function_tool
def get_time(city: str) -> str:
    """The time in a city."""
    called.append(f"time {city}")
    return f"noon in {city}"


async def main() -> None:
    agent = Agent(name="Assistant", instructions="Be brief.", model="gpt-4.1", tools=[get_weather, get_time])
    result = await Runner.run(agent, "What are the weather and the time in Oslo?")
    usage = result.context_wrapper.usage
    told = {"answer": result.final_output, "called": sorted(called), "requests": usage.requests}
    print(json.dumps({**told, "tokens": [usage.input_tokens, usage.output_tokens, usage.total_tokens]}))


asyncio.run(main())
