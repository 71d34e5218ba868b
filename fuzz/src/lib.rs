//! What must hold for any bytes. `fuzz_targets/` tries them for as long as it is let;
//! `../protocol/tests/fuzz.rs` tries the seeds, and what is near them.

use pgml_protocol::exchange::{Exchange, HeaderMap};
use pgml_protocol::reply::{ChunkStream, Completion, Head, Reply, Wanted};
use pgml_protocol::template::{self, SpecialTokens};
use pgml_protocol::tools::ForcedCall;
use pgml_protocol::{Request, Result};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

/// An engine's answer: the same events, however the bytes come in.
pub fn exchange(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let read = |step: usize| -> Result<Vec<Vec<u8>>> {
        let uri = "http://engine/v1/chat/completions".parse().expect("a URI");
        let mut exchange = Exchange::post(&uri, &HeaderMap::new(), b"{}".as_slice().into())?;
        let mut events = Vec::new();
        for piece in bytes.chunks(step) {
            exchange.received(piece);
            exchange.drain(|event| {
                events.push(event.to_vec());
                Ok(())
            })?;
        }
        exchange.closed()?;
        exchange.drain(|event| {
            events.push(event.to_vec());
            Ok(())
        })?;
        Ok(events)
    };
    let whole = read(bytes.len().max(1));
    let pieces = read(usize::from(step).max(1));
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok());
}

/// A request: checked, or refused by the name of a parameter.
pub fn request(data: &[u8]) {
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return };
    match Request::parse(body) {
        Ok(request) => {
            assert!((1..=128).contains(&request.n) && !request.model.is_empty());
            assert!(request.messages().as_array().is_some_and(|messages| !messages.is_empty()));
            for own in ["model", "n", "stream", "stream_options", "chat_template"] {
                assert!(!request.parameters.contains_key(own));
            }
        }
        Err(error) => {
            let param = error.param.expect("the parameter at fault");
            assert!(error.message.starts_with(&format!("{param}: ")), "{}", error.message);
        }
    }
}

/// An engine's events, a line each, for two choices: what comes out is JSON.
pub fn reply(data: &[u8]) {
    let Some((&kind, lines)) = data.split_first() else { return };
    let head = || Head { id: "id".into(), created: 1, model: "a \"model\"".into() };
    let forced = [None, Some(ForcedCall::Any), Some(ForcedCall::Function("f".into()))];
    let wanted = || Wanted {
        n: 2,
        forced_call: forced[usize::from(kind) % 3].clone(),
        no_top_logprobs: kind & 32 != 0,
        include_usage: kind & 16 != 0,
    };
    let mut stream = ChunkStream::new(head(), wanted());
    let mut completion = Completion::new(head(), wanted());
    for (line, event) in lines.split(|byte| *byte == b'\n').enumerate() {
        let index = line % 2;
        // A request ends with its first error.
        if stream.event(index, event).is_err() {
            return;
        }
        completion.event(index, event).expect("what a stream takes");
        if kind & 64 == 0
            && let Some(row) = stream.take_one()
        {
            is_json(&row);
        }
    }
    let ended = [stream.end(0).is_ok(), stream.end(1).is_ok()];
    assert_eq!(ended, [completion.end(0).is_ok(), completion.end(1).is_ok()]);
    while let Some(rows) = stream.take_all() {
        is_json(&rows);
    }
    is_json(&stream.usage_chunk());
    is_json(&completion.json());
}

/// A template and, after a line of its own, what is added to the messages: a text or an error.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (more, template) = text.split_once('\n').unwrap_or(("", text));
    let more: Value = serde_json::from_str(more).unwrap_or(Value::Null);
    let messages = json!([{"role": "user", "content": " Ahoy\n", "more": more}, more]);
    let tokens = SpecialTokens { bos_token: "<s>".into(), eos_token: "</s>".into() };
    if let Err(error) = template::render(template, &messages, &tokens, Map::new()) {
        assert_eq!(error.param.as_deref(), Some("chat_template"));
    }
}

fn is_json(text: &str) {
    // Unlike a Value, this can be as deep as it wants.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        panic!("{error}: {text}");
    }
}
