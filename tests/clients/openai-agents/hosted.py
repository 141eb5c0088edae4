"""A hosted tool that the server does not have stands beside one that the application runs."""

import json

import configuration  # noqa: F401
from agents import Agent, Runner, WebSearchTool, function_tool


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


agent = Agent(name="Assistant", model="gpt-4.1", tools=[get_weather, WebSearchTool()])
print(json.dumps(Runner.run_sync(agent, "The weather in Turku").final_output))
