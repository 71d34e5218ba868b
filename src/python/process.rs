//! What a process's fork and its end mean for the threads and streams in it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

/// How many forks lie between this process and the first one that loaded the module.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The threads that are on their way back to the GIL, and whether any more may set out.
static REENTERING: AtomicUsize = AtomicUsize::new(0);
const CLOSED: usize = 1 << (usize::BITS - 1);
/// The thread that ends the interpreter.
static FINALIZER: OnceLock<ThreadId> = OnceLock::new();

/// Which process this is, among its ancestors: cheaper to ask than its id.
pub fn generation() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// A thread's way back to the GIL, which ends when this is dropped.
pub struct GilReentry(());

/// To be called before the GIL is taken again. At the end of the interpreter it does not return.
///
/// Python before 3.14 ends a thread that asks for the GIL too late by unwinding its stack. Rust's
/// frames on it do not bear that: the process would crash. Newer Pythons stop it, as this does.
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

#[pyfunction]
fn at_exit(py: Python<'_>) {
    FINALIZER.get_or_init(|| thread::current().id());
    REENTERING.fetch_or(CLOSED, Ordering::SeqCst);
    // Whoever is on the way gets what it came for: soon, since the GIL is free meanwhile.
    py.detach(|| {
        while REENTERING.load(Ordering::SeqCst) != CLOSED {
            thread::yield_now();
        }
    });
}

#[pyfunction]
fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // Only the thread that forked lives on, and it has the GIL.
    REENTERING.store(0, Ordering::SeqCst);
}

/// Lets Python tell of its end and of forks.
pub fn watch(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(at_exit, module)?,))?;
    let hooks = [("after_in_child", wrap_pyfunction!(after_fork_in_child, module)?)].into_py_dict(py)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks)).map(drop)
}
