//! Streams for Python: a synchronous and an asynchronous iterator over one function.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pgml_protocol::error::sqlstate;
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyTuple;

use super::errors::raise;
use super::objects::{ObjectKind, Objects};
use super::process;
use super::wake::{block_on, future, lock};
use crate::{ChatStream, Error, Kind};

/// A request under way, as Python sees it.
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
    /// Who waits for the next row, to be told if the stream is closed meanwhile.
    waiting: Option<Waker>,
}

impl PendingRequest {
    pub fn new(rows: ChatStream, kind: ObjectKind) -> Arc<PendingRequest> {
        Arc::new(PendingRequest {
            kind,
            generation: process::generation(),
            state: Mutex::new(State { rows: Some(rows), objects: Objects::None, waiting: None }),
        })
    }

    /// The state, which a thread that makes objects of it may hold: it can be made to wait for the
    /// GIL meanwhile, so whoever waits for it must not keep the GIL.
    fn state(&self, py: Python<'_>) -> MutexGuard<'_, State> {
        self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    /// The one step: the next object, or `None` at the end. After an error the stream has ended.
    pub fn poll(&self, py: Python<'_>, context: &mut Context<'_>) -> Poll<PyResult<Option<Py<PyAny>>>> {
        if self.is_inherited() {
            let error = Error::new(Kind::Connection, "this stream belongs to another process")
                .hint("A child made by fork has to ask anew.");
            return Poll::Ready(Err(raise(py, error)));
        }
        let mut state = self.state(py);
        loop {
            if let Some(object) = state.objects.take(py, self.kind) {
                return Poll::Ready(object.map(Some));
            }
            let Some(rows) = &mut state.rows else { return Poll::Ready(Ok(None)) };
            match rows.poll_next(context) {
                Poll::Pending => {
                    state.waiting = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(row))) => match Objects::read(py, &row, self.kind) {
                    Ok(objects) => state.objects = objects,
                    Err(error) => {
                        state.rows = None;
                        return Poll::Ready(Err(error));
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    state.rows = None;
                    return Poll::Ready(Err(raise(py, error)));
                }
                Poll::Ready(None) => {
                    state.rows = None;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    /// The one object of a request that has one.
    pub fn poll_only(&self, py: Python<'_>, context: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.poll(py, context).map(|step| {
            step?.ok_or_else(|| {
                raise(
                    py,
                    Error::new(Kind::Database, "the database gave no answer")
                        .sqlstate(sqlstate::PROTOCOL_VIOLATION),
                )
            })
        })
    }

    /// Waits until the first object is there, or the error that comes in its place.
    pub fn poll_first(&self, py: Python<'_>, context: &mut Context<'_>) -> Poll<PyResult<()>> {
        let mut state = self.state(py);
        let Some(rows) = &mut state.rows else { return Poll::Ready(Ok(())) };
        match rows.poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(row))) => {
                let objects = Objects::read(py, &row, self.kind);
                Poll::Ready(objects.map(|objects| state.objects = objects))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(raise(py, error))),
            Poll::Ready(None) => {
                state.rows = None;
                Poll::Ready(Ok(()))
            }
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

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if self.is_inherited() {
            // To drop them would be to tell the parent's runtime, whose locks may be held for ever.
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(state.rows.take());
        }
    }
}

/// An iterator over the chunks of a completion, as the model makes them.
///
/// Also a context manager: leaving the ``with`` block, like ``close()`` and like dropping the
/// iterator, ends the generation in the engine. A stream that breaks half-way raises an
/// exception of ``pgml.APIError``; it never ends as if it were complete.
#[pyclass(frozen, module = "pgml")]
pub struct ChatCompletionStream(pub Arc<PendingRequest>);

#[pymethods]
impl ChatCompletionStream {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        block_on(py, |context| self.0.poll(py, context))?
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.0.close(py);
    }

    /// End the generation. Closing a stream that has ended does nothing.
    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

/// An asynchronous iterator over the chunks of a completion, as the model makes them.
///
/// Also an asynchronous context manager: leaving the ``async with`` block, like ``aclose()``,
/// cancelling the task that waits for a chunk, and dropping the iterator, ends the generation in
/// the engine. A stream that breaks half-way raises an exception of ``pgml.APIError``; it never
/// ends as if it were complete.
#[pyclass(frozen, module = "pgml")]
pub struct AsyncChatCompletionStream(pub Arc<PendingRequest>);

#[pymethods]
impl AsyncChatCompletionStream {
    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self) -> PendingResult {
        PendingResult::new(self.0.clone(), Awaited::Chunk)
    }

    fn __aenter__(slf: Bound<'_, Self>) -> PendingResult {
        PendingResult::new(slf.get().0.clone(), Awaited::Value(slf.into_any().unbind()))
    }

    #[pyo3(signature = (*_exception))]
    fn __aexit__(&self, _exception: &Bound<'_, PyTuple>, py: Python<'_>) -> PendingResult {
        self.aclose(py)
    }

    /// End the generation. Closing a stream that has ended does nothing.
    fn aclose(&self, py: Python<'_>) -> PendingResult {
        self.0.close(py);
        PendingResult::new(self.0.clone(), Awaited::Value(py.None()))
    }

    /// As ``aclose``, under the name that the openai package also has.
    fn close(&self, py: Python<'_>) -> PendingResult {
        self.aclose(py)
    }
}

/// What is being awaited.
pub enum Awaited {
    /// The next chunk.
    Chunk,
    /// The only object of a request that has one.
    Only,
    /// The stream itself, once its first chunk or its error is there.
    Stream,
    /// This, at once.
    Value(Py<PyAny>),
}

/// The awaitable of one result. While chunks are buffered it completes without the event loop.
#[pyclass(frozen, module = "pgml._pgml")]
pub struct PendingResult {
    pending: Arc<PendingRequest>,
    awaited: Awaited,
    /// The iterator of the future that is being waited for.
    waiting: Mutex<Option<Py<PyAny>>>,
}

impl PendingResult {
    pub fn new(pending: Arc<PendingRequest>, awaited: Awaited) -> PendingResult {
        PendingResult { pending, awaited, waiting: Mutex::new(None) }
    }

