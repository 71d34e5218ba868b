//! An engine's answer over HTTP, however its bytes arrive and whatever they are.
#![cfg(feature = "engine")]

use std::io::Write;

use http::HeaderMap;
use pgml_protocol::exchange::{Exchange, RequestBody};
use pgml_protocol::{Kind, Result};

const BODY: &str = "data: {\"a\":1}\n\ndata: [DONE]\n\n";

fn answer(bytes: &[u8], step: usize, close: bool) -> (Vec<String>, Result<()>) {
    let uri = "http://localhost/v1/chat/completions".parse().unwrap();
    let mut exchange = Exchange::post(&uri, &HeaderMap::new(), b"{}".as_slice().into()).unwrap();
    let mut events = Vec::new();
    for part in bytes.chunks(step) {
        exchange.received(part);
        let result = exchange.drain(|data| {
            events.push(String::from_utf8_lossy(data).into_owned());
            Ok(())
        });
        if result.is_err() {
            return (events, result);
        }
    }
    let result = if close { exchange.closed() } else { Ok(()) };
    let result = result.and_then(|()| {
        exchange.drain(|data| {
            events.push(String::from_utf8_lossy(data).into_owned());
            Ok(())
        })
    });
    assert!(result.is_err() || exchange.is_ended());
    (events, result)
}

fn chunked() -> String {
    let chunks: String = BODY
        .as_bytes()
        .chunks(7)
        .map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c)))
        .collect();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    )
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer secret".parse().unwrap());
    headers.insert("x-request-id", "id-1".parse().unwrap());
    headers
}

#[test]
fn a_large_body_is_sent_in_parts_and_again() {
    let uri = "http://engine/v1/chat/completions".parse().unwrap();
    let body = RequestBody { shared: vec![b'a'; 100_000].into(), own: b"end".to_vec() };
    let mut exchange = Exchange::post(&uri, &HeaderMap::new(), body).unwrap();
    let mut send = || {
        let mut sent = Vec::new();
        while !exchange.to_send().is_empty() {
            let part = exchange.to_send();
            let part = part[..part.len().min(7000)].to_vec();
            exchange.sent(part.len());
            sent.extend(part);
        }
        assert!(exchange.rewind());
        sent
    };
    let first = send();
    assert!(first.ends_with(b"\r\n\r\n") || first.ends_with(b"aaaend"));
    assert_eq!(first.len(), first.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4 + 100_003);
    assert_eq!(send(), first);
    exchange.received(b"HTTP/1.1 200 OK\r\n");
    assert!(!exchange.rewind());
}

#[test]
fn a_connection_is_used_again_only_where_both_sides_allow_it() {
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: Close\r\n", false),
        ("HTTP/1.0 200 OK\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", true),
    ] {
        let uri = "http://engine/".parse().unwrap();
        let mut exchange = Exchange::post(&uri, &HeaderMap::new(), b"{}".as_slice().into()).unwrap();
        exchange.sent(exchange.to_send().len());
        let length = BODY.len();
        let head = format!("{head}Content-Type: text/event-stream\r\nContent-Length: {length}\r\n\r\n{BODY}");
        exchange.received(head.as_bytes());
        exchange.drain(|_| Ok(())).unwrap();
        assert_eq!(exchange.leaves_open(), expected, "{head}");
    }
}

