//! The C shim, made safe. `unsafe` here is for calls into C only.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::os::fd::RawFd;
use std::time::Duration;

use pgrx::pg_sys::{self, ffi::pg_guard_ffi_boundary};

unsafe extern "C-unwind" {
    fn pgml_flush();
    fn pgml_wait_set(sockets: *const c_int, count: c_int) -> *mut c_void;
    fn pgml_wait_writable(set: *mut c_void, position: c_int, writable: bool);
    fn pgml_wait(set: *mut c_void, timeout_ms: c_long, request_id: *const c_char) -> bool;
    fn pgml_wait_free(set: *mut c_void);
    fn pgml_user_mapping(
        role: pg_sys::Oid,
        server: pg_sys::Oid,
        option: unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char),
        context: *mut c_void,
    );
}

/// Sends the rows made so far to the client, without waiting for it.
pub fn flush() {
    // SAFETY: a backend's main thread is the only one there is; the closure owns nothing.
    unsafe { pg_guard_ffi_boundary(|| pgml_flush()) }
}

/// The options of a role's user mapping for a server; its own mapping counts before that of PUBLIC.
pub fn user_mapping(role: pg_sys::Oid, server: pg_sys::Oid) -> Vec<(String, String)> {
    unsafe extern "C" fn add(options: *mut c_void, name: *const c_char, value: *const c_char) {
        // SAFETY: the vector below, which nothing else uses during the call.
        let options: &mut Vec<(String, String)> = unsafe { &mut *options.cast() };
        // SAFETY: C strings from Postgres end in NUL.
        let text = |text| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        options.push((text(name), text(value)));
    }
    let mut options: Vec<(String, String)> = Vec::new();
    // SAFETY: `add` gets the pointer to `options` that is passed beside it, and only during the call.
    unsafe {
        pg_guard_ffi_boundary(|| pgml_user_mapping(role, server, add, (&raw mut options).cast()));
    }
    options
}

/// Waits for sockets the way a backend must wait: a cancel, a timeout, the client's going away and
/// the postmaster's death all end it.
pub struct WaitSet(*mut c_void);

impl WaitSet {
    pub fn new(sockets: &[RawFd]) -> WaitSet {
        let count = sockets.len() as c_int;
        // SAFETY: the slice outlives the call, which copies what it needs.
        WaitSet(unsafe { pg_guard_ffi_boundary(|| pgml_wait_set(sockets.as_ptr(), count)) })
    }

    /// Whether to wait for the socket at this position to take bytes too.
    pub fn set_writable(&self, position: usize, writable: bool) {
        // SAFETY: the set is alive, and the position is one of those it was made with.
        unsafe { pg_guard_ffi_boundary(|| pgml_wait_writable(self.0, position as c_int, writable)) }
    }

    /// True when a socket is ready, false when the time is over. An error that ends the waiting
    /// says for which request it was.
    pub fn wait(&self, timeout: Duration, request_id: &CStr) -> bool {
        let timeout = timeout.as_millis().min(c_int::MAX as u128) as c_long;
        // SAFETY: the set is alive; an error raised inside becomes a panic at the guard.
        unsafe { pg_guard_ffi_boundary(|| pgml_wait(self.0, timeout, request_id.as_ptr())) }
    }
}

impl Drop for WaitSet {
    fn drop(&mut self) {
        // SAFETY: made by pgml_wait_set, freed once. It closes a file descriptor and raises nothing.
        unsafe { pgml_wait_free(self.0) }
    }
}
