//! The tokio runtime, one for each process.

use std::sync::Mutex;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

/// The runtime of this process. A child made by `fork` gets one of its own: it inherits the
/// parent's, but not the threads that would run it. That one is left as it is, since to stop it
/// would be to wait for those threads.
pub fn handle() -> PyResult<Handle> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let process = std::process::id();
    if let Some((owner, runtime)) = *runtime
        && owner == process
    {
        return Ok(runtime.handle().clone());
    }
    // One thread reads all sockets: it only moves bytes, and Python has one core's worth of
    // building to do anyway.
    let made = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("pgml")
        .enable_all()
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("pgml cannot start its thread: {error}")))?;
    let made: &'static Runtime = Box::leak(Box::new(made));
    *runtime = Some((process, made));
    Ok(made.handle().clone())
}
