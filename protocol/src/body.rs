//! The body of an engine's answer: unpacked, and understood by what it says rather than by what its
//! `Content-Type` claims. Some engines and gateways ignore `"stream": true` and answer with one JSON
//! object, send events as `text/plain`, or write an error as JSON into a `text/event-stream`.

use std::io::Write;

use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use http::header::{self, HeaderName};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine_error::{engine_error, words};
use crate::error::{Error, Kind, Result, detail};
use crate::raw::mark;
use crate::sse::{Events, MAX_EVENT, Name};

/// An error is read up to this size.
const MAX_ERROR: usize = 1 << 20;
/// How a line of a stream of events begins.
const FIELDS: [&[u8]; 6] = [b"data:", b"event:", b"id:", b"retry:", b"error:", b":"];

/// The data of the event that ends a stream, however an engine writes it.
pub const DONE: &[u8] = b"[DONE]";

/// A body, as far as it has been received.
pub(crate) struct Body {
    status: u16,
    content_type: String,
    retry_after: Option<String>,
    packing: Packing,
    /// How many more bytes it may have.
    left: u64,
    form: Form,
}

enum Form {
    /// An answer whose first character has not come.
    Unknown(Vec<u8>),
    Events(Events),
    /// A JSON document, an error, or something else.
    Document(Vec<u8>),
}

/// How a body is compressed: an engine is not asked to, but a proxy may do it all the same.
enum Packing {
    Plain,
    Gzip(GzDecoder<Vec<u8>>),
    /// `deflate`, until its first byte tells which of its two forms it is.
    Deflate,
    Zlib(ZlibDecoder<Vec<u8>>),
    Raw(DeflateDecoder<Vec<u8>>),
    /// The name of a form that is not known here.
    Unknown(String),
}

