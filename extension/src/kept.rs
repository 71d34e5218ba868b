//! Connections to engines that a backend keeps for its next request.
//!
//! They are kept per server. DISCARD ALL, a changed option, another key and the server's option
//! `keepalive` end them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Instant;

use pgml_protocol::exchange::Exchange;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::engine::Engine;
use crate::transport::Transport;

/// As many as a request has choices, mostly.
const MOST_KEPT: usize = 4;

struct Kept {
    /// [`Engine::connection_key`] of the request that left it.
    key: u64,
    since: Instant,
    transport: Transport,
    /// The last request. What is left of its answer (the end of a stream, after the event that says
    /// so) may not have arrived yet.
    exchange: Exchange,
}

impl Kept {
    /// Whether the connection is open, as far as can be seen without a round trip.
    fn is_open(&mut self) -> bool {
        let mut left = [0; 4096];
        loop {
            match self.transport.read(&mut left) {
                Ok(None) => return self.exchange.leaves_open(),
                Ok(Some(count)) if count > 0 && !self.exchange.is_ended() => {
                    self.exchange.received(&left[..count]);
                    if self.exchange.drain(|_| Ok(())).is_err() {
                        return false;
                    }
                }
                // An end, an error, or something that nobody has asked for.
                _ => return false,
            }
        }
    }
}

thread_local! {
    static KEPT: RefCell<HashMap<String, Vec<Kept>>> = RefCell::default();
}

/// A kept connection to this engine.
pub fn take(engine: &Engine) -> Option<Transport> {
    let limit = engine.keepalive();
    KEPT.with_borrow_mut(|kept| {
        let of_server = kept.get_mut(engine.server())?;
        of_server.retain(|kept| kept.key == engine.connection_key() && kept.since.elapsed() < limit);
        while let Some(mut kept) = of_server.pop() {
            if kept.is_open() {
                return Some(kept.transport);
            }
        }
        None
    })
}

/// Keeps a connection whose request has been answered.
pub fn keep(engine: &Engine, transport: Transport, exchange: Exchange) {
    KEPT.with_borrow_mut(|kept| {
        let of_server = kept.entry(engine.server().to_owned()).or_default();
        if of_server.len() < MOST_KEPT {
            of_server.push(Kept { key: engine.connection_key(), since: Instant::now(), transport, exchange });
        }
    });
}

/// The hook that was there before ours.
static PREVIOUS: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();

/// Has DISCARD ALL close the kept connections: it ends whatever a session holds.
pub fn watch_discard() {
    // SAFETY: a backend has one thread. The hook stays valid, since a library is never unloaded.
    unsafe {
        let previous = pg_sys::ProcessUtility_hook;
        if PREVIOUS.set(previous).is_ok() {
            pg_sys::ProcessUtility_hook = Some(process_utility);
        }
    }
}

#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "the signature is Postgres's")]
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    source: *const std::ffi::c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: Postgres passes a planned statement, whose utilityStmt is a node of the type that its
    // tag says.
    unsafe {
        let node = (*statement).utilityStmt;
        if (*node).type_ == pg_sys::NodeTag::T_DiscardStmt
            && (*node.cast::<pg_sys::DiscardStmt>()).target == pg_sys::DiscardMode::DISCARD_ALL
        {
            KEPT.with_borrow_mut(HashMap::clear);
        }
        match PREVIOUS.get().copied().flatten() {
            Some(next) => next(
                statement,
                source,
                read_only_tree,
                context,
                parameters,
                environment,
                destination,
                completion,
            ),
            None => pg_sys::standard_ProcessUtility(
                statement,
                source,
                read_only_tree,
                context,
                parameters,
                environment,
                destination,
                completion,
            ),
        }
    }
}
