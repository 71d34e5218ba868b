//! Chat completions from your own Postgres.
//!
//! This is the client: it puts a request into one SQL statement and reads the rows that come back.
//! It has no model logic and speaks no HTTP.
//!
//! * [`Client`] holds a pool of connections; [`Client::chat_completion`] and
//!   [`Client::chat_completion_stream`] are its verbs.
//! * `request` and `options` are what a caller passes in; `parameters` makes a request of the JSON of
//!   a call's parameters.
//! * `error` is what can go wrong, and `class` which of OpenAI's errors that is.
//! * `stream` is what a caller reads: rows, each with one chunk or several.
//! * `database` is a pool of connections, and runs statements on them.
//! * `database_url` finds the database in the arguments and the environment.
//! * `dialect` finds out what a database speaks, and has the SQL for it: our extension's, or
//!   PostgresML's.
//!
//! The feature `python` adds `pgml._pgml`, the extension module of the Python package. The crate in
//! `javascript/` does the same for the npm package.

mod class;
mod client;
mod database;
mod database_url;
mod dialect;
mod error;
mod options;
mod parameters;
mod request;
mod stream;

#[cfg(feature = "python")]
mod python;

pub use class::Class;
pub use client::Client;
pub use database_url::DatabaseUrl;
pub use error::{Error, Kind, Result};
pub use options::{Options, Streaming};
pub use request::{Request, Secret};
pub use stream::{ChatStream, Row};
