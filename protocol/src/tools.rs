//! Tool calls that must happen: `tool_choice` `required`, or a named function.
//!
//! Engines differ in whether they enforce these (llama.cpp's server does not), but all that
//! constrain their output by a JSON schema can be made to. So the choice becomes a schema and an
//! instruction, and the text that comes out is shaped into `tool_calls`.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::schema::move_references;

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
    keep_allowed(parameters)?;
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
                "must be \"none\", \"auto\", \"required\", {\"type\": \"function\", …} or {\"type\": \"allowed_tools\", …}",
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
            let mut definitions = Map::new();
            let mut calls: Vec<Value> =
                functions.iter().map(|function| function.call_schema(&mut definitions)).collect();
            let mut schema = if calls.len() == 1 { calls.remove(0) } else { json!({"anyOf": calls}) };
            if !definitions.is_empty() {
                schema["$defs"] = definitions.into();
            }
            schema
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

/// Turns `allowed_tools` into what it stands for: fewer tools, and a choice among them.
fn keep_allowed(parameters: &mut Map<String, Value>) -> Result<()> {
    let Some(allowed) = parameters
        .get("tool_choice")
        .filter(|choice| choice["type"] == "allowed_tools")
        .map(|choice| &choice["allowed_tools"])
    else {
        return Ok(());
    };
    let path = "tool_choice.allowed_tools";
    let mode = allowed["mode"].clone();
    if mode != "auto" && mode != "required" {
        return Err(Error::invalid(format!("{path}.mode"), "must be \"auto\" or \"required\""));
    }
    let names: Vec<Value> = match &allowed["tools"] {
        Value::Array(tools) if !tools.is_empty() => {
            tools.iter().map(|tool| tool["function"]["name"].clone()).collect()
        }
        _ => return Err(Error::invalid(format!("{path}.tools"), "must be an array of at least one tool")),
    };
    let Some(Value::Array(tools)) = parameters.get_mut("tools") else {
        return Err(Error::invalid("tools", "must have at least one tool for this tool_choice"));
    };
    let has = |name: &Value| !name.is_null() && tools.iter().any(|tool| tool["function"]["name"] == *name);
    if let Some(index) = names.iter().position(|name| !has(name)) {
        return Err(Error::invalid(format!("{path}.tools[{index}]"), "names none of the tools"));
    }
    tools.retain(|tool| names.contains(&tool["function"]["name"]));
    parameters.insert("tool_choice".into(), mode);
    Ok(())
}

struct Function {
    name: String,
    description: Value,
    parameters: Value,
}

impl Function {
    /// The schema of a call. Parameters that refer to themselves become a definition: references
    /// lead from the root, and engines follow them through objects, but not all through lists.
    fn call_schema(&self, definitions: &mut Map<String, Value>) -> Value {
        let mut arguments = self.parameters.clone();
        let name = format!("tool_{}", definitions.len());
        let place = format!("#/$defs/{name}");
        if move_references(&mut arguments, &place) {
            definitions.insert(name, arguments);
            arguments = json!({"$ref": place});
        }
        json!({
            "type": "object",
            "properties": {"name": {"const": self.name}, "arguments": arguments},
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
    fn a_schema_that_refers_to_itself_becomes_a_definition() {
        let mut parameters = parameters(json!("required"));
        parameters["tools"][1]["function"]["parameters"] =
            json!({"items": {"$ref": "#/$defs/X"}, "$defs": {"X": {}}});
        force_call(&mut parameters).unwrap();
        let schema = &parameters["response_format"]["json_schema"]["schema"];
        assert_eq!(schema["anyOf"][1]["properties"]["arguments"], json!({"$ref": "#/$defs/tool_0"}));
        assert_eq!(schema["$defs"]["tool_0"]["items"], json!({"$ref": "#/$defs/tool_0/$defs/X"}));
    }

    #[test]
    fn allowed_tools_are_a_choice_among_fewer() {
        let allow = |mode: &str, names: &[&str]| {
            let tools: Vec<Value> =
                names.iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect();
            let mut parameters =
                parameters(json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}));
            force_call(&mut parameters).map(|forced| (forced, parameters))
        };
        let (forced, parameters) = allow("auto", &["time"]).unwrap();
        assert_eq!((forced, &parameters["tool_choice"]), (None, &json!("auto")));
        assert_eq!(parameters["tools"], json!([tools()[1]]));
        let (forced, parameters) = allow("required", &["time"]).unwrap();
        assert_eq!(forced, Some(ForcedCall::Any));
        assert_eq!(
            parameters["response_format"]["json_schema"]["schema"]["properties"]["name"],
            json!({"const": "time"})
        );
        for (mode, names, param) in [
            ("always", &["time"][..], "tool_choice.allowed_tools.mode"),
            ("auto", &[], "tool_choice.allowed_tools.tools"),
            ("auto", &["time", "nosuch"], "tool_choice.allowed_tools.tools[1]"),
        ] {
            assert_eq!(allow(mode, names).unwrap_err().param.as_deref(), Some(param));
        }
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
