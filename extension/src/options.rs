//! The options of a foreign server and of a user mapping.

use std::time::Duration;

use http::Uri;
use pgml_protocol::{Error, Kind, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::json::text;
use crate::report;

const SERVER_OPTIONS: &str = "base_url, unix_socket, sslrootcert, connect_timeout, read_timeout";

/// What `CREATE SERVER … OPTIONS (…)` says of an engine.
pub struct ServerOptions {
    pub base_url: Uri,
    pub unix_socket: Option<String>,
    pub sslrootcert: Option<String>,
    pub connect_timeout: Duration,
    pub read_timeout: Duration,
}

impl ServerOptions {
    /// Reads `name=value` texts, as the catalog holds them.
    pub fn parse(options: &[String]) -> Result<ServerOptions> {
        let mut base_url = None;
        let mut unix_socket = None;
        let mut sslrootcert = None;
        let mut connect_timeout = Duration::from_secs(10);
        // OpenAI's client waits as long for an answer.
        let mut read_timeout = Duration::from_secs(600);
        for option in options {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "base_url" => base_url = Some(parse_base_url(value)?),
                "unix_socket" if value.starts_with('/') => unix_socket = Some(value.to_owned()),
                "unix_socket" => return Err(bad("unix_socket", "must be an absolute path")),
                "sslrootcert" if value.starts_with('/') => sslrootcert = Some(value.to_owned()),
                "sslrootcert" => return Err(bad("sslrootcert", "must be an absolute path of a PEM file")),
                "connect_timeout" => connect_timeout = parse_seconds(name, value)?,
                "read_timeout" => read_timeout = parse_seconds(name, value)?,
                "api_key" => {
                    return Err(bad(
                        "api_key",
                        "belongs to a user mapping: CREATE USER MAPPING FOR … OPTIONS (api_key '…')",
                    ));
                }
                _ => return Err(unknown(name, SERVER_OPTIONS)),
            }
        }
        let Some(base_url) = base_url else {
            return Err(bad(
                "base_url",
                "is required: the engine's address, such as http://127.0.0.1:8080/v1",
            ));
        };
        Ok(ServerOptions { base_url, unix_socket, sslrootcert, connect_timeout, read_timeout })
    }
}

fn parse_base_url(value: &str) -> Result<Uri> {
    let uri: Uri = value.parse().map_err(|error| bad("base_url", format!("is no URL: {error}")))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().unwrap_or_default().is_empty() {
        return Err(bad("base_url", "must be an http or https URL, such as http://127.0.0.1:8080/v1"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad("base_url", "must hold no credentials: they belong to a user mapping, as api_key"));
    }
    // `http` reads a port that is none as no port, and the default would be used in its place.
    let names_port =
        uri.authority().is_some_and(|authority| authority.as_str().len() > authority.host().len());
    if names_port && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(bad("base_url", "must have a port from 1 to 65535"));
    }
    if uri.query().is_some() {
        return Err(bad("base_url", "must have no query"));
    }
    Ok(uri)
}

fn parse_seconds(name: &str, value: &str) -> Result<Duration> {
    match value.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(bad(name, "must be a number of seconds, above 0 and at most 86400")),
    }
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
        let known = if catalog == pg_sys::UserMappingRelationId { "api_key" } else { "(none)" };
        options.iter().try_for_each(|option| match option.split_once('=') {
            Some(("api_key", _)) if known == "api_key" => Ok(()),
            _ => Err(unknown(option.split('=').next().unwrap_or_default(), known)),
        })
    };
    result.unwrap_or_else(|error| report(error));
}
