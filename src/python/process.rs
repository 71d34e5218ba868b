//! What a fork and the end of the interpreter mean for the module's threads and streams.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

use super::logging;

/// How many forks lie between this process and the one that loaded the module.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The number of threads that are acquiring the GIL, and a flag that no more may.
static REENTERING: AtomicUsize = AtomicUsize::new(0);
const CLOSED: usize = 1 << (usize::BITS - 1);
/// The thread that finalizes the interpreter.
static FINALIZER: OnceLock<ThreadId> = OnceLock::new();

/// Identifies this process among its ancestors. Cheaper than asking for the process id.
pub fn generation() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Held by a thread while it acquires the GIL.
pub struct GilReentry(());

/// Must be called before the GIL is acquired again. Once the interpreter finalizes, it blocks.
///
/// Python before 3.14 ends a thread that asks for the GIL during finalization by unwinding its
/// stack, and unwinding through Rust's frames aborts the process. Newer versions block the thread,
/// as this function does.
pub fn reenter_gil() -> GilReentry {
    if REENTERING.fetch_add(1, Ordering::SeqCst) & CLOSED != 0
        && FINALIZER.get() != Some(&thread::current().id())
    {
        REENTERING.fetch_sub(1, Ordering::SeqCst);
        loop {
            thread::park();
        }
    }
    GilReentry(())
}

impl Drop for GilReentry {
    fn drop(&mut self) {
        REENTERING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Closes the way to the GIL after the last `atexit` callback, and before finalization.
///
/// Callbacks that were registered earlier than this one run later, and may wait for threads that
/// need the GIL. So the call only notes that the interpreter ends; what counts is the destructor,
/// since `atexit` releases its callbacks after all of them have run. A process that discards its
/// callbacks without running them (`atexit._clear`, in children of `multiprocessing`) goes on.
#[pyclass(frozen, module = "pgml._pgml")]
struct ExitHook {
    called: AtomicBool,
}

#[pymethods]
impl ExitHook {
    fn __call__(&self, py: Python<'_>) {
        self.called.store(true, Ordering::Relaxed);
        logging::flush(py);
    }
}

impl Drop for ExitHook {
    fn drop(&mut self) {
        if !self.called.load(Ordering::Relaxed) {
            return;
        }
        FINALIZER.get_or_init(|| thread::current().id());
        REENTERING.fetch_or(CLOSED, Ordering::SeqCst);
        // Wait for threads that are already acquiring the GIL.
        Python::attach(|py| {
            py.detach(|| {
                while REENTERING.load(Ordering::SeqCst) != CLOSED {
                    thread::yield_now();
                }
            })
        });
    }
}

/// Called once in each process that makes requests.
pub fn watch_exit(py: Python<'_>) -> PyResult<()> {
    let hook = Bound::new(py, ExitHook { called: AtomicBool::new(false) })?;
    py.import("atexit")?.call_method1("register", (hook,)).map(drop)
}

#[pyfunction]
fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // Only the thread that forked exists in the child, and it has the GIL.
    REENTERING.store(0, Ordering::SeqCst);
    logging::after_fork_in_child();
}

/// Called once, when the module is imported.
pub fn watch_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let hooks = [("after_in_child", wrap_pyfunction!(after_fork_in_child, module)?)].into_py_dict(py)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks)).map(drop)
}
