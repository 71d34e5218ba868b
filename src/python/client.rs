//! The class `Client`: what the Python package builds on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt};

use super::coroutine::{Awaited, PendingResult};
use super::errors::raise;
use super::logging;
use super::objects::ObjectKind;
use super::pending::PendingRequest;
use super::process;
use super::request;
use super::runtime;
use super::stream::ChatCompletionStream;
use super::wait::{block_on, lock};
use crate::{Client as Core, DatabaseUrl, Options, Request, Streaming};

/// Requests to one database. `pgml.OpenSourceAI` is its public face.
#[pyclass(frozen, module = "pgml._pgml")]
pub struct Client {
    database_url: String,
    options: Options,
    /// With the process that made it: connections must not be shared over a fork.
    core: Mutex<(u32, Core)>,
    /// In this process or in an ancestor of it.
    closed: AtomicBool,
}

impl Drop for Client {
    fn drop(&mut self) {
        let (process, core) = &*lock(&self.core);
        if *process != process::generation() {
            // Leak one reference, so that the child never closes the parent's connections.
            std::mem::forget(core.clone());
        }
    }
}

impl Client {
    fn start(&self, py: Python<'_>, request: Request, kind: ObjectKind) -> PyResult<Arc<PendingRequest>> {
        logging::refresh_level(py)?;
        let runtime = runtime::handle(py)?;
        let _entered = runtime.enter();
        Ok(PendingRequest::new(self.core(py)?.start(request, matches!(kind, ObjectKind::Chunk)), kind))
    }

    fn list_models(&self, py: Python<'_>, timeout: f64) -> PyResult<Arc<PendingRequest>> {
        logging::refresh_level(py)?;
        let runtime = runtime::handle(py)?;
        let _entered = runtime.enter();
        Ok(PendingRequest::new(self.core(py)?.models(seconds("timeout", timeout)?), ObjectKind::Models))
    }

