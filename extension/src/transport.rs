//! A connection to an engine: TCP, TLS or a Unix socket, never blocking.

use std::io::{self, ErrorKind, Read, Write};
use std::net::ToSocketAddrs;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use pgml_protocol::{Error, Kind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::engine::Engine;
use crate::shim::WaitSet;

pub enum Transport {
    Plain(Socket),
    Tls(Box<rustls::StreamOwned<ClientConnection, Socket>>),
}

impl Transport {
    /// Connects, with TLS where the URL says so. Waits as a backend waits, so a cancel ends it.
    pub fn connect(engine: &Engine) -> Result<Transport> {
        let deadline = Instant::now() + engine.connect_timeout;
        let socket = match &engine.unix_socket {
            Some(path) => {
                open(&SockAddr::unix(path).map_err(|error| engine.cannot_connect(&error))?, engine)?
            }
            None => open_tcp(engine)?,
        };
        if engine.uri.scheme_str() != Some("https") {
            return Ok(Transport::Plain(socket));
        }
        let name = ServerName::try_from(engine.host().to_owned()).map_err(|_| {
            Error::new(
                Kind::CannotConnect,
                format!("{}: its host is no name that TLS can check", engine.label()),
            )
        })?;
        let tls = ClientConnection::new(tls_config(engine)?, name)
            .map_err(|error| engine.cannot_connect(&error))?;
        let mut stream = Box::new(rustls::StreamOwned::new(tls, socket));
        shake_hands(&mut stream, engine, deadline)?;
        Ok(Transport::Tls(stream))
    }

    pub fn socket(&self) -> RawFd {
        match self {
            Transport::Plain(socket) => socket.as_raw_fd(),
            Transport::Tls(stream) => stream.sock.as_raw_fd(),
        }
    }

    /// Whether TLS itself has bytes to send.
    pub fn wants_write(&self) -> bool {
        matches!(self, Transport::Tls(stream) if stream.conn.wants_write())
    }

    /// Sends what the socket takes: `None` when it takes nothing now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        would_block(match self {
            Transport::Plain(socket) => socket.write(bytes),
            Transport::Tls(stream) => stream.write(bytes).and_then(|count| match stream.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => Ok(count),
            }),
        })
    }

    /// Receives what is there: `None` when nothing is, 0 when the peer has closed.
    pub fn read(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        would_block(match self {
            Transport::Plain(socket) => socket.read(bytes),
            Transport::Tls(stream) => stream.read(bytes),
        })
    }
}

fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_tcp(engine: &Engine) -> Result<Socket> {
    let addresses =
        (engine.host(), engine.port()).to_socket_addrs().map_err(|error| engine.cannot_connect(&error))?;
    let mut result = Err(engine.cannot_connect(&"its host has no address"));
    for address in addresses {
        result = open(&address.into(), engine);
        if result.is_ok() {
            break;
        }
    }
    let socket = result?;
    // A request is one write; waiting for more to send would only delay it.
    socket.set_tcp_nodelay(true).map_err(|error| engine.cannot_connect(&error))?;
    Ok(socket)
}

fn open(address: &SockAddr, engine: &Engine) -> Result<Socket> {
    let failed = |error: io::Error| engine.cannot_connect(&error);
    let socket = Socket::new(Domain::from(address.family() as i32), Type::STREAM, None).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    match socket.connect(address) {
        Ok(()) => return Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => (),
        // A Unix socket whose queue is full says so at once, and there is nothing to wait on.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(Error::new(
                Kind::Overloaded,
                format!("{} accepts no more connections", engine.label()),
            ));
        }
        Err(error) => return Err(failed(error)),
    }
    let wait = WaitSet::new(&[socket.as_raw_fd()]);
    wait.set_writable(0, true);
    if !wait.wait(engine.connect_timeout, &engine.request_id) {
        return Err(did_not_answer(engine));
    }
    match socket.take_error() {
        Ok(None) => Ok(socket),
        Ok(Some(error)) | Err(error) => Err(failed(error)),
    }
}

/// Waits until TLS has agreed on its keys, so that a peer that accepts and then says nothing is
/// found out as one that does not answer.
fn shake_hands(
    stream: &mut rustls::StreamOwned<ClientConnection, Socket>,
    engine: &Engine,
    deadline: Instant,
) -> Result<()> {
    let wait = WaitSet::new(&[stream.sock.as_raw_fd()]);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait.set_writable(0, stream.conn.wants_write());
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || !wait.wait(left, &engine.request_id) {
                    return Err(did_not_answer(engine));
                }
            }
            Err(error) => return Err(engine.cannot_connect(&error)),
        }
    }
    Ok(())
}

fn did_not_answer(engine: &Engine) -> Error {
    Error::new(
        Kind::CannotConnect,
        format!("{} did not answer within {:?}", engine.label(), engine.connect_timeout),
    )
    .hint("The server's option connect_timeout sets this limit.")
}

/// Whom to trust: the engine's own `sslrootcert`, else what the machine trusts.
fn tls_config(engine: &Engine) -> Result<Arc<ClientConfig>> {
    static MACHINE: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let Some(file) = &engine.sslrootcert else {
        return Ok(MACHINE
            .get_or_init(|| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                trusting(roots)
            })
            .clone());
    };
    let unreadable = |problem: &dyn std::fmt::Display| {
        Error::new(Kind::CannotConnect, format!("{}: sslrootcert cannot be used: {problem}", engine.label()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    Ok(trusting(roots))
}

fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports rustls's default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
