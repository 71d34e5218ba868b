// Compiled, never run: our results are what the openai package's types describe.

import type OpenAI from "openai";
import { APIError, OpenSourceAI, newOpenSourceAI } from "pgml";

const client: OpenSourceAI = newOpenSourceAI("postgresql://app@host/db");
const messages = [{ role: "user", content: "hi" }];

const completion = await client.chat.completions.create({ model: "m", messages });
const theirs: Pick<OpenAI.ChatCompletion, "id" | "created" | "model" | "object"> = completion;
const text: string | null = completion.choices[0].message.content;

const stream = await client.chat.completions.create({ model: "m", messages, stream: true });
for await (const chunk of stream) {
  const same: Pick<OpenAI.ChatCompletionChunk, "id" | "created" | "model" | "object"> = chunk;
  const piece: string | null | undefined = chunk.choices[0].delta.content;
  void [same, piece];
}
for (const chunk of client.chat_completions_create_stream("m", messages)) void chunk.choices;
try {
  client.chat_completions_create({ model: { model: "m", revision: "main" }, messages, max_tokens: 3 });
} catch (error) {
  if (error instanceof APIError) void [error.status, error.sqlstate];
}
// @ts-expect-error A model is needed.
client.chat_completions_create({ messages });
void [theirs, text];
