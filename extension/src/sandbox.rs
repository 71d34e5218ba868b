//! A process of its own for a chat template, which is a program from a caller.
//!
//! minijinja bounds the instructions and the text of a template. It does not bound how deep its
//! values nest, what Python's methods build inside, or how long two values are compared: a few
//! lines can overflow the stack, and a backend that crashes takes the whole server down. So a
//! template runs in a child with the kernel's limits, and may crash there. The backend waits for
//! it as it waits for an engine: a cancel or a timeout ends it.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pgml_protocol::{Error, Kind, Result};

use crate::shim::WaitSet;

/// Beyond what the backend itself has. minijinja's own limit of 128 MB does not count copies.
const MEMORY: u64 = 512 << 20;
const STACK: u64 = 8 << 20;
const CPU_SECONDS: u64 = 2;

/// How an answer begins: the text, or why there is none.
const TEXT: u8 = b'=';
const REFUSAL: u8 = b'!';

/// Runs `render` in a child process, and returns what it returns. It must use nothing of Postgres.
pub fn run(render: impl FnOnce() -> Result<String>) -> Result<String> {
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    // What the backend has now: the child starts with as much.
    let size = address_space()?;
    // No handler of Postgres's may run in the child: signals wait until it has put them back.
    let mask = Mask::all();
    // SAFETY: a backend has one thread, so the child is a whole copy of it, locks included.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        confine(theirs.as_raw_fd(), size + MEMORY);
        drop(mask);
        answer(theirs, render);
    }
    drop(mask);
    drop(theirs);
    if pid < 0 {
        return Err(failed(std::io::Error::last_os_error()));
    }
    let child = Child(pid);
    let mut received = Vec::new();
    let wait = WaitSet::new(&[ours.as_raw_fd()]);
    loop {
        match ours.read_to_end(&mut received) {
            Ok(_) => break,
            // The child has its own limit of time.
            Err(error) if error.kind() == ErrorKind::WouldBlock => drop(wait.wait(Duration::MAX)),
            Err(error) => return Err(failed(error)),
        }
    }
    let status = child.wait();
    match received.split_first() {
        _ if !libc::WIFEXITED(status) => {
            let out_of_time = libc::WTERMSIG(status) == libc::SIGXCPU;
            Err(Error::invalid(
                "chat_template",
                if out_of_time {
                    format!("does not end within {CPU_SECONDS} seconds")
                } else {
                    "takes more memory, or nests deeper, than it may".into()
                },
            ))
        }
        Some((&TEXT, text)) => String::from_utf8(text.to_vec()).map_err(failed),
        Some((&REFUSAL, message)) => Err(Error {
            param: Some("chat_template".into()),
            ..Error::new(Kind::InvalidRequest, String::from_utf8_lossy(message))
        }),
        _ => Err(Error::invalid("chat_template", "cannot be applied to these messages")),
    }
}

/// The child's part: makes the text, says it, and ends without a trace.
fn answer(mut parent: UnixStream, render: impl FnOnce() -> Result<String>) -> ! {
    let said = catch_unwind(AssertUnwindSafe(|| {
        let (kind, text) = match render() {
            Ok(text) => (TEXT, text),
            Err(error) => (REFUSAL, error.message),
        };
        parent.write_all(&[kind]).and_then(|()| parent.write_all(text.as_bytes())).is_ok()
    }));
    // SAFETY: ends the process. exit() would run what Postgres does at the end of a backend.
    unsafe { libc::_exit(if said.unwrap_or(false) { 0 } else { 1 }) }
}

/// Takes from a new child what it needs not have: the backend's files, sockets and signal handlers,
/// and all memory and time but its share. It dies with the backend.
fn confine(parent: RawFd, memory: u64) {
    let limits = [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_AS, memory),
        (libc::RLIMIT_STACK, STACK),
        (libc::RLIMIT_CPU, CPU_SECONDS),
    ];
    // SAFETY: plain system calls on this process, with valid pointers. The descriptors that close
    // belong to nobody here: the child runs nothing of Postgres.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        // These go to a backend's whole process group. The backend ends the child itself, and says
        // that it was cancelled, not that the template failed.
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
        for (resource, most) in limits {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(resource, &mut limit);
            limit.rlim_cur = most.min(limit.rlim_max);
            if libc::setrlimit(resource, &limit) != 0 {
                libc::_exit(1);
            }
        }
        let parent = parent as libc::c_uint;
        libc::syscall(libc::SYS_close_range, 0, parent - 1, 0);
        libc::syscall(libc::SYS_close_range, parent + 1, libc::c_uint::MAX, 0);
    }
}

/// The bytes that this process has mapped.
fn address_space() -> Result<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").map_err(failed)?;
    let pages: u64 = pages.split(' ').next().unwrap_or_default().parse().map_err(failed)?;
    // SAFETY: asks for a constant of the system.
    Ok(pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64)
}

/// A child process. Dropped, it is killed: nobody waits for it any more.
struct Child(libc::pid_t);

impl Child {
    /// Its status, once it has ended.
    fn wait(self) -> i32 {
        let status = reap(self.0);
        std::mem::forget(self);
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: our own child, not waited for yet, so its number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        reap(self.0);
    }
}

fn reap(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: a valid pointer. A signal to the backend may interrupt it.
    while unsafe { libc::waitpid(pid, &mut status, 0) } < 0
        && std::io::Error::last_os_error().kind() == ErrorKind::Interrupted
    {}
    status
}

/// While it lives, signals wait.
struct Mask(libc::sigset_t);

impl Mask {
    fn all() -> Mask {
        // SAFETY: sigset_t is plain data, and both sets are valid for the call.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Mask(before)
        }
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        // SAFETY: the mask that was there before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Engine, format!("cannot run the chat_template: {error}"))
}
