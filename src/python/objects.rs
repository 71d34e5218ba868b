//! JSON to Python objects, in one pass and without a tree between.

use jiter::{PythonParse, StringCacheMode, map_json_error};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use super::errors::raise;
use crate::Row;

/// What the rows of a request hold.
#[derive(Clone, Copy)]
pub enum ObjectKind {
    Completion,
    Chunk,
    Models,
}

/// The objects of one row that have not been taken yet.
pub enum Objects {
    None,
    One(Py<PyAny>),
    Many(Py<PyList>, usize),
}

impl Objects {
    /// Reads a row: one object, or an array of them.
    pub fn read(py: Python<'_>, row: &Row) -> PyResult<Objects> {
        let json = row.json().map_err(|error| raise(py, error))?;
        // Keys, ids and model names come again and again: the cache makes each string once.
        let parse = PythonParse { cache_mode: StringCacheMode::All, ..PythonParse::default() };
        let value = parse.python_parse(py, json).map_err(|error| map_json_error(json, &error))?;
        Ok(match value.cast_into::<PyList>() {
            Ok(list) => Objects::Many(list.unbind(), 0),
            Err(error) => Objects::One(error.into_inner().unbind()),
        })
    }

    /// The next object, as a `dict` of the class for its kind.
    pub fn take(&mut self, py: Python<'_>, kind: ObjectKind) -> Option<PyResult<Py<PyAny>>> {
        let value = match std::mem::replace(self, Objects::None) {
            Objects::None => return None,
            Objects::One(value) => value.into_bound(py),
            Objects::Many(list, index) => {
                let value = list.bind(py).get_item(index).ok()?;
                *self = Objects::Many(list, index + 1);
                value
            }
        };
        Some(class(py, kind).and_then(|class| Ok(class.call1((value.cast_into::<PyDict>()?,))?.unbind())))
    }
}

fn class(py: Python<'_>, kind: ObjectKind) -> PyResult<&Bound<'_, PyAny>> {
    static COMPLETION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static CHUNK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static MODELS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    match kind {
        ObjectKind::Completion => COMPLETION.import(py, "pgml.objects", "ChatCompletion"),
        ObjectKind::Chunk => CHUNK.import(py, "pgml.objects", "ChatCompletionChunk"),
        ObjectKind::Models => MODELS.import(py, "pgml.objects", "Object"),
    }
}
