//! What a chat completion request may say.
//!
//! This is the one place where a request is checked, whether it came from Python or from SQL.
//! The rules are OpenAI's (its API reference for "Create chat completion"), and the parameters
//! that pgml adds are `chat_template` and the object form of `model`.

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::headers::{self, Headers};
use crate::parameters::refusal;
use crate::tools::{ForcedCall, force_call};

/// The spec's default. OpenAI's own is 1.
pub const DEFAULT_TEMPERATURE: f64 = 0.8;
/// OpenAI's own limit.
pub const MAX_N: u64 = 128;

/// A request that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model's name as the caller gave it. Answers carry it unchanged.
    pub model: String,
    /// The other keys of a model object (`revision`, `device_map`, `torch_dtype`, …).
    pub model_options: Map<String, Value>,
    /// How many choices to make.
    pub n: usize,
    /// A Jinja template to use in place of the model's own.
    pub chat_template: Option<String>,
    /// Whether a stream ends with a chunk that carries `usage`.
    pub include_usage: bool,
    /// Whether the engine may be told to count tokens (`stream_options`).
    pub stream_options: bool,
    /// Whether the temperature is our default, and not the caller's.
    pub temperature_is_default: bool,
    /// Whether `usage` tells what the request cost, if the caller says.
    pub resources: Option<bool>,
    /// Log probabilities were asked for, but none of the tokens that were as likely.
    pub no_top_logprobs: bool,
    /// A tool call that the answer has to be.
    pub forced_call: Option<ForcedCall>,
    /// Headers of the request to the engine: the trace context that `extra_headers` gave.
    pub headers: Headers,
    /// All that goes to the engine as it is: `messages`, `temperature`, `max_tokens` and the rest.
    pub parameters: Map<String, Value>,
}

impl Request {
    /// Checks a request body.
    ///
    /// A parameter that is `null` counts as not given, as in OpenAI's clients. A `temperature` or
    /// `stream_options` that is `null` is not sent to the engine, which then does as it does.
    pub fn parse(body: Value) -> Result<Request> {
        let Value::Object(mut body) = body else {
            return Err(Error::invalid("request", format!("must be a JSON object, not {}", kind_of(&body))));
        };
        // Of these two, null is an answer: that the engine shall not get them at all.
        let leaves_out = |name: &str| body.get(name) == Some(&Value::Null);
        let (no_temperature, no_stream_options) = (leaves_out("temperature"), leaves_out("stream_options"));
        body.retain(|_, value| !value.is_null());

        if let Some((name, reason)) =
            body.iter().find_map(|(name, value)| Some((name, refusal(name, value)?)))
        {
            let error = Error::new(Kind::Unsupported, format!("{name}: is not supported: {reason}"));
            return Err(Error { param: Some(name.clone()), ..error });
        }

        let (model, model_options) = model(body.shift_remove("model"))?;
        check_messages(body.get("messages"))?;
        let n = positive_integer(&body, "n")?.unwrap_or(1);
        if n > MAX_N {
            return Err(Error::invalid("n", format!("must be at most {MAX_N}, not {n}")));
        }
        body.shift_remove("n");
        positive_integer(&body, "max_tokens")?;
        positive_integer(&body, "max_completion_tokens")?;
        let temperature_is_default =
            number_between(&body, "temperature", 0.0, 2.0)?.is_none() && !no_temperature;
        if temperature_is_default {
            body.insert("temperature".into(), DEFAULT_TEMPERATURE.into());
        }
        let chat_template = match body.shift_remove("chat_template") {
            None => None,
            Some(Value::String(template)) => Some(template),
            Some(other) => return Err(wrong_type("chat_template", "a string", &other)),
        };
        let resources = match body.shift_remove("resources") {
            None => None,
            Some(Value::Bool(wanted)) => Some(wanted),
            Some(other) => return Err(wrong_type("resources", "true or false", &other)),
        };
        let include_usage = include_usage(body.shift_remove("stream_options"))?;
        check_sampling(&body)?;
        let no_top_logprobs = body.get("logprobs") == Some(&true.into())
            && body.get("top_logprobs").is_none_or(|count| count.as_u64() == Some(0));
        if no_top_logprobs {
            // Not every engine tells the log probability of a token alone.
            body.insert("top_logprobs".into(), 1.into());
        }
        check_response_format(body.get("response_format"))?;
        let forced_call = force_call(&mut body)?;
        let headers = headers::checked(body.shift_remove("extra_headers"))?;
        // Which of the two functions was called decides whether the answer is streamed.
        match body.shift_remove("stream") {
            None | Some(Value::Bool(_)) => (),
            Some(other) => return Err(wrong_type("stream", "true or false", &other)),
        }

        Ok(Request {
            model,
            model_options,
            n: n as usize,
            chat_template,
            include_usage,
            stream_options: !no_stream_options,
            temperature_is_default,
            resources,
            no_top_logprobs,
            forced_call,
            headers,
            parameters: body,
        })
    }

