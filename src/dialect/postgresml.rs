//! PostgresML's dialect: `pgml.transform`, and `pgml.transform_stream` through a cursor.
//!
//! A stock PostgresML server (2.8 to 2.10) hands `args` to transformers, so they are said in its
//! words. It tells neither why a text ended nor how many tokens it has: `finish_reason` and
//! `usage` are null here, and not invented.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgml_protocol::Request as CheckedRequest;
use pgml_protocol::error::sqlstate;
use serde_json::{Map, Value, json};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;

use super::cursor::{self, Cursor};
use crate::database::{Statement, within};
use crate::error::{Error, Kind, Result};
use crate::request::Request;
use crate::stream::{Row, RowSender};

const COMPLETION: &str = "SELECT pgml.transform(task => $1::jsonb, args => $2::jsonb, inputs => $3::jsonb[])";
const CURSOR: &str = "DECLARE c NO SCROLL CURSOR FOR SELECT pgml.transform_stream(task => $1::jsonb, args => $2::jsonb, inputs => $3::jsonb[])";
/// Transformers stops after 20 tokens if it is not told otherwise; PostgresML's own SDK says 1000.
const DEFAULT_MAX_NEW_TOKENS: u64 = 1000;

pub(super) struct Transform {
    arguments: Arguments,
    reply: Reply,
    stream: bool,
    timeout: Duration,
}

impl Transform {
    /// Checks the request, since no extension of ours will.
    pub fn new(request: &Request, stream: bool) -> Result<Transform> {
        let body = serde_json::from_str(&request.body).map_err(|error| {
            Error::new(Kind::Configuration, format!("the request is not valid JSON: {error}"))
        })?;
        let checked = CheckedRequest::parse(body)?;
        let token = request.token.as_ref().map(|token| token.0.as_str());
        Ok(Transform {
            arguments: Arguments::new(&checked, token)?,
            reply: Reply::new(&checked, request.id.clone()),
            stream,
            timeout: request.timeout,
        })
    }
}

impl Statement for Transform {
    async fn run(&self, connection: &mut PgConnection, rows: &RowSender) -> Result<bool> {
        if self.stream { self.stream(connection, rows).await } else { self.whole(connection, rows).await }
    }
}

impl Transform {
    async fn whole(&self, connection: &mut PgConnection, rows: &RowSender) -> Result<bool> {
        let query = self.arguments.bind(sqlx::query(COMPLETION));
        let row = within(self.timeout, query.fetch_one(connection)).await?;
        let choices: Vec<Value> = texts(&Row::received(row)?)?
            .into_iter()
            .enumerate()
            .map(|(index, content)| {
                choice(index, "message", json!({"role": "assistant", "content": content}))
            })
            .collect();
        Ok(rows.push(self.reply.row("chat.completion", choices, true)).await)
    }

    async fn stream(&self, connection: &mut PgConnection, rows: &RowSender) -> Result<bool> {
        let query = self.arguments.bind(sqlx::query(CURSOR));
        let mut cursor = within(self.timeout, Cursor::declare(connection, query, cursor::MAX_BATCH)).await?;
        let mut roles_sent = vec![false; self.reply.n];
        while let Some(batch) = within(self.timeout, cursor.fetch()).await? {
            for row in batch {
                for (index, content) in texts(&Row::received(row)?)?.into_iter().enumerate() {
                    if content.is_empty() {
                        continue;
                    }
                    let mut delta = json!({"content": content});
                    if roles_sent.get(index) == Some(&false) {
                        roles_sent[index] = true;
                        delta["role"] = "assistant".into();
                    }
                    let choices = vec![choice(index, "delta", delta)];
                    if !rows.push(self.reply.row("chat.completion.chunk", choices, false)).await {
                        return Ok(false);
                    }
                }
            }
        }
        within(self.timeout, cursor.close()).await?;
        Ok(true)
    }
}

fn choice(index: usize, name: &str, content: Value) -> Value {
    json!({"index": index, name: content, "logprobs": null, "finish_reason": null})
}

/// The strings of a row, one for each choice.
fn texts(row: &Row) -> Result<Vec<String>> {
    serde_json::from_slice(row.json()?).map_err(|_| {
        Error::new(Kind::Database, "pgml.transform did not answer with an array of strings")
            .sqlstate(sqlstate::PROTOCOL_VIOLATION)
            .hint("Is this PostgresML 2.8 or newer?")
    })
}

