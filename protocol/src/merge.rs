//! The rules by which pieces of a streamed object become the object. `python/pgml/merging.py` has
//! the same rules, and a test holds both to the streams in `tests/streams/`.
//!
//! - Null and `""` never replace what has come.
//! - A text of a message (`content`, `reasoning_content`, …) grows. Names, ids and the like come
//!   whole, however often an engine repeats them.
//! - Inside of a message's parts, only texts that are known to come in pieces grow.
//! - A list's parts are told apart by their `index`. Where they have none, a piece of text goes to
//!   the last part, if that is of the same `type`; all else is a part of its own, once.
//! - A text and a list make a list, in which the text is a part.

use serde_json::{Map, Value, json};

/// Texts that come whole wherever they are.
const WHOLE: [&str; 22] = [
    "channel",
    "created",
    "finish_reason",
    "format",
    "id",
    "index",
    "language",
    "model",
    "name",
    "object",
    "phase",
    "provider",
    "recipient",
    "role",
    "signature",
    "status",
    "stop_reason",
    "thought_signature",
    "title",
    "type",
    "url",
    "encrypted_content",
];
/// What the names of such texts end in.
const WHOLE_ENDINGS: [&str; 5] = ["_id", "_type", "_reason", "_url", "_signature"];
/// Texts that come in pieces inside of a part.
const GROWING: [&str; 13] = [
    "arguments",
    "code",
    "content",
    "data",
    "delta",
    "input",
    "output",
    "reasoning",
    "refusal",
    "summary",
    "text",
    "thinking",
    "transcript",
];

/// Where an object is, which decides what becomes of its texts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Message,
    /// Inside of a message, or beside it in its choice.
    Part,
}

impl Place {
    fn grows(self, name: &str) -> bool {
        match self {
            Place::Message => {
                !WHOLE.contains(&name) && !WHOLE_ENDINGS.iter().any(|ending| name.ends_with(ending))
            }
            Place::Part => GROWING.contains(&name),
        }
    }
}

/// Adds a piece of a field.
pub(crate) fn add(object: &mut Map<String, Value>, name: &str, piece: Value, place: Place) {
    match object.get_mut(name) {
        None => drop(object.insert(name.to_owned(), piece)),
        Some(so_far) => merge(so_far, piece, place.grows(name)),
    }
}

fn merge(so_far: &mut Value, piece: Value, grows: bool) {
    match (so_far, piece) {
        (_, Value::Null) => (),
        (so_far @ Value::Null, piece) => *so_far = piece,
        (Value::String(text), Value::String(more)) if grows => text.push_str(&more),
        (_, Value::String(more)) if more.is_empty() => (),
        (Value::Object(fields), Value::Object(pieces)) => {
            for (name, piece) in pieces {
                add(fields, &name, piece, Place::Part);
            }
        }
        (Value::Array(parts), Value::Array(pieces)) => {
            pieces.into_iter().for_each(|piece| extend(parts, piece))
        }
        (Value::Array(parts), Value::String(more)) if grows => extend(parts, text_part(more)),
        (so_far @ Value::String(_), Value::Array(pieces)) if grows => {
            let text = so_far.take().as_str().unwrap_or_default().to_owned();
            let mut parts = if text.is_empty() { Vec::new() } else { vec![text_part(text)] };
            pieces.into_iter().for_each(|piece| extend(&mut parts, piece));
            *so_far = parts.into();
        }
        (so_far, piece) => *so_far = piece,
    }
}

fn text_part(text: String) -> Value {
    json!({"type": "text", "text": text})
}

/// Adds a piece to the part of a list that it belongs to.
fn extend(parts: &mut Vec<Value>, piece: Value) {
    let index = piece.get("index").filter(|index| index.is_number());
    let position = match index {
        Some(index) => {
            parts.iter().position(|part| part.get("index") == Some(index) && same(part, &piece, "type"))
        }
        None => parts.len().checked_sub(1).filter(|last| continues(&parts[*last], &piece)),
    };
    let part = position.and_then(|position| parts[position].as_object_mut());
    match (part, piece) {
        (Some(part), Value::Object(fields)) => {
            fields.into_iter().for_each(|(name, piece)| add(part, &name, piece, Place::Part));
        }
        (_, piece) => {
            // Some engines say again what they have said, such as an annotation.
            if piece.get("type").is_none() || !parts.contains(&piece) {
                parts.push(piece);
            }
        }
    }
}

