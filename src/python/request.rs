//! Python objects to JSON, in one pass.
//!
//! What the openai package can send is written as it writes it, and dataclasses, enums, dates, UUIDs,
//! mappings and iterables too. Unlike Python's own `json`, an error says where in the request the
//! value is that cannot be written.

use std::fmt::Write;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyMemoryView, PyString, PyTuple,
    PyType,
};

use crate::{Request, Secret};

/// How many arrays and objects may stand inside each other: as many as serde_json reads, which is
/// what the request goes through next.
const MAX_DEPTH: usize = 127;

/// The longest id of a request that the database takes.
const MAX_ID: usize = 128;

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
    let id = take_request_id(parameters)?;
    let mut writer = Writer { json: String::with_capacity(512), path: Vec::new(), omit: false };
    writer.object(parameters)?;
    let request = Request { token, ..Request::new(writer.json) };
    Ok(match id {
        Some(id) => Request { id, ..request },
        None => request,
    })
}

/// Takes `x-request-id` out of `extra_headers`: the id has an argument of its own on its way.
fn take_request_id(parameters: &Bound<'_, PyDict>) -> PyResult<Option<String>> {
    let Some(Ok(headers)) =
        parameters.get_item("extra_headers")?.map(|headers| headers.cast_into::<PyDict>())
    else {
        return Ok(None);
    };
    let Some(id) = headers.get_item("x-request-id")? else {
        return Ok(None);
    };
    let id = id
        .extract::<String>()
        .ok()
        .filter(|id| (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let Some(id) = id else {
        return Err(PyValueError::new_err(format!(
            "extra_headers: X-Request-Id must be a string of at most {MAX_ID} visible ASCII characters"
        )));
    };
    let others = headers.copy()?;
    others.del_item("x-request-id")?;
    parameters.set_item("extra_headers", others)?;
    Ok(Some(id))
}

struct Writer<'py> {
    json: String,
    /// Where in the request the writer is, for messages.
    path: Vec<Place<'py>>,
    /// The value just visited stands for "not given": its key is left out.
    omit: bool,
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
        } else {
            self.converted(value)
        }
    }

    /// Writes a value that JSON has no type of its own for.
    fn converted(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = value.py();
        let classes = Classes::get(py)?;
        if value.is_instance_of::<PyType>() {
            // An enum's class can be iterated over, and a dataclass has the fields of its instances.
            Err(self.not_encodable(value)?)
        } else if let Ok(mapping) = value.cast::<PyMapping>() {
            let object = PyDict::new(py);
            for item in mapping.items()?.iter() {
                let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item.extract()?;
                object.set_item(key, value)?;
            }
            self.object(&object)
        } else if let Ok(dump) = value.getattr(intern!(py, "model_dump")) {
            self.model(value, &dump)
        } else if value.is_instance(classes.enumeration.bind(py))? {
            self.value(&value.getattr(intern!(py, "value"))?)
        } else if value.is_instance(classes.iso.bind(py))? {
            self.value(&value.call_method0(intern!(py, "isoformat"))?)
        } else if value.is_instance(classes.uuid.bind(py))? {
            self.string(&value.str()?)
        } else if value.hasattr(intern!(py, "__dataclass_fields__"))? {
            let object = PyDict::new(py);
            for field in classes.fields.bind(py).call1((value,))?.try_iter()? {
                let name = field?.getattr(intern!(py, "name"))?;
                object.set_item(&name, value.getattr(name.cast::<PyString>()?)?)?;
            }
            self.object(&object)
        } else if is_omitted(value)? {
            self.omit = true;
            Ok(())
        } else if value.is_instance_of::<PyBytes>()
            || value.is_instance_of::<PyByteArray>()
            || value.is_instance_of::<PyMemoryView>()
            || value.is_instance(classes.file.bind(py))?
            || !value.hasattr(intern!(py, "__iter__"))?
        {
            Err(self.not_encodable(value)?)
        } else {
            self.array(value)
        }
    }

    /// Writes a pydantic model: its fields that are set, as the openai package does.
    fn model(&mut self, value: &Bound<'py, PyAny>, dump: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = value.py();
        let options = PyDict::new(py);
        options.set_item("exclude_unset", true)?;
        options.set_item("mode", "json")?;
        if self.has_type_in_openai() {
            if let Ok(excluded) = value.getattr(intern!(py, "__api_exclude__")) {
                options.set_item("exclude", excluded)?;
            }
        } else {
            options.set_item("by_alias", true)?;
        }
        let dumped = dump.call((), Some(&options))?;
        // A mock returns another mock, without end.
        if dumped.hasattr(intern!(py, "model_dump"))? {
            return Err(self.not_encodable(value)?);
        }
        self.value(&dumped)
    }

    /// Whether the openai package's types of a request describe this place. It writes models there by
    /// the names of their fields, and elsewhere (in what `extra_body` adds, or below a key that its
    /// types do not have) by their aliases.
    fn has_type_in_openai(&self) -> bool {
        let mut keys = self.path.iter().filter_map(|step| match step {
            Place::Key(key) => Some(key.to_string_lossy()),
            Place::Index(_) => None,
        });
        let keys: [Option<_>; 5] = std::array::from_fn(|_| keys.next());
        let [root, second, third, fourth, fifth] = keys.each_ref().map(|key| key.as_deref());
        match (root, second, third, fourth) {
            (Some("messages"), Some("content"), Some("image_url" | "input_audio" | "file"), _) => {
                fourth.is_none()
            }
            (Some("messages"), Some("tool_calls"), Some("function"), _) => {
                matches!(fourth, None | Some("parsed_arguments")) && fifth.is_none()
            }
            (Some("messages"), Some("tool_calls"), Some("custom"), _) => fourth.is_none(),
            (
                Some("messages"),
                Some("content" | "tool_calls" | "function_call" | "audio" | "parsed"),
                _,
                _,
            ) => third.is_none(),
            // A schema is a dict with values of any type, which are not looked into.
            (Some("tools"), Some("function"), Some("parameters"), _) => self.path.len() <= 5,
            (Some("functions"), Some("parameters"), _, _) => self.path.len() <= 4,
            (Some("response_format"), Some("json_schema"), Some("schema"), _) => self.path.len() <= 4,
            (Some("tools"), Some("function" | "custom"), _, _)
            | (Some("tool_choice"), Some("function" | "custom" | "allowed_tools"), _, _)
            | (Some("response_format"), Some("json_schema"), _, _)
            | (Some("prediction"), Some("content"), _, _) => third.is_none(),
            (Some("metadata" | "logit_bias"), _, _, _) => third.is_none(),
            (
                Some(
                    "messages" | "tools" | "functions" | "tool_choice" | "response_format" | "prediction"
                    | "stream_options" | "web_search_options" | "audio" | "function_call",
                ),
                _,
                _,
                _,
            ) => second.is_none(),
            _ => false,
        }
    }

    fn object(&mut self, object: &Bound<'py, PyDict>) -> PyResult<()> {
        self.check_depth()?;
        self.json.push('{');
        let mut first = true;
        // Of a copy: a value's own model_dump() can change the dict that it is in.
        for (key, value) in object.copy()?.iter() {
            let key = match key.cast_into::<PyString>() {
                Ok(key) => key,
                Err(error) => self.key(&error.into_inner())?,
            };
            let start = self.json.len();
            if !first {
                self.json.push(',');
            }
            self.string(&key)?;
            self.json.push(':');
            self.path.push(Place::Key(key));
            self.value(&value)?;
            self.path.pop();
            if std::mem::take(&mut self.omit) {
                self.json.truncate(start);
            } else {
                first = false;
            }
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
            let value = value?;
            self.value(&value)?;
            if self.omit {
                return Err(self.not_encodable(&value)?);
            }
            self.path.pop();
        }
        self.json.push(']');
        Ok(())
    }

    /// A key that is not a string, as Python's own `json` writes it: `{1: …}` has the key `"1"`.
    fn key(&mut self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
        let py = key.py();
        let text = if key.is_none() {
            "null".into()
        } else if let Ok(truth) = key.cast::<PyBool>() {
            truth.is_true().to_string()
        } else if key.is_instance_of::<PyInt>() {
            // An enum's member prints its name.
            py.get_type::<PyInt>().call_method1(intern!(py, "__repr__"), (key,))?.to_string()
        } else if let Ok(number) = key.cast::<PyFloat>() {
            number.repr()?.to_string()
        } else if key.is_instance(Classes::get(py)?.enumeration.bind(py))? {
            let value = key.getattr(intern!(py, "value"))?;
            return match value.cast_into::<PyString>() {
                Ok(text) => Ok(text),
                Err(error) => self.key(&error.into_inner()),
            };
        } else {
            let kind = key.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "{}: has a key that is not a str, int, float, bool or None, but a {kind}",
                self.place()
            )));
        };
        Ok(PyString::new(py, &text))
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

    fn not_encodable(&self, value: &Bound<'py, PyAny>) -> PyResult<PyErr> {
        let kind = value.get_type().name()?;
        Ok(PyTypeError::new_err(format!(
            "{}: cannot be written as JSON: must be made of str, int, float, bool, None, mappings, iterables, \
             pydantic models, dataclasses, enums, dates and UUIDs, but is a {kind}",
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

/// Whether a value is one of those that stand for a parameter that is not given.
fn is_omitted(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    // By name, since the openai package may not be installed.
    let name = value.get_type().name()?;
    Ok(name == "NotGiven" || name == "Omit")
}

/// Python's classes that are written in a way of their own.
struct Classes {
    enumeration: Py<PyAny>,
    /// Those with `isoformat()`.
    iso: Py<PyAny>,
    uuid: Py<PyAny>,
    file: Py<PyAny>,
    /// The function `dataclasses.fields`.
    fields: Py<PyAny>,
}

impl Classes {
    fn get(py: Python<'_>) -> PyResult<&Classes> {
        static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
        CLASSES.get_or_try_init(py, || {
            let datetime = py.import("datetime")?;
            let iso = (datetime.getattr("date")?, datetime.getattr("time")?);
            Ok(Classes {
                enumeration: py.import("enum")?.getattr("Enum")?.unbind(),
                iso: iso.into_pyobject(py)?.into_any().unbind(),
                uuid: py.import("uuid")?.getattr("UUID")?.unbind(),
                file: py.import("io")?.getattr("IOBase")?.unbind(),
                fields: py.import("dataclasses")?.getattr("fields")?.unbind(),
            })
        })
    }
}
