//! One connection to an engine, with the request on it and its answer.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;

use pgml_protocol::exchange::Exchange;
use pgml_protocol::{Error, Kind, Result};

use crate::connect::connect;
use crate::engine::Engine;
use crate::kept;
use crate::transport::Transport;

pub struct Connection {
    transport: Transport,
    pub exchange: Exchange,
    /// It has carried another request before. The engine may have closed it meanwhile.
    is_reused: bool,
}

impl Connection {
    /// Takes a kept connection, or makes one.
    pub fn open(engine: &Engine, exchange: Exchange) -> Result<Connection> {
        match kept::take(engine) {
            Some(transport) => Ok(Connection { transport, exchange, is_reused: true }),
            None => Ok(Connection { transport: connect(engine)?, exchange, is_reused: false }),
        }
    }

    /// Ends the connection, or keeps it for a next request.
    pub fn close(self, engine: &Engine) {
        if self.exchange.stays_open() && !engine.keepalive().is_zero() {
            kept::keep(engine, self.transport, self.exchange);
        }
    }

    pub fn socket(&self) -> RawFd {
        self.transport.socket()
    }

    pub fn has_to_send(&self) -> bool {
        !self.exchange.to_send().is_empty() || self.transport.wants_write()
    }

    pub fn send(&mut self, engine: &Engine) -> Result<()> {
        while self.has_to_send() {
            match self.transport.write(self.exchange.to_send()) {
                Ok(Some(count)) => self.exchange.sent(count),
                Ok(None) => break,
                // The engine may have answered (an error, say) before it took the whole request.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    break;
                }
                Err(error) => return Err(lost(engine, &error)),
            }
        }
        Ok(())
    }

    /// Whether anything was received.
    pub fn receive(&mut self, engine: &Engine, buffer: &mut [u8]) -> Result<bool> {
        match self.transport.read(buffer) {
            Ok(None) => Ok(false),
            Ok(Some(0)) => {
                if self.replace(engine)? {
                    return Ok(false);
                }
                self.exchange.closed().map_err(|error| engine.attribute_and_redact(error))?;
                Ok(true)
            }
            Ok(Some(count)) => {
                self.exchange.received(&buffer[..count]);
                Ok(true)
            }
            Err(error) => {
                if self.replace(engine)? {
                    return Ok(false);
                }
                // What it said before it reset the connection tells more than the reset.
                Err(match self.exchange.broken_off() {
                    Some(refusal) => engine.attribute_and_redact(refusal),
                    None => lost(engine, &error),
                })
            }
        }
    }

    /// Sends the request again on a new connection, if the engine has closed a kept one without an
    /// answer. Its close and our request may have crossed.
    fn replace(&mut self, engine: &Engine) -> Result<bool> {
        if !std::mem::take(&mut self.is_reused) || !self.exchange.rewind() {
            return Ok(false);
        }
        self.transport = connect(engine)?;
        self.send(engine)?;
        Ok(true)
    }
}

fn lost(engine: &Engine, error: &io::Error) -> Error {
    Error::new(Kind::ConnectionLost, format!("lost {}: {error}", engine.label()))
}
