"""Completions, chats, tools and types, whole, streamed and asynchronous."""

import asyncio
import json

from configuration import llm
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


tools = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_time)]


def results(calls: list) -> list[ChatMessage]:
    """What the tools return for the calls."""
    by_name = {tool.metadata.name: tool for tool in tools}
    return [
        ChatMessage(
            role="tool",
            content=str(by_name[call.tool_name](**call.tool_kwargs)),
            additional_kwargs={"call_id": call.tool_id},
        )
        for call in calls
    ]


def worked(*, streamed: bool) -> list[object]:
    """Two calls at once, and the answer from their results."""
    asked = ChatMessage(role="user", content="The weather and the time in Oslo")
    if streamed:
        *_, reply = llm.stream_chat_with_tools(tools, chat_history=[asked], allow_parallel_tool_calls=True)
    else:
        reply = llm.chat_with_tools(tools, chat_history=[asked], allow_parallel_tool_calls=True)
    calls = llm.get_tool_calls_from_response(reply)
    history = [asked, reply.message, *results(calls)]
    return [sorted(call.tool_name for call in calls), str(llm.chat(history, tools=[]).message.content)]


def tracked() -> str:
    chained = llm.model_copy(update={"track_previous_responses": True, "store": True})
    chained.chat([ChatMessage(role="user", content="My name is Alice")])
    return str(chained.chat([ChatMessage(role="user", content="What is my name?")]).message.content)


async def main() -> None:
    chat = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Good morning")]
    pixel = ChatMessage(
        role="user",
        blocks=[TextBlock(text="What is it?"), ImageBlock(image=PIXEL.encode(), image_mimetype="image/png")],
    )
    told = {
        "complete": llm.complete("Good evening").text,
        "chat": str((await llm.achat(chat)).message.content),
        "pieces": [chunk.delta async for chunk in await llm.astream_chat(chat)],
        "worked": [worked(streamed=False), worked(streamed=True)],
        "person": llm.as_structured_llm(Person).complete("30 is Alice").raw.model_dump(),
        "tracked": tracked(),
        "image": str(llm.chat([pixel]).message.content),
    }
    print(json.dumps(told))


asyncio.run(main())
