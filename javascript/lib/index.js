"use strict";

const { OpenSourceAI } = require("./client.js");
const { errors } = require("./errors.js");
const { ChatCompletionStream, AsyncChatCompletionStream } = require("./streams.js");

function newOpenSourceAI(url, options) {
  return new OpenSourceAI(url, options);
}

module.exports = {
  newOpenSourceAI,
  OpenSourceAI,
  ChatCompletionStream,
  AsyncChatCompletionStream,
  ...errors,
};
