//! The tokio runtime, one for each process.

use std::sync::Mutex;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

use super::process;
use super::wait::lock;

static RUNTIME: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

/// The runtime of this process. A child made by `fork` inherits the parent's runtime but not the
/// threads that run it, so it gets one of its own. The inherited one is leaked, since shutting it
/// down would wait for those threads.
pub fn handle(py: Python<'_>) -> PyResult<Handle> {
    let mut runtime = lock(&RUNTIME);
    let process = process::generation();
    if let Some((owner, runtime)) = *runtime
        && owner == process
    {
        return Ok(runtime.handle().clone());
    }
    // One thread reads all sockets. It only moves bytes; building Python objects takes more time,
    // and happens under the GIL.
    let made = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("pgml")
        .enable_all()
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("pgml cannot start its thread: {error}")))?;
    let made: &'static Runtime = Box::leak(Box::new(made));
    *runtime = Some((process, made));
    drop(runtime);
    process::watch_exit(py)?;
    Ok(made.handle().clone())
}
