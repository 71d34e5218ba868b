//! Our extension's dialect: one SELECT for a completion, its rows pushed as they are made.

use futures_util::TryStreamExt;
use sqlx::postgres::PgConnection;

use crate::client::{Request, Streaming};
use crate::database::Database;
use crate::error::Result;
use crate::postgresml::Cursor;
use crate::stream::{Row, Rows};

const COMPLETION: &str = "SELECT pgml.chat_completion($1::jsonb)";
/// In the target list the function streams. In FROM, or under ORDER BY, Postgres would collect
/// all its rows first.
const STREAM: &str = "SELECT pgml.chat_completion_stream($1::jsonb, true)";
const CURSOR: &str = "DECLARE c NO SCROLL CURSOR FOR SELECT pgml.chat_completion_stream($1::jsonb, true)";

pub(crate) async fn run(database: &Database, request: &Request, stream: bool, rows: &Rows) -> Result<()> {
    loop {
        let mut lease = database.lease().await?;
        let mut started = false;
        let result = match (stream, database.streaming()) {
            (true, Streaming::Cursor) => cursor(lease.connection(), request, rows, &mut started).await,
            (true, Streaming::Push) => push(lease.connection(), STREAM, request, rows, &mut started).await,
            (false, _) => push(lease.connection(), COMPLETION, request, rows, &mut started).await,
        };
        match result {
            Ok(true) => return Ok(lease.give_back()),
            Ok(false) => return Ok(()),
            Err(error) if !started && database.should_reconnect(&error, lease.fresh) => (),
            // An error of the database ends its statement: the connection is as good as before.
            Err(error) => {
                if !error.is_connection() {
                    lease.give_back();
                }
                return Err(error);
            }
        }
    }
}

/// False when nobody reads any more.
async fn push(
    connection: &mut PgConnection,
    sql: &'static str,
    request: &Request,
    rows: &Rows,
    started: &mut bool,
) -> Result<bool> {
    let mut received = sqlx::query(sql).bind(&request.body).fetch(connection);
    while let Some(row) = received.try_next().await? {
        *started = true;
        if !rows.push(Row::received(row)?).await {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn cursor(connection: &mut PgConnection, request: &Request, rows: &Rows, started: &mut bool) -> Result<bool> {
    let query = sqlx::query(CURSOR).bind(&request.body);
    let mut cursor = Cursor::declare(connection, query).await?;
    while let Some(batch) = cursor.fetch().await? {
        *started = true;
        for row in batch {
            if !rows.push(Row::received(row)?).await {
                return Ok(false);
            }
        }
    }
    cursor.close().await?;
    Ok(true)
}
