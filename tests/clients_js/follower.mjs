// Follows background runs for as long as it takes, over any number of broken connections, with the official SDK.
//
// Commands come on standard input, what happens is told on standard output, one JSON object per line each. What a run
// said is folded by the SDK's own accumulator: once over everything, once without the terminal event, which repeats the
// whole Response and would hide a gap.

import { createInterface } from "node:readline";
import { isDeepStrictEqual } from "node:util";
import OpenAI from "openai";
import { ResponseStream } from "openai/lib/responses/ResponseStream";

const TERMINAL = new Set(["response.completed", "response.failed", "response.incomplete"]);
const PAUSE_MS = 25;
const REQUEST_MS = 30_000;

/** Where the servers are; a follower whose connection breaks goes on at the next. */
let clients = [];
/** A stream that is silent for so long counts as broken. */
let idleMs = REQUEST_MS;
const follows = new Map();

const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const now = () => performance.timeOrigin + performance.now();
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

class Follow {
  constructor(name, id) {
    this.name = name;
    this.id = id;
    this.frames = [];
    this.ended = false;
    this.connections = 0;
    this.problems = [];
    this.turn = 0;
    this.polled = false;
  }

  get last() {
    return this.frames.length - 1;
  }

  wrong(kind, text) {
    this.problems.push({ kind, text: `${this.name}: ${text}` });
  }

  get client() {
    return clients[this.turn % clients.length];
  }

  /** Creates the run and stays with it; `leaves`: the connection that created it is dropped at its first event. */
  async create(body, leaves) {
    const opened = now();
    try {
      if (body.stream) {
        await this.read(await this.client.responses.create(body).asResponse(), opened, leaves);
      } else {
        this.acknowledged((await this.client.responses.create(body)).id);
      }
    } catch (error) {
      if (this.id === undefined) return tell({ is: "refused", name: this.name, error: String(error) });
    }
    if (this.id === undefined) return tell({ is: "refused", name: this.name, error: "nothing was said" });
    await (body.stream ? this.follow() : this.poll());
    tell({ is: "ended", name: this.name, last: this.last, connections: this.connections, problems: this.problems });
  }

  acknowledged(id) {
    this.id = id;
    tell({ is: "created", name: this.name, id });
  }

  /** Reads on until the terminal event, connecting again as often as it takes. */
  async follow() {
    while (!this.ended) {
      const opened = now();
      try {
        const query = { stream: true, ...(this.last >= 0 && { starting_after: this.last }) };
        await this.read(await this.client.responses.retrieve(this.id, query).asResponse(), opened);
      } catch (error) {
        if (this.isFinal(error)) return;
      }
      if (this.ended) return;
      this.turn += 1;
      await pause();
    }
  }

  /** Asks until it has ended: a run that was created without a stream has none. */
  async poll() {
    this.polled = true;
    for (;;) {
      try {
        const { status } = await this.client.responses.retrieve(this.id);
        if (status !== "queued" && status !== "in_progress") return;
      } catch (error) {
        if (this.isFinal(error)) return;
        this.turn += 1;
      }
      await pause();
    }
  }

  /** Whether asking again is of no use. */
  isFinal(error) {
    if (!(error instanceof OpenAI.APIError && error.status >= 400 && error.status < 500)) return false;
    this.wrong(error.status === 404 ? "lost" : "wrong", `it was acknowledged, now: ${error}`);
    return true;
  }

