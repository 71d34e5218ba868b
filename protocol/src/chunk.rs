//! An engine's events, read generously: a field of a type that nobody expects is left out, and never
//! costs the rest of the event.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine_error::engine_error;
use crate::error::{Error, Result};
use crate::raw::{is_empty, is_falsy, mark};

/// One event of an engine. What is only passed on stays raw JSON.
#[derive(Default)]
pub struct EngineChunk<'a> {
    pub(crate) choices: Vec<EngineChoice<'a>>,
    pub(crate) usage: Option<&'a RawValue>,
    pub(crate) fingerprint: Option<&'a RawValue>,
    /// Fields that OpenAI does not have.
    pub(crate) others: Fields<'a>,
    /// Whether this is a whole completion and not a piece of one.
    pub(crate) is_whole: bool,
    error: Option<&'a RawValue>,
    has_choices: bool,
}

#[derive(Default)]
pub(crate) struct EngineChoice<'a> {
    pub(crate) delta: Fields<'a>,
    /// A completion in one piece has this in place of `delta`, and some engines' chunks have, too.
    pub(crate) message: Fields<'a>,
    /// A text completion has this.
    pub(crate) text: Option<&'a RawValue>,
    pub(crate) finish_reason: Option<&'a RawValue>,
    pub(crate) logprobs: Option<&'a RawValue>,
    /// Moonshot's count of tokens is in the choice.
    pub(crate) usage: Option<&'a RawValue>,
    pub(crate) others: Fields<'a>,
    error: Option<&'a RawValue>,
}

impl<'a> EngineChunk<'a> {
    /// Reads an event. An event that carries an error becomes that error, and one that says nothing
    /// (`null`, which some engines send to keep a connection alive) an empty chunk.
    pub fn parse(data: &'a [u8]) -> Result<EngineChunk<'a>> {
        let chunk = match serde_json::from_slice::<Lenient<EngineChunk>>(data) {
            Ok(Lenient(Some(chunk))) => chunk,
            Ok(Lenient(None)) => return odd(data),
            Err(error) => return Err(Error::not_a_chunk(error)),
        };
        let of_a_choice = chunk.choices.iter().find_map(|choice| choice.error);
        if chunk.error.or(of_a_choice).is_some() || !chunk.has_choices && chunk.is_flat_error() {
            let of_a_choice = of_a_choice.filter(|_| chunk.error.is_none());
            let error = of_a_choice.map_or(data, |error| error.get().as_bytes());
            return Err(engine_error(None, &value(error)));
        }
        Ok(chunk)
    }

    /// Whether the event is an error object by itself, as SGLang and older vLLM send it.
    fn is_flat_error(&self) -> bool {
        let says = |names: &[&str]| {
            let mut fields = self.others.0.iter();
            fields.any(|(name, value)| {
                names.contains(&name.as_ref())
                    && value.get().starts_with(['"', '['])
                    && !is_empty(value.get())
            })
        };
        let has = |names: &[&str]| self.others.0.iter().any(|(name, _)| names.contains(&name.as_ref()));
        says(&["detail", "error_msg"])
            || says(&["message", "msg"]) && has(&["code", "type", "status", "error_type", "status_code"])
    }

    fn put(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        match name.as_ref() {
            // Ours are told instead.
            "id" | "created" | "model" => (),
            "object" => self.is_whole = value.get() == "\"chat.completion\"",
            "usage" => self.usage = set(value),
            "system_fingerprint" => self.fingerprint = set(value),
            "error" => self.error = Some(value).filter(|value| !is_falsy(value.get())),
            _ => self.others.put(name, value),
        }
    }
}

/// A field's value, unless it says nothing.
fn set(value: &RawValue) -> Option<&RawValue> {
    (!is_empty(value.get())).then_some(value)
}

/// An event that is JSON, and not an object.
fn odd(data: &[u8]) -> Result<EngineChunk<'_>> {
    let value = value(data);
    // Gemini puts an error into a list.
    if value.pointer("/0/error").is_some() {
        return Err(engine_error(None, &value));
    }
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(EngineChunk::default()),
        Value::String(text) if text.is_empty() => Ok(EngineChunk::default()),
        Value::Array(parts) if parts.is_empty() => Ok(EngineChunk::default()),
        _ => Err(Error::not_a_chunk("it is not a JSON object")),
    }
}

