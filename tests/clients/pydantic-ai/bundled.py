"""What the bundled model can do."""

import asyncio
import json

from configuration import model
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput


class Person(BaseModel):
    name: str
    age: int


async def main() -> None:
    greedy = {"temperature": 0.0}
    teller = Agent(model, model_settings=greedy)
    async with teller.run_stream("Tell me a three sentence bedtime story about a unicorn.") as story:
        pieces = [piece async for piece in story.stream_text(delta=True, debounce_by=None)]
    by_tool = await Agent(model, output_type=Person, model_settings=greedy).run("Alice is 30 years old. Who is it?")
    native = Agent(model, output_type=NativeOutput(Person), model_settings=greedy)
    by_schema = await native.run("Alice is 30 years old. Who is it?")
    print(json.dumps({"pieces": pieces, "people": [by_tool.output.model_dump(), by_schema.output.model_dump()]}))


asyncio.run(main())