impl Body {
    pub(crate) fn new(response: &http::Response<()>, limit: u64) -> Body {
        let text = |name: HeaderName| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().trim().to_owned()
        };
        let packing = match text(header::CONTENT_ENCODING).to_ascii_lowercase() {
            coding if matches!(coding.as_str(), "" | "identity") => Packing::Plain,
            coding if matches!(coding.as_str(), "gzip" | "x-gzip") => {
                Packing::Gzip(GzDecoder::new(Vec::new()))
            }
            coding if coding == "deflate" => Packing::Deflate,
            coding => Packing::Unknown(coding),
        };
        let status = response.status().as_u16();
        Body {
            form: if is_success(status) { Form::Unknown(Vec::new()) } else { Form::Document(Vec::new()) },
            status,
            content_type: text(header::CONTENT_TYPE).to_ascii_lowercase(),
            retry_after: seconds(&text(header::RETRY_AFTER)),
            packing,
            left: limit,
        }
    }

    /// A body of no answer yet.
    pub(crate) fn none() -> Body {
        Body {
            status: 0,
            content_type: String::new(),
            retry_after: None,
            packing: Packing::Plain,
            left: 0,
            form: Form::Document(Vec::new()),
        }
    }

    /// Takes what HTTP has decoded.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if let Packing::Deflate = self.packing
            && let Some(first) = bytes.first()
        {
            // RFC 9110 means zlib, whose first byte ends in 8; some servers send it without that.
            let is_zlib = first & 15 == 8;
            self.packing = if is_zlib {
                Packing::Zlib(ZlibDecoder::new(Vec::new()))
            } else {
                Packing::Raw(DeflateDecoder::new(Vec::new()))
            };
        }
        match &mut self.packing {
            Packing::Plain => return self.unpacked(bytes),
            Packing::Deflate => return Ok(()),
            Packing::Unknown(coding) => {
                let coding = coding.chars().take(40).collect::<String>();
                return Err(nonsense(format!("Content-Encoding {coding:?}, which it was not asked for")));
            }
            Packing::Gzip(_) | Packing::Zlib(_) | Packing::Raw(_) => (),
        }
        // Little by little, since a few bytes can stand for very many.
        for bytes in bytes.chunks(4 << 10) {
            let unpack = |decoder: &mut dyn Write| decoder.write_all(bytes).and_then(|()| decoder.flush());
            let unpacked = match &mut self.packing {
                Packing::Gzip(decoder) => unpack(decoder).map(|()| std::mem::take(decoder.get_mut())),
                Packing::Zlib(decoder) => unpack(decoder).map(|()| std::mem::take(decoder.get_mut())),
                Packing::Raw(decoder) => unpack(decoder).map(|()| std::mem::take(decoder.get_mut())),
                _ => Ok(Vec::new()),
            };
            let broken = |error| nonsense(format!("a compressed body that cannot be unpacked: {error}"));
            self.unpacked(&unpacked.map_err(broken)?)?;
        }
        Ok(())
    }

    fn unpacked(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            let error = Error::new(Kind::ProtocolViolation, "the engine sent more than an answer may have");
            return Err(error.hint("The server's option max_answer_bytes sets this limit."));
        };
        self.left = left;
        match &mut self.form {
            Form::Events(events) => events.buffer().extend_from_slice(bytes),
            Form::Document(document) => {
                document.extend_from_slice(bytes);
                let (limit, name) =
                    if is_success(self.status) { (MAX_EVENT, "16") } else { (MAX_ERROR, "1") };
                if document.len() > limit {
                    return Err(nonsense(format!("an answer of over {name} MiB that is no event stream")));
                }
            }
            Form::Unknown(start) => {
                start.extend_from_slice(bytes);
                self.recognize();
            }
        }
        Ok(())
    }

    /// Finds out by its first bytes what an answer is.
    fn recognize(&mut self) {
        let Form::Unknown(start) = &mut self.form else { return };
        let text = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start();
        let Some(first) = text.first() else { return };
        let begins = |field: &&[u8]| text.starts_with(field) || field.starts_with(text);
        self.form = if !matches!(first, b'{' | b'[')
            && (self.content_type.contains("event-stream") || FIELDS.iter().any(begins))
        {
            let mut events = Events::default();
            events.buffer().append(start);
            Form::Events(events)
        } else {
            Form::Document(std::mem::take(start))
        };
    }

    /// Calls `event` with the data of every event that has come, and, once the answer has ended,
    /// with a document that stands for a stream.
    pub(crate) fn drain(&mut self, ended: bool, mut event: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match &mut self.form {
            Form::Unknown(_) if !ended => Ok(()),
            Form::Document(_) if !ended => Ok(()),
            Form::Events(events) => {
                let mut tell = |name, data: &[u8]| match name {
                    Name::Error => Err(error_of(None, data)),
                    _ if is_done(data) => event(DONE),
                    _ => event(data),
                };
                events.drain(&mut tell)?;
                if !ended {
                    return Ok(());
                }
                events.finish(|name, data| {
                    // The last line may have been cut.
                    let whole = is_done(data) || serde_json::from_slice::<&RawValue>(data).is_ok();
                    if whole || name == Name::Error { tell(name, data) } else { Err(lost()) }
                })?;
                match events.unread() {
                    b"" => Ok(()),
                    unread => Err(nonsense(format!("no event but {}", words(unread)))),
                }
            }
            Form::Unknown(document) | Form::Document(document) => {
                let document = std::mem::take(document);
                self.form = Form::Events(Events::default());
                if is_success(self.status) {
                    self.answer(&document, event)
                } else {
                    Err(self.error(&document))
                }
            }
        }
    }

    /// A whole completion in place of a stream, or several objects without the dress of events.
    fn answer(&self, document: &[u8], mut event: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let document = document.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(document);
        let values = serde_json::Deserializer::from_slice(document).into_iter::<&RawValue>();
        let values: Vec<&RawValue> = values.map_while(Result::ok).collect();
        let Some(first) = values.first().filter(|first| first.get().starts_with(['{', '['])) else {
            let said = words(document);
            let said =
                if said.is_empty() { "nothing".into() } else { format!("{:?}: {said}", self.content_type) };
            return Err(nonsense(format!("no event stream but {said}")));
        };
        let object: Value = serde_json::from_str(&mark(first.get())).unwrap_or_default();
        let has_words = ["error", "message", "detail", "msg", "errors", "error_msg"];
        if object.get("choices").is_none()
            && (object.is_array() || has_words.iter().any(|name| object.get(name).is_some()))
        {
            return Err(engine_error(None, &object));
        }
        if object.get("choices").is_none() {
            return Err(nonsense(format!(
                "no event stream but {:?}: {}",
                self.content_type,
                words(document)
            )));
        }
        values.into_iter().try_for_each(|value| event(value.get().as_bytes()))
    }

    /// The error that a body without an answer stands for.
    fn error(&self, document: &[u8]) -> Error {
        let error = error_of(Some(self.status), document);
        match &self.retry_after {
            Some(seconds) => error.detail(format!("{}{seconds}", detail::RETRY_AFTER)),
            None => error,
        }
    }

    /// What the answer means, given that no more of it will come: the request is at fault, whether
    /// or not all of the words have come.
    pub(crate) fn broken_off(&mut self) -> Option<Error> {
        match &mut self.form {
            Form::Document(document) if (400..500).contains(&self.status) => {
                let document = std::mem::take(document);
                Some(self.error(&document))
            }
            _ => None,
        }
    }

    /// The JSON document that was asked for.
    pub(crate) fn document(&self) -> Option<Value> {
        match &self.form {
            Form::Document(document) if self.status == 200 => serde_json::from_slice(document).ok(),
            _ => None,
        }
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn is_done(data: &[u8]) -> bool {
    data.eq_ignore_ascii_case(DONE) || data.eq_ignore_ascii_case(b"\"[DONE]\"")
}

/// An error as an engine sends it: JSON, events, or words.
fn error_of(status: Option<u16>, body: &[u8]) -> Error {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{FEFF}').trim();
    // An error with a status of its own may still be written as an event (NVIDIA NIM).
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let json = if text.starts_with(['{', '[', '"']) { text } else { lines.next().unwrap_or(text) };
    let value = serde_json::from_str(&mark(json)).unwrap_or_else(|_| words(body).into());
    engine_error(status, &value)
}

/// The seconds of a `Retry-After` header: a number, or until a date.
fn seconds(value: &str) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds >= 0.0).then(|| (seconds.ceil() as u64).to_string());
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let left = date.duration_since(jiff::Timestamp::now()).as_secs().max(0);
    Some(left.to_string())
}

pub(crate) fn lost() -> Error {
    Error::new(Kind::ConnectionLost, "the engine closed the connection before its answer was complete")
}

pub(crate) fn nonsense(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::ProtocolViolation, format!("the engine answered nonsense: {what}"))
        .hint("Is base_url that of an OpenAI-compatible server? It usually ends in /v1.")
}
