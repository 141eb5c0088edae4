"""What the bundled model can do: text, a tool that it is made to call, and output that holds to a type."""

import asyncio
import json

import configuration  # noqa: F401
from agents import Agent, ModelSettings, Runner, function_tool
from pydantic import BaseModel

cities: list[str] = []


@function_tool
def get_weather(location: str) -> str:
    """Get the weather"""
    cities.append(location)
    return "It is sunny, 21 degrees."


class Person(BaseModel):
    name: str
    age: int


async def main() -> None:
    greedy = ModelSettings(temperature=0)
    teller = Agent(name="Teller", model="gpt-4.1", model_settings=greedy)
    story = Runner.run_streamed(teller, "Tell me a three sentence bedtime story about a unicorn.")
    deltas = [
        event.data.delta
        async for event in story.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    first = await Runner.run(teller, "My name is Alice.")
    named = await Runner.run(teller, "What is my name?", previous_response_id=first.last_response_id)
    caller = teller.clone(tools=[get_weather], model_settings=ModelSettings(temperature=0, tool_choice="required"))
    weather = await Runner.run(caller, "What is the weather in Paris?")
    person = await Runner.run(teller.clone(output_type=Person), "Alice is 30 years old. Who is it?")
    told = {"deltas": deltas, "story": story.final_output, "named": named.final_output, "cities": cities}
    told |= {"weather": weather.final_output, "person": person.final_output.model_dump()}
    print(json.dumps(told))


asyncio.run(main())
