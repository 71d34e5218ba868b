//! What an engine's error means for the caller.
//!
//! Engines agree on an object `error` with a `message`, and on little else. Its `code` is a number
//! (vLLM, llama.cpp), a word (OpenAI, Azure, Mistral), or both by turns (LiteLLM: `"429"`); SGLang
//! and older vLLM send the object by itself; FastAPI says `detail`; DashScope and others have a word
//! for `code` beside `message`; and what is in front of an engine answers in HTML.

use serde_json::Value;

use crate::error::{Error, Kind};

/// The characters of an engine's own words that are told.
const MAX_WORDS: usize = 2000;

/// The error of an HTTP status (`None` where there is none: in a stream), and of what came with it.
pub fn engine_error(status: Option<u16>, body: &Value) -> Error {
    // Gemini puts its error into a list.
    let body = body.get(0).unwrap_or(body);
    let error = match body.get("error").or_else(|| body.pointer("/errors/0")) {
        Some(error) if error.is_object() || error.as_str().is_some_and(|text| !text.is_empty()) => error,
        _ => body,
    };
    let said = said(error).or_else(|| said(body));
    let names = ["code", "status", "status_code", "http_code", "error_code", "type", "error_type"];
    let codes = || names.iter().flat_map(|name| [error.get(name), body.get(name)]).flatten();
    let number = codes().find_map(number);
    let word = codes().filter_map(Value::as_str).find_map(|word| Some((word, kind_of_word(word)?)));
    let told = said.as_deref().unwrap_or("no reason given");
    let (name, kind) = match (status, number, word) {
        // A status that says no more than that something failed may have a code that says what.
        (Some(500 | 502 | 520), Some(number), _) if number != 500 => {
            (number.to_string(), kind_of_status(number))
        }
        (Some(status @ (500 | 520)), _, Some((_, kind))) => (status.to_string(), kind),
        (Some(status), ..) => (status.to_string(), kind_of_status(status)),
        (None, Some(number), _) => (number.to_string(), kind_of_status(number)),
        (None, None, Some((word, kind))) => (word.chars().take(60).collect(), kind),
        (None, None, None) => ("with an error".into(), kind_of_words(told)),
    };
    let hint = hint(status, kind, told).map(str::to_owned);
    let param =
        error.get("param").and_then(Value::as_str).filter(|param| !param.is_empty()).map(str::to_owned);
    Error { param, hint, ..Error::new(kind, format!("the engine answered {name}: {}", bounded(told))) }
}

/// What an administrator or a caller can do about an engine that refuses what others take.
fn hint(status: Option<u16>, kind: Kind, told: &str) -> Option<&'static str> {
    if status.is_some_and(|status| (300..400).contains(&status)) {
        return Some("Redirects are not followed: base_url must name the engine itself.");
    }
    if !matches!(kind, Kind::InvalidRequest | Kind::Unprocessable | Kind::Unsupported) {
        return None;
    }
    let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
    if says(&["stream_options", "include_usage"]) {
        Some("The server's option stream_options 'off' keeps that parameter from this engine.")
    } else if says(&["temperature"]) {
        Some(
            "A temperature of null is not sent. The server's option default_temperature sets that of \
             requests that have none; 'none' sends none.",
        )
    } else if says(&["api-version", "api_version"]) {
        Some("The server's option api_version puts it into the query of each URL.")
    } else {
        None
    }
}

/// What an error object says, in whichever field it says it.
fn said(error: &Value) -> Option<String> {
    let text =
        |value: &Value| value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(text) = text(error) {
        return Some(text);
    }
    // FastAPI's: a list of what is wrong, and where.
    if let Some(first) = error.pointer("/detail/0") {
        let place: Vec<String> = first["loc"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|part| part.to_string().replace('"', ""))
            .collect();
        let problem = text(&first["msg"]).or_else(|| text(first))?;
        return Some(if place.is_empty() { problem } else { format!("{}: {problem}", place.join(".")) });
    }
    let names = [
        "message",
        "msg",
        "detail",
        "error_msg",
        "error_message",
        "description",
        "error_description",
        "error",
        "title",
    ];
    let said = names
        .iter()
        .filter_map(|name| error.get(name))
        .find_map(|value| text(value).or_else(|| said(value)))?;
    // OpenRouter's own words are "Provider returned error"; the provider's are beside them.
    match error.pointer("/metadata/raw").and_then(text) {
        Some(raw) => Some(format!("{said}: {raw}")),
        None => Some(said),
    }
}

/// A code that is an HTTP status, as a number or as a text.
fn number(code: &Value) -> Option<u16> {
    let number = code.as_u64().or_else(|| code.as_str()?.trim().parse().ok())?;
    u16::try_from(number).ok().filter(|number| (400..600).contains(number))
}

