// npm openai 7.x over WebSocket: `ResponsesWS` as its documentation uses it.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";
import { textOf } from "./chat.mjs";

const openai = new OpenAI();
const ENDS = ["response.completed", "response.incomplete", "response.failed"];

/** A connection, and a way to hear everything that answers one message. */
function connected() {
  const socket = new ResponsesWS(openai);
  let heard = [];
  let settle = () => {};
  const settled = (event) => {
    heard.push(event);
    if (ENDS.includes(event.type) || event.type === "error") settle();
  };
  socket.on("event", settled);
  socket.on("error", () => {});
  return {
    socket,
    async ask(request) {
      heard = [];
      const done = new Promise((resolve) => (settle = resolve));
      socket.send({ type: "response.create", model: "echo", ...request });
      await done;
      return heard;
    },
  };
}

test("one response after another, each continuing what is not stored", async () => {
  const { socket, ask } = connected();
  try {
    const warm = await ask({ generate: false, store: false, input: "hello" });
    assert.deepEqual(warm.map((event) => event.type), [
      "response.created",
      "response.in_progress",
      "response.completed",
    ]);

    const first = await ask({ store: false, input: "one", previous_response_id: warm.at(-1).response.id });
    assert.equal(textOf(first), "one");
    assert.deepEqual(first.map((event) => event.sequence_number), [...first.keys()]);

    const second = await ask({ store: false, input: "two", previous_response_id: first.at(-1).response.id });
    assert.equal(textOf(second), "two");
    assert.equal(second.at(-1).response.previous_response_id, first.at(-1).response.id);
  } finally {
    socket.close();
  }
});

test("an error leaves the connection as it is", async () => {
  const { socket, ask } = connected();
  try {
    const [told] = await ask({ input: "hello", previous_response_id: "resp_nobody" });
    assert.equal(told.type, "error");
    assert.equal(told.status, 400);
    assert.equal(told.error.code, "previous_response_not_found");

    assert.equal(textOf(await ask({ input: "hello" })), "hello");
  } finally {
    socket.close();
  }
});

test("a stored response is found over HTTP", async () => {
  const { socket, ask } = connected();
  try {
    const made = (await ask({ input: "hello there" })).at(-1).response;
    const stored = await openai.responses.retrieve(made.id);
    assert.equal(stored.output_text, "hello there");
  } finally {
    socket.close();
  }
});
