//! A set of engine connections over one wait set: the choices of a request, or many requests.

use std::time::{Duration, Instant};

use pgml_protocol::Result;

use crate::connection::Connection;
use crate::engine::Engine;
use crate::shim::{self, WaitSet};

/// One read takes at most this much, so that no connection starves the others.
const READ_SIZE: usize = 64 << 10;

/// Connections by their index, which stays the same while others are closed.
pub struct Connections {
    connections: Vec<Option<Connection>>,
    wait: Option<WaitSet>,
    /// Where bytes are received to, [`READ_SIZE`] at a time.
    received: Box<[u8]>,
    /// When something was last received.
    last_received: Instant,
}

/// What [`Connections::wait`] waited for.
pub enum Waited {
    Ready,
    TimedOut,
}

impl Connections {
    pub fn new(connections: Vec<Connection>) -> Connections {
        Connections {
            connections: connections.into_iter().map(Some).collect(),
            wait: None,
            received: vec![0; READ_SIZE].into(),
            last_received: Instant::now(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.connections.iter().all(Option::is_none)
    }

    /// Sends and receives what can be without waiting. `received` is called with each connection
    /// that has received something, or whose answer has ended; it returns whether to close it.
    ///
    /// Returns whether there was any such connection.
    pub fn poll(
        &mut self,
        engine: &Engine,
        mut received: impl FnMut(usize, &mut Connection) -> Result<bool>,
    ) -> Result<bool> {
        let mut progress = false;
        for (index, place) in self.connections.iter_mut().enumerate() {
            let Some(connection) = place else { continue };
            let socket = connection.socket();
            connection.send(engine)?;
            let came = connection.receive(engine, &mut self.received)?;
            if connection.socket() != socket {
                // A kept connection turned out to be closed, and there is a new one.
                self.wait = None;
            }
            if !came && !connection.exchange.is_ended() {
                continue;
            }
            progress = true;
            if received(index, connection)? {
                if let Some(connection) = place.take() {
                    connection.close(engine);
                }
                // The wait set must not contain its socket any longer.
                self.wait = None;
            }
        }
        if progress {
            self.last_received = Instant::now();
        }
        Ok(progress)
    }

    /// Waits until a connection can receive or send, but not beyond `timeout` after something was
    /// last received. Rows that were made so far are sent to the client first.
    pub fn wait(&mut self, timeout: Duration, engine: &Engine) -> Waited {
        shim::flush();
        let open: Vec<&Connection> = self.connections.iter().flatten().collect();
        let wait = self.wait.get_or_insert_with(|| {
            WaitSet::new(&open.iter().map(|connection| connection.socket()).collect::<Vec<_>>())
        });
        for (position, connection) in open.iter().enumerate() {
            wait.set_writable(position, connection.has_to_send());
        }
        let left = timeout.saturating_sub(self.last_received.elapsed());
        if wait.wait(left, &engine.request_id) { Waited::Ready } else { Waited::TimedOut }
    }
}
