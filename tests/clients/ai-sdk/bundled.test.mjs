// The AI SDK with the bundled model.

import assert from "node:assert/strict";
import test from "node:test";
import { generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";
import { antiphon } from "./configuration.mjs";

test("a text is the same streamed and whole", async () => {
  const call = { model: antiphon("gpt-4.1"), prompt: "Tell me a three sentence bedtime story.", temperature: 0 };
  const { text } = await generateText(call);

  assert.ok(text.length > 20);
  assert.equal(await streamText(call).text, text);
});

test("a tool is called and its result told", async () => {
  const { steps, text } = await generateText({
    model: antiphon("gpt-4.1"),
    prompt: "What is the weather in Paris?",
    temperature: 0,
    tools: {
      get_weather: tool({
        description: "Get the weather of a city.",
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => `It is sunny in ${city}.`,
      }),
    },
    stopWhen: isStepCount(3),
  });

  assert.deepEqual(steps[0].toolCalls.map((call) => call.input), [{ city: "Paris" }]);
  assert.ok(text.length > 0);
});

test("an object has the schema", async () => {
  const { output } = await generateText({
    model: antiphon("gpt-4.1"),
    prompt: "Alice and Bob meet on Friday.",
    temperature: 0,
    output: Output.object({ schema: z.object({ day: z.enum(["Monday", "Friday"]), people: z.int() }) }),
  });

  assert.ok(["Monday", "Friday"].includes(output.day) && Number.isInteger(output.people));
});
