//! What a caller reads: rows, as the database sends them.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use pgml_protocol::error::sqlstate;
use sqlx::ValueRef;
use sqlx::postgres::{PgRow, PgValueFormat};
use sqlx::{Row as _, TypeInfo};
use tokio::sync::{Semaphore, mpsc};

use crate::error::{Error, Kind, Result};

/// The bytes of rows that may wait for a slow reader. There is room for the longest answers, so that a
/// slow reader holds up neither its engine nor its connection. Beyond that it does, which limits memory.
const WAITING_BYTES: usize = 16 << 20;
/// Roughly what a row takes up besides its JSON.
const ROW_OVERHEAD: usize = 256;

/// One row: a JSON object. Chunks that arrived together are one object with the choices of all.
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

    /// What the row takes up while it waits.
    fn size(&self) -> u32 {
        let bytes = self.json().map_or(0, <[u8]>::len) + ROW_OVERHEAD;
        // A row that is larger than the whole buffer takes all of it.
        bytes.min(WAITING_BYTES) as u32
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
                    Err(_) => Err(Error::new(Kind::Connection, "the database answered null")
                        .sqlstate(sqlstate::PROTOCOL_VIOLATION)),
                }
            }
        }
    }
}

/// Where a running request puts its rows.
pub(crate) struct RowSender {
    sender: mpsc::UnboundedSender<Result<Row>>,
    room: Arc<Semaphore>,
    started: AtomicBool,
}

impl RowSender {
    /// Hands a row to the reader. False if the reader has gone.
    pub async fn push(&self, row: Row) -> bool {
        self.started.store(true, Ordering::Relaxed);
        match self.room.acquire_many(row.size()).await {
            // Released by the reader.
            Ok(room) => room.forget(),
            Err(_) => return false,
        }
        self.sender.send(Ok(row)).is_ok()
    }

    /// Whether a row has been handed on: then the request must not be tried again.
    pub fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }
}

/// A stream of rows. Dropping it cancels the request.
pub struct ChatStream {
    receiver: mpsc::UnboundedReceiver<Result<Row>>,
    room: Arc<Semaphore>,
}

impl ChatStream {
    /// Runs a request on the current tokio runtime.
    ///
    /// It runs as a task of its own, so that rows are received while the caller handles earlier
    /// ones, and so that any executor (asyncio among them) can wait for them.
    pub(crate) fn spawn<F, R>(request: F) -> ChatStream
    where
        F: FnOnce(RowSender) -> R,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(WAITING_BYTES));
        let rows = RowSender { sender: sender.clone(), room: room.clone(), started: AtomicBool::new(false) };
        let running = request(rows);
        tokio::spawn(async move {
            // A panic must not end the stream as if it were complete.
            let running = AssertUnwindSafe(running).catch_unwind();
            let result = tokio::select! {
                // Deliver buffered rows before checking whether the caller has gone.
                biased;
                result = running => result.unwrap_or_else(|panic| Err(panicked(&*panic))),
                () = sender.closed() => Ok(()),
            };
            if let Err(error) = result {
                // The caller may have gone, and then needs no error.
                let _ = sender.send(Err(error));
            }
        });
        ChatStream { receiver, room }
    }

    /// The next row; `None` after the last, or after an error.
    pub async fn next(&mut self) -> Option<Result<Row>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        let next = ready!(self.receiver.poll_recv(context));
        if let Some(Ok(row)) = &next {
            self.room.add_permits(row.size() as usize);
        }
        Poll::Ready(next)
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message =
        panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("unknown cause");
    Error::new(Kind::Database, format!("internal error in the client: {message}"))
        .sqlstate(sqlstate::INTERNAL_ERROR)
        .hint("This is a bug in pgml. The message on standard error says where.")
}

impl futures_util::Stream for ChatStream {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ChatStream::poll_next(&mut self, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_raises() {
        let mut stream = ChatStream::spawn(|rows| async move {
            rows.push(Row::made("{}".into())).await;
            panic!("oh no");
        });
        assert_eq!(stream.next().await.unwrap().unwrap().json().unwrap(), b"{}");
        let error = stream.next().await.unwrap().err().unwrap();
        assert_eq!(error.sqlstate.as_deref(), Some(sqlstate::INTERNAL_ERROR));
        assert!(error.message.contains("oh no"));
        assert!(stream.next().await.is_none());
    }
}
