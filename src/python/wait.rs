//! How a synchronous call waits for a row: by parking its thread, or, in a greenlet, by letting
//! others run.
//!
//! The thread that receives rows never acquires the GIL. It only wakes whoever waits.

use std::io::{Read, Write};
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

/// Wakes a thread.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes a greenlet, by making a socket readable.
struct SocketWaker(UnixStream);

impl Wake for SocketWaker {
    fn wake(self: Arc<Self>) {
        // If the socket is full it is readable already; if it is closed nobody waits any more.
        let _ = (&self.0).write(&[1]);
    }
}

/// Waits until `poll` is ready, without the GIL. Ctrl-C interrupts it.
pub fn block_on<T>(py: Python<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> PyResult<T> {
    // Most often something has arrived already, and no waker is needed.
    if let Poll::Ready(value) = poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(value);
    }
    if let Some(wait_readable) = cooperative_wait(py)? {
        return wait_in_greenlet(&wait_readable, poll);
    }
    let waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
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

/// gevent's or eventlet's function that waits for a descriptor, if this thread runs greenlets.
fn cooperative_wait(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static FIND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let wait = FIND.import(py, "pgml._greenlets", "wait_function")?.call0()?;
    Ok((!wait.is_none()).then_some(wait))
}

fn wait_in_greenlet<T>(
    wait_readable: &Bound<'_, PyAny>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> PyResult<T> {
    let (sender, receiver) = UnixStream::pair()?;
    sender.set_nonblocking(true)?;
    receiver.set_nonblocking(true)?;
    let waker = Waker::from(Arc::new(SocketWaker(sender)));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = poll(&mut context) {
            return Ok(value);
        }
        // Like a thread, it looks again after a while, so that two greenlets can share a stream.
        wait_readable.call1((receiver.as_raw_fd(), SIGNAL_INTERVAL.as_secs_f64()))?;
        drain(&receiver);
    }
}

/// Reads all that is in a nonblocking socket.
pub fn drain(mut socket: &UnixStream) {
    let mut bytes = [0; 64];
    while matches!(socket.read(&mut bytes), Ok(count) if count == bytes.len()) {}
}

/// Locks a mutex even if a holder panicked: what our mutexes guard is only ever replaced as a whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
