//! A chat template applied to messages, as Hugging Face's `apply_chat_template` does it.
//!
//! Engines such as llama.cpp take no template from a request, so it is rendered here and the text
//! goes to the engine's `/completions`. A template is somebody's program: it runs in minijinja,
//! which reaches no file and no network, and it gets a bounded amount of work. That bound is not
//! tight (values may nest without end), so the extension runs it in a process of its own.

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::Map;

use crate::error::{Error, Kind, Result};
use crate::python_json::{Style, dumps};

/// The work that a template may do, in minijinja's instructions. The longest template known to us
/// needs some hundred for each message, so this serves conversations of thousands.
const FUEL: u64 = 2_000_000;

/// The most blanks that `tojson` indents by.
const MAX_INDENT: usize = 16;

/// The characters of a template's own error that are told.
const MAX_PROBLEM: usize = 500;

/// The model's special tokens, which most templates write out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    pub bos_token: String,
    pub eos_token: String,
}

/// Whether a template mentions special tokens, so that they are worth asking the engine for.
pub fn needs_special_tokens(template: &str) -> bool {
    template.contains("bos_token") || template.contains("eos_token")
}

/// Renders `template` over `messages`.
///
/// `variables` are further names for the template: `tools`, and what the caller gave as
/// `chat_template_kwargs`.
pub fn render(
    template: &str,
    messages: &serde_json::Value,
    tokens: &SpecialTokens,
    variables: Map<String, serde_json::Value>,
) -> Result<String> {
    let mut environment = Environment::new();
    // The same settings as in transformers' `_compile_jinja_template`.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(template_error)?);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", strftime_now);

    let mut context = Map::new();
    context.insert("bos_token".into(), tokens.bos_token.clone().into());
    context.insert("eos_token".into(), tokens.eos_token.clone().into());
    context.insert("add_generation_prompt".into(), true.into());
    context.extend(variables);
    context.insert("messages".into(), messages.clone());
    environment
        .template_from_named_str("chat_template", &without_generation_tags(template))
        .and_then(|template| template.render(Value::from(Serde(context))))
        .map_err(template_error)
}

fn template_error(error: minijinja::Error) -> Error {
    let place = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    // A template can put anything into it, of any length.
    let problem: String = match error.detail() {
        Some(detail) => detail.chars().take(MAX_PROBLEM).collect(),
        None => error.kind().to_string(),
    };
    match error.kind() {
        ErrorKind::OutOfFuel => Error {
            param: Some("chat_template".into()),
            ..Error::new(
                Kind::InvalidRequest,
                format!("chat_template: does not end within {FUEL} steps{place}"),
            )
        },
        ErrorKind::SyntaxError => {
            Error::invalid("chat_template", format!("is not a Jinja template: {problem}{place}"))
        }
        _ => {
            Error::invalid("chat_template", format!("cannot be applied to these messages: {problem}{place}"))
        }
    }
}

/// `tojson` as transformers has it: Python's `json.dumps`. minijinja's own escapes for HTML.
fn tojson(value: Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<String, minijinja::Error> {
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.or(ensure_ascii).unwrap_or(false);
    let indent = options.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none());
    let separators = options.get::<Option<Value>>("separators")?.filter(|pair| !pair.is_none());
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(count) => Some(" ".repeat(usize::try_from(count)?.min(MAX_INDENT))),
    };
    let separators = match separators {
        None => None,
        Some(pair) => {
            let texts: Vec<String> = pair.try_iter()?.map(|text| text.to_string()).collect();
            let [item, key] = <[String; 2]>::try_from(texts).map_err(|_| {
                minijinja::Error::new(ErrorKind::InvalidOperation, "separators must be a pair of texts")
            })?;
            Some((item, key))
        }
    };
    let json = serde_json::to_value(&value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(dumps(&json, &Style { ensure_ascii, sort_keys, ..Style::new(indent, separators) }))
}

/// transformers' tag `{% generation %}` marks what an assistant said, for training. Its body is
/// rendered as it is, for which minijinja has `if`.
fn without_generation_tags(template: &str) -> Cow<'_, str> {
    if !template.contains("generation") {
        return template.into();
    }
    let mut result = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        result.push_str(&rest[..start]);
        let name = tag.trim_matches(['-', '+', ' ', '\n', '\t']);
        let replaced = match name {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        };
        result.push_str("{%");
        result.push_str(&replaced);
        result.push_str("%}");
        rest = &rest[start + length + 2..];
    }
    result.push_str(rest);
    result.into()
}

fn strftime_now(format: String) -> Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
        .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(template: &str, messages: serde_json::Value) -> Result<String> {
        let tokens = SpecialTokens { bos_token: "<s>".into(), eos_token: "</s>".into() };
        render(template, &messages, &tokens, Map::new())
    }

    #[test]
    fn a_hugging_face_template_gives_what_transformers_gives() {
        let zephyr = "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
        let text = apply(
            zephyr,
            json!([{"role": "system", "content": "Be a pirate"}, {"role": "user", "content": "Ahoy"}]),
        )
        .unwrap();
        assert_eq!(text, "<|system|>\nBe a pirate</s>\n<|user|>\nAhoy</s>\n<|assistant|>\n");
    }

    #[test]
    fn python_methods_and_tojson_work() {
        let text = apply(
            "{{ messages[0].content.strip().upper() }} {{ messages | tojson }} {{ {'a': '<b>'} | tojson(indent=2) }}",
            json!([{"role": "user", "content": " hi "}]),
        )
        .unwrap();
        assert_eq!(text, "HI [{\"role\": \"user\", \"content\": \" hi \"}] {\n  \"a\": \"<b>\"\n}");
    }

    #[test]
    fn a_template_can_refuse_messages() {
        let error = apply("{{ raise_exception('no system role') }}", json!([])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("chat_template"));
        assert!(error.message.contains("no system role"), "{}", error.message);
    }

    #[test]
    fn a_template_that_does_not_parse_is_refused() {
        let error = apply("{% for %}", json!([])).unwrap_err();
        assert!(error.message.contains("is not a Jinja template"), "{}", error.message);
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let forever = "{% macro f(n) %}{% for i in range(99999) %}{{ i }}{% for j in range(99999) %}{{ j }}{% endfor %}{% endfor %}{% endmacro %}{{ f(1) }}";
        let error = apply(forever, json!([])).unwrap_err();
        assert!(error.message.contains("does not end"), "{}", error.message);
    }

    #[test]
    fn the_date_can_be_asked_for() {
        let year = apply("{{ strftime_now('%Y') }}", json!([])).unwrap();
        assert_eq!(year.len(), 4);
    }
}
