//! Streams for Python: a synchronous and an asynchronous iterator over one function.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::coroutine::{Awaited, PendingResult};
use super::pending::{PendingRequest, Reader};
use super::wait::block_on;

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
        block_on(py, |context| self.0.poll(py, context, Reader::Thread))?
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
