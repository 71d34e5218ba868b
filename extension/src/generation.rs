//! One request under way: its choices, and the events that come out of them.
//!
//! Every choice is a request of its own to the engine. Any engine can do that, many cannot do
//! `n`, and usage is then counted right.

use std::time::{SystemTime, UNIX_EPOCH};

use pgml_protocol::exchange::DONE;
use pgml_protocol::reply::{Head, Reply};
use pgml_protocol::{Error, Kind, Request, Result};

use crate::connection::Connection;
use crate::connections::{Connections, Waited};
use crate::engine::Engine;
use crate::meter::{self, Meter};
use crate::prompt::Prompt;
use crate::requests::Entry;

/// A request under way. Dropping it closes its connections, on which the engine frees its slots.
pub struct Generation {
    engine: Engine,
    choices: Connections,
    entry: Entry,
    meter: Option<Meter>,
}

impl Generation {
    /// Sends a chat completion request to the engine that serves its model.
    pub fn chat(request: &Request, id: &str) -> Result<(Generation, Head)> {
        let engine = Engine::find(request, id)?;
        let prompt = Prompt::of(request, &engine)?;
        Generation::start(request, id, engine, prompt)
    }

    /// Sends a text to be continued, without any template.
    pub fn text(request: &Request, id: &str, text: String) -> Result<(Generation, Head)> {
        Generation::start(request, id, Engine::find(request, id)?, Prompt::Text(text))
    }

    fn start(request: &Request, id: &str, engine: Engine, prompt: Prompt) -> Result<(Generation, Head)> {
        let mut meter = meter::is_wanted(request.resources).then(Meter::begin);
        let mut entry = Entry::begin(&engine.request_id, &request.model);
        let head = Head {
            id: id.to_owned(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            model: request.model.clone(),
        };
        let uri = engine.endpoint(prompt.path())?;
        let bodies = prompt.bodies(request, &engine);
        let mut choices = Vec::with_capacity(request.n);
        for body in bodies {
            let mut connection = Connection::open(&engine, engine.post(&uri, body)?)?;
            connection.send(&engine)?;
            if let Some(meter) = &mut meter {
                meter.connected(connection.socket(), &mut entry);
            }
            choices.push(connection);
        }
        let generation = Generation { engine, choices: Connections::new(choices), entry, meter };
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
        let Generation { engine, choices, entry, meter } = self;
        loop {
            let progress = choices.poll(engine, |index, connection| {
                let mut done = false;
                let events = connection.exchange.drain(|data| {
                    done = done || data == DONE;
                    if done { Ok(()) } else { reply.event(index, data) }
                });
                events.map_err(|error| engine.attribute_and_redact(error))?;
                let ended = done || connection.exchange.is_ended();
                if ended {
                    reply.end(index).map_err(|error| engine.attribute_and_redact(error))?;
                }
                Ok(ended)
            })?;
            if progress || choices.is_empty() {
                let tokens = reply.tokens();
                entry.set_tokens(tokens);
                if let Some(meter) = meter {
                    meter.received(tokens);
                    if choices.is_empty() {
                        reply.measured(meter.read(tokens, entry));
                    }
                }
                return Ok(!choices.is_empty());
            }
            if let Waited::TimedOut = choices.wait(engine.options.read_timeout, engine) {
                let error = format!("{} sent nothing for {:?}", engine.label(), engine.options.read_timeout);
                return Err(Error::new(Kind::Timeout, error)
                    .hint("The server's option read_timeout sets this limit."));
            }
        }
    }
}