    /// The model's revision (a branch, tag or commit of its repository), if one was asked for.
    pub fn revision(&self) -> Option<&str> {
        self.model_options.get("revision").and_then(Value::as_str)
    }

    pub fn messages(&self) -> &Value {
        &self.parameters["messages"]
    }
}

fn model(model: Option<Value>) -> Result<(String, Map<String, Value>)> {
    match model {
        None => Err(Error::invalid("model", "is required: a model's name, or an object with `model`")),
        Some(Value::String(name)) => Ok((not_empty("model", name)?, Map::new())),
        Some(Value::Object(mut options)) => {
            options.retain(|_, value| !value.is_null());
            let name = match options.shift_remove("model") {
                Some(Value::String(name)) => not_empty("model.model", name)?,
                Some(other) => return Err(wrong_type("model.model", "a model's name", &other)),
                None => {
                    return Err(Error::invalid(
                        "model.model",
                        "is required: a model object names the model under the key `model`",
                    ));
                }
            };
            match options.get("revision") {
                None | Some(Value::String(_)) => Ok((name, options)),
                Some(other) => Err(wrong_type("model.revision", "a string", other)),
            }
        }
        Some(other) => Err(wrong_type("model", "a model's name, or an object with `model`", &other)),
    }
}

fn check_messages(messages: Option<&Value>) -> Result<()> {
    let Some(messages) = messages else {
        return Err(Error::invalid("messages", "is required: an array of objects with `role` and `content`"));
    };
    let Value::Array(messages) = messages else {
        return Err(wrong_type("messages", "an array of objects with `role` and `content`", messages));
    };
    if messages.is_empty() {
        return Err(Error::invalid("messages", "must have at least one message"));
    }
    messages.iter().enumerate().try_for_each(|(i, message)| check_message(&format!("messages[{i}]"), message))
}

fn check_message(path: &str, message: &Value) -> Result<()> {
    let Value::Object(message) = message else {
        return Err(wrong_type(path, "an object with `role` and `content`", message));
    };
    let role = match message.get("role") {
        Some(Value::String(role)) if !role.is_empty() => role,
        Some(Value::String(_)) => {
            return Err(Error::invalid(format!("{path}.role"), "must not be empty"));
        }
        Some(other) => return Err(wrong_type(format!("{path}.role"), "a string", other)),
        None => {
            return Err(Error::invalid(
                format!("{path}.role"),
                "is required: `system`, `user`, `assistant`, `tool`, or another that the model knows",
            ));
        }
    };
    match message.get("content") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => {
            parts.iter().enumerate().try_for_each(|(i, part)| match part.get("type") {
                Some(Value::String(_)) => Ok(()),
                _ => Err(Error::invalid(
                    format!("{path}.content[{i}]"),
                    "must be an object with a `type`, such as {\"type\": \"text\", \"text\": …}",
                )),
            })
        }
        // An assistant that called a tool, or refused, may have said nothing.
        None | Some(Value::Null)
            if role == "assistant"
                && ["tool_calls", "function_call", "refusal", "audio"]
                    .iter()
                    .any(|key| message.get(*key).is_some_and(|value| !value.is_null())) =>
        {
            Ok(())
        }
        None | Some(Value::Null) => Err(Error::invalid(
            format!("{path}.content"),
            "is required: a string, or an array of content parts",
        )),
        Some(other) => {
            Err(wrong_type(format!("{path}.content"), "a string or an array of content parts", other))
        }
    }
}

