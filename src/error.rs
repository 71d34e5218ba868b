//! What can go wrong, as a caller sees it.

use std::fmt;

use pgml_protocol::error::{detail, sqlstate};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where an error arose. What it means is in its SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The database, or the engine behind it, refused or failed.
    Database,
    /// The database cannot be reached, or was lost.
    Connection,
    /// Something took longer than it may.
    Timeout,
    /// The caller's own settings cannot be used.
    Configuration,
}

/// An error of a completion. It holds no password, no key and no token.
#[derive(Clone, Debug)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// Postgres's five-character code; `None` where no server was asked.
    pub sqlstate: Option<String>,
    /// The request parameter at fault: `messages[0].content`.
    pub param: Option<String>,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The id of the request, which the database's and the engine's logs have too.
    pub request_id: Option<String>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            sqlstate: None,
            param: None,
            detail: None,
            hint: None,
            request_id: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn sqlstate(mut self, sqlstate: impl Into<String>) -> Error {
        self.sqlstate = Some(sqlstate.into());
        self
    }

    /// Says in the message what the error is about.
    pub(crate) fn context(self, subject: &str) -> Error {
        Error { message: format!("{subject}: {}", self.message), ..self }
    }

    /// Whether the connection must not be used again: it is lost, or its statement still runs.
    pub(crate) fn spoils_connection(&self) -> bool {
        // 57P01 to 57P03: the server shuts down, crashed or cannot connect now.
        self.kind != Kind::Database || self.sqlstate.as_deref().is_some_and(|code| code.starts_with("57P0"))
    }

    /// Whether the same request may succeed a moment later: what OpenAI's clients retry, except
    /// timeouts, since the engine may be at work on the request that took too long.
    pub(crate) fn is_passing(&self) -> bool {
        let code = self.sqlstate.as_deref().unwrap_or_default();
        self.kind != Kind::Configuration
            && self.kind != Kind::Timeout
            && ![sqlstate::PROTOCOL_VIOLATION, sqlstate::CONNECTION_EXCEPTION].contains(&code)
            && ["08", "53", "55", "57P0", "58"].iter().any(|passing| code.starts_with(passing))
    }

    /// The seconds that an overloaded engine asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let mut lines = self.detail.as_deref()?.lines();
        lines.find_map(|line| line.strip_prefix(detail::RETRY_AFTER)?.parse().ok())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast::<sqlx::postgres::PgDatabaseError>() {
                Ok(error) => from_postgres(&error),
                Err(error) => Error::new(Kind::Database, error.to_string()),
            },
            sqlx::Error::Io(error) => {
                Error::new(Kind::Connection, format!("the connection to the database was lost: {error}"))
                    .sqlstate(sqlstate::CONNECTION_FAILURE)
            }
            sqlx::Error::Tls(error) => {
                Error::new(Kind::Connection, format!("TLS to the database failed: {error}"))
                    .sqlstate(sqlstate::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
            }
            sqlx::Error::Configuration(error) => {
                Error::new(Kind::Configuration, format!("the database URL cannot be used: {error}"))
            }
            other => Error::new(Kind::Connection, format!("the connection to the database failed: {other}"))
                .sqlstate(sqlstate::PROTOCOL_VIOLATION),
        }
    }
}

/// The client names its prepared statements rightly, so somebody between must have mixed them up.
const MIXED_UP: &str = "Is there a pooler in transaction mode? It has to keep prepared statements apart: \
    PgBouncer 1.21 or newer does, with max_prepared_statements above 0. Session mode always works.";

fn from_postgres(error: &sqlx::postgres::PgDatabaseError) -> Error {
    // The extension's detail names the parameter at fault, and the request, each in a line of its own.
    let mut param = None;
    let mut rest = Vec::new();
    for line in error.detail().into_iter().flat_map(str::lines) {
        match (line.strip_prefix(detail::PARAMETER), line.strip_prefix(detail::REQUEST)) {
            (Some(name), _) => param = Some(name.to_owned()),
            // We know its id already.
            (_, Some(_)) => (),
            _ => rest.push(line),
        }
    }
    Error {
        kind: Kind::Database,
        message: error.message().to_owned(),
        sqlstate: Some(error.code().to_owned()),
        param,
        detail: (!rest.is_empty()).then(|| rest.join("\n")),
        hint: match (error.hint(), error.code()) {
            (None, "42P05" | "26000") => Some(MIXED_UP.into()),
            (hint, _) => hint.map(str::to_owned),
        },
        request_id: None,
    }
}

impl From<pgml_protocol::Error> for Error {
    fn from(error: pgml_protocol::Error) -> Error {
        Error {
            kind: Kind::Database,
            sqlstate: Some(error.kind.sqlstate().to_owned()),
            message: error.message,
            param: error.param,
            detail: error.detail,
            hint: error.hint,
            request_id: None,
        }
    }
}
