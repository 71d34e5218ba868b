//! The rows of one request.

use std::task::{Context, Poll, Waker};
use std::thread;

use napi::bindgen_prelude::{Either4, Null, Undefined};
use napi_derive::napi;
use pgml::{ChatStream, Result, Row};

use crate::error::Failure;
use crate::wake::Unpark;

/// A row's JSON, an error, `null` at the end, or `undefined` while nothing is there.
type Step = Either4<String, Failure, Null, Undefined>;

/// The rows of one request. Dropping it, as garbage collection does, ends the request.
#[napi]
pub struct Rows {
    stream: Option<ChatStream>,
    waker: Waker,
}

impl Rows {
    pub fn new(stream: ChatStream, waker: Waker) -> Rows {
        Rows { stream: Some(stream), waker }
    }
}

#[napi]
impl Rows {
    /// The next row, if it is there. After `undefined` the event loop is notified once it is.
    #[napi]
    pub fn take(&mut self) -> Step {
        let Some(stream) = &mut self.stream else { return Either4::C(Null) };
        match stream.poll_next(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(row) => step(row),
            Poll::Pending => Either4::D(()),
        }
    }

    /// The next row. Blocks the thread until it is there; a signal such as Ctrl-C ends the process
    /// meanwhile.
    #[napi]
    pub fn take_blocking(&mut self) -> Step {
        let Some(stream) = &mut self.stream else { return Either4::C(Null) };
        let waker = Unpark::waker();
        loop {
            match stream.poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(row) => return step(row),
                Poll::Pending => thread::park(),
            }
        }
    }

    /// Ends the request: its connection closes, and the engine stops.
    #[napi]
    pub fn close(&mut self) {
        self.stream = None;
    }
}

fn step(row: Option<Result<Row>>) -> Step {
    match row {
        None => Either4::C(Null),
        Some(Err(error)) => Either4::B(error.into()),
        // The database sends UTF-8.
        Some(Ok(row)) => match row.json() {
            Ok(json) => Either4::A(String::from_utf8_lossy(json).into_owned()),
            Err(error) => Either4::B(error.into()),
        },
    }
}
