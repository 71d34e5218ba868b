//! The process that runs an engine, where it is on this machine: who it is, and what it has used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// How long it is remembered who listens on a port of this machine: finding out takes milliseconds.
const FRESH: Duration = Duration::from_secs(60);

thread_local! {
    static LISTENERS: RefCell<HashMap<u16, (Instant, Option<libc::pid_t>)>> = RefCell::default();
}

/// The process at the other end of a connected socket, if it is one of this machine that this
/// server's account may know.
pub fn behind(socket: RawFd) -> Option<libc::pid_t> {
    match peer(socket)? {
        Peer::Unix(pid) => Some(pid).filter(|pid| *pid > 0),
        Peer::Tcp(address) if is_local(address.ip()) => listener(address.port()),
        Peer::Tcp(_) => None,
    }
}

enum Peer {
    Unix(libc::pid_t),
    Tcp(SocketAddr),
}

fn peer(socket: RawFd) -> Option<Peer> {
    // SAFETY: the descriptor is open for as long as the call; the socket only borrows it.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(socket) };
    let socket = socket2::SockRef::from(&socket);
    let address = socket.peer_addr().ok()?;
    if let Some(address) = address.as_socket() {
        return Some(Peer::Tcp(address));
    }
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into the struct.
    let result = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&*socket),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &mut length,
        )
    };
    (result == 0).then_some(Peer::Unix(credentials.pid))
}

/// Whether an address is this machine's without asking it: an engine beside Postgres listens there.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback()
}

fn listener(port: u16) -> Option<libc::pid_t> {
    let known = LISTENERS.with_borrow(|listeners| {
        listeners
            .get(&port)
            .filter(|(since, pid)| since.elapsed() < FRESH && pid.is_none_or(is_alive))
            .copied()
    });
    if let Some((_, pid)) = known {
        return pid;
    }
    let found = inode_of_listener(port).and_then(holder);
    LISTENERS.with_borrow_mut(|listeners| listeners.insert(port, (Instant::now(), found)));
    found
}

fn is_alive(pid: libc::pid_t) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

/// The socket that listens on a port (proc_net_tcp in the kernel's documentation: the state 0A).
fn inode_of_listener(port: u16) -> Option<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(3) == Some(&"0A");
            let at_port = fields.get(1)?.rsplit(':').next() == Some(format!("{port:04X}").as_str());
            (listens && at_port).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
    })
}

/// The process that holds a socket. Another account's is not to be seen.
fn holder(inode: String) -> Option<libc::pid_t> {
    let name = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: libc::pid_t = entry.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let holds =
            |file: &fs::DirEntry| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == name.as_str());
        files.any(|file| holds(&file)).then_some(pid)
    })
}

/// The CPU time of all threads of a process, to the nanosecond. `None` once it has ended.
pub fn cpu(pid: libc::pid_t) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: writes the id of a clock.
    if unsafe { libc::clock_getcpuclockid(pid, &mut clock) } != 0 {
        return None;
    }
    read(clock)
}

/// The CPU time of this backend.
pub fn own_cpu() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

fn read(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    (result == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
