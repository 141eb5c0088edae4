// What the server keeps for the next run: chains of responses, and conversations.

import "./configuration.mjs";
import assert from "node:assert/strict";
import test from "node:test";
import {
  Agent,
  MemorySession,
  OpenAIConversationsSession,
  OpenAIResponsesCompactionSession,
  run,
  tool,
} from "@openai/agents";
import { z } from "zod";
import { asked, unique } from "./chat.mjs";

const getWeather = tool({
  name: "get_weather",
  description: "Get the weather of a city.",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const agent = new Agent({ name: "Friend", instructions: "Be kind.", model: "gpt-4.1", tools: [getWeather] });

async function remembers(options) {
  const answer = await run(agent, "What is my name?", options);
  assert.equal(answer.finalOutput, "Your name is Alice.");
}

/** How many messages the model saw with the last request of who said that. */
const seen = async (said) => (await asked(said)).at(-1).messages.length;

test("a run goes on from the last response of another, tools included", async () => {
  const first = await run(agent, "My name is Alice.");
  const second = await run(agent, "The weather in Rome (chain)", { previousResponseId: first.lastResponseId });
  assert.equal(second.finalOutput, "The tools said: sunny in chain");

  await remembers({ previousResponseId: second.lastResponseId });
  assert.equal(await seen("The weather in Rome (chain)"), 6);
});

test("a streamed run goes on too", async () => {
  const first = await run(agent, "My name is Alice.", { stream: true });
  await first.completed;

  await remembers({ previousResponseId: first.lastResponseId });
});

test("runs share a conversation of the server", async () => {
  const session = new OpenAIConversationsSession();
  const conversationId = await session.getSessionId();
  await run(agent, "My name is Alice.", { conversationId });
  await run(agent, "The weather in Rome (conversation)", { conversationId });

  await remembers({ conversationId });
  assert.equal(await seen("The weather in Rome (conversation)"), 6);
});

test("a session keeps its items in a conversation, gives them back and lets them go", async () => {
  const session = new OpenAIConversationsSession();
  await run(agent, "My name is Alice.", { session });
  await run(new Agent({ name: "Thinker", model: "thinker" }), "Why?", { session });
  const result = await run(agent, "The weather in Rome (session)", { session, stream: true });
  await result.completed;
  await remembers({ session });

  const kinds = (await session.getItems()).map((item) => (item.type === "message" ? item.role : item.type));
  const [turn, thought] = [["user", "assistant"], ["user", "reasoning", "assistant"]];
  const called = ["user", "function_call", "function_call_result", "assistant"];
  assert.deepEqual(kinds, [...turn, ...thought, ...called, ...turn]);

  assert.equal((await session.popItem()).content[0].text, "Your name is Alice.");
  assert.equal((await session.getItems()).length, kinds.length - 1);
  assert.equal((await session.getItems(1))[0].content[0].text, "What is my name?");

  await session.clearSession();
  assert.deepEqual(await session.getItems(), []);
});

for (const compactionMode of ["previous_response_id", "input"]) {
  test(`a session that has grown long is compacted, and goes on (${compactionMode})`, async () => {
    const session = new OpenAIResponsesCompactionSession({
      model: "gpt-4.1",
      underlyingSession: new MemorySession(),
      compactionMode,
      shouldTriggerCompaction: ({ compactionCandidateItems }) => compactionCandidateItems.length >= 2,
    });
    await run(agent, "My name is Alice.", { session });
    await run(agent, "The weather in Rome", { session });
    const items = await session.getItems();
    assert.equal(items.at(-1).type, "compaction");
    assert.ok(items.every((item) => item.type === "compaction" || item.role === "user"));

    const said = unique("And now?");
    await run(agent, said, { session });

    const [{ messages }] = await asked(said);
    assert.deepEqual(messages.map((message) => message.role), ["system", "user"]);
    assert.match(messages[0].content, /Summary of the conversation/);
  });
}
