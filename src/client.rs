//! The client and its verbs.

use std::sync::Arc;
use std::time::Duration;

use pgml_protocol::error::sqlstate;
use tracing::debug;

use crate::database::Database;
use crate::error::{Error, Kind, Result};
use crate::stream::{ChatStream, Row, Rows};
use crate::{native, postgresml};

/// OpenAI's own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// How a client keeps its connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most connections that are open at a time. A completion holds one until it ends.
    pub max_connections: usize,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// How long a completion may wait for a connection while all are in use.
    pub acquire_timeout: Duration,
    /// How rows reach the client.
    pub streaming: Streaming,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_connections: 100,
            connect_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(60),
            streaming: Streaming::Push,
        }
    }
}

/// How the rows of a stream reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streaming {
    /// The server pushes each row as it is made: one statement, one round trip.
    Push,
    /// Rows are fetched through a cursor: for poolers that hold rows back until a statement ends.
    Cursor,
}

/// A chat completion request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What answers, errors and logs call it. At most 128 visible ASCII characters.
    pub id: String,
    /// OpenAI's request body, as JSON.
    pub body: String,
    /// The `token` of a model object. It is kept out of the body, so that it gets into no log of
    /// a database that has no use for it. Only PostgresML, which fetches models itself, has one.
    pub token: Option<Secret>,
    /// How long to wait for the next row.
    pub timeout: Duration,
    /// How often to try again after an error that may pass, before the first row.
    pub max_retries: u32,
}

/// A text that is not printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
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

/// What a database offers for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Our extension.
    Native,
    /// PostgresML's `transform` functions.
    PostgresMl,
}

/// Chat completions from one database.
///
/// Cheap to clone; clones share their connections. Nothing is connected before the first request.
#[derive(Clone)]
pub struct Client {
    database: Arc<Database>,
}

impl Client {
    /// A client for the database of a `postgres://` URL.
    pub fn new(database_url: &str, options: Options) -> Result<Client> {
        Ok(Client { database: Arc::new(Database::new(database_url, options)?) })
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
    pub(crate) fn start(&self, request: Request, stream: bool) -> ChatStream {
        let database = self.database.clone();
        ChatStream::spawn(move |rows| async move {
            let guard = Unfinished(&request.id);
            debug!(request = %request.id, stream, "a request begins");
            let mut retries = 0;
            let result = loop {
                match run(&database, &request, stream, &rows).await {
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
        let database = self.database.clone();
        ChatStream::spawn(move |rows| async move {
            match database.dialect(timeout).await? {
                Dialect::Native => database.run(&native::Models { timeout }, &rows).await,
                Dialect::PostgresMl => {
                    let error = Error::new(Kind::Database, "PostgresML keeps no list of models");
                    Err(error.sqlstate("0A000"))
                }
            }
        })
    }

    /// Closes the connections: idle ones at once, others when their request ends. Clones of this
    /// client share them, and like it make no request any more.
    pub fn close(&self) {
        self.database.close();
    }

    pub fn is_closed(&self) -> bool {
        self.database.is_closed()
    }

    /// Host and database, for messages. Never the password.
    pub fn describe(&self) -> &str {
        self.database.describe()
    }
}

/// Dropped if nobody waits for the request any more.
struct Unfinished<'a>(&'a str);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        debug!(request = %self.0, "a request is cancelled: nobody reads it any more");
    }
}

async fn run(database: &Database, request: &Request, stream: bool, rows: &Rows) -> Result<()> {
    match database.dialect(request.timeout).await? {
        Dialect::Native => {
            let completion = native::Completion { request, stream, streaming: database.streaming() };
            database.run(&completion, rows).await
        }
        Dialect::PostgresMl => database.run(&postgresml::Completion::new(request, stream)?, rows).await,
    }
}

/// OpenAI's clients wait half a second and double it, up to eight, or as long as they are asked to.
fn retry_delay(retries: u32, error: &Error) -> Duration {
    match error.retry_after() {
        Some(seconds) if seconds <= 60 => Duration::from_secs(seconds),
        _ => Duration::from_millis(500 << retries.min(4)),
    }
}
