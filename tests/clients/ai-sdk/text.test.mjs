// Texts, whole and streamed: how they begin, end, fail and are broken off.

import assert from "node:assert/strict";
import test from "node:test";
import { generateText, streamText } from "ai";
import { collect, newGate } from "./chat.mjs";
import { antiphon } from "./configuration.mjs";

const textOf = (parts) => parts.filter((part) => part.type === "text-delta").map((part) => part.text).join("");

test("a text with its usage and the id of its response", async () => {
  const result = await generateText({ model: antiphon("echo"), system: "Be brief.", prompt: "Good morning" });

  assert.equal(result.text, "Good morning");
  assert.equal(result.finishReason, "stop");
  assert.deepEqual(result.warnings, []);
  assert.ok(result.usage.inputTokens > 0 && result.usage.outputTokens > 0);
  assert.match(result.response.id, /^resp_/);
  assert.equal(result.response.id, result.providerMetadata.openai.responseId);
});

test("a streamed text in its pieces", async () => {
  const result = streamText({ model: antiphon("story"), prompt: "Tell me a story." });
  const parts = await collect(result.fullStream);

  const types = [...new Set(parts.map((part) => part.type))];
  assert.deepEqual(types, ["start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"]);
  assert.ok(parts.filter((part) => part.type === "text-delta").length > 20);
  assert.equal(textOf(parts), await result.text);
  assert.equal(await result.finishReason, "stop");
  assert.ok((await result.usage).totalTokens > 20);
});

test("a text that reaches its limit says so", async () => {
  const call = { model: antiphon("story"), prompt: "Tell me a story.", maxOutputTokens: 16 };

  assert.equal((await generateText(call)).finishReason, "length");
  assert.equal(await streamText(call).finishReason, "length");
});

test("a refusal is its own end", async () => {
  const { text, finishReason } = await generateText({ model: antiphon("refuser"), prompt: "Say that." });

  assert.deepEqual([text, finishReason], ["I will not say that.", "content-filter"]);
});

test("a failure in the middle is an error that keeps what was said", async () => {
  const result = streamText({ model: antiphon("failing"), prompt: "Go on.", maxRetries: 0, onError: () => {} });
  const parts = await collect(result.fullStream);

  assert.equal(textOf(parts), "So far so good");
  const [{ error }] = parts.filter((part) => part.type === "error");
  assert.equal(error.message, "The model crashed.");
});

test("an abort in the middle of a stream reaches the model", async () => {
  const gate = newGate();
  const leaving = new AbortController();
  const result = streamText({ model: antiphon("gated"), prompt: gate.input, abortSignal: leaving.signal });

  const parts = [];
  for await (const part of result.fullStream) {
    parts.push(part);
    if (part.type === "text-delta" && textOf(parts).includes("upon")) leaving.abort();
  }

  assert.equal(parts.at(-1).type, "abort");
  await gate.abandoned();
});

test("an abort before the reply reaches the model too", async () => {
  const gate = newGate();
  const leaving = new AbortController();
  const answer = generateText({ model: antiphon("gated"), prompt: gate.input, abortSignal: leaving.signal });
  await gate.reached();
  leaving.abort();

  await assert.rejects(answer, { name: "AbortError" });
  await gate.abandoned();
});
