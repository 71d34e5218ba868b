//! One HTTP request to an engine and its streamed answer, without a socket.
//!
//! The caller moves bytes: it sends [`Exchange::to_send`], hands over what it received by
//! [`Exchange::received`], and says when the peer has closed. [`Exchange::drain`] gives events.

use http::{Request, Uri, header};
use serde_json::Value;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvResponseResult, SendRequestResult};

use crate::engine_error::{blame_part, engine_error};
use crate::error::{Error, Kind, Result, detail};
use crate::sse::Events;

/// An answer that is no stream (an error, mostly) is read up to this size.
const MAX_PLAIN_BODY: usize = 1 << 20;
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

enum Body {
    /// A stream of events, as asked for.
    Events(Events),
    /// Anything else: an error, or no answer to our question at all.
    Plain { bytes: Vec<u8>, retry_after: Option<String>, content_type: String },
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
            body: Body::Plain { bytes: Vec::new(), retry_after: None, content_type: String::new() },
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

    /// Decodes what was received, and calls `event` with the data of every event in it.
    ///
    /// An answer that is an error becomes that error as soon as it is complete.
    pub fn drain(&mut self, event: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.decode()?;
        match &mut self.body {
            Body::Events(events) => events.drain(event),
            Body::Plain { .. } if matches!(self.state, State::Ended) => Err(self.plain_error()),
            Body::Plain { .. } => Ok(()),
        }
    }

    /// The peer has closed its side.
    pub fn closed(&mut self) -> Result<()> {
        let whole = match &self.state {
            State::Ended => true,
            State::Head(_) => false,
            // Without a length, the end of the connection is the end of the body.
            State::Body(call) => call.can_proceed(),
        };
        if !whole {
            return Err(lost());
        }
        self.state = State::Ended;
        match &self.body {
            Body::Events(events) if events.is_mid_event() => Err(lost()),
            Body::Events(_) => Ok(()),
            Body::Plain { .. } => Err(self.plain_error()),
        }
    }

    /// Whether the whole answer has been received.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The answer to [`Exchange::get`], once it has ended.
    pub fn document(&mut self) -> Result<Option<Value>> {
        self.decode()?;
        match &self.body {
            Body::Plain { bytes, .. } if self.is_ended() && self.status == 200 => {
                Ok(serde_json::from_slice(bytes).ok())
            }
            _ => Ok(None),
        }
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
                    self.body = body_for(&response);
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
                    match &mut self.body {
                        Body::Events(events) => events.buffer(),
                        Body::Plain { bytes, .. } => bytes,
                    }
                    .extend_from_slice(&self.decoded[..written]);
                    if let Body::Plain { bytes, .. } = &self.body
                        && bytes.len() > MAX_PLAIN_BODY
                    {
                        return Err(nonsense("an answer of over 1 MiB that is no event stream"));
                    }
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

    /// The error that a complete answer without events stands for.
    fn plain_error(&self) -> Error {
        let Body::Plain { bytes, retry_after, content_type } = &self.body else {
            return lost();
        };
        if self.status == 200 {
            return nonsense(format!("no event stream but {content_type:?}"));
        }
        let error = engine_error(self.status, &serde_json::from_slice(bytes).unwrap_or(Value::Null));
        let error = blame_part(error, self.status, self.request_body());
        match retry_after {
            Some(seconds) => error.detail(format!("{}{seconds}", detail::RETRY_AFTER)),
            None => error,
        }
    }
}

fn body_for(response: &http::Response<()>) -> Body {
    let text = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
            .map(str::to_owned)
    };
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    if response.status() == 200 && content_type.starts_with("text/event-stream") {
        Body::Events(Events::default())
    } else {
        Body::Plain { bytes: Vec::new(), retry_after: text(header::RETRY_AFTER), content_type }
    }
}

fn lost() -> Error {
    Error::new(Kind::ConnectionLost, "the engine closed the connection before its answer was complete")
}

