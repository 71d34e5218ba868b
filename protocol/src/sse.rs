//! Server-sent events out of bytes (WHATWG HTML, section 9.2.6), as OpenAI-compatible servers use
//! them: only `data` matters.

use memchr::memchr;

use crate::error::{Error, Kind, Result};

/// An engine that sends a longer line or event than this is not speaking the protocol.
const MAX_EVENT: usize = 16 << 20;

/// Collects bytes and hands out the data of each complete event.
#[derive(Default)]
pub struct Events {
    bytes: Vec<u8>,
    /// Where the next unread line starts in `bytes`.
    start: usize,
    /// How far `bytes` is known to hold no further line end.
    searched: usize,
    /// Data lines of an event that is not complete yet. Empty for the usual one-line event.
    data: Vec<u8>,
    has_data: bool,
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

    /// Calls `event` with the data of every event that is complete.
    pub fn drain(&mut self, mut event: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while let Some(length) = memchr(b'\n', &self.bytes[self.searched..]) {
            let end = self.searched + length;
            let line =
                self.bytes[self.start..end].strip_suffix(b"\r").unwrap_or(&self.bytes[self.start..end]);
            let result = if line.is_empty() {
                let complete = std::mem::take(&mut self.has_data);
                let result = if complete { event(&self.data) } else { Ok(()) };
                self.data.clear();
                result
            } else {
                if let Some(data) = line.strip_prefix(b"data:") {
                    if self.has_data {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
                    self.has_data = true;
                }
                Ok(())
            };
            self.start = end + 1;
            self.searched = self.start;
            result?;
        }
        self.searched = self.bytes.len();
        // An event may have any number of lines.
        if self.data.len() + self.searched - self.start > MAX_EVENT {
            return Err(Error::new(Kind::ProtocolViolation, "the engine sent an event of over 16 MiB"));
        }
        Ok(())
    }

    /// Whether bytes are left that do not make a complete event.
    pub fn is_mid_event(&self) -> bool {
        self.has_data || self.start < self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(parts: &[&[u8]]) -> Vec<String> {
        let mut events = Events::default();
        let mut seen = Vec::new();
        for part in parts {
            events.buffer().extend_from_slice(part);
            events
                .drain(|data| {
                    seen.push(String::from_utf8(data.to_vec()).unwrap());
                    Ok(())
                })
                .unwrap();
        }
        seen
    }

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let stream = b"data: one\n\n: comment\nevent: x\ndata:two\r\ndata: three\r\n\r\n\ndata: [DONE]\n\n";
        let whole = events(&[stream]);
        assert_eq!(whole, ["one", "two\nthree", "[DONE]"]);
        for cut in 1..stream.len() {
            assert_eq!(events(&[&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&bytes), whole);
    }

    #[test]
    fn an_incomplete_event_is_noticed() {
        let mut events = Events::default();
        events.buffer().extend_from_slice(b"data: half");
        events.drain(|_| panic!("no event is complete")).unwrap();
        assert!(events.is_mid_event());
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut events = Events::default();
        events.buffer().resize(MAX_EVENT + 1, b'x');
        assert_eq!(events.drain(|_| Ok(())).unwrap_err().kind, Kind::ProtocolViolation);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::default();
        let line = [b"data: ", &[b'x'; 1 << 20][..], b"\n"].concat();
        let refused = (0..20).find_map(|_| {
            events.buffer().extend_from_slice(&line);
            events.drain(|_| panic!("no event is complete")).err()
        });
        assert_eq!(refused.unwrap().kind, Kind::ProtocolViolation);
    }
}