    fn core(&self, py: Python<'_>) -> PyResult<Core> {
        let mut core = lock(&self.core);
        let process = process::generation();
        if core.0 != process {
            let own =
                Core::new(&self.database_url, self.options.clone()).map_err(|error| raise(py, error))?;
            if self.closed.load(Ordering::Relaxed) {
                own.close();
            }
            // Leave the parent's connections alone: closing them would write to them, and would
            // remove them from what the parent's runtime watches.
            std::mem::forget(std::mem::replace(&mut *core, (process, own)));
        }
        Ok(core.1.clone())
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (database_url, *, max_connections, connect_timeout, acquire_timeout, streaming))]
    fn new(
        py: Python<'_>,
        database_url: String,
        max_connections: &Bound<'_, PyAny>,
        connect_timeout: &Bound<'_, PyAny>,
        acquire_timeout: &Bound<'_, PyAny>,
        streaming: &str,
    ) -> PyResult<Client> {
        let streaming = match streaming {
            "push" => Streaming::Push,
            "cursor" => Streaming::Cursor,
            other => {
                return Err(PyValueError::new_err(format!(
                    "streaming: must be 'push' or 'cursor', not {other:?}"
                )));
            }
        };
        let options = Options {
            max_connections: whole_number("max_connections", max_connections, 1, MAX_CONNECTIONS)? as usize,
            connect_timeout: seconds_of("connect_timeout", connect_timeout)?,
            acquire_timeout: seconds_of("acquire_timeout", acquire_timeout)?,
            streaming,
        };
        let core = Core::new(&database_url, options.clone()).map_err(|error| raise(py, error))?;
        Ok(Client {
            database_url,
            options,
            core: Mutex::new((process::generation(), core)),
            closed: AtomicBool::new(false),
        })
    }

    /// One completion. Waits for it without the GIL.
    fn completion(
        &self,
        py: Python<'_>,
        parameters: &Bound<'_, PyDict>,
        timeout: f64,
        max_retries: u32,
    ) -> PyResult<Py<PyAny>> {
        let request = request(parameters, timeout, max_retries)?;
        let pending = self.start(py, request, ObjectKind::Completion)?;
        block_on(py, |context| pending.poll_only(py, context))?
    }

    /// An awaitable of one completion.
    fn completion_async(
        &self,
        py: Python<'_>,
        parameters: &Bound<'_, PyDict>,
        timeout: f64,
        max_retries: u32,
    ) -> PyResult<PendingResult> {
        let request = request(parameters, timeout, max_retries)?;
        Ok(PendingResult::new(self.start(py, request, ObjectKind::Completion)?, Awaited::Only))
    }

    /// A stream of chunks, once the first is there.
    fn stream(
        &self,
        py: Python<'_>,
        parameters: &Bound<'_, PyDict>,
        timeout: f64,
        max_retries: u32,
    ) -> PyResult<ChatCompletionStream> {
        let pending = self.start(py, request(parameters, timeout, max_retries)?, ObjectKind::Chunk)?;
        block_on(py, |context| pending.poll_first(py, context))??;
        Ok(ChatCompletionStream(pending))
    }

    /// An awaitable of a stream of chunks.
    fn stream_async(
        &self,
        py: Python<'_>,
        parameters: &Bound<'_, PyDict>,
        timeout: f64,
        max_retries: u32,
    ) -> PyResult<PendingResult> {
        let request = request(parameters, timeout, max_retries)?;
        Ok(PendingResult::new(self.start(py, request, ObjectKind::Chunk)?, Awaited::Stream))
    }

    /// OpenAI's list of models: those that the current role can call.
    fn models(&self, py: Python<'_>, timeout: f64) -> PyResult<Py<PyAny>> {
        let pending = self.list_models(py, timeout)?;
        block_on(py, |context| pending.poll_only(py, context))?
    }

    /// An awaitable of the list of models.
    fn models_async(&self, py: Python<'_>, timeout: f64) -> PyResult<PendingResult> {
        Ok(PendingResult::new(self.list_models(py, timeout)?, Awaited::Only))
    }

    /// Closes the connections of this process.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, Ordering::Relaxed);
        self.core(py)?.close();
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Host and database, never the password.
    fn describe(&self) -> String {
        lock(&self.core).1.describe().to_owned()
    }
}

fn request(parameters: &Bound<'_, PyDict>, timeout: f64, max_retries: u32) -> PyResult<Request> {
    Ok(Request { timeout: seconds("timeout", timeout)?, max_retries, ..request::read(parameters)? })
}

/// As many as a Postgres can have (its `max_connections`).
const MAX_CONNECTIONS: u32 = 262_143;

/// Where the database is: the URL and what said it. `None`: neither the argument nor the environment.
#[pyfunction]
pub fn find_database_url(py: Python<'_>, argument: Option<&str>) -> PyResult<Option<String>> {
    let found = DatabaseUrl::find(argument).map_err(|error| raise(py, error))?;
    Ok(found.map(|found| found.url))
}

/// A setting that is a whole number within limits.
#[pyfunction]
pub fn whole_number(name: &str, value: &Bound<'_, PyAny>, least: u32, most: u32) -> PyResult<u32> {
    if !value.is_instance_of::<PyInt>() || value.is_instance_of::<PyBool>() {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("{name}: must be a whole number, but is of type {kind}")));
    }
    value.extract::<u32>().ok().filter(|number| (least..=most).contains(number)).ok_or_else(|| {
        PyValueError::new_err(format!("{name}: must be a whole number from {least} to {most}"))
    })
}

fn seconds_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let is_number = value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>();
    if !is_number || value.is_instance_of::<PyBool>() {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{name}: must be a number of seconds, but is of type {kind}"
        )));
    }
    // A whole number may be larger than any float.
    seconds(name, value.extract().unwrap_or(f64::INFINITY))
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| {
        PyValueError::new_err(format!("{name}: must be a number of seconds above 0, not {value}"))
    })
}
