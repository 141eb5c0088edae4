// The SDK of spring 2025 (npm openai 4.x), when deleting was still `del`.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai-2025";
import { collect, newGate, textOf } from "./chat.mjs";

const openai = new OpenAI();

test("create, retrieve, list, continue and del", async () => {
  const first = await openai.responses.create({ model: "memory", input: "My name is Alice." });
  const second = await openai.responses.create({
    model: "memory",
    input: "What is my name?",
    previous_response_id: first.id,
  });
  assert.equal(second.output_text, "Your name is Alice.");
  assert.equal((await openai.responses.retrieve(first.id)).id, first.id);
  assert.equal((await collect(openai.responses.inputItems.list(second.id, { limit: 1 }))).length, 3);

  await openai.responses.del(first.id);

  await assert.rejects(openai.responses.retrieve(first.id), OpenAI.NotFoundError);
});

test("raw streams and the helper", async () => {
  const events = await collect(await openai.responses.create({ model: "echo", input: "hello there", stream: true }));
  const helper = openai.responses.stream({ model: "echo", input: "hello there" });

  assert.equal(textOf(events), "hello there");
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal((await helper.finalResponse()).output[0].content[0].text, "hello there");
});

test("calls by name and with arguments", async () => {
  const tools = [
    {
      type: "function",
      name: "get_weather",
      strict: true,
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  ];
  const called = await openai.responses.create({ model: "caller", input: "get_weather in Rome", tools });

  assert.deepEqual(JSON.parse(called.output[0].arguments), { city: "Rome" });
});

test("a background response is cancelled", async () => {
  const gate = newGate();
  const begun = await openai.responses.create({ model: "gated", input: gate.input, background: true });
  await gate.reached();

  assert.equal((await openai.responses.cancel(begun.id)).status, "cancelled");
});
