//! PostgreSQL 15 and 16 give an extension no named shared memory: nothing is recorded.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

pub struct InFlight {
    pub pid: c_int,
    pub role: pg_sys::Oid,
    pub database: pg_sys::Oid,
    pub started: pg_sys::TimestampTz,
}

impl InFlight {
    pub fn id(&self) -> String {
        String::new()
    }

    pub fn model(&self) -> String {
        String::new()
    }
}

pub struct EngineUse;

impl EngineUse {
    pub fn since(&self) -> (u64, bool) {
        (0, false)
    }
}

pub const fn is_available() -> bool {
    false
}

pub fn begin(_: &CStr, _: &str) -> Option<usize> {
    None
}

pub fn use_engine(_: usize, _: c_int) -> Option<EngineUse> {
    None
}

pub fn add_tokens(_: usize, _: u64, _: u64, _: Option<&EngineUse>) {}

pub fn end(_: usize) {}

pub fn visible() -> Vec<(InFlight, u64)> {
    Vec::new()
}
