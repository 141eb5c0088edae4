// npm openai 7.x streams: raw events, the helper with its strict accumulator, and readers that leave.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { collect, newGate, textOf } from "./chat.mjs";

const openai = new OpenAI();

test("a stream brings the whole ladder of events", async () => {
  const events = await collect(await openai.responses.create({ model: "echo", input: "hello there", stream: true }));

  assert.deepEqual(events.map((event) => event.type), [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
  ]);
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
  assert.equal(textOf(events), "hello there");
});

for (const model of ["echo", "story", "thinker", "refuser"]) {
  test(`the helper gathers what ${model} says, and its response is the stored one`, async () => {
    let snapshot = "";
    const stream = openai.responses
      .stream({ model, input: "hello there" })
      .on("response.output_text.delta", (event) => (snapshot = event.snapshot));

    const final = await stream.finalResponse();

    assert.equal(final.status, "completed");
    assert.equal(final.output_text, snapshot);
    const stored = await openai.responses.retrieve(final.id);
    assert.deepEqual(stored.output.map((item) => item.id), final.output.map((item) => item.id));
    assert.equal(stored.output_text, final.output_text);
  });
}

test("the helper parses structured output", async () => {
  const schema = {
    type: "object",
    properties: { number: { type: "integer" } },
    required: ["number"],
    additionalProperties: false,
  };
  const stream = openai.responses.stream({
    model: "structured",
    input: "Take 7",
    text: { format: { type: "json_schema", name: "number", schema, strict: true } },
  });

  assert.deepEqual(JSON.parse((await stream.finalResponse()).output_text), { number: 7 });
});

test("a stream that was cut ends in incomplete", async () => {
  const final = await openai.responses
    .stream({ model: "echo", input: "word ".repeat(20), max_output_tokens: 16 })
    .finalResponse();

  assert.equal(final.status, "incomplete");
  assert.equal(final.incomplete_details.reason, "max_output_tokens");
});

test("a model that fails in the middle fails the stream", async () => {
  for (const model of ["failing", "breaking"]) {
    const final = await openai.responses.stream({ model, input: "hello" }).finalResponse();

    assert.equal(final.status, "failed");
    assert.ok(final.error.message);
    assert.equal(final.output_text, "So far so good");
  }
});

test("a reader that leaves ends the run at the model", async () => {
  const gate = newGate();
  const stream = await openai.responses.create({ model: "gated", input: gate.input, stream: true });
  let id;
  for await (const event of stream) {
    id = event.response.id;
    break;
  }

  await gate.abandoned();
  await assert.rejects(openai.responses.retrieve(id), OpenAI.NotFoundError);
});
