//! The class of an error, by the names and HTTP statuses that OpenAI's clients have for them.

use crate::error::{Error, Kind};

/// What a caller catches. Each language names its exceptions after these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Connection,
    Timeout,
    BadRequest,
    Authentication,
    PermissionDenied,
    NotFound,
    Conflict,
    UnprocessableEntity,
    RateLimit,
    InternalServer,
}

impl Class {
    /// The HTTP status that OpenAI's API has for such an error; none where no answer came.
    pub fn status(self) -> Option<u16> {
        match self {
            Class::Connection | Class::Timeout => None,
            Class::BadRequest => Some(400),
            Class::Authentication => Some(401),
            Class::PermissionDenied => Some(403),
            Class::NotFound => Some(404),
            Class::Conflict => Some(409),
            Class::UnprocessableEntity => Some(422),
            Class::RateLimit => Some(429),
            Class::InternalServer => Some(500),
        }
    }
}

/// SQLSTATEs by prefix (PostgreSQL's manual, appendix A). The longest prefix that fits decides.
const CLASSES: [(&str, Class); 17] = [
    ("08", Class::Connection),
    ("0A", Class::BadRequest),
    ("22", Class::BadRequest),
    ("22000", Class::UnprocessableEntity),
    ("28", Class::Authentication),
    ("3D", Class::NotFound),
    ("3F", Class::NotFound),
    ("42", Class::BadRequest),
    ("42501", Class::PermissionDenied),
    ("42704", Class::NotFound),
    ("42883", Class::NotFound),
    ("42P01", Class::NotFound),
    ("53", Class::RateLimit),
    ("54", Class::BadRequest),
    ("55", Class::Conflict),
    ("57014", Class::Timeout),
    ("57P0", Class::Connection),
];

impl Error {
    pub fn class(&self) -> Class {
        match self.kind {
            Kind::Connection | Kind::Configuration => return Class::Connection,
            Kind::Timeout => return Class::Timeout,
            Kind::Database => (),
        }
        let sqlstate = self.sqlstate.as_deref().unwrap_or_default();
        let fitting = CLASSES.iter().filter(|(prefix, _)| sqlstate.starts_with(prefix));
        fitting.max_by_key(|(prefix, _)| prefix.len()).map_or(Class::InternalServer, |(_, class)| *class)
    }

    /// OpenAI's code for this kind of error, where it has one.
    pub fn code(&self) -> Option<&'static str> {
        match self.sqlstate.as_deref()? {
            "42704" => Some("model_not_found"),
            "28000" => Some("invalid_api_key"),
            "53000" => Some("rate_limit_exceeded"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let class = |sqlstate| Error::new(Kind::Database, "").sqlstate(sqlstate).class();
        assert_eq!(class("22023"), Class::BadRequest);
        assert_eq!(class("22000"), Class::UnprocessableEntity);
        assert_eq!(class("42501"), Class::PermissionDenied);
        assert_eq!(class("57P01"), Class::Connection);
        assert_eq!(class("57000"), Class::InternalServer);
        assert_eq!(class("XX000"), Class::InternalServer);
    }

    #[test]
    fn without_a_server_the_kind_decides() {
        assert_eq!(Error::new(Kind::Timeout, "").sqlstate("08006").class(), Class::Timeout);
        assert_eq!(Error::new(Kind::Configuration, "").class(), Class::Connection);
        assert_eq!(Error::new(Kind::Database, "").class(), Class::InternalServer);
    }
}
