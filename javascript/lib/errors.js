"use strict";

// The errors of the openai package, by its names. Which one an error is, the Rust core decides.

class OpenAIError extends Error {
  get name() {
    return this.constructor.name;
  }
}

class APIError extends OpenAIError {
  constructor(failure) {
    let message = failure.message;
    if (failure.detail) message += `\nDETAIL:  ${failure.detail}`;
    if (failure.hint) message += `\nHINT:  ${failure.hint}`;
    super(message);
    this.status = failure.status;
    this.code = failure.code ?? null;
    this.param = failure.param ?? null;
    this.type = this.constructor.type;
    this.sqlstate = failure.sqlstate ?? null;
    this.detail = failure.detail ?? null;
    this.hint = failure.hint ?? null;
    this.request_id = failure.request_id ?? null;
  }

  get requestID() {
    return this.request_id;
  }

  static type = "api_error";
}

class APIUserAbortError extends APIError {
  constructor() {
    super({ message: "Request was aborted." });
  }
}

class APIConnectionError extends APIError {
  static type = "connection_error";
}

class APIConnectionTimeoutError extends APIConnectionError {
  static type = "timeout";
}

class BadRequestError extends APIError {
  static type = "invalid_request_error";
}

class AuthenticationError extends APIError {
  static type = "authentication_error";
}

class PermissionDeniedError extends APIError {
  static type = "permission_error";
}

class NotFoundError extends APIError {
  static type = "not_found_error";
}

class ConflictError extends APIError {
  static type = "conflict_error";
}

class UnprocessableEntityError extends APIError {
  static type = "invalid_request_error";
}

class RateLimitError extends APIError {
  static type = "rate_limit_error";
}

class InternalServerError extends APIError {
  static type = "server_error";
}

const errors = {
  OpenAIError,
  APIError,
  APIUserAbortError,
  APIConnectionError,
  APIConnectionTimeoutError,
  BadRequestError,
  AuthenticationError,
  PermissionDeniedError,
  NotFoundError,
  ConflictError,
  UnprocessableEntityError,
  RateLimitError,
  InternalServerError,
};

/** The error that the native part reports as a plain object. */
function errorFrom(failure) {
  return new errors[failure.class](failure);
}

module.exports = { errors, errorFrom };
