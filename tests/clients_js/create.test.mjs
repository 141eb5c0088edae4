// npm openai 7.x creates responses: text, conversations, structured output, models.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const openai = new OpenAI();

test("what a request says is echoed", async () => {
  const said = { instructions: "Be brief.", metadata: { who: "me" }, temperature: 0.5, top_p: 0.75, user: "me" };

  const { data, response, request_id } = await openai.responses
    .create({ model: "echo", input: "hello", ...said })
    .withResponse();

  for (const [name, value] of Object.entries(said)) assert.deepEqual(data[name], value);
  assert.equal(data.output_text, "hello");
  assert.equal(request_id, response.headers.get("x-request-id"));
});

test("a conversation goes on by reference and by replay", async () => {
  const first = await openai.responses.create({ model: "memory", input: "My name is Alice." });
  const second = await openai.responses.create({
    model: "memory",
    input: "What is my name?",
    previous_response_id: first.id,
  });
  const replayed = await openai.responses.create({
    model: "memory",
    store: false,
    input: [
      { role: "user", content: "My name is Bob." },
      ...first.output,
      { role: "user", content: [{ type: "input_text", text: "What is my name?" }] },
    ],
  });

  assert.equal(second.output_text, "Your name is Alice.");
  assert.equal(replayed.output_text, "Your name is Bob.");
});

test("a reply is parsed by a zod schema", async () => {
  const Recipe = z.object({ title: z.string(), steps: z.array(z.object({ grams: z.number().int() })) });

  const response = await openai.responses.parse({
    model: "structured",
    input: "A recipe of 250 grams of flour",
    text: { format: zodTextFormat(Recipe, "recipe") },
  });

  assert.deepEqual(response.output_parsed, { title: "flour", steps: [{ grams: 250 }] });
});

test("a reply is parsed by a plain JSON schema", async () => {
  const schema = {
    type: "object",
    properties: { word: { type: "string" } },
    required: ["word"],
    additionalProperties: false,
  };

  const response = await openai.responses.parse({
    model: "structured",
    input: "Say flour",
    text: { format: { type: "json_schema", name: "word", schema, strict: true } },
  });

  assert.deepEqual(JSON.parse(response.output_text), { word: "flour" });
});

test("reasoning, refusals and cut replies are told as what they are", async () => {
  const thought = await openai.responses.create({ model: "thinker", input: "hello" });
  const refused = await openai.responses.create({ model: "refuser", input: "hello" });
  const cut = await openai.responses.create({ model: "echo", input: "word ".repeat(20), max_output_tokens: 16 });

  assert.deepEqual(thought.output.map((item) => item.type), ["reasoning", "message"]);
  assert.equal(refused.output[0].content[0].refusal, "I will not say that.");
  assert.equal(cut.status, "incomplete");
  assert.equal(cut.incomplete_details.reason, "max_output_tokens");
});

test("models are listed and retrieved", async () => {
  const names = [];
  for await (const model of openai.models.list()) names.push(model.id);

  assert.ok(names.includes("echo"));
  assert.equal((await openai.models.retrieve("gpt-4.1")).id, "gpt-4.1");
});