/// What every answer to one request repeats.
struct Reply {
    id: String,
    created: u64,
    model: String,
    n: usize,
}

impl Reply {
    fn new(request: &CheckedRequest, id: String) -> Reply {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Reply { id, created: now.as_secs(), model: request.model.clone(), n: request.n }
    }

    fn row(&self, object: &str, choices: Vec<Value>, usage: bool) -> Row {
        let mut row = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "system_fingerprint": null, "choices": choices,
        });
        if usage {
            row["usage"] = Value::Null;
        }
        Row::made(row.to_string())
    }
}

/// The three arguments of `pgml.transform`.
struct Arguments {
    task: String,
    args: String,
    inputs: Vec<String>,
}

impl Arguments {
    fn new(request: &CheckedRequest, token: Option<&str>) -> Result<Arguments> {
        let mut task = request.model_options.clone();
        task.insert("task".into(), "conversational".into());
        task.insert("model".into(), request.model.clone().into());
        if let Some(token) = token {
            task.insert("token".into(), token.into());
        }
        let messages = request.messages().as_array().into_iter().flatten();
        Ok(Arguments {
            task: Value::Object(task).to_string(),
            args: Value::Object(args(request)?).to_string(),
            inputs: messages.map(Value::to_string).collect(),
        })
    }

    fn bind<'q>(&'q self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        query.bind(&self.task).bind(&self.args).bind(&self.inputs)
    }
}

/// A request's parameters in the words of transformers' `generate`.
fn args(request: &CheckedRequest) -> Result<Map<String, Value>> {
    let mut args = Map::new();
    let mut max_new_tokens = DEFAULT_MAX_NEW_TOKENS.into();
    for (name, value) in &request.parameters {
        match name.as_str() {
            "messages" => (),
            "max_tokens" | "max_completion_tokens" => max_new_tokens = value.clone(),
            // Without sampling transformers takes the likeliest token, which temperature 0 means.
            "temperature" => {
                let sample = value.as_f64() != Some(0.0);
                args.insert("do_sample".into(), sample.into());
                if sample {
                    args.insert("temperature".into(), value.clone());
                }
            }
            "top_p" | "top_k" | "min_p" | "repetition_penalty" => {
                drop(args.insert(name.clone(), value.clone()))
            }
            // These say nothing about the text.
            "user" | "metadata" | "store" | "service_tier" | "safety_identifier" | "prompt_cache_key" => (),
            _ => return Err(unsupported(name)),
        }
    }
    if request.include_usage {
        return Err(unsupported("stream_options"));
    }
    args.insert("max_new_tokens".into(), max_new_tokens);
    args.insert("num_return_sequences".into(), request.n.into());
    if let Some(template) = &request.chat_template {
        args.insert("chat_template".into(), template.clone().into());
    }
    Ok(args)
}

fn unsupported(name: &str) -> Error {
    let message = format!("{name}: PostgresML's pgml.transform cannot do this");
    let error = pgml_protocol::Error::new(pgml_protocol::Kind::Unsupported, message);
    pgml_protocol::Error { param: Some(name.into()), ..error }.hint("The extension pgml 2 can.").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_said_in_transformers_words() {
        let request = CheckedRequest::parse(json!({
            "model": {"model": "m", "revision": "main"}, "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 5, "temperature": 0, "n": 2, "chat_template": "{{ messages }}", "top_p": 0.5,
        }))
        .unwrap();
        let arguments = Arguments::new(&request, Some("hf_secret")).unwrap();
        let task: Value = serde_json::from_str(&arguments.task).unwrap();
        assert_eq!(
            task,
            json!({"task": "conversational", "model": "m", "revision": "main", "token": "hf_secret"})
        );
        let args: Value = serde_json::from_str(&arguments.args).unwrap();
        assert_eq!(
            args,
            json!({"max_new_tokens": 5, "do_sample": false, "num_return_sequences": 2, "chat_template": "{{ messages }}", "top_p": 0.5})
        );
        assert_eq!(arguments.inputs, [r#"{"role":"user","content":"hi"}"#]);
    }

    #[test]
    fn what_postgresml_cannot_do_is_refused_by_name() {
        let request = CheckedRequest::parse(json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}], "logit_bias": {"1": 2},
        }))
        .unwrap();
        assert_eq!(Arguments::new(&request, None).err().unwrap().param.as_deref(), Some("logit_bias"));
    }
}
