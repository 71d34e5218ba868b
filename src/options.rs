//! The settings of a client.

use std::time::Duration;

/// How a client keeps its connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most connections that are open at a time. A completion holds one until it ends.
    pub max_connections: usize,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// How long a completion may wait for a connection while all are in use.
    pub acquire_timeout: Duration,
    /// How rows reach the client.
    pub streaming: Streaming,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            // Postgres allows 100 by default: two processes leave room for others.
            max_connections: 40,
            connect_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(60),
            streaming: Streaming::Push,
        }
    }
}

/// How the rows of a stream reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streaming {
    /// The server sends each row as soon as it is made: one statement, one round trip.
    Push,
    /// Rows are fetched through a cursor, for poolers that hold rows back until a statement ends.
    Cursor,
}
