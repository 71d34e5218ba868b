"use strict";

// Every JavaScript example of the specification, as it stands. test_javascript.py sets DATABASE_URL.

const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const test = require("node:test");

const SPEC = fs.readFileSync(path.join(__dirname, "../../tests/spec/opensourceai.md"), "utf8");
const EXAMPLES = [...SPEC.matchAll(/^```javascript\n(.*?)^```$/gms)].map((match) => match[1]);
const AsyncFunction = (async () => {}).constructor;

test("the specification has its examples", () => assert.strictEqual(EXAMPLES.length, 7));

for (const [index, code] of EXAMPLES.entries()) {
  test(`example ${index + 1}`, async () => {
    const printed = [];
    const run = new AsyncFunction("require", "console", "YOUR_DATABASE_URL", code);
    await run(require, { log: (value) => printed.push(value) }, process.env.DATABASE_URL);
    if (!code.includes("console.log")) return assert.deepStrictEqual(printed, []);
    const name = /"([\w-]+\/[\w.-]+)"/.exec(code)[1];
    for (const result of printed) assert.strictEqual(result.model, name);
    if (code.includes("_stream")) {
      assert(printed.length > 1);
      assert(printed.every((chunk) => chunk.object === "chat.completion.chunk"));
      assert(printed.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""));
    } else {
      assert.strictEqual(printed.length, 1);
      assert.strictEqual(printed[0].object, "chat.completion");
      assert(printed[0].choices[0].message.content);
    }
  });
}
