"""The exceptions of pgml: one tree, with the names and attributes of the openai package.

    APIError
    ├── APIConnectionError          the database, or the engine behind it, cannot be reached
    │   └── APITimeoutError         something took longer than it may, or was cancelled
    ├── APIStatusError              the database or the engine answered with an error
    │   ├── BadRequestError         400
    │   ├── AuthenticationError     401
    │   ├── PermissionDeniedError   403
    │   ├── NotFoundError           404
    │   ├── ConflictError           409
    │   ├── UnprocessableEntityError 422
    │   ├── RateLimitError          429
    │   └── InternalServerError     500
    ├── LengthFinishReasonError     a completion to be parsed was cut off by its limit of tokens
    └── ContentFilterFinishReasonError  … or by the engine's content filter

Which class an error belongs to follows from its SQLSTATE, by the table at the end of this file.
"""

from __future__ import annotations

from typing import Any


class APIError(Exception):
    """The root of the tree: any error of a completion.

    Attributes:
        message: What went wrong, with the server's DETAIL and HINT where it gave them.
        sqlstate: Postgres's five-character code, or None where no server was asked.
        param: The request parameter at fault, as a path such as ``messages[0].content``, or None.
        code: OpenAI's code for this kind of error, or None where it has none.
        type: OpenAI's word for this class of errors.
        detail: The server's DETAIL, or None.
        hint: What to do about it, or None.
        request_id: The id of the request, which the logs of the database and of the engine have
            too; or None where there was no request.

    """

    type: str = "api_error"

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None = None,
        param: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.message = message
        if detail:
            self.message += f"\nDETAIL:  {detail}"
        if hint:
            self.message += f"\nHINT:  {hint}"
        super().__init__(self.message)
        self._given = (message, sqlstate, param, detail, hint, request_id)
        self.sqlstate = sqlstate
        self.param = param
        self.detail = detail
        self.hint = hint
        self.request_id = request_id
        self.code = _CODES.get(sqlstate or "")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by what the exception was made from, and what it was given since."""
        return _rebuild, (type(self), *self._given), self.__dict__


class APIConnectionError(APIError):
    """The database, or the engine behind it, cannot be reached or was lost."""

    type = "connection_error"


class APITimeoutError(APIConnectionError):
    """Something took longer than it may, or the statement was cancelled."""

    type = "timeout"


class APIStatusError(APIError):
    """The database or the engine answered with an error.

    Attributes:
        status_code: The HTTP status that OpenAI's API has for this kind of error.

    """

    status_code: int = 500


class BadRequestError(APIStatusError):
    """The request says something that it may not; ``param`` names what."""

    status_code = 400
    type = "invalid_request_error"


class AuthenticationError(APIStatusError):
    """The database or the engine does not accept the credentials."""

    status_code = 401
    type = "authentication_error"


class PermissionDeniedError(APIStatusError):
    """The role lacks a right; the message says which, and how it is granted."""

    status_code = 403
    type = "permission_error"


class NotFoundError(APIStatusError):
    """No such model, or no such database, or no extension in it."""

    status_code = 404
    type = "not_found_error"


class ConflictError(APIStatusError):
    """The engine or the database is at something that excludes the request: try again later."""

    status_code = 409
    type = "conflict_error"


class UnprocessableEntityError(APIStatusError):
    """The engine understands the request, and finds a value in it that it may not have."""

    status_code = 422
    type = "invalid_request_error"


class RateLimitError(APIStatusError):
    """The engine or the database has more to do than it can: try again later."""

    status_code = 429
    type = "rate_limit_error"


class InternalServerError(APIStatusError):
    """The database or the engine failed."""

    status_code = 500
    type = "server_error"


class LengthFinishReasonError(APIError):
    """A completion that was to be parsed ended at the limit of tokens, and is not whole.

    Attributes:
        completion: The completion as far as it came, or None.

    """

    completion: Any = None


class ContentFilterFinishReasonError(APIError):
    """A completion that was to be parsed was ended by the engine's content filter.

    Attributes:
        completion: The completion as far as it came, or None.

    """

    completion: Any = None


OpenAIError = APIError
"""The root under the name that the openai package gives it."""

_CODES = {
    "42704": "model_not_found",
    "28000": "invalid_api_key",
    "53000": "rate_limit_exceeded",
}

# SQLSTATEs by their beginning, the longest that fits counting (Postgres's manual, appendix A).
_CLASSES: dict[str, type[APIError]] = {
    "08": APIConnectionError,
    "08000": APITimeoutError,
    "0A": BadRequestError,
    "22": BadRequestError,
    "22000": UnprocessableEntityError,
    "28": AuthenticationError,
    "3D": NotFoundError,
    "3F": NotFoundError,
    "42": BadRequestError,
    "42501": PermissionDeniedError,
    "42704": NotFoundError,
    "42883": NotFoundError,
    "42P01": NotFoundError,
    "53": RateLimitError,
    "54": BadRequestError,
    "55": ConflictError,
    "57014": APITimeoutError,
    "57P0": APIConnectionError,
}

_KINDS: dict[str, type[APIError]] = {
    "connection": APIConnectionError,
    "timeout": APITimeoutError,
    "configuration": APIConnectionError,
}


def from_database(
    kind: str,
    message: str,
    sqlstate: str | None,
    param: str | None,
    detail: str | None,
    hint: str | None,
    request_id: str | None,
) -> APIError:
    """Make the exception for an error of the Rust core. Called by ``src/python/errors.rs``."""
    cls: type[APIError] | None = _KINDS.get(kind)
    if cls is None:
        code = sqlstate or ""
        prefixes = (code[:length] for length in range(len(code), 1, -1))
        cls = next((_CLASSES[p] for p in prefixes if p in _CLASSES), InternalServerError)
    return cls(
        message, sqlstate=sqlstate, param=param, detail=detail, hint=hint, request_id=request_id
    )


def _rebuild(
    cls: type[APIError],
    message: str,
    sqlstate: str | None,
    param: str | None,
    detail: str | None,
    hint: str | None,
    request_id: str | None,
) -> APIError:
    return cls(
        message, sqlstate=sqlstate, param=param, detail=detail, hint=hint, request_id=request_id
    )
