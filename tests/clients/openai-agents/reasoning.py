"""Reasoning is kept and sent back: from the server's chain, as items, and sealed when nothing is stored."""

import asyncio
import json

import configuration  # noqa: F401
from agents import Agent, ModelSettings, Runner, function_tool
from openai.types.shared import Reasoning


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    thinking = ModelSettings(reasoning=Reasoning(effort="high", summary="auto"))
    sealed = ModelSettings(store=False, response_include=["reasoning.encrypted_content"])
    agent = Agent(name="Thinker", model="gpt-4.1", tools=[get_weather], model_settings=thinking)
    told = {}
    for name, settings in {"stored": thinking, "sealed": thinking.resolve(sealed)}.items():
        run = await Runner.run(agent.clone(model_settings=settings), "Think about the weather in Oslo")
        later = [*run.to_input_list(), {"role": "user", "content": "Thank you"}]
        again = await Runner.run(agent.clone(model_settings=settings), later)
        items = [item.raw_item for item in run.new_items if item.type == "reasoning_item"]
        told[name] = {
            "answers": [run.final_output, again.final_output],
            "reasoned": len(items),
            "sealed": [bool(item.encrypted_content) for item in items],
            "kinds": [item.type for item in run.new_items],
        }
    print(json.dumps(told))


asyncio.run(main())
