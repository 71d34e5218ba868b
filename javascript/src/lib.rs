//! The native part of the npm package `pgml`: requests, and the rows that answer them.
//!
//! `lib/` builds the public interface on it. Rows are handed over as JSON text, which V8 parses
//! faster than objects can be built through Node-API.

mod error;
mod rows;
mod wake;

use std::sync::OnceLock;
use std::time::Duration;

use napi::Either;
use napi_derive::napi;
use pgml::{Client as Core, Options, Request, Streaming};
use tokio::runtime::{Builder, Runtime};

use error::Failure;
use rows::Rows;
use wake::LoopNotifier;

/// Requests to one database.
#[napi]
pub struct Client {
    core: Core,
}

/// How a client keeps its connections. Times are in milliseconds.
#[napi(object, object_to_js = false)]
pub struct Settings {
    pub max_connections: u32,
    pub connect_timeout: f64,
    pub acquire_timeout: f64,
    pub cursor: bool,
}

#[napi]
pub fn connect(database_url: String, settings: Settings) -> Either<Client, Failure> {
    let options = Options {
        max_connections: settings.max_connections as usize,
        connect_timeout: milliseconds(settings.connect_timeout),
        acquire_timeout: milliseconds(settings.acquire_timeout),
        streaming: if settings.cursor { Streaming::Cursor } else { Streaming::Push },
    };
    match Core::new(&database_url, options) {
        Ok(core) => Either::A(Client { core }),
        Err(error) => Either::B(error.into()),
    }
}

#[napi]
impl Client {
    /// Begins a request. `parameters` is a JSON object.
    #[napi]
    pub fn start(
        &self,
        parameters: String,
        timeout: f64,
        max_retries: u32,
        stream: bool,
        notifier: &LoopNotifier,
        id: u32,
    ) -> napi::Result<Either<Rows, Failure>> {
        let request = match Request::from_parameters(&parameters) {
            Ok(request) => Request { timeout: milliseconds(timeout), max_retries, ..request },
            Err(error) => return Ok(Either::B(error.into())),
        };
        let _entered = runtime()?.enter();
        Ok(Either::A(Rows::new(self.core.start(request, stream), notifier.waker(id))))
    }

    /// OpenAI's list of models: those that the current role can call.
    #[napi]
    pub fn models(&self, timeout: f64, notifier: &LoopNotifier, id: u32) -> napi::Result<Rows> {
        let _entered = runtime()?.enter();
        Ok(Rows::new(self.core.models(milliseconds(timeout)), notifier.waker(id)))
    }

    /// Closes idle connections at once, and others when their request ends.
    #[napi]
    pub fn close(&self) {
        self.core.close();
    }

    /// Host and database, never the password.
    #[napi]
    pub fn describe(&self) -> String {
        self.core.describe().to_owned()
    }
}

/// `lib/` has checked the number: it is above 0 and finite.
fn milliseconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value / 1000.0).unwrap_or(Duration::MAX)
}

/// The tokio runtime of the process, which worker threads share. One thread reads all sockets.
fn runtime() -> napi::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("pgml")
        .enable_all()
        .build()
        .map_err(|error| napi::Error::from_reason(format!("pgml cannot start its thread: {error}")))?;
    Ok(RUNTIME.get_or_init(|| made))
}
