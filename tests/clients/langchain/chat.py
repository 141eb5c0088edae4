"""Messages in, messages out: whole, streamed and asynchronous, with tools, types, images and reasoning."""

import asyncio
import json

from configuration import model
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Person(BaseModel):
    """A person."""

    name: str = Field(description="The first name")
    age: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@tool
def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


def called_and_answered(*, streamed: bool) -> list[object]:
    """Two calls at once, and the answer from their results."""
    bound = model.bind_tools([get_weather, get_time])
    messages: list = [SystemMessage("Be brief."), HumanMessage("The weather and the time in Oslo")]

    def said() -> object:
        if not streamed:
            return bound.invoke(messages)
        first, *rest = bound.stream(messages)
        return sum(rest, first)

    asked = said()
    tools = {"get_weather": get_weather, "get_time": get_time}
    results = [
        ToolMessage(tools[call["name"]].invoke(call["args"]), tool_call_id=call["id"]) for call in asked.tool_calls
    ]
    messages += [asked, *results]
    answer = said()
    return [sorted(call["name"] for call in asked.tool_calls), answer.text, answer.usage_metadata["total_tokens"] > 0]


async def main() -> None:
    pieces = [chunk.text async for chunk in model.astream("One two three four")]
    image = HumanMessage(
        [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ]
    )
    told = {
        "whole": (await model.ainvoke("Good morning")).text,
        "pieces": pieces,
        "image": model.invoke([image]).text,
        "called": called_and_answered(streamed=False),
        "called_streamed": called_and_answered(streamed=True),
        "by_schema": model.with_structured_output(Person, method="json_schema").invoke("30 is Alice").model_dump(),
        "by_tool": model.with_structured_output(Person, method="function_calling").invoke("30 is Bob").model_dump(),
    }
    print(json.dumps(told))


asyncio.run(main())
