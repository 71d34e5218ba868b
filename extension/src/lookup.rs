//! The addresses of an engine's host.
//!
//! `getaddrinfo` blocks, and cannot be cancelled. So it runs in a forked child of the backend, for
//! which the backend waits as it waits for everything: with a deadline, and until it is cancelled.
//! A thread would do too, but a backend must not have one: Postgres's code and its signal handlers
//! are written for a single thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use pgml_protocol::Result;

use crate::engine::Engine;
use crate::sandbox;

/// How long a backend remembers an answer: a fork costs about a millisecond.
const FRESH: Duration = Duration::from_secs(30);

/// A host's addresses, and when they were found.
type Found = (Instant, Vec<SocketAddr>);

thread_local! {
    static KNOWN: RefCell<HashMap<(String, u16), Found>> = RefCell::default();
}

/// The addresses of a host, in the order in which to try them.
pub fn addresses(host: &str, port: u16, engine: &Engine, deadline: Instant) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let key = (host.to_owned(), port);
    let known = KNOWN.with_borrow(|known| {
        known.get(&key).filter(|(since, _)| since.elapsed() < FRESH).map(|(_, addresses)| addresses.clone())
    });
    if let Some(addresses) = known {
        return Ok(addresses);
    }
    let answer = sandbox::in_child(&engine.request_id, Some(deadline), || {
        let lines = match (host, port).to_socket_addrs() {
            Ok(addresses) => addresses.map(|address| format!("{address}\n")).collect(),
            Err(error) => format!("!{error}"),
        };
        lines.into_bytes()
    });
    let answer = match answer {
        Ok(Some(answer)) => String::from_utf8_lossy(&answer).into_owned(),
        Ok(None) => return Err(engine.did_not_answer("the address of its host was not found")),
        Err(error) => return Err(engine.cannot_connect(&error)),
    };
    if let Some(error) = answer.strip_prefix('!') {
        return Err(engine.cannot_connect(&error));
    }
    let addresses: Vec<SocketAddr> = answer.lines().filter_map(|line| line.parse().ok()).collect();
    if addresses.is_empty() {
        return Err(engine.cannot_connect(&io::Error::other("its host has no address")));
    }
    KNOWN.with_borrow_mut(|known| known.insert(key, (Instant::now(), addresses.clone())));
    Ok(addresses)
}

/// Forgets the addresses of a host, none of which could be reached.
pub fn forget(host: &str, port: u16) {
    KNOWN.with_borrow_mut(|known| known.remove(&(host.to_owned(), port)));
}