fn kind_of_status(status: u16) -> Kind {
    match status {
        400 | 405 | 411 | 413..=415 | 431 => Kind::InvalidRequest,
        401 => Kind::Authentication,
        403 => Kind::PermissionDenied,
        404 | 410 => Kind::ModelNotFound,
        408 | 504 | 524 => Kind::Timeout,
        409 => Kind::Conflict,
        422 => Kind::Unprocessable,
        // 402: no credit is left. 529: Anthropic's for overloaded.
        402 | 429 | 503 | 529 => Kind::Overloaded,
        501 => Kind::Unsupported,
        300..400 => Kind::ProtocolViolation,
        _ => Kind::Engine,
    }
}

/// Codes and types in words, by what is in them; of several that fit, the first counts.
const WORDS: [(&[&str], Kind); 10] = [
    (&["contextlength", "contextsize", "contextwindow"], Kind::InvalidRequest),
    (
        &[
            "ratelimit",
            "toomanyrequests",
            "quota",
            "throttl",
            "overload",
            "busy",
            "exhausted",
            "capacity",
            "unavailable",
            "balance",
            "billing",
            "credit",
            "arrear",
        ],
        Kind::Overloaded,
    ),
    (&["apikey", "authentic", "unauthorized", "invalidtoken", "expiredtoken"], Kind::Authentication),
    (&["permission", "forbidden", "accessdenied", "unsupportedcountry"], Kind::PermissionDenied),
    (&["notsupported", "notimplemented", "unimplemented"], Kind::Unsupported),
    (&["notfound", "unknownmodel", "notexist", "nosuchmodel", "invalidmodel"], Kind::ModelNotFound),
    (&["timeout", "timedout", "deadline"], Kind::Timeout),
    (&["unprocessable"], Kind::Unprocessable),
    (
        &[
            "contentfilter",
            "contentpolicy",
            "responsibleai",
            "inspection",
            "moderation",
            "toolarge",
            "toolong",
            "abovemax",
            "belowmin",
            "invalid",
            "badrequest",
            "validation",
            "missing",
            "unsupported",
            "malformed",
        ],
        Kind::InvalidRequest,
    ),
    (&["server", "internal", "apierror", "upstream", "generation"], Kind::Engine),
];

fn kind_of_word(word: &str) -> Option<Kind> {
    let letters: String = word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let fits = |(words, _): &&(&[&str], Kind)| words.iter().any(|word| letters.contains(word));
    WORDS.iter().find(fits).map(|(_, kind)| *kind)
}

/// An error without any code: only what must not be tried again, or not at once, is looked for.
fn kind_of_words(said: &str) -> Kind {
    let said = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["context length", "context size", "context window", "maximum context"]) {
        Kind::InvalidRequest
    } else if has(&["rate limit", "too many requests", "overloaded"]) {
        Kind::Overloaded
    } else {
        Kind::Engine
    }
}

/// The words of a text or an HTML page.
pub(crate) fn words(page: &[u8]) -> String {
    // Most of a page is not worth telling, and its beginning has its title.
    let page = String::from_utf8_lossy(&page[..page.len().min(16 << 10)]);
    let lower = page.to_ascii_lowercase();
    let is_html = lower.trim_start().starts_with('<');
    let title = is_html.then(|| {
        let start = lower.find("<title")?;
        let start = start + lower[start..].find('>')? + 1;
        Some(page[start..start + lower[start..].find("</title")?].to_owned())
    });
    let text =
        title.flatten().unwrap_or_else(|| if is_html { without_tags(&page) } else { page.into_owned() });
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    bounded(&text)
}

fn without_tags(page: &str) -> String {
    let mut pieces = page.split('<');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + " " + piece.split_once('>').map_or("", |(_, after)| after))
}

/// A text that is not too long, and holds nothing that looks like a key.
fn bounded(text: &str) -> String {
    let text = without_keys(text);
    match text.char_indices().nth(MAX_WORDS) {
        None => text,
        Some((end, _)) => {
            // Between words: half of a key would not be recognized as one by who knows the key.
            let end = text[..end].rfind(char::is_whitespace).unwrap_or(0);
            format!("{} …", &text[..end])
        }
    }
}

