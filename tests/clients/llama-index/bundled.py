"""What the bundled model can do."""

import json

from configuration import llm
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def get_weather(location: str) -> str:
    """Get the weather"""
    return "It is sunny, 21 degrees."


greedy = llm.model_copy(update={"temperature": 0})
pieces = [chunk.delta for chunk in greedy.stream_complete("Tell me a three sentence bedtime story about a unicorn.")]
reply = greedy.chat_with_tools(
    [FunctionTool.from_defaults(get_weather)], user_msg="What is the weather in Paris?", tool_required=True
)
calls = [[call.tool_name, call.tool_kwargs] for call in greedy.get_tool_calls_from_response(reply)]
person = greedy.as_structured_llm(Person).complete("Alice is 30 years old. Who is it?").raw
print(json.dumps({"pieces": pieces, "calls": calls, "person": person.model_dump()}))