/// How tokens are chosen, and what is told of them.
fn check_sampling(body: &Map<String, Value>) -> Result<()> {
    number_between(body, "top_p", 0.0, 1.0)?;
    number_between(body, "frequency_penalty", -2.0, 2.0)?;
    number_between(body, "presence_penalty", -2.0, 2.0)?;
    if let Some(seed) = body.get("seed").filter(|seed| !seed.is_i64() && !seed.is_u64()) {
        let problem = format!("must be a whole number of at most 64 bits, not {}", shown(seed));
        return Err(Error::invalid("seed", problem));
    }
    match body.get("stop") {
        None | Some(Value::String(_)) => (),
        Some(Value::Array(stops)) if stops.iter().all(Value::is_string) => (),
        Some(_) => {
            return Err(Error::invalid("stop", "must be a string, or an array of nothing but strings"));
        }
    }
    let logprobs = match body.get("logprobs") {
        None => false,
        Some(Value::Bool(logprobs)) => *logprobs,
        Some(other) => return Err(wrong_type("logprobs", "true or false", other)),
    };
    if let Some(count) = body.get("top_logprobs").filter(|count| count.is_f64()) {
        return Err(Error::invalid("top_logprobs", format!("must be a whole number, not {count}")));
    }
    match number_between(body, "top_logprobs", 0.0, 20.0)? {
        Some(_) if !logprobs => Err(Error::invalid("top_logprobs", "needs logprobs to be true")),
        _ => match body.get("logit_bias") {
            None | Some(Value::Object(_)) => Ok(()),
            Some(other) => Err(wrong_type("logit_bias", "an object of token ids and numbers", other)),
        },
    }
}

fn check_response_format(format: Option<&Value>) -> Result<()> {
    let Some(format) = format else { return Ok(()) };
    match format.get("type").and_then(Value::as_str) {
        Some("text" | "json_object") => Ok(()),
        Some("json_schema") if format.pointer("/json_schema/schema").is_some_and(Value::is_object) => Ok(()),
        Some("json_schema") => {
            Err(Error::invalid("response_format.json_schema.schema", "is required: a JSON schema"))
        }
        _ => Err(Error::invalid(
            "response_format",
            "must be {\"type\": \"text\"}, {\"type\": \"json_object\"} or {\"type\": \"json_schema\", \"json_schema\": …}",
        )),
    }
}

fn include_usage(options: Option<Value>) -> Result<bool> {
    let options = match options {
        None => return Ok(false),
        Some(Value::Object(options)) => options,
        Some(other) => return Err(wrong_type("stream_options", "an object", &other)),
    };
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(include)) => Ok(*include),
        Some(other) => Err(wrong_type("stream_options.include_usage", "true or false", other)),
    }
}

fn positive_integer(body: &Map<String, Value>, param: &str) -> Result<Option<u64>> {
    match body.get(param) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) if number > 0 => Ok(Some(number)),
            _ if value.is_number() => {
                Err(Error::invalid(param, format!("must be a whole number of at least 1, not {value}")))
            }
            _ => Err(wrong_type(param, "a whole number of at least 1", value)),
        },
    }
}

fn number_between(body: &Map<String, Value>, param: &str, low: f64, high: f64) -> Result<Option<f64>> {
    match body.get(param) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            Some(_) => Err(Error::invalid(param, format!("must be from {low} to {high}, not {value}"))),
            None => Err(wrong_type(param, "a number", value)),
        },
    }
}

