"""How a conversation goes on: the client's messages, the server's chain, its conversation, and nothing stored."""

import asyncio
import json

from configuration import model
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessagesTypeAdapter, ThinkingPart
from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def conversed(settings: OpenAIResponsesModelSettings, model: OpenAIResponsesModel = model) -> list[object]:
    """Three turns, the second with reasoning and a tool; the history goes through JSON as if it had been stored."""
    agent = Agent(model, tools=[get_weather], model_settings=settings)
    first = await agent.run("My name is Alice")
    second = await agent.run("Think over the weather in Oslo", message_history=first.all_messages())
    kept = ModelMessagesTypeAdapter.validate_json(second.all_messages_json())
    async with agent.run_stream("What is my name?", message_history=kept) as last:
        named = await last.get_output()
    thoughts = [part for message in second.new_messages() for part in message.parts if isinstance(part, ThinkingPart)]
    return [second.output, named, len(thoughts), all(thought.signature for thought in thoughts)]


async def main() -> None:
    client: AsyncOpenAI = model.client
    conversation = await client.conversations.create()
    thinker = OpenAIResponsesModel("gpt-5", provider=OpenAIProvider(openai_client=client))
    thinking = OpenAIResponsesModelSettings(openai_reasoning_effort="low", openai_reasoning_summary="detailed")
    told = {
        "messages": await conversed(OpenAIResponsesModelSettings()),
        "chained": await conversed(OpenAIResponsesModelSettings(openai_previous_response_id="auto")),
        "conversed": await conversed(OpenAIResponsesModelSettings(openai_conversation_id=conversation.id)),
        "sealed": await conversed({**thinking, "openai_store": False}, thinker),
        "reasoned": await conversed({**thinking, "openai_previous_response_id": "auto"}, thinker),
    }
    items = [item.type async for item in client.conversations.items.list(conversation.id, order="asc")]
    print(json.dumps({**told, "items": items}))


asyncio.run(main())
