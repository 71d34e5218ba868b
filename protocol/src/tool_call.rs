//! Text that has to be a tool call, shaped into OpenAI's `tool_calls` as it comes.

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::tools::ForcedCall;

/// Shapes the text of a forced call into pieces of a tool call, as the text comes.
#[derive(Clone, Debug)]
pub struct CallShaper {
    forced: ForcedCall,
    id: String,
    text: String,
    /// Where the arguments begin in the text, and how much of them has been handed on.
    arguments: Option<usize>,
    sent: usize,
    opened: bool,
}

impl CallShaper {
    pub fn new(forced: ForcedCall, id: String) -> CallShaper {
        let arguments = matches!(forced, ForcedCall::Function(_)).then_some(0);
        CallShaper { forced, id, text: String::new(), arguments, sent: 0, opened: false }
    }

    /// Rewrites an engine's event: what it says as content becomes a tool call.
    pub fn reshape(&mut self, event: &[u8]) -> Result<Vec<u8>> {
        let mut event: Value = serde_json::from_slice(event).map_err(Error::not_a_chunk)?;
        for choice in event.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(choice) = choice else {
                return Err(Error::not_a_chunk("a choice is no object"));
            };
            let last = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
            // A text completion has its text beside where a delta would be.
            let text = match choice.get_mut("text") {
                Some(text) => text.take(),
                None => {
                    let delta = choice.get_mut("delta");
                    delta.and_then(|delta| delta.get_mut("content")).map(Value::take).unwrap_or_default()
                }
            };
            if let Some(calls) = self.push(text.as_str().unwrap_or_default(), last) {
                match choice.entry("delta").or_insert(Value::Null) {
                    Value::Object(delta) => drop(delta.insert("tool_calls".into(), calls)),
                    delta @ Value::Null => *delta = json!({"tool_calls": calls}),
                    _ => return Err(Error::not_a_chunk("a delta is no object")),
                }
            }
            if choice.get("finish_reason") == Some(&json!("stop")) {
                if !self.opened {
                    return Err(Error::new(
                        Kind::ProtocolViolation,
                        "the engine did not keep to the JSON schema that makes a tool call",
                    ));
                }
                choice.insert("finish_reason".into(), self.finish_reason().into());
            }
        }
        Ok(event.to_string().into_bytes())
    }

    /// Takes more text, and gives the `tool_calls` delta that it makes, if any. `last` is whether
    /// the text ends here.
    fn push(&mut self, more: &str, last: bool) -> Option<Value> {
        self.text.push_str(more);
        if self.arguments.is_none() {
            self.arguments = arguments_start(&self.text);
        }
        let start = self.arguments?;
        let end = match self.forced {
            ForcedCall::Function(_) => self.text.len(),
            // The last brace closes the call, not its arguments; it may be the one at the end.
            ForcedCall::Any => {
                let trimmed = self.text.trim_end();
                trimmed.strip_suffix('}').map_or(trimmed.len(), str::len).max(start)
            }
        };
        let piece = self.text[(start + self.sent).min(end)..end].to_owned();
        self.sent += piece.len();
        let piece = if last { piece.trim_end().to_owned() } else { piece };
        if !self.opened {
            self.opened = true;
            let name = match &self.forced {
                ForcedCall::Function(name) => name.clone(),
                ForcedCall::Any => called_name(&self.text[..start]),
            };
            return Some(json!([{
                "index": 0, "id": self.id, "type": "function",
                "function": {"name": name, "arguments": piece},
            }]));
        }
        (!piece.is_empty()).then(|| json!([{"index": 0, "function": {"arguments": piece}}]))
    }

    /// OpenAI's `finish_reason` for a forced call that came to its end.
    fn finish_reason(&self) -> &'static str {
        match self.forced {
            // As its guide to function calling has it: a named function ends with "stop".
            ForcedCall::Function(_) => "stop",
            ForcedCall::Any => "tool_calls",
        }
    }
}

/// Where the value of `arguments` begins in `{"name": "f", "arguments": …`. The schema puts the
/// name, which is one of ours, before it.
fn arguments_start(text: &str) -> Option<usize> {
    let key = text.find("\"arguments\"")? + "\"arguments\"".len();
    let colon = key + text[key..].find(':')? + 1;
    let value = colon + text[colon..].find(|c: char| !c.is_whitespace())?;
    Some(value)
}

fn called_name(before: &str) -> String {
    let object = before.trim_end().trim_end_matches(':').trim_end();
    let object = object.strip_suffix("\"arguments\"").unwrap_or(object).trim_end().trim_end_matches(',');
    serde_json::from_str::<Value>(&format!("{object}}}"))
        .ok()
        .and_then(|call| call.get("name").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_no_chunk_is_refused() {
        for event in ["{", r#"{"choices": [3]}"#, r#"{"choices": [{"delta": "x", "text": "{}"}]}"#] {
            let mut shaper = CallShaper::new(ForcedCall::Function("weather".into()), "call_1".into());
            assert_eq!(
                shaper.reshape(event.as_bytes()).unwrap_err().kind,
                Kind::ProtocolViolation,
                "{event}"
            );
        }
    }

    /// The name, the arguments and the finish_reason of a call whose text comes in pieces.
    fn shape(forced: ForcedCall, text: &str, step: usize) -> (String, String, Value) {
        let mut shaper = CallShaper::new(forced, "call_1".into());
        let (mut name, mut arguments, mut reason) = (String::new(), String::new(), Value::Null);
        let pieces: Vec<String> =
            text.chars().collect::<Vec<_>>().chunks(step).map(|piece| piece.iter().collect()).collect();
        let closing = [(String::new(), json!("stop"))];
        for (piece, finish) in pieces.into_iter().map(|piece| (piece, Value::Null)).chain(closing) {
            let event =
                json!({"choices": [{"delta": {"content": piece}, "finish_reason": finish}]}).to_string();
            let event: Value = serde_json::from_slice(&shaper.reshape(event.as_bytes()).unwrap()).unwrap();
            let choice = &event["choices"][0];
            let function = &choice["delta"]["tool_calls"][0]["function"];
            name.push_str(function["name"].as_str().unwrap_or_default());
            arguments.push_str(function["arguments"].as_str().unwrap_or_default());
            reason = choice["finish_reason"].clone();
        }
        (name, arguments, reason)
    }

    #[test]
    fn text_becomes_a_call_however_it_is_cut() {
        let arguments = "{\"city\": \"a}b\", \"more\": {\"x\": 1}}";
        let any = format!("{{\"name\": \"weather\", \"arguments\": {arguments} }}\n");
        for step in 1..any.len() {
            let named = shape(ForcedCall::Function("weather".into()), arguments, step);
            assert_eq!(named, ("weather".into(), arguments.into(), json!("stop")));
            let (name, made, reason) = shape(ForcedCall::Any, &any, step);
            assert_eq!((name.as_str(), made.trim_end(), reason), ("weather", arguments, json!("tool_calls")));
        }
    }
}
