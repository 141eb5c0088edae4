"""What the client's model settings can send, and the kinds of tools that an application or this server runs."""

import asyncio
import json

import configuration  # noqa: F401
from agents import (
    Agent,
    CustomTool,
    ModelSettings,
    Runner,
    ToolSearchTool,
    function_tool,
    tool_namespace,
)


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def shout(context: object, text: str) -> str:
    return text.upper()


get_weather = function_tool(weather, name_override="get_weather")
find_weather = function_tool(weather, name_override="find_weather", defer_loading=True)
custom = CustomTool(name="shout", description="Says it loudly", on_invoke_tool=shout)
EVERYTHING = ModelSettings(
    temperature=0.5,
    top_p=0.9,
    frequency_penalty=0.1,
    presence_penalty=0.1,
    max_tokens=200,
    truncation="auto",
    parallel_tool_calls=False,
    metadata={"purpose": "test"},
    top_logprobs=2,
    tool_choice="auto",
    extra_body={"prompt_cache_key": "here", "safety_identifier": "somebody"},
)


async def answered(text: str, **changes: object) -> str:
    agent = Agent(name="Assistant", model="gpt-4.1", tools=[get_weather])
    return str((await Runner.run(agent.clone(**changes), text)).final_output)


async def main() -> None:
    demanded = {"model_settings": ModelSettings(tool_choice="get_weather"), "tool_use_behavior": "stop_on_first_tool"}
    told = {
        "everything": await answered("The weather in Oslo", model_settings=EVERYTHING),
        "demanded": await answered("Bergen", **demanded),
        "custom": await answered("Please shout", tools=[custom]),
        "namespace": await answered(
            "The weather in Lund", tools=tool_namespace(name="north", description="Of the north", tools=[get_weather])
        ),
        "searched": await answered("Please search the weather", tools=[find_weather, ToolSearchTool()]),
    }
    print(json.dumps(told))


asyncio.run(main())
