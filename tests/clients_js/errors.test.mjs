// npm openai 7.x meets errors: each as its class, retried only where another try may help.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";
import OpenAI from "openai";
import { asked } from "./chat.mjs";

const openai = new OpenAI();
const impatient = new OpenAI({ maxRetries: 0 });

const cases = [
  [{ temperature: 3 }, OpenAI.BadRequestError, { param: "temperature", code: "decimal_above_max_value" }],
  [
    { previous_response_id: "resp_nobody" },
    OpenAI.BadRequestError,
    { param: "previous_response_id", code: "previous_response_not_found" },
  ],
  [{ model: "no-such-model" }, OpenAI.NotFoundError, { param: "model", code: "model_not_found" }],
  [{ model: "too-long" }, OpenAI.BadRequestError, { param: "input", code: "context_length_exceeded" }],
  [{ model: "limited" }, OpenAI.RateLimitError, { code: "rate_limit_exceeded" }],
  [{ model: "overloaded" }, OpenAI.InternalServerError, { status: 503 }],
];

for (const [said, kind, expected] of cases) {
  for (const stream of [false, true]) {
    test(`${JSON.stringify({ ...said, stream })} is a ${kind.name}`, async () => {
      await assert.rejects(impatient.responses.create({ model: "echo", input: "hello", stream, ...said }), (error) => {
        assert.ok(error instanceof kind, String(error));
        for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value);
        assert.match(error.requestID, /^req_/);
        return true;
      });
    });
  }
}

test("a passing failure is not seen by the user, a lasting one not tried again", async () => {
  const [passing, lasting] = [`again ${randomUUID()}`, `never ${randomUUID()}`];

  const response = await openai.responses.create({ model: "flaky", input: passing });
  await assert.rejects(openai.responses.create({ model: "too-long", input: lasting }));

  assert.equal(response.output_text, passing);
  assert.equal((await asked(passing)).length, 2);
  assert.equal((await asked(lasting)).length, 1);
});
