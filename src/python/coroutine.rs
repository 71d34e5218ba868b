//! The coroutine of one result: how an event loop runs a step of a request.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::{Context, Poll, Waker};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use super::event_loop::{FutureWaker, future};
use super::pending::{PendingRequest, Reader};
use super::stream::AsyncChatCompletionStream;

/// What is being awaited.
pub enum Awaited {
    /// The next chunk.
    Chunk,
    /// The only object of a request that has one.
    Only,
    /// The stream itself, once its first chunk or an error has arrived.
    Stream,
    /// This value, at once.
    Value(Py<PyAny>),
}

/// The coroutine of one result. While chunks are buffered it completes without the event loop.
///
/// It has what `collections.abc.Coroutine` asks for, so that it can be made a task, and the
/// attributes by which `inspect` and anyio tell a coroutine's state.
#[pyclass(frozen, module = "pgml._pgml")]
pub struct PendingResult {
    pending: Arc<PendingRequest>,
    awaited: Awaited,
    progress: Mutex<Progress>,
}

enum Progress {
    /// Not waiting for anything.
    Created,
    /// Suspended in a future, of which this is the iterator.
    Suspended { iterator: Py<PyAny>, waker: Arc<FutureWaker> },
    /// Has returned or raised.
    Done,
}

impl PendingResult {
    pub fn new(pending: Arc<PendingRequest>, awaited: Awaited) -> PendingResult {
        PendingResult { pending, awaited, progress: Mutex::new(Progress::Created) }
    }

