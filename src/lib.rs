//! Chat completions from your own Postgres.
//!
//! This is the client: it puts a request into one SQL statement and reads the rows that come back.
//! It has no model logic and speaks no HTTP.
//!
//! * [`Client`] holds a pool of connections; [`Client::chat_completion`] and
//!   [`Client::chat_completion_stream`] are its verbs.
//! * `database` connects, keeps connections, and knows which dialect a database speaks.
//! * `native` and `postgresml` are the two dialects: where SQL is written.
//! * `stream` is what a caller reads: rows, each with one chunk or several.
//!
//! The feature `python` adds `pgml._pgml`, the extension module of the Python package.

mod client;
mod database;
mod error;
mod native;
mod postgresml;
mod stream;

#[cfg(feature = "python")]
mod python;

pub use client::{Client, Options, Request, Streaming};
pub use error::{Error, Kind, Result};
pub use stream::{ChatStream, Row};
