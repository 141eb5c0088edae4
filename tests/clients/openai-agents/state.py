"""The four ways to go on: the server's chain, its conversation, a session kept in it, and the client's own history."""

import asyncio
import json

import configuration  # noqa: F401
from agents import Agent, OpenAIConversationsSession, Runner, SQLiteSession, function_tool
from agents.models._openai_shared import get_default_openai_client


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


agent = Agent(name="Assistant", model="gpt-4.1", tools=[get_weather])
INTRODUCED, ASKED, ASKED_TOOL = "My name is Alice", "What is my name?", "The weather in Oslo"

client = get_default_openai_client()


async def chained() -> list[str]:
    first = await Runner.run(agent, INTRODUCED)
    second = await Runner.run(agent, ASKED_TOOL, previous_response_id=first.last_response_id)
    third = Runner.run_streamed(agent, ASKED, previous_response_id=second.last_response_id)
    async for _ in third.stream_events():
        pass
    automatic = await Runner.run(agent, ASKED_TOOL, auto_previous_response_id=True)
    return [second.final_output, third.final_output, automatic.final_output]


async def conversed() -> list[str]:
    conversation = await client.conversations.create()
    await Runner.run(agent, INTRODUCED, conversation_id=conversation.id)
    tool = await Runner.run(agent, ASKED_TOOL, conversation_id=conversation.id)
    asked = await Runner.run(agent, ASKED, conversation_id=conversation.id)
    kept = [item.type async for item in client.conversations.items.list(conversation.id, order="asc")]
    return [tool.final_output, asked.final_output, *kept]


async def in_session(session: OpenAIConversationsSession | SQLiteSession) -> dict[str, object]:
    """The session is read, added to, popped from and cleared as an application would."""
    await Runner.run(agent, INTRODUCED, session=session)
    tool = await Runner.run(agent, ASKED_TOOL, session=session)
    streamed = Runner.run_streamed(agent, ASKED, session=session)
    async for _ in streamed.stream_events():
        pass
    items = await session.get_items()
    popped = await session.pop_item()
    left = await session.get_items()
    await session.add_items([{"role": "user", "content": f"Note {number}"} for number in range(25)])
    grown = await session.get_items()
    last = await session.get_items(limit=2)
    await session.clear_session()
    return {
        "answers": [tool.final_output, streamed.final_output],
        "kinds": [item.get("type", "message") for item in items],
        "popped": popped["role"],
        "counts": [len(items), len(left), len(grown), len(last), len(await session.get_items())],
    }


async def main() -> None:
    sessions = [await in_session(OpenAIConversationsSession()), await in_session(SQLiteSession("1"))]
    print(json.dumps({"chained": await chained(), "conversed": await conversed(), "sessions": sessions}))


asyncio.run(main())
