//! Our extension's dialect: one SELECT for a completion, its rows pushed as they are made.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::PgConnection;

use crate::client::{Request, Streaming};
use crate::database::{Statement, within};
use crate::error::Result;
use crate::postgresml::Cursor;
use crate::stream::{Row, Rows};

/// json, not jsonb, which would forget the order of a JSON schema's properties.
const COMPLETION: &str = "SELECT pgml.chat_completion($1::json)";
/// In the target list the function streams. In FROM, or under ORDER BY, Postgres would collect
/// all its rows first.
const STREAM: &str = "SELECT pgml.chat_completion_stream($1::json, true)";
const CURSOR: &str = "DECLARE c NO SCROLL CURSOR FOR SELECT pgml.chat_completion_stream($1::json, true)";

const MODELS: &str = include_str!("models.sql");

pub(crate) struct Completion<'a> {
    pub request: &'a Request,
    pub stream: bool,
    pub streaming: Streaming,
}

impl Statement for Completion<'_> {
    async fn run(&self, connection: &mut PgConnection, rows: &Rows) -> Result<bool> {
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
    rows: &Rows,
) -> Result<bool> {
    let mut received = sqlx::query(sql).bind(&request.body).fetch(connection);
    while let Some(row) = within(request.timeout, received.try_next()).await? {
        if !rows.push(Row::received(row)?).await {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn cursor(connection: &mut PgConnection, request: &Request, rows: &Rows) -> Result<bool> {
    let query = sqlx::query(CURSOR).bind(&request.body);
    let mut cursor = within(request.timeout, Cursor::declare(connection, query)).await?;
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

/// The models that the current role can call.
pub(crate) struct Models {
    pub timeout: Duration,
}

impl Statement for Models {
    async fn run(&self, connection: &mut PgConnection, rows: &Rows) -> Result<bool> {
        let row = within(self.timeout, sqlx::query(MODELS).fetch_one(connection)).await?;
        Ok(rows.push(Row::received(row)?).await)
    }
}
