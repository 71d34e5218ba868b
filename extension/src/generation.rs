//! The running of one request: its connections to the engine, and the events that come out.
//!
//! Every choice is a request of its own to the engine. Any engine can do that, many cannot do
//! `n`, and usage is then counted right. All of them share one wait set.

use std::borrow::Cow;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pgml_protocol::chunk::EngineChunk;
use pgml_protocol::exchange::Exchange;
use pgml_protocol::logprobs::drop_alternatives;
use pgml_protocol::reply::{Head, Reply};
use pgml_protocol::template::{self, SpecialTokens};
use pgml_protocol::tool_call::CallShaper;
use pgml_protocol::{Error, Kind, Request, Result};
use serde_json::{Map, Value, json};

use crate::engine::Engine;
use crate::requests::Entry;
use crate::sandbox;
use crate::shim::{self, WaitSet};
use crate::transport::Transport;

/// One read takes at most this much, so that no choice starves the others.
const READ_SIZE: usize = 64 << 10;

/// What the engine is asked.
enum Prompt {
    /// Messages, to which the engine applies the model's own template.
    Messages,
    /// A text, as it is.
    Text(String),
}

/// A request under way. Dropping it closes its connections, on which the engine frees its slots.
pub struct Generation {
    engine: Engine,
    choices: Vec<Option<Connection>>,
    /// For each choice that has to be a tool call, what makes it one.
    shapers: Vec<CallShaper>,
    no_top_logprobs: bool,
    wait: Option<WaitSet>,
    /// Where bytes are received to, [`READ_SIZE`] at a time.
    received: Box<[u8]>,
    entry: Entry,
    tokens: u64,
}

struct Connection {
    transport: Transport,
    exchange: Exchange,
}

impl Generation {
    /// Sends a chat completion request to the engine that serves its model.
    pub fn chat(request: &Request, id: &str) -> Result<(Generation, Head)> {
        let engine = Engine::find(request, id)?;
        let prompt = match &request.chat_template {
            None => Prompt::Messages,
            Some(template) => {
                let tokens = special_tokens(&engine, template)?;
                let mut text = sandbox::run(&engine.request_id, || {
                    template::render(template, request.messages(), &tokens, template_variables(request))
                })?;
                let begins = !tokens.bos_token.is_empty() && text.starts_with(&tokens.bos_token);
                if begins && adds_bos_token(&engine)? {
                    text.drain(..tokens.bos_token.len());
                }
                Prompt::Text(text)
            }
        };
        Generation::start(request, id, engine, prompt)
    }

    /// Sends a text to be continued, without any template.
    pub fn text(request: &Request, id: &str, text: String) -> Result<(Generation, Head)> {
        Generation::start(request, id, Engine::find(request, id)?, Prompt::Text(text))
    }

