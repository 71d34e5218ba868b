//! Pieces of tool calls as engines stream them, put into OpenAI's form: each call has an `index` of
//! its own, and begins with its `id`, its name and `arguments`.
//!
//! Which call a piece belongs to is told in many ways:
//!
//! - by `index`, as OpenAI does it; but Ollama and LiteLLM send several calls with index 0, and an
//!   `id` and a name for each;
//! - by nothing, where each call comes in one piece (older Ollama, Gemini);
//! - by an `index` that differs between a call's first piece and the rest of it (SGLang);
//! - with the name again in each piece (TGI), or a new `id` (vLLM before 0.9), or with `""` or null
//!   where there is nothing to add (DashScope, SGLang).

use serde_json::{Map, Value, json};

use crate::raw::{Held, mark};

/// The calls of one choice.
pub(crate) struct Calls {
    /// What the ids of calls begin with that have none.
    id: String,
    calls: Vec<Call>,
}

#[derive(Default)]
struct Call {
    /// The engine's own index.
    index: Option<i64>,
    id: String,
    name: String,
    arguments: String,
    /// How much of the arguments has been handed on.
    sent: usize,
    opened: bool,
    held: Held,
}

/// A piece, whatever its form.
#[derive(Default)]
struct Piece {
    index: Option<i64>,
    id: String,
    name: String,
    arguments: String,
    kind: Option<Value>,
    /// Fields of an engine's own: of the call, and of its function.
    others: Map<String, Value>,
    function_others: Map<String, Value>,
}

impl Calls {
    pub(crate) fn new(id: String) -> Calls {
        Calls { id, calls: Vec::new() }
    }

    /// Takes the `tool_calls` of a delta, and gives what OpenAI's delta has in their place.
    pub(crate) fn read(&mut self, raw: &str) -> Vec<Value> {
        let pieces = match serde_json::from_str(&mark(raw)) {
            Ok(Value::Array(pieces)) => pieces,
            // TGI before 3.0 sends the one call by itself.
            Ok(piece @ Value::Object(_)) => vec![piece],
            _ => Vec::new(),
        };
        let pieces = pieces.into_iter().filter_map(Piece::read);
        pieces.filter_map(|piece| self.add(piece)).collect()
    }

    /// What has been kept of calls that never got a name.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        let unopened = |call: &Call| !call.opened;
        let ids = &self.id;
        let calls = self.calls.iter_mut().enumerate().filter(|(_, call)| unopened(call));
        calls.map(|(position, call)| call.write(ids, position, Piece::default())).collect()
    }

    fn add(&mut self, mut piece: Piece) -> Option<Value> {
        let position = match self.find(&piece) {
            Some(position) => position,
            None => {
                self.calls.push(Call { index: piece.index, ..Call::default() });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[position];
        if call.id.is_empty() {
            call.id = std::mem::take(&mut piece.id);
        }
        let named = call.take_name(&piece.name);
        piece.arguments = call.held.join(&piece.arguments);
        call.arguments.push_str(&piece.arguments);
        let says = named
            || call.sent < call.arguments.len()
            || !piece.others.is_empty()
            || !piece.function_others.is_empty();
        // OpenAI's first piece has the name.
        let waits = !call.opened && call.name.is_empty();
        (!waits && (!call.opened || says)).then(|| call.write(&self.id, position, piece))
    }

    fn find(&self, piece: &Piece) -> Option<usize> {
        let last = self.calls.len().checked_sub(1)?;
        let found = match piece.index {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index)),
            None if !piece.id.is_empty() => self.calls.iter().rposition(|call| call.id == piece.id),
            None => Some(last),
        };
        match found {
            Some(position) if self.calls[position].is_over(piece) => None,
            Some(position) => Some(position),
            // More of what has begun: only a call's beginning has its name.
            None if piece.name.is_empty()
                && (piece.index.is_none() || !self.calls[last].name.is_empty() && piece.id.is_empty()) =>
            {
                Some(last)
            }
            None => None,
        }
    }
}

impl Call {
    /// Whether a piece for the same place begins another call.
    fn is_over(&self, piece: &Piece) -> bool {
        if piece.name.is_empty() || self.name.is_empty() {
            return false;
        }
        if !piece.id.is_empty() && !self.id.is_empty() {
            return piece.id != self.id;
        }
        let is_whole = serde_json::from_str::<Map<String, Value>>(&self.arguments).is_ok();
        // Without ids: after the end of its arguments a call says no more.
        is_whole && (piece.name != self.name || !piece.arguments.is_empty())
    }