/// Blots out what looks like a key, whoever's it is; the caller's own is known to the extension.
fn without_keys(text: &str) -> String {
    const PREFIXES: [&str; 6] = ["sk-", "hf_", "gsk_", "xai-", "AIza", "Bearer "];
    let mut rest = text;
    let mut clean = String::with_capacity(text.len());
    while let Some((at, prefix)) =
        PREFIXES.iter().filter_map(|prefix| Some((rest.find(prefix)?, *prefix))).min_by_key(|(at, _)| *at)
    {
        let begins_word = !rest[..at].ends_with(char::is_alphanumeric);
        let after = &rest[at + prefix.len()..];
        let key = after
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-_.*~+/=".contains(c)))
            .unwrap_or(after.len());
        let key = after[..key].trim_end_matches('.').len();
        clean.push_str(&rest[..at]);
        if begins_word && key >= 8 {
            clean.push_str(prefix.strip_suffix(' ').map_or("***", |_| "Bearer ***"));
        } else {
            clean.push_str(&rest[at..at + prefix.len() + key]);
        }
        rest = &after[key..];
    }
    clean + rest
}

/// An engine's complaint about an image or the like names the content part that it is about. One
/// that the model cannot take is the caller's error, whatever status the engine gives it.
pub fn blame_part(error: Error, status: u16, request: &[u8]) -> Error {
    let said = error.message.to_lowercase();
    let unsupported = said.contains("not support") || said.contains("unsupported");
    if !(matches!(status, 400 | 415 | 422) || status == 500 && unsupported) {
        return error;
    }
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let messages = request["messages"].as_array().into_iter().flatten().enumerate();
    let mut parts = messages.flat_map(|(message, of)| {
        let parts = of["content"].as_array().into_iter().flatten().enumerate();
        parts.map(move |(part, of)| (format!("messages[{message}].content[{part}]"), &of["type"]))
    });
    let meant = |kind: &Value| {
        let kind = kind.as_str().unwrap_or_default();
        // image_url, input_audio, video_url, file. Of others llama.cpp says "unsupported
        // content[].type", and vLLM "unknown part type".
        let medium = ["image", "audio", "video", "file"].into_iter().find(|medium| kind.contains(medium));
        let words = medium.into_iter().chain(["multimodal", "content[].type", "part type"]);
        kind != "text" && words.into_iter().any(|word| said.contains(word))
    };
    match parts.find(|(_, kind)| meant(kind)) {
        None => error,
        Some((path, _)) => Error {
            kind: if unsupported { Kind::Unsupported } else { Kind::InvalidRequest },
            message: format!("{path}: {}", error.message),
            param: Some(path),
            ..error
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_the_code() {
        for (body, kind) in [
            (
                serde_json::json!({"error": {"message": "WHY", "code": "rate_limit_exceeded"}}),
                Kind::Overloaded,
            ),
            (
                serde_json::json!({"error": {"message": "WHY", "type": "rate_limit_error", "code": null}}),
                Kind::Overloaded,
            ),
            (serde_json::json!({"error": {"message": "WHY", "code": "429"}}), Kind::Overloaded),
            (
                serde_json::json!({"error": {"message": "WHY", "code": "insufficient_quota"}}),
                Kind::Overloaded,
            ),
            (
                serde_json::json!({"error": {"message": "WHY", "code": "context_length_exceeded"}}),
                Kind::InvalidRequest,
            ),
            (
                serde_json::json!({"error": {"message": "WHY", "code": "model_not_found"}}),
                Kind::ModelNotFound,
            ),
            (
                serde_json::json!({"error": {"message": "WHY", "code": "invalid_api_key"}}),
                Kind::Authentication,
            ),
            (
                serde_json::json!({"error": {"message": "WHY", "code": "content_filter", "status": 400}}),
                Kind::InvalidRequest,
            ),
            // vLLM and SGLang.
            (
                serde_json::json!({"object": "error", "message": "WHY", "type": "BadRequestError", "code": 400}),
                Kind::InvalidRequest,
            ),
            (
                serde_json::json!({"error": {"message": "WHY", "type": "InternalServerError", "code": 500}}),
                Kind::Engine,
            ),
            // llama.cpp.
            (
                serde_json::json!({"error": {"code": 400, "message": "WHY", "type": "exceed_context_size_error", "n_ctx": 8}}),
                Kind::InvalidRequest,
            ),
            (
                serde_json::json!({"error": {"code": 501, "message": "WHY", "type": "not_supported_error"}}),
                Kind::Unsupported,
            ),
            // TGI.
            (serde_json::json!({"error": "WHY", "error_type": "overloaded"}), Kind::Overloaded),
            (serde_json::json!({"error": "WHY", "error_type": "validation"}), Kind::InvalidRequest),
            // Gemini, DashScope, Baidu, OpenRouter, Anthropic, and a number that is no HTTP status.
            (
                serde_json::json!([{"error": {"code": 404, "message": "WHY", "status": "NOT_FOUND"}}]),
                Kind::ModelNotFound,
            ),
            (
                serde_json::json!({"code": "Throttling.RateQuota", "message": "WHY", "request_id": "1"}),
                Kind::Overloaded,
            ),
            (serde_json::json!({"error_code": 17, "error_msg": "WHY"}), Kind::Engine),
            (
                serde_json::json!({"error": {"message": "Provider returned error", "code": 402, "metadata": {"raw": "WHY"}}}),
                Kind::Overloaded,
            ),
            (
                serde_json::json!({"type": "error", "error": {"type": "overloaded_error", "message": "WHY"}}),
                Kind::Overloaded,
            ),
            (
                serde_json::json!({"error": {"message": "WHY", "code": 1302, "type": "server_error"}}),
                Kind::Engine,
            ),
            (
                serde_json::json!({"error": {"message": "WHY: the maximum context length is 8"}}),
                Kind::InvalidRequest,
            ),
            (serde_json::json!({"error": "WHY"}), Kind::Engine),
            (serde_json::json!({"detail": [{"loc": ["body", "n"], "msg": "WHY"}]}), Kind::Engine),
            (serde_json::json!("WHY"), Kind::Engine),
        ] {
            let error = engine_error(None, &body);
            assert_eq!(error.kind, kind, "{body}");
            assert!(error.message.contains("WHY"), "{body}: {}", error.message);
        }
    }

    #[test]
    fn a_status_counts_for_more_than_a_code_unless_it_says_nothing() {
        let body = serde_json::json!({"error": {"message": "WHY", "code": "context_length_exceeded"}});
        for (status, kind) in
            [(400, Kind::InvalidRequest), (429, Kind::Overloaded), (500, Kind::InvalidRequest)]
        {
            assert_eq!(engine_error(Some(status), &body).kind, kind, "{status}");
        }
        let litellm = serde_json::json!({"error": {"message": "WHY", "type": null, "code": "401"}});
        assert_eq!(engine_error(Some(500), &litellm).kind, Kind::Authentication);
    }

    #[test]
    fn words_are_bounded_and_hold_no_keys() {
        let said = |text: &str| engine_error(None, &serde_json::json!({"error": {"message": text}})).message;
        assert!(said(&"long ".repeat(9000)).chars().count() < MAX_WORDS + 100);
        assert!(!said(&("x ".repeat(990) + "sk1234567890abcdefghijklmnop")).contains("sk1"));
        for key in ["sk-proj-abcdefgh12345678", "hf_abcdefgh12345678", "Bearer abcdefgh.12345678"] {
            let message = said(&format!("wrong key {key}. Get another."));
            assert!(message.ends_with("***. Get another."), "{message}");
        }
        assert!(
            said("ask-a-question about risk-averse sk-8").ends_with("ask-a-question about risk-averse sk-8")
        );
    }

    #[test]
    fn a_page_says_what_its_title_says() {
        let page = b"<html><head><TITLE>502 Bad\n Gateway</TITLE></head><body><h1>No</h1></body></html>";
        assert_eq!(words(page), "502 Bad Gateway");
        assert_eq!(words(b"<p>It <b>works</b>!</p>"), "It works !");
        assert_eq!(words(b" no healthy\n upstream "), "no healthy upstream");
    }

    #[test]
    fn a_part_that_the_model_cannot_take_is_named() {
        let parts = |kind: &str| {
            format!(
                r#"{{"messages":[{{"content":"an image?"}},{{"content":[{{"type":"text","text":"a"}},{{"type":"{kind}"}}]}}]}}"#
            )
        };
        // llama.cpp's words, and vLLM's.
        for (kind, status, said, means) in [
            ("image_url", 500, "image input is not supported - hint: …", Some(Kind::Unsupported)),
            ("input_audio", 500, "audio input is not supported - hint: …", Some(Kind::Unsupported)),
            ("file", 400, "unsupported content[].type", Some(Kind::Unsupported)),
            ("image_url", 400, "m is not a multimodal model", Some(Kind::InvalidRequest)),
            ("image_url", 400, "At most 0 image(s) may be provided", Some(Kind::InvalidRequest)),
            ("video_url", 400, "Unknown part type: video_url", Some(Kind::InvalidRequest)),
            // Another's fault, and the engine's own.
            ("input_audio", 500, "image input is not supported", None),
            ("image_url", 500, "the image encoder ran out of memory", None),
            ("image_url", 400, "seed: too large", None),
            ("text", 400, "text: too long", None),
        ] {
            let error = engine_error(Some(status), &serde_json::json!({"error": {"message": said}}));
            let blamed = blame_part(error.clone(), status, parts(kind).as_bytes());
            match means {
                None => assert_eq!(blamed, error),
                Some(kind) => {
                    assert_eq!(
                        (blamed.kind, blamed.param.as_deref()),
                        (kind, Some("messages[1].content[1]"))
                    );
                    assert!(blamed.message.starts_with("messages[1].content[1]: the engine answered"));
                }
            }
        }
    }
}