fn not_empty(param: &str, value: String) -> Result<String> {
    if value.is_empty() { Err(Error::invalid(param, "must not be empty")) } else { Ok(value) }
}

pub(crate) fn wrong_type(param: impl Into<String>, expected: &str, value: &Value) -> Error {
    Error::invalid(param, format!("must be {expected}, not {}", kind_of(value)))
}

/// A number as it is, and of anything else what it is.
fn shown(value: &Value) -> String {
    if value.is_number() { value.to_string() } else { kind_of(value).to_owned() }
}

/// Says what a value is without saying the value, which may be secret or long.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(changes: Value) -> Result<Request> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Request::parse(body)
    }

    #[test]
    fn defaults_are_the_specs() {
        let request = request(json!({})).unwrap();
        assert_eq!(request.n, 1);
        assert_eq!(request.parameters["temperature"], json!(0.8));
        assert_eq!(request.parameters.get("max_tokens"), None);
        assert_eq!(request.chat_template, None);
    }

    #[test]
    fn a_model_object_keeps_its_options() {
        let request =
            request(json!({"model": {"model": "m", "revision": "main", "device_map": "auto"}})).unwrap();
        assert_eq!(request.model, "m");
        assert_eq!(request.revision(), Some("main"));
        assert_eq!(request.model_options["device_map"], "auto");
    }

    #[test]
    fn null_counts_as_not_given() {
        let request = request(json!({"max_tokens": null, "top_p": null, "seed": null})).unwrap();
        assert_eq!(request.parameters["temperature"], json!(0.8));
        assert!(request.temperature_is_default && request.stream_options);
        assert!(!request.parameters.contains_key("seed"));
    }

    #[test]
    fn null_keeps_temperature_and_stream_options_from_the_engine() {
        let request = request(json!({"temperature": null, "stream_options": null})).unwrap();
        assert!(!request.parameters.contains_key("temperature"));
        assert!(!request.temperature_is_default && !request.stream_options);
    }

    #[test]
    fn an_assistant_that_called_a_tool_needs_no_content() {
        request(json!({"messages": [
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": "4"},
        ]}))
        .unwrap();
    }

    #[test]
    fn each_bad_parameter_is_named() {
        for (changes, param) in [
            (json!({"model": null}), "model"),
            (json!({"model": ""}), "model"),
            (json!({"model": 3}), "model"),
            (json!({"model": {"revision": "main"}}), "model.model"),
            (json!({"model": {"model": "m", "revision": 1}}), "model.revision"),
            (json!({"messages": null}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": "hi"}), "messages"),
            (json!({"messages": ["hi"]}), "messages[0]"),
            (json!({"messages": [{"content": "hi"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
            (json!({"messages": [{"role": "user", "content": 1}]}), "messages[0].content"),
            (json!({"messages": [{"role": "user", "content": ["x"]}]}), "messages[0].content[0]"),
            (json!({"max_tokens": -1}), "max_tokens"),
            (json!({"max_tokens": 1.5}), "max_tokens"),
            (json!({"max_completion_tokens": 0}), "max_completion_tokens"),
            (json!({"n": 0}), "n"),
            (json!({"n": 129}), "n"),
            (json!({"n": "2"}), "n"),
            (json!({"temperature": 2.5}), "temperature"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"top_p": -0.1}), "top_p"),
            (json!({"chat_template": 1}), "chat_template"),
            (json!({"resources": "on"}), "resources"),
            (json!({"stream_options": true}), "stream_options"),
            (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
        ] {
            let error = request(changes.clone()).expect_err(&changes.to_string());
            assert_eq!(error.param.as_deref(), Some(param), "{changes}");
            assert!(error.message.starts_with(param), "{}", error.message);
        }
    }

    #[test]
    fn a_request_that_is_no_object_is_refused() {
        assert_eq!(Request::parse(json!([])).unwrap_err().param.as_deref(), Some("request"));
    }
}
