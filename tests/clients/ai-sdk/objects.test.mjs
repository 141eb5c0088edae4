// Objects by their zod schema, whole and streamed.

import assert from "node:assert/strict";
import test from "node:test";
import { generateObject, generateText, Output, streamText } from "ai";
import { z } from "zod";
import { collect } from "./chat.mjs";
import { antiphon } from "./configuration.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false; // generateObject is on its way out, and still what most programs call

const schema = z.object({
  city: z.string(),
  nights: z.int(),
  wishes: z.array(z.object({ name: z.string(), urgent: z.boolean() })),
  note: z.string().nullable(),
});
const stay = { city: "Rome", nights: 7, wishes: [{ name: "Rome", urgent: true }], note: "Rome" };
const call = { model: antiphon("structured"), prompt: "Book 7 nights in Rome" };

test("generateText fills the schema", async () => {
  const { output } = await generateText({ ...call, output: Output.object({ schema }) });

  assert.deepEqual(output, stay);
});

test("generateObject fills the schema", async () => {
  assert.deepEqual((await generateObject({ ...call, schema })).object, stay);
});

test("a streamed object grows", async () => {
  const result = streamText({ ...call, output: Output.object({ schema }) });
  const partial = await collect(result.partialOutputStream);

  assert.ok(partial.length > 2);
  assert.deepEqual(partial.at(-1), stay);
  assert.deepEqual(await result.output, stay);
});

test("an array streams element by element", async () => {
  const result = streamText({ ...call, output: Output.array({ element: schema }) });

  assert.deepEqual(await collect(result.elementStream), [stay]);
});

test("a schema with optional members is not strict", async () => {
  const { output } = await generateText({
    ...call,
    output: Output.object({ schema: schema.partial() }),
    providerOptions: { openai: { strictJsonSchema: false } },
  });

  assert.deepEqual(output, stay);
});
