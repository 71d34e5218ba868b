//! Errors as Python exceptions. Which class a SQLSTATE belongs to is decided in `pgml/errors.py`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::{Error, Kind};

/// The exception for an error.
pub fn raise(py: Python<'_>, error: Error) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let kind = match error.kind {
        Kind::Database => "database",
        Kind::Connection => "connection",
        Kind::Timeout => "timeout",
        Kind::Configuration => "configuration",
    };
    MAKE.import(py, "pgml.errors", "from_database")
        .and_then(|make| {
            make.call1((
                kind,
                error.message,
                error.sqlstate,
                error.param,
                error.detail,
                error.hint,
                error.request_id,
            ))
        })
        .map_or_else(|failed| failed, PyErr::from_value)
}
