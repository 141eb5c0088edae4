"""How a conversation goes on: the client's messages, the server's chain, and nothing stored but reasoning sealed."""

import json

from configuration import model
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def conversed(**settings: object) -> list[str]:
    """Three turns, the second with a tool; the messages are kept as the client makes them."""
    chosen = model.model_copy(update=settings)
    bound = chosen.bind_tools([get_weather])
    messages: list = [HumanMessage("My name is Alice")]
    messages.append(chosen.invoke(messages))
    messages.append(HumanMessage("Think of the weather in Oslo"))
    asked = bound.invoke(messages)
    messages.append(asked)
    for call in asked.tool_calls:
        messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))  # noqa: PERF401
    first, *rest = bound.stream(messages)
    messages.append(sum(rest, first))
    messages.append(HumanMessage("What is my name?"))
    last = bound.invoke(messages)
    kinds = {part["type"] for part in asked.content if isinstance(part, dict)}
    return [messages[-2].text, last.text, *sorted(kinds)]


thinking = {"reasoning": {"effort": "low", "summary": "auto"}, "output_version": "responses/v1"}
told = {
    "messages": conversed(),
    "chained": conversed(use_previous_response_id=True),
    "reasoned": conversed(**thinking),
    "sealed": conversed(store=False, include=["reasoning.encrypted_content"], **thinking),
    "v1": conversed(output_version="v1"),
}
print(json.dumps(told))
