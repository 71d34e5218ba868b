"use strict";

// The native part, of which the package has one for each platform that it was built for.

const libc = process.platform === "linux" && !process.report?.getReport().header.glibcVersionRuntime ? "musl" : "gnu";
const platform = process.platform === "linux" ? `linux-${process.arch}-${libc}` : `${process.platform}-${process.arch}`;

try {
  module.exports = require(`./pgml.${platform}.node`);
} catch (cause) {
  throw new Error(`pgml has no native part for ${platform}, or it cannot be loaded; "make javascript" builds it`, {
    cause,
  });
}
