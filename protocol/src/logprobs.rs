//! Log probabilities without the likely tokens beside them.

use serde_json::{Value, json};

/// Empties the `top_logprobs` of each token in the log probabilities of a choice.
///
/// Engines differ in what they tell when asked for none: llama.cpp's server tells twenty, one, or
/// no log probabilities at all. Every engine can tell one, which is dropped here.
pub(crate) fn without_alternatives(logprobs: &str) -> String {
    let Ok(mut logprobs) = serde_json::from_str::<Value>(logprobs) else { return logprobs.to_owned() };
    for part in ["content", "refusal"] {
        let tokens = logprobs.get_mut(part).and_then(Value::as_array_mut);
        for token in tokens.into_iter().flatten().filter_map(Value::as_object_mut) {
            token.insert("top_logprobs".into(), json!([]));
        }
    }
    logprobs.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_their_own_log_probabilities() {
        let token = |top: Value| json!({"token": "a", "logprob": -0.5, "top_logprobs": top});
        let logprobs = |top: Value| json!({"content": [token(top)], "refusal": null}).to_string();
        let made = without_alternatives(&logprobs(json!([{"token": "a", "logprob": -0.5}])));
        assert_eq!(made, logprobs(json!([])));
    }
}
