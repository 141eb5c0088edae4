// The Agents SDK with the bundled model.

import "./configuration.mjs";
import assert from "node:assert/strict";
import test from "node:test";
import { Agent, run, tool } from "@openai/agents";
import { z } from "zod";

const modelSettings = { temperature: 0 };

test("a text is the same streamed and whole", async () => {
  const agent = new Agent({ name: "Teller", model: "gpt-4.1", modelSettings });
  const whole = await run(agent, "Tell me a three sentence bedtime story.");
  const streamed = await run(agent, "Tell me a three sentence bedtime story.", { stream: true });
  await streamed.completed;

  assert.ok(whole.finalOutput.length > 20);
  assert.equal(streamed.finalOutput, whole.finalOutput);
});

test("a function is called and its result told", async () => {
  const cities = [];
  const getWeather = tool({
    name: "get_weather",
    description: "Get the weather of a city.",
    parameters: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      cities.push(city);
      return `It is sunny in ${city}.`;
    },
  });
  const agent = new Agent({ name: "Guide", model: "gpt-4.1", modelSettings, tools: [getWeather] });

  const { finalOutput } = await run(agent, "What is the weather in Paris?");

  assert.deepEqual(cities, ["Paris"]);
  assert.ok(finalOutput.length > 0);
});

test("an output has its type", async () => {
  const Meeting = z.object({ day: z.enum(["Monday", "Friday"]), people: z.int() });
  const agent = new Agent({ name: "Clerk", model: "gpt-4.1", modelSettings, outputType: Meeting });

  const { finalOutput } = await run(agent, "Alice and Bob meet on Friday.");

  assert.ok(Meeting.safeParse(finalOutput).success);
});
