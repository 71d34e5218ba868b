//! The requests in flight: recorded while they run, and shown by the view `pgml.stat_requests`.

use std::cell::Cell;
use std::ffi::{CStr, c_int};

use pgml_protocol::{Error, Kind};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::report;

#[cfg(any(feature = "pg17", feature = "pg18"))]
mod shared;
#[cfg(not(any(feature = "pg17", feature = "pg18")))]
#[path = "unavailable.rs"]
mod shared;

use shared::EngineUse;

/// A request that other sessions can see, until it is dropped.
pub struct Entry {
    slot: Option<usize>,
    engine: Option<EngineUse>,
    tokens: Cell<u64>,
}

impl Entry {
    pub fn begin(id: &CStr, model: &str) -> Entry {
        Entry { slot: shared::begin(id, model), engine: None, tokens: Cell::new(0) }
    }

    /// Says which process runs the request.
    pub fn set_engine(&mut self, pid: c_int) {
        self.engine = self.slot.and_then(|slot| shared::use_engine(slot, pid));
    }

    /// Says how many tokens have come so far.
    pub fn set_tokens(&self, tokens: u64) {
        let more = tokens - self.tokens.replace(tokens);
        if let Some(slot) = self.slot.filter(|_| more > 0) {
            shared::add_tokens(slot, tokens, more, self.engine.as_ref());
        }
    }

    /// The tokens that the engine's process has made for all requests since `set_engine`, and
    /// whether this request had the process to itself. `None`: the process is not known.
    pub fn engine_tokens(&self) -> Option<(u64, bool)> {
        self.engine.as_ref().map(EngineUse::since)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            shared::end(slot);
        }
    }
}

/// The requests in flight that the current role may see.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns off the type, and follows no alias")]
fn requests_in_flight() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(role, pg_sys::Oid),
        name!(database, pg_sys::Oid),
        name!(request_id, String),
        name!(model, String),
        name!(started, TimestampWithTimeZone),
        name!(tokens, i64),
    ),
> {
    if !shared::is_available() {
        report(Error::new(Kind::Unsupported, "pgml.stat_requests needs PostgreSQL 17 or newer"));
    }
    let rows = shared::visible().into_iter().map(|(request, tokens)| {
        let started = TimestampWithTimeZone::try_from(request.started)
            .unwrap_or_else(|error| pgrx::error!("{error:?}"));
        let (id, model) = (request.id(), request.model());
        (request.pid, request.role, request.database, id, model, started, tokens as i64)
    });
    TableIterator::new(rows.collect::<Vec<_>>())
}
