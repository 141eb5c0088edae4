// Reasoning, and histories by reference, by chain and in full.

import assert from "node:assert/strict";
import test from "node:test";
import { generateText, streamText } from "ai";
import { asked, collect } from "./chat.mjs";
import { antiphon } from "./configuration.mjs";
import { thinking } from "./thinking.mjs";

const user = (content) => ({ role: "user", content });

test("a model's thoughts are reasoning", async () => {
  const call = { model: antiphon("thinker"), prompt: "Why?", providerOptions: thinking };
  assert.equal((await generateText(call)).reasoningText, "They said 'Why?'.");

  const result = streamText(call);
  const parts = await collect(result.fullStream);
  assert.equal(parts.filter((part) => part.type === "reasoning-delta").length, 2);
  assert.deepEqual([await result.reasoningText, await result.text], ["They said 'Why?'.", "I have thought about it."]);
});

for (const [name, options] of Object.entries({
  "by reference": {},
  "in full, with sealed reasoning": { store: false, include: ["reasoning.encrypted_content"] },
})) {
  test(`a history comes back ${name}`, async () => {
    const providerOptions = { openai: { ...thinking.openai, ...options } };
    const again = `What did you say? (${name})`;
    const opening = user("My name is Alice.");
    const first = await generateText({ model: antiphon("thinker"), messages: [opening], providerOptions });
    const history = [opening, ...first.response.messages, user(again)];

    await generateText({ model: antiphon("memory"), messages: history, providerOptions });

    const [{ messages }] = await asked(again);
    assert.deepEqual(
      messages.map((message) => message.content),
      ["My name is Alice.", "I have thought about it.", again],
    );
  });
}

test("a chain by the id of the response before", async () => {
  const first = await generateText({ model: antiphon("memory"), prompt: "My name is Alice." });
  const second = await generateText({
    model: antiphon("memory"),
    prompt: "Who am I?",
    providerOptions: { openai: { previousResponseId: first.response.id } },
  });

  assert.equal(second.text, "Your name is Alice.");
});
