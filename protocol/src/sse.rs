//! Server-sent events out of bytes (WHATWG HTML, section 9.2.6), and what servers make of them.
//!
//! Beyond that section: the last event counts even where the empty line after it is missing, a line
//! `error: …` (llama.cpp's server before August 2025) is an error, and a line that is a JSON object
//! is an event, as gateways write their errors into a stream.

use memchr::memchr2;

use crate::error::{Error, Kind, Result};

/// An engine that sends a longer line or event than this is not speaking the protocol.
pub(crate) const MAX_EVENT: usize = 16 << 20;

/// How much of lines that are not events is kept, to be told.
const MAX_UNREAD: usize = 4 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What an event is, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Name {
    #[default]
    Message,
    /// `event: error`.
    Error,
    /// Something that only keeps the connection alive.
    Ping,
}

/// Collects bytes and hands out the data of each complete event.
#[derive(Default)]
pub struct Events {
    bytes: Vec<u8>,
    /// Where the next unread line starts in `bytes`.
    start: usize,
    /// How far `bytes` is known to hold no further line end.
    searched: usize,
    /// Whether the byte before `start` was a carriage return: a line feed then belongs to it.
    after_return: bool,
    begun: bool,
    /// Data lines of an event that is not complete yet. Empty for the usual one-line event.
    data: Vec<u8>,
    has_data: bool,
    name: Name,
    /// The beginning of what is not an event, as long as there has been no event.
    unread: Vec<u8>,
    any: bool,
}

impl Events {
    /// The buffer to append received bytes to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            (self.start, self.searched) = (0, 0);
        } else if self.start > 64 << 10 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Calls `event` with the data of every event that is complete. There is always some data.
    pub fn drain(&mut self, mut event: impl FnMut(Name, &[u8]) -> Result<()>) -> Result<()> {
        while let Some(length) = memchr2(b'\n', b'\r', &self.bytes[self.searched..]) {
            let end = self.searched + length;
            let start = std::mem::replace(&mut self.start, end + 1);
            self.searched = self.start;
            let is_return = self.bytes[end] == b'\r';
            let is_second_half =
                std::mem::replace(&mut self.after_return, is_return) && start == end && !is_return;
            if !is_second_half {
                self.line(start, end, &mut event)?;
            }
        }
        self.searched = self.bytes.len();
        // An event may have any number of lines.
        if self.data.len() + self.searched - self.start > MAX_EVENT {
            return Err(Error::new(Kind::ProtocolViolation, "the engine sent an event of over 16 MiB"));
        }
        Ok(())
    }

    /// The stream has ended: calls `event` with what may be a last event, unfinished.
    pub fn finish(&mut self, mut event: impl FnMut(Name, &[u8]) -> Result<()>) -> Result<()> {
        let (start, end) = (self.start, self.bytes.len());
        (self.start, self.searched) = (end, end);
        if start < end {
            self.line(start, end, &mut event)?;
        }
        self.dispatch(&mut event)
    }

    /// What has come in place of events, if there has been no event.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    fn line(
        &mut self,
        start: usize,
        end: usize,
        event: &mut impl FnMut(Name, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut line = &self.bytes[start..end];
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(event);
        }
        let is_object = line[0] == b'{';
        let data = match line.strip_prefix(b"data:") {
            Some(data) => Some(data),
            None if is_object => Some(line),
            None => line.strip_prefix(b"error:").inspect(|_| self.name = Name::Error),
        };
        if let Some(data) = data {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            self.has_data = true;
        } else if let Some(name) = line.strip_prefix(b"event:") {
            self.name = match name.trim_ascii() {
                b"error" => Name::Error,
                b"ping" | b"keepalive" | b"keep-alive" | b"heartbeat" => Name::Ping,
                _ => Name::Message,
            };
        } else if !self.any
            && ![b":" as &[u8], b"id", b"retry", b"data"].iter().any(|field| line.starts_with(field))
        {
            let room = MAX_UNREAD.saturating_sub(self.unread.len());
            self.unread.extend_from_slice(&line[..line.len().min(room)]);
            self.unread.push(b' ');
        }
        if is_object { self.dispatch(event) } else { Ok(()) }
    }

    fn dispatch(&mut self, event: &mut impl FnMut(Name, &[u8]) -> Result<()>) -> Result<()> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.trim_ascii();
        let result = if data.is_empty() || name == Name::Ping {
            Ok(())
        } else {
            self.any = true;
            event(name, data)
        };
        self.has_data = false;
        self.data.clear();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(parts: &[&[u8]]) -> Vec<String> {
        let mut events = Events::default();
        let mut seen = Vec::new();
        let mut see = |name, data: &[u8]| {
            let text = String::from_utf8(data.to_vec()).unwrap();
            seen.push(if name == Name::Error { format!("error {text}") } else { text });
            Ok(())
        };
        for part in parts {
            events.buffer().extend_from_slice(part);
            events.drain(&mut see).unwrap();
        }
        events.finish(see).unwrap();
        seen
    }

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let stream = b"\xEF\xBB\xBFdata: one\n\n: comment\nevent: x\ndata:two\r\ndata: three\r\n\r\n\nid: 7\rdata: four\r\rdata:\n\ndata: \n\nevent: ping\ndata: {}\n\nevent: error\ndata: five\n\nerror: six\n\n{\"se\": \"ven\"}\ndata: [DONE] \n\ndata: last";
        let whole = events(&[stream]);
        let expected =
            ["one", "two\nthree", "four", "error five", "error six", "{\"se\": \"ven\"}", "[DONE]", "last"];
        assert_eq!(whole, expected);
        for cut in 1..stream.len() {
            assert_eq!(events(&[&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&bytes), whole);
    }

    #[test]
    fn what_is_not_an_event_is_kept() {
        let mut events = Events::default();
        events.buffer().extend_from_slice(b": hi\nno healthy\nupstream");
        events.drain(|_, _| panic!("no event is complete")).unwrap();
        events.finish(|_, _| panic!("there is no event")).unwrap();
        assert_eq!(events.unread(), b"no healthy upstream ");
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut events = Events::default();
        events.buffer().resize(MAX_EVENT + 1, b'x');
        assert_eq!(events.drain(|_, _| Ok(())).unwrap_err().kind, Kind::ProtocolViolation);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::default();
        let line = [b"data: ", &[b'x'; 1 << 20][..], b"\n"].concat();
        let refused = (0..20).find_map(|_| {
            events.buffer().extend_from_slice(&line);
            events.drain(|_, _| panic!("no event is complete")).err()
        });
        assert_eq!(refused.unwrap().kind, Kind::ProtocolViolation);
    }
}
