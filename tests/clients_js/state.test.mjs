// npm openai 7.x and what the server keeps: retrieve, delete, input items, background, resume, cancel.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { collect, newGate, textOf } from "./chat.mjs";

const openai = new OpenAI();

test("a response is retrieved, and gone when deleted", async () => {
  const created = await openai.responses.create({ model: "thinker", input: "hello" });
  const { _request_id, ...retrieved } = await openai.responses.retrieve(created.id, {
    include: ["reasoning.encrypted_content"],
  });
  assert.deepEqual(retrieved, { ...created });

  await openai.responses.delete(created.id);

  await assert.rejects(openai.responses.retrieve(created.id), OpenAI.NotFoundError);
  await assert.rejects(openai.responses.delete(created.id), OpenAI.NotFoundError);
});

for (const order of ["asc", "desc"]) {
  test(`input items are paged through, ${order}`, async () => {
    const said = [1, 2, 3, 4, 5].map((number) => `line ${number}`);
    const created = await openai.responses.create({
      model: "echo",
      input: said.map((content) => ({ role: "user", content })),
    });

    const items = await collect(openai.responses.inputItems.list(created.id, { limit: 2, order }));

    const expected = order === "asc" ? said : said.toReversed();
    assert.deepEqual(items.map((item) => item.content[0].text), expected);
  });
}

test("a background response goes on, and is cancelled when asked", async () => {
  const [left, right] = [newGate(), newGate()];
  const begun = await openai.responses.create({ model: "gated", input: left.input, background: true });
  const stopped = await openai.responses.create({ model: "gated", input: right.input, background: true });
  await Promise.all([left.reached(), right.reached()]);

  assert.equal((await openai.responses.cancel(stopped.id)).status, "cancelled");
  await right.abandoned();
  await left.open();

  let response = begun;
  for (let tries = 0; tries < 400 && ["queued", "in_progress"].includes(response.status); tries++) {
    response = await openai.responses.retrieve(begun.id);
  }
  assert.equal(response.output_text, "Once upon a time.");
  assert.equal((await openai.responses.retrieve(stopped.id)).status, "cancelled");
});

test("a background stream is resumed where it was left", async () => {
  const gate = newGate();
  const stream = await openai.responses.create({ model: "gated", input: gate.input, background: true, stream: true });
  const seen = [];
  for await (const event of stream) {
    seen.push(event);
    if (textOf(seen) === "Once upon") break;
  }
  const id = seen[0].response.id;
  await gate.open();

  const rest = await openai.responses.retrieve(id, { stream: true, starting_after: seen.at(-1).sequence_number });
  seen.push(...(await collect(rest)));

  assert.deepEqual(seen.map((event) => event.sequence_number), [...seen.keys()]);
  assert.equal(textOf(seen), "Once upon a time.");
  assert.equal(seen.at(-1).response.output_text ?? textOf(seen), "Once upon a time.");
});

test("the helper follows a response by its id", async () => {
  const gate = newGate();
  await gate.open();
  const events = await collect(
    await openai.responses.create({ model: "gated", input: gate.input, background: true, stream: true }),
  );
  const id = events[0].response.id;

  const stream = openai.responses.stream({ response_id: id, starting_after: 4 });
  const numbers = (await collect(stream)).map((event) => event.sequence_number);

  assert.deepEqual(numbers, events.map((event) => event.sequence_number).slice(5));
  assert.equal((await stream.finalResponse()).output_text, "Once upon a time.");
});

test("a conversation is made, talked in, paged through and deleted", async () => {
  const conversation = await openai.conversations.create({
    metadata: { topic: "demo" },
    items: [{ role: "user", content: "My name is Alice." }],
  });
  const response = await openai.responses.create({
    model: "memory",
    input: "Who am I?",
    conversation: conversation.id,
  });
  assert.equal(response.output_text, "Your name is Alice.");
  assert.deepEqual(response.conversation, { id: conversation.id });

  const items = await collect(openai.conversations.items.list(conversation.id, { limit: 1, order: "asc" }));
  const said = ["My name is Alice.", "Who am I?", "Your name is Alice."];
  assert.deepEqual(items.map((item) => item.content[0].text), said);

  const added = await openai.conversations.items.create(conversation.id, {
    items: [{ role: "user", content: "More." }],
  });
  const kept = await openai.conversations.items.delete(added.data[0].id, { conversation_id: conversation.id });
  assert.deepEqual(kept.metadata, { topic: "demo" });
  await assert.rejects(
    openai.conversations.items.retrieve(added.data[0].id, { conversation_id: conversation.id }),
    OpenAI.NotFoundError,
  );
  const changed = await openai.conversations.update(conversation.id, { metadata: {} });
  assert.deepEqual(changed.metadata, {});
  assert.equal((await openai.conversations.delete(conversation.id)).deleted, true);
  await assert.rejects(openai.conversations.retrieve(conversation.id), OpenAI.NotFoundError);
});
