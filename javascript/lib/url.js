"use strict";

const { execFileSync } = require("node:child_process");
const { errors } = require("./errors.js");

/** The database: the argument, the environment, or the local instance. */
function databaseUrl(given) {
  const url = given || process.env.DATABASE_URL || process.env.PGML_DATABASE_URL;
  if (url) return String(url);
  try {
    // Starts the local instance if it does not run.
    return execFileSync("pgml", ["up"], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }).trim();
  } catch (cause) {
    const hint =
      "Pass the database's URL, set DATABASE_URL or PGML_DATABASE_URL, " +
      "or install the local instance: pip install 'pgml[local]'.";
    const message =
      cause.code === "ENOENT" ? "no database to ask" : `the local instance did not start: ${cause.message}`;
    throw Object.assign(new errors.APIConnectionError({ message, hint }), { cause });
  }
}

module.exports = { databaseUrl };