fn nonsense(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::ProtocolViolation, format!("the engine answered nonsense: {what}"))
        .hint("Is base_url that of an OpenAI-compatible server? It usually ends in /v1.")
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Engine, format!("the HTTP request cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "data: {\"a\":1}\n\ndata: [DONE]\n\n";

    fn answer(bytes: &[u8], step: usize, close: bool) -> (Vec<String>, Result<()>) {
        let uri = "http://localhost/v1/chat/completions".parse().unwrap();
        let mut exchange = Exchange::post(&uri, Some("secret"), "id", b"{}").unwrap();
        let mut events = Vec::new();
        for part in bytes.chunks(step) {
            exchange.received(part);
            let result = exchange.drain(|data| {
                events.push(String::from_utf8_lossy(data).into_owned());
                Ok(())
            });
            if result.is_err() {
                return (events, result);
            }
        }
        let result = if close { exchange.closed() } else { Ok(()) };
        assert!(result.is_err() || exchange.is_ended());
        (events, result)
    }

    fn chunked() -> String {
        let chunks: String = BODY
            .as_bytes()
            .chunks(7)
            .map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c)))
            .collect();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        )
    }

    #[test]
    fn a_request_has_what_an_engine_needs() {
        let uri = "http://engine:8080/v1/chat/completions".parse().unwrap();
        let exchange = Exchange::post(&uri, Some("secret"), "id-1", b"{\"n\":1}").unwrap();
        let text = String::from_utf8(exchange.to_send().to_vec()).unwrap().to_lowercase();
        assert!(text.starts_with("post /v1/chat/completions http/1.1\r\n"), "{text}");
        for line in
            ["host: engine:8080", "authorization: bearer secret", "content-length: 7", "x-request-id: id-1"]
        {
            assert!(text.contains(&format!("{line}\r\n")), "{line} is missing in {text}");
        }
        assert!(text.ends_with("\r\n\r\n{\"n\":1}"), "{text}");
    }

    #[test]
    fn events_come_out_however_the_bytes_arrive() {
        let chunked = chunked();
        let closing = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{BODY}");
        let sized = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        let continued = format!("HTTP/1.1 100 Continue\r\n\r\n{sized}");
        for (answer_, close) in [(&chunked, false), (&closing, true), (&sized, false), (&continued, false)] {
            for step in [1, 2, 3, 5, 8, 1000] {
                let (events, result) = answer(answer_.as_bytes(), step, close);
                assert_eq!(result, Ok(()), "{answer_} in steps of {step}");
                assert_eq!(events, ["{\"a\":1}", "[DONE]"]);
            }
        }
    }

    #[test]
    fn a_cut_answer_is_no_answer() {
        let whole = chunked();
        for cut in [0, 10, whole.find("\r\n\r\n").unwrap() + 10, whole.len() - 8] {
            let (_, result) = answer(&whole.as_bytes()[..cut], 1000, true);
            assert_eq!(result.unwrap_err().kind, Kind::ConnectionLost, "cut at {cut}");
        }
    }

    #[test]
    fn an_error_answer_becomes_an_error() {
        for (status, kind) in [
            (400, Kind::InvalidRequest),
            (401, Kind::Authentication),
            (404, Kind::ModelNotFound),
            (429, Kind::Overloaded),
            (500, Kind::Engine),
            (302, Kind::ProtocolViolation),
        ] {
            let body = "{\"error\":{\"message\":\"because\",\"param\":\"seed\"}}";
            let text = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nRetry-After: 7\r\nLocation: http://elsewhere/\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let error = answer(text.as_bytes(), 1000, false).1.unwrap_err();
            assert_eq!(error.kind, kind, "{status}");
            assert_eq!(error.detail.as_deref(), Some("Retry-After: 7"));
        }
    }

    #[test]
    fn what_does_not_end_is_refused() {
        let uri = "http://localhost/v1".parse().unwrap();
        let head = "HTTP/1.1 200 OK\r\n";
        let chunked =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1;";
        for (begun, more) in [(head, "x"), (head, "X: y\r\n"), (chunked, "x")] {
            let mut exchange = Exchange::post(&uri, None, "id", b"{}").unwrap();
            exchange.received(begun.as_bytes());
            let refused = (0..100).find_map(|_| {
                exchange.received(more.repeat(10_000).as_bytes());
                exchange.drain(|_| Ok(())).err()
            });
            assert_eq!(refused.map(|error| error.kind), Some(Kind::ProtocolViolation), "{begun}{more}…");
        }
    }

    #[test]
    fn nonsense_is_named_so() {
        for text in [
            "hello, this is no HTTP\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
        ] {
            let error = answer(text.as_bytes(), 1000, false).1.unwrap_err();
            assert_eq!(error.kind, Kind::ProtocolViolation, "{text}");
        }
    }
}
