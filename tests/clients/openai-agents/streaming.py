"""A streamed run: what arrives piece by piece is what the result holds in the end."""

import asyncio
import json

import configuration  # noqa: F401
from agents import Agent, Runner, function_tool


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    agent = Agent(name="Assistant", model="gpt-4.1", tools=[get_weather])
    run = Runner.run_streamed(agent, "What is the weather in Oslo?")
    text, items, kinds = "", [], set()
    async for event in run.stream_events():
        if event.type == "raw_response_event":
            kinds.add(event.data.type)
            if event.data.type == "response.output_text.delta":
                text += event.data.delta
        elif event.type == "run_item_stream_event":
            items.append(event.name)
    usage = run.context_wrapper.usage
    told = {"text": text, "answer": run.final_output, "items": items, "kinds": sorted(kinds)}
    print(json.dumps({**told, "requests": usage.requests, "tokens": usage.total_tokens}))


asyncio.run(main())
