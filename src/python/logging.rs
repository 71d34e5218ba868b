//! Events of the core (`tracing`) become records of Python's logger `pgml`.
//!
//! A thread of its own hands them to the logger, so that no handler holds up the thread that receives
//! rows. The logger's level is looked up once a request, while the GIL is held anyway. An event below
//! it costs a comparison.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::process;
use super::wait::lock;

/// Python's levels, and tracing's.
const LEVELS: [(u8, LevelFilter); 4] =
    [(10, LevelFilter::DEBUG), (20, LevelFilter::INFO), (30, LevelFilter::WARN), (40, LevelFilter::ERROR)];

/// How long the end of a request waits for its records to be handled: with handlers that are not
/// slow, they have been when the call returns.
const SETTLE_LIMIT: Duration = Duration::from_millis(100);
/// How long the end of the process waits for them.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// The records that may wait for a slow handler. Further ones are dropped.
const MAX_WAITING: usize = 10_000;

/// The level of Python's logger when it was last looked up: events below it are ignored.
static LEVEL: AtomicU8 = AtomicU8::new(u8::MAX);

/// The queue of this process. A child made by fork gets a new one: a thread that it does not have may
/// hold the lock of the old.
static QUEUE: AtomicPtr<Queue> = AtomicPtr::new(ptr::null_mut());

/// Installs the subscriber. Called once, when the module is imported.
pub fn install() {
    after_fork_in_child();
    // Another extension module has a `tracing` of its own. This one has a subscriber already only if
    // the module is imported twice, and then it is this one.
    let _ = tracing::subscriber::set_global_default(ToPython);
}

pub fn after_fork_in_child() {
    QUEUE.store(Box::leak(Box::default()), Ordering::Release);
}

/// Looks up the level of the logger `pgml`.
pub fn refresh_level(py: Python<'_>) -> PyResult<()> {
    let level = logger(py)?.call_method0(intern!(py, "getEffectiveLevel"))?.extract::<i64>()?;
    let level = level.clamp(0, u8::MAX.into()) as u8;
    if LEVEL.swap(level, Ordering::Relaxed) != level {
        tracing::callsite::rebuild_interest_cache();
    }
    Ok(())
}

/// Waits a moment for the records of a request that has ended.
pub fn settle(py: Python<'_>) {
    wait_handled(py, SETTLE_LIMIT);
}

/// Waits for all records at the end of the process, but not for a handler that is stuck.
pub fn flush(py: Python<'_>) {
    wait_handled(py, FLUSH_LIMIT);
}

fn wait_handled(py: Python<'_>, limit: Duration) {
    if queue().unhandled.load(Ordering::Acquire) {
        let reentry = py.detach(|| {
            queue().wait_handled(limit);
            process::reenter_gil()
        });
        drop(reentry);
    }
}

/// Blocks until there is a record, and returns its level and its message. Called by the thread that
/// hands records to the logger, which has handled the record before when it calls again.
#[pyfunction]
pub fn next_log_record(py: Python<'_>) -> (u8, String) {
    let (record, reentry) = py.detach(|| (queue().next(), process::reenter_gil()));
    drop(reentry);
    record
}

fn logger(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logger = LOGGER.get_or_try_init(py, || {
        py.import("logging")?.call_method1("getLogger", ("pgml",)).map(Bound::unbind)
    })?;
    Ok(logger.bind(py))
}

/// The records on their way to the logger.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Whether there are records that have not been handled. To be asked without the lock.
    unhandled: AtomicBool,
    has_thread: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<(u8, String)>,
    dropped: usize,
}

fn queue() -> &'static Queue {
    // SAFETY: set by `install` before anything else runs, and only ever to a leaked `Queue`.
    unsafe { &*QUEUE.load(Ordering::Acquire) }
}

impl Queue {
    fn push(&self, level: u8, message: String) {
        let mut waiting = lock(&self.waiting);
        if waiting.records.len() < MAX_WAITING {
            waiting.records.push_back((level, message));
        } else {
            waiting.dropped += 1;
        }
        self.unhandled.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    fn next(&self) -> (u8, String) {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(record) = waiting.records.pop_front() {
                return record;
            }
            if waiting.dropped > 0 {
                let dropped = std::mem::take(&mut waiting.dropped);
                return (30, format!("{dropped} log records were dropped: a handler is too slow"));
            }
            self.unhandled.store(false, Ordering::Release);
            self.changed.notify_all();
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_handled(&self, limit: Duration) {
        let waiting = lock(&self.waiting);
        let _ = self.changed.wait_timeout_while(waiting, limit, |_| self.unhandled.load(Ordering::Acquire));
    }
}

struct ToPython;

impl Subscriber for ToPython {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pgml")
            && python_level(metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let level = LEVEL.load(Ordering::Relaxed);
        Some(
            LEVELS
                .iter()
                .find(|(python, _)| *python >= level)
                .map_or(LevelFilter::OFF, |(_, filter)| *filter),
        )
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let queue = queue();
        queue.push(python_level(event.metadata().level()), text.message + &text.fields);
        if !queue.has_thread.swap(true, Ordering::AcqRel) {
            let _reentry = process::reenter_gil();
            // None while the interpreter finalizes: then there are no records any more.
            Python::try_attach(|py| {
                if let Err(error) = py.import("pgml._logging").and_then(|module| module.call_method0("start"))
                {
                    error.write_unraisable(py, None);
                }
            });
        }
    }

    // The core has events only.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn python_level(level: &Level) -> u8 {
    LEVELS.iter().find(|(_, filter)| filter == level).map_or(0, |(python, _)| *python)
}

/// An event as text: its message, and `name=value` for each field.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
