//! JSON that is passed on as it came, and the halves of characters in it.
//!
//! An engine that counts in UTF-16 (one in JavaScript, say) may cut a character in two, and send
//! each half as an escape of its own: `"\ud83d"` in one chunk, `"\ude00"` in the next. Neither half
//! is a character, so neither can stand in a Rust string, in `jsonb`, or in a Python string that is
//! to be encoded. Until the other half comes, each is [marked](mark) by a character that nobody
//! uses, in the last 2048 code points of Unicode's last private plane.

use std::borrow::Cow;

use memchr::memchr;
use serde::Serialize;
use serde_json::Value;

/// What stands for the first surrogate, U+D800; the others follow it in order.
const FIRST_MARK: u32 = 0x10_F800;

/// Whether a value says nothing.
pub(crate) fn is_empty(raw: &str) -> bool {
    matches!(raw, "null" | "\"\"" | "[]" | "{}")
}

/// Whether a value counts as false where an engine sets a field that it does not need.
pub(crate) fn is_falsy(raw: &str) -> bool {
    is_empty(raw) || matches!(raw, "false" | "0" | "0.0")
}

/// The text of a string, or of a number.
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let text: Cow<str> = match raw.as_bytes().first()? {
        b'"' if memchr(b'\\', raw.as_bytes()).is_none() => raw.trim_matches('"').into(),
        b'"' => settle(serde_json::from_str::<String>(&mark(raw)).ok()?.into()),
        b'0'..=b'9' | b'-' => raw.into(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Lists and objects that are nested deeper than this cannot be read by our callers: serde_json and
/// jiter, which Python's objects come from, stop there or not much later.
const MAX_DEPTH: usize = 100;

/// A value as it is passed on: without halves of characters, and null if it is nested too deeply.
pub(crate) fn passed(raw: &str) -> Cow<'_, str> {
    if is_too_deep(raw) { "null".into() } else { settle(mark(raw)) }
}

fn is_too_deep(raw: &str) -> bool {
    // Each level has two brackets.
    if raw.len() < 2 * MAX_DEPTH || !raw.starts_with(['[', '{']) {
        return false;
    }
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in raw.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => (),
        }
        deepest = deepest.max(depth);
    }
    deepest > MAX_DEPTH
}

/// Writes a name as JSON, in quotes. Nearly all names are letters, which need no escapes.
pub(crate) fn push_name(text: &mut String, name: &str) {
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        text.push('"');
        text.push_str(name);
        text.push('"');
    } else {
        text.push_str(&json(name));
    }
}

/// Writes a value as JSON.
pub(crate) fn json(value: &(impl Serialize + ?Sized)) -> String {
    // Strings, numbers, lists and maps of those: there is nothing in them that JSON cannot say.
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// Reads a value; null where it cannot be read.
pub(crate) fn value(raw: &str) -> Value {
    serde_json::from_str(&passed(raw)).unwrap_or_default()
}

/// Replaces each half of a surrogate pair that stands alone by its mark. All else stays as it is.
pub(crate) fn mark(raw: &str) -> Cow<'_, str> {
    let bytes = raw.as_bytes();
    let mut marked = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &bytes[at..]) {
        at += found;
        let Some(unit) = escape(&bytes[at..]) else {
            // An escape of another kind: a backslash and what it escapes.
            at = (at + 2).min(bytes.len());
            continue;
        };
        let next = at + 6;
        let is_pair = (0xD800..0xDC00).contains(&unit)
            && escape(&bytes[next.min(bytes.len())..]).is_some_and(|low| (0xDC00..0xE000).contains(&low));
        if is_pair {
            at = next + 6;
            continue;
        }
        if let Some(mark) = mark_of(unit) {
            marked.push_str(&raw[copied..at]);
            marked.push(mark);
            copied = next;
        }
        at = next;
    }
    if copied == 0 {
        return raw.into();
    }
    marked.push_str(&raw[copied..]);
    marked.into()
}