/// Whether two objects do not differ in a field.
fn same(one: &Value, other: &Value, name: &str) -> bool {
    let said = |value: &Value| value.get(name).filter(|value| !value.is_null() && **value != "").cloned();
    match (said(one), said(other)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// Whether a piece without an index is more of a part's text.
fn continues(part: &Value, piece: &Value) -> bool {
    let is_text = |value: &Value| {
        let mut fields = value.as_object().into_iter().flatten();
        fields
            .any(|(name, value)| GROWING.contains(&name.as_str()) && (value.is_string() || value.is_array()))
    };
    let is_signature = |value: &Value| value.get("signature").is_some_and(Value::is_string);
    piece.get("type").is_some()
        && piece.get("type") == part.get("type")
        && same(part, piece, "id")
        && is_text(part)
        && (is_text(piece) || is_signature(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_message_become_the_message() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let thinking = |text_: &str| json!({"type": "thinking", "thinking": [text(text_)]});
        let note = |url: &str| json!({"type": "url_citation", "url_citation": {"url": url}});
        for (name, pieces, expected) in [
            ("content", json!(["a", null, "", "b"]), json!("ab")),
            ("content", json!([[text("a")], "b", "c"]), json!([text("abc")])),
            (
                "content",
                json!(["a", [thinking("b")], [thinking("c")], "d"]),
                json!([text("a"), thinking("bc"), text("d")]),
            ),
            (
                "reasoning_details",
                json!([
                    [{"type": "reasoning.text", "text": "a", "format": "f", "index": 0, "signature": null}],
                    [{"type": "reasoning.text", "text": "b", "format": "f", "index": 0, "signature": "s"}],
                    [{"type": "reasoning.encrypted", "data": "x", "format": "f", "index": 0}],
                ]),
                json!([
                    {"type": "reasoning.text", "text": "ab", "format": "f", "index": 0, "signature": "s"},
                    {"type": "reasoning.encrypted", "data": "x", "format": "f", "index": 0},
                ]),
            ),
            (
                "reasoning_details",
                json!([
                    [{"type": "reasoning.summary", "summary": "a"}], [{"type": "reasoning.summary", "summary": "b"}],
                    [{"type": "reasoning.text", "text": "c"}], [{"type": "reasoning.text", "signature": "s"}],
                ]),
                json!([
                    {"type": "reasoning.summary", "summary": "ab"}, {"type": "reasoning.text", "text": "c", "signature": "s"},
                ]),
            ),
            ("annotations", json!([[note("a")], [note("b")], [note("b")]]), json!([note("a"), note("b")])),
            (
                "annotations",
                json!([
                    [{"index": 0, "type": "url_citation", "url_citation": {"url": "u"}}],
                    [{"index": 0, "type": "url_citation", "url_citation": {"title": "t", "url": "u"}}],
                ]),
                json!([{"index": 0, "type": "url_citation", "url_citation": {"url": "u", "title": "t"}}]),
            ),
            (
                "audio",
                json!([{"id": "a", "transcript": "x", "data": "y"}, {"id": "a", "transcript": "x", "data": "y"}]),
                json!({"id": "a", "transcript": "xx", "data": "yy"}),
            ),
            ("token_ids", json!([[1, 2], [2]]), json!([1, 2, 2])),
            ("reasoning_id", json!(["r", "r", ""]), json!("r")),
            ("provider", json!([null, "P", "P"]), json!("P")),
            (
                "function_call",
                json!([{"name": "f", "arguments": "{"}, {"name": "f", "arguments": "}"}]),
                json!({"name": "f", "arguments": "{}"}),
            ),
        ] {
            let mut message = Map::new();
            for piece in pieces.as_array().unwrap() {
                add(&mut message, name, piece.clone(), Place::Message);
            }
            assert_eq!(message[name], expected, "{pieces}");
        }
    }

    #[test]
    fn beside_a_message_texts_come_whole() {
        let mut choice = Map::new();
        for (name, piece) in [
            ("native_finish_reason", json!("stop")),
            ("native_finish_reason", json!("stop")),
            ("matched_stop", json!(null)),
            ("matched_stop", json!(7)),
            ("matched_stop", json!(null)),
            ("token_ids", json!([1])),
            ("token_ids", json!([1])),
            ("content_filter_results", json!({"hate": {"filtered": false, "severity": "safe"}})),
            (
                "content_filter_results",
                json!({"hate": {"filtered": false, "severity": "low"}, "self_harm": {"filtered": false}}),
            ),
        ] {
            add(&mut choice, name, piece, Place::Part);
        }
        let filters =
            json!({"hate": {"filtered": false, "severity": "low"}, "self_harm": {"filtered": false}});
        let expected = json!({
            "native_finish_reason": "stop", "matched_stop": 7, "token_ids": [1, 1], "content_filter_results": filters,
        });
        assert_eq!(Value::Object(choice), expected);
    }
}
