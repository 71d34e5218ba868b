//! A cursor whose batch size adapts to the network.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor, Postgres};

use crate::error::{Error, Kind, Result};

/// The most rows fetched at a time.
pub(super) const MAX_BATCH: u32 = 256;

/// A cursor that fetches as many rows at a time as come within about one round trip: one by one
/// while the model is slower than the network, many when it is faster.
pub(super) struct Cursor<'c> {
    connection: &'c mut PgConnection,
    round_trip: Duration,
    batch: u32,
    max_batch: u32,
    ended: bool,
}

impl<'c> Cursor<'c> {
    /// Opens a transaction, and in it the cursor `c` by the DECLARE given. Fetches at most
    /// `max_batch` rows at a time.
    pub async fn declare(
        connection: &'c mut PgConnection,
        declare: Query<'_, Postgres, PgArguments>,
        max_batch: u32,
    ) -> Result<Cursor<'c>> {
        let start = Instant::now();
        connection.execute("BEGIN READ ONLY").await?;
        let round_trip = start.elapsed();
        let mut cursor = Cursor { connection, round_trip, batch: 1, max_batch, ended: false };
        match declare.execute(&mut *cursor.connection).await {
            Ok(_) => Ok(cursor),
            Err(error) => Err(cursor.fail(error).await),
        }
    }

    /// The next rows; `None` after the last.
    pub async fn fetch(&mut self) -> Result<Option<Vec<PgRow>>> {
        if self.ended {
            return Ok(None);
        }
        let start = Instant::now();
        let fetch = sqlx::raw_sql(AssertSqlSafe(format!("FETCH {} FROM c", self.batch)));
        let rows = match fetch.fetch_all(&mut *self.connection).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.fail(error).await),
        };
        self.ended = rows.len() < self.batch as usize;
        self.batch = next_batch(self.batch, start.elapsed(), self.round_trip).min(self.max_batch);
        Ok((!rows.is_empty()).then_some(rows))
    }

    pub async fn close(self) -> Result<()> {
        self.connection.execute("COMMIT").await?;
        Ok(())
    }

    /// Leaves the failed transaction, so that the connection can be used again.
    async fn fail(&mut self, error: sqlx::Error) -> Error {
        let error = Error::from(error);
        if error.spoils_connection() {
            return error;
        }
        match self.connection.execute("ROLLBACK").await {
            Ok(_) => error,
            // The connection is gone as well: the first error is still the one to tell, and its
            // kind keeps the connection from being used again.
            Err(_) => Error { kind: Kind::Connection, ..error },
        }
    }
}

fn next_batch(batch: u32, took: Duration, round_trip: Duration) -> u32 {
    let making = took.saturating_sub(round_trip).as_secs_f64() / f64::from(batch);
    let fits = if making > 0.0 { round_trip.as_secs_f64() / making } else { f64::from(MAX_BATCH) };
    // At most double: one fast answer proves little.
    (fits as u32).clamp(1, MAX_BATCH).min(batch * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_slow_model_is_read_row_by_row() {
        assert_eq!(next_batch(1, milliseconds(51), milliseconds(1)), 1);
        assert_eq!(next_batch(8, milliseconds(401), milliseconds(1)), 1);
    }

    #[test]
    fn a_fast_model_is_read_in_growing_batches() {
        assert_eq!(next_batch(1, milliseconds(20), milliseconds(20)), 2);
        assert_eq!(next_batch(200, milliseconds(20), milliseconds(20)), MAX_BATCH);
        // Ten rows in a round trip's time.
        assert_eq!(next_batch(10, milliseconds(40), milliseconds(20)), 10);
    }
}