/// The code unit of an escape such as `\ud83d`, if there is one at the beginning.
fn escape(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit: u16, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
}

/// The mark of a surrogate; of no other code unit.
fn mark_of(unit: u16) -> Option<char> {
    let offset = u32::from(unit).checked_sub(0xD800).filter(|offset| *offset < 0x800)?;
    char::from_u32(FIRST_MARK + offset)
}

/// The surrogate that a character is the mark of.
fn marked(character: char) -> Option<u16> {
    let offset = u32::from(character).checked_sub(FIRST_MARK)?;
    u16::try_from(0xD800 + offset).ok()
}

/// Whether a text may hold marks: all begin with the same byte.
fn has_marks(text: &str) -> bool {
    memchr(0xF4, text.as_bytes()).is_some()
}

/// Makes characters of the halves that belong together. One that is left alone becomes U+FFFD.
pub(crate) fn settle(text: Cow<'_, str>) -> Cow<'_, str> {
    if !has_marks(&text) {
        return text;
    }
    let units = text.chars().flat_map(|character| {
        let mut pair = [0; 2];
        let units = marked(character)
            .map_or_else(|| character.encode_utf16(&mut pair).to_vec(), |surrogate| vec![surrogate]);
        units.into_iter()
    });
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The first half of a character at the end of a streamed text, kept until its other half comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Option<char>);

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A [marked](mark) piece of a text, with the half that was kept before it, and without the
    /// half that has to be kept now.
    pub(crate) fn join(&mut self, piece: &str) -> String {
        if piece.is_empty() {
            return String::new();
        }
        let mut joined: String = self.0.take().into_iter().chain(piece.chars()).collect();
        let last = joined.chars().next_back();
        if last.and_then(marked).is_some_and(|half| half < 0xDC00) {
            self.0 = last;
            joined.pop();
        }
        settle(joined.into()).into_owned()
    }

    /// What remains at the end of the text.
    pub(crate) fn rest(&mut self) -> Option<char> {
        self.0.take().map(|_| char::REPLACEMENT_CHARACTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lone_surrogates_are_marked() {
        for raw in [r#""plain""#, r#""\ud83d\ude00 \n \u00e9""#, r#""\\ud83d""#, r#""\u12""#, r#""\ud83d"#] {
            assert_eq!(mark(raw), mark(&mark(raw)));
            assert_eq!(mark(raw) == raw, !raw.ends_with("83d"), "{raw}");
        }
        assert_eq!(settle(mark(r#""a\ud83d""#)), "\"a\u{FFFD}\"");
        assert_eq!(settle(mark(r#""\ude00\ud83d""#)), "\"\u{FFFD}\u{FFFD}\"");
        assert_eq!(settle("é 😀 \u{10FFFF}".into()), "é 😀 \u{FFFD}");
    }

    #[test]
    fn halves_in_two_pieces_make_one_character() {
        let mut held = Held::default();
        assert_eq!(held.join(&mark(r"hi \ud83d")), "hi ");
        assert_eq!(held.join(""), "");
        assert_eq!(held.join(&mark(r"\ude00!")), "😀!");
        assert_eq!(held.join(&mark(r"\ud83d")), "");
        assert_eq!(held.join("x"), "\u{FFFD}x");
        assert_eq!(held.join(&mark(r"\ude00")), "\u{FFFD}");
        assert_eq!(
            (held.join(&mark(r"\ud83d")), held.rest(), held.rest()),
            ("".into(), Some('\u{FFFD}'), None)
        );
    }

    #[test]
    fn a_text_may_be_a_number_or_nothing() {
        assert_eq!(text("\"a\\n\"").as_deref(), Some("a\n"));
        assert_eq!(text("7").as_deref(), Some("7"));
        assert_eq!((text("null"), text("\"\""), text("{}")), (None, None, None));
    }
}
