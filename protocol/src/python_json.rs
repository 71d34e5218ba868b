//! JSON as Python's `json.dumps` writes it, which is what chat templates were written and models were
//! trained with.

use std::fmt::Write;

use serde_json::Value;

/// The arguments of `json.dumps` that transformers' filter `tojson` takes.
pub(crate) struct Style {
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
    pub ensure_ascii: bool,
}

impl Style {
    /// `json.dumps` writes no blank before a line's end.
    pub fn new(indent: Option<String>, separators: Option<(String, String)>) -> Style {
        let item = if indent.is_some() { "," } else { ", " };
        let (item_separator, key_separator) = separators.unwrap_or_else(|| (item.into(), ": ".into()));
        Style { indent, item_separator, key_separator, sort_keys: false, ensure_ascii: false }
    }
}

pub(crate) fn dumps(value: &Value, style: &Style) -> String {
    let mut text = String::new();
    write(value, style, 0, &mut text);
    text
}

fn write(value: &Value, style: &Style, depth: usize, text: &mut String) {
    match value {
        Value::String(string) => write_string(string, style.ensure_ascii, text),
        Value::Number(number) => text.push_str(&python_number(number)),
        Value::Array(items) if !items.is_empty() => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                separate(position, style, depth + 1, text);
                write(item, style, depth + 1, text);
            }
            end_line(style, depth, text);
            text.push(']');
        }
        Value::Object(fields) if !fields.is_empty() => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            if style.sort_keys {
                fields.sort_by_key(|(name, _)| *name);
            }
            text.push('{');
            for (position, (name, value)) in fields.into_iter().enumerate() {
                separate(position, style, depth + 1, text);
                write_string(name, style.ensure_ascii, text);
                text.push_str(&style.key_separator);
                write(value, style, depth + 1, text);
            }
            end_line(style, depth, text);
            text.push('}');
        }
        // null, true, false, [] and {}.
        other => text.push_str(&other.to_string()),
    }
}

fn separate(position: usize, style: &Style, depth: usize, text: &mut String) {
    if position > 0 {
        text.push_str(&style.item_separator);
    }
    end_line(style, depth, text);
}

fn end_line(style: &Style, depth: usize, text: &mut String) {
    if let Some(indent) = &style.indent {
        text.push('\n');
        text.push_str(&indent.repeat(depth));
    }
}

/// Python's `repr` of a number: an exponent has a sign and two digits.
fn python_number(number: &serde_json::Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        0 => format!("{float:?}"),
        exponent if (-4..16).contains(&exponent) => {
            let plain = format!("{float}");
            if plain.contains('.') { plain } else { plain + ".0" }
        }
        exponent => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

fn write_string(string: &str, ensure_ascii: bool, text: &mut String) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            character if u32::from(character) < 0x20 || (ensure_ascii && u32::from(character) >= 0x7f) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            character => text.push(character),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_pythons() {
        for (number, expected) in [
            (json!(1), "1"),
            (json!(1.0), "1.0"),
            (json!(0.1), "0.1"),
            (json!(1e16), "1e+16"),
            (json!(1.5e-7), "1.5e-07"),
            (json!(123456789.5), "123456789.5"),
            (json!(1e15), "1000000000000000.0"),
            (json!(0.0001), "0.0001"),
            (json!(1e-5), "1e-05"),
            (json!(-2.5e300), "-2.5e+300"),
            (json!(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!(dumps(&number, &Style::new(None, None)), expected);
        }
    }

    #[test]
    fn what_is_empty_stays_on_its_line() {
        let value = json!({"b": [], "a": {}, "c": [1, {"d": null}]});
        let indented = dumps(&value, &Style::new(Some("  ".into()), None));
        assert_eq!(
            indented,
            "{\n  \"b\": [],\n  \"a\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": null\n    }\n  ]\n}"
        );
        let style = Style { sort_keys: true, ..Style::new(None, Some((",".into(), ":".into()))) };
        assert_eq!(dumps(&value, &style), "{\"a\":{},\"b\":[],\"c\":[1,{\"d\":null}]}");
    }

    #[test]
    fn characters_beyond_ascii_are_escaped_where_that_is_asked_for() {
        let style = Style { ensure_ascii: true, ..Style::new(None, None) };
        assert_eq!(dumps(&json!("é😀\u{7f}\u{1}<'"), &style), "\"\\u00e9\\ud83d\\ude00\\u007f\\u0001<'\"");
        assert_eq!(dumps(&json!("é😀"), &Style::new(None, None)), "\"é😀\"");
    }
}
