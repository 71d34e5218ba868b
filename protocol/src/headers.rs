//! `extra_headers` of a request: the headers that an engine may get from a caller.
//!
//! Between client and database there is no HTTP, so headers travel in the request body. Only trace
//! context (W3C Trace Context and Baggage) is passed on: any other header could change whom the engine
//! takes the request to come from, which is for the administrator of the foreign server to say.

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::request::wrong_type;

/// Names and values, as they are sent.
pub type Headers = Vec<(&'static str, String)>;

const PASSED_ON: [&str; 3] = ["traceparent", "tracestate", "baggage"];
/// What the Baggage recommendation asks for; trace context is shorter.
const MAX_VALUE: usize = 8192;

/// Checks `extra_headers`.
pub(crate) fn checked(headers: Option<Value>) -> Result<Headers> {
    let headers = match headers {
        None => return Ok(Headers::new()),
        Some(Value::Object(headers)) => headers,
        Some(other) => return Err(wrong_type("extra_headers", "an object", &other)),
    };
    headers
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| header(&name, value))
        .collect()
}

fn header(given: &str, value: Value) -> Result<(&'static str, String)> {
    let param = format!("extra_headers.{given}");
    let Some(name) = PASSED_ON.into_iter().find(|name| name.eq_ignore_ascii_case(given)) else {
        let problem = format!(
            "{param}: is not supported: only X-Request-Id, traceparent, tracestate and baggage are sent to an engine"
        );
        let error = Error::new(Kind::Unsupported, problem);
        let error = match given.eq_ignore_ascii_case("x-request-id") {
            true => error.hint("In SQL, pass it as the argument request_id."),
            false => error.hint("What an engine is to know otherwise goes into extra_body."),
        };
        return Err(Error { param: Some(param), ..error });
    };
    let Value::String(value) = value else {
        return Err(wrong_type(param, "a string", &value));
    };
    if value.len() > MAX_VALUE || !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Error::invalid(param, format!("must be at most {MAX_VALUE} printable ASCII characters")));
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trace_context_is_passed_on() {
        let given = json!({"Traceparent": "00-1-2-01", "baggage": "a=b, c=d", "tracestate": null});
        let expected = vec![("baggage", "a=b, c=d".to_owned()), ("traceparent", "00-1-2-01".to_owned())];
        let mut headers = checked(Some(given)).unwrap();
        headers.sort();
        assert_eq!(headers, expected);
        assert_eq!(checked(None).unwrap(), []);
    }

    #[test]
    fn other_headers_are_refused_by_name() {
        for (given, param) in [
            (json!({"Authorization": "Bearer x"}), "extra_headers.Authorization"),
            (json!({"traceparent": 1}), "extra_headers.traceparent"),
            (json!({"baggage": "a\r\nb: c"}), "extra_headers.baggage"),
            (json!({"baggage": "a".repeat(MAX_VALUE + 1)}), "extra_headers.baggage"),
            (json!([]), "extra_headers"),
        ] {
            let error = checked(Some(given)).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param));
            assert!(error.message.starts_with(param), "{}", error.message);
            assert!(!error.message.contains("Bearer"));
        }
    }
}
