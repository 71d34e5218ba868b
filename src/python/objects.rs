//! JSON to Python objects, in one pass and without a tree between.

use jiter::{PythonParse, StringCacheMode};
use pgml_protocol::error::sqlstate;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use super::errors::raise;
use crate::Row;
use crate::error::{Error, Kind};

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
    One(Py<PyDict>),
    /// Chunks that came together. They share all but their choices, of which each has one.
    Batch {
        shared: Py<PyDict>,
        choices: Py<PyList>,
        taken: usize,
    },
}

impl Objects {
    /// Reads a row.
    pub fn read(py: Python<'_>, row: &Row, kind: ObjectKind) -> PyResult<Objects> {
        let json = row.json().map_err(|error| raise(py, error))?;
        // Keys, ids and model names come again and again: the cache makes each string once.
        let parse = PythonParse { cache_mode: StringCacheMode::All, ..PythonParse::default() };
        // An engine's text goes through Postgres as it is, half a surrogate pair and all.
        let value = parse.python_parse(py, json).map_err(|error| {
            let problem = format!("an answer that is no JSON: {}", error.description(json));
            raise(py, Error::new(Kind::Database, problem).sqlstate(sqlstate::PROTOCOL_VIOLATION))
        })?;
        let object = value.cast_into::<PyDict>()?;
        if matches!(kind, ObjectKind::Chunk)
            && let Some(choices) = object.get_item(intern!(py, "choices"))?
            && let Ok(choices) = choices.cast_into::<PyList>()
            && choices.len() > 1
        {
            return Ok(Objects::Batch { shared: object.unbind(), choices: choices.unbind(), taken: 0 });
        }
        Ok(Objects::One(object.unbind()))
    }

    /// The next object, as a `dict` of the class for its kind.
    pub fn take(&mut self, py: Python<'_>, kind: ObjectKind) -> Option<PyResult<Py<PyAny>>> {
        let object = match self {
            Objects::None => return None,
            Objects::One(object) => class(py, kind).and_then(|class| class.call1((&*object,))),
            Objects::Batch { shared, choices, taken } => {
                if let Ok(choice) = choices.bind(py).get_item(*taken) {
                    *taken += 1;
                    let chunk = chunk(py, shared, &choice);
                    return Some(chunk.map(Bound::unbind));
                }
                *self = Objects::None;
                return None;
            }
        };
        *self = Objects::None;
        Some(object.map(Bound::unbind))
    }
}

/// A chunk of its own out of a batch.
fn chunk<'py>(
    py: Python<'py>,
    shared: &Py<PyDict>,
    choice: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let chunk = class(py, ObjectKind::Chunk)?.call1((shared,))?;
    chunk.cast::<PyDict>()?.set_item(intern!(py, "choices"), PyList::new(py, [choice])?)?;
    Ok(chunk)
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
