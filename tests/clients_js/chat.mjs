// The door of the scripted chat server, and what several tests share.

import { randomUUID } from "node:crypto";

const control = `${process.env.CHAT_URL}/control`;

async function call(method, path, body) {
  const reply = await fetch(control + path, {
    method,
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  });
  if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${await reply.text()}`);
  return reply.json();
}

/** The bodies of the requests whose last user text holds `text`. */
export async function asked(text) {
  return (await call("GET", `/requests?said=${encodeURIComponent(text)}`)).map((seen) => seen.body);
}

/** Whoever says `said` from now on gets these turns. */
export const script = (said, turns) => call("POST", "/scripts", { said, turns });

/** A gate of the chat server that no other test uses; `input` makes the model `gated` wait at it. */
export function newGate() {
  const name = `gate${randomUUID()}`;
  return {
    input: `gate ${name}`,
    open: () => call("POST", `/gates/${name}/open`),
    reached: () => call("GET", `/gates/${name}/reached`),
    abandoned: () => call("GET", `/gates/${name}/abandoned`),
  };
}

/** A text that nobody else says. */
export const unique = (text) => `${text} ${randomUUID()}`;

/** Everything that an async iterable brings. */
export async function collect(iterable) {
  const all = [];
  for await (const one of iterable) all.push(one);
  return all;
}

export const textOf = (events) =>
  events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta).join("");
