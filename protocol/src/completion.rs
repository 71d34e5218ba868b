//! A reply in one piece.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::chunk::EngineChunk;
use crate::error::Result;
use crate::merge::{Place, add};
use crate::raw::{is_empty, json, value};
use crate::reply::{Head, Progress, Reply, Wanted};
use crate::resources::Measured;

/// A reply in one piece: chunks in, one completion out.
pub struct Completion {
    progress: Progress,
    choices: Vec<Choice>,
    /// An engine's own fields. What it says last counts.
    others: Map<String, Value>,
}

#[derive(Clone, Default)]
struct Choice {
    message: Map<String, Value>,
    logprobs: Map<String, Value>,
    others: Map<String, Value>,
}

impl Completion {
    pub fn new(head: Head, wanted: impl Into<Wanted>) -> Self {
        let wanted = wanted.into();
        let choices = vec![Choice::default(); wanted.n];
        Completion { progress: Progress::new(head, wanted), choices, others: Map::new() }
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
            let logprobs = Some(&choice.logprobs).filter(|logprobs| !logprobs.is_empty());
            let _ = write!(
                text,
                "{}{{\"index\":{index},\"message\":{},\"logprobs\":{},\"finish_reason\":{}",
                if index == 0 { "" } else { "," },
                json(&message),
                json(&logprobs),
                json(&self.progress.assemblers[index].finish_reason()),
            );
            for (name, value) in &choice.others {
                let _ = write!(text, ",{}:{}", json(name), json(value));
            }
            text.push('}');
        }
        let _ = write!(text, "],\"usage\":{}", self.progress.usage(&self.others));
        for (name, value) in &self.others {
            let _ = write!(text, ",{}:{}", json(name), json(value));
        }
        text.push('}');
        text
    }
}

impl Reply for Completion {
    fn chunk(&mut self, index: usize, chunk: &EngineChunk) -> Result<()> {
        self.progress.note(index, chunk);
        for (name, raw) in chunk.others.iter() {
            if !is_empty(raw.get()) || !self.others.contains_key(name) {
                self.others.insert(name.to_owned(), value(raw.get()));
            }
        }
        for choice in &chunk.choices {
            let made = &mut self.choices[index];
            let assembler = &mut self.progress.assemblers[index];
            let said = assembler.read(choice, chunk.is_whole, |name, raw| {
                // The assembler makes JSON of whatever an engine sends.
                if let Ok(piece) = serde_json::from_str(raw) {
                    add(&mut made.message, name, piece, Place::Message);
                }
            })?;
            if let Some(Value::Object(logprobs)) = assembler.logprobs(choice).map(|raw| value(&raw)) {
                for (name, piece) in logprobs {
                    add(&mut made.logprobs, &name, piece, Place::Part);
                }
            }
            for (name, raw) in choice.others.iter() {
                add(&mut made.others, name, value(raw.get()), Place::Part);
            }
            self.progress.count(said);
        }
        Ok(())
    }

    fn end(&mut self, index: usize) -> Result<()> {
        self.progress.end(index)
    }

    fn tokens(&self) -> u64 {
        self.progress.tokens()
    }

    fn measured(&mut self, measured: Measured) {
        self.progress.set_measured(measured);
    }
}