fn value(data: &[u8]) -> Value {
    serde_json::from_str(&mark(&String::from_utf8_lossy(data))).unwrap_or_default()
}

impl<'a> EngineChoice<'a> {
    fn put(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        match name.as_ref() {
            // Each choice is a request of its own, so that we know it.
            "index" => (),
            "text" => self.text = set(value),
            "finish_reason" => self.finish_reason = set(value),
            "logprobs" => self.logprobs = set(value),
            "error" => self.error = Some(value).filter(|value| !is_falsy(value.get())),
            _ => {
                if name == "usage" {
                    self.usage = set(value);
                }
                self.others.put(name, value);
            }
        }
    }
}

/// An object's fields in their order, the values raw. Of two with one name the last counts.
#[derive(Default)]
pub(crate) struct Fields<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn put(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// Whether a field says something, apart from who speaks.
    pub(crate) fn say_something(&self) -> bool {
        self.iter().any(|(name, value)| name != "role" && !is_empty(value.get()))
    }
}

/// What is read from an object, field by field.
trait FromFields<'de>: Default {
    fn field<A: MapAccess<'de>>(&mut self, name: Cow<'de, str>, map: &mut A) -> Result<(), A::Error>;
}

impl<'de> FromFields<'de> for EngineChunk<'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: Cow<'de, str>, map: &mut A) -> Result<(), A::Error> {
        if name != "choices" {
            self.put(name, map.next_value()?);
            return Ok(());
        }
        let OneOrMore(choices) = map.next_value()?;
        self.choices = choices;
        self.has_choices = true;
        Ok(())
    }
}

impl<'de> FromFields<'de> for EngineChoice<'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: Cow<'de, str>, map: &mut A) -> Result<(), A::Error> {
        match name.as_ref() {
            "delta" => self.delta = map.next_value::<Lenient<_>>()?.0.unwrap_or_default(),
            "message" => self.message = map.next_value::<Lenient<_>>()?.0.unwrap_or_default(),
            _ => self.put(name, map.next_value()?),
        }
        Ok(())
    }
}

impl<'de> FromFields<'de> for Fields<'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: Cow<'de, str>, map: &mut A) -> Result<(), A::Error> {
        self.put(name, map.next_value()?);
        Ok(())
    }
}

/// An object, or `None` for anything else.
struct Lenient<T>(Option<T>);

/// The objects of a list, or the one that stands in its place. Anything else is left out.
struct OneOrMore<T>(Vec<T>);

impl<'de, T: FromFields<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let one = deserializer.deserialize_any(AnyVisitor::<T, false>(PhantomData))?;
        Ok(Lenient(one.into_iter().next()))
    }
}

impl<'de, T: FromFields<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor::<T, true>(PhantomData)).map(OneOrMore)
    }
}

/// Takes whatever comes: objects, and with `LIST` those in a list.
struct AnyVisitor<T, const LIST: bool>(PhantomData<T>);

impl<'de, T: FromFields<'de>, const LIST: bool> Visitor<'de> for AnyVisitor<T, LIST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<T>, A::Error> {
        let mut object = T::default();
        while let Some(Name(name)) = map.next_key()? {
            object.field(name, &mut map)?;
        }
        Ok(vec![object])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut objects = Vec::new();
        if LIST {
            while let Some(Lenient(object)) = seq.next_element()? {
                objects.extend(object);
            }
        } else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(objects)
    }

    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_str<E>(self, _: &str) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }
}

/// A key, borrowed where it holds no escape.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(name.into()))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(name.to_owned().into()))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}