    /// The value, if it is there already.
    fn poll(&self, py: Python<'_>, context: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        match &self.awaited {
            Awaited::Chunk => self
                .pending
                .poll(py, context)
                .map(|step| step?.ok_or_else(|| PyStopAsyncIteration::new_err(()))),
            Awaited::Only => self.pending.poll_only(py, context),
            Awaited::Stream => self.pending.poll_first(py, context).map(|first| {
                first?;
                Ok(Py::new(py, AsyncChatCompletionStream(self.pending.clone()))?.into_any())
            }),
            Awaited::Value(value) => Poll::Ready(Ok(value.clone_ref(py))),
        }
    }
}

#[pymethods]
impl PendingResult {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Yields a future for the event loop to wait for, or stops with the value.
    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        // Not in a tuple: before Python 3.12 the value then goes its way without an exception object
        // being made for it. None of ours is a tuple or an exception, which would be taken apart.
        let done = |value: PyResult<Py<PyAny>>| Err(PyStopIteration::new_err(value?));
        let mut waiting = lock(&self.waiting);
        if waiting.is_none() {
            // Most often something is there already, and no future needs to be made.
            if let Poll::Ready(value) = self.poll(py, &mut Context::from_waker(std::task::Waker::noop())) {
                return done(value);
            }
        }
        loop {
            if let Some(future) = waiting.as_ref() {
                // The future yields itself while it is pending, and then stops.
                match future.bind(py).call_method0("__next__") {
                    Ok(future) => return Ok(future.unbind()),
                    Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => *waiting = None,
                    Err(error) => return Err(error),
                }
            }
            let (future, waker) = future(py)?;
            match self.poll(py, &mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return done(value),
                Poll::Pending => *waiting = Some(future.bind(py).call_method0("__await__")?.unbind()),
            }
        }
    }

    /// Cancelling the task that waits ends the generation.
    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.pending.close(py);
        match value {
            Some(value) if !value.is_none() => Err(PyErr::from_value(value)),
            _ => Err(PyErr::from_value(kind)),
        }
    }

    /// As throw, when the coroutine that waits is closed.
    fn close(&self, py: Python<'_>) {
        self.pending.close(py);
    }
}
