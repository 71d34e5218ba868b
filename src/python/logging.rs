//! What the core tells of (`tracing` events) becomes records of Python's logger `pgml`.
//!
//! The logger's level is looked up once a request, while the GIL is held anyway. An event below it
//! costs a comparison, and the thread that receives rows never waits for the GIL because of it.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::process;

/// Python's levels, and tracing's.
const LEVELS: [(u8, LevelFilter); 4] =
    [(10, LevelFilter::DEBUG), (20, LevelFilter::INFO), (30, LevelFilter::WARN), (40, LevelFilter::ERROR)];

/// The level of Python's logger as it was last seen: nothing below it is told.
static LEVEL: AtomicU8 = AtomicU8::new(u8::MAX);

/// Listens to the core. Called once, when the module is imported.
pub fn install() {
    // Another extension module has a `tracing` of its own. This one can have a subscriber already
    // only if the module is imported twice, and then it is this one.
    let _ = tracing::subscriber::set_global_default(ToPython);
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

fn logger(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logger = LOGGER.get_or_try_init(py, || {
        py.import("logging")?.call_method1("getLogger", ("pgml",)).map(Bound::unbind)
    })?;
    Ok(logger.bind(py))
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
        let message = text.message + &text.fields;
        let level = python_level(event.metadata().level());
        let _reentry = process::reenter_gil();
        // None while the interpreter ends: then nobody is interested any more.
        Python::try_attach(|py| {
            let logged =
                logger(py).and_then(|logger| logger.call_method1(intern!(py, "log"), (level, "%s", message)));
            if let Err(error) = logged {
                error.write_unraisable(py, None);
            }
        });
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

/// An event as text: its message, and `name=value` for what else it says.
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
