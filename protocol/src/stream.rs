//! A streamed reply.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::chunk::{EngineChunk, Fields};
use crate::error::Result;
use crate::raw::{is_empty, json, passed, push_name, value};
use crate::reply::{Head, Progress, Reply, Wanted};
use crate::resources::{self, Measured};

/// A streamed reply: chunks in, chunks out.
///
/// What all chunks of a request share is written once, and each chunk is kept as its one choice.
pub struct ChunkStream {
    progress: Progress,
    include_usage: bool,
    /// What every chunk starts with, up to an engine's own fields. Empty before the first.
    opening: String,
    /// Whether a chunk of each choice has been made.
    opened: Vec<bool>,
    /// The choices of the chunks that the caller has not taken yet, with commas between.
    ready: String,
    /// Where each of them ends.
    ends: VecDeque<usize>,
    /// How much of `ready` has been taken.
    taken: usize,
    /// An engine's own fields, written as members, and where the choices begin that have them.
    others: VecDeque<(usize, String)>,
    /// Those that came without a choice, for the next chunk.
    waiting: String,
    /// The last chunk of each choice: what an engine adds to it comes right after (llama.cpp's
    /// `timings`), and a chunk without choices is not what a caller expects who asked for no usage.
    last: Vec<Option<(String, String)>>,
    /// The fields of the delta that is being made.
    delta: String,
    /// How the choices begin, up to their deltas.
    beginnings: Vec<String>,
    /// What the engine reported of the request's cost, beside its chunks.
    reported: Map<String, Value>,
}

impl ChunkStream {
    pub fn new(head: Head, wanted: impl Into<Wanted>) -> Self {
        let wanted = wanted.into();
        let n = wanted.n;
        ChunkStream {
            include_usage: wanted.include_usage,
            progress: Progress::new(head, wanted),
            opening: String::new(),
            opened: vec![false; n],
            ready: String::new(),
            ends: VecDeque::new(),
            taken: 0,
            others: VecDeque::new(),
            waiting: String::new(),
            last: vec![None; n],
            delta: String::new(),
            beginnings: (0..n).map(|index| format!("{{\"index\":{index},\"delta\":{{")).collect(),
            reported: Map::new(),
        }
    }

    /// The next chunk, if one is ready.
    pub fn take_one(&mut self) -> Option<String> {
        let end = self.ends.pop_front()?;
        Some(self.take(end))
    }

    /// All chunks that are ready, as one that has the choices of all. Chunks that differ in more
    /// than their choices do not come together.
    pub fn take_all(&mut self) -> Option<String> {
        let next = self.others.get(1).map_or(usize::MAX, |(start, _)| *start);
        let count = self.ends.iter().take_while(|end| **end < next).count();
        let end = self.ends.drain(..count).next_back()?;
        Some(self.take(end))
    }

    fn take(&mut self, end: usize) -> String {
        let others = self.others.front().map_or("", |(_, others)| others);
        let chunk = [&self.opening, others, "\"choices\":[", &self.ready[self.taken..end], "]}"].concat();
        self.taken = end + 1;
        if self.ends.is_empty() {
            self.ready.clear();
            self.taken = 0;
        }
        let from = self.others.get(1).map(|(start, _)| *start);
        if from.is_some_and(|start| self.ends.is_empty() || start <= self.taken) {
            self.others.pop_front();
        }
        if self.ends.is_empty()
            && let Some((start, _)) = self.others.front_mut()
        {
            *start = 0;
        }
        chunk
    }

    /// Begins a choice, and those before it: OpenAI's clients take it that choices begin in order.
    fn open(&mut self, index: usize) {
        if self.opening.is_empty() {
            self.opening = self.progress.opening("chat.completion.chunk");
            if self.include_usage {
                self.opening.push_str("\"usage\":null,");
            }
        }
        for earlier in 0..index {
            if !std::mem::replace(&mut self.opened[earlier], true) {
                self.begin();
                let _ = write!(
                    self.ready,
                    "{{\"index\":{earlier},\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"logprobs\":null,\"finish_reason\":null}}"
                );
                self.ends.push_back(self.ready.len());
            }
        }
    }

    fn begin(&mut self) {
        if !self.ready.is_empty() {
            self.ready.push(',');
        }
    }

