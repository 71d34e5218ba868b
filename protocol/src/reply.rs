//! The engine's chunks turned into the chunks and completions that a caller gets: OpenAI's shape,
//! the model name that the caller gave, `role` in the first delta of each choice only, and one
//! `usage` over all choices. What an engine says beyond OpenAI's fields is kept where it said it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::assemble::Assembler;
use crate::chunk::EngineChunk;
pub use crate::completion::Completion;
use crate::error::{Error, Kind, Result};
use crate::raw::{json, text, value};
use crate::request::Request;
use crate::resources::{Measured, Resources};
pub use crate::stream::ChunkStream;
use crate::tool_call::CallShaper;
use crate::tools::ForcedCall;
use crate::usage::{self, Counted};

/// What every chunk and the completion of one request share.
pub struct Head {
    pub id: String,
    pub created: u64,
    pub model: String,
}

/// What the caller asked for, as far as it decides what the reply looks like.
pub struct Wanted {
    pub n: usize,
    pub forced_call: Option<ForcedCall>,
    pub no_top_logprobs: bool,
    /// Whether a stream ends with a chunk that carries `usage`, which is null in all others then.
    pub include_usage: bool,
}

impl Wanted {
    /// A reply of `n` choices and nothing else.
    pub fn choices(n: usize) -> Wanted {
        Wanted { n, forced_call: None, no_top_logprobs: false, include_usage: false }
    }
}

impl From<&Request> for Wanted {
    fn from(request: &Request) -> Wanted {
        Wanted {
            n: request.n,
            forced_call: request.forced_call.clone(),
            no_top_logprobs: request.no_top_logprobs,
            include_usage: request.include_usage,
        }
    }
}

impl From<usize> for Wanted {
    fn from(n: usize) -> Wanted {
        Wanted::choices(n)
    }
}

/// What has been seen of each choice, and of the request as a whole.
pub(crate) struct Progress {
    head: Head,
    fingerprint: Option<String>,
    pub(crate) assemblers: Vec<Assembler>,
    counted: Vec<Counted>,
    /// Events that said something. An engine sends one for each token, or for a few.
    said: u64,
    measured: Option<Measured>,
}

impl Progress {
    pub(crate) fn new(head: Head, wanted: Wanted) -> Self {
        let id = head.id.strip_prefix("chatcmpl-").unwrap_or(&head.id);
        let assembler = |index| {
            let id = format!("{id}_{index}");
            let shaper = |forced: &ForcedCall| CallShaper::new(forced.clone(), format!("call_{id}"));
            let shaper = wanted.forced_call.as_ref().map(shaper);
            Assembler::new(id, shaper, wanted.no_top_logprobs)
        };
        let assemblers = (0..wanted.n).map(assembler).collect();
        let counted = vec![Counted::default(); wanted.n];
        Progress { head, fingerprint: None, assemblers, counted, said: 0, measured: None }
    }

    pub(crate) fn note(&mut self, index: usize, chunk: &EngineChunk) {
        if self.fingerprint.is_none() {
            self.fingerprint = chunk.fingerprint.and_then(|raw| text(raw.get())).map(Cow::into_owned);
        }
        for usage in chunk.choices.iter().filter_map(|choice| choice.usage).chain(chunk.usage) {
            self.counted[index].add(usage.get());
        }
        // Groq's count is among its own fields, where OpenAI's is not asked for.
        if let Some((_, groq)) = chunk.others.iter().find(|(name, _)| *name == "x_groq")
            && let Some(usage) = value(groq.get()).get("usage")
        {
            self.counted[index].add(&usage.to_string());
        }
    }

    /// The engine has ended its stream for a choice: was that the whole choice?
    pub(crate) fn end(&self, index: usize) -> Result<()> {
        match self.assemblers[index].finish_reason() {
            Some(_) => Ok(()),
            None => Err(Error::new(
                Kind::ConnectionLost,
                format!("the engine ended its stream before choice {index} was finished"),
            )),
        }
    }

    /// An event said something of a choice.
    pub(crate) fn count(&mut self, said: bool) {
        self.said += u64::from(said);
    }

    /// The tokens made so far: as the engine counts them, or else the events that said something.
    pub(crate) fn tokens(&self) -> u64 {
        self.counted.iter().filter_map(Counted::completion).fold(0, u64::saturating_add).max(self.said)
    }

    pub(crate) fn set_measured(&mut self, measured: Measured) {
        self.measured = Some(measured);
    }

    /// The usage of all choices, as JSON. `others` are the fields that the engine put beside it.
    pub(crate) fn usage(&self, others: &Map<String, Value>) -> String {
        let mut usage = usage::total(&self.counted);
        if let (Value::Object(usage), Some(measured)) = (&mut usage, &self.measured) {
            let completion_tokens = usage.get("completion_tokens").and_then(Value::as_u64);
            let resources = Resources::new(measured, others, usage, completion_tokens);
            usage.insert("resources".into(), serde_json::to_value(resources).unwrap_or_default());
        }
        json(&usage)
    }

    /// The members that stand before `choices`, with the opening brace.
    pub(crate) fn opening(&self, object: &str) -> String {
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
    fn end(&mut self, index: usize) -> Result<()>;

    /// The tokens that all choices have so far.
    fn tokens(&self) -> u64;

    /// Takes what the request cost, for its usage.
    fn measured(&mut self, measured: Measured);

    /// Takes an engine's event for choice `index`. After the end of the choice, one that cannot be
    /// read does no harm.
    fn event(&mut self, index: usize, data: &[u8]) -> Result<()> {
        match EngineChunk::parse(data) {
            Ok(chunk) => self.chunk(index, &chunk),
            Err(error) if error.kind == Kind::ProtocolViolation && self.end(index).is_ok() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
