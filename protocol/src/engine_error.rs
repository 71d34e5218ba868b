//! What an engine's error means for the caller.

use serde_json::Value;

use crate::error::{Error, Kind};

/// The error of an HTTP status, and OpenAI's error object.
pub fn engine_error(status: u16, body: &Value) -> Error {
    let error = body.get("error").unwrap_or(body);
    let said = error
        .get("message")
        // FastAPI's: a text, or a list of what is wrong.
        .or_else(|| body.pointer("/detail/0/msg").or(body.get("detail")))
        .or(Some(error))
        .and_then(Value::as_str)
        .unwrap_or("no reason given");
    let kind = match status {
        400 | 413 => Kind::InvalidRequest,
        401 => Kind::Authentication,
        403 => Kind::PermissionDenied,
        404 => Kind::ModelNotFound,
        408 | 504 => Kind::Timeout,
        409 => Kind::Conflict,
        422 => Kind::Unprocessable,
        429 | 503 => Kind::Overloaded,
        501 => Kind::Unsupported,
        300..400 => Kind::ProtocolViolation,
        _ => Kind::Engine,
    };
    let redirect = "Redirects are not followed: base_url must name the engine itself.";
    let hint = (300..400).contains(&status).then(|| redirect.to_owned());
    let param = error.get("param").and_then(Value::as_str).map(str::to_owned);
    Error { param, hint, ..Error::new(kind, format!("the engine answered {status}: {said}")) }
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
            let error = engine_error(status, &serde_json::json!({"error": {"message": said}}));
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
