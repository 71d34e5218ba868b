//! Which engine serves a model: a foreign server, and a row of `pgml.models` that leads to it.

use std::cell::OnceCell;
use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use pgml_protocol::exchange::{Exchange, RequestBody};
use pgml_protocol::headers::Headers;
use pgml_protocol::{Error, Kind, Request, Result};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::OwnedPreparedStatement;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};

use crate::options::ServerOptions;
use crate::shim;

static DEFAULT_SERVER: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Longer than a conversation pauses between two answers, shorter than most servers keep one.
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(60);

/// As many names as callable_models.sql puts into a hint.
const NAMED_MODELS: i64 = 10;

/// Defines `pgml.default_server`. Only a superuser may set it: it decides where requests go.
pub fn define_settings() {
    GucRegistry::define_string_guc(
        c"pgml.default_server",
        c"The foreign server for models that pgml.models does not name.",
        c"Such a model goes to this server under its own name. Empty: it is an error.",
        &DEFAULT_SERVER,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// An engine, as its foreign server and the caller's user mapping describe it, for one request.
pub struct Engine {
    pub request_id: CString,
    server: String,
    /// The name that the engine knows the model by.
    pub model: String,
    pub options: ServerOptions,
    /// The request's own headers: its trace context.
    request_headers: Headers,
    api_key: Option<String>,
    /// The value of `Proxy-Authorization`.
    pub proxy_authorization: Option<String>,
    /// Changes with everything that a connection depends on.
    connection_key: u64,
}

impl Engine {
    /// Finds the engine for a request, and checks that the current role may use it.
    pub fn find(request: &Request, request_id: &str) -> Result<Engine> {
        crate::check_encoding()?;
        let default =
            DEFAULT_SERVER.get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(route) = route(&request.model, request.revision(), &default) else {
            return Err(unknown_model(&request.model));
        };
        let Some(oid) = route.server_oid else {
            return Err(Error::new(
                Kind::ModelNotFound,
                format!("the server {:?} of model {:?} does not exist", route.server, request.model),
            )
            .hint("An administrator makes it: CREATE SERVER … FOREIGN DATA WRAPPER pgml OPTIONS (base_url '…')."));
        };
        if !route.may_use {
            return Err(Error::new(
                Kind::PermissionDenied,
                format!("permission denied for foreign server {}", route.server),
            )
            .hint(format!(
                "An administrator grants it: GRANT USAGE ON FOREIGN SERVER {} TO {};",
                quoted(&route.server),
                quoted(&current_user()),
            )));
        }
        let options = ServerOptions::parse(&route.options).map_err(|error| Error {
            message: format!("server {:?}: {}", route.server, error.message),
            ..error
        })?;
        // SAFETY: only reads the role that the backend runs as.
        let role = unsafe { pg_sys::GetUserId() };
        let mapping = shim::user_mapping(role, oid);
        let mapped = |name: &str| mapping.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let api_key = mapped("api_key").filter(|key| !key.is_empty()).cloned();
        let proxy_authorization = mapped("proxy_user").map(|user| {
            let password = mapped("proxy_password").map_or("", String::as_str);
            format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
        });
        let mut hasher = DefaultHasher::new();
        (oid.to_u32(), &route.options, &mapping).hash(&mut hasher);
        Ok(Engine {
            // It has been checked, and holds no NUL.
            request_id: CString::new(request_id).unwrap_or_default(),
            server: route.server,
            model: route.engine_model,
            options,
            request_headers: request.headers.clone(),
            api_key,
            proxy_authorization,
            connection_key: hasher.finish(),
        })
    }

    /// The URI of a path below `base_url`, with that URL's query.
    pub fn endpoint(&self, path: &str) -> Result<Uri> {
        self.at(&format!("{}{path}", self.options.base_url.path().trim_end_matches('/')))
    }

    /// The URI of a path at the root of the engine's host.
    pub fn at(&self, path: &str) -> Result<Uri> {
        let api_version = self.options.api_version.as_ref().map(|version| format!("api-version={version}"));
        let query: Vec<&str> =
            self.options.base_url.query().into_iter().chain(api_version.as_deref()).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let mut parts = self.options.base_url.clone().into_parts();
        parts.path_and_query = format!("{path}{query}").parse().ok();
        Uri::from_parts(parts).map_err(|error| self.cannot_connect(&error))
    }

    /// The headers of a request to this engine.
    pub fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.request_headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        // The administrator's come second: they replace a caller's.
        headers.extend(self.options.headers.clone());
        if let Ok(id) = HeaderValue::from_bytes(self.request_id.as_bytes()) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        if let Some(key) = &self.api_key {
            let (name, value) = match &self.options.api_key_header {
                Some(name) => (name.clone(), key.clone()),
                None => (header::AUTHORIZATION, format!("Bearer {key}")),
            };
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                Error::new(
                    Kind::Authentication,
                    format!("the api_key for {} holds characters that HTTP does not allow", self.label()),
                )
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if let (Some(authorization), true) = (&self.proxy_authorization, self.forwards_requests())
            && let Ok(value) = HeaderValue::from_str(authorization)
        {
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
        if self.keepalive().is_zero() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(headers)
    }

    /// An exchange of this engine's: with its headers, its limit, and in the form that a proxy wants.
    pub fn post(&self, path: &Uri, body: RequestBody) -> Result<Exchange> {
        let exchange = Exchange::post(path, &self.headers()?, body);
        self.prepared(exchange.map_err(|error| self.attribute_and_redact(error))?)
    }

    /// A request for a small JSON document.
    pub fn get(&self, path: &Uri) -> Result<Exchange> {
        let exchange = Exchange::get(path, &self.headers()?);
        self.prepared(exchange.map_err(|error| self.attribute_and_redact(error))?)
    }

    fn prepared(&self, exchange: Exchange) -> Result<Exchange> {
        let exchange = exchange.limited(self.options.max_answer_bytes);
        Ok(if self.forwards_requests() { exchange.absolute_form(&self.options.base_url) } else { exchange })
    }

    /// Whether requests go to a proxy that sends them on: without TLS there is no tunnel.
    fn forwards_requests(&self) -> bool {
        self.options.proxy.is_some() && !self.is_https()
    }

    /// How long an unused connection to this engine is kept.
    ///
    /// A new connection costs a round trip, and TLS one or two more. On this machine it costs less
    /// than a tenth of a millisecond, and an engine may have a thread for each (llama.cpp's server).
    pub fn keepalive(&self) -> Duration {
        self.options.keepalive.unwrap_or(if self.is_https() { DEFAULT_KEEPALIVE } else { Duration::ZERO })
    }

    /// What a connection to this engine depends on: the server, and the two that tell whether it
    /// has changed.
    pub fn connection_key(&self) -> u64 {
        self.connection_key
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn host(&self) -> &str {
        self.options.base_url.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    pub fn port(&self) -> u16 {
        let default = if self.is_https() { 443 } else { 80 };
        self.options.base_url.port_u16().unwrap_or(default)
    }

    pub fn is_https(&self) -> bool {
        self.options.base_url.scheme_str() == Some("https")
    }

    /// How messages call this engine. The address stays out of them: it is the administrator's.
    pub fn label(&self) -> String {
        format!("engine {:?}", self.server)
    }

    /// What the model of this engine is called in a backend's memory of it.
    pub fn model_key(&self) -> String {
        format!("{} {}", self.connection_key, self.model)
    }

    pub fn cannot_connect(&self, problem: &dyn Display) -> Error {
        Error::new(Kind::CannotConnect, format!("cannot connect to {}: {problem}", self.label()))
            .hint("Is the engine running, and does the server's base_url name it?")
    }

    /// The connect_timeout is over.
    pub fn did_not_answer(&self, problem: &str) -> Error {
        Error::new(
            Kind::CannotConnect,
            format!("{} did not answer within {:?}: {problem}", self.label(), self.options.connect_timeout),
        )
        .hint("The server's option connect_timeout sets this limit.")
    }

    /// Says which engine an error came from, and removes the key from it.
    pub fn attribute_and_redact(&self, mut error: Error) -> Error {
        if !error.message.contains(&self.label()) {
            error.message = error.message.replacen("the engine", &self.label(), 1);
        }
        if let Some(key) = &self.api_key {
            error.message = error.message.replace(key, "***");
            error.detail = error.detail.map(|detail| detail.replace(key, "***"));
        }
        error
    }
}

struct Route {
    server: String,
    engine_model: String,
    server_oid: Option<pg_sys::Oid>,
    options: Vec<String>,
    may_use: bool,
}

fn route(model: &str, revision: Option<&str>, default: &str) -> Option<Route> {
    thread_local! {
        // Parsed once in a backend's life; Postgres plans it again when the tables change.
        static PLAN: OnceCell<OwnedPreparedStatement> = const { OnceCell::new() };
    }
    let text = PgBuiltInOids::TEXTOID.oid();
    Spi::connect(|client| {
        PLAN.with(|plan| {
            let plan = plan.get_or_init(|| {
                client
                    .prepare(include_str!("../sql/route.sql"), &[text, text, text])
                    .unwrap_or_else(|error| pgrx::error!("{error}"))
                    .keep()
            });
            let arguments: [DatumWithOid; 3] = [model.into(), revision.into(), default.into()];
            let rows =
                client.select(plan, Some(1), &arguments).unwrap_or_else(|error| pgrx::error!("{error}"));
            let row = rows.into_iter().next()?;
            Some(Route {
                server: row.get(1).ok()??,
                engine_model: row.get(2).ok()??,
                server_oid: row.get(3).ok()?,
                options: row.get(4).ok()?.unwrap_or_default(),
                may_use: row.get(5).ok()??,
            })
        })
    })
}

fn unknown_model(model: &str) -> Error {
    let names = callable_models();
    let error = Error {
        param: Some("model".into()),
        ..Error::new(Kind::ModelNotFound, format!("model {model:?} does not exist"))
    };
    error.hint(match names {
        Some((names, 0)) => format!("The models that you can call are {names}."),
        Some((names, more)) => {
            format!("The models that you can call are {names} and {more} more: see the view pgml.callable_models.")
        }
        None => "There is no model that you can call: an administrator adds rows to pgml.models, or sets pgml.default_server.".into(),
    })
}

/// The first names of those that the current role can call, and the number of the others.
fn callable_models() -> Option<(String, i64)> {
    // `Spi::get_one` would run it as a statement that writes: refused on a hot standby and in a
    // parallel plan.
    Spi::connect(|client| {
        let rows = client.select(include_str!("../sql/callable_models.sql"), Some(1), &[]).ok()?;
        let row = rows.first();
        let (names, count): (Option<String>, Option<i64>) = row.get_two().ok()?;
        Some((names?, (count? - NAMED_MODELS).max(0)))
    })
}

fn current_user() -> String {
    // SAFETY: reads the role that the backend runs as; the name is a C string of Postgres's.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetUserId(), true);
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

fn quoted(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}
