// What is refused: tried again where that can help, and told as what it is.

import assert from "node:assert/strict";
import test from "node:test";
import { asked, unique } from "./chat.mjs";
import { chat } from "./configuration.mjs";

test("a server that is overloaded for a moment is asked again", async () => {
  const said = unique("Once more, with feeling");

  assert.equal((await chat({ model: "flaky" }).invoke(said)).text, said);
  assert.equal((await asked(said)).length, 2);
});

test("an input that is too long is told at once, as what it is", async () => {
  const said = unique("Too much");

  await assert.rejects(chat({ model: "too-long" }).invoke(said), { name: "ContextOverflowError" });
  assert.equal((await asked(said)).length, 1);
});

test("a failure in the middle of a reply is told", async () => {
  await assert.rejects(chat({ model: "failing", maxRetries: 0 }).invoke("Go on."), /The model fell over|crashed/);
});
