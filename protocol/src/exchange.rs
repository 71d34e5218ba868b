//! One HTTP request to an engine and its streamed answer, without a socket.
//!
//! The caller moves bytes: it sends [`Exchange::to_send`], hands over what it received by
//! [`Exchange::received`], and says when the peer has closed. [`Exchange::drain`] gives events.

use http::{Request, Uri, header};
use serde_json::Value;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvResponseResult, SendRequestResult};

pub use crate::body::DONE;
use crate::body::{Body, lost, nonsense};
use crate::engine_error::blame_part;
use crate::error::{Error, Kind, Result};

/// A head, or the length of an HTTP chunk, is read up to this size.
const MAX_UNDECODED: usize = 256 << 10;
/// Decoding writes this much at a time; an engine's event has some hundred bytes.
const DECODE_STEP: usize = 16 << 10;

/// One request and its answer.
pub struct Exchange {
    request: Vec<u8>,
    sent: usize,
    /// Received bytes that HTTP has not decoded yet.
    input: Vec<u8>,
    /// Where HTTP decodes to: kept, since to make it anew is to write zeros all over it.
    decoded: Vec<u8>,
    state: State,
    status: u16,
    body: Body,
}

enum State {
    Head(Box<Call<RecvResponse>>),
    Body(Box<Call<RecvBody>>),
    Ended,
}

impl Exchange {
    /// A POST of `body` to `uri`. The key goes into the `Authorization` header and nowhere else.
    pub fn post(uri: &Uri, key: Option<&str>, request_id: &str, body: &[u8]) -> Result<Exchange> {
        let builder = Request::post(uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::ACCEPT, "text/event-stream")
            .header("x-request-id", request_id);
        Exchange::start(builder, key, body)
    }

    /// A GET of a small JSON document, such as llama.cpp's `/props`.
    pub fn get(uri: &Uri, key: Option<&str>) -> Result<Exchange> {
        Exchange::start(Request::get(uri.clone()), key, b"")
    }

    fn start(mut builder: http::request::Builder, key: Option<&str>, body: &[u8]) -> Result<Exchange> {
        if let Some(key) = key {
            let value = header::HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                Error::new(Kind::Authentication, "the engine's api_key holds characters that HTTP forbids")
            })?;
            builder = builder.header(header::AUTHORIZATION, value);
        }
        // One request a connection: an engine with a thread per connection (llama.cpp's server)
        // would run out of threads if every Postgres backend kept one open.
        let request = builder.header(header::CONNECTION, "close").body(()).map_err(internal)?;
        let mut call = Call::new(request).map_err(internal)?.proceed();
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        while !call.can_proceed() {
            length += match call.write(&mut bytes[length..]) {
                Ok(0) | Err(ureq_proto::Error::OutputOverflow) => {
                    bytes.resize(bytes.len() * 2, 0);
                    0
                }
                Ok(written) => written,
                Err(error) => return Err(internal(error)),
            };
        }
        bytes.truncate(length);
        let call = match call.proceed().map_err(internal)? {
            Some(SendRequestResult::SendBody(mut call)) => {
                bytes.extend_from_slice(body);
                call.consume_direct_write(body.len()).map_err(internal)?;
                call.proceed()
            }
            Some(SendRequestResult::RecvResponse(call)) => Some(call),
            _ => None,
        };
        let call = call.ok_or_else(|| Error::new(Kind::Engine, "the HTTP request is incomplete"))?;
        Ok(Exchange {
            request: bytes,
            sent: 0,
            input: Vec::new(),
            decoded: vec![0; DECODE_STEP],
            state: State::Head(Box::new(call)),
            status: 0,
            body: Body::none(),
        })
    }

    /// What is still to be sent.
    pub fn to_send(&self) -> &[u8] {
        &self.request[self.sent..]
    }

    /// `count` more bytes have been sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// Takes bytes that were received, for [`Exchange::drain`] to decode.
    pub fn received(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Decodes what was received, and calls `event` with the data of every event in it: a chunk, or
    /// [`DONE`] for whatever an engine ends its stream with.
    ///
    /// An answer in one piece is one event, once it is complete. An answer that is an error becomes
    /// that error as soon as it is complete.
    pub fn drain(&mut self, event: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.decode()?;
        let ended = self.is_ended();
        let status = self.status;
        let result = self.body.drain(ended, event);
        result.map_err(|error| blame_part(error, status, self.request_body()))
    }

    /// The peer has closed its side. [`Exchange::drain`] then gives what was left.
    pub fn closed(&mut self) -> Result<()> {
        let whole = match &self.state {
            State::Ended => true,
            State::Head(_) => false,
            // Without a length, the end of the connection is the end of the body.
            State::Body(call) => call.can_proceed(),
        };
        if !whole {
            return Err(self.broken_off().unwrap_or_else(lost));
        }
        self.state = State::Ended;
        Ok(())
    }

    /// The connection is lost: what the engine has said by then, if it refused the request.
    ///
    /// An engine that refuses a request before it has read it all (413, mostly) answers, closes,
    /// and resets the connection when more of the request arrives.
    pub fn broken_off(&mut self) -> Option<Error> {
        let error = self.body.broken_off()?;
        Some(blame_part(error, self.status, self.request_body()))
    }

    /// Whether the whole answer has been received.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The answer to [`Exchange::get`], once it has ended.
    pub fn document(&mut self) -> Result<Option<Value>> {
        self.decode()?;
        Ok(self.body.document().filter(|_| self.is_ended()))
    }

    fn decode(&mut self) -> Result<()> {
        let mut consumed = 0;
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Head(mut call) => {
                    let (used, response) =
                        call.try_response(&self.input[consumed..], false).map_err(nonsense)?;
                    consumed += used;
                    let Some(response) = response else {
                        self.state = State::Head(call);
                        // A further 1xx answer may be there; nothing used means that more is needed.
                        if used == 0 {
                            break;
                        }
                        continue;
                    };
                    self.status = response.status().as_u16();
                    self.body = Body::new(&response);
                    self.state = match call.proceed() {
                        Some(RecvResponseResult::RecvBody(call)) => State::Body(Box::new(call)),
                        // A redirect is never followed: its target is not an address that an
                        // administrator set up.
                        _ => State::Ended,
                    };
                }
                State::Body(mut call) => {
                    let (used, written) =
                        call.read(&self.input[consumed..], &mut self.decoded).map_err(nonsense)?;
                    self.body.push(&self.decoded[..written])?;
                    consumed += used;
                    // A close-delimited body ends when the peer closes, which `closed` tells.
                    let ended =
                        call.can_proceed() && call.body_mode() != ureq_proto::BodyMode::CloseDelimited;
                    if ended {
                        continue;
                    }
                    self.state = State::Body(call);
                    if used == 0 && written == 0 {
                        break;
                    }
                }
                State::Ended => break,
            }
        }
        self.input.drain(..consumed);
        if self.input.len() > MAX_UNDECODED && !self.is_ended() {
            return Err(nonsense("an HTTP head of over 256 KiB"));
        }
        Ok(())
    }

    fn request_body(&self) -> &[u8] {
        let head = self.request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        head.map_or(&[], |end| &self.request[end + 4..])
    }
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Engine, format!("the HTTP request cannot be written: {error}"))
}
