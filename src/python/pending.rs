//! A request under way, as Python sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pgml_protocol::error::sqlstate;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use super::errors::raise;
use super::logging;
use super::objects::{ObjectKind, Objects};
use super::process;
use crate::{ChatStream, Error, Kind};

/// A request under way.
pub struct PendingRequest {
    kind: ObjectKind,
    /// The process that runs the request: a child made by fork has no thread that would.
    generation: u32,
    state: Mutex<State>,
}

struct State {
    /// `None` once it has ended or is closed.
    rows: Option<ChatStream>,
    objects: Objects,
    /// The waker of whoever waits for the next row, for `close`.
    waiting: Option<Waker>,
    /// The task that waits for the next chunk: no other may read meanwhile, since a stream has room
    /// for one waker.
    reader: Option<Reader>,
}

/// Who reads a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A thread, which looks for itself from time to time. So several can share a stream.
    Thread,
    /// A coroutine, by its address.
    Task(usize),
}

impl PendingRequest {
    pub fn new(rows: ChatStream, kind: ObjectKind) -> Arc<PendingRequest> {
        let state = State { rows: Some(rows), objects: Objects::None, waiting: None, reader: None };
        Arc::new(PendingRequest { kind, generation: process::generation(), state: Mutex::new(state) })
    }

    /// The state. A thread that builds objects holds its lock and may have to wait for the GIL, so
    /// whoever waits for the lock must release the GIL.
    fn state(&self, py: Python<'_>) -> MutexGuard<'_, State> {
        self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next object, or `None` at the end. After an error the stream has ended.
    pub fn poll(
        &self,
        py: Python<'_>,
        context: &mut Context<'_>,
        reader: Reader,
    ) -> Poll<PyResult<Option<Py<PyAny>>>> {
        if self.is_inherited() {
            let error = Error::new(Kind::Connection, "this stream belongs to another process")
                .hint("A child made by fork has to make a request of its own.");
            return Poll::Ready(Err(raise(py, error)));
        }
        let mut state = self.state(py);
        if state.reader.is_some_and(|other| other != reader) {
            // As asynchronous generators say it.
            let error = "anext(): the stream is already being read by another task";
            return Poll::Ready(Err(PyRuntimeError::new_err(error)));
        }
        let result = state.poll(py, context, self.kind);
        state.reader = (result.is_pending() && reader != Reader::Thread).then_some(reader);
        drop(state);
        if matches!(result, Poll::Ready(Ok(None) | Err(_))) {
            logging::settle(py);
        }
        result
    }

    /// The one object of a request that has one.
    pub fn poll_only(&self, py: Python<'_>, context: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.poll(py, context, Reader::Thread).map(|object| {
            logging::settle(py);
            object?.ok_or_else(|| {
                let error = Error::new(Kind::Database, "the database gave no answer")
                    .sqlstate(sqlstate::PROTOCOL_VIOLATION);
                raise(py, error)
            })
        })
    }

    /// Waits until the first object is there, or the error that comes in its place.
    pub fn poll_first(&self, py: Python<'_>, context: &mut Context<'_>) -> Poll<PyResult<()>> {
        self.state(py).poll_row(py, context, self.kind).map(|first| {
            logging::settle(py);
            first.map(drop)
        })
    }

    /// Lets others read, if this was the reader.
    pub fn release(&self, py: Python<'_>, reader: Reader) {
        let mut state = self.state(py);
        if state.reader == Some(reader) {
            state.reader = None;
        }
    }

    fn is_inherited(&self) -> bool {
        self.generation != process::generation()
    }

    /// Ends the request: its connection closes, and the engine stops.
    pub fn close(&self, py: Python<'_>) {
        if self.is_inherited() {
            return;
        }
        let mut state = self.state(py);
        state.rows = None;
        state.objects = Objects::None;
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }
}

impl State {
    fn poll(
        &mut self,
        py: Python<'_>,
        context: &mut Context<'_>,
        kind: ObjectKind,
    ) -> Poll<PyResult<Option<Py<PyAny>>>> {
        loop {
            if let Some(object) = self.objects.take(py, kind) {
                return Poll::Ready(object.map(Some));
            }
            match self.poll_row(py, context, kind) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(true)) => (),
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads the next row into `objects`. False at the end.
    fn poll_row(
        &mut self,
        py: Python<'_>,
        context: &mut Context<'_>,
        kind: ObjectKind,
    ) -> Poll<PyResult<bool>> {
        let Some(rows) = &mut self.rows else { return Poll::Ready(Ok(false)) };
        let objects = match rows.poll_next(context) {
            Poll::Pending => {
                self.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(row))) => Objects::read(py, &row, kind).map(Some),
            Poll::Ready(Some(Err(error))) => Err(raise(py, error)),
            Poll::Ready(None) => Ok(None),
        };
        Poll::Ready(match objects {
            Ok(Some(objects)) => {
                self.objects = objects;
                Ok(true)
            }
            Ok(None) => {
                self.rows = None;
                Ok(false)
            }
            Err(error) => {
                self.rows = None;
                Err(error)
            }
        })
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if self.is_inherited() {
            // Dropping the rows would wake the parent's runtime, whose locks may be held for ever.
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(state.rows.take());
        }
    }
}
