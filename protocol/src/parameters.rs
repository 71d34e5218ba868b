//! Every request parameter of OpenAI's `chat.completions.create`, and what becomes of it.
//!
//! `docs/parameters.md` has the same table for people, and a test holds it against the parameter
//! list of the installed openai package.

use Treatment::{Harmless, Honoured, Refused};

/// What becomes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It does what OpenAI says it does.
    Honoured,
    /// It is accepted and passed on; an engine that does not know it ignores it, and the answer is
    /// right all the same.
    Harmless,
    /// No engine behind a database can do it: the reason.
    Refused(&'static str),
}

const AUDIO: &str = "open chat models answer in text only";
const FUNCTIONS: &str = "OpenAI has replaced it: use tools and tool_choice";

pub const PARAMETERS: &[(&str, Treatment)] = &[
    ("audio", Refused(AUDIO)),
    ("frequency_penalty", Honoured),
    ("function_call", Refused(FUNCTIONS)),
    ("functions", Refused(FUNCTIONS)),
    ("logit_bias", Honoured),
    ("logprobs", Honoured),
    ("max_completion_tokens", Honoured),
    ("max_tokens", Honoured),
    ("messages", Honoured),
    ("metadata", Harmless),
    ("modalities", Refused(AUDIO)),
    ("model", Honoured),
    ("moderation", Refused("there is no moderation model behind a database")),
    ("n", Honoured),
    ("parallel_tool_calls", Honoured),
    ("prediction", Harmless),
    ("presence_penalty", Honoured),
    ("prompt_cache_key", Harmless),
    ("prompt_cache_options", Harmless),
    ("prompt_cache_retention", Harmless),
    ("reasoning_effort", Harmless),
    ("response_format", Honoured),
    ("safety_identifier", Harmless),
    ("seed", Honoured),
    ("service_tier", Harmless),
    ("stop", Honoured),
    ("store", Harmless),
    ("stream", Honoured),
    ("stream_options", Honoured),
    ("temperature", Honoured),
    ("tool_choice", Honoured),
    ("tools", Honoured),
    ("top_logprobs", Honoured),
    ("top_p", Honoured),
    ("user", Harmless),
    ("verbosity", Harmless),
    ("web_search_options", Refused("an engine behind a database searches no web")),
];

/// Why a parameter is refused, if it is.
pub fn refusal(name: &str, value: &serde_json::Value) -> Option<&'static str> {
    // Text alone is what every model answers in.
    if name == "modalities" && *value == serde_json::json!(["text"]) {
        return None;
    }
    PARAMETERS.iter().find_map(|(known, treatment)| match treatment {
        Refused(reason) if *known == name => Some(*reason),
        _ => None,
    })
}
