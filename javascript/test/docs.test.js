"use strict";

// The examples of docs/javascript.md, one after another. test_javascript.py sets DATABASE_URL.

const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const test = require("node:test");

const PAGE = fs.readFileSync(path.join(__dirname, "../../docs/javascript.md"), "utf8");
const EXAMPLES = [...PAGE.matchAll(/^```javascript\n(.*?)^```$/gms)].map((match) => match[1]);
const AsyncFunction = (async () => {}).constructor;

test("the page has examples", () => assert.strictEqual(EXAMPLES.length, 2));

for (const [index, code] of EXAMPLES.entries()) {
  test(`example ${index + 1}`, async () => {
    const printed = [];
    const print = (text) => printed.push(text);
    const run = new AsyncFunction("require", "console", "process", code);
    await run(require, { log: print }, { stdout: { write: print } });
    assert(printed.join("").length > 0);
  });
}
