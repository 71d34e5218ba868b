//! The errors that a caller of a chat completion can see.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

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
    /// The SQLSTATE, from Postgres's own list (appendix A of its manual).
    pub fn sqlstate(self) -> &'static str {
        match self {
            Kind::InvalidRequest => "22023",
            Kind::Unprocessable => "22000",
            Kind::Unsupported => "0A000",
            Kind::ModelNotFound => "42704",
            Kind::Authentication => "28000",
            Kind::PermissionDenied => "42501",
            Kind::Conflict => "55000",
            Kind::Overloaded => "53000",
            Kind::CannotConnect => "08001",
            Kind::ConnectionLost => "08006",
            Kind::ProtocolViolation => "08P01",
            Kind::Timeout => "57014",
            Kind::Engine => "58000",
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