    /// Says which of an engine's own fields the next chunk has.
    fn set_others(&mut self, others: String) {
        if self.others.back().map_or("", |(_, others)| others) == others {
            return;
        }
        let start = if self.ready.is_empty() { 0 } else { self.ready.len() + 1 };
        if self.others.is_empty() && start > 0 {
            self.others.push_back((0, String::new()));
        }
        if self.others.back().is_some_and(|(last, _)| *last >= start) {
            self.others.pop_back();
        }
        self.others.push_back((start, others));
    }

    /// Hands out the last chunk of a choice.
    fn release(&mut self, index: usize) {
        if let Some((last, mut others)) = self.last[index].take() {
            others.push_str(&std::mem::take(&mut self.waiting));
            self.set_others(others);
            self.begin();
            self.ready.push_str(&last);
            self.ends.push_back(self.ready.len());
        }
    }

    /// The closing chunk that `stream_options.include_usage` asks for.
    pub fn usage_chunk(&self) -> String {
        let opening = self.progress.opening("chat.completion.chunk");
        format!("{opening}{}\"choices\":[],\"usage\":{}}}", self.waiting, self.progress.usage(&self.reported))
    }
}

impl Reply for ChunkStream {
    /// Makes the chunk that the caller gets: none where it would say nothing.
    fn chunk(&mut self, index: usize, chunk: &EngineChunk) -> Result<()> {
        self.progress.note(index, chunk);
        for (name, raw) in chunk.others.iter().filter(|(name, _)| resources::REPORTS.contains(name)) {
            self.reported.insert(name.to_owned(), value(raw.get()));
        }
        let others = members(&chunk.others);
        if chunk.choices.is_empty() {
            self.waiting.push_str(&others);
            return Ok(());
        }
        let others =
            if self.waiting.is_empty() { others } else { std::mem::take(&mut self.waiting) + &others };
        let mut others = Some(others);
        for choice in &chunk.choices {
            self.delta.clear();
            let delta = &mut self.delta;
            let assembler = &mut self.progress.assemblers[index];
            let said = assembler.read(choice, chunk.is_whole, |name, value| {
                if !delta.is_empty() {
                    delta.push(',');
                }
                push_name(delta, name);
                delta.push(':');
                delta.push_str(value);
            })?;
            let logprobs = assembler.logprobs(choice);
            self.progress.count(said);
            let assembler = &self.progress.assemblers[index];
            let is_last = choice.finish_reason.is_some() && assembler.finish_reason().is_some();
            let adds = choice.others.iter().any(|(_, value)| !is_empty(value.get()));
            if !said && logprobs.is_none() && !is_last && !adds {
                continue;
            }
            let finish_reason =
                if is_last { Cow::from(json(&assembler.finish_reason())) } else { Cow::from("null") };
            self.release(index);
            let first = !self.opened[index];
            if first {
                self.open(index);
                self.opened[index] = true;
            }
            let others = others.take().unwrap_or_default();
            let keep = is_last && !self.include_usage;
            if !keep {
                self.set_others(others.clone());
                self.begin();
            }
            let start = self.ready.len();
            self.ready.push_str(&self.beginnings[index]);
            if first {
                self.ready.push_str("\"role\":\"assistant\"");
                self.ready.push_str(if self.delta.is_empty() { "" } else { "," });
            }
            for part in [
                &self.delta,
                "},\"logprobs\":",
                logprobs.as_deref().unwrap_or("null"),
                ",\"finish_reason\":",
                &finish_reason,
            ] {
                self.ready.push_str(part);
            }
            for (name, value) in choice.others.iter() {
                let _ = write!(self.ready, ",{}:{}", json(name), passed(value.get()));
            }
            self.ready.push('}');
            if keep {
                self.last[index] = Some((self.ready.split_off(start), others));
            } else {
                self.ends.push_back(self.ready.len());
            }
        }
        if let Some(others) = others {
            self.waiting.push_str(&others);
        }
        Ok(())
    }

    fn end(&mut self, index: usize) -> Result<()> {
        self.release(index);
        self.progress.end(index)
    }

    fn tokens(&self) -> u64 {
        self.progress.tokens()
    }

    fn measured(&mut self, measured: Measured) {
        self.progress.set_measured(measured);
    }
}

/// Fields as members of an object, each with a comma after it.
fn members(fields: &Fields) -> String {
    fields.iter().map(|(name, value)| format!("{}:{},", json(name), passed(value.get()))).collect()
}
