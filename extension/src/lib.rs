//! The Postgres extension `pgml`: chat completions in SQL.
//!
//! A statement's way through the files:
//!
//! 1. [`completions`] and [`transform`]: the functions that SQL calls (declared in `sql/`).
//! 2. [`engine`]: the model's engine, a foreign server, and the right to use it. [`options`]
//!    reads and checks that server's options.
//! 3. [`prompt`]: what the engine is asked. [`sandbox`] renders a chat template, which may use the
//!    model's [`special_tokens`].
//! 4. [`generation`]: the request under way. It holds a set of [`connections`]; each [`connection`]
//!    has a [`transport`] (a socket, with or without TLS) and an HTTP exchange on it. [`shim`] is
//!    what Postgres itself does: waiting, and sending rows.
//!
//! [`json`] reads JSON arguments. [`requests`] shows the requests in flight. What the bytes on a
//! connection mean is in the crate `pgml-protocol`.

use pgml_protocol::error::detail;
use pgml_protocol::{Error, Kind};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgSqlErrorCode, pg_sys};

mod completions;
mod connect;
mod connection;
mod connections;
mod engine;
mod engine_process;
mod generation;
mod gpu;
mod json;
mod kept;
mod lookup;
mod meter;
mod options;
mod prompt;
mod requests;
mod sandbox;
mod shim;
mod special_tokens;
mod tls;
mod transform;
mod transport;

pgrx::pg_module_magic!();

#[pg_guard]
extern "C-unwind" fn _PG_init() {
    // Rust's own switch for backtraces would put them into the DETAIL of every error that Postgres
    // raises while pgrx is on the stack.
    // SAFETY: a backend has one thread, and nothing holds a pointer into the environment here.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    // SAFETY: reads a variable of this backend.
    if unsafe { pg_sys::MyDatabaseId } != pg_sys::InvalidOid {
        check_encoding().unwrap_or_else(|error| report(error));
    }
    check_alone().unwrap_or_else(|error| report(error));
    engine::define_settings();
    meter::define_settings();
    kept::watch_discard();
}

/// Whether this session has no other version of the library loaded, which would have the same
/// settings. ALTER EXTENSION UPDATE can lead to that.
fn check_alone() -> Result<(), Error> {
    // SAFETY: a C string, of which the call keeps nothing. An unknown setting has no flags.
    let flags = unsafe { pg_sys::GetConfigOptionFlags(c"pgml.default_server".as_ptr(), true) };
    // SAFETY: as above; null for an unknown setting.
    let is_known =
        !unsafe { pg_sys::GetConfigOption(c"pgml.default_server".as_ptr(), true, false) }.is_null();
    if !is_known || flags as u32 & pg_sys::GUC_CUSTOM_PLACEHOLDER != 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Conflict, "this session has loaded another version of pgml's library")
        .hint("Connect again, and repeat the statement."))
}

/// Whether texts of this database are UTF-8, which is what JSON and HTTP are made of.
///
/// Checked when the library is loaded, and again by each request: under shared_preload_libraries
/// it is loaded before there is a database.
fn check_encoding() -> Result<(), Error> {
    // SAFETY: reads the encoding of the backend's database.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() } as u32;
    if [pg_sys::pg_enc::PG_UTF8, pg_sys::pg_enc::PG_SQL_ASCII].contains(&encoding) {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, "pgml needs a database whose encoding is UTF8")
        .hint("CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;"))
}

/// The version of this library.
#[pg_extern(sql = false)]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Raises an error in Postgres. The parameter at fault and the request's id stand in the detail,
/// where people, the server's log and the client find them.
fn report(error: Error) -> ! {
    let parameter = error.param.map(|param| format!("{}{param}", detail::PARAMETER));
    let request = error.request_id.map(|id| format!("{}{id}", detail::REQUEST));
    let detail: Vec<String> = parameter.into_iter().chain(error.detail).chain(request).collect();
    let mut report = ErrorReport::new(error_code(error.kind), error.message, "pgml");
    if !detail.is_empty() {
        report = report.set_detail(detail.join("\n"));
    }
    if let Some(hint) = error.hint {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

/// A SQLSTATE as Postgres's `MAKE_SQLSTATE` packs it: six bits for each character.
fn error_code(kind: Kind) -> PgSqlErrorCode {
    let packed = kind
        .sqlstate()
        .bytes()
        .rev()
        .fold(0, |packed: i32, byte| packed << 6 | i32::from(byte.wrapping_sub(b'0') & 0x3F));
    PgSqlErrorCode::from(packed)
}
