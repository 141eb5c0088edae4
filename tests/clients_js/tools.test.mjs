// npm openai 7.x and function tools: single and parallel calls, by reference, by replay and in a stream.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { zodResponsesFunction } from "openai/helpers/zod";
import { z } from "zod";

const openai = new OpenAI();

const tool = (name, argument) => ({
  type: "function",
  name,
  description: `Does ${name}.`,
  strict: true,
  parameters: {
    type: "object",
    properties: { [argument]: { type: "string" } },
    required: [argument],
    additionalProperties: false,
  },
});
const tools = [tool("get_weather", "city"), tool("get_time", "zone")];

const callsOf = (response) => response.output.filter((item) => item.type === "function_call");
const outputsOf = (response) =>
  callsOf(response).map((call) => ({
    type: "function_call_output",
    call_id: call.call_id,
    output: `${call.name} is fine`,
  }));

test("a function is called and its result told", async () => {
  const called = await openai.responses.create({ model: "caller", input: "get_weather in Rome", tools });
  const [call] = callsOf(called);
  assert.equal(call.name, "get_weather");
  assert.deepEqual(JSON.parse(call.arguments), { city: "Rome" });

  const answered = await openai.responses.create({
    model: "caller",
    previous_response_id: called.id,
    input: outputsOf(called),
    tools,
  });

  assert.equal(answered.output_text, "The tools said: get_weather is fine");
});

test("parallel calls stream and are continued by replay", async () => {
  const input = [{ role: "user", content: "get_weather and get_time in Oslo" }];
  const deltas = {};
  const called = await openai.responses
    .stream({ model: "caller", input, tools, store: false })
    .on("response.function_call_arguments.delta", (event) => {
      deltas[event.output_index] = (deltas[event.output_index] ?? "") + event.delta;
    })
    .finalResponse();
  assert.deepEqual(Object.values(deltas).map(JSON.parse), [{ city: "Oslo" }, { zone: "Oslo" }]);

  const answered = await openai.responses.create({
    model: "caller",
    input: [...input, ...called.output, ...outputsOf(called)],
    tools,
    store: false,
  });

  assert.equal(answered.output_text, "The tools said: get_weather is fine, get_time is fine");
});

test("parse reads the arguments of calls by their zod schema", async () => {
  const order = zodResponsesFunction({ name: "order", parameters: z.object({ thing: z.string(), count: z.number() }) });

  const response = await openai.responses.parse({ model: "caller", input: "order pizza", tools: [order] });

  assert.deepEqual(response.output[0].parsed_arguments, { thing: "pizza", count: 0.5 });
});

// --- Custom tools, namespaces, tool searches: the helper throws on any event that it does not know ---

const patch = { type: "custom", name: "apply_patch", description: "Edits files." };
const crm = {
  type: "namespace",
  name: "crm",
  description: "Customers.",
  tools: [
    {
      type: "function",
      name: "find",
      description: "Finds a customer.",
      defer_loading: true,
      parameters: { type: "object", properties: { name: { type: "string" } } },
    },
  ],
};

test("a custom call streams and is continued by reference", async () => {
  let input = "";
  const called = await openai.responses
    .stream({ model: "caller", input: "apply_patch with hello", tools: [patch] })
    .on("response.custom_tool_call_input.delta", (event) => {
      input += event.delta;
    })
    .finalResponse();
  const [call] = called.output;
  assert.deepEqual([call.type, call.name, call.input, input], ["custom_tool_call", "apply_patch", "hello", "hello"]);

  const answered = await openai.responses
    .stream({
      model: "caller",
      previous_response_id: called.id,
      input: [{ type: "custom_tool_call_output", call_id: call.call_id, output: "patched" }],
      tools: [patch],
    })
    .finalResponse();

  assert.equal(answered.output_text, "The tools said: patched");
});

test("a search of the server and a call in a namespace stream", async () => {
  const searching = [{ type: "tool_search" }, crm];
  const found = await openai.responses
    .stream({ model: "caller", input: "tool_search with javascript: find", tools: searching })
    .finalResponse();
  assert.deepEqual(
    found.output.map((item) => item.type),
    ["tool_search_call", "tool_search_output", "message"],
  );
  assert.deepEqual(found.output[1].tools, [crm]);

  const called = await openai.responses
    .stream({ model: "caller", previous_response_id: found.id, input: "crm__find Ada", tools: searching })
    .finalResponse();

  assert.deepEqual([called.output[0].namespace, called.output[0].name], ["crm", "find"]);
});
