//! The engine's chunks turned into what a caller gets.
//!
//! Engines differ in what they put into a chunk: a `role` in none, one or all of them, `null`
//! fields, a file path as `model`. Here they become equal: OpenAI's shape, the model name that the
//! caller gave, `role` in the first delta of each choice only, and one `usage` over all choices.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::chunk::{EngineChunk, Usage};
use crate::error::{Error, Kind, Result};

/// Counts of the same name, added up over all choices.
fn sum_details(usages: &[&Usage]) -> Option<Map<String, Value>> {
    let mut sums: Option<Map<String, Value>> = None;
    for (name, value) in usages.iter().filter_map(|usage| usage.completion_tokens_details.as_ref()).flatten()
    {
        let sums = sums.get_or_insert_default();
        let so_far = sums.get(name).and_then(Value::as_u64).unwrap_or(0);
        let count = value.as_u64().unwrap_or(0).saturating_add(so_far);
        sums.insert(name.clone(), count.into());
    }
    sums
}

/// What every chunk and the completion of one request share.
pub struct Head {
    pub id: String,
    pub created: u64,
    pub model: String,
}

/// What has been seen of each choice, and of the request as a whole.
struct Progress {
    head: Head,
    fingerprint: Option<String>,
    finish_reasons: Vec<Option<String>>,
    usages: Vec<Option<Usage>>,
}

impl Progress {
    fn new(head: Head, n: usize) -> Self {
        Progress { head, fingerprint: None, finish_reasons: vec![None; n], usages: vec![None; n] }
    }

    fn note(&mut self, index: usize, chunk: &EngineChunk) {
        if self.fingerprint.is_none() {
            self.fingerprint = chunk.system_fingerprint.as_deref().map(str::to_owned);
        }
        if let Some(reason) = chunk.choices.iter().find_map(|choice| choice.finish_reason.as_deref()) {
            self.finish_reasons[index] = Some(reason.to_owned());
        }
        if let Some(usage) = &chunk.usage {
            self.usages[index] = Some(usage.clone());
        }
    }

    /// The engine has ended its stream for a choice: was that the whole choice?
    fn end(&self, index: usize) -> Result<()> {
        match &self.finish_reasons[index] {
            Some(_) => Ok(()),
            None => Err(Error::new(
                Kind::ConnectionLost,
                format!("the engine ended its stream before choice {index} was finished"),
            )),
        }
    }

    /// The usage of all choices; the prompt, which they share, counts once. `None` where the
    /// engine does not count.
    fn usage(&self) -> Option<Usage> {
        let usages: Option<Vec<&Usage>> = self.usages.iter().map(Option::as_ref).collect();
        let usages = usages?;
        let first = *usages.first()?;
        // Saturating: the numbers are an engine's, and can be any.
        let completion_tokens =
            usages.iter().fold(0, |sum: u64, usage| sum.saturating_add(usage.completion_tokens));
        Some(Usage {
            completion_tokens,
            total_tokens: first.prompt_tokens.saturating_add(completion_tokens),
            completion_tokens_details: sum_details(&usages),
            ..first.clone()
        })
    }

    /// The members that stand before `choices`, with the opening brace.
    fn opening(&self, object: &str) -> String {
        format!(
            "{{\"id\":{},\"object\":\"{object}\",\"created\":{},\"model\":{},\"system_fingerprint\":{},",
            json(&self.head.id),
            self.head.created,
            json(&self.head.model),
            json(&self.fingerprint),
        )
    }
}

/// What an engine's chunks become.
pub trait Reply {
    /// Takes an engine's chunk for choice `index`.
    fn chunk(&mut self, index: usize, chunk: &EngineChunk) -> Result<()>;

    /// The engine has ended its stream for choice `index`. An error if that choice is not whole.
    fn end(&self, index: usize) -> Result<()>;
}

