// LangChain's chat model: texts, tools, structured output, and what it replays.

import assert from "node:assert/strict";
import test from "node:test";
import { AIMessage, HumanMessage, SystemMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { concat } from "@langchain/core/utils/stream";
import { z } from "zod";
import { asked, collect, newGate } from "./chat.mjs";
import { chat } from "./configuration.mjs";

const tools = [
  tool(async ({ city }) => `sunny in ${city}`, {
    name: "get_weather",
    description: "Get the weather of a city.",
    schema: z.object({ city: z.string() }),
  }),
  tool(async ({ city }) => `noon in ${city}`, {
    name: "get_time",
    description: "Get the time in a city.",
    schema: z.object({ city: z.string() }),
  }),
];
const results = (message) =>
  Promise.all(message.tool_calls.map((call) => tools.find((one) => one.name === call.name).invoke(call)));
const whole = (chunks) => chunks.reduce((before, chunk) => concat(before, chunk));

test("invoke answers with usage and the id of the response", async () => {
  const answer = await chat({ model: "system" }).invoke([new SystemMessage("Be brief."), new HumanMessage("Hello")]);

  assert.equal(answer.text, "Be brief.");
  assert.match(answer.id, /^resp_/);
  const { input_tokens, output_tokens, total_tokens } = answer.usage_metadata;
  assert.ok(input_tokens > 0 && output_tokens > 0);
  assert.equal(total_tokens, input_tokens + output_tokens);
});

test("stream brings the text in pieces, and usage with the last", async () => {
  const chunks = await collect(await chat({ model: "story" }).stream("Tell me a story."));

  const answer = whole(chunks);
  assert.ok(chunks.length > 20);
  assert.match(answer.text, /^A small unicorn .* of the dark\.$/);
  assert.ok(answer.usage_metadata.output_tokens > 20);
});

for (const stream of [false, true]) {
  test(`tools are called at the same time, and replayed with their results (stream: ${stream})`, async () => {
    const model = chat().bindTools(tools);
    const question = new HumanMessage("The weather and the time in Rome");
    const ask = async (messages) =>
      stream ? whole(await collect(await model.stream(messages))) : await model.invoke(messages);

    const called = await ask([question]);
    assert.deepEqual(
      called.tool_calls.map((call) => [call.name, call.args]),
      [["get_weather", { city: "Rome" }], ["get_time", { city: "Rome" }]],
    );
    const answer = await ask([question, called, ...(await results(called))]);

    assert.equal(answer.text, "The tools said: sunny in Rome, noon in Rome");
  });
}

const stay = { city: "Rome", nights: 7, wishes: [{ name: "Rome", urgent: true }], note: "Rome" };
const schema = z.object({
  city: z.string(),
  nights: z.int(),
  wishes: z.array(z.object({ name: z.string(), urgent: z.boolean() })),
  note: z.string().nullable(),
});

test("withStructuredOutput fills the schema, whole and streamed", async () => {
  const clerk = chat({ model: "structured" }).withStructuredOutput(schema, { name: "stay" });

  assert.deepEqual(await clerk.invoke("Book 7 nights in Rome"), stay);
  assert.deepEqual((await collect(await clerk.stream("Book 7 nights in Rome"))).at(-1), stay);
});

test("withStructuredOutput fills the schema by a function that must be called", async () => {
  const clerk = chat({ model: "caller" }).withStructuredOutput(schema, { name: "stay", method: "functionCalling" });

  assert.deepEqual(await clerk.invoke("Book 7 nights in Rome"), stay);
});

test("a chain goes on by the id of the response before, tools included", async () => {
  const model = chat().bindTools(tools);
  const first = await model.invoke("My name is Alice.");
  const called = await model.invoke("The weather in Rome (chain)", { previous_response_id: first.response_metadata.id });
  const told = await model.invoke(await results(called), { previous_response_id: called.response_metadata.id });
  const last = await model.invoke("What is my name?", { previous_response_id: told.response_metadata.id });

  assert.equal(last.text, "Your name is Alice.");
  assert.equal((await asked("What is my name?")).at(-1).messages.length, 7);
});

test("a history is replayed without a store", async () => {
  const model = chat({ model: "memory", zdrEnabled: true });
  const opening = new HumanMessage("My name is Bob.");
  const first = await model.invoke([opening]);

  assert.equal((await model.invoke([opening, first, new HumanMessage("Who am I?")])).text, "Your name is Bob.");
});

for (const stream of [false, true]) {
  test(`a model's thoughts are reasoning, and can be sent back (stream: ${stream})`, async () => {
    const model = chat({ model: "thinker", modelKwargs: { reasoning: { summary: "auto" } } });
    const question = new HumanMessage("Why?");
    const answer = stream ? whole(await collect(await model.stream([question]))) : await model.invoke([question]);

    const thoughts = answer.contentBlocks.filter((block) => block.type === "reasoning");
    assert.deepEqual(thoughts.map((block) => block.reasoning), ["They said 'Why?'."]);
    const again = await model.invoke([question, new AIMessage(answer), new HumanMessage("And then?")]);
    assert.equal(again.text, "I have thought about it.");
  });
}

test("an abort in the middle of a stream reaches the model", async () => {
  const gate = newGate();
  const leaving = new AbortController();
  let text = "";

  await assert.rejects(async () => {
    for await (const chunk of await chat({ model: "gated" }).stream(gate.input, { signal: leaving.signal })) {
      text += chunk.text;
      if (text.includes("upon")) leaving.abort();
    }
  });

  await gate.abandoned();
});
