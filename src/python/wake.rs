//! How Python waits for a row: a thread by parking, an event loop by watching a socket.
//!
//! The thread that receives rows never takes the GIL. It only says that something is there.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::process;

/// How often a waiting thread looks for signals (Ctrl-C).
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits until `poll` is ready, without the GIL, and answers Ctrl-C.
pub fn block_on<T>(py: Python<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> PyResult<T> {
    // Most often something is there already, and nobody needs to be woken.
    if let Poll::Ready(value) = poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(value);
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = poll(&mut context) {
            return Ok(value);
        }
        let reentry = py.detach(|| {
            thread::park_timeout(SIGNAL_INTERVAL);
            process::reenter_gil()
        });
        drop(reentry);
        py.check_signals()?;
    }
}

/// Wakes an event loop. One for each loop, made by `pgml._loop`.
///
/// However many rows of however many streams arrive while the loop is busy, it is woken once.
#[pyclass(frozen, module = "pgml._pgml")]
pub struct LoopWaker {
    /// What the loop watches.
    receiver: UnixStream,
    notifier: Arc<LoopNotifier>,
}

struct LoopNotifier {
    sender: UnixStream,
    /// The futures whose rows have come.
    ready: Mutex<Vec<Py<PyAny>>>,
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

    /// The descriptor for `loop.add_reader`.
    fn fileno(&self) -> i32 {
        self.receiver.as_raw_fd()
    }

    /// Completes the futures whose rows have come. The loop calls this when the descriptor is readable.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let mut bytes = [0; 64];
        while matches!((&self.receiver).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        let ready = std::mem::take(&mut *lock(&self.notifier.ready));
        for future in ready {
            let future = future.bind(py);
            // A cancelled future is done already.
            if !future.call_method0("done")?.is_truthy()? {
                future.call_method1("set_result", (py.None(),))?;
            }
        }
        Ok(())
    }
}

/// Completes one future, through the notifier of its event loop.
struct FutureWaker {
    notifier: Arc<LoopNotifier>,
    future: Mutex<Option<Py<PyAny>>>,
}

impl Wake for FutureWaker {
    fn wake(self: Arc<Self>) {
        let Some(future) = lock(&self.future).take() else { return };
        let first = {
            let mut ready = lock(&self.notifier.ready);
            ready.push(future);
            ready.len() == 1
        };
        // A full socket wakes the loop already.
        if first && let Err(error) = (&self.notifier.sender).write(&[1]) {
            debug_assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe));
        }
    }
}

/// A future of the running loop, and a waker that completes it.
pub fn future(py: Python<'_>) -> PyResult<(Py<PyAny>, Waker)> {
    static LOOP_WAKER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (event_loop, waker): (Bound<'_, PyAny>, Bound<'_, LoopWaker>) =
        LOOP_WAKER.import(py, "pgml._loop", "running_loop")?.call0()?.extract()?;
    let future = event_loop.call_method0("create_future")?.unbind();
    let waker = FutureWaker {
        notifier: waker.get().notifier.clone(),
        future: Mutex::new(Some(future.clone_ref(py))),
    };
    Ok((future, Waker::from(Arc::new(waker))))
}

/// A lock whose holder panicked still guards data that is whole: it is only ever replaced.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
