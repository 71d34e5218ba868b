//! Tool calls that must happen: `tool_choice` `required`, or a named function.
//!
//! Engines differ in whether they enforce these (llama.cpp's server does not), but all that
//! constrain their output by a JSON schema can be made to. So the choice becomes a schema and an
//! instruction, and the text that comes out is shaped into `tool_calls`.

use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};

/// A call that the model has to make.
#[derive(Clone, Debug, PartialEq)]
pub enum ForcedCall {
    /// This function: the text is its arguments.
    Function(String),
    /// Any of the tools: the text is an object with `name` and `arguments`.
    Any,
}

/// Checks `tools` and `tool_choice`. If a call is forced, puts what forces it into the parameters.
pub fn force_call(parameters: &mut Map<String, Value>) -> Result<Option<ForcedCall>> {
    let functions = functions(parameters.get("tools"))?;
    let forced = match parameters.get("tool_choice") {
        None => return Ok(None),
        Some(Value::String(choice)) if choice == "none" || choice == "auto" => return Ok(None),
        Some(Value::String(choice)) if choice == "required" => ForcedCall::Any,
        Some(Value::Object(choice)) => {
            let name =
                choice.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
            let Some(name) = name else {
                return Err(Error::invalid(
                    "tool_choice.function.name",
                    "is required: the name of one of the tools",
                ));
            };
            ForcedCall::Function(name.to_owned())
        }
        Some(_) => {
            return Err(Error::invalid(
                "tool_choice",
                "must be \"none\", \"auto\", \"required\", or {\"type\": \"function\", \"function\": {\"name\": …}}",
            ));
        }
    };
    if functions.is_empty() {
        return Err(Error::invalid("tools", "must have at least one tool for this tool_choice"));
    }
    let schema = match &forced {
        ForcedCall::Function(name) => match functions.iter().find(|function| function.name == *name) {
            Some(function) => function.parameters.clone(),
            None => {
                return Err(Error::invalid(
                    "tool_choice.function.name",
                    format!("{name:?} is none of the tools"),
                ));
            }
        },
        ForcedCall::Any => {
            let calls: Vec<Value> = functions.iter().map(Function::call_schema).collect();
            if calls.len() == 1 { calls[0].clone() } else { json!({"anyOf": calls}) }
        }
    };
    let instruction = instruction(&forced, &functions);
    parameters.shift_remove("tools");
    parameters.shift_remove("tool_choice");
    parameters.shift_remove("parallel_tool_calls");
    parameters.insert(
        "response_format".into(),
        json!({"type": "json_schema", "json_schema": {"name": "tool_call", "strict": true, "schema": schema}}),
    );
    add_instruction(parameters, &instruction);
    Ok(Some(forced))
}

struct Function {
    name: String,
    description: Value,
    parameters: Value,
}

