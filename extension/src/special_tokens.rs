//! The special tokens of an engine's model, which chat templates use.
//!
//! llama.cpp's server tells them. They are asked for once in a backend's life, for each engine and
//! model: a model does not change its tokens.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use pgml_protocol::Result;
use pgml_protocol::exchange::Exchange;
use pgml_protocol::template::{self, SpecialTokens};
use serde_json::Value;

use crate::connection::Connection;
use crate::engine::Engine;
use crate::shim::WaitSet;

thread_local! {
    static TOKENS: RefCell<HashMap<String, SpecialTokens>> = RefCell::default();
    static ADDS_BOS: RefCell<HashMap<String, bool>> = RefCell::default();
}

/// The tokens that a template uses (from `/props`). An engine that does not tell has none.
pub fn needed_by(template: &str, engine: &Engine) -> Result<SpecialTokens> {
    if !template::needs_special_tokens(template) {
        return Ok(SpecialTokens::default());
    }
    let key = engine.model_key();
    if let Some(known) = TOKENS.with_borrow(|tokens| tokens.get(&key).cloned()) {
        return Ok(known);
    }
    let Some(properties) = ask(engine, engine.get(&engine.at("/props")?)?)? else {
        return Ok(SpecialTokens::default());
    };
    let token = |name: &str| properties.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let tokens = SpecialTokens { bos_token: token("bos_token"), eos_token: token("eos_token") };
    TOKENS.with_borrow_mut(|known| known.insert(key, tokens.clone()));
    Ok(tokens)
}

/// Whether the engine itself puts the beginning-of-text token before a text (`/tokenize` tells):
/// the template's own would then be a second one.
pub fn engine_adds_bos(engine: &Engine) -> Result<bool> {
    let key = engine.model_key();
    if let Some(known) = ADDS_BOS.with_borrow(|known| known.get(&key).copied()) {
        return Ok(known);
    }
    let empty = br#"{"content": "", "add_special": true}"#;
    let exchange = engine.post(&engine.at("/tokenize")?, empty.as_slice().into())?;
    let Some(answer) = ask(engine, exchange)? else { return Ok(false) };
    let adds = answer.get("tokens").and_then(Value::as_array).is_some_and(|tokens| !tokens.is_empty());
    ADDS_BOS.with_borrow_mut(|known| known.insert(key, adds));
    Ok(adds)
}

/// Asks the engine for a small JSON document. `None` where it has none.
fn ask(engine: &Engine, exchange: Exchange) -> Result<Option<Value>> {
    let mut connection = Connection::open(engine, exchange)?;
    let deadline = Instant::now() + engine.options.connect_timeout;
    let wait = WaitSet::new(&[connection.socket()]);
    let mut buffer = vec![0; 64 << 10];
    loop {
        connection.send(engine)?;
        let received = connection.receive(engine, &mut buffer);
        if let Some(document) = connection.exchange.document()? {
            return Ok(Some(document));
        }
        match received {
            Ok(true) if !connection.exchange.is_ended() => continue,
            Ok(false) => (),
            _ => return Ok(None),
        }
        wait.set_writable(0, connection.has_to_send());
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait.wait(left, &engine.request_id) {
            // Without them the prompt would be another, and nobody would know.
            return Err(engine.did_not_answer("the chat template needs the model's special tokens"));
        }
    }
}
