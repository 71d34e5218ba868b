//! Streams as engines send them, and the completions that they must become: see streams/README.md.
#![cfg(feature = "engine")]

use std::path::{Path, PathBuf};
use std::{env, fs};

use http::HeaderMap;
use pgml_protocol::exchange::{DONE, Exchange};
use pgml_protocol::reply::{ChunkStream, Completion, Head, Reply, Wanted};
use pgml_protocol::{Error, Result};
use serde_json::{Map, Value, json};

fn streams() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut streams: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "sse")).collect();
    streams.sort();
    assert!(streams.len() > 30);
    streams
}

fn head() -> Head {
    Head { id: "chatcmpl-1".into(), created: 1, model: "m".into() }
}

/// Gives a body to a reply, in pieces of `step` bytes.
fn feed(body: &[u8], step: usize, reply: &mut impl Reply) -> Result<()> {
    let uri = "http://engine/v1/chat/completions".parse().unwrap();
    let mut exchange = Exchange::post(&uri, &HeaderMap::new(), b"{}".as_slice().into())?;
    exchange.received(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
    let mut done = false;
    let mut events = |exchange: &mut Exchange| {
        exchange.drain(|data| {
            done = done || data == DONE;
            if done { Ok(()) } else { reply.event(0, data) }
        })
    };
    for part in body.chunks(step) {
        exchange.received(part);
        events(&mut exchange)?;
    }
    exchange.closed()?;
    events(&mut exchange)?;
    reply.end(0)
}

fn told(error: &Error) -> Value {
    json!({"error": {"sqlstate": error.kind.sqlstate(), "message": error.message}})
}

/// What a body becomes, in the form of the `.json` files.
fn becomes(body: &[u8], step: usize) -> Value {
    let mut completion = Completion::new(head(), 1);
    if let Err(error) = feed(body, step, &mut completion) {
        return told(&error);
    }
    let mut completion: Map<String, Value> = serde_json::from_str(&completion.json()).unwrap();
    for ours in ["id", "created", "model"] {
        completion.shift_remove(ours).unwrap();
    }
    completion.into()
}

#[test]
fn each_stream_becomes_its_completion() {
    for path in streams() {
        let body = fs::read(&path).unwrap();
        let made = becomes(&body, body.len());
        let expected = path.with_extension("json");
        if env::var_os("WRITE").is_some() {
            fs::write(&expected, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
        }
        let expected: Value = serde_json::from_slice(&fs::read(&expected).unwrap()).unwrap();
        assert_eq!(made, expected, "{}", path.display());
        for step in [1, 7, 64] {
            assert_eq!(becomes(&body, step), expected, "{} in pieces of {step}", path.display());
        }
    }
}

/// A streamed reply says the same: a client that adds its chunks up has the same message.
#[test]
fn each_stream_ends_as_it_must_when_it_is_streamed() {
    for path in streams() {
        let body = fs::read(&path).unwrap();
        let expected: Value =
            serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
        let wanted = Wanted { include_usage: true, ..Wanted::choices(1) };
        let mut stream = ChunkStream::new(head(), wanted);
        let result = feed(&body, 16, &mut stream);
        let chunks: Vec<Value> = std::iter::from_fn(|| stream.take_one())
            .map(|chunk| serde_json::from_str(&chunk).unwrap())
            .collect();
        if let Err(error) = result {
            assert_eq!(told(&error), expected, "{}", path.display());
            continue;
        }
        let said = |field: &str| -> String {
            let deltas = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"][field]);
            deltas.filter_map(Value::as_str).collect()
        };
        let message = &expected["choices"][0]["message"];
        for field in ["content", "refusal", "reasoning", "reasoning_content"] {
            let whole = message.get(field).and_then(Value::as_str).unwrap_or_default();
            assert_eq!(said(field), whole, "{}: {field}", path.display());
        }
        let last = chunks.last().unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], expected["choices"][0]["finish_reason"]);
        assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()));
        let usage: Value = serde_json::from_str(&stream.usage_chunk()).unwrap();
        assert_eq!(usage["usage"], expected["usage"], "{}", path.display());
    }
}
