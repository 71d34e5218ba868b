//! One HTTP request to an engine and its streamed answer, without a socket.
//!
//! The caller moves bytes: it sends [`Exchange::to_send`], hands over what it received by
//! [`Exchange::received`], and says when the peer has closed. [`Exchange::drain`] gives events.

use std::rc::Rc;

pub use http::HeaderMap;
use http::{Request, Response, Uri, Version, header};
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

/// A body that is shorter is sent together with the head, in one write.
const SMALL_BODY: usize = 16 << 10;

/// The body of a request. Several requests can share the large part of it.
#[derive(Clone, Debug, Default)]
pub struct RequestBody {
    pub shared: Rc<[u8]>,
    pub own: Vec<u8>,
}

impl RequestBody {
    fn len(&self) -> usize {
        self.shared.len() + self.own.len()
    }
}

impl From<&[u8]> for RequestBody {
    fn from(bytes: &[u8]) -> RequestBody {
        RequestBody { shared: Rc::default(), own: bytes.to_vec() }
    }
}

/// One request and its answer.
pub struct Exchange {
    /// The request's head, and a small body with it.
    head: Vec<u8>,
    body: RequestBody,
    sent: usize,
    /// Received bytes that HTTP has not decoded yet.
    input: Vec<u8>,
    /// Where HTTP decodes to: kept, since to make it anew is to write zeros all over it.
    decoded: Vec<u8>,
    state: State,
    status: u16,
    /// Whether the engine leaves the connection open after its answer.
    stays_open: bool,
    answer: Body,
    max_answer: u64,
}

enum State {
    Head(Box<Call<RecvResponse>>),
    Body(Box<Call<RecvBody>>),
    Ended,
}

impl Exchange {
    /// A POST of a JSON `body` to `uri`. `headers` are those that engines differ in: keys, ids, and
    /// `Connection: close` where the connection is not used again.
    pub fn post(uri: &Uri, headers: &HeaderMap, body: RequestBody) -> Result<Exchange> {
        let builder = Request::post(uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::ACCEPT, "text/event-stream");
        Exchange::start(builder, headers, body)
    }

    /// A GET of a small JSON document, such as llama.cpp's `/props`.
    pub fn get(uri: &Uri, headers: &HeaderMap) -> Result<Exchange> {
        Exchange::start(Request::get(uri.clone()), headers, RequestBody::default())
    }

    fn start(
        mut builder: http::request::Builder,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Exchange> {
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let mut call = Call::new(builder.body(()).map_err(internal)?).map_err(internal)?.proceed();
        let mut head = vec![0; 4096];
        let mut length = 0;
        while !call.can_proceed() {
            length += match call.write(&mut head[length..]) {
                Ok(0) | Err(ureq_proto::Error::OutputOverflow) => {
                    head.resize(head.len() * 2, 0);
                    0
                }
                Ok(written) => written,
                Err(error) => return Err(internal(error)),
            };
        }
        head.truncate(length);
        let call = match call.proceed().map_err(internal)? {
            Some(SendRequestResult::SendBody(mut call)) => {
                call.consume_direct_write(body.len()).map_err(internal)?;
                call.proceed()
            }
            Some(SendRequestResult::RecvResponse(call)) => Some(call),
            _ => None,
        };
        let call = call.ok_or_else(|| Error::new(Kind::Engine, "the HTTP request is incomplete"))?;
        let body = if body.len() < SMALL_BODY {
            head.extend_from_slice(&body.shared);
            head.extend_from_slice(&body.own);
            RequestBody::default()
        } else {
            body
        };
        Ok(Exchange {
            head,
            body,
            sent: 0,
            input: Vec::new(),
            decoded: vec![0; DECODE_STEP],
            state: State::Head(Box::new(call)),
            status: 0,
            stays_open: false,
            answer: Body::none(),
            max_answer: u64::MAX,
        })
    }

    /// Names the engine's host in the request line, as a proxy needs it (RFC 9112, section 3.2.2).
    pub fn absolute_form(mut self, uri: &Uri) -> Exchange {
        if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority())
            && let Some(space) = self.head.iter().position(|byte| *byte == b' ')
        {
            let host = format!("{scheme}://{authority}");
            self.head.splice(space + 1..space + 1, host.into_bytes());
        }
        self
    }

    /// Sets how many bytes the answer may have.
    pub fn limited(mut self, max_answer: u64) -> Exchange {
        self.max_answer = max_answer;
        self
    }

    /// What is to be sent next; empty once all has been.
    pub fn to_send(&self) -> &[u8] {
        let mut sent = self.sent;
        for part in [&self.head[..], &self.body.shared, &self.body.own] {
            match part.get(sent..) {
                Some(rest) if !rest.is_empty() => return rest,
                _ => sent -= part.len(),
            }
        }
        &[]
    }

    /// `count` more bytes have been sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// Has the request sent again, on another connection. False if an answer has begun by then.
    pub fn rewind(&mut self) -> bool {
        let is_unanswered = matches!(self.state, State::Head(_)) && self.input.is_empty();
        if is_unanswered {
            self.sent = 0;
        }
        is_unanswered
    }

    /// Whether the connection can carry another request once this one has been answered to the end.
    pub fn stays_open(&self) -> bool {
        self.stays_open && self.to_send().is_empty()
    }

    /// Whether the connection can carry another request: this one has been answered to the end, and
    /// neither side has said that it closes.
    pub fn leaves_open(&self) -> bool {
        self.is_ended() && self.stays_open() && self.input.is_empty()
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
        let result = self.answer.drain(ended, event);
        result.map_err(|error| blame_part(error, status, &self.request_body()))
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
        self.stays_open = false;
        Ok(())
    }

    /// The connection is lost: what the engine has said by then, if it refused the request.
    ///
    /// An engine that refuses a request before it has read it all (413, mostly) answers, closes,
    /// and resets the connection when more of the request arrives.
    pub fn broken_off(&mut self) -> Option<Error> {
        let error = self.answer.broken_off()?;
        Some(blame_part(error, self.status, &self.request_body()))
    }

    /// Whether the whole answer has been received.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The answer to [`Exchange::get`], once it has ended.
    pub fn document(&mut self) -> Result<Option<Value>> {
        self.decode()?;
        Ok(self.answer.document().filter(|_| self.is_ended()))
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
                    self.answer = Body::new(&response, self.max_answer);
                    self.stays_open = stays_open(&response);
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
                    self.answer.push(&self.decoded[..written])?;
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

    fn request_body(&self) -> Vec<u8> {
        let head = self.head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let small = head.map_or(&[][..], |end| &self.head[end + 4..]);
        [small, &self.body.shared, &self.body.own].concat()
    }
}

/// Whether an answer allows for another request on its connection (RFC 9112, section 9.3).
fn stays_open(response: &Response<()>) -> bool {
    let mut closes = response.version() < Version::HTTP_11;
    for value in response.headers().get_all(header::CONNECTION) {
        let says = |word| value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains(word));
        closes = (closes && !says("keep-alive")) || says("close");
    }
    !closes
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Engine, format!("the HTTP request cannot be written: {error}"))
}
