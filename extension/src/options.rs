//! The options of a foreign server and of a user mapping.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use pgml_protocol::{Error, Kind, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::json::text;
use crate::report;

const SERVER_OPTIONS: &str = "base_url, unix_socket, sslrootcert, connect_timeout, read_timeout, \
    keepalive, proxy, api_key_header, api_version, headers, stream_options, default_temperature, \
    max_answer_bytes";
const USER_MAPPING_OPTIONS: &str = "api_key, proxy_user, proxy_password";

/// What `CREATE SERVER … OPTIONS (…)` says of an engine.
pub struct ServerOptions {
    pub base_url: Uri,
    pub unix_socket: Option<String>,
    pub sslrootcert: Option<String>,
    pub connect_timeout: Duration,
    pub read_timeout: Duration,
    /// How long an unused connection is kept. `None`: the default for this kind of address.
    pub keepalive: Option<Duration>,
    pub proxy: Option<Uri>,
    /// The header that carries the key. `None`: `Authorization`, as a bearer token.
    pub api_key_header: Option<HeaderName>,
    /// Azure's parameter `api-version` in the query of every URL.
    pub api_version: Option<String>,
    pub headers: HeaderMap,
    /// Whether the engine takes the parameter `stream_options`.
    pub stream_options: bool,
    pub default_temperature: DefaultTemperature,
    /// How many bytes an answer may have.
    pub max_answer_bytes: u64,
}

/// The temperature of requests that have none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultTemperature {
    /// pgml's own.
    Unset,
    /// None is sent: the engine has one of its own.
    Engine,
    Set(f64),
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            base_url: Uri::default(),
            unix_socket: None,
            sslrootcert: None,
            connect_timeout: Duration::from_secs(10),
            // OpenAI's client waits as long for an answer.
            read_timeout: Duration::from_secs(600),
            keepalive: None,
            proxy: None,
            api_key_header: None,
            api_version: None,
            headers: HeaderMap::new(),
            stream_options: true,
            default_temperature: DefaultTemperature::Unset,
            max_answer_bytes: 256 << 20,
        }
    }
}

impl ServerOptions {
    /// Reads `name=value` texts, as the catalog holds them.
    pub fn parse(options: &[String]) -> Result<ServerOptions> {
        let mut parsed = ServerOptions::default();
        let mut has_base_url = false;
        for option in options {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "base_url" => {
                    parsed.base_url = parse_base_url(value)?;
                    has_base_url = true;
                }
                "unix_socket" => parsed.unix_socket = Some(absolute_path(name, value)?),
                "sslrootcert" => parsed.sslrootcert = Some(absolute_path(name, value)?),
                "connect_timeout" => parsed.connect_timeout = parse_seconds(name, value)?,
                "read_timeout" => parsed.read_timeout = parse_seconds(name, value)?,
                "keepalive" if value == "0" => parsed.keepalive = Some(Duration::ZERO),
                "keepalive" => parsed.keepalive = Some(parse_seconds(name, value)?),
                "proxy" => parsed.proxy = Some(parse_proxy(value)?),
                "api_key_header" => parsed.api_key_header = Some(parse_header_name(name, value)?),
                "api_version" => parsed.api_version = Some(parse_api_version(value)?),
                "headers" => parsed.headers = parse_headers(value)?,
                "stream_options" => parsed.stream_options = parse_bool(name, value)?,
                "default_temperature" => parsed.default_temperature = parse_temperature(value)?,
                "max_answer_bytes" => parsed.max_answer_bytes = parse_bytes(name, value)?,
                name if USER_MAPPING_OPTIONS.split(", ").any(|known| known == name) => {
                    return Err(bad(
                        name,
                        format!("belongs to a user mapping: CREATE USER MAPPING FOR … OPTIONS ({name} '…')"),
                    ));
                }
                _ => return Err(unknown(name, SERVER_OPTIONS)),
            }
        }
        if !has_base_url {
            return Err(bad(
                "base_url",
                "is required: the engine's address, such as http://127.0.0.1:8080/v1",
            ));
        }
        Ok(parsed)
    }
}

fn absolute_path(name: &str, value: &str) -> Result<String> {
    match value.starts_with('/') {
        true => Ok(value.to_owned()),
        false => Err(bad(name, "must be an absolute path")),
    }
}

fn parse_base_url(value: &str) -> Result<Uri> {
    parse_url("base_url", value, &["http", "https"], "http://127.0.0.1:8080/v1")
}

fn parse_proxy(value: &str) -> Result<Uri> {
    let proxy = parse_url("proxy", value, &["http"], "http://proxy.example:3128")?;
    if !matches!(proxy.path(), "" | "/") || proxy.query().is_some() {
        return Err(bad("proxy", "must have no path, as in http://proxy.example:3128"));
    }
    Ok(proxy)
}

