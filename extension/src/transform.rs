//! PostgresML's `pgml.transform` and `pgml.transform_stream`, on the same engines.
//!
//! Names, defaults and result shapes are those of PostgresML 2.8 to 2.10. `args` may say a thing
//! in transformers' words (`max_new_tokens`) or in OpenAI's (`max_tokens`, as its last SDK does).
//! Of its tasks, the two that generate text are here.

use std::collections::VecDeque;

use pgml_protocol::reply::{Completion, EngineChunk, Head, Reply};
use pgml_protocol::{Error, Kind, Request, Result};
use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use crate::completions::complete;
use crate::generation::Generation;
use crate::report;

/// What is to be continued.
enum Input {
    Messages(Vec<Value>),
    Texts(Vec<String>),
}

/// A checked call.
struct Call {
    request: Request,
    input: Input,
    return_full_text: bool,
}

impl Call {
    fn parse(task: Value, args: Value, input: Input) -> Result<Call> {
        let mut options = match task {
            Value::String(task) => Map::from_iter([("task".to_owned(), task.into())]),
            Value::Object(options) => options,
            _ => {
                return Err(Error::invalid(
                    "task",
                    "must be a task's name, or an object with `task` and `model`",
                ));
            }
        };
        let Value::Object(mut args) = args else {
            return Err(Error::invalid("args", "must be a JSON object"));
        };
        let task = options.shift_remove("task");
        match (task.as_ref().and_then(Value::as_str), &input) {
            (Some("conversational"), Input::Messages(_)) | (Some("text-generation"), Input::Texts(_)) => (),
            (Some("conversational"), _) => {
                return Err(Error::invalid(
                    "inputs",
                    "must be jsonb[] for the task conversational: an array of messages",
                ));
            }
            (Some("text-generation"), _) => {
                return Err(Error::invalid(
                    "inputs",
                    "must be text[] for the task text-generation: an array of prompts",
                ));
            }
            (Some(other), _) => {
                return Err(Error {
                    param: Some("task".into()),
                    ..Error::new(Kind::Unsupported, format!("task: {other:?} is not supported"))
                }
                .hint("Supported are conversational and text-generation."));
            }
            (None, _) => {
                return Err(Error::invalid("task", "must name the task: conversational or text-generation"));
            }
        }
        if !options.contains_key("model") {
            return Err(Error::invalid("task", "must name the model: {\"task\": …, \"model\": …}"));
        }
        let return_full_text =
            args.shift_remove("return_full_text").is_none_or(|value| value != json!(false));
        let mut body = openai_parameters(args);
        body.insert("model".into(), Value::Object(options));
        let messages = match &input {
            Input::Messages(messages) => messages.clone(),
            // Checked with the rest, and then replaced by the prompt.
            Input::Texts(_) => vec![json!({"role": "user", "content": ""})],
        };
        body.insert("messages".into(), messages.into());
        let request = Request::parse(Value::Object(body)).map_err(|error| Error {
            param: error.param.map(|param| param.replace("messages", "inputs")),
            message: error.message.replace("messages", "inputs"),
            ..error
        })?;
        Ok(Call { request, input, return_full_text })
    }

    fn run(self) -> Result<Value> {
        let n = self.request.n;
        match self.input {
            Input::Messages(_) => {
                let completion = complete(Generation::chat(&self.request)?, n)?;
                Ok(completion.contents().map(Value::from).collect())
            }
            Input::Texts(texts) => texts
                .into_iter()
                .map(|text| {
                    let prompt = if self.return_full_text { text.clone() } else { String::new() };
                    let completion = complete(Generation::text(&self.request, text)?, n)?;
                    Ok(completion
                        .contents()
                        .map(|content| json!({"generated_text": format!("{prompt}{content}")}))
                        .collect::<Value>())
                })
                .collect(),
        }
    }

    fn stream(self) -> Result<Pieces> {
        let n = self.request.n;
        let mut ready = VecDeque::new();
        let (generation, _) = match self.input {
            Input::Messages(_) => Generation::chat(&self.request)?,
            Input::Texts(mut texts) => {
                let text = texts.pop().unwrap_or_default();
                if self.return_full_text {
                    ready.push_back(Value::from_iter([text.clone()]));
                }
                Generation::text(&self.request, text)?
            }
        };
        Ok(Pieces { generation: Some(generation), texts: Texts { n, ready, completion: None } })
    }
}

