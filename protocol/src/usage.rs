//! Tokens counted, over all choices of a request.
//!
//! Engines send `usage` in the last chunk, in every chunk (vLLM's `continuous_usage_stats`), in
//! parts (LiteLLM), as floats, or as `{}`; and with fields of their own, such as OpenRouter's `cost`.

use serde_json::{Map, Value};

use crate::raw::mark;

const PROMPT: &str = "prompt_tokens";
const COMPLETION: &str = "completion_tokens";
const TOTAL: &str = "total_tokens";

/// What an engine has counted for one choice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Map<String, Value>);

impl Counted {
    /// Takes what an engine sends as `usage`. Counts only grow, and null erases nothing.
    pub(crate) fn add(&mut self, raw: &str) {
        let Ok(Value::Object(mut sent)) = serde_json::from_str(&mark(raw)) else { return };
        // As OpenAI's newer API calls them, and some engines.
        for (other, name) in [("input_tokens", PROMPT), ("output_tokens", COMPLETION)] {
            if !sent.contains_key(name)
                && let Some(value) = sent.get(other).cloned()
            {
                sent.insert(name.into(), value);
            }
        }
        for (name, value) in sent {
            match name.as_str() {
                PROMPT | COMPLETION | TOTAL => {
                    let most = count(&value).max(self.get(&name));
                    if let Some(most) = most {
                        self.0.insert(name, most.into());
                    }
                }
                _ if value.is_null() => drop(self.0.entry(name).or_insert(Value::Null)),
                _ => drop(self.0.insert(name, value)),
            }
        }
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(count)
    }

    fn prompt(&self) -> Option<u64> {
        self.get(PROMPT).or_else(|| self.get(TOTAL)?.checked_sub(self.get(COMPLETION)?))
    }

    pub(crate) fn completion(&self) -> Option<u64> {
        self.get(COMPLETION).or_else(|| self.get(TOTAL)?.checked_sub(self.get(PROMPT)?))
    }

    /// Whether the engine has counted anything.
    fn counts(&self) -> bool {
        [PROMPT, COMPLETION, TOTAL].iter().any(|name| self.get(name).is_some())
    }
}

/// The usage of all choices; the prompt, which they share, counts once. Null where the engine does
/// not count.
pub(crate) fn total(choices: &[Counted]) -> Value {
    let Some(first) = choices.first().filter(|_| choices.iter().all(Counted::counts)) else {
        return Value::Null;
    };
    let prompt = first.prompt().unwrap_or(0);
    // Saturating: the numbers are an engine's, and can be any.
    let completion =
        choices.iter().fold(0, |sum: u64, choice| sum.saturating_add(choice.completion().unwrap_or(0)));
    let sum = prompt.saturating_add(completion);
    // An engine may count more than the two, such as tokens of reasoning.
    let told = first.get(TOTAL).filter(|told| choices.len() == 1 && *told > sum);
    let mut usage = Map::new();
    usage.insert(COMPLETION.into(), completion.into());
    usage.insert(PROMPT.into(), prompt.into());
    usage.insert(TOTAL.into(), told.unwrap_or(sum).into());
    for (name, value) in choices.iter().flat_map(|choice| &choice.0) {
        if [PROMPT, COMPLETION, TOTAL].contains(&name.as_str()) || usage.contains_key(name) {
            continue;
        }
        let is_details = matches!(name.as_str(), "prompt_tokens_details" | "completion_tokens_details");
        if is_details && !value.is_object() {
            continue;
        }
        let values: Vec<&Value> = choices.iter().filter_map(|choice| choice.0.get(name)).collect();
        let of_all = if name.starts_with("prompt") { value.clone() } else { add_up(&values) };
        usage.insert(name.clone(), if is_details { whole_numbers(of_all) } else { of_all });
    }
    usage.into()
}