  /** The frames of one connection, until it ends or breaks. */
  async read(reply, opened, leaves = false) {
    this.connections += 1;
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { value, done } = await unlessIdle(reader.read());
        if (done) return;
        const before = this.last;
        const frames = (rest + value).split("\n\n");
        rest = frames.pop();
        for (const frame of frames) this.take(frame);
        if (this.last > before) tell({ is: "grew", name: this.name, last: this.last, opened, at: now() });
        if (leaves && this.last >= 0) return;
      }
    } finally {
      reader.cancel().catch(() => undefined);
    }
  }

  take(frame) {
    if (frame.startsWith(":")) return;
    const data = frame.slice(frame.indexOf("data: ") + 6);
    if (data === "[DONE]") {
      if (!this.ended) this.wrong("wrong", `[DONE] after ${this.last}, before a terminal event`);
      return;
    }
    const event = JSON.parse(data);
    const number = event.sequence_number;
    // A keep-alive repeats the number of the last event (design decision 8).
    if (event.type === "response.in_progress" && number === this.last && number > 0) return;
    if (number <= this.last) return this.wrong("doubled", `${event.type} ${number} came after ${this.last}`);
    if (this.ended) return this.wrong("doubled", `${event.type} ${number} came after the terminal event`);
    if (number > this.last + 1) return this.wrong("lost", `${event.type} ${number} came after ${this.last}`);
    this.frames.push(frame);
    if (this.id === undefined) this.acknowledged(event.response.id);
    if (TERMINAL.has(event.type)) this.ended = true;
  }

  /** Everything that can be said of a run that has ended. */
  async check() {
    const stored = plain(await this.client.get(`/responses/${this.id}`));
    if (!this.polled) await this.checkStream(stored);
    tell({ is: "checked", name: this.name, response: stored, problems: this.problems });
  }

  /** Late readers get the bytes that the live one got, and the accumulator makes of them what GET says. */
  async checkStream(stored) {
    const streamed = await this.client.responses.retrieve(this.id, { stream: true }).asResponse();
    const late = (await streamed.text()).split("\n\n").filter((frame) => frame.startsWith("event: "));
    if (late.join("\n\n") !== this.frames.join("\n\n")) this.wrong("lost", differing(this.frames, late));
    const fold = await folded(this.frames);
    if (!isDeepStrictEqual(fold, stored)) this.wrong("wrong", `the fold of all events is not GET: ${both(fold, stored)}`);
    const { output } = await folded(this.frames.slice(0, -1));
    if (!isDeepStrictEqual(output, stored.output))
      this.wrong("wrong", `the fold without the terminal event is not GET: ${both(output, stored.output)}`);
    await this.checkHelper(stored);
  }

  /** The SDK's own way to follow a run, from the middle of it. */
  async checkHelper(stored) {
    const middle = this.last >> 1;
    const numbers = [];
    const stream = this.client.responses.stream({ response_id: this.id, starting_after: middle });
    stream.on("event", (event) => numbers.push(event.sequence_number));
    const final = plain(await stream.finalResponse());
    if (!isDeepStrictEqual(final, stored)) this.wrong("wrong", `the stream helper's response is not GET`);
    const awaited = Array.from({ length: this.last - middle }, (_, index) => middle + 1 + index);
    if (!isDeepStrictEqual(numbers, awaited)) this.wrong("wrong", `the stream helper told ${numbers}`);
  }

  async cancel() {
    try {
      const { status } = await this.client.responses.cancel(this.id);
      tell({ is: "cancelled", name: this.name, status });
    } catch (error) {
      tell({ is: "cancelled", name: this.name, status: null, error: String(error) });
    }
  }
}

/** The value, unless it takes longer than a stream may be silent. */
async function unlessIdle(promise) {
  let timer;
  const idle = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the stream is silent")), idleMs);
  });
  try {
    return await Promise.race([promise, idle]);
  } finally {
    clearTimeout(timer);
  }
}

/** What the SDK's accumulator makes of frames. */
async function folded(frames) {
  const lines = frames.map((frame) => `${frame.slice(frame.indexOf("data: ") + 6)}\n`);
  const bytes = new TextEncoder().encode(lines.join(""));
  const readable = new ReadableStream({
    start(controller) {
      controller.enqueue(bytes);
      controller.close();
    },
  });
  return plain(await ResponseStream.fromReadableStream(readable).finalResponse());
}

/** A Response without what only the SDK adds to it. */
function plain(response) {
  const added = new Set(["parsed", "parsed_arguments", "output_text", "output_parsed"]);
  return JSON.parse(JSON.stringify(response), (key, value) => (added.has(key) ? undefined : value));
}

const both = (one, other) => `${JSON.stringify(one)} against ${JSON.stringify(other)}`;

function differing(live, late) {
  const place = live.findIndex((frame, index) => frame !== late[index]);
  if (place < 0) return `a late reader got ${late.length} frames, the live one ${live.length}`;
  return `a late reader got other bytes at ${place}: ${late[place]} against ${live[place]}`;
}

const COMMANDS = {
  servers({ urls, idle_ms }) {
    idleMs = idle_ms ?? REQUEST_MS;
    clients = urls.map(
      (baseURL) => new OpenAI({ baseURL, apiKey: "any", maxRetries: 0, timeout: idleMs, logLevel: "off" }),
    );
    tell({ is: "ready" });
  },
  create({ name, body, server, leaves }) {
    const follow = new Follow(name);
    follow.turn = server ?? 0;
    follows.set(name, follow);
    return follow.create(body, leaves);
  },
  cancel: ({ name }) => follows.get(name).cancel(),
  check({ name, server }) {
    const follow = follows.get(name);
    follow.turn = server;
    return follow.check();
  },
  forget({ name }) {
    follows.delete(name);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  Promise.resolve(COMMANDS[command.do](command)).catch((error) => {
    tell({ is: "broken", name: command.name ?? null, error: String(error?.stack ?? error) });
  });
}
process.exit(0);
