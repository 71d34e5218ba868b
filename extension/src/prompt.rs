//! What the engine is asked: the messages, or a text that a chat template made of them.

use pgml_protocol::template;
use pgml_protocol::{Request, Result};
use serde_json::{Map, Value, json};

use crate::engine::Engine;
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

    /// The body that the engine gets: the caller's parameters, and what makes it stream.
    pub fn body(self, request: &Request, model: &str) -> Map<String, Value> {
        let mut body = request.parameters.clone();
        body.insert("model".into(), model.into());
        // Always a stream: an engine notices that nobody reads a stream any more, and stops.
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({"include_usage": true}));
        if let Prompt::Text(text) = self {
            put_text(&mut body, text);
        }
        body
    }
}

/// Turns the body of a chat completion into one of the older endpoint, `/completions`.
fn put_text(body: &mut Map<String, Value>, text: String) {
    body.shift_remove("messages");
    body.insert("prompt".into(), text.into());
    // llama.cpp's older endpoint has other names for what holds a text to a schema, and for the
    // number of likely tokens to report.
    match body.get("response_format").and_then(|format| format.get("type")).and_then(Value::as_str) {
        Some("json_schema") => {
            let schema = body["response_format"]["json_schema"]["schema"].clone();
            body.insert("json_schema".into(), schema);
        }
        Some("json_object") => drop(body.insert("json_schema".into(), json!({"type": "object"}))),
        _ => (),
    }
    if let Some(count) = body.get("top_logprobs").cloned() {
        body.insert("n_probs".into(), count);
    }
    // The older endpoint knows the limit by its older name only.
    if let Some(limit) = body.shift_remove("max_completion_tokens") {
        body.entry("max_tokens").or_insert(limit);
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
pub fn later_seed(seed: &Value, index: usize) -> Value {
    match (seed.as_i64(), seed.as_u64()) {
        (Some(seed), _) => seed.wrapping_add(index as i64).into(),
        (None, Some(seed)) => seed.wrapping_add(index as u64).into(),
        // It has been checked to be one of the two.
        (None, None) => Value::Null,
    }
}