#[test]
fn an_answer_without_end_is_refused() {
    let uri = "http://engine/".parse().unwrap();
    let exchange = Exchange::post(&uri, &HeaderMap::new(), b"{}".as_slice().into()).unwrap();
    let mut exchange = exchange.limited(100);
    exchange.received(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    let error = (0..20).find_map(|_| {
        exchange.received(BODY.as_bytes());
        exchange.drain(|_| Ok(())).err()
    });
    assert!(error.unwrap().hint.unwrap().contains("max_answer_bytes"));
}

#[test]
fn a_request_through_a_proxy_names_its_host() {
    let uri: http::Uri = "http://engine:8080/v1/chat/completions".parse().unwrap();
    let exchange = Exchange::post(&uri, &HeaderMap::new(), b"{}".as_slice().into()).unwrap();
    let exchange = exchange.absolute_form(&uri);
    assert!(exchange.to_send().starts_with(b"POST http://engine:8080/v1/chat/completions HTTP/1.1\r\n"));
}

#[test]
fn a_request_has_what_an_engine_needs() {
    let uri = "http://engine:8080/v1/chat/completions".parse().unwrap();
    let exchange = Exchange::post(&uri, &headers(), b"{\"n\":1}".as_slice().into()).unwrap();
    let text = String::from_utf8(exchange.to_send().to_vec()).unwrap().to_lowercase();
    assert!(text.starts_with("post /v1/chat/completions http/1.1\r\n"), "{text}");
    for line in
        ["host: engine:8080", "authorization: bearer secret", "content-length: 7", "x-request-id: id-1"]
    {
        assert!(text.contains(&format!("{line}\r\n")), "{line} is missing in {text}");
    }
    assert!(text.ends_with("\r\n\r\n{\"n\":1}"), "{text}");
}

#[test]
fn events_come_out_however_the_bytes_arrive() {
    let chunked = chunked();
    let closing = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{BODY}");
    let sized = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let continued = format!("HTTP/1.1 100 Continue\r\n\r\n{sized}");
    for (answer_, close) in [(&chunked, false), (&closing, true), (&sized, false), (&continued, false)] {
        for step in [1, 2, 3, 5, 8, 1000] {
            let (events, result) = answer(answer_.as_bytes(), step, close);
            assert_eq!(result, Ok(()), "{answer_} in steps of {step}");
            assert_eq!(events, ["{\"a\":1}", "[DONE]"]);
        }
    }
}

#[test]
fn a_cut_answer_is_no_answer() {
    let whole = chunked();
    for cut in [0, 10, whole.find("\r\n\r\n").unwrap() + 10, whole.len() - 8] {
        let (_, result) = answer(&whole.as_bytes()[..cut], 1000, true);
        assert_eq!(result.unwrap_err().kind, Kind::ConnectionLost, "cut at {cut}");
    }
}

#[test]
fn an_error_answer_becomes_an_error() {
    for (status, kind) in [
        (400, Kind::InvalidRequest),
        (401, Kind::Authentication),
        (404, Kind::ModelNotFound),
        (429, Kind::Overloaded),
        (500, Kind::Engine),
        (302, Kind::ProtocolViolation),
    ] {
        let body = "{\"error\":{\"message\":\"because\",\"param\":\"seed\"}}";
        let text = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nRetry-After: 7\r\nLocation: http://elsewhere/\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let error = answer(text.as_bytes(), 1000, false).1.unwrap_err();
        assert_eq!(error.kind, kind, "{status}");
        assert_eq!(error.detail.as_deref(), Some("Retry-After: 7"));
    }
}

#[test]
fn what_does_not_end_is_refused() {
    let uri = "http://localhost/v1".parse().unwrap();
    let head = "HTTP/1.1 200 OK\r\n";
    let chunked =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1;";
    for (begun, more) in [(head, "x"), (head, "X: y\r\n"), (chunked, "x")] {
        let mut exchange = Exchange::post(&uri, &HeaderMap::new(), b"{}".as_slice().into()).unwrap();
        exchange.received(begun.as_bytes());
        let refused = (0..100).find_map(|_| {
            exchange.received(more.repeat(10_000).as_bytes());
            exchange.drain(|_| Ok(())).err()
        });
        assert_eq!(refused.map(|error| error.kind), Some(Kind::ProtocolViolation), "{begun}{more}…");
    }
}

#[test]
fn nonsense_is_named_so() {
    for text in [
        "hello, this is no HTTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let error = answer(text.as_bytes(), 1000, false).1.unwrap_err();
        assert_eq!(error.kind, Kind::ProtocolViolation, "{text}");
    }
}

fn head(content_type: &str, more: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{more}\r\n").into_bytes()
}

#[test]
fn what_an_answer_is_does_not_depend_on_its_type() {
    let json = r#"{"choices": [], "a": 1}"#;
    for (content_type, body, expected) in [
        ("Text/Event-Stream; charset=utf-8", BODY, &["{\"a\":1}", "[DONE]"][..]),
        ("TEXT/PLAIN", BODY, &["{\"a\":1}", "[DONE]"]),
        ("application/octet-stream", ": hi\n\ndata: {\"a\":1}\n\ndata:[DONE] \n", &["{\"a\":1}", "[DONE]"]),
        ("text/event-stream", "\u{FEFF}data: {\"a\":1}\r\rdata: [done]", &["{\"a\":1}", "[DONE]"]),
        ("application/json", json, &[json]),
        ("text/event-stream", json, &[json]),
        (
            "application/x-ndjson",
            "{\"choices\": []}\n{\"choices\": null}\n",
            &["{\"choices\": []}", "{\"choices\": null}"],
        ),
    ] {
        let answer_ = [head(content_type, ""), body.as_bytes().to_vec()].concat();
        for step in [1, 2, 7, 1000] {
            let (events, result) = answer(&answer_, step, true);
            assert_eq!(
                (events, result),
                (expected.iter().map(|event| event.to_string()).collect(), Ok(())),
                "{body}"
            );
        }
    }
}

#[test]
fn a_compressed_answer_is_unpacked() {
    let gzip = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).and_then(|()| encoder.finish()).unwrap()
    };
    let zlib = |body: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).and_then(|()| encoder.finish()).unwrap()
    };
    let raw = |body: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).and_then(|()| encoder.finish()).unwrap()
    };
    for (coding, body) in [
        ("gzip", gzip(BODY.as_bytes())),
        ("X-GZIP", gzip(BODY.as_bytes())),
        ("deflate", zlib(BODY.as_bytes())),
        ("deflate", raw(BODY.as_bytes())),
        ("identity", BODY.as_bytes().to_vec()),
    ] {
        let answer_ = [head("text/event-stream", &format!("Content-Encoding: {coding}\r\n")), body].concat();
        for step in [1, 5, 1000] {
            let (events, result) = answer(&answer_, step, true);
            assert_eq!((events.len(), result), (2, Ok(())), "{coding}");
        }
    }
    for (coding, words) in [("br", "\"br\""), ("gzip", "cannot be unpacked")] {
        let answer_ = [
            head("text/event-stream", &format!("Content-Encoding: {coding}\r\n")),
            b"nonsense, long enough".to_vec(),
        ]
        .concat();
        let error = answer(&answer_, 1000, true).1.unwrap_err();
        assert_eq!(error.kind, Kind::ProtocolViolation);
        assert!(error.message.contains(words), "{}", error.message);
    }
}

