//! What a caller reads: rows, as the database sends them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use sqlx::ValueRef;
use sqlx::postgres::{PgRow, PgValueFormat};
use sqlx::{Row as _, TypeInfo};
use tokio::sync::mpsc;

use crate::error::{Error, Kind, Result};

/// Rows that may wait for a reader. A reader that is slower than this holds the database back,
/// not our memory.
const WAITING_ROWS: usize = 64;

/// One row: a JSON object, or an array of several objects that came at the same time.
pub struct Row(Content);

enum Content {
    Received(PgRow),
    Made(String),
}

impl Row {
    pub(crate) fn made(json: String) -> Row {
        Row(Content::Made(json))
    }

    /// Takes a row of one `json` or `jsonb` column.
    pub(crate) fn received(row: PgRow) -> Result<Row> {
        let row = Row(Content::Received(row));
        row.json()?;
        Ok(row)
    }

    /// The row's JSON.
    pub fn json(&self) -> Result<&[u8]> {
        match &self.0 {
            Content::Made(json) => Ok(json.as_bytes()),
            Content::Received(row) => {
                let value = row.try_get_raw(0)?;
                let binary_jsonb =
                    value.format() == PgValueFormat::Binary && value.type_info().name() == "JSONB";
                match value.as_bytes() {
                    // Binary jsonb is its version, 1, and then the text.
                    Ok(bytes) if binary_jsonb => Ok(bytes.strip_prefix(&[1]).unwrap_or(bytes)),
                    Ok(bytes) => Ok(bytes),
                    Err(_) => {
                        Err(Error::new(Kind::Connection, "the database answered null").sqlstate("08P01"))
                    }
                }
            }
        }
    }
}

/// Where a running request puts its rows.
pub(crate) struct Rows {
    sender: mpsc::Sender<Result<Row>>,
    started: AtomicBool,
}

impl Rows {
    /// Hands a row to the reader. False when nobody reads any more.
    pub async fn push(&self, row: Row) -> bool {
        self.started.store(true, Ordering::Relaxed);
        self.sender.send(Ok(row)).await.is_ok()
    }

    /// Whether a row was handed on: from then on a request must not be tried again.
    pub fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }
}

/// A stream of rows. Dropping it cancels the request.
pub struct ChatStream(mpsc::Receiver<Result<Row>>);

impl ChatStream {
    /// Runs a request on the current tokio runtime.
    ///
    /// It runs as a task of its own, so that rows are received while the caller is busy with
    /// those before, and so that any executor (asyncio among them) can wait for them.
    pub(crate) fn spawn<F, R>(request: F) -> ChatStream
    where
        F: FnOnce(Rows) -> R,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(WAITING_ROWS);
        let running = request(Rows { sender: sender.clone(), started: AtomicBool::new(false) });
        tokio::spawn(async move {
            let result = tokio::select! {
                // Rows that are there are worth more than a caller that is gone.
                biased;
                result = running => result,
                () = sender.closed() => Ok(()),
            };
            if let Err(error) = result {
                // Nobody may be listening any more, and then nobody needs the error.
                let _ = sender.send(Err(error)).await;
            }
        });
        ChatStream(receiver)
    }

    /// The next row; `None` after the last, or after an error.
    pub async fn next(&mut self) -> Option<Result<Row>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        self.0.poll_recv(context)
    }
}

impl futures_util::Stream for ChatStream {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