    fn start(request: &Request, id: &str, engine: Engine, prompt: Prompt) -> Result<(Generation, Head)> {
        let entry = Entry::begin(&engine.request_id, &request.model);
        let head = Head {
            id: id.to_owned(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            model: request.model.clone(),
        };
        let uri = engine.endpoint(match prompt {
            Prompt::Messages => "/chat/completions",
            Prompt::Text(_) => "/completions",
        })?;
        let mut body = engine_body(request, &engine.model, prompt);
        let seed = request.parameters.get("seed");
        let mut choices = Vec::with_capacity(request.n);
        for index in 0..request.n {
            if let Some(seed) = seed {
                // With one seed for all, every choice would be the same.
                body.insert("seed".into(), later_seed(seed, index));
            }
            let bytes = Value::Object(body.clone()).to_string();
            let exchange = Exchange::post(&uri, engine.api_key.as_deref(), &head.id, bytes.as_bytes())
                .map_err(|error| engine.blame(error))?;
            let mut connection = Connection { transport: Transport::connect(&engine)?, exchange };
            connection.send(&engine)?;
            choices.push(Some(connection));
        }
        let shapers = request.forced_call.iter().flat_map(|forced| {
            let id = |index| format!("call_{}_{index}", uuid::Uuid::new_v4().simple());
            (0..request.n).map(move |index| CallShaper::new(forced.clone(), id(index)))
        });
        let generation = Generation {
            engine,
            choices,
            shapers: shapers.collect(),
            no_top_logprobs: request.no_top_logprobs,
            wait: None,
            received: vec![0; READ_SIZE].into(),
            entry,
            tokens: 0,
        };
        Ok((generation, head))
    }

    /// Waits until the engine has sent something, and gives it to `reply`. False when the engine
    /// has ended the stream of every choice.
    ///
    /// Rows made from earlier events are pushed to the client before any waiting.
    pub fn advance(&mut self, reply: &mut impl Reply) -> Result<bool> {
        self.step(reply).map_err(|error| error.request(self.engine.request_id.to_string_lossy()))
    }

    fn step(&mut self, reply: &mut impl Reply) -> Result<bool> {
        let Generation { engine, choices, shapers, no_top_logprobs, wait, received, entry, tokens } = self;
        loop {
            let mut progress = false;
            for (index, choice) in choices.iter_mut().enumerate() {
                let Some(connection) = choice else { continue };
                connection.send(engine)?;
                let came = connection.receive(engine, received)?;
                if !came && !connection.exchange.is_ended() {
                    continue;
                }
                progress = true;
                let mut done = false;
                connection
                    .exchange
                    .drain(|data| {
                        if done || data == b"[DONE]" {
                            done = true;
                            return Ok(());
                        }
                        // One event is one token, as engines have it.
                        *tokens += 1;
                        let mut data = Cow::Borrowed(data);
                        if *no_top_logprobs {
                            data = drop_alternatives(&data)?.into();
                        }
                        if let Some(shaper) = shapers.get_mut(index) {
                            data = shaper.reshape(&data)?.into();
                        }
                        reply.chunk(index, &EngineChunk::parse(&data)?)
                    })
                    .map_err(|error| engine.blame(error))?;
                entry.set_tokens(*tokens);
                if done || connection.exchange.is_ended() {
                    reply.end(index).map_err(|error| engine.blame(error))?;
                    *choice = None;
                    // Its socket is closed: the wait set must not name it any longer.
                    *wait = None;
                }
            }
            let open: Vec<&Connection> = choices.iter().flatten().collect();
            if progress || open.is_empty() {
                return Ok(!open.is_empty());
            }
            shim::flush();
            let wait = wait.get_or_insert_with(|| {
                WaitSet::new(&open.iter().map(|connection| connection.transport.socket()).collect::<Vec<_>>())
            });
            for (position, connection) in open.iter().enumerate() {
                wait.set_writable(position, connection.has_to_send());
            }
            if !wait.wait(engine.read_timeout, &engine.request_id) {
                let error = format!("{} sent nothing for {:?}", engine.label(), engine.read_timeout);
                return Err(Error::new(Kind::Timeout, error)
                    .hint("The server's option read_timeout sets this limit."));
            }
        }
    }
}

impl Connection {
    fn has_to_send(&self) -> bool {
        !self.exchange.to_send().is_empty() || self.transport.wants_write()
    }

    fn send(&mut self, engine: &Engine) -> Result<()> {
        while self.has_to_send() {
            match self.transport.write(self.exchange.to_send()) {
                Ok(Some(count)) => self.exchange.sent(count),
                Ok(None) => break,
                // The engine may have answered (an error, say) before it took the whole request.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(lost(engine, &error)),
            }
        }
        Ok(())
    }