/// A streamed reply: chunks in, chunks out.
///
/// What all chunks of a request share is written once, and each chunk is kept as its one choice.
pub struct ChunkStream {
    progress: Progress,
    /// What every chunk starts with, up to its choices. Empty before the first.
    opening: String,
    /// Whether a chunk of each choice has been made.
    opened: Vec<bool>,
    /// The choices of the chunks that the caller has not taken yet, with commas between.
    ready: String,
    /// Where each of them ends.
    ends: VecDeque<usize>,
    /// How much of `ready` has been taken.
    taken: usize,
}

impl ChunkStream {
    pub fn new(head: Head, n: usize) -> Self {
        ChunkStream {
            progress: Progress::new(head, n),
            opening: String::new(),
            opened: vec![false; n],
            ready: String::new(),
            ends: VecDeque::new(),
            taken: 0,
        }
    }

    /// The next chunk, if one is ready.
    pub fn take_one(&mut self) -> Option<String> {
        let end = self.ends.pop_front()?;
        let chunk = format!("{}{}]}}", self.opening, &self.ready[self.taken..end]);
        self.taken = end + 1;
        if self.ends.is_empty() {
            self.clear();
        }
        Some(chunk)
    }

    /// All chunks that are ready, as one that has the choices of all.
    pub fn take_all(&mut self) -> Option<String> {
        self.ends.back()?;
        let batch = format!("{}{}]}}", self.opening, &self.ready[self.taken..]);
        self.clear();
        Some(batch)
    }

    fn clear(&mut self) {
        self.ready.clear();
        self.ends.clear();
        self.taken = 0;
    }

    /// Begins a choice, and those before it: OpenAI's clients take it that choices begin in order.
    fn open(&mut self, index: usize) {
        if self.opening.is_empty() {
            self.opening = self.progress.opening("chat.completion.chunk") + "\"choices\":[";
        }
        for earlier in 0..index {
            if !std::mem::replace(&mut self.opened[earlier], true) {
                self.begin(earlier);
                self.ready.push_str("\"role\":\"assistant\",\"content\":\"\"");
                self.finish("null", None);
            }
        }
    }

    fn begin(&mut self, index: usize) {
        if !self.ready.is_empty() {
            self.ready.push(',');
        }
        let _ = write!(self.ready, "{{\"index\":{index},\"delta\":{{");
    }

    fn finish(&mut self, logprobs: &str, finish_reason: Option<&str>) {
        let finish_reason = finish_reason.map_or(Cow::from("null"), |reason| json(reason).into());
        let _ = write!(self.ready, "}},\"logprobs\":{logprobs},\"finish_reason\":{finish_reason}}}");
        self.ends.push_back(self.ready.len());
    }

    /// The closing chunk that `stream_options.include_usage` asks for.
    pub fn usage_chunk(&self) -> String {
        let opening = self.progress.opening("chat.completion.chunk");
        format!("{opening}\"choices\":[],\"usage\":{}}}", json(&self.progress.usage()))
    }
}

impl Reply for ChunkStream {
    /// Makes the chunk that the caller gets: none where it would say nothing.
    fn chunk(&mut self, index: usize, chunk: &EngineChunk) -> Result<()> {
        self.progress.note(index, chunk);
        for choice in &chunk.choices {
            let finished = choice.finish_reason.is_some();
            if choice.news().next().is_none() && choice.logprobs.is_none() && !finished {
                continue;
            }
            let first = !self.opened[index];
            if first {
                self.open(index);
            }
            self.begin(index);
            let mut separator = "";
            if first {
                self.opened[index] = true;
                self.ready.push_str("\"role\":\"assistant\"");
                separator = ",";
            }
            for (name, value) in choice.news() {
                self.ready.push_str(separator);
                self.ready.push_str(&json(name));
                self.ready.push(':');
                self.ready.push_str(value.get());
                separator = ",";
            }
            let logprobs = choice.logprobs.map_or("null", RawValue::get);
            self.finish(logprobs, choice.finish_reason.as_deref());
        }
        Ok(())
    }

    fn end(&self, index: usize) -> Result<()> {
        self.progress.end(index)
    }
}

