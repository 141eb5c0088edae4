// What is refused, what fails in the middle, and what is broken off.

import "./configuration.mjs";
import assert from "node:assert/strict";
import test from "node:test";
import { Agent, run } from "@openai/agents";
import { asked, collect, newGate, unique } from "./chat.mjs";

const agent = (model) => new Agent({ name: "Agent", model });

test("a server that is overloaded for a moment is asked again", async () => {
  const said = unique("Once more, with feeling");

  assert.equal((await run(agent("flaky"), said)).finalOutput, said);
  assert.equal((await asked(said)).length, 2);
});

for (const stream of [false, true]) {
  test(`an input that is too long is told at once (stream: ${stream})`, async () => {
    const said = unique("Too much");

    await assert.rejects(
      async () => (await run(agent("too-long"), said, { stream })).completed,
      { status: 400, code: "context_length_exceeded" },
    );
    assert.equal((await asked(said)).length, 1);
  });
}

test("a failure in the middle of a stream is told", async () => {
  const result = await run(agent("failing"), "Go on.", { stream: true });

  await assert.rejects(collect(result), /response\.failed/);
});

test("an abort in the middle of a stream reaches the model", async () => {
  const gate = newGate();
  const leaving = new AbortController();
  const result = await run(agent("gated"), gate.input, { stream: true, signal: leaving.signal });
  let text = "";
  for await (const piece of result.toTextStream()) {
    text += piece;
    if (text.includes("upon")) leaving.abort();
  }

  assert.equal(text, "Once upon");
  await gate.abandoned();
});
