"""What the bundled model can do."""

import json

from configuration import model
from langchain_core.tools import tool
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def get_weather(location: str) -> str:
    """Get the weather"""
    return "It is sunny, 21 degrees."


greedy = model.model_copy(update={"temperature": 0})
pieces = [chunk.text for chunk in greedy.stream("Tell me a three sentence bedtime story about a unicorn.")]
asked = greedy.bind_tools([get_weather], tool_choice="required").invoke("What is the weather in Paris?")
person = greedy.with_structured_output(Person, method="json_schema").invoke("Alice is 30 years old. Who is it?")
print(json.dumps({"pieces": pieces, "calls": asked.tool_calls, "person": person.model_dump()}))
