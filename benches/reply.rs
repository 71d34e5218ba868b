//! What the extension does with an engine's bytes, without any engine: an answer of a thousand
//! tokens split into events, read, and made into what a caller gets.
//!
//! Every benchmark checks its result once, before it is timed.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgml_protocol::chunk::EngineChunk;
use pgml_protocol::exchange::{Exchange, HeaderMap};
use pgml_protocol::reply::{ChunkStream, Completion, Head, Reply};
use pgml_protocol::sse::Events;

const TOKENS: usize = 1000;
const WORDS: [&str; 8] = [" the", " quick", ",", "\\n", " na\\u00efve", " 日本", " \\\"fox\\\"", "."];
/// As much as one read from a socket takes at most.
const READ: usize = 64 << 10;

fn event(content: &str, finish_reason: &str) -> String {
    format!(
        r#"{{"choices":[{{"finish_reason":{finish_reason},"index":0,"delta":{{"content":"{content}"}}}}],"created":1790000000,"id":"chatcmpl-3Tjkx9rYcP0Zq6vN8bSfLwEaUoMhKdGi","model":"model","system_fingerprint":"b11549-0a1b2c3d","object":"chat.completion.chunk"}}"#
    )
}

/// The data of each event of an answer, as llama.cpp sends it.
fn events() -> Vec<String> {
    let tokens = (0..TOKENS).map(|index| event(WORDS[index % WORDS.len()], "null"));
    let usage = r#"{"choices":[],"usage":{"completion_tokens":1000,"prompt_tokens":9,"total_tokens":1009}}"#;
    tokens.chain([event("", "\"stop\""), usage.to_owned()]).collect()
}

/// The whole answer as HTTP, each event a chunk of its own.
fn answer() -> Vec<u8> {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for data in events().iter().map(String::as_str).chain(["[DONE]"]) {
        let event = format!("data: {data}\n\n");
        bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn head() -> Head {
    Head { id: "chatcmpl-0123456789abcdef".into(), created: 1_790_000_000, model: "model".into() }
}

/// All that the extension does between a socket's bytes and a reply.
fn receive(answer: &[u8], reply: &mut impl Reply) {
    let uri = "http://engine:8080/v1/chat/completions".parse().unwrap();
    let mut exchange = Exchange::post(&uri, &HeaderMap::new(), b"{}".as_slice().into()).unwrap();
    for part in answer.chunks(READ) {
        exchange.received(part);
        exchange
            .drain(|data| match data {
                b"[DONE]" => reply.end(0),
                data => reply.chunk(0, &EngineChunk::parse(data)?),
            })
            .unwrap();
    }
    assert!(exchange.is_ended());
}

/// Lines of server-sent events, with neither HTTP nor JSON.
fn sse(criterion: &mut Criterion) {
    let bytes: String = events().iter().map(|data| format!("data: {data}\n\n")).collect();
    let split = || {
        let mut events = Events::default();
        let mut count = 0;
        for part in bytes.as_bytes().chunks(READ) {
            events.buffer().extend_from_slice(part);
            events
                .drain(|_, data| {
                    count += 1;
                    black_box(data);
                    Ok(())
                })
                .unwrap();
        }
        count
    };
    assert_eq!(split(), TOKENS + 2);
    let mut group = criterion.benchmark_group("sse");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("split", |bencher| bencher.iter(split));
    group.finish();
}

/// One event: read, and made into a chunk.
fn event_to_chunk(criterion: &mut Criterion) {
    let data = event(" helicopters", "null");
    let mut stream = ChunkStream::new(head(), 1);
    let mut make = || {
        stream.chunk(0, &EngineChunk::parse(black_box(data.as_bytes())).unwrap()).unwrap();
        stream.take_one().unwrap()
    };
    // The first chunk of a stream has a role; those after it are what is timed.
    let first: serde_json::Value = serde_json::from_str(&make()).unwrap();
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    let second: serde_json::Value = serde_json::from_str(&make()).unwrap();
    assert_eq!(second["choices"][0]["delta"], serde_json::json!({"content": " helicopters"}));
    assert_eq!(second["model"], "model");

    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |bencher| bencher.iter(|| EngineChunk::parse(black_box(data.as_bytes()))));
    group.bench_function("to chunk", |bencher| bencher.iter(&mut make));
    group.finish();
}

/// A whole answer, from HTTP to chunks, and from HTTP to one completion.
fn whole_answer(criterion: &mut Criterion) {
    let answer = answer();
    let text: String = (0..TOKENS)
        .map(|index| serde_json::from_str::<String>(&format!("\"{}\"", WORDS[index % WORDS.len()])).unwrap())
        .collect();
    let stream = || {
        let mut stream = ChunkStream::new(head(), 1);
        receive(&answer, &mut stream);
        stream
    };
    let batch = || stream().take_all().unwrap();
    let complete = || {
        let mut completion = Completion::new(head(), 1);
        receive(&answer, &mut completion);
        completion
    };
    let mut chunks = Vec::new();
    let mut made = stream();
    while let Some(chunk) = made.take_one() {
        chunks.push(chunk);
    }
    // Each token, and the end.
    assert_eq!(chunks.len(), TOKENS + 1);
    let batched: serde_json::Value = serde_json::from_str(&batch()).unwrap();
    assert_eq!(batched["choices"].as_array().unwrap().len(), TOKENS + 1);
    let said: String = chunks
        .iter()
        .map(|chunk| serde_json::from_str::<serde_json::Value>(chunk).unwrap())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(said, text);
    let completion = complete();
    assert_eq!(completion.contents().collect::<Vec<_>>(), [text]);
    let completion: serde_json::Value = serde_json::from_str(&completion.json()).unwrap();
    assert_eq!(completion["usage"]["total_tokens"], 9 + TOKENS);

    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Elements(TOKENS as u64));
    group.bench_function("streamed", |bencher| bencher.iter(batch));
    group.bench_function("whole", |bencher| bencher.iter(|| complete().json()));
    group.finish();
}

criterion_group!(benches, sse, event_to_chunk, whole_answer);
criterion_main!(benches);
