// What the official helper makes of an event that a receiver got: {body, headers, secret} on the standard input.

import OpenAI from "openai";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const { body, headers, secret } = JSON.parse(text);
const openai = new OpenAI();

const event = await openai.webhooks.unwrap(body, headers, secret);
const forged = await openai.webhooks.unwrap(body + " ", headers, secret).then(
  () => "taken",
  (error) => (error instanceof OpenAI.InvalidWebhookSignatureError ? "refused" : String(error)),
);
console.log(JSON.stringify({ type: event.type, id: event.data.id, forged }));
