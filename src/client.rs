//! The client and its verbs.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pgml_protocol::error::sqlstate;
use tracing::debug;

use crate::database::Database;
use crate::dialect::Dialect;
use crate::error::{Error, Kind, Result};
use crate::options::{Options, Streaming};
use crate::request::Request;
use crate::stream::{ChatStream, Row, RowSender};

/// Chat completions from one database.
///
/// Cheap to clone; clones share their connections. Nothing is connected before the first request.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What the clones of a client share.
struct Shared {
    database: Database,
    streaming: Streaming,
    dialect: OnceLock<Dialect>,
}

impl Shared {
    async fn complete(&self, request: &Request, stream: bool, rows: &RowSender) -> Result<()> {
        let dialect = self.dialect(request.timeout).await?;
        dialect.complete(&self.database, request, stream, self.streaming, rows).await
    }

    /// The database's dialect, which is asked for once.
    async fn dialect(&self, timeout: Duration) -> Result<Dialect> {
        if let Some(dialect) = self.dialect.get() {
            return Ok(*dialect);
        }
        let dialect = Dialect::detect(&self.database, timeout).await?;
        // Concurrent requests may both ask; they get the same answer.
        Ok(*self.dialect.get_or_init(|| dialect))
    }
}

impl Client {
    /// A client for the database of a `postgres://` URL.
    pub fn new(database_url: &str, options: Options) -> Result<Client> {
        let streaming = options.streaming;
        let database = Database::new(database_url, options)?;
        Ok(Client { shared: Arc::new(Shared { database, streaming, dialect: OnceLock::new() }) })
    }

    /// One `chat.completion` object.
    pub async fn chat_completion(&self, request: Request) -> Result<Row> {
        self.start(request, false).next().await.unwrap_or_else(|| {
            Err(Error::new(Kind::Database, "the database gave no answer")
                .sqlstate(sqlstate::PROTOCOL_VIOLATION))
        })
    }

    /// `chat.completion.chunk` objects as they are made. Dropping the stream ends the generation.
    pub fn chat_completion_stream(&self, request: Request) -> ChatStream {
        self.start(request, true)
    }

    /// Both verbs: rows, of which an unstreamed completion has one. Must be called inside a tokio
    /// runtime, on which the request then runs.
    pub fn start(&self, request: Request, stream: bool) -> ChatStream {
        let shared = self.shared.clone();
        ChatStream::spawn(move |rows| async move {
            let guard = Unfinished(&request.id);
            debug!(request = %request.id, stream, "a request begins");
            let mut retries = 0;
            let result = loop {
                match shared.complete(&request, stream, &rows).await {
                    Err(error) if retries < request.max_retries && error.is_passing() && !rows.started() => {
                        retries += 1;
                        debug!(request = %request.id, %error, retry = retries, "a request is tried again");
                        tokio::time::sleep(retry_delay(retries - 1, &error)).await;
                    }
                    result => break result,
                }
            };
            std::mem::forget(guard);
            match &result {
                Ok(()) => debug!(request = %request.id, "a request ends"),
                Err(error) => {
                    debug!(request = %request.id, %error, sqlstate = error.sqlstate, "a request fails")
                }
            }
            result.map_err(|error| Error { request_id: Some(request.id), ..error })
        })
    }

    /// The models that the current role can call: one row, OpenAI's list of models.
    pub fn models(&self, timeout: Duration) -> ChatStream {
        let shared = self.shared.clone();
        ChatStream::spawn(move |rows| async move {
            shared.dialect(timeout).await?.list_models(&shared.database, timeout, &rows).await
        })
    }

    /// Closes the connections: idle ones at once, others when their request ends. Clones of this
    /// client share them, and like it make no request any more.
    pub fn close(&self) {
        self.shared.database.close();
    }

    pub fn is_closed(&self) -> bool {
        self.shared.database.is_closed()
    }

    /// Host and database, for messages. Never the password.
    pub fn describe(&self) -> &str {
        self.shared.database.describe()
    }
}

/// Dropped if nobody waits for the request any more.
struct Unfinished<'a>(&'a str);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        debug!(request = %self.0, "a request is cancelled: nobody reads it any more");
    }
}

/// OpenAI's clients wait half a second and double it, up to eight, or as long as they are asked to.
/// They wait up to a quarter less, at random, so that many that failed together do not come again
/// together.
fn retry_delay(retries: u32, error: &Error) -> Duration {
    match error.retry_after() {
        Some(seconds) if seconds <= 60 => Duration::from_secs(seconds),
        _ => Duration::from_millis(500 << retries.min(4)).mul_f64(1.0 - 0.25 * random()),
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_wait_twice_as_long_each_time_and_up_to_a_quarter_less() {
        let error = Error::new(crate::Kind::Connection, "lost");
        let mut seen = std::collections::HashSet::new();
        for (retries, most) in [(0, 500), (1, 1000), (2, 2000), (4, 8000), (9, 8000)] {
            for _ in 0..50 {
                let delay = retry_delay(retries, &error);
                assert!(delay <= Duration::from_millis(most) && delay >= Duration::from_millis(most * 3 / 4));
                seen.insert(delay);
            }
        }
        assert!(seen.len() > 100, "the delays are not random");
    }

    #[test]
    fn an_engine_that_says_when_is_asked_then() {
        let error =
            Error { detail: Some("Retry-After: 3".into()), ..Error::new(crate::Kind::Database, "busy") };
        assert_eq!(retry_delay(0, &error), Duration::from_secs(3));
    }
}
