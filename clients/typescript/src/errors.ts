// What a call can fail with. The tree:
//
// TaskQueueError
// ├── ConnectionError            no answer came, or none that can be read
// │   └── TimeoutError           none came in time
// ├── TaskFailedError            the task ended, but has no result
// └── ApiError                   the service refused
//     ├── InvalidRequestError    400, 413, 415, 422
//     ├── UnauthorizedError      401
//     ├── ForbiddenError         403
//     ├── NotFoundError          404
//     ├── ConflictError          409
//     ├── RateLimitedError       429
//     └── UnavailableError       503
//
// A call that its AbortSignal ended fails with the signal's reason instead, as fetch does.

import type { Task } from './generated/index.js';

/** What every error of this package is. */
export class TaskQueueError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** No answer came: the request may have been carried out or not. */
export class ConnectionError extends TaskQueueError {}

/** No answer came in time, or a task did not end in time. */
export class TimeoutError extends ConnectionError {}

/** A task ended without a result; `task` says how. */
export class TaskFailedError extends TaskQueueError {
  constructor(readonly task: Task) {
    super(`task ${task.id} is ${task.state}${task.error ? `: ${task.error}` : ''}`);
  }
}

/** What the service said about a request that it refused. */
export interface Refusal {
  readonly status: number;
  /** Text of the status, such as `Bad Request`. */
  readonly error: string;
  /** What happened and what to do next. */
  readonly message: string;
  /** Stable name of the kind of problem. */
  readonly type?: string | undefined;
  /** The field that breaks a rule. */
  readonly field?: string | undefined;
  /** Names the request in the service's logs. */
  readonly requestId?: string | undefined;
  /** Seconds after which the service expects that it works. */
  readonly retryAfter?: number | undefined;
  /** The answer itself, empty when it was no JSON object. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** The service answered with an error. */
export class ApiError extends TaskQueueError implements Refusal {
  readonly status: number;
  readonly error: string;
  readonly type: string | undefined;
  readonly field: string | undefined;
  readonly requestId: string | undefined;
  readonly retryAfter: number | undefined;
  readonly body: Readonly<Record<string, unknown>>;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.status = refusal.status;
    this.error = refusal.error;
    this.type = refusal.type;
    this.field = refusal.field;
    this.requestId = refusal.requestId;
    this.retryAfter = refusal.retryAfter;
    this.body = refusal.body;
  }
}

/** The request breaks a rule of the contract (400, 413, 415, 422). */
export class InvalidRequestError extends ApiError {}

/** The key or token is missing, unknown or expired (401). */
export class UnauthorizedError extends ApiError {}

/** The key or token lacks a scope (403). */
export class ForbiddenError extends ApiError {}

/** There is no such task, worker or dead letter (404). */
export class NotFoundError extends ApiError {}

/** The state of the task does not allow this (409). */
export class ConflictError extends ApiError {}

/** The client has used up its requests of this second (429). */
export class RateLimitedError extends ApiError {}

/** The queue is full, or the service is stopping or has no broker (503). */
export class UnavailableError extends ApiError {}

const BY_STATUS: Readonly<Record<number, typeof ApiError>> = {
  400: InvalidRequestError,
  401: UnauthorizedError,
  403: ForbiddenError,
  404: NotFoundError,
  409: ConflictError,
  413: InvalidRequestError,
  415: InvalidRequestError,
  422: InvalidRequestError,
  429: RateLimitedError,
  503: UnavailableError,
};

/** Return the error that an answer is; what a proxy answers may be no problem document. */
export function toApiError(response: Response, body: string): ApiError {
  const problem = parseObject(body);
  const text = (name: string): string | undefined => {
    const value = problem[name];
    return typeof value === 'string' ? value : undefined;
  };
  const refusal: Refusal = {
    status: response.status,
    error: text('error') ?? response.statusText,
    message: text('message') ?? `the service answered with ${response.status}`,
    type: text('type'),
    field: text('field'),
    requestId: text('request_id') ?? response.headers.get('X-Request-ID') ?? undefined,
    retryAfter: parseRetryAfter(response.headers.get('Retry-After')),
    body: problem,
  };
  return new (BY_STATUS[response.status] ?? ApiError)(refusal);
}

function parseObject(body: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(body);
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : {};
  } catch {
    return {};
  }
}

/** Return seconds: the header is a number of them, or, from a proxy, the time they end. */
function parseRetryAfter(header: string | null): number | undefined {
  if (header === null) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}
