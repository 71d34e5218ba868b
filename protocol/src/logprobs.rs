//! Log probabilities without the likely tokens beside them.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Empties the `top_logprobs` of each token in an engine's event.
///
/// Engines differ in what they tell when asked for none: llama.cpp's server tells twenty, one, or
/// no log probabilities at all. Every engine can tell one, which is dropped here.
pub fn drop_alternatives(event: &[u8]) -> Result<Vec<u8>> {
    let mut event: Value = serde_json::from_slice(event).map_err(Error::not_a_chunk)?;
    for choice in event.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
        for part in ["content", "refusal"] {
            let tokens = choice.pointer_mut(&format!("/logprobs/{part}")).and_then(Value::as_array_mut);
            for token in tokens.into_iter().flatten().filter_map(Value::as_object_mut) {
                token.insert("top_logprobs".into(), json!([]));
            }
        }
    }
    Ok(event.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_their_own_log_probabilities() {
        let token = |top: Value| json!({"token": "a", "logprob": -0.5, "top_logprobs": top});
        let event = |top: Value| json!({"choices": [{"logprobs": {"content": [token(top)], "refusal": null}}, {"logprobs": null}]});
        let made = drop_alternatives(event(json!([{"token": "a", "logprob": -0.5}])).to_string().as_bytes());
        assert_eq!(serde_json::from_slice::<Value>(&made.unwrap()).unwrap(), event(json!([])));
    }
}