    /// The value, if it has arrived already.
    fn poll(&self, py: Python<'_>, context: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        match &self.awaited {
            Awaited::Chunk => self
                .pending
                .poll(py, context, self.reader())
                .map(|chunk| chunk?.ok_or_else(|| PyStopAsyncIteration::new_err(()))),
            Awaited::Only => self.pending.poll_only(py, context),
            Awaited::Stream => self.pending.poll_first(py, context).map(|first| {
                first?;
                Ok(Py::new(py, AsyncChatCompletionStream(self.pending.clone()))?.into_any())
            }),
            Awaited::Value(value) => Poll::Ready(Ok(value.clone_ref(py))),
        }
    }

    fn reader(&self) -> Reader {
        Reader::Task(std::ptr::from_ref(self).addr())
    }

    /// The state, of which nobody else may be in the middle.
    fn progress(&self) -> PyResult<MutexGuard<'_, Progress>> {
        match self.progress.try_lock() {
            Ok(progress) => Ok(progress),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(PyValueError::new_err("coroutine already executing")),
        }
    }

    /// Runs until the next suspension, and yields the future to wait for; or stops with the value.
    fn resume(&self, py: Python<'_>, sent: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let mut progress = self.progress()?;
        let step = self.advance(py, &mut progress, sent);
        if !matches!(step, Ok(ControlFlow::Continue(_))) {
            *progress = Progress::Done;
        }
        match step? {
            ControlFlow::Continue(future) => Ok(future),
            // Not in a tuple: before Python 3.12 the value then is passed on without an exception
            // object. No value of ours is a tuple or an exception, which would be taken apart.
            ControlFlow::Break(value) => Err(PyStopIteration::new_err(value)),
        }
    }

    /// Continues with the future to wait for, or breaks with the value.
    fn advance(
        &self,
        py: Python<'_>,
        progress: &mut Progress,
        mut sent: Option<Bound<'_, PyAny>>,
    ) -> PyResult<ControlFlow<Py<PyAny>, Py<PyAny>>> {
        loop {
            match progress {
                Progress::Done => {
                    return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
                }
                Progress::Created => {
                    // Most often something has arrived already, and no future needs to be made.
                    if let Poll::Ready(value) = self.poll(py, &mut Context::from_waker(Waker::noop())) {
                        return Ok(ControlFlow::Break(value?));
                    }
                    let (iterator, waker) = future(py).inspect_err(|_| self.pending.close(py))?;
                    match self.poll(py, &mut Context::from_waker(&Waker::from(waker.clone()))) {
                        Poll::Ready(value) => return Ok(ControlFlow::Break(value?)),
                        Poll::Pending => *progress = Progress::Suspended { iterator, waker },
                    }
                }
                Progress::Suspended { iterator, .. } => {
                    let iterator = iterator.bind(py);
                    // The future yields itself while it is pending, and then stops.
                    let step = match sent.take() {
                        None => iterator.call_method0(intern!(py, "__next__")),
                        Some(value) => iterator.call_method1(intern!(py, "send"), (value,)),
                    };
                    match step {
                        Ok(future) => return Ok(ControlFlow::Continue(future.unbind())),
                        Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => {
                            *progress = Progress::Created;
                        }
                        Err(error) => {
                            self.pending.close(py);
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    /// Stops waiting, so that another task can read the stream.
    fn abandon(&self, py: Python<'_>, progress: &mut Progress) {
        if let Progress::Suspended { waker, .. } = std::mem::replace(progress, Progress::Done) {
            waker.clear();
            self.pending.release(py, self.reader());
        }
    }
}

impl Drop for PendingResult {
    fn drop(&mut self) {
        if matches!(self.progress.get_mut(), Ok(Progress::Suspended { .. })) {
            // None while the interpreter finalizes: then nobody else reads any more.
            Python::try_attach(|py| {
                if let Ok(mut progress) = self.progress() {
                    self.abandon(py, &mut progress);
                }
            });
        }
    }
}

#[pymethods]
impl PendingResult {
    fn __await__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        if matches!(&*slf.progress()?, Progress::Suspended { .. }) {
            return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
        }
        Ok(slf)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.resume(py, None)
    }

    fn send(&self, py: Python<'_>, value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.resume(py, (!value.is_none()).then_some(value))
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
        self.close(py)?;
        match value {
            Some(value) if !value.is_none() => Err(PyErr::from_value(value)),
            _ => Err(PyErr::from_value(kind)),
        }
    }

    /// Ends the generation, unless the coroutine has returned, or has not begun to read a chunk.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut progress = self.progress()?;
        let begun = match (&*progress, &self.awaited) {
            (Progress::Done, _) | (Progress::Created, Awaited::Chunk | Awaited::Value(_)) => false,
            (Progress::Created, Awaited::Only | Awaited::Stream) | (Progress::Suspended { .. }, _) => true,
        };
        self.abandon(py, &mut progress);
        *progress = Progress::Done;
        drop(progress);
        if begun {
            self.pending.close(py);
        }
        Ok(())
    }

    #[getter]
    fn cr_running(&self) -> bool {
        self.progress().is_err()
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        matches!(self.progress().as_deref(), Ok(Progress::Suspended { .. }))
    }

    /// There is no Python frame.
    #[getter]
    fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }

    /// There is no Python code.
    #[getter]
    fn cr_code(&self) -> Option<Py<PyAny>> {
        None
    }

    /// The iterator of the future that is being waited for.
    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.progress().as_deref() {
            Ok(Progress::Suspended { iterator, .. }) => Some(iterator.clone_ref(py)),
            _ => None,
        }
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        match self.awaited {
            Awaited::Chunk => "__anext__",
            Awaited::Only => "completion_async",
            Awaited::Stream => "stream_async",
            Awaited::Value(_) => "aclose",
        }
    }

    #[getter]
    fn __qualname__(&self) -> String {
        format!("pgml.{}", self.__name__())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Awaited::Value(value) = &self.awaited {
            visit.call(value)?;
        }
        if let Ok(progress) = self.progress.try_lock()
            && let Progress::Suspended { iterator, waker } = &*progress
        {
            visit.call(iterator)?;
            waker.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        if let Ok(mut progress) = self.progress() {
            self.abandon(py, &mut progress);
        }
    }
}
