// What a new user does: the client without any option, and the first example of the documentation.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

test("the first example works as it is written", async () => {
  const openai = new OpenAI();

  const response = await openai.responses.create({
    model: "gpt-4.1",
    input: "Tell me a three sentence bedtime story about a unicorn.",
  });

  assert.equal(response.status, "completed");
  assert.ok(response.output_text.split(" ").length >= 10, response.output_text);
  if (process.env.EXPECTED) assert.equal(response.output_text, process.env.EXPECTED);
});