    /// Takes a piece's name, and says whether there is more of it than before.
    fn take_name(&mut self, name: &str) -> bool {
        if name.is_empty() || self.name.starts_with(name) {
            return false;
        }
        match name.strip_prefix(&self.name) {
            Some(more) => self.name.push_str(more),
            None => self.name.push_str(name),
        }
        true
    }

    fn write(&mut self, ids: &str, position: usize, piece: Piece) -> Value {
        let arguments = self.arguments[self.sent..].to_owned();
        self.sent = self.arguments.len();
        let mut function = Map::new();
        let mut call = Map::new();
        call.insert("index".into(), position.into());
        if !self.opened {
            self.opened = true;
            if self.id.is_empty() {
                self.id = format!("call_{ids}_{position}");
            }
            call.insert("id".into(), self.id.clone().into());
            call.insert("type".into(), piece.kind.unwrap_or_else(|| "function".into()));
            function.insert("name".into(), self.name.clone().into());
        }
        function.insert("arguments".into(), arguments.into());
        function.extend(piece.function_others);
        call.insert("function".into(), function.into());
        call.extend(piece.others);
        call.into()
    }
}

impl Piece {
    fn read(value: Value) -> Option<Piece> {
        let Value::Object(mut fields) = value else { return None };
        let mut piece =
            Piece { index: fields.shift_remove("index").as_ref().and_then(index), ..Piece::default() };
        piece.id = fields.shift_remove("id").as_ref().map(text).unwrap_or_default();
        piece.kind =
            fields.shift_remove("type").filter(|kind| kind.as_str().is_some_and(|kind| !kind.is_empty()));
        let mut function = match fields.shift_remove("function") {
            Some(Value::Object(function)) => function,
            // Some engines leave out the object between.
            _ => ["name", "arguments"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), fields.shift_remove(name)?)))
                .collect(),
        };
        piece.name = function.shift_remove("name").as_ref().map(text).unwrap_or_default();
        piece.arguments = function.shift_remove("arguments").as_ref().map(text).unwrap_or_default();
        fields.retain(|_, value| !value.is_null());
        function.retain(|_, value| !value.is_null());
        piece.others = fields;
        piece.function_others = function;
        Some(piece)
    }
}

fn index(value: &Value) -> Option<i64> {
    let float = || value.as_f64().map(|float| float as i64);
    value.as_i64().or_else(float).or_else(|| value.as_str()?.parse().ok())
}

