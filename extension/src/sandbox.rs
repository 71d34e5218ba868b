//! Work in a child process of the backend: what may block, or may crash.
//!
//! A chat template is a program of its author's. Its steps are counted, but some steps cost more
//! than others: a list that contains itself twice, forty levels deep, takes all memory to print,
//! and one that is nested a hundred thousand times takes the whole stack. If the backend died of
//! that, Postgres would restart with all of its sessions. In a child it ends only the child.

use std::ffi::CStr;
use std::fs;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pgml_protocol::{Error, Kind, Result};

use crate::shim::WaitSet;

/// Seconds of CPU. The steps that a template may do take a fraction of one.
const MAX_CPU: libc::rlim_t = 2;
/// Bytes, on top of what the backend has.
const MAX_MEMORY: libc::rlim_t = 512 << 20;

/// What the child writes before a text, and before the message of an error.
const TEXT: u8 = b'+';
const MESSAGE: u8 = b'-';

/// The text that `render` makes of a template, or its error. Can be cancelled.
pub fn run(request_id: &CStr, render: impl FnOnce() -> Result<String>) -> Result<String> {
    let answer = in_child(request_id, None, || match render() {
        Ok(text) => [&[TEXT], text.as_bytes()].concat(),
        Err(error) => [&[MESSAGE], error.message.as_bytes()].concat(),
    });
    let answer = answer.map_err(|error| {
        Error::new(Kind::Overloaded, format!("cannot start a process for the chat template: {error}"))
    })?;
    match answer.as_deref().and_then(<[u8]>::split_first) {
        Some((&TEXT, text)) => Ok(String::from_utf8_lossy(text).into_owned()),
        Some((_, message)) => {
            let message = String::from_utf8_lossy(message).into_owned();
            Err(Error { param: Some("chat_template".into()), ..Error::new(Kind::InvalidRequest, message) })
        }
        None => Err(Error::invalid("chat_template", "takes more time, memory or stack than a template may")),
    }
}

/// What `work` returns when it is run in a child of the backend. `None`: the child died, or did not
/// end before the deadline. Can be cancelled.
pub fn in_child(
    request_id: &CStr,
    deadline: Option<Instant>,
    work: impl FnOnce() -> Vec<u8>,
) -> io::Result<Option<Vec<u8>>> {
    let (mut reader, writer) = io::pipe()?;
    let child = Child::start(writer, work)?;
    let wait = WaitSet::new(&[reader.as_raw_fd()]);
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        // Without a deadline, the child's own limit ends the wait.
        let left =
            deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if !wait.wait(left, request_id) && deadline.is_some() {
            return Ok(None);
        }
        match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(child.end().then_some(answer))
}

/// A process. Dropping it ends it.
struct Child(libc::pid_t);

impl Child {
    fn start(mut writer: PipeWriter, work: impl FnOnce() -> Vec<u8>) -> io::Result<Child> {
        // SAFETY: plain C structs, filled in by the calls below before they are read.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: a backend has one thread, so that the child is whole. It starts with all signals
        // blocked, and so never runs Postgres's handlers.
        let pid = unsafe {
            libc::sigfillset(&mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &all, &mut before);
            libc::fork()
        };
        if pid != 0 {
            let error = io::Error::last_os_error();
            // SAFETY: `before` is the mask that was set.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
            return if pid < 0 { Err(error) } else { Ok(Child(pid)) };
        }
        let answer = catch_unwind(AssertUnwindSafe(|| {
            confine();
            work()
        }));
        let written = answer.is_ok_and(|answer| writer.write_all(&answer).is_ok());
        // SAFETY: ends the child at once, without what Postgres has to do at a backend's exit.
        unsafe { libc::_exit(if written { 0 } else { 1 }) }
    }

    /// Waits for the end, and tells whether it was a good one.
    fn end(self) -> bool {
        let status = self.wait();
        std::mem::forget(self);
        status == 0
    }

    fn wait(&self) -> libc::c_int {
        let mut status = -1;
        // SAFETY: a child of this process that nobody else waits for.
        while unsafe { libc::waitpid(self.0, &mut status, 0) } < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: not waited for yet, so that the number still is this child's.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        self.wait();
    }
}

/// Sets the limits of the child that this runs in.
fn confine() {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let limit = |resource, most| {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: reads the struct and changes nothing but this process's limits.
        unsafe { libc::setrlimit(resource, &limit) };
    };
    // SAFETY: ask for a signal at the parent's death, and for the size of a page.
    let page = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::sysconf(libc::_SC_PAGESIZE)
    };
    limit(libc::RLIMIT_CPU, MAX_CPU);
    limit(libc::RLIMIT_AS, pages * page as libc::rlim_t + MAX_MEMORY);
    limit(libc::RLIMIT_CORE, 0);
}
