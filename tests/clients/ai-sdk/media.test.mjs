// Images, of the user and of tools, as the model sees them.

import assert from "node:assert/strict";
import test from "node:test";
import { generateText, isStepCount, tool } from "ai";
import { z } from "zod";
import { asked, unique } from "./chat.mjs";
import { antiphon } from "./configuration.mjs";

const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

const shown = { type: "image_url", image_url: { url: `data:image/png;base64,${png}`, detail: "auto" } };

test("the model sees an image of the user", async () => {
  const text = unique("Look here");
  const image = { type: "file", data: Buffer.from(png, "base64"), mediaType: "image/png" };
  await generateText({
    model: antiphon("story"),
    messages: [{ role: "user", content: [{ type: "text", text }, image] }],
  });

  const [{ messages }] = await asked(text);
  assert.deepEqual(messages, [{ role: "user", content: [{ type: "text", text }, shown] }]);
});

test("the model sees an image that a tool returns", async () => {
  await generateText({
    model: antiphon("gpt-4.1"),
    prompt: "Take a snapshot of the harbour",
    stopWhen: isStepCount(3),
    tools: {
      snapshot: tool({
        description: "Take a picture.",
        inputSchema: z.object({ place: z.string() }),
        execute: async ({ place }) => ({ place, data: png }),
        toModelOutput: ({ output }) => ({
          type: "content",
          value: [
            { type: "text", text: `The ${output.place}:` },
            { type: "file", data: { type: "data", data: output.data }, mediaType: "image/png" },
          ],
        }),
      }),
    },
  });

  // The dialect's tool messages hold text alone: the image follows as the user's.
  const { messages } = (await asked("[image/png")).find((body) => body.messages.length === 4);
  assert.deepEqual(messages.slice(2), [
    { role: "tool", tool_call_id: "call_snapshot", content: "The harbour:" },
    { role: "user", content: [shown] },
  ]);
});
