//! PostgresML's `pgml.transform` and `pgml.transform_stream`, on the same engines.
//!
//! Names, defaults and result shapes are those of PostgresML 2.8 to 2.10. `args` may say a thing
//! in transformers' words (`max_new_tokens`) or in OpenAI's (`max_tokens`, as its last SDK does).
//! Of its tasks, the two that generate text are here.

use std::collections::VecDeque;

use pgml_protocol::chunk::EngineChunk;
use pgml_protocol::reply::{Completion, Head, Reply};
use pgml_protocol::resources::Measured;
use pgml_protocol::{Error, Kind, Request, Result};
use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use crate::completions::{complete, new_id};
use crate::generation::Generation;
use crate::json::{Jsonb, text};
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
        let return_full_text = flag(&mut args, "return_full_text")?.unwrap_or(true);
        let sample = flag(&mut args, "do_sample")?.unwrap_or(true);
        let renamed = RENAMED.iter().map(|(theirs, _)| *theirs);
        let theirs: Vec<&str> = renamed.filter(|name| args.contains_key(*name)).collect();
        let mut body = openai_parameters(args, sample);
        body.insert("model".into(), Value::Object(options));
        let messages = match &input {
            Input::Messages(messages) => messages.clone(),
            // Checked with the rest, and then replaced by the prompt.
            Input::Texts(_) => vec![json!({"role": "user", "content": ""})],
        };
        body.insert("messages".into(), messages.into());
        let request = Request::parse(Value::Object(body)).map_err(|error| in_their_words(error, &theirs))?;
        Ok(Call { request, input, return_full_text })
    }

    fn run(self, id: &str) -> Result<Value> {
        match self.input {
            Input::Messages(_) => {
                let completion = complete(Generation::chat(&self.request, id)?, &self.request)?;
                Ok(completion.contents().map(Value::from).collect())
            }
            Input::Texts(texts) => texts
                .into_iter()
                .map(|text| {
                    let prompt = if self.return_full_text { text.clone() } else { String::new() };
                    let completion = complete(Generation::text(&self.request, id, text)?, &self.request)?;
                    Ok(completion
                        .contents()
                        .map(|content| json!({"generated_text": format!("{prompt}{content}")}))
                        .collect::<Value>())
                })
                .collect(),
        }
    }

    fn stream(self, id: &str) -> Result<Pieces> {
        let n = self.request.n;
        let mut ready = VecDeque::new();
        let (generation, _) = match self.input {
            Input::Messages(_) => Generation::chat(&self.request, id)?,
            Input::Texts(mut texts) => {
                let text = texts.pop().unwrap_or_default();
                if self.return_full_text {
                    ready.push_back(vec![text.clone(); n].into());
                }
                Generation::text(&self.request, id, text)?
            }
        };
        Ok(Pieces { generation: Some(generation), texts: Texts { n, ready, completion: None } })
    }
}

/// Transformers' words for generation parameters, and OpenAI's or llama.cpp's for the same.
const RENAMED: [(&str, &str); 5] = [
    ("max_new_tokens", "max_tokens"),
    ("num_return_sequences", "n"),
    ("stop_strings", "stop"),
    ("stop_sequence", "stop"),
    ("repetition_penalty", "repeat_penalty"),
];

fn openai_parameters(mut args: Map<String, Value>, sample: bool) -> Map<String, Value> {
    for (theirs, openai) in RENAMED {
        if let Some(value) = args.shift_remove(theirs) {
            args.entry(openai).or_insert(value);
        }
    }
    // vLLM, SGLang and transformers have the other name.
    if let Some(penalty) = args.get("repeat_penalty").cloned() {
        args.insert("repetition_penalty".into(), penalty);
    }
    // Without sampling, the likeliest token is taken: what OpenAI says by temperature 0.
    if !sample {
        args.insert("temperature".into(), 0.into());
    }
    args
}

/// An error about a parameter, under the name that the caller used for it.
fn in_their_words(error: Error, theirs: &[&str]) -> Error {
    let Some(param) = error.param else { return error };
    let root = param.split(['.', '[']).next().unwrap_or_default();
    let own = match root {
        "messages" => "inputs",
        "model" => "task",
        _ => RENAMED
            .iter()
            .find(|(name, openai)| *openai == root && theirs.contains(name))
            .map_or(root, |(name, _)| *name),
    };
    let renamed = format!("{own}{}", &param[root.len()..]);
    Error { message: error.message.replacen(&param, &renamed, 1), param: Some(renamed), ..error }
}

