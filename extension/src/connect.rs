//! Reaching an engine: a Unix socket, or the first of its host's addresses that answers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use pgml_protocol::{Error, Kind, Result};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::engine::Engine;
use crate::lookup;
use crate::shim::WaitSet;
use crate::tls;
use crate::transport::Transport;

/// The next address is tried when the one before has not answered for this long (RFC 8305,
/// section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// A proxy's answer to CONNECT is read up to this size.
const MAX_PROXY_HEAD: usize = 16 << 10;

/// Connects, with TLS where the URL says so. Waits as a backend waits, so that a cancel ends it.
pub fn connect(engine: &Engine) -> Result<Transport> {
    let deadline = Instant::now() + engine.options.connect_timeout;
    if let Some(path) = &engine.options.unix_socket {
        let address = SockAddr::unix(path).map_err(|error| engine.cannot_connect(&error))?;
        let socket = begin(&address).map_err(|error| refused(engine, error))?;
        wait_connected(&socket, engine, deadline)?;
        return secure(socket, engine, deadline);
    }
    let (host, port) = match &engine.options.proxy {
        Some(proxy) => (proxy.host().unwrap_or_default(), proxy.port_u16().unwrap_or(80)),
        None => (engine.host(), engine.port()),
    };
    let mut addresses = lookup::addresses(host, port, engine, deadline)?;
    loop {
        let (position, socket) = match race(&addresses, engine, deadline) {
            Ok(reached) => reached,
            Err(error) => {
                lookup::forget(host, port);
                return Err(error);
            }
        };
        addresses.remove(position);
        // An address that connects and then is silent leaves a share of the time to the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = Instant::now() + left / (addresses.len() as u32 + 1);
        // A request is one write; waiting for more to send would only delay it.
        let result = socket
            .set_tcp_nodelay(true)
            .map_err(|error| engine.cannot_connect(&error))
            .and_then(|()| tunnel(&socket, engine, share))
            .and_then(|()| secure(socket, engine, share));
        match result {
            Err(_) if !addresses.is_empty() => (),
            result => return result,
        }
    }
}

/// Tries the addresses, each a little after the one before, until one connects.
fn race(addresses: &[SocketAddr], engine: &Engine, deadline: Instant) -> Result<(usize, Socket)> {
    let mut waiting = addresses.iter().enumerate();
    let mut open: Vec<(usize, Socket)> = Vec::new();
    let mut problem = None;
    let mut next_attempt = Instant::now();
    loop {
        let now = Instant::now();
        if now >= deadline {
            return Err(engine.did_not_answer("no connection was made"));
        }
        if (now >= next_attempt || open.is_empty())
            && let Some((position, address)) = waiting.next()
        {
            match begin(&(*address).into()) {
                Ok(socket) => open.push((position, socket)),
                Err(error) => problem = Some(error),
            }
            next_attempt = now + ATTEMPT_DELAY;
            continue;
        }
        if open.is_empty() {
            let error = problem.unwrap_or_else(|| io::Error::other("its host has no address"));
            return Err(refused(engine, error));
        }
        let until = if waiting.len() > 0 { deadline.min(next_attempt) } else { deadline };
        let wait = WaitSet::new(&open.iter().map(|(_, socket)| socket.as_raw_fd()).collect::<Vec<_>>());
        (0..open.len()).for_each(|place| wait.set_writable(place, true));
        if !wait.wait(until.saturating_duration_since(now), &engine.request_id) {
            continue;
        }
        drop(wait);
        let mut place = 0;
        while place < open.len() {
            match outcome(&open[place].1) {
                None => place += 1,
                Some(Ok(())) => return Ok(open.swap_remove(place)),
                Some(Err(error)) => {
                    problem = Some(error);
                    open.swap_remove(place);
                    // The next is tried at once.
                    next_attempt = now;
                }
            }
        }
    }
}