/// Transformers' words for generation parameters, put into OpenAI's. Others stay as they are.
fn openai_parameters(mut args: Map<String, Value>) -> Map<String, Value> {
    for (theirs, openai) in [
        ("max_new_tokens", "max_tokens"),
        ("num_return_sequences", "n"),
        ("stop_strings", "stop"),
        ("stop_sequence", "stop"),
        ("repetition_penalty", "repeat_penalty"),
    ] {
        if let Some(value) = args.shift_remove(theirs) {
            args.entry(openai).or_insert(value);
        }
    }
    // Without sampling, the likeliest token is taken: what OpenAI says by temperature 0.
    if args.shift_remove("do_sample") == Some(false.into()) {
        args.insert("temperature".into(), 0.into());
    }
    args
}

/// The rows of `transform_stream`: arrays of n strings, what each choice has to add.
struct Pieces {
    generation: Option<Generation>,
    texts: Texts,
}

/// Collects the text of chunks.
struct Texts {
    n: usize,
    ready: VecDeque<Value>,
    /// Tells whether each choice came to its end.
    completion: Option<Completion>,
}

impl Reply for Texts {
    fn chunk(&mut self, index: usize, chunk: &EngineChunk) -> Result<()> {
        let n = self.n;
        let completion = self.completion.get_or_insert_with(|| {
            Completion::new(Head { id: String::new(), created: 0, model: String::new() }, n)
        });
        let before = completion.contents().nth(index).map_or(0, str::len);
        completion.chunk(index, chunk)?;
        let piece = completion.contents().nth(index).unwrap_or_default()[before..].to_owned();
        if !piece.is_empty() {
            let mut row = vec![Value::from(""); n];
            row[index] = piece.into();
            self.ready.push_back(row.into());
        }
        Ok(())
    }

    fn end(&self, index: usize) -> Result<()> {
        match &self.completion {
            Some(completion) => completion.end(index),
            None => Err(Error::new(Kind::ConnectionLost, "the engine ended its stream without an answer")),
        }
    }
}

impl Iterator for Pieces {
    type Item = JsonB;

    fn next(&mut self) -> Option<JsonB> {
        while self.texts.ready.is_empty() {
            match self.generation.as_mut()?.advance(&mut self.texts) {
                Ok(true) => (),
                Ok(false) => self.generation = None,
                Err(error) => report(error),
            }
        }
        self.texts.ready.pop_front().map(JsonB)
    }
}

fn run(task: Value, args: JsonB, input: Input) -> JsonB {
    Call::parse(task, args.0, input).and_then(Call::run).map_or_else(|error| report(error), JsonB)
}

fn stream(task: Value, args: JsonB, input: Input) -> SetOfIterator<'static, JsonB> {
    Call::parse(task, args.0, input)
        .and_then(Call::stream)
        .map_or_else(|error| report(error), SetOfIterator::new)
}

fn messages(inputs: Vec<JsonB>) -> Input {
    Input::Messages(inputs.into_iter().map(|input| input.0).collect())
}

// The overloads. `cache` is accepted and means nothing, as in PostgresML: engines keep models.

#[pg_extern(sql = false)]
fn transform_text_texts(task: &str, args: JsonB, inputs: Vec<String>, _cache: bool) -> JsonB {
    run(task.into(), args, Input::Texts(inputs))
}

#[pg_extern(sql = false)]
fn transform_jsonb_texts(task: JsonB, args: JsonB, inputs: Vec<String>, _cache: bool) -> JsonB {
    run(task.0, args, Input::Texts(inputs))
}

#[pg_extern(sql = false)]
fn transform_text_messages(task: &str, args: JsonB, inputs: Vec<JsonB>, _cache: bool) -> JsonB {
    run(task.into(), args, messages(inputs))
}

#[pg_extern(sql = false)]
fn transform_jsonb_messages(task: JsonB, args: JsonB, inputs: Vec<JsonB>, _cache: bool) -> JsonB {
    run(task.0, args, messages(inputs))
}

#[pg_extern(sql = false)]
fn transform_stream_text_text(
    task: &str,
    args: JsonB,
    input: String,
    _cache: bool,
) -> SetOfIterator<'static, JsonB> {
    stream(task.into(), args, Input::Texts(vec![input]))
}

#[pg_extern(sql = false)]
fn transform_stream_jsonb_text(
    task: JsonB,
    args: JsonB,
    input: String,
    _cache: bool,
) -> SetOfIterator<'static, JsonB> {
    stream(task.0, args, Input::Texts(vec![input]))
}

#[pg_extern(sql = false)]
fn transform_stream_text_messages(
    task: &str,
    args: JsonB,
    inputs: Vec<JsonB>,
    _cache: bool,
) -> SetOfIterator<'static, JsonB> {
    stream(task.into(), args, messages(inputs))
}

#[pg_extern(sql = false)]
fn transform_stream_jsonb_messages(
    task: JsonB,
    args: JsonB,
    inputs: Vec<JsonB>,
    _cache: bool,
) -> SetOfIterator<'static, JsonB> {
    stream(task.0, args, messages(inputs))
}