fn flag(args: &mut Map<String, Value>, name: &str) -> Result<Option<bool>> {
    match args.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(_) => Err(Error::invalid(name, "must be true or false")),
    }
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
        let piece =
            completion.contents().nth(index).unwrap_or_default().get(before..).unwrap_or_default().to_owned();
        if !piece.is_empty() {
            let mut row = vec![Value::from(""); n];
            row[index] = piece.into();
            self.ready.push_back(row.into());
        }
        Ok(())
    }

    fn end(&mut self, index: usize) -> Result<()> {
        match &mut self.completion {
            Some(completion) => completion.end(index),
            None => Err(Error::new(Kind::ConnectionLost, "the engine ended its stream without an answer")),
        }
    }

    fn tokens(&self) -> u64 {
        self.completion.as_ref().map_or(0, Completion::tokens)
    }

    fn measured(&mut self, _: Measured) {
        // PostgresML's results have no usage.
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

/// A call, as far as its arguments can be read.
fn call(task: Result<Value>, args: Jsonb, input: Result<Input>) -> Result<Call> {
    Call::parse(task?, args.read("args")?, input?)
}

fn run(call: Result<Call>) -> JsonB {
    call.and_then(|call| call.run(&new_id())).map_or_else(|error| report(error), JsonB)
}

fn stream(call: Result<Call>) -> SetOfIterator<'static, JsonB> {
    call.and_then(|call| call.stream(&new_id())).map_or_else(|error| report(error), SetOfIterator::new)
}

fn name(task: &[u8]) -> Result<Value> {
    text(task, "task").map(Value::from)
}

fn prompt(input: &[u8]) -> Result<Input> {
    Ok(Input::Texts(vec![text(input, "input")?]))
}

fn messages(inputs: Vec<Option<Jsonb>>) -> Result<Input> {
    let read = |(index, input): (usize, Option<Jsonb>)| match input {
        Some(input) => input.read(&format!("inputs[{index}]")),
        None => Err(Error::invalid(format!("inputs[{index}]"), "must not be null")),
    };
    inputs.into_iter().enumerate().map(read).collect::<Result<_>>().map(Input::Messages)
}

fn texts(inputs: Array<&[u8]>) -> Result<Input> {
    let read = |(index, input): (usize, Option<&[u8]>)| {
        let param = format!("inputs[{index}]");
        text(input.ok_or_else(|| Error::invalid(&param, "must not be null"))?, &param)
    };
    inputs.iter().enumerate().map(read).collect::<Result<_>>().map(Input::Texts)
}

// The overloads. `cache` is accepted and means nothing, as in PostgresML: engines keep models.

#[pg_extern(sql = false)]
fn transform_text_texts(task: &[u8], args: Jsonb, inputs: Array<&[u8]>, _cache: bool) -> JsonB {
    run(call(name(task), args, texts(inputs)))
}

#[pg_extern(sql = false)]
fn transform_jsonb_texts(task: Jsonb, args: Jsonb, inputs: Array<&[u8]>, _cache: bool) -> JsonB {
    run(call(task.read("task"), args, texts(inputs)))
}

#[pg_extern(sql = false)]
fn transform_text_messages(task: &[u8], args: Jsonb, inputs: Vec<Option<Jsonb>>, _cache: bool) -> JsonB {
    run(call(name(task), args, messages(inputs)))
}

#[pg_extern(sql = false)]
fn transform_jsonb_messages(task: Jsonb, args: Jsonb, inputs: Vec<Option<Jsonb>>, _cache: bool) -> JsonB {
    run(call(task.read("task"), args, messages(inputs)))
}

#[pg_extern(sql = false)]
fn transform_stream_text_text(
    task: &[u8],
    args: Jsonb,
    input: &[u8],
    _cache: bool,
) -> SetOfIterator<'static, JsonB> {
    stream(call(name(task), args, prompt(input)))
}

#[pg_extern(sql = false)]
fn transform_stream_jsonb_text(
    task: Jsonb,
    args: Jsonb,
    input: &[u8],
    _cache: bool,
) -> SetOfIterator<'static, JsonB> {
    stream(call(task.read("task"), args, prompt(input)))
}

#[pg_extern(sql = false)]
fn transform_stream_text_messages(
    task: &[u8],
    args: Jsonb,
    inputs: Vec<Option<Jsonb>>,
    _cache: bool,
) -> SetOfIterator<'static, JsonB> {
    stream(call(name(task), args, messages(inputs)))
}

#[pg_extern(sql = false)]
fn transform_stream_jsonb_messages(
    task: Jsonb,
    args: Jsonb,
    inputs: Vec<Option<Jsonb>>,
    _cache: bool,
) -> SetOfIterator<'static, JsonB> {
    stream(call(task.read("task"), args, messages(inputs)))
}
