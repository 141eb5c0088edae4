// The loop of tools, whole and streamed, and what is replayed of it.

import assert from "node:assert/strict";
import test from "node:test";
import { generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";
import { asked, collect, script } from "./chat.mjs";
import { antiphon } from "./configuration.mjs";

const tools = {
  get_weather: tool({
    description: "Get the weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `sunny in ${city}`,
  }),
  get_time: tool({
    description: "Get the time in a city.",
    inputSchema: z.object({ city: z.string(), seconds: z.boolean() }),
    execute: async ({ city, seconds }) => `noon in ${city} (${seconds})`,
  }),
};
const loop = { model: antiphon("gpt-4.1"), tools, stopWhen: isStepCount(5) };

test("calls of one step run at the same time", async () => {
  const { text, steps } = await generateText({ ...loop, prompt: "The weather and the time in Rome" });

  assert.equal(text, "The tools said: sunny in Rome, noon in Rome (true)");
  assert.deepEqual(steps.map((step) => [step.finishReason, step.toolCalls.length]), [["tool-calls", 2], ["stop", 0]]);
});

test("a call streams, and so does the answer", async () => {
  const result = streamText({ ...loop, prompt: "The weather and the time in Oslo" });
  const parts = await collect(result.fullStream);

  assert.equal(await result.text, "The tools said: sunny in Oslo, noon in Oslo (true)");
  const inputs = {};
  for (const part of parts) {
    if (part.type === "tool-input-delta") inputs[part.id] = (inputs[part.id] ?? "") + part.delta;
  }
  const calls = parts.filter((part) => part.type === "tool-call");
  assert.deepEqual(calls.map((call) => call.toolName), ["get_weather", "get_time"]);
  assert.deepEqual(calls.map((call) => JSON.parse(inputs[call.toolCallId])), calls.map((call) => call.input));
});

test("a turn of several steps, with words between the calls", async () => {
  const said = "Plan my evening in Bern";
  await script(said, [
    [{ text: "First the weather." }, { call: "get_weather", arguments: { city: "Bern" } }],
    [{ text: "Now the time." }, { call: "get_time", arguments: { city: "Bern", seconds: false } }],
    [{ text: "Go out: {results}." }],
  ]);
  const { text, steps } = await generateText({ ...loop, prompt: said });

  assert.equal(text, "Go out: sunny in Bern, noon in Bern (false).");
  assert.deepEqual(steps.map((step) => step.text), ["First the weather.", "Now the time.", text]);

  // What was said beside a call came back as a reference to the stored item, and the model saw it in its place.
  const { messages } = (await asked(said)).at(-1);
  assert.deepEqual(
    messages.map((message) => [message.role, message.content, message.tool_calls?.length]),
    [
      ["user", said, undefined],
      ["assistant", "First the weather.", 1],
      ["tool", "sunny in Bern", undefined],
      ["assistant", "Now the time.", 1],
      ["tool", "noon in Bern (false)", undefined],
    ],
  );
});

test("a demanded tool is called whatever was said", async () => {
  const { toolCalls } = await generateText({
    model: antiphon("caller"),
    prompt: "Nothing but Rome",
    tools,
    toolChoice: { type: "tool", toolName: "get_weather" },
  });

  assert.deepEqual(toolCalls.map((call) => [call.toolName, call.input]), [["get_weather", { city: "Rome" }]]);
});
