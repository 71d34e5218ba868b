//! Errors, as the properties that `lib/errors.js` makes an `Error` of.

use napi_derive::napi;
use pgml::{Class, Error};

#[napi(object, object_from_js = false)]
pub struct Failure {
    /// The name of the JavaScript class.
    pub class: &'static str,
    pub status: Option<u16>,
    pub code: Option<&'static str>,
    pub message: String,
    pub sqlstate: Option<String>,
    pub param: Option<String>,
    pub detail: Option<String>,
    pub hint: Option<String>,
    #[napi(js_name = "request_id")]
    pub request_id: Option<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let class = error.class();
        Failure {
            class: match class {
                Class::Connection => "APIConnectionError",
                Class::Timeout => "APIConnectionTimeoutError",
                Class::BadRequest => "BadRequestError",
                Class::Authentication => "AuthenticationError",
                Class::PermissionDenied => "PermissionDeniedError",
                Class::NotFound => "NotFoundError",
                Class::Conflict => "ConflictError",
                Class::UnprocessableEntity => "UnprocessableEntityError",
                Class::RateLimit => "RateLimitError",
                Class::InternalServer => "InternalServerError",
            },
            status: class.status(),
            code: error.code(),
            message: error.message,
            sqlstate: error.sqlstate,
            param: error.param,
            detail: error.detail,
            hint: error.hint,
            request_id: error.request_id,
        }
    }
}
