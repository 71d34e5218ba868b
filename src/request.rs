//! A chat completion request.

use std::fmt;
use std::time::Duration;

/// OpenAI's own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// A chat completion request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id by which answers, errors and logs refer to the request. At most 128 visible ASCII
    /// characters.
    pub id: String,
    /// OpenAI's request body, as JSON.
    pub body: String,
    /// The `token` of a model object. It is kept out of the body, so that it does not reach the log
    /// of a database that has no use for it. Only PostgresML, which fetches models itself, gets it.
    pub token: Option<Secret>,
    /// How long to wait for the next row.
    pub timeout: Duration,
    /// How often to try again after a transient error, before the first row.
    pub max_retries: u32,
}

impl Request {
    pub fn new(body: impl Into<String>) -> Request {
        Request {
            id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
            body: body.into(),
            token: None,
            timeout: DEFAULT_TIMEOUT,
            max_retries: 2,
        }
    }
}

/// A text that `Debug` does not show.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
