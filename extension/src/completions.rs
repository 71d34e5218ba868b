//! `pgml.chat_completion` and `pgml.chat_completion_stream`.

use pgml_protocol::reply::{ChunkStream, Completion};
use pgml_protocol::{Error, Request, Result};
use pgrx::prelude::*;
use serde_json::Value;

use crate::generation::Generation;
use crate::json::{Jsonb, parse};
use crate::report;

/// A request's id is no longer than this.
const MAX_ID: usize = 128;

// These return text to pgrx and are declared to return json in SQL: in memory the two are one, and
// what they return has just been written as JSON, so nothing needs to parse it again.
//
// A request may be jsonb, json or text. jsonb forgets in which order keys came, which matters to a
// JSON schema: a model writes the properties in the order in which the schema names them.

/// One OpenAI `chat.completion` object for an OpenAI request body.
#[pg_extern(sql = false)]
fn chat_completion_jsonb(request: Jsonb, request_id: &str) -> String {
    chat_completion(request.read("request"), request_id)
}

/// The same, from a `json` or a `text`.
#[pg_extern(sql = false)]
fn chat_completion_text(request: &[u8], request_id: &str) -> String {
    chat_completion(parse(request, "request"), request_id)
}

/// The `chat.completion.chunk` objects of an OpenAI request body, each pushed as it is made.
///
/// With `batch`, chunks that are there at the same time come as one, which has the choices of all.
#[pg_extern(sql = false)]
fn chat_completion_stream_jsonb(
    request: Jsonb,
    batch: bool,
    request_id: &str,
) -> SetOfIterator<'static, String> {
    chat_completion_stream(request.read("request"), batch, request_id)
}

/// The same, from a `json` or a `text`.
#[pg_extern(sql = false)]
fn chat_completion_stream_text(
    request: &[u8],
    batch: bool,
    request_id: &str,
) -> SetOfIterator<'static, String> {
    chat_completion_stream(parse(request, "request"), batch, request_id)
}

fn chat_completion(body: Result<Value>, request_id: &str) -> String {
    let id = Id::given(request_id);
    body.and_then(Request::parse)
        .and_then(|request| complete(Generation::chat(&request, &id.text)?, &request))
        .map_or_else(|error| report(id.name(error)), |completion| completion.json())
}

fn chat_completion_stream(
    body: Result<Value>,
    batch: bool,
    request_id: &str,
) -> SetOfIterator<'static, String> {
    let id = Id::given(request_id);
    body.and_then(Request::parse)
        .and_then(|request| Rows::start(&request, &id, batch))
        .map_or_else(|error| report(id.name(error)), SetOfIterator::new)
}

/// What answers, errors and logs call a request.
struct Id {
    text: String,
    /// Whether the caller knows it.
    is_given: bool,
}

impl Id {
    fn given(id: &str) -> Id {
        if id.is_empty() {
            return Id { text: new_id(), is_given: false };
        }
        // It becomes a header of the request to the engine, and a line in logs.
        if id.len() > MAX_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = format!("must be at most {MAX_ID} visible ASCII characters");
            report(Error::invalid("request_id", problem));
        }
        Id { text: id.to_owned(), is_given: true }
    }

    /// Says in an error which request it is about, if that tells the caller something.
    fn name(&self, error: Error) -> Error {
        if self.is_given { error.request(&self.text) } else { error }
    }
}

pub fn new_id() -> String {
    format!("chatcmpl-{}", uuid::Uuid::new_v4().simple())
}

/// Runs a generation to its end.
pub fn complete(
    generation: (Generation, pgml_protocol::reply::Head),
    request: &Request,
) -> Result<Completion> {
    let (mut generation, head) = generation;
    let mut completion = Completion::new(head, request);
    while generation.advance(&mut completion)? {}
    Ok(completion)
}

/// The rows of a stream, made one by one as Postgres asks for them.
struct Rows {
    /// `None` when the engine has ended.
    generation: Option<Generation>,
    stream: ChunkStream,
    batch: bool,
    usage_due: bool,
}

impl Rows {
    fn start(request: &Request, id: &Id, batch: bool) -> Result<Rows> {
        let (generation, head) = Generation::chat(request, &id.text)?;
        let stream = ChunkStream::new(head, request);
        Ok(Rows { generation: Some(generation), stream, batch, usage_due: request.include_usage })
    }

    fn row(&mut self) -> Result<Option<String>> {
        loop {
            let ready = if self.batch { self.stream.take_all() } else { self.stream.take_one() };
            if ready.is_some() {
                return Ok(ready);
            }
            match &mut self.generation {
                Some(generation) => {
                    if !generation.advance(&mut self.stream)? {
                        self.generation = None;
                    }
                }
                None => return Ok(std::mem::take(&mut self.usage_due).then(|| self.stream.usage_chunk())),
            }
        }
    }
}

impl Iterator for Rows {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.row().unwrap_or_else(|error| report(error))
    }
}