/// Begins to connect, without waiting.
fn begin(address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::from(address.family() as i32), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// What has become of the attempt to connect: `None` while it goes on.
fn outcome(socket: &Socket) -> Option<io::Result<()>> {
    match socket.take_error() {
        Ok(Some(error)) | Err(error) => return Some(Err(error)),
        Ok(None) => (),
    }
    match socket.peer_addr() {
        Ok(_) => Some(Ok(())),
        Err(error) if error.kind() == ErrorKind::NotConnected => None,
        Err(error) => Some(Err(error)),
    }
}

fn wait_connected(socket: &Socket, engine: &Engine, deadline: Instant) -> Result<()> {
    loop {
        match outcome(socket) {
            Some(result) => return result.map_err(|error| refused(engine, error)),
            None => wait_for(socket, true, engine, deadline)?,
        }
    }
}

fn wait_for(socket: &Socket, writable: bool, engine: &Engine, deadline: Instant) -> Result<()> {
    let wait = WaitSet::new(&[socket.as_raw_fd()]);
    wait.set_writable(0, writable);
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() || !wait.wait(left, &engine.request_id) {
        return Err(engine.did_not_answer("no connection was made"));
    }
    Ok(())
}

fn refused(engine: &Engine, error: io::Error) -> Error {
    // A Unix socket whose queue is full says so at once, and there is nothing to wait on.
    if error.kind() == ErrorKind::WouldBlock {
        return Error::new(Kind::Overloaded, format!("{} accepts no more connections", engine.label()));
    }
    engine.cannot_connect(&error)
}

/// Asks a proxy for a tunnel to an https engine. A request to an http engine is sent to the proxy
/// itself, see [`Engine::absolute_form`].
fn tunnel(mut socket: &Socket, engine: &Engine, deadline: Instant) -> Result<()> {
    if engine.options.proxy.is_none() || !engine.is_https() {
        return Ok(());
    }
    let target = format!("{}:{}", engine.options.base_url.host().unwrap_or_default(), engine.port());
    let authorization = engine.proxy_authorization.as_deref();
    let authorization =
        authorization.map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"));
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    // It fits into the send buffer of a new socket.
    socket.write_all(request.as_bytes()).map_err(|error| engine.cannot_connect(&error))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        // One byte at a time: what follows the head belongs to the engine.
        match socket.read(&mut byte) {
            Ok(0) => return Err(engine.cannot_connect(&"the proxy closed the connection")),
            Ok(_) => head.extend_from_slice(&byte),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_for(socket, false, engine, deadline)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(engine.cannot_connect(&error)),
        }
        if head.len() > MAX_PROXY_HEAD {
            return Err(engine.cannot_connect(&"the proxy's answer is not HTTP"));
        }
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(engine.cannot_connect(&format!("the proxy answered {line:?}"))),
    }
}

/// Puts TLS on a socket where the URL says so, and waits until both sides have agreed on keys: a
/// peer that accepts and then says nothing is found out as one that does not answer.
fn secure(socket: Socket, engine: &Engine, deadline: Instant) -> Result<Transport> {
    if !engine.is_https() {
        return Ok(match engine.options.unix_socket {
            Some(_) => Transport::Unix(socket),
            None => Transport::Tcp(socket),
        });
    }
    let name = ServerName::try_from(engine.host().to_owned()).map_err(|_| {
        Error::new(Kind::CannotConnect, format!("{}: TLS cannot check the name of its host", engine.label()))
    })?;
    let tls =
        ClientConnection::new(tls::config(engine)?, name).map_err(|error| engine.cannot_connect(&error))?;
    let mut stream = Box::new(rustls::StreamOwned::new(tls, socket));
    let wait = WaitSet::new(&[stream.sock.as_raw_fd()]);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait.set_writable(0, stream.conn.wants_write());
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || !wait.wait(left, &engine.request_id) {
                    return Err(engine.did_not_answer("TLS was not agreed on"));
                }
            }
            Err(error) => return Err(engine.cannot_connect(&error)),
        }
    }
    Ok(Transport::Tls(stream))
}
