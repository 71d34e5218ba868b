import pgml from "./index.js";

export default pgml.OpenSourceAI;
export const {
  newOpenSourceAI,
  OpenSourceAI,
  ChatCompletionStream,
  AsyncChatCompletionStream,
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
} = pgml;
