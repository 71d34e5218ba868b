//! How an event loop waits for a row: it watches a socket.
//!
//! The thread that receives rows never acquires the GIL. It only makes that socket readable.

use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::wait::{drain, lock};

/// Wakes an event loop. One for each loop, made by `pgml._loop`.
///
/// However many rows of however many streams arrive while the loop is busy, it is woken once.
#[pyclass(frozen, module = "pgml._pgml")]
pub struct LoopWaker {
    /// What the loop watches.
    receiver: UnixStream,
    notifier: Arc<LoopNotifier>,
}

/// The other end of a loop's socket, for the thread that receives rows.
struct LoopNotifier {
    sender: UnixStream,
    /// Those whose rows have arrived.
    ready: Mutex<Vec<Arc<FutureWaker>>>,
}

#[pymethods]
impl LoopWaker {
    #[new]
    fn new() -> PyResult<LoopWaker> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        Ok(LoopWaker { receiver, notifier: Arc::new(LoopNotifier { sender, ready: Mutex::default() }) })
    }

    /// The descriptor for the loop to watch.
    fn fileno(&self) -> i32 {
        self.receiver.as_raw_fd()
    }

    /// Completes the futures whose rows have arrived. The loop calls this when the descriptor is
    /// readable. All futures are completed, even if one of them raises; then the first error is.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        drain(&self.receiver);
        let ready = std::mem::take(&mut *lock(&self.notifier.ready));
        let mut result = Ok(());
        for waker in ready {
            result = result.and(waker.complete(py));
        }
        result
    }
}

/// Completes one future.
pub struct FutureWaker {
    notifier: Arc<LoopNotifier>,
    /// Only the coroutine that waits owns this reference. It tells the garbage collector of it, and
    /// clears it, so that a loop that was dropped is collected with all that waits in it.
    future: Mutex<Option<Py<PyAny>>>,
    woken: AtomicBool,
}

impl Wake for FutureWaker {
    fn wake(self: Arc<Self>) {
        if self.woken.swap(true, Ordering::Relaxed) {
            return;
        }
        let notifier = self.notifier.clone();
        let first = {
            let mut ready = lock(&notifier.ready);
            ready.push(self);
            ready.len() == 1
        };
        // If the socket is full, the loop will wake anyway.
        if first && let Err(error) = (&notifier.sender).write(&[1]) {
            debug_assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe));
        }
    }
}

impl FutureWaker {
    fn complete(&self, py: Python<'_>) -> PyResult<()> {
        let Some(future) = self.clear() else { return Ok(()) };
        let future = future.bind(py);
        // A cancelled future is done already.
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        Ok(())
    }

    /// Forgets the future: nobody waits for it any more.
    pub fn clear(&self) -> Option<Py<PyAny>> {
        lock(&self.future).take()
    }

    /// For the garbage collector, which must not wait for a lock.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.future.try_lock() {
            Ok(future) => visit.call(&*future),
            Err(_) => Ok(()),
        }
    }
}

/// The iterator of a new future of the running loop, and the waker that completes the future.
pub fn future(py: Python<'_>) -> PyResult<(Py<PyAny>, Arc<FutureWaker>)> {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (future, waker): (Bound<'_, PyAny>, Bound<'_, LoopWaker>) =
        MAKE.import(py, "pgml._loop", "new_future")?.call0()?.extract()?;
    let iterator = future.call_method0(intern!(py, "__await__"))?.unbind();
    let waker = FutureWaker {
        notifier: waker.get().notifier.clone(),
        future: Mutex::new(Some(future.unbind())),
        woken: AtomicBool::new(false),
    };
    Ok((iterator, Arc::new(waker)))
}
