"use strict";

const native = require("./native.js");
const { databaseUrl } = require("./url.js");
const { errorFrom } = require("./errors.js");
const { Request } = require("./request.js");
const { ChatCompletionStream, AsyncChatCompletionStream } = require("./streams.js");

// A year, in milliseconds.
const NO_LIMIT = 365 * 24 * 60 * 60 * 1000;

class OpenSourceAI {
  #native;
  #timeout;
  #maxRetries;

  constructor(url, options) {
    // The openai package has one argument, its options.
    if (url !== null && typeof url === "object") [url, options] = [url.databaseURL, url];
    const given = options ?? {};
    this.#timeout = limit("timeout", given.timeout, 600_000);
    this.#maxRetries = count("maxRetries", given.maxRetries, 2);
    const streaming = given.streaming ?? "push";
    if (streaming !== "push" && streaming !== "cursor") {
      throw new RangeError(`streaming: must be "push" or "cursor", not ${JSON.stringify(streaming)}`);
    }
    const settings = {
      maxConnections: count("maxConnections", given.maxConnections, 100, 1),
      connectTimeout: limit("connectTimeout", given.connectTimeout, 10_000),
      acquireTimeout: limit("acquireTimeout", given.acquireTimeout, 60_000),
      cursor: streaming === "cursor",
    };
    const client = native.connect(databaseUrl(url), settings);
    if (client.class !== undefined) throw errorFrom(client);
    this.#native = client;

    /** The openai package's `client.chat.completions`. */
    this.chat = {
      completions: {
        create: (body, requestOptions) => this.#create(body, requestOptions),
      },
    };
    /** The openai package's `client.models`. */
    this.models = {
      list: (requestOptions) => this.#models(requestOptions),
    };
  }

  chat_completions_create(...args) {
    return this.#start(args, false).onlyBlocking();
  }

  async chat_completions_create_async(...args) {
    return this.#start(args, false).only();
  }

  chat_completions_create_stream(...args) {
    return new ChatCompletionStream(this.#start(args, true).startedBlocking());
  }

  async chat_completions_create_stream_async(...args) {
    return new AsyncChatCompletionStream(await this.#start(args, true).started());
  }

  /** Closes the connections: idle ones at once, others when their request ends. */
  close() {
    this.#native.close();
  }

  [Symbol.dispose]() {
    this.close();
  }

  async [Symbol.asyncDispose]() {
    this.close();
  }

  /** Names the database, without the password. */
  [Symbol.for("nodejs.util.inspect.custom")]() {
    return `OpenSourceAI(${this.#native.describe()})`;
  }

  #start(args, stream) {
    const [parameters, options] = named(args);
    return this.#request({ temperature: 0.8, n: 1, ...parameters }, stream, options);
  }

  async #create(body, options) {
    const { stream, ...parameters } = body;
    if (!stream) return this.#request(parameters, false, options).only();
    return new AsyncChatCompletionStream(await this.#request(parameters, true, options).started());
  }

  async #models(options = {}) {
    const timeout = limit("timeout", options.timeout, this.#timeout);
    const list = await new Request((...where) => this.#native.models(timeout, ...where), options.signal).only();
    // The openai package's page is also an iterator over its items.
    return Object.defineProperty(list, Symbol.asyncIterator, {
      value: async function* () {
        yield* list.data;
      },
    });
  }

  #request(parameters, stream, options = {}) {
    const timeout = limit("timeout", options.timeout, this.#timeout);
    const maxRetries = count("maxRetries", options.maxRetries, this.#maxRetries);
    if (options.headers) parameters.extra_headers = { ...parameters.extra_headers, ...options.headers };
    const json = JSON.stringify(parameters, finite);
    return new Request(
      (...where) => this.#native.start(json, timeout, maxRetries, stream, ...where),
      options.signal,
    );
  }
}

/** The parameters, given by position or as one object with OpenAI's names, and the options. */
function named(args) {
  const [first, second] = args;
  if (first !== null && typeof first === "object" && "messages" in first) {
    const { stream, ...parameters } = first;
    if (stream !== undefined) {
      throw new TypeError("stream: which method is called says whether it streams; chat.completions.create takes it");
    }
    return [parameters, second];
  }
  const [model, messages, max_tokens, temperature, n, chat_template, options] = args;
  const parameters = { model, messages };
  for (const [name, value] of Object.entries({ max_tokens, temperature, n, chat_template })) {
    if (value !== undefined) parameters[name] = value;
  }
  return [parameters, options];
}

/** JSON would make null of it. */
function finite(key, value) {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new RangeError(`${key}: must be a finite number, not ${value}`);
  }
  return value;
}

function limit(name, value, otherwise) {
  if (value === undefined) return otherwise;
  if (value === null || value === Infinity) return NO_LIMIT;
  if (typeof value === "number" && value > 0) return value;
  throw new RangeError(`${name}: must be a number of milliseconds above 0, or null for no limit, not ${value}`);
}

function count(name, value, otherwise, least = 0) {
  if (value === undefined || value === null) return otherwise;
  if (Number.isInteger(value) && value >= least && value < 2 ** 32) return value;
  throw new RangeError(`${name}: must be a whole number of at least ${least}, not ${value}`);
}

module.exports = { OpenSourceAI };
