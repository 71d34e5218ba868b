//! What engines send, and what callers get for it.
#![cfg(feature = "engine")]

use pgml_protocol::chunk::EngineChunk;
use pgml_protocol::reply::{ChunkStream, Completion, Head, Reply};
use pgml_protocol::{Error, Kind};
use serde_json::{Value, json};

fn head() -> Head {
    Head { id: "chatcmpl-1".into(), created: 7, model: "given \"name\"".into() }
}

fn feed(reply: &mut impl Reply, events: &[(usize, Value)]) -> Result<(), Error> {
    for (index, event) in events {
        reply.chunk(*index, &EngineChunk::parse(event.to_string().as_bytes())?)?;
    }
    Ok(())
}

fn delta(delta: Value, finish_reason: Value) -> Value {
    json!({
        "id": "engine's", "model": "/path/of/a.gguf", "object": "chat.completion.chunk", "created": 1,
        "system_fingerprint": "b1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    })
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 0}})
}

fn chunks(n: usize, events: &[(usize, Value)]) -> Vec<Value> {
    let mut stream = ChunkStream::new(head(), n);
    feed(&mut stream, events).unwrap();
    (0..n).rev().for_each(|index| drop(stream.end(index)));
    let one_by_one = std::iter::from_fn(|| stream.take_one().map(|text| parse(&text))).collect();
    let mut stream = ChunkStream::new(head(), n);
    feed(&mut stream, events).unwrap();
    (0..n).rev().for_each(|index| drop(stream.end(index)));
    assert_eq!(split(stream.take_all().map(|text| parse(&text))), one_by_one);
    assert_eq!(stream.take_all(), None);
    one_by_one
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

/// The chunks that a batch stands for: one for each of its choices.
fn split(batch: Option<Value>) -> Vec<Value> {
    let choices = batch.as_ref().and_then(|batch| batch["choices"].as_array()).cloned().unwrap_or_default();
    let chunk = |choice: Value| {
        let mut chunk = batch.clone().unwrap_or_default();
        chunk["choices"] = json!([choice]);
        chunk
    };
    choices.into_iter().map(chunk).collect()
}

fn completion(n: usize, events: &[(usize, Value)]) -> Value {
    let mut completion = Completion::new(head(), n);
    feed(&mut completion, events).unwrap();
    serde_json::from_str(&completion.json()).unwrap()
}

#[test]
fn a_chunk_has_openais_shape_and_the_callers_model() {
    let chunk = &chunks(1, &[(0, delta(json!({"content": "A\n\"hoy"}), Value::Null))])[0];
    assert_eq!(
        *chunk,
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "given \"name\"",
            "system_fingerprint": "b1",
            "choices": [{
                "index": 0, "delta": {"role": "assistant", "content": "A\n\"hoy"},
                "logprobs": null, "finish_reason": null,
            }],
        })
    );
}

#[test]
fn role_comes_once_for_each_choice_however_the_engine_sends_it() {
    let events = [
        // llama.cpp opens with a chunk that says nothing but the role.
        (0, delta(json!({"role": "assistant", "content": null}), Value::Null)),
        (0, delta(json!({"role": "assistant", "content": "a"}), Value::Null)),
        (1, delta(json!({"content": "b"}), Value::Null)),
        (0, delta(json!({"role": "assistant", "content": "c"}), Value::Null)),
        (1, delta(json!({}), json!("stop"))),
        (0, delta(json!({"content": ""}), json!("length"))),
    ];
    let seen: Vec<(u64, Value, Value)> = chunks(2, &events)
        .iter()
        .map(|chunk| &chunk["choices"][0])
        .map(|choice| {
            (choice["index"].as_u64().unwrap(), choice["delta"].clone(), choice["finish_reason"].clone())
        })
        .collect();
    assert_eq!(
        seen,
        [
            (0, json!({"role": "assistant", "content": "a"}), Value::Null),
            (1, json!({"role": "assistant", "content": "b"}), Value::Null),
            (0, json!({"content": "c"}), Value::Null),
            (1, json!({}), json!("stop")),
            (0, json!({}), json!("length")),
        ]
    );
}

