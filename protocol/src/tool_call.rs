//! Text that has to be a tool call, shaped into OpenAI's `tool_calls` as it comes.

use serde_json::{Value, json};

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

    /// Takes more text, and gives the `tool_calls` delta that it makes, if any. `last` is whether
    /// the text ends here.
    pub(crate) fn push(&mut self, more: &str, last: bool) -> Option<Value> {
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

    /// OpenAI's `finish_reason` for a forced call that came to its end; `None` where there is none.
    pub(crate) fn finish_reason(&self) -> Option<&'static str> {
        self.opened.then_some(match self.forced {
            // As its guide to function calling has it: a named function ends with "stop".
            ForcedCall::Function(_) => "stop",
            ForcedCall::Any => "tool_calls",
        })
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

    /// The name, the arguments and the finish_reason of a call whose text comes in pieces.
    fn shape(forced: ForcedCall, text: &str, step: usize) -> (String, String, Option<&'static str>) {
        let mut shaper = CallShaper::new(forced, "call_1".into());
        let (mut name, mut arguments) = (String::new(), String::new());
        let characters: Vec<char> = text.chars().collect();
        let pieces = characters.chunks(step).map(|piece| (piece.iter().collect::<String>(), false));
        for (piece, last) in pieces.chain([(String::new(), true)]) {
            let Some(calls) = shaper.push(&piece, last) else { continue };
            let function = &calls[0]["function"];
            name.push_str(function["name"].as_str().unwrap_or_default());
            arguments.push_str(function["arguments"].as_str().unwrap_or_default());
        }
        (name, arguments, shaper.finish_reason())
    }

    #[test]
    fn text_becomes_a_call_however_it_is_cut() {
        let arguments = "{\"city\": \"a}b\", \"more\": {\"x\": 1}}";
        let any = format!("{{\"name\": \"weather\", \"arguments\": {arguments} }}\n");
        for step in 1..any.len() {
            let named = shape(ForcedCall::Function("weather".into()), arguments, step);
            assert_eq!(named, ("weather".into(), arguments.into(), Some("stop")));
            let (name, made, reason) = shape(ForcedCall::Any, &any, step);
            assert_eq!((name.as_str(), made.trim_end(), reason), ("weather", arguments, Some("tool_calls")));
        }
    }
}
