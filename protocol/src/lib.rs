//! OpenAI's chat completion protocol, as pgml reads and writes it.
//!
//! Everything here works on bytes and values. It opens no socket, knows no Postgres and no Python,
//! and can therefore be tested and fuzzed alone.
//!
//! * [`request`]: what a request may say; the one place where a request is checked.
//! * [`parameters`]: OpenAI's parameters, and what becomes of each.
//! * [`tools`]: tool calls that must happen; [`schema`]: a tool's JSON schema put into another.
//! * [`error`]: the errors that a caller can see, each with its SQLSTATE.
//!
//! With the feature `engine` (the extension's half):
//!
//! * [`exchange`]: one HTTP request to an engine and its streamed answer.
//! * [`engine_error`]: what an engine's error means for the caller.
//! * [`sse`]: server-sent events out of bytes.
//! * [`chunk`]: an engine's chunks, as far as we read them.
//! * [`reply`]: the engine's chunks turned into the chunks and completions that a caller gets.
//! * [`resources`]: what a request cost.
//! * [`logprobs`]: what an engine tells of tokens, cut to what was asked for.
//! * [`template`]: a Jinja chat template applied to messages.
//! * [`tool_call`]: text that has to be a tool call, shaped into one.

pub mod error;
pub mod parameters;
pub mod request;
pub mod schema;
pub mod tools;

#[cfg(feature = "engine")]
pub mod chunk;
#[cfg(feature = "engine")]
pub mod engine_error;
#[cfg(feature = "engine")]
pub mod exchange;
#[cfg(feature = "engine")]
pub mod logprobs;
#[cfg(feature = "engine")]
pub mod reply;
#[cfg(feature = "engine")]
pub mod resources;
#[cfg(feature = "engine")]
pub mod sse;
#[cfg(feature = "engine")]
pub mod template;
#[cfg(feature = "engine")]
pub mod tool_call;

pub use error::{Error, Kind, Result};
pub use request::Request;
