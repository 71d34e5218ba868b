//! Our extension's dialect: one SELECT for a completion, its rows pushed as they are made.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::postgres::PgConnection;
use tracing::warn;

use super::cursor::Cursor;
use crate::database::{Statement, within};
use crate::error::Result;
use crate::options::Streaming;
use crate::request::Request;
use crate::stream::{Row, RowSender};

/// json, not jsonb, which would forget the order of a JSON schema's properties.
const COMPLETION: &str = "SELECT pgml.chat_completion($1::json, $2)";
/// In the target list the function streams. In FROM, or under ORDER BY, Postgres would collect
/// all its rows first.
const STREAM: &str = "SELECT pgml.chat_completion_stream($1::json, true, $2)";
const CURSOR: &str = "DECLARE c NO SCROLL CURSOR FOR SELECT pgml.chat_completion_stream($1::json, true, $2)";

const MODELS: &str = include_str!("models.sql");

pub(super) struct ChatCompletion<'a> {
    pub request: &'a Request,
    pub stream: bool,
    pub streaming: Streaming,
}

impl Statement for ChatCompletion<'_> {
    async fn run(&self, connection: &mut PgConnection, rows: &RowSender) -> Result<bool> {
        match (self.stream, self.streaming) {
            (true, Streaming::Cursor) => cursor(connection, self.request, rows).await,
            (true, Streaming::Push) => push(connection, STREAM, self.request, rows).await,
            (false, _) => push(connection, COMPLETION, self.request, rows).await,
        }
    }
}

async fn push(
    connection: &mut PgConnection,
    sql: &'static str,
    request: &Request,
    rows: &RowSender,
) -> Result<bool> {
    let mut received = sqlx::query(sql).bind(&request.body).bind(&request.id).fetch(connection);
    let mut pace = Pace::begin();
    while let Some(row) = within(request.timeout, received.try_next()).await? {
        pace.row();
        if !rows.push(Row::received(row)?).await {
            return Ok(false);
        }
    }
    if pace.was_held_back() {
        warn!(
            request = %request.id,
            "all rows of a stream came at once, at its end: a pooler seems to hold them back. \
             OpenSourceAI(streaming=\"cursor\") gets them as they are made."
        );
    }
    Ok(true)
}

async fn cursor(connection: &mut PgConnection, request: &Request, rows: &RowSender) -> Result<bool> {
    let query = sqlx::query(CURSOR).bind(&request.body).bind(&request.id);
    // One row has all the chunks that are there.
    let mut cursor = within(request.timeout, Cursor::declare(connection, query, 1)).await?;
    while let Some(batch) = within(request.timeout, cursor.fetch()).await? {
        for row in batch {
            if !rows.push(Row::received(row)?).await {
                return Ok(false);
            }
        }
    }
    within(request.timeout, cursor.close()).await?;
    Ok(true)
}

/// When the rows of a stream came.
struct Pace {
    begun: Instant,
    first: Option<Instant>,
    last: Instant,
    rows: u32,
}

impl Pace {
    fn begin() -> Pace {
        let now = Instant::now();
        Pace { begun: now, first: None, last: now, rows: 0 }
    }

    fn row(&mut self) {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
        self.rows += 1;
    }

    /// Whether something between the server and us has kept the rows until the last was made.
    ///
    /// Chunks that are there at once come as one row. So the server has waited for the engine
    /// between any two rows, and they cannot follow upon one another this fast by themselves.
    fn was_held_back(&self) -> bool {
        let Some(first) = self.first else { return false };
        self.rows >= 16
            && first - self.begun >= Duration::from_millis(500)
            && (self.last - first) / self.rows < Duration::from_micros(50)
    }
}

/// The models that the current role can call.
pub(super) struct Models {
    pub timeout: Duration,
}

impl Statement for Models {
    async fn run(&self, connection: &mut PgConnection, rows: &RowSender) -> Result<bool> {
        let row = within(self.timeout, sqlx::query(MODELS).fetch_one(connection)).await?;
        Ok(rows.push(Row::received(row)?).await)
    }
}
