// Structured output, guardrails and reasoning.

import "./configuration.mjs";
import assert from "node:assert/strict";
import test from "node:test";
import {
  Agent,
  InputGuardrailTripwireTriggered,
  OutputGuardrailTripwireTriggered,
  run,
} from "@openai/agents";
import { z } from "zod";

const Stay = z.object({
  city: z.string(),
  nights: z.int(),
  wishes: z.array(z.object({ name: z.string(), urgent: z.boolean() })),
  note: z.string().nullable(),
});
const stay = { city: "Rome", nights: 7, wishes: [{ name: "Rome", urgent: true }], note: "Rome" };

for (const stream of [false, true]) {
  test(`the output has the type that was asked for (stream: ${stream})`, async () => {
    const agent = new Agent({ name: "Clerk", model: "gpt-4.1", outputType: Stay });

    const result = await run(agent, "Book 7 nights in Rome", { stream });
    if (stream) await result.completed;

    assert.deepEqual(result.finalOutput, stay);
  });
}

test("guardrails see the input and the output, and break the run off", async () => {
  const names = (city) => async ({ input, agentOutput }) => ({
    outputInfo: { city },
    tripwireTriggered: JSON.stringify(input ?? agentOutput).includes(city),
  });
  const agent = new Agent({
    name: "Guarded",
    model: "echo",
    inputGuardrails: [{ name: "not Rome", execute: names("Rome") }],
    outputGuardrails: [{ name: "not Oslo", execute: names("Oslo") }],
  });

  await assert.rejects(run(agent, "Off to Rome"), InputGuardrailTripwireTriggered);
  await assert.rejects(run(agent, "Off to Oslo"), OutputGuardrailTripwireTriggered);
  assert.equal((await run(agent, "Off to Bern")).finalOutput, "Off to Bern");
});

test("a guardrail that is an agent decides by its own structured output", async () => {
  const judge = new Agent({ name: "Judge", model: "gpt-4.1", outputType: z.object({ off_topic: z.boolean() }) });
  const guardrail = {
    name: "on topic",
    execute: async ({ input }) => {
      const { finalOutput } = await run(judge, input);
      return { outputInfo: finalOutput, tripwireTriggered: finalOutput.off_topic };
    },
  };
  const agent = new Agent({ name: "Guarded", model: "echo", inputGuardrails: [guardrail] });

  await assert.rejects(run(agent, "Anything"), (error) => {
    assert.ok(error instanceof InputGuardrailTripwireTriggered);
    assert.deepEqual(error.result.output.outputInfo, { off_topic: true });
    return true;
  });
});

test("a model's thoughts are reasoning items, and go back with the history", async () => {
  const modelSettings = { reasoning: { effort: "low", summary: "auto" } };
  const agent = new Agent({ name: "Thinker", model: "thinker", modelSettings });

  const first = await run(agent, "Why?");
  assert.deepEqual(
    first.newItems.map((item) => item.type),
    ["reasoning_item", "message_output_item"],
  );
  assert.equal(first.newItems[0].rawItem.content[0].text, "They said 'Why?'.");

  const second = await run(agent, [...first.history, { role: "user", content: "And then?" }]);
  assert.equal(second.finalOutput, "I have thought about it.");
});
