"use strict";

// A request under way. Both faces of a stream, and completions, read their objects from it.

const native = require("./native.js");
const { errors, errorFrom } = require("./errors.js");

const END = { value: undefined, done: true };
// So many objects are handed over before other work of the event loop gets its turn.
const TURN = 256;

// Requests that somebody waits for, by their ids.
const waiting = new Map();
// Keeps the process alive while somebody waits, and only then. The longest time that a timer takes.
const keepAlive = setInterval(() => {}, 2 ** 31 - 1).unref();
const notifier = new native.LoopNotifier(() => {
  for (const id of notifier.drain()) waiting.get(id)?._wake();
});
let newest = 0;

/** Chunks that were there together come as one row, which has the choices of all. */
function chunksOf(object) {
  if (Array.isArray(object)) return object;
  if (object.object !== "chat.completion.chunk" || object.choices.length < 2) return [object];
  return object.choices.map((choice) => ({ ...object, choices: [choice] }));
}

class Request {
  /** `start` makes the native rows; `signal` is an AbortSignal that ends the request. */
  constructor(start, signal) {
    if (signal?.aborted) throw new errors.APIUserAbortError();
    newest = (newest + 1) >>> 0;
    this._id = newest;
    const rows = start(notifier, this._id);
    if (rows.class !== undefined) throw errorFrom(rows);
    this._rows = rows;
    this._objects = [];
    this._at = 0;
    this._turn = 0;
    this._aborted = false;
    this._waiters = [];
    if (signal) {
      this._signal = signal;
      this._abort = () => this.abort();
      signal.addEventListener("abort", this._abort, { once: true });
    }
  }

  /** The next step if it is there, otherwise undefined. */
  _take() {
    if (this._at < this._objects.length) return { value: this._objects[this._at++], done: false };
    return this._rows === null ? END : this._step(this._rows.take());
  }

  _step(row) {
    if (typeof row === "string") {
      const object = JSON.parse(row);
      this._objects = chunksOf(object);
      this._at = 0;
      return this._take();
    }
    if (row === undefined) return undefined;
    this._finish();
    if (row === null) return END;
    throw errorFrom(row);
  }

  /** The next step. Blocks the thread until it is there. */
  nextBlocking() {
    if (this._at < this._objects.length) return { value: this._objects[this._at++], done: false };
    return this._rows === null ? END : this._step(this._rows.takeBlocking());
  }

  /** A promise of the next step. */
  next() {
    return new Promise((resolve, reject) => {
      if (this._waiters.length === 0) {
        if (++this._turn % TURN === 0) return setImmediate(() => this._enqueue(resolve, reject));
        try {
          const step = this._take();
          if (step !== undefined) return resolve(step);
        } catch (error) {
          return reject(error);
        }
      }
      this._enqueue(resolve, reject);
    });
  }

  _enqueue(resolve, reject) {
    this._waiters.push({ resolve, reject });
    this._wake();
  }

  /** Serves those who wait, as far as there is something. */
  _wake() {
    while (this._waiters.length > 0) {
      try {
        const step = this._take();
        if (step === undefined) return this._wait();
        this._waiters.shift().resolve(step);
      } catch (error) {
        this._waiters.shift().reject(error);
      }
    }
    this._rest();
  }

  _wait() {
    if (waiting.size === 0) keepAlive.ref();
    waiting.set(this._id, this);
  }

  _rest() {
    if (waiting.delete(this._id) && waiting.size === 0) keepAlive.unref();
  }

  /** The only object of a request that has one. */
  async only() {
    const step = await this.next();
    return this._checked(step);
  }

  onlyBlocking() {
    return this._checked(this.nextBlocking());
  }

  _checked(step) {
    if (this._aborted) throw new errors.APIUserAbortError();
    this.close();
    if (step.done) throw new errors.InternalServerError({ message: "the database gave no answer", status: 500 });
    return step.value;
  }

  /** Waits until the first object is there, or throws the error in its place. */
  async started() {
    const step = await this.next();
    if (this._aborted) throw new errors.APIUserAbortError();
    this._putBack(step);
    return this;
  }

  startedBlocking() {
    this._putBack(this.nextBlocking());
    return this;
  }

  _putBack({ value, done }) {
    if (done) return;
    if (this._at > 0) this._at--;
    else this._objects = [value];
  }

  abort() {
    this._aborted = true;
    this.close();
  }

  /** Ends the generation. Those who wait are told that the stream has ended. */
  close() {
    this._rows?.close();
    this._finish();
    this._objects = [];
    this._at = 0;
    this._wake();
  }

  _finish() {
    this._rows = null;
    this._signal?.removeEventListener("abort", this._abort);
  }
}

module.exports = { Request };
