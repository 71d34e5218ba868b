"use strict";

// A stream of chunks: `next()` at once, or as a promise.

Symbol.dispose ??= Symbol.for("nodejs.dispose");
Symbol.asyncDispose ??= Symbol.for("nodejs.asyncDispose");

class ChatCompletionStream {
  #request;

  constructor(request) {
    this.#request = request;
  }

  next() {
    return this.#request.nextBlocking();
  }

  /** Ends the generation; `break` in a `for…of` loop calls it. */
  return(value) {
    this.#request.close();
    return { value, done: true };
  }

  close() {
    this.#request.close();
  }

  [Symbol.iterator]() {
    return this;
  }

  [Symbol.dispose]() {
    this.#request.close();
  }
}

class AsyncChatCompletionStream {
  #request;

  constructor(request) {
    this.#request = request;
    /** The openai package's way to end a stream. */
    this.controller = new AbortController();
    this.controller.signal.addEventListener("abort", () => request.abort(), { once: true });
  }

  next() {
    return this.#request.next();
  }

  /** Ends the generation; `break` in a `for await` loop calls it. */
  async return(value) {
    this.#request.close();
    return { value, done: true };
  }

  close() {
    this.#request.close();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async [Symbol.asyncDispose]() {
    this.#request.close();
  }

  /** A stream of bytes: each chunk's JSON in a line, as the openai package has it. */
  toReadableStream() {
    const encoder = new TextEncoder();
    const request = this.#request;
    return new ReadableStream({
      async pull(controller) {
        const { value, done } = await request.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(`${JSON.stringify(value)}\n`));
      },
      cancel() {
        request.close();
      },
    });
  }
}

module.exports = { ChatCompletionStream, AsyncChatCompletionStream };