#[test]
fn an_engines_words_are_in_the_error() {
    let page = "<html><title>WHY</title></html>";
    for (status, content_type, body, kind) in [
        (
            "200",
            "text/event-stream",
            "event: error\ndata: {\"message\": \"WHY\", \"code\": 503}\n\n",
            Kind::Overloaded,
        ),
        ("200", "text/event-stream", "event: error\ndata: WHY\n\n", Kind::Engine),
        (
            "200",
            "text/event-stream",
            "error: {\"code\": 400, \"message\": \"WHY\"}\n\n",
            Kind::InvalidRequest,
        ),
        ("200", "text/event-stream", "upstream says WHY", Kind::ProtocolViolation),
        ("200", "application/json", "{\"error\": {\"message\": \"WHY\", \"code\": 429}}", Kind::Overloaded),
        (
            "200",
            "application/json",
            "[{\"error\": {\"message\": \"WHY\", \"code\": 404}}]",
            Kind::ModelNotFound,
        ),
        ("200", "application/json", "{\"WHY\": 1}", Kind::ProtocolViolation),
        ("200", "text/html", page, Kind::ProtocolViolation),
        ("201", "text/plain", "WHY", Kind::ProtocolViolation),
        (
            "429",
            "text/event-stream",
            "data: {\"error\": {\"message\": \"WHY\"}}\n\ndata: [DONE]\n\n",
            Kind::Overloaded,
        ),
        ("500", "text/plain", "WHY", Kind::Engine),
        ("502", "text/html", page, Kind::Engine),
        ("413", "text/html", "<h1>WHY</h1>", Kind::InvalidRequest),
    ] {
        let answer_ = format!("HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\n\r\n{body}");
        let error = answer(answer_.as_bytes(), 1000, true).1.unwrap_err();
        assert!(error.message.contains("WHY") && !error.message.contains('<'), "{}", error.message);
        assert_eq!(error.kind, kind, "{body}");
    }
}

#[test]
fn a_refusal_that_is_cut_is_a_refusal() {
    let cut = "HTTP/1.1 413 X\r\nContent-Length: 100\r\n\r\ntoo lon";
    let error = answer(cut.as_bytes(), 1000, true).1.unwrap_err();
    assert_eq!((error.kind, error.message.ends_with("413: too lon")), (Kind::InvalidRequest, true));
    let mut exchange = Exchange::get(&"http://localhost/".parse().unwrap(), &HeaderMap::new()).unwrap();
    assert_eq!(exchange.broken_off(), None);
    exchange.received(b"HTTP/1.1 413 X\r\nContent-Length: 100\r\n\r\n");
    exchange.drain(|_| Ok(())).unwrap();
    assert_eq!(exchange.broken_off().map(|error| error.kind), Some(Kind::InvalidRequest));
}

#[test]
fn retry_after_may_be_a_date_or_a_fraction() {
    for (value, expected) in [
        ("7", Some("Retry-After: 7")),
        ("1.2", Some("Retry-After: 2")),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Some("Retry-After: 0")),
        ("soon", None),
    ] {
        let answer_ = format!("HTTP/1.1 429 X\r\nRetry-After: {value}\r\nContent-Length: 2\r\n\r\nno");
        let error = answer(answer_.as_bytes(), 1000, false).1.unwrap_err();
        assert_eq!(error.detail.as_deref(), expected);
    }
}
