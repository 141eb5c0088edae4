// Function tools, handoffs and the events of a streamed run.

import "./configuration.mjs";
import assert from "node:assert/strict";
import test from "node:test";
import { Agent, run, tool } from "@openai/agents";
import { z } from "zod";
import { asked, collect, script } from "./chat.mjs";

const getWeather = tool({
  name: "get_weather",
  description: "Get the weather of a city.",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const getTime = tool({
  name: "get_time",
  description: "Get the time in a city.",
  parameters: z.object({ city: z.string(), zone: z.string().nullable() }),
  execute: async ({ city, zone }) => `noon in ${city} (${zone})`,
});
const guide = new Agent({ name: "Guide", instructions: "Be kind.", model: "gpt-4.1", tools: [getWeather, getTime] });

test("functions are called at the same time and their results told", async () => {
  const result = await run(guide, "The weather and the time in Rome");

  assert.equal(result.finalOutput, "The tools said: sunny in Rome, noon in Rome (Rome)");
  assert.deepEqual(
    result.newItems.map((item) => item.type),
    ["tool_call_item", "tool_call_item", "tool_call_output_item", "tool_call_output_item", "message_output_item"],
  );
  const { requests, inputTokens, outputTokens, totalTokens } = result.state.usage;
  assert.equal(requests, 2);
  assert.ok(inputTokens > 0 && outputTokens > 0);
  assert.equal(totalTokens, inputTokens + outputTokens);
});

test("calls of several turns, with words and thoughts between them", async () => {
  const said = "Plan my evening in Bern";
  await script(said, [
    [{ reasoning: "First the sky." }, { text: "I look." }, { call: "get_weather", arguments: { city: "Bern" } }],
    [{ reasoning: "Then the clock." }, { call: "get_time", arguments: { city: "Bern", zone: null } }],
    [{ text: "Go out: {results}." }],
  ]);

  const result = await run(guide, said);

  assert.equal(result.finalOutput, "Go out: sunny in Bern, noon in Bern (null).");
  const { messages } = (await asked(said)).at(-1);
  assert.deepEqual(
    messages.map((message) => [message.role, message.content, message.tool_calls?.[0].function.name]),
    [
      ["system", "Be kind.", undefined],
      ["user", said, undefined],
      ["assistant", "I look.", "get_weather"],
      ["tool", "sunny in Bern", undefined],
      ["assistant", null, "get_time"],
      ["tool", "noon in Bern (null)", undefined],
    ],
  );
});

test("a run streams every event of the server, and the items that it makes of them", async () => {
  const result = await run(guide, "The weather in Oslo", { stream: true });
  const events = await collect(result);
  await result.completed;

  const raw = events.filter((event) => event.type === "raw_model_stream_event").map((event) => event.data);
  const turns = raw.filter((data) => data.type === "model").map((data) => data.event.type);
  assert.deepEqual(
    turns.filter((type, index) => type !== turns[index - 1]),
    [
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.completed",
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ],
  );
  const text = raw.filter((data) => data.type === "output_text_delta").map((data) => data.delta).join("");
  assert.equal(text, "The tools said: sunny in Oslo");
  assert.equal(result.finalOutput, text);
  const items = events.filter((event) => event.type === "run_item_stream_event").map((event) => event.name);
  assert.deepEqual(items, ["tool_called", "tool_output", "message_output_created"]);
});

for (const stream of [false, true]) {
  test(`a handoff leads to the other agent (stream: ${stream})`, async () => {
    const spanish = new Agent({ name: "Spanish", instructions: "Speak Spanish.", model: "system" });
    const triage = new Agent({ name: "Triage", instructions: "Choose.", model: "gpt-4.1", handoffs: [spanish] });

    const result = await run(triage, "Something in Spanish, please", { stream });
    if (stream) await result.completed;

    assert.equal(result.lastAgent.name, "Spanish");
    assert.equal(result.finalOutput, "Speak Spanish.");
  });
}

test("an agent is another's tool", async () => {
  const historian = new Agent({ name: "Historian", model: "echo" });
  const asking = historian.asTool({ toolName: "ask_historian", toolDescription: "Ask the historian." });
  const host = new Agent({ name: "Host", model: "gpt-4.1", tools: [asking] });

  assert.equal((await run(host, "Let the historian speak of Rome")).finalOutput, "The tools said: Rome");
});
