export interface Message {
  role: string;
  [key: string]: unknown;
}
export type Model = string | { model: string; token?: string; [key: string]: unknown };
export interface Parameters {
  model: Model;
  messages: readonly Message[];
  max_tokens?: number | null;
  temperature?: number | null;
  n?: number | null;
  chat_template?: string | null;
  extra_body?: Record<string, unknown>;
  [name: string]: unknown;
}
export interface RequestOptions {
  /** Ends the generation. */
  signal?: AbortSignal | null;
  /** Milliseconds that the database may be silent; null for no limit. */
  timeout?: number | null;
  maxRetries?: number;
  headers?: Record<string, string>;
}
/** Times are in milliseconds. */
export interface ClientOptions {
  timeout?: number | null;
  maxRetries?: number;
  maxConnections?: number;
  connectTimeout?: number | null;
  acquireTimeout?: number | null;
  streaming?: "push" | "cursor";
}
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: number;
    message: { role: "assistant"; content: string | null; [key: string]: any };
    finish_reason: "stop" | "length" | "tool_calls" | "content_filter" | "function_call";
    logprobs: any;
  }[];
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number; [key: string]: any };
  [key: string]: any;
}
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string | null; [key: string]: any };
    finish_reason: "stop" | "length" | "tool_calls" | "content_filter" | "function_call" | null;
  }[];
  [key: string]: any;
}
export interface ModelList extends AsyncIterable<{ id: string; object: "model"; created: number; owned_by: string }> {
  object: "list";
  data: { id: string; object: "model"; created: number; owned_by: string }[];
}
export class ChatCompletionStream implements IterableIterator<ChatCompletionChunk> {
  private constructor();
  next(): IteratorResult<ChatCompletionChunk, undefined>;
  return(value?: any): IteratorResult<ChatCompletionChunk, any>;
  close(): void;
  [Symbol.iterator](): this;
}
export class AsyncChatCompletionStream implements AsyncIterableIterator<ChatCompletionChunk> {
  private constructor();
  readonly controller: AbortController;
  next(): Promise<IteratorResult<ChatCompletionChunk, undefined>>;
  return(value?: any): Promise<IteratorResult<ChatCompletionChunk, any>>;
  close(): void;
  toReadableStream(): ReadableStream<Uint8Array>;
  [Symbol.asyncIterator](): this;
}
type Arguments =
  | [
      model: Model,
      messages: readonly Message[],
      max_tokens?: number | null,
      temperature?: number | null,
      n?: number | null,
      chat_template?: string | null,
      options?: RequestOptions,
    ]
  | [parameters: Parameters, options?: RequestOptions];
export class OpenSourceAI {
  constructor(options: ClientOptions & { databaseURL?: string });
  constructor(url?: string | null, options?: ClientOptions);
  chat_completions_create(...args: Arguments): ChatCompletion;
  chat_completions_create_async(...args: Arguments): Promise<ChatCompletion>;
  chat_completions_create_stream(...args: Arguments): ChatCompletionStream;
  chat_completions_create_stream_async(...args: Arguments): Promise<AsyncChatCompletionStream>;
  readonly chat: {
    completions: {
      create(body: Parameters & { stream: true }, options?: RequestOptions): Promise<AsyncChatCompletionStream>;
      create(body: Parameters & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion>;
    };
  };
  readonly models: { list(options?: RequestOptions): Promise<ModelList> };
  close(): void;
}
export function newOpenSourceAI(url?: string | null, options?: ClientOptions): OpenSourceAI;
export class OpenAIError extends Error {}
export class APIError extends OpenAIError {
  readonly status: number | undefined;
  readonly code: string | null;
  readonly param: string | null;
  readonly type: string;
  readonly sqlstate: string | null;
  readonly detail: string | null;
  readonly hint: string | null;
  readonly request_id: string | null;
  readonly requestID: string | null;
}
export class APIUserAbortError extends APIError {}
export class APIConnectionError extends APIError {}
export class APIConnectionTimeoutError extends APIConnectionError {}
export class BadRequestError extends APIError {}
export class AuthenticationError extends APIError {}
export class PermissionDeniedError extends APIError {}
export class NotFoundError extends APIError {}
export class ConflictError extends APIError {}
export class UnprocessableEntityError extends APIError {}
export class RateLimitError extends APIError {}
export class InternalServerError extends APIError {}
