"use strict";

const assert = require("node:assert");
const http = require("node:http");
const test = require("node:test");
const { once } = require("node:events");
const { spawn } = require("node:child_process");
const { Client } = require("pg");
const pgml = require("pgml");

const URL_ = process.env.DATABASE_URL;
const QUESTION = { model: "endless", messages: [{ role: "user", content: "Count." }] };
const CHUNK = { id: "c", object: "chat.completion.chunk", created: 1, model: "m" };
const piece = (content) =>
  `data: ${JSON.stringify({ ...CHUNK, choices: [{ index: 0, delta: { role: "assistant", content }, finish_reason: null }] })}\n\n`;

// An engine that sends one chunk and then nothing until the peer disconnects.
const gone = [];
const engine = http.createServer((request, response) => {
  request.resume();
  if (request.url.startsWith("/burst")) {
    // All at once, so that many chunks are one row of the database.
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const end = { ...CHUNK, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
    const events = Array.from({ length: 500 }, (_, index) => piece(`${index} `)).join("");
    response.end(`${events}data: ${JSON.stringify(end)}\n\ndata: [DONE]\n\n`);
    return;
  }
  gone.push(once(response, "close"));
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(piece("a"));
});
const admin = new Client({ connectionString: URL_ });
const client = pgml.newOpenSourceAI(URL_, { maxRetries: 0 });

test.before(async () => {
  await new Promise((resolve) => engine.listen(0, "127.0.0.1", resolve));
  await admin.connect();
  const url = `http://127.0.0.1:${engine.address().port}/v1`;
  await admin.query(`CREATE SERVER javascript FOREIGN DATA WRAPPER pgml OPTIONS (base_url '${url}')`);
  await admin.query("INSERT INTO pgml.models VALUES ('endless', 'javascript', 'm')");
  const burst = url.replace("/v1", "/burst");
  await admin.query(`CREATE SERVER javascript_burst FOREIGN DATA WRAPPER pgml OPTIONS (base_url '${burst}')`);
  await admin.query("INSERT INTO pgml.models VALUES ('burst', 'javascript_burst', 'm')");
});

test.after(async () => {
  await admin.query("DELETE FROM pgml.models WHERE server LIKE 'javascript%'");
  await admin.query("DROP SERVER javascript, javascript_burst CASCADE");
  await admin.end();
  client.close();
  engine.closeAllConnections();
  engine.close();
});

test("chunks that come together are chunks of their own", async () => {
  const whole = Array.from({ length: 500 }, (_, index) => `${index} `).join("");
  const request = { ...QUESTION, model: "burst" };
  const chunks = [];
  for await (const chunk of await client.chat_completions_create_stream_async(request)) chunks.push(chunk);
  assert.strictEqual(chunks.length, 501);
  assert(chunks.every((chunk) => chunk.choices.length === 1));
  assert.strictEqual(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), whole);
});

test("break ends the generation", async () => {
  for await (const chunk of await client.chat.completions.create({ ...QUESTION, stream: true })) {
    assert.strictEqual(chunk.choices[0].delta.content, "a");
    break;
  }
  await gone.at(-1);
});

test("a signal ends a stream", async () => {
  const controller = new AbortController();
  const stream = await client.chat.completions.create({ ...QUESTION, stream: true }, { signal: controller.signal });
  await stream.next();
  const next = stream.next();
  controller.abort();
  assert.deepStrictEqual(await next, { value: undefined, done: true });
  await gone.at(-1);
});

test("a signal ends a completion", async () => {
  const controller = new AbortController();
  const asked = once(engine, "request");
  const answer = client.chat_completions_create_async(QUESTION, { signal: controller.signal });
  await asked;
  controller.abort();
  await assert.rejects(answer, pgml.APIUserAbortError);
  await gone.at(-1);
});

test("100 streams at a time", async () => {
  const start = () => client.chat_completions_create_stream_async(QUESTION);
  const streams = await Promise.all(Array.from({ length: 100 }, start));
  const steps = await Promise.all(streams.map((stream) => stream.next()));
  for (const { value } of steps) assert.strictEqual(value.choices[0].delta.content, "a");
  for (const stream of streams) stream.close();
  await Promise.all(gone);
});

test("a readable stream holds a chunk a line", async () => {
  const stream = await client.chat.completions.create({ ...QUESTION, stream: true });
  const reader = stream.toReadableStream().getReader();
  const { value } = await reader.read();
  assert.strictEqual(JSON.parse(new TextDecoder().decode(value)).choices[0].delta.content, "a");
  await reader.cancel();
  await gone.at(-1);
});

test("errors are those of the openai package", async () => {
  await assert.rejects(client.chat.completions.create({ ...QUESTION, model: "none" }), (error) => {
    assert(error instanceof pgml.NotFoundError && error instanceof pgml.APIError);
    assert.strictEqual(error.status, 404);
    assert.strictEqual(error.code, "model_not_found");
    assert.strictEqual(error.sqlstate, "42704");
    assert.match(error.request_id, /^chatcmpl-/);
    return true;
  });
  assert.throws(() => client.chat_completions_create({ ...QUESTION, temperature: 3 }), {
    name: "BadRequestError",
    param: "temperature",
    status: 400,
  });
  assert.throws(() => client.chat_completions_create({ ...QUESTION, temperature: NaN }), /temperature: must be a finite/);
});

test("models are listed", async () => {
  const { data } = await client.models.list();
  assert(data.some((model) => model.id === "endless"));
});

test("a process ends though a stream is open", () => {
  const program = `
    const client = require(${JSON.stringify(require.resolve("pgml"))}).newOpenSourceAI();
    client.chat_completions_create_stream_async(${JSON.stringify(QUESTION)}).then((it) => it.next());`;
  const child = spawn(process.execPath, ["-e", program], { stdio: "inherit" });
  return once(child, "exit").then(([code]) => assert.strictEqual(code, 0));
});
