//! How JavaScript waits for a row: an event loop by being notified, a blocked thread by parking.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

/// Does not keep the event loop alive: `lib/` does, while somebody waits.
type Callback = ThreadsafeFunction<(), (), (), napi::Status, false, true>;

/// Notifies one event loop. However many rows of however many requests arrive while the loop is busy,
/// it is notified once.
#[napi]
pub struct LoopNotifier {
    shared: Arc<Shared>,
}

struct Shared {
    callback: Callback,
    /// The requests that have something to read.
    ready: Mutex<Vec<u32>>,
}

impl Shared {
    fn take_ready(&self) -> Vec<u32> {
        std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[napi]
impl LoopNotifier {
    #[napi(constructor)]
    pub fn new(callback: Function<'_, (), ()>) -> napi::Result<LoopNotifier> {
        let callback = callback.build_threadsafe_function::<()>().weak::<true>().build()?;
        Ok(LoopNotifier { shared: Arc::new(Shared { callback, ready: Mutex::default() }) })
    }

    /// The ids of the requests that have something to read. The callback calls this.
    #[napi]
    pub fn drain(&self) -> Vec<u32> {
        self.shared.take_ready()
    }
}

impl LoopNotifier {
    pub fn waker(&self, id: u32) -> Waker {
        Waker::from(Arc::new(Notify { shared: self.shared.clone(), id }))
    }
}

struct Notify {
    shared: Arc<Shared>,
    id: u32,
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let first = {
            let mut ready = self.shared.ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.push(self.id);
            ready.len() == 1
        };
        if first {
            // Fails only when the event loop has ended.
            self.shared.callback.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

/// Wakes a parked thread.
pub struct Unpark(Thread);

impl Unpark {
    /// A waker of the current thread.
    pub fn waker() -> Waker {
        Waker::from(Arc::new(Unpark(thread::current())))
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
