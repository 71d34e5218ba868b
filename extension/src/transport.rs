//! A connection to an engine: TCP, TLS or a Unix socket, never blocking.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use rustls::ClientConnection;
use socket2::Socket;

pub enum Transport {
    Unix(Socket),
    Tcp(Socket),
    Tls(Box<rustls::StreamOwned<ClientConnection, Socket>>),
}

impl Transport {
    pub fn socket(&self) -> RawFd {
        match self {
            Transport::Unix(socket) | Transport::Tcp(socket) => socket.as_raw_fd(),
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
            Transport::Unix(socket) | Transport::Tcp(socket) => socket.write(bytes),
            Transport::Tls(stream) => stream.write(bytes).and_then(|count| match stream.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => Ok(count),
            }),
        })
    }

    /// Receives what is there: `None` when nothing is, 0 when the peer has closed.
    pub fn read(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        let received = would_block(match self {
            Transport::Unix(socket) | Transport::Tcp(socket) => socket.read(bytes),
            Transport::Tls(stream) => stream.read(bytes),
        });
        if let (Ok(Some(1..)), Some(socket)) = (&received, self.tcp()) {
            // An engine that does not set TCP_NODELAY sends its next small piece when this one has
            // been acknowledged, which Linux may put off by 40 ms. The kernel forgets the setting.
            let _ = socket.set_tcp_quickack(true);
        }
        received
    }

    fn tcp(&self) -> Option<&Socket> {
        match self {
            Transport::Unix(_) => None,
            Transport::Tcp(socket) => Some(socket),
            Transport::Tls(stream) => Some(&stream.sock),
        }
    }
}

fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