#[test]
fn usage_counts_the_prompt_once_and_every_choice() {
    let events = [
        (0, delta(json!({"content": "a"}), json!("stop"))),
        (1, delta(json!({"content": "b"}), json!("stop"))),
        (0, usage(10, 3)),
        (1, usage(10, 4)),
    ];
    let expected = json!({"completion_tokens": 7, "prompt_tokens": 10, "total_tokens": 17});
    assert_eq!(completion(2, &events)["usage"], expected);
    let mut stream = ChunkStream::new(head(), 2);
    feed(&mut stream, &events).unwrap();
    let chunk: Value = serde_json::from_str(&stream.usage_chunk()).unwrap();
    assert_eq!(chunk["usage"], expected);
    assert_eq!(chunk["choices"], json!([]));
}

#[test]
fn usage_that_an_engine_does_not_count_is_null() {
    assert_eq!(completion(1, &[(0, delta(json!({"content": "a"}), json!("stop")))])["usage"], Value::Null);
}

#[test]
fn a_completion_gathers_text_reasoning_and_tool_calls() {
    let call = |index: u64, id: &str, name: &str, arguments: &str| json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let message = &completion(
        1,
        &[
            (0, delta(json!({"role": "assistant", "reasoning_content": "hm"}), Value::Null)),
            (0, delta(json!({"reasoning_content": "m", "content": "so"}), Value::Null)),
            (0, delta(json!({"content": " \u{e9}"}), Value::Null)),
            (0, delta(json!({"tool_calls": [call(0, "c0", "add", "{\"a\":")]}), Value::Null)),
            (0, delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}), Value::Null)),
            (0, delta(json!({"tool_calls": [call(1, "c1", "sub", "{}")]}), json!("tool_calls"))),
        ],
    )["choices"][0]["message"];
    assert_eq!(
        *message,
        json!({
            "role": "assistant", "content": "so \u{e9}", "reasoning_content": "hmm",
            "tool_calls": [
                {"id": "c0", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}},
                {"id": "c1", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
            ],
        })
    );
}

#[test]
fn a_text_completion_becomes_a_chat_completion() {
    let events = [
        (0, json!({"choices": [{"index": 0, "text": "Ye", "finish_reason": null}]})),
        (0, json!({"choices": [{"index": 0, "text": "s", "finish_reason": "stop"}]})),
    ];
    assert_eq!(
        completion(1, &events)["choices"][0]["message"],
        json!({"role": "assistant", "content": "Yes"})
    );
    assert_eq!(chunks(1, &events)[0]["choices"][0]["delta"], json!({"role": "assistant", "content": "Ye"}));
}

#[test]
fn a_choice_without_a_finish_reason_is_not_whole() {
    let mut stream = ChunkStream::new(head(), 1);
    feed(&mut stream, &[(0, delta(json!({"content": "a"}), Value::Null))]).unwrap();
    assert_eq!(stream.end(0).unwrap_err().kind, Kind::ConnectionLost);
}

#[test]
fn an_error_event_is_an_error() {
    let event = json!({"error": {"code": 400, "message": "too long", "param": "messages"}}).to_string();
    let error = EngineChunk::parse(event.as_bytes()).err().unwrap();
    assert_eq!(error.kind, Kind::InvalidRequest);
    assert!(error.message.contains("too long"), "{}", error.message);
    assert_eq!(error.param.as_deref(), Some("messages"));
}

#[test]
fn what_is_no_chunk_is_a_protocol_violation() {
    for event in [&b"hello"[..], b"[1]", b"\"hello\"", b"{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}"]
    {
        assert_eq!(EngineChunk::parse(event).err().unwrap().kind, Kind::ProtocolViolation);
    }
}
