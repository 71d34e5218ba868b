//! From the parameters of a call to a request.

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::request::{Request, Secret};

/// The longest id of a request that the database takes.
const MAX_ID: usize = 128;
const HEADERS: [&str; 4] = ["x-request-id", "traceparent", "tracestate", "baggage"];

impl Request {
    /// A request from the parameters of a call, as a JSON object: OpenAI's, and those of its clients
    /// that are not part of the body (`extra_body`, `extra_headers`). The `token` of a model object
    /// is taken out of the body.
    ///
    /// What the parameters may say otherwise is checked by the server.
    pub fn from_parameters(json: &str) -> Result<Request> {
        let mut body: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| invalid("request", format!("{error}")))?;
        if body.remove("extra_query").is_some_and(|query| query != Value::Null) {
            return Err(invalid("extra_query", "cannot be sent: a statement has no query; use extra_body"));
        }
        let id = take_headers(&mut body)?;
        match body.remove("extra_body") {
            None | Some(Value::Null) => (),
            Some(Value::Object(extra)) => body.extend(extra),
            Some(_) => return Err(invalid("extra_body", "must be an object")),
        }
        let token = match body.get_mut("model").and_then(Value::as_object_mut) {
            Some(model) => match model.shift_remove("token") {
                None | Some(Value::Null) => None,
                Some(Value::String(token)) => Some(Secret(token)),
                Some(_) => return Err(invalid("model.token", "must be a string")),
            },
            None => None,
        };
        let request = Request { token, ..Request::new(Value::Object(body).to_string()) };
        Ok(match id {
            Some(id) => Request { id, ..request },
            None => request,
        })
    }
}

/// Checks `extra_headers` and takes the request's id out of them: it reaches the database separately.
fn take_headers(body: &mut Map<String, Value>) -> Result<Option<String>> {
    let headers = match body.remove("extra_headers") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(headers)) => headers,
        Some(_) => return Err(invalid("extra_headers", "must be an object")),
    };
    let mut id = None;
    let mut others = Map::new();
    for (name, value) in headers {
        match name.to_ascii_lowercase() {
            lower if !HEADERS.contains(&lower.as_str()) => {
                let problem = format!("{name:?} cannot be sent: an engine gets {}", HEADERS.join(", "));
                return Err(invalid("extra_headers", problem));
            }
            lower if lower == "x-request-id" => id = Some(request_id(&value)?),
            lower => drop(others.insert(lower, value)),
        }
    }
    if !others.is_empty() {
        body.insert("extra_headers".into(), Value::Object(others));
    }
    Ok(id)
}

fn request_id(value: &Value) -> Result<String> {
    value
        .as_str()
        .filter(|id| (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(str::to_owned)
        .ok_or_else(|| {
            let problem =
                format!("X-Request-Id must be a string of at most {MAX_ID} visible ASCII characters");
            invalid("extra_headers", problem)
        })
}

fn invalid(param: &str, problem: impl Into<String>) -> Error {
    let error = Error::new(Kind::Database, problem).context(param).sqlstate("22023");
    Error { param: Some(param.into()), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_and_the_id_are_kept_out_of_the_body() {
        let request = Request::from_parameters(
            r#"{"model": {"model": "m", "token": "t0k"}, "extra_body": {"min_p": 0.1},
                "extra_headers": {"X-Request-ID": "r-1", "Traceparent": "00-1"}}"#,
        )
        .unwrap();
        assert_eq!(
            request.body,
            r#"{"model":{"model":"m"},"extra_headers":{"traceparent":"00-1"},"min_p":0.1}"#
        );
        assert_eq!(request.token.unwrap().0, "t0k");
        assert_eq!(request.id, "r-1");
    }

    #[test]
    fn errors_name_the_parameter() {
        let param = |json| Request::from_parameters(json).unwrap_err().param.unwrap();
        assert_eq!(param(r#"{"model": {"token": 1}}"#), "model.token");
        assert_eq!(param(r#"{"extra_headers": {"Host": "x"}}"#), "extra_headers");
        assert_eq!(param(r#"{"extra_headers": {"x-request-id": "a b"}}"#), "extra_headers");
        assert_eq!(param(r#"{"extra_body": []}"#), "extra_body");
        assert_eq!(param("[]"), "request");
    }
}
