//! The errors that a caller of a chat completion can see.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The SQLSTATEs that pgml uses, by their names in Postgres's manual (appendix A).
pub mod sqlstate {
    pub const CONNECTION_EXCEPTION: &str = "08000";
    pub const SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION: &str = "08001";
    pub const CONNECTION_FAILURE: &str = "08006";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const DATA_EXCEPTION: &str = "22000";
    pub const INVALID_PARAMETER_VALUE: &str = "22023";
    pub const INVALID_AUTHORIZATION_SPECIFICATION: &str = "28000";
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const UNDEFINED_FUNCTION: &str = "42883";
    pub const INSUFFICIENT_RESOURCES: &str = "53000";
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
    pub const SYSTEM_ERROR: &str = "58000";
    pub const INTERNAL_ERROR: &str = "XX000";
}

/// How the lines of an error's DETAIL begin that the client reads.
pub mod detail {
    /// The request parameter at fault.
    pub const PARAMETER: &str = "Parameter: ";
    /// The request's id.
    pub const REQUEST: &str = "Request: ";
    /// The seconds after which an overloaded engine may be asked again.
    pub const RETRY_AFTER: &str = "Retry-After: ";
}

/// What went wrong, as far as a caller can act on it. Each kind is one SQLSTATE, and each SQLSTATE
/// is one exception class in Python (`python/pgml/errors.py` has that table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request says something that no engine should be asked.
    InvalidRequest,
    /// The engine understands the request, and finds a value in it that it may not have.
    Unprocessable,
    /// The request asks for something that this database cannot do.
    Unsupported,
    /// No such model.
    ModelNotFound,
    /// The engine does not accept the credentials that it was shown.
    Authentication,
    /// The engine accepts the credentials, but not this use of them.
    PermissionDenied,
    /// The engine is at something that excludes the request.
    Conflict,
    /// The engine has more to do than it can: try again later.
    Overloaded,
    /// No connection to the engine could be made.
    CannotConnect,
    /// The engine was lost half-way.
    ConnectionLost,
    /// The engine answered something that is not the protocol.
    ProtocolViolation,
    /// The engine took longer than it may.
    Timeout,
    /// The engine failed.
    Engine,
}

impl Kind {
    /// The SQLSTATE of this kind of error.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Kind::InvalidRequest => sqlstate::INVALID_PARAMETER_VALUE,
            Kind::Unprocessable => sqlstate::DATA_EXCEPTION,
            Kind::Unsupported => sqlstate::FEATURE_NOT_SUPPORTED,
            Kind::ModelNotFound => sqlstate::UNDEFINED_OBJECT,
            Kind::Authentication => sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
            Kind::PermissionDenied => sqlstate::INSUFFICIENT_PRIVILEGE,
            Kind::Conflict => sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
            Kind::Overloaded => sqlstate::INSUFFICIENT_RESOURCES,
            Kind::CannotConnect => sqlstate::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
            Kind::ConnectionLost => sqlstate::CONNECTION_FAILURE,
            Kind::ProtocolViolation => sqlstate::PROTOCOL_VIOLATION,
            // Not query_canceled: PL/pgSQL's WHEN OTHERS does not catch that.
            Kind::Timeout => sqlstate::CONNECTION_EXCEPTION,
            Kind::Engine => sqlstate::SYSTEM_ERROR,
        }
    }
}

/// An error with what a caller needs to put it right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// The request parameter at fault, as a path: `messages[1].content`.
    pub param: Option<String>,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The request that failed, once others know it by this id: the caller, or the engine.
    pub request_id: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), param: None, detail: None, hint: None, request_id: None }
    }

    /// A request parameter that is not as it must be. The message names the parameter.
    pub fn invalid(param: impl Into<String>, problem: impl fmt::Display) -> Self {
        let param = param.into();
        Error {
            message: format!("{param}: {problem}"),
            param: Some(param),
            ..Error::new(Kind::InvalidRequest, "")
        }
    }

    /// An engine's event that is not one of the protocol's.
    #[cfg(feature = "engine")]
    pub(crate) fn not_a_chunk(problem: impl fmt::Display) -> Self {
        Error::new(Kind::ProtocolViolation, format!("the engine sent an event that is no chunk: {problem}"))
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn request(self, id: impl Into<String>) -> Self {
        Error { request_id: Some(id.into()), ..self }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