    /// Whether anything was received.
    fn receive(&mut self, engine: &Engine, buffer: &mut [u8]) -> Result<bool> {
        match self.transport.read(buffer) {
            Ok(None) => Ok(false),
            Ok(Some(0)) => {
                self.exchange.closed().map_err(|error| engine.blame(error))?;
                Ok(true)
            }
            Ok(Some(count)) => {
                self.exchange.received(&buffer[..count]);
                Ok(true)
            }
            Err(error) => Err(lost(engine, &error)),
        }
    }
}

fn lost(engine: &Engine, error: &std::io::Error) -> Error {
    Error::new(Kind::ConnectionLost, format!("lost {}: {error}", engine.label()))
}

/// The seed of a choice: the request's own for the first, and another for each one after it.
fn later_seed(seed: &Value, index: usize) -> Value {
    match (seed.as_i64(), seed.as_u64()) {
        (Some(seed), _) => seed.wrapping_add(index as i64).into(),
        (None, Some(seed)) => seed.wrapping_add(index as u64).into(),
        // It has been checked to be one of the two.
        (None, None) => Value::Null,
    }
}

/// The body that the engine gets: the caller's parameters, and what makes it stream.
fn engine_body(request: &Request, model: &str, prompt: Prompt) -> Map<String, Value> {
    let mut body = request.parameters.clone();
    body.insert("model".into(), model.into());
    // Always a stream: an engine notices that nobody reads a stream any more, and stops.
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({"include_usage": true}));
    if let Prompt::Text(text) = prompt {
        body.shift_remove("messages");
        body.insert("prompt".into(), text.into());
        // llama.cpp's older endpoint has names of its own for what holds a text to a schema, and
        // for how many likely tokens are told.
        match body.get("response_format").and_then(|format| format.get("type")).and_then(Value::as_str) {
            Some("json_schema") => {
                let schema = body["response_format"]["json_schema"]["schema"].clone();
                body.insert("json_schema".into(), schema);
            }
            Some("json_object") => drop(body.insert("json_schema".into(), json!({"type": "object"}))),
            _ => (),
        }
        if let Some(count) = body.get("top_logprobs").cloned() {
            body.insert("n_probs".into(), count);
        }
        // The older endpoint knows the limit by its older name only.
        if let Some(limit) = body.shift_remove("max_completion_tokens") {
            body.entry("max_tokens").or_insert(limit);
        }
    }
    body
}

/// What a template may use besides messages and special tokens.
fn template_variables(request: &Request) -> Map<String, Value> {
    let mut variables = Map::new();
    if let Some(Value::Object(arguments)) = request.parameters.get("chat_template_kwargs") {
        variables.extend(arguments.clone());
    }
    if let Some(tools) = request.parameters.get("tools") {
        variables.insert("tools".into(), tools.clone());
    }
    variables
}

/// Asks the engine for its model's special tokens (llama.cpp's `/props`), if the template wants
/// them. An engine that does not tell has none, as far as the template goes.
fn special_tokens(engine: &Engine, template: &str) -> Result<SpecialTokens> {
    if !template::needs_special_tokens(template) {
        return Ok(SpecialTokens::default());
    }
    let properties = ask(engine, Exchange::get(&engine.at("/props")?, engine.api_key.as_deref()))?;
    let token = |name: &str| properties.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(SpecialTokens { bos_token: token("bos_token"), eos_token: token("eos_token") })
}

/// Whether the engine itself puts the beginning-of-text token before a text (llama.cpp's
/// `/tokenize` tells): the template's own would then be a second one.
fn adds_bos_token(engine: &Engine) -> Result<bool> {
    let empty = br#"{"content": "", "add_special": true}"#;
    let exchange = Exchange::post(&engine.at("/tokenize")?, engine.api_key.as_deref(), "tokenize", empty);
    let answer = ask(engine, exchange)?;
    Ok(answer.get("tokens").and_then(Value::as_array).is_some_and(|tokens| !tokens.is_empty()))
}

/// Asks the engine for a small JSON document: null where it has none.
fn ask(engine: &Engine, exchange: Result<Exchange>) -> Result<Value> {
    let exchange = exchange.map_err(|error| engine.blame(error))?;
    let mut connection = Connection { transport: Transport::connect(engine)?, exchange };
    let deadline = Instant::now() + engine.connect_timeout;
    let wait = WaitSet::new(&[connection.transport.socket()]);
    let mut buffer = vec![0; READ_SIZE];
    loop {
        connection.send(engine)?;
        let received = connection.receive(engine, &mut buffer);
        if let Some(document) = connection.exchange.document()? {
            return Ok(document);
        }
        match received {
            Ok(true) if !connection.exchange.is_ended() => continue,
            Ok(false) => (),
            _ => return Ok(Value::Null),
        }
        wait.set_writable(0, connection.has_to_send());
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait.wait(left, &engine.request_id) {
            return Ok(Value::Null);
        }
    }
}
