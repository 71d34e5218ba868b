//! The requests in flight: recorded while they run, and read by the view `pgml.stat_requests`.
//!
//! requests.c keeps them in shared memory. `unsafe` here is for calls into it only.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;

use pgml_protocol::{Error, Kind};
use pgrx::pg_sys::{self, ffi::pg_guard_ffi_boundary};
use pgrx::prelude::*;

use crate::report;

/// As in requests.c.
#[repr(C)]
struct InFlight {
    pid: c_int,
    role: pg_sys::Oid,
    database: pg_sys::Oid,
    started: pg_sys::TimestampTz,
    tokens: u64,
    id: [c_char; 129],
    model: [c_char; 193],
}

unsafe extern "C-unwind" {
    fn pgml_requests_known() -> bool;
    fn pgml_request_begin(id: *const c_char, model: *const c_char) -> c_int;
    fn pgml_request_tokens(slot: c_int, tokens: u64);
    fn pgml_request_end(slot: c_int);
    fn pgml_request_get(slot: c_int, request: *mut InFlight) -> bool;
}

/// A request that others can see. Dropped, it is over.
pub struct Entry(Option<c_int>);

impl Entry {
    pub fn begin(id: &CStr, model: &str) -> Entry {
        // SQL has no NUL in a text, so neither has a model's name.
        let model = CString::new(model).unwrap_or_default();
        // SAFETY: two strings that end in NUL and outlive the call, which copies them.
        let slot = unsafe { pg_guard_ffi_boundary(|| pgml_request_begin(id.as_ptr(), model.as_ptr())) };
        Entry((slot >= 0).then_some(slot))
    }

    /// How many tokens have come so far.
    pub fn set_tokens(&self, tokens: u64) {
        if let Some(slot) = self.0 {
            // SAFETY: the slot is ours until it is ended. An atomic write, which raises nothing.
            unsafe { pgml_request_tokens(slot, tokens) }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            // SAFETY: ended once. A lock is taken and released; it raises nothing.
            unsafe { pgml_request_end(slot) }
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
    // SAFETY: returns a constant.
    if !unsafe { pgml_requests_known() } {
        report(Error::new(Kind::Unsupported, "pgml.stat_requests needs PostgreSQL 17 or newer"));
    }
    let mut rows = Vec::new();
    for slot in 0.. {
        let mut request = MaybeUninit::<InFlight>::uninit();
        // SAFETY: it is written as a whole wherever true is returned.
        let Some(request) = (unsafe {
            pg_guard_ffi_boundary(|| pgml_request_get(slot, request.as_mut_ptr()))
                .then(|| request.assume_init())
        }) else {
            break;
        };
        if request.pid != 0 {
            // SAFETY: strlcpy has ended them with NUL.
            let text = |bytes: &[c_char]| unsafe { CStr::from_ptr(bytes.as_ptr()) }.to_string_lossy().into();
            rows.push((
                request.pid,
                request.role,
                request.database,
                text(&request.id),
                text(&request.model),
                TimestampWithTimeZone::try_from(request.started)
                    .unwrap_or_else(|error| pgrx::error!("{error:?}")),
                request.tokens as i64,
            ));
        }
    }
    TableIterator::new(rows)
}
