//! An engine's chunks, as far as we read them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::engine_error::engine_error;
use crate::error::{Error, Result};

/// One event of an engine, as far as we read it. What is only passed on stays raw JSON.
#[derive(Deserialize)]
pub struct EngineChunk<'a> {
    #[serde(borrow, default)]
    pub(crate) choices: Vec<EngineChoice<'a>>,
    #[serde(default)]
    pub(crate) usage: Option<Usage>,
    #[serde(borrow, default)]
    pub(crate) system_fingerprint: Option<Cow<'a, str>>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
pub(crate) struct EngineChoice<'a> {
    #[serde(borrow, default)]
    delta: Option<Fields<'a>>,
    /// A text completion has this in place of `delta`.
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) logprobs: Option<&'a RawValue>,
}

impl<'a> EngineChunk<'a> {
    /// Reads an event. An event that carries an error becomes that error.
    pub fn parse(data: &'a [u8]) -> Result<EngineChunk<'a>> {
        let chunk: EngineChunk = serde_json::from_slice(data).map_err(Error::not_a_chunk)?;
        match &chunk.error {
            None | Some(Value::Null) => Ok(chunk),
            Some(error) => {
                let status = error.get("code").and_then(Value::as_u64).unwrap_or(500);
                Err(engine_error(status.try_into().unwrap_or(500), error))
            }
        }
    }
}

impl<'a> EngineChoice<'a> {
    /// The fields of the delta that say something: no `role`, no nulls, no empty text.
    pub(crate) fn news(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        let delta = self.delta.iter().flat_map(|delta| &delta.0).map(|(name, value)| (name.as_ref(), *value));
        delta
            .chain(self.text.map(|text| ("content", text)))
            .filter(|(name, value)| *name != "role" && !matches!(value.get(), "null" | "\"\"" | "[]"))
    }
}

/// An object's fields in their order, the values raw.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(2);
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A key, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Tokens counted, over all choices.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Usage {
    pub completion_tokens: u64,
    pub prompt_tokens: u64,
    #[serde(default)]
    pub total_tokens: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<Map<String, Value>>,
}
