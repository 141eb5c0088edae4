// LangChain with the bundled model.

import assert from "node:assert/strict";
import test from "node:test";
import { tool } from "@langchain/core/tools";
import { z } from "zod";
import { collect } from "./chat.mjs";
import { chat } from "./configuration.mjs";

const model = chat({ temperature: 0 });

test("a text is the same streamed and whole", async () => {
  const { text } = await model.invoke("Tell me a three sentence bedtime story.");
  const chunks = await collect(await model.stream("Tell me a three sentence bedtime story."));

  assert.ok(text.length > 20);
  assert.equal(chunks.map((chunk) => chunk.text).join(""), text);
});

test("a tool is called and its result told", async () => {
  const getWeather = tool(async ({ city }) => `It is sunny in ${city}.`, {
    name: "get_weather",
    description: "Get the weather of a city.",
    schema: z.object({ city: z.string() }),
  });
  const messages = [{ role: "user", content: "What is the weather in Paris?" }];
  const called = await model.bindTools([getWeather]).invoke(messages);
  assert.deepEqual(called.tool_calls.map((call) => call.args), [{ city: "Paris" }]);

  const result = await getWeather.invoke(called.tool_calls[0]);
  assert.ok((await model.bindTools([getWeather]).invoke([...messages, called, result])).text.length > 0);
});

test("an object has the schema", async () => {
  const Meeting = z.object({ day: z.enum(["Monday", "Friday"]), people: z.int() });

  assert.ok(Meeting.safeParse(await model.withStructuredOutput(Meeting).invoke("They meet on Friday.")).success);
});
