//! What an engine says of one choice, made into what OpenAI would say: the one place where that is
//! decided, for streams and for completions alike.
//!
//! Engines differ in what they put into a chunk: a `role` in none, one or all of them, null for what
//! is not there, a `message` in place of a `delta`, tool calls in many forms ([`crate::calls`]).

use std::borrow::Cow;

use serde_json::Value;

use crate::calls::Calls;
use crate::chunk::EngineChoice;
use crate::engine_error::engine_error;
use crate::error::{Error, Kind, Result};
use crate::logprobs;
use crate::raw::{Held, is_empty, json, mark, passed, text};
use crate::tool_call::CallShaper;

/// Fields of OpenAI's message. Null in any other field is passed on: it tells that the engine has it.
const KNOWN: [&str; 7] =
    ["annotations", "audio", "content", "function_call", "refusal", "role", "tool_calls"];

/// One choice, as far as it has come.
pub(crate) struct Assembler {
    calls: Calls,
    /// Halves of characters at the ends of texts.
    held: Vec<(String, Held)>,
    /// Whether a `delta` has said something: a whole `message` after it says it again (MiniMax).
    by_delta: bool,
    /// What makes a tool call of the text, if one is forced.
    shaper: Option<CallShaper>,
    no_top_logprobs: bool,
    finish_reason: Option<String>,
}

impl Assembler {
    /// `id` is what ids of tool calls are made from, where the engine gives none.
    pub(crate) fn new(id: String, shaper: Option<CallShaper>, no_top_logprobs: bool) -> Assembler {
        Assembler {
            calls: Calls::new(id),
            held: Vec::new(),
            by_delta: false,
            shaper,
            no_top_logprobs,
            finish_reason: None,
        }
    }

    pub(crate) fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// Reads a choice, and calls `put` with the name and the JSON of each field that the message or
    /// delta has. True if one of them says something.
    pub(crate) fn read(
        &mut self,
        choice: &EngineChoice,
        is_whole: bool,
        mut put: impl FnMut(&str, &str),
    ) -> Result<bool> {
        let reason = choice.finish_reason.and_then(|raw| text(raw.get()));
        let is_last = reason.is_some();
        if let Some(reason) = reason {
            self.finish_reason = Some(reason.into_owned());
        }
        let mut said = false;
        let by_delta = choice.delta.say_something() || choice.message.0.is_empty();
        let fields = if by_delta { &choice.delta } else { &choice.message };
        if by_delta || !(is_whole && self.by_delta) {
            for (name, value) in fields.iter() {
                said |= self.field(name, value.get(), &mut put);
            }
            if let Some(text) = choice.text {
                said |= self.field("content", text.get(), &mut put);
            }
        }
        self.by_delta |= by_delta && said;
        if is_last {
            said |= self.finish(&mut put)?;
        }
        Ok(said)
    }

    fn field(&mut self, name: &str, raw: &str, put: &mut impl FnMut(&str, &str)) -> bool {
        match (name, raw) {
            ("role", _) => false,
            (_, "null") => {
                if !KNOWN.contains(&name) {
                    put(name, raw);
                }
                false
            }
            (_, _) if is_empty(raw) => false,
            ("tool_calls", _) => {
                let calls = self.calls.read(raw);
                if !calls.is_empty() {
                    put(name, &json(&calls));
                }
                !calls.is_empty()
            }
            ("content", _) if self.shaper.is_some() => {
                let text = content(raw);
                let text = text.as_deref().unwrap_or(raw);
                let text = serde_json::from_str::<String>(&mark(text)).unwrap_or_default();
                let text = self.held(name).join(&text);
                self.shape(&text, false, put)
            }
            ("content", _) if !raw.starts_with('"') => match content(raw) {
                Some(text) => self.text(name, &text, put),
                None => {
                    let passed = passed(raw);
                    if passed != "null" {
                        put(name, &passed);
                    }
                    passed != "null"
                }
            },
            (_, _) if raw.starts_with('"') => self.text(name, raw, put),
            _ => {
                put(name, &passed(raw));
                true
            }
        }
    }

    /// A piece of a text, as JSON.
    fn text(&mut self, name: &str, raw: &str, put: &mut impl FnMut(&str, &str)) -> bool {
        let piece = mark(raw);
        if matches!(piece, Cow::Borrowed(_)) && self.held.iter().all(|(_, held)| held.is_empty()) {
            put(name, raw);
            return true;
        }
        let piece = self.held(name).join(&piece[1..piece.len() - 1]);
        if !piece.is_empty() {
            put(name, &format!("\"{piece}\""));
        }
        !piece.is_empty()
    }

    fn held(&mut self, name: &str) -> &mut Held {
        let position = self.held.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.held.push((name.to_owned(), Held::default()));
            self.held.len() - 1
        });
        &mut self.held[position].1
    }

    fn shape(&mut self, text: &str, is_last: bool, put: &mut impl FnMut(&str, &str)) -> bool {
        let calls = self.shaper.as_mut().and_then(|shaper| shaper.push(text, is_last));
        if let Some(calls) = &calls {
            put("tool_calls", &json(calls));
        }
        calls.is_some()
    }

    /// The choice is finished: nothing is kept any longer.
    fn finish(&mut self, put: &mut impl FnMut(&str, &str)) -> Result<bool> {
        let calls = self.calls.rest();
        let mut said = !calls.is_empty();
        if said {
            put("tool_calls", &json(&calls));
        }
        for (name, held) in &mut self.held {
            if let Some(rest) = held.rest() {
                put(name, &json(&rest));
                said = true;
            }
        }
        if self.shaper.is_some() {
            said |= self.shape("", true, put);
        }
        match (&self.shaper, self.finish_reason.as_deref()) {
            (Some(shaper), Some("stop")) => match shaper.finish_reason() {
                Some(reason) => self.finish_reason = Some(reason.to_owned()),
                None => {
                    return Err(Error::new(
                        Kind::ProtocolViolation,
                        "the engine did not keep to the JSON schema that makes a tool call",
                    ));
                }
            },
            (_, Some("error")) => {
                return Err(engine_error(None, &"it ended its answer with finish_reason \"error\"".into()));
            }
            _ => (),
        }
        Ok(said)
    }

    /// The log probabilities of a choice, as JSON: an object, or null.
    pub(crate) fn logprobs(&self, choice: &EngineChoice) -> Option<String> {
        let raw = choice.logprobs?.get();
        if !raw.starts_with('{') {
            return None;
        }
        let whole = passed(raw).into_owned();
        Some(if self.no_top_logprobs { logprobs::without_alternatives(&whole) } else { whole })
    }
}

/// The text of a content that is not a text, as JSON, if there is nothing else in it.
fn content(raw: &str) -> Option<String> {
    if raw.starts_with('"') {
        return None;
    }
    let part = |part: &Value| match part {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) if fields.get("type").is_none_or(|kind| kind == "text") => {
            fields.get("text").and_then(Value::as_str).map(str::to_owned)
        }
        _ => None,
    };
    let text = match serde_json::from_str(&mark(raw)).ok()? {
        Value::Array(parts) => parts.iter().map(part).collect::<Option<String>>()?,
        object @ Value::Object(_) => part(&object)?,
        other => other.to_string(),
    };
    Some(json(&text))
}