impl Function {
    fn call_schema(&self) -> Value {
        json!({
            "type": "object",
            "properties": {"name": {"const": self.name}, "arguments": self.parameters},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    }
}

fn functions(tools: Option<&Value>) -> Result<Vec<Function>> {
    let tools = match tools {
        None => return Ok(Vec::new()),
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(Error::invalid("tools", "must be an array of tools")),
    };
    let function = |(index, tool): (usize, &Value)| {
        let path = format!("tools[{index}]");
        if tool.get("type").and_then(Value::as_str) != Some("function") {
            return Err(Error::invalid(format!("{path}.type"), "must be \"function\""));
        }
        let function = tool.get("function").and_then(Value::as_object);
        let Some(name) = function.and_then(|function| function.get("name")).and_then(Value::as_str) else {
            return Err(Error::invalid(format!("{path}.function.name"), "is required: a string"));
        };
        let get =
            |key: &str| function.and_then(|function| function.get(key)).filter(|value| !value.is_null());
        let parameters =
            get("parameters").cloned().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        if !parameters.is_object() {
            return Err(Error::invalid(
                format!("{path}.function.parameters"),
                "must be a JSON schema: an object",
            ));
        }
        let description = get("description").cloned().unwrap_or(Value::Null);
        Ok(Function { name: name.to_owned(), description, parameters })
    };
    tools.iter().enumerate().map(function).collect()
}

/// Tells the model what it is to write: a schema only keeps it from writing anything else.
fn instruction(forced: &ForcedCall, functions: &[Function]) -> String {
    let describe = |function: &Function| {
        json!({"name": function.name, "description": function.description, "parameters": function.parameters})
            .to_string()
    };
    match forced {
        ForcedCall::Function(name) => {
            let function: String =
                functions.iter().filter(|function| function.name == *name).map(describe).collect();
            format!("Call this function. Answer with its arguments only, as one JSON object.\n{function}")
        }
        ForcedCall::Any => {
            let functions: Vec<String> = functions.iter().map(describe).collect();
            format!(
                "Call one of these functions. Answer only with a JSON object: {{\"name\": …, \"arguments\": {{…}}}}.\n{}",
                functions.join("\n")
            )
        }
    }
}

/// Adds to the system message, or makes one: templates allow one only, and only as the first.
fn add_instruction(parameters: &mut Map<String, Value>, instruction: &str) {
    let Some(Value::Array(messages)) = parameters.get_mut("messages") else { return };
    match messages.first_mut() {
        Some(first) if first["role"] == "system" || first["role"] == "developer" => {
            match &mut first["content"] {
                Value::String(text) => {
                    text.push_str("\n\n");
                    text.push_str(instruction);
                }
                Value::Array(parts) => parts.push(json!({"type": "text", "text": instruction})),
                _ => (),
            }
        }
        _ => messages.insert(0, json!({"role": "system", "content": instruction})),
    }
}

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
        let mut event: Value = serde_json::from_slice(event).map_err(no_chunk)?;
        for choice in event.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(choice) = choice else { return Err(no_chunk("a choice is no object")) };
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
                    _ => return Err(no_chunk("a delta is no object")),
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

fn no_chunk(problem: impl std::fmt::Display) -> Error {
    Error::new(Kind::ProtocolViolation, format!("the engine sent an event that is no chunk: {problem}"))
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

    fn tools() -> Value {
        let schema =
            json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        json!([
            {"type": "function", "function": {"name": "weather", "parameters": schema}},
            {"type": "function", "function": {"name": "time"}},
        ])
    }

    fn parameters(tool_choice: Value) -> Map<String, Value> {
        let messages = json!([{"role": "user", "content": "hi"}]);
        let body = json!({"messages": messages, "tools": tools(), "tool_choice": tool_choice});
        body.as_object().unwrap().clone()
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

    #[test]
    fn a_forced_call_becomes_a_schema_and_an_instruction() {
        let mut parameters = parameters(json!("required"));
        assert_eq!(force_call(&mut parameters).unwrap(), Some(ForcedCall::Any));
        let schema = &parameters["response_format"]["json_schema"]["schema"];
        assert_eq!(schema["anyOf"][0]["properties"]["name"], json!({"const": "weather"}));
        assert_eq!(parameters["messages"][0]["role"], "system");
        assert!(parameters["messages"][0]["content"].as_str().unwrap().contains("weather"));
        assert!(!parameters.contains_key("tools"));
    }

    #[test]
    fn auto_and_none_are_the_engines_to_decide() {
        for choice in [json!("auto"), json!("none")] {
            let mut parameters = parameters(choice);
            assert_eq!(force_call(&mut parameters).unwrap(), None);
            assert!(parameters.contains_key("tools"));
        }
    }

    #[test]
    fn a_bad_choice_or_tool_is_named() {
        let unknown = json!({"type": "function", "function": {"name": "nosuch"}});
        for (choice, tools, param) in [
            (json!(1), tools(), "tool_choice"),
            (json!("always"), tools(), "tool_choice"),
            (json!({"type": "function"}), tools(), "tool_choice.function.name"),
            (unknown, tools(), "tool_choice.function.name"),
            (json!("required"), json!([]), "tools"),
            (json!("required"), json!("weather"), "tools"),
            (json!("required"), json!([{"type": "custom"}]), "tools[0].type"),
            (json!("required"), json!([{"type": "function"}]), "tools[0].function.name"),
        ] {
            let mut parameters = parameters(choice);
            parameters.insert("tools".into(), tools);
            assert_eq!(force_call(&mut parameters).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