/// A reply in one piece: chunks in, one completion out.
pub struct Completion {
    progress: Progress,
    choices: Vec<Choice>,
}

#[derive(Clone, Default)]
struct Choice {
    message: Map<String, Value>,
    logprobs: Value,
}

impl Completion {
    pub fn new(head: Head, n: usize) -> Self {
        Completion { progress: Progress::new(head, n), choices: vec![Choice::default(); n] }
    }

    /// The text of each choice.
    pub fn contents(&self) -> impl Iterator<Item = &str> {
        self.choices
            .iter()
            .map(|choice| choice.message.get("content").and_then(Value::as_str).unwrap_or_default())
    }

    /// The `chat.completion` object.
    pub fn json(&self) -> String {
        let mut text = self.progress.opening("chat.completion");
        text.push_str("\"choices\":[");
        for (index, choice) in self.choices.iter().enumerate() {
            let mut message = Map::new();
            message.insert("role".into(), "assistant".into());
            // OpenAI's content is null where something else was said, and otherwise a text.
            let silent = ["tool_calls", "function_call", "refusal"];
            let silent = silent.iter().any(|key| choice.message.contains_key(*key));
            message.insert("content".into(), if silent { Value::Null } else { "".into() });
            message.extend(choice.message.clone());
            // Only a stream needs to say which call of several a piece belongs to.
            for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
                call.as_object_mut().map(|call| call.shift_remove("index"));
            }
            let _ = write!(
                text,
                "{}{{\"index\":{index},\"message\":{},\"logprobs\":{},\"finish_reason\":{}}}",
                if index == 0 { "" } else { "," },
                json(&message),
                choice.logprobs,
                json(&self.progress.finish_reasons[index]),
            );
        }
        let _ = write!(text, "],\"usage\":{}}}", json(&self.progress.usage()));
        text
    }
}

impl Reply for Completion {
    fn chunk(&mut self, index: usize, chunk: &EngineChunk) -> Result<()> {
        self.progress.note(index, chunk);
        for choice in &chunk.choices {
            for (name, value) in choice.news() {
                let value = serde_json::from_str(value.get()).map_err(|error| {
                    Error::new(Kind::ProtocolViolation, format!("the engine sent a broken {name}: {error}"))
                })?;
                merge(self.choices[index].message.entry(name).or_insert(Value::Null), value);
            }
            if let Some(Ok(logprobs)) = choice.logprobs.map(|raw| serde_json::from_str(raw.get())) {
                merge(&mut self.choices[index].logprobs, logprobs);
            }
        }
        Ok(())
    }

    fn end(&self, index: usize) -> Result<()> {
        self.progress.end(index)
    }
}

/// Adds a piece of a streamed value to what has come so far, as OpenAI's clients do: text grows,
/// lists of numbered parts (`tool_calls`) grow part by part, other lists are appended.
fn merge(so_far: &mut Value, piece: Value) {
    match (so_far, piece) {
        (_, Value::Null) => (),
        (Value::String(text), Value::String(more)) => text.push_str(&more),
        (Value::Object(fields), Value::Object(pieces)) => {
            for (name, piece) in pieces {
                match fields.get_mut(&name) {
                    // These come whole. An engine that repeats them does not mean a longer one.
                    Some(field) if matches!(name.as_str(), "id" | "type" | "index" | "name") => {
                        *field = piece
                    }
                    Some(field) => merge(field, piece),
                    None => drop(fields.insert(name, piece)),
                }
            }
        }
        (Value::Array(parts), Value::Array(pieces)) => {
            for piece in pieces {
                let index = piece.get("index").filter(|index| index.is_u64());
                let part =
                    index.and_then(|index| parts.iter_mut().find(|part| part.get("index") == Some(index)));
                match part {
                    Some(part) => merge(part, piece),
                    None => parts.push(piece),
                }
            }
        }
        (so_far, piece) => *so_far = piece,
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> String {
    // A string, a number or a map of those: there is nothing in them that JSON cannot say.
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}
