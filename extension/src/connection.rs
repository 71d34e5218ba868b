//! One connection to an engine, with the request on it and its answer.

use std::io::ErrorKind;
use std::os::fd::RawFd;

use pgml_protocol::exchange::Exchange;
use pgml_protocol::{Error, Kind, Result};

use crate::connect::connect;
use crate::engine::Engine;
use crate::transport::Transport;

pub struct Connection {
    transport: Transport,
    pub exchange: Exchange,
}

impl Connection {
    pub fn open(engine: &Engine, exchange: Exchange) -> Result<Connection> {
        Ok(Connection { transport: connect(engine)?, exchange })
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
                self.exchange.closed().map_err(|error| engine.attribute_and_redact(error))?;
                Ok(true)
            }
            Ok(Some(count)) => {
                self.exchange.received(&buffer[..count]);
                Ok(true)
            }
            // What it said before it reset the connection tells more than the reset.
            Err(error) => Err(match self.exchange.broken_off() {
                Some(refusal) => engine.attribute_and_redact(refusal),
                None => lost(engine, &error),
            }),
        }
    }
}

fn lost(engine: &Engine, error: &std::io::Error) -> Error {
    Error::new(Kind::ConnectionLost, format!("lost {}: {error}", engine.label()))
}
