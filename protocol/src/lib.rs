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
//! With the feature `engine` (the extension's half), from an engine's bytes to what a caller gets:
//!
//! * [`exchange`]: one HTTP request to an engine, and its answer; `body`: what that answer is;
//!   [`sse`]: server-sent events out of bytes.
//! * [`engine_error`]: what an engine's error means for the caller.
//! * [`chunk`]: an engine's events, read generously; `raw`: JSON that is passed on as it came.
//! * `assemble`: what an engine says of a choice, made into what OpenAI would say, with `calls` (its
//!   tool calls), `tool_call` (a text that has to be one), `logprobs` and `usage`.
//! * `merge`: the rules by which pieces become a message.
//! * [`reply`]: the chunks and completions that a caller gets; [`resources`]: what a request cost.
//! * [`template`]: a Jinja chat template applied to messages; `python_json`: its JSON.

pub mod error;
pub mod headers;
pub mod parameters;
pub mod request;
pub mod schema;
pub mod tools;

#[cfg(feature = "engine")]
mod assemble;
#[cfg(feature = "engine")]
mod body;
#[cfg(feature = "engine")]
mod calls;
#[cfg(feature = "engine")]
pub mod chunk;
#[cfg(feature = "engine")]
mod completion;
#[cfg(feature = "engine")]
pub mod engine_error;
#[cfg(feature = "engine")]
pub mod exchange;
#[cfg(feature = "engine")]
mod logprobs;
#[cfg(feature = "engine")]
mod merge;
#[cfg(feature = "engine")]
mod python_json;
#[cfg(feature = "engine")]
mod raw;
#[cfg(feature = "engine")]
pub mod reply;
#[cfg(feature = "engine")]
pub mod resources;
#[cfg(feature = "engine")]
pub mod sse;
#[cfg(feature = "engine")]
mod stream;
#[cfg(feature = "engine")]
pub mod template;
#[cfg(feature = "engine")]
mod tool_call;
#[cfg(feature = "engine")]
mod usage;

pub use error::{Error, Kind, Result};
pub use request::Request;
