//! What the engine is asked: the messages, or a text that a chat template made of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use pgml_protocol::exchange::RequestBody;
use pgml_protocol::template;
use pgml_protocol::{Request, Result};
use serde_json::{Map, Value, json};

use crate::engine::Engine;
use crate::options::DefaultTemperature;
use crate::sandbox;
use crate::special_tokens;

pub enum Prompt {
    /// Messages, to which the engine applies the model's own template.
    Messages,
    /// A text, as it is.
    Text(String),
}

impl Prompt {
    /// Renders the request's chat template, if it has one.
    pub fn of(request: &Request, engine: &Engine) -> Result<Prompt> {
        let Some(template) = &request.chat_template else {
            return Ok(Prompt::Messages);
        };
        let tokens = special_tokens::needed_by(template, engine)?;
        let mut text = sandbox::run(&engine.request_id, || {
            template::render(template, request.messages(), &tokens, template_variables(request))
        })?;
        let begins = !tokens.bos_token.is_empty() && text.starts_with(&tokens.bos_token);
        if begins && special_tokens::engine_adds_bos(engine)? {
            text.drain(..tokens.bos_token.len());
        }
        Ok(Prompt::Text(text))
    }

    /// The path below `base_url` that takes such a prompt.
    pub fn path(&self) -> &'static str {
        match self {
            Prompt::Messages => "/chat/completions",
            Prompt::Text(_) => "/completions",
        }
    }

    /// The bodies that the engine gets, one for each choice: the caller's parameters, and what makes
    /// it stream. They differ in their seed only, so all else is written once.
    pub fn bodies(self, request: &Request, engine: &Engine) -> Vec<RequestBody> {
        let mut changed = self.changes(request, engine);
        let seed = request.parameters.get("seed");
        if seed.is_some() {
            changed.insert("seed", None);
        }
        let mut writer = Writer::default();
        for (name, value) in &request.parameters {
            if !changed.contains_key(name.as_str()) {
                writer.member(name, value);
            }
        }
        for (name, value) in &changed {
            if let Some(value) = value {
                writer.member(name, value);
            }
        }
        let shared: Rc<[u8]> = writer.0.into();
        let end = |index| match seed {
            // With one seed for all, every choice would be the same.
            Some(seed) => format!(",\"seed\":{}}}", later_seed(seed, index)).into_bytes(),
            None => b"}".to_vec(),
        };
        (0..request.n).map(|index| RequestBody { shared: shared.clone(), own: end(index) }).collect()
    }

    /// What is said differently from the caller's parameters; `None` is left out.
    fn changes(self, request: &Request, engine: &Engine) -> BTreeMap<&'static str, Option<Value>> {
        let mut changed = BTreeMap::new();
        changed.insert("model", Some(engine.model.as_str().into()));
        // Always a stream: an engine notices that nobody reads a stream any more, and stops.
        changed.insert("stream", Some(true.into()));
        if engine.options.stream_options && request.stream_options {
            changed.insert("stream_options", Some(json!({"include_usage": true})));
        }
        if request.temperature_is_default {
            match engine.options.default_temperature {
                DefaultTemperature::Unset => (),
                DefaultTemperature::Engine => drop(changed.insert("temperature", None)),
                DefaultTemperature::Set(value) => drop(changed.insert("temperature", Some(value.into()))),
            }
        }
        if let Prompt::Text(text) = self {
            put_text(&mut changed, &request.parameters, text);
        }
        changed
    }
}

/// Writes the members of a JSON object, up to its closing brace.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn member(&mut self, name: &str, value: &Value) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        // A vector takes all bytes, and a value has nothing in it that JSON cannot say.
        let _ = serde_json::to_writer(&mut self.0, name);
        self.0.push(b':');
        let _ = serde_json::to_writer(&mut self.0, value);
    }
}

/// Turns the body of a chat completion into one of the older endpoint, `/completions`.
fn put_text(
    changed: &mut BTreeMap<&'static str, Option<Value>>,
    parameters: &Map<String, Value>,
    text: String,
) {
    changed.insert("messages", None);
    changed.insert("prompt", Some(text.into()));
    // llama.cpp's older endpoint has other names for what holds a text to a schema, and for the
    // number of likely tokens to report.
    match parameters.get("response_format").and_then(|format| format.get("type")).and_then(Value::as_str) {
        Some("json_schema") => {
            let schema = parameters["response_format"]["json_schema"]["schema"].clone();
            changed.insert("json_schema", Some(schema));
        }
        Some("json_object") => drop(changed.insert("json_schema", Some(json!({"type": "object"})))),
        _ => (),
    }
    if let Some(count) = parameters.get("top_logprobs").cloned() {
        changed.insert("n_probs", Some(count));
    }
    // The older endpoint knows the limit by its older name only.
    if let Some(limit) = parameters.get("max_completion_tokens") {
        changed.insert("max_completion_tokens", None);
        if !parameters.contains_key("max_tokens") {
            changed.insert("max_tokens", Some(limit.clone()));
        }
    }
}

/// What a template may use besides messages and special tokens.
fn template_variables(request: &Request) -> Map<String, Value> {
    let mut variables = Map::new();
    if let Some(Value::Object(arguments)) = request.parameters.get("chat_template_kwargs") {
        variables.extend(arguments.clone());
    }
    if let Some(tools) = request.parameters.get("tools") {
        variables.insert("tools".into(), tools.clone());
    }
    variables
}

/// The seed of a choice: the request's own for the first, and another for each one after it.
fn later_seed(seed: &Value, index: usize) -> Value {
    match (seed.as_i64(), seed.as_u64()) {
        (Some(seed), _) => seed.wrapping_add(index as i64).into(),
        (None, Some(seed)) => seed.wrapping_add(index as u64).into(),
        // It has been checked to be one of the two.
        (None, None) => Value::Null,
    }
}