/// A text, and anything else as JSON: some engines send arguments as an object.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => json!(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calls that pieces make: id, name and arguments.
    fn calls(deltas: Value) -> Vec<(String, String, String)> {
        let mut calls = Calls::new("x".into());
        let mut made: Vec<(String, String, String)> = Vec::new();
        let deltas = deltas.as_array().unwrap();
        let written: Vec<Value> = deltas.iter().flat_map(|delta| calls.read(&delta.to_string())).collect();
        for piece in written.into_iter().chain(calls.rest()) {
            let index = piece["index"].as_u64().unwrap() as usize;
            let function = &piece["function"];
            if index == made.len() {
                assert_eq!(piece["type"], "function");
                made.push((
                    piece["id"].as_str().unwrap().into(),
                    function["name"].as_str().unwrap().into(),
                    "".into(),
                ));
            }
            made[index].2.push_str(function["arguments"].as_str().unwrap());
        }
        made
    }

    fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.into(), name.into(), arguments.into())
    }

    #[test]
    fn pieces_find_their_calls() {
        let whole = |id: Value, index: Value, name: &str, arguments: Value| json!([{"id": id, "index": index, "type": "function", "function": {"name": name, "arguments": arguments}}]);
        let two = vec![call("a", "f", "{\"x\":1}"), call("b", "f", "{\"x\":2}")];
        let (one, other) = (json!("{\"x\":1}"), json!("{\"x\":2}"));
        // OpenAI, Ollama (one index), older Ollama (none), one delta, arguments as an object.
        assert_eq!(
            calls(json!([
                whole(json!("a"), json!(0), "f", one.clone()),
                whole(json!("b"), json!(1), "f", other.clone())
            ])),
            two
        );
        assert_eq!(
            calls(json!([
                whole(json!("a"), json!(0), "f", one.clone()),
                whole(json!("b"), json!(0), "f", other.clone())
            ])),
            two
        );
        assert_eq!(
            calls(json!([
                whole(json!("a"), json!(null), "f", one.clone()),
                whole(json!("b"), json!(null), "f", other.clone())
            ])),
            two
        );
        assert_eq!(
            calls(json!([[
                whole(json!("a"), json!(null), "f", one.clone())[0],
                whole(json!("b"), json!(null), "f", other.clone())[0]
            ]])),
            two
        );
        assert_eq!(
            calls(json!([
                whole(json!("a"), json!("0"), "f", json!({"x": 1})),
                whole(json!("b"), json!(1.0), "f", json!({"x": 2}))
            ])),
            two
        );
        // No ids at all.
        let unnamed = vec![call("call_x_0", "f", "{\"x\":1}"), call("call_x_1", "f", "{\"x\":2}")];
        for (id, index) in [(json!(""), json!(0)), (json!(null), json!(null))] {
            let deltas = json!([
                whole(id.clone(), index.clone(), "f", one.clone()),
                whole(id, index, "f", other.clone())
            ]);
            assert_eq!(calls(deltas), unnamed);
        }
        // Two calls that are the same, and two without arguments.
        assert_eq!(
            calls(json!([
                whole(json!("a"), json!(0), "f", one.clone()),
                whole(json!("b"), json!(0), "f", one.clone())
            ]))
            .len(),
            2
        );
        assert_eq!(
            calls(json!([
                whole(json!("a"), json!(0), "f", json!("")),
                whole(json!("b"), json!(0), "g", json!(null))
            ])),
            vec![call("a", "f", ""), call("b", "g", "")]
        );
    }

    #[test]
    fn pieces_of_one_call_make_one_call() {
        let piece = |id: Value, index: Value, function: Value| json!([{"id": id, "index": index, "type": "function", "function": function}]);
        let rest = |id: Value, index: Value, name: Value| {
            json!([
                piece(json!("a"), json!(0), json!({"name": "f"})),
                piece(id.clone(), index.clone(), json!({"name": name, "arguments": "{\"x\":"})),
                piece(id.clone(), index.clone(), json!({"name": name, "arguments": "1}"})),
                piece(id, index, json!({})),
            ])
        };
        for deltas in [
            // OpenAI, SGLang, DashScope, vLLM with a new id each, TGI with the name again, no index, a wrong one.
            rest(json!(null), json!(0), json!(null)),
            rest(json!("a"), json!(0), json!(null)),
            rest(json!(""), json!(0), json!("")),
            rest(json!("b"), json!(0), json!(null)),
            rest(json!("a"), json!(0), json!("f")),
            rest(json!(""), json!(0), json!("f")),
            rest(json!(null), json!(null), json!(null)),
            rest(json!(null), json!(3), json!(null)),
        ] {
            assert_eq!(calls(deltas.clone()), vec![call("a", "f", "{\"x\":1}")], "{deltas}");
        }
        // A name in pieces, or after the first piece.
        assert_eq!(
            calls(json!([
                piece(json!("a"), json!(0), json!({"name": "get_"})),
                piece(json!(null), json!(0), json!({"name": "time"}))
            ]))
            .len(),
            1
        );
        assert_eq!(
            calls(json!([
                piece(json!("a"), json!(0), json!({"arguments": "{"})),
                piece(json!(null), json!(0), json!({"name": "f", "arguments": "}"}))
            ])),
            vec![call("a", "f", "{}")]
        );
        assert_eq!(
            calls(json!([[{"id": "a", "name": "f", "arguments": {}}], 3, null, [null, "x"]])),
            vec![call("a", "f", "{}")]
        );
        assert_eq!(calls(json!([[{"index": 0}]])), vec![call("call_x_0", "", "")]);
    }

    #[test]
    fn an_engines_own_fields_stay() {
        let mut calls = Calls::new("x".into());
        let made = calls.read(r#"{"id": "a", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "s"}}}"#);
        assert_eq!(made[0]["extra_content"]["google"]["thought_signature"], "s");
        let made = calls.read(r#"[{"index": 0, "function": {"arguments": "\ud83d"}}]"#);
        assert!(made.is_empty());
        assert_eq!(
            calls.read(r#"[{"index": 0, "function": {"arguments": "\ude00"}}]"#)[0]["function"]["arguments"],
            "😀"
        );
    }
}
