// The same runs over one WebSocket.

import "./configuration.mjs";
import assert from "node:assert/strict";
import test, { after } from "node:test";
import { Agent, OpenAIProvider, Runner, tool } from "@openai/agents";
import { z } from "zod";
import { collect } from "./chat.mjs";

const provider = new OpenAIProvider({ useResponsesWebSocket: true });
const runner = new Runner({ modelProvider: provider });
after(() => provider.close());

const getWeather = tool({
  name: "get_weather",
  description: "Get the weather of a city.",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const agent = new Agent({ name: "Guide", model: "gpt-4.1", tools: [getWeather] });

test("functions, streams and chains work as they do over HTTP", async () => {
  const first = await runner.run(agent, "My name is Alice.");
  const previous = { previousResponseId: first.lastResponseId };
  const second = await runner.run(agent, "The weather in Oslo", { ...previous, stream: true });
  const events = await collect(second);
  const third = await runner.run(agent, "What is my name?", { previousResponseId: second.lastResponseId });

  assert.equal(second.finalOutput, "The tools said: sunny in Oslo");
  const deltas = events.filter((event) => event.data?.type === "output_text_delta").map((event) => event.data.delta);
  assert.equal(deltas.join(""), second.finalOutput);
  assert.equal(third.finalOutput, "Your name is Alice.");
});
