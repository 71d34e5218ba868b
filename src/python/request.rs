//! Python objects to JSON, in one pass.
//!
//! Python's own `json` would write NaN, which is no JSON, turn keys of any kind into strings, and
//! not say where in the request a thing is that it cannot write.

use std::fmt::Write;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

use crate::{Request, Secret};

/// How many arrays and objects may stand inside each other: as many as serde_json reads, which is
/// what the request goes through next.
const MAX_DEPTH: usize = 127;

/// A request from its parameters. The `token` of a model object is taken out of the body.
pub fn read(parameters: &Bound<'_, PyDict>) -> PyResult<Request> {
    let mut token = None;
    if let Some(Ok(model)) = parameters.get_item("model")?.map(|model| model.cast_into::<PyDict>())
        && let Some(value) = model.get_item("token")?
        && !value.is_none()
    {
        let Ok(text) = value.extract::<String>() else {
            return Err(PyTypeError::new_err("model.token: must be a string"));
        };
        token = Some(Secret(text));
        let public = model.copy()?;
        public.del_item("token")?;
        parameters.set_item("model", public)?;
    }
    let mut writer = Writer { json: String::with_capacity(512), path: Vec::new() };
    writer.object(parameters)?;
    Ok(Request { token, ..Request::new(writer.json) })
}

struct Writer<'py> {
    json: String,
    /// Where in the request the writer is, for messages.
    path: Vec<Place<'py>>,
}

enum Place<'py> {
    Key(Bound<'py, PyString>),
    Index(usize),
}

impl<'py> Writer<'py> {
    fn value(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(text) = value.cast::<PyString>() {
            self.string(text)
        } else if value.is_none() {
            self.json.push_str("null");
            Ok(())
        } else if let Ok(truth) = value.cast::<PyBool>() {
            self.json.push_str(if truth.is_true() { "true" } else { "false" });
            Ok(())
        } else if value.is_instance_of::<PyInt>() {
            // As wide as JSON numbers are that keep their value: i64 and u64.
            match value.extract::<i64>().map(i128::from).or_else(|_| value.extract::<u64>().map(i128::from)) {
                Ok(number) => drop(write!(self.json, "{number}")),
                Err(_) => return Err(self.wrong("is a whole number of more than 64 bits".into())),
            }
            Ok(())
        } else if let Ok(number) = value.cast::<PyFloat>() {
            let number = number.value();
            if !number.is_finite() {
                return Err(self.wrong(format!("must be a finite number, not {number}")));
            }
            // Rust writes the shortest text that reads back as the same number.
            let _ = write!(self.json, "{number:?}");
            Ok(())
        } else if let Ok(object) = value.cast::<PyDict>() {
            self.object(object)
        } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            self.array(value)
        } else if let Ok(mapping) = value.cast::<PyMapping>() {
            let object = PyDict::new(value.py());
            object.update(mapping)?;
            self.object(&object)
        } else if let Ok(dump) = value.getattr("model_dump") {
            // A pydantic model: what the openai package returns, and what callers put back into
            // messages. Its unset fields are not part of what it says.
            let options = PyDict::new(value.py());
            options.set_item("exclude_none", true)?;
            let dumped = dump.call((), Some(&options))?;
            // Of a mock, for one, it returns such an object again, and again.
            if dumped.hasattr("model_dump")? {
                return Err(self.no_json(value)?);
            }
            self.value(&dumped)
        } else {
            Err(self.no_json(value)?)
        }
    }

    fn object(&mut self, object: &Bound<'py, PyDict>) -> PyResult<()> {
        self.check_depth()?;
        self.json.push('{');
        let mut first = true;
        // Of a copy: a value's own model_dump() can change the dict that it is in.
        for (key, value) in object.copy()?.iter() {
            let Ok(key) = key.cast_into::<PyString>() else {
                return Err(PyTypeError::new_err(format!("{}: has a key that is not a str", self.place())));
            };
            if !std::mem::take(&mut first) {
                self.json.push(',');
            }
            self.string(&key)?;
            self.json.push(':');
            self.path.push(Place::Key(key));
            self.value(&value)?;
            self.path.pop();
        }
        self.json.push('}');
        Ok(())
    }

    fn array(&mut self, array: &Bound<'py, PyAny>) -> PyResult<()> {
        self.check_depth()?;
        self.json.push('[');
        for (index, value) in array.try_iter()?.enumerate() {
            if index > 0 {
                self.json.push(',');
            }
            self.path.push(Place::Index(index));
            self.value(&value?)?;
            self.path.pop();
        }
        self.json.push(']');
        Ok(())
    }

    fn string(&mut self, text: &Bound<'py, PyString>) -> PyResult<()> {
        let Ok(text) = text.to_str() else {
            return Err(self.wrong("holds a lone surrogate, which UTF-8 cannot say".into()));
        };
        // A string always is JSON.
        self.json.push_str(&serde_json::to_string(text).unwrap_or_default());
        Ok(())
    }

    /// Before an array or an object is opened inside of those that `path` leads through.
    fn check_depth(&mut self) -> PyResult<()> {
        if self.path.len() < MAX_DEPTH {
            return Ok(());
        }
        self.path.truncate(3);
        Err(self.wrong(format!("is nested deeper than {MAX_DEPTH} levels")))
    }

    fn wrong(&self, problem: String) -> PyErr {
        PyValueError::new_err(format!("{}: {problem}", self.place()))
    }

    fn no_json(&self, value: &Bound<'py, PyAny>) -> PyResult<PyErr> {
        let kind = value.get_type().name()?;
        Ok(PyTypeError::new_err(format!(
            "{}: must be made of str, int, float, bool, None, dict and list, but is a {kind}",
            self.place()
        )))
    }

    /// `messages[0].content`
    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            let _ = match step {
                Place::Key(key) if place.is_empty() => write!(place, "{}", key.to_string_lossy()),
                Place::Key(key) => write!(place, ".{}", key.to_string_lossy()),
                Place::Index(index) => write!(place, "[{index}]"),
            };
        }
        if place.is_empty() { "request".into() } else { place }
    }
}