fn parse_url(name: &str, value: &str, schemes: &[&str], example: &str) -> Result<Uri> {
    let uri: Uri = value.parse().map_err(|error| bad(name, format!("is not a valid URL: {error}")))?;
    let has_scheme = uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme));
    if !has_scheme || uri.host().unwrap_or_default().is_empty() {
        return Err(bad(name, format!("must be an {} URL, such as {example}", schemes.join(" or "))));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad(
            name,
            format!("must hold no credentials: they belong to a user mapping ({USER_MAPPING_OPTIONS})"),
        ));
    }
    // `http` reads a port that is out of range as no port, and the default would be used instead.
    let names_port =
        uri.authority().is_some_and(|authority| authority.as_str().len() > authority.host().len());
    if names_port && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(bad(name, "must have a port from 1 to 65535"));
    }
    Ok(uri)
}

fn parse_seconds(name: &str, value: &str) -> Result<Duration> {
    match value.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(bad(name, "must be a number of seconds, above 0 and at most 86400")),
    }
}

/// As Postgres reads booleans, by its most used words.
fn parse_bool(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(bad(name, "must be on or off")),
    }
}

fn parse_temperature(value: &str) -> Result<DefaultTemperature> {
    match value.parse::<f64>() {
        _ if value == "none" => Ok(DefaultTemperature::Engine),
        Ok(temperature) if (0.0..=2.0).contains(&temperature) => Ok(DefaultTemperature::Set(temperature)),
        _ => Err(bad("default_temperature", "must be a number from 0 to 2, or none")),
    }
}

/// A number of bytes, with Postgres's units: `64MB`.
fn parse_bytes(name: &str, value: &str) -> Result<u64> {
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match value[digits.len()..].trim() {
        "" | "B" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return Err(bad(name, "must be a number of bytes, such as 67108864 or 64MB")),
    };
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(bad(name, "must be a number of bytes above 0, such as 67108864 or 64MB")),
    }
}

fn parse_api_version(value: &str) -> Result<String> {
    match value {
        "" => Err(bad("api_version", "must not be empty: a date, such as 2024-10-21")),
        value if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) => {
            Ok(value.to_owned())
        }
        _ => Err(bad("api_version", "must be made of letters, digits, '-', '.', '_' and '~'")),
    }
}

/// Headers that the extension sets itself, or that HTTP needs to be right.
const OWN_HEADERS: [&str; 9] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "proxy-authorization",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

fn parse_header_name(option: &str, value: &str) -> Result<HeaderName> {
    let name = HeaderName::from_bytes(value.as_bytes())
        .map_err(|_| bad(option, format!("must be the name of an HTTP header, not {value:?}")))?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(bad(option, format!("must not be {name}, which pgml sets itself")));
    }
    Ok(name)
}

/// A JSON object of strings.
fn parse_headers(value: &str) -> Result<HeaderMap> {
    let shape =
        || bad("headers", r#"must be a JSON object of strings, such as {"X-Title": "my application"}"#);
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(value).map_err(|_| shape())?;
    let mut headers = HeaderMap::new();
    for (name, value) in object {
        let text = value.as_str().ok_or_else(shape)?;
        let value = HeaderValue::from_str(text)
            .map_err(|_| bad("headers", format!("has a value for {name:?} that HTTP does not allow")))?;
        headers.insert(parse_header_name("headers", &name)?, value);
    }
    Ok(headers)
}

fn bad(name: &str, problem: impl std::fmt::Display) -> Error {
    Error::new(Kind::InvalidRequest, format!("option {name} {problem}"))
}

fn unknown(name: &str, known: &str) -> Error {
    bad(&format!("{name:?}"), "is unknown").hint(format!("Valid options here are: {known}."))
}

/// Checks options when a server or a user mapping is made or altered.
///
/// `catalog` says which of the two they are for, as the foreign data wrapper's validator gets it.
#[pg_extern(sql = false)]
fn engine_options(options: Array<&[u8]>, catalog: pg_sys::Oid) {
    // Postgres passes no null, but anybody may call this.
    let options: Result<Vec<String>> =
        options.iter().flatten().map(|option| text(option, "options")).collect();
    let options = options.unwrap_or_else(|error| report(error));
    let result = if catalog == pg_sys::ForeignServerRelationId {
        ServerOptions::parse(&options).map(drop)
    } else {
        let known = if catalog == pg_sys::UserMappingRelationId { USER_MAPPING_OPTIONS } else { "(none)" };
        options.iter().try_for_each(|option| {
            let name = option.split('=').next().unwrap_or_default();
            match known.split(", ").any(|known| known == name) {
                true => Ok(()),
                false => Err(unknown(name, known)),
            }
        })
    };
    result.unwrap_or_else(|error| report(error));
}
