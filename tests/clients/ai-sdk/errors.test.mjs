// What is refused: tried again where that can help, and told as what it is.

import assert from "node:assert/strict";
import test from "node:test";
import { generateText, RetryError, streamText } from "ai";
import { asked, collect, unique } from "./chat.mjs";
import { antiphon } from "./configuration.mjs";

test("a server that is overloaded for a moment is asked again", async () => {
  const prompt = unique("Once more, with feeling");

  assert.equal((await generateText({ model: antiphon("flaky"), prompt })).text, prompt);
  assert.equal((await asked(prompt)).length, 2);
});

test("a limit of requests is waited for as long as the server says, then given up", async () => {
  const began = performance.now();
  const answer = generateText({ model: antiphon("limited"), prompt: "Hurry", maxRetries: 1 });

  await assert.rejects(answer, (error) => {
    assert.ok(RetryError.isInstance(error));
    assert.deepEqual([error.lastError.statusCode, error.lastError.message], [429, "Too many requests."]);
    return true;
  });
  assert.ok(performance.now() - began > 900);
});

for (const stream of [false, true]) {
  test(`an input that is too long is told at once (stream: ${stream})`, async () => {
    const prompt = unique("Too much");
    const errors = [];
    const call = { model: antiphon("too-long"), prompt, onError: ({ error }) => errors.push(error) };
    if (stream) await collect(streamText(call).fullStream);
    else await generateText(call).catch((error) => errors.push(error));

    assert.deepEqual(errors.map((error) => [error.statusCode, error.data.error.code]), [[400, "context_length_exceeded"]]);
    assert.equal((await asked(prompt)).length, 1);
  });
}