/// Numbers added up, in objects name by name. Of anything else the first that is not null counts.
fn add_up(values: &[&Value]) -> Value {
    let values: Vec<&Value> = values.iter().copied().filter(|value| !value.is_null()).collect();
    match values.as_slice() {
        [] => Value::Null,
        [one] => (*one).clone(),
        values if values.iter().all(|value| value.is_u64()) => {
            values.iter().filter_map(|value| value.as_u64()).fold(0, u64::saturating_add).into()
        }
        values if values.iter().all(|value| value.is_number()) => {
            values.iter().filter_map(|value| value.as_f64()).sum::<f64>().into()
        }
        values if values.iter().all(|value| value.is_object()) => {
            let mut sums = Map::new();
            for (name, _) in values.iter().filter_map(|value| value.as_object()).flatten() {
                if !sums.contains_key(name) {
                    let of_name: Vec<&Value> = values.iter().filter_map(|value| value.get(name)).collect();
                    sums.insert(name.clone(), add_up(&of_name));
                }
            }
            sums.into()
        }
        [first, ..] => (*first).clone(),
    }
}

/// Details are whole numbers, or null.
fn whole_numbers(details: Value) -> Value {
    match details {
        Value::Object(details) => details
            .into_iter()
            .map(|(name, value)| (name, count(&value).map_or(value, Value::from)))
            .collect(),
        other => other,
    }
}

/// A number of tokens, also where an engine sends a float or a text.
fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            let float = || number.as_f64().filter(|float| *float >= 0.0).map(|float| float.round() as u64);
            number.as_u64().or_else(float)
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn counted(parts: &[Value]) -> Counted {
        let mut counted = Counted::default();
        parts.iter().for_each(|part| counted.add(&part.to_string()));
        counted
    }

    #[test]
    fn what_an_engine_counts_in_parts_or_oddly_is_still_counted() {
        let full = json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9});
        for (parts, expected) in [
            (vec![full.clone()], json!([2, 7, 9])),
            (vec![json!({"prompt_tokens": 7, "total_tokens": 7}), full.clone()], json!([2, 7, 9])),
            (vec![full.clone(), json!({"prompt_tokens": 0, "completion_tokens": 0})], json!([2, 7, 9])),
            (vec![full.clone(), json!({}), json!({"prompt_tokens": null})], json!([2, 7, 9])),
            (vec![json!({"prompt_tokens": 7.0, "completion_tokens": 2.0})], json!([2, 7, 9])),
            (vec![json!({"prompt_tokens": "7", "completion_tokens": "2"})], json!([2, 7, 9])),
            (vec![json!({"prompt_tokens": 7, "total_tokens": 9})], json!([2, 7, 9])),
            (vec![json!({"completion_tokens": 2, "total_tokens": 9})], json!([2, 7, 9])),
            (vec![json!({"prompt_tokens": 5, "total_tokens": 5})], json!([0, 5, 5])),
            (vec![json!({"input_tokens": 7, "output_tokens": 2})], json!([2, 7, 9])),
            (
                vec![json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 30})],
                json!([2, 7, 30]),
            ),
            (vec![json!({})], json!([null, null, null])),
            (vec![json!([])], json!([null, null, null])),
            (vec![json!({"prompt_tokens": -1, "completion_tokens": null})], json!([null, null, null])),
        ] {
            let usage = total(&[counted(&parts)]);
            assert_eq!(json!([usage[COMPLETION], usage[PROMPT], usage[TOTAL]]), expected, "{parts:?}");
        }
    }

    #[test]
    fn an_engines_own_counts_are_kept_and_added_up() {
        let one = json!({
            "prompt_tokens": 7, "completion_tokens": 2, "cost": 0.5, "queue": 3, "unit": "USD", "is_byok": false,
            "prompt_tokens_details": {"cached_tokens": 4.0}, "completion_tokens_details": {"reasoning_tokens": 1},
        });
        let usage = total(&[counted(std::slice::from_ref(&one)), counted(std::slice::from_ref(&one))]);
        let expected = json!({
            "completion_tokens": 4, "prompt_tokens": 7, "total_tokens": 11, "cost": 1.0, "queue": 6, "unit": "USD",
            "is_byok": false,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
        });
        assert_eq!(usage, expected);
        let odd =
            counted(&[json!({"prompt_tokens": 7, "completion_tokens": 2, "completion_tokens_details": []})]);
        assert_eq!(total(&[odd]), json!({"completion_tokens": 2, "prompt_tokens": 7, "total_tokens": 9}));
    }
}
