// What a client and its calls can be told.

import type { CreateTaskRequest, Priority } from './generated/index.js';
import type { WebSocketFactory } from './socket.js';
import type { StreamOptions } from './stream.js';
import type { Credential } from './transport.js';

/** How a client behaves. */
export interface TaskQueueClientOptions {
  /** API key, or what returns the present one. */
  readonly apiKey?: Credential;
  /** Token (JWT), or what returns one that is valid; in the place of a key. */
  readonly token?: Credential;
  /** Headers that every request has. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Milliseconds a call may take, retries included (30 000). */
  readonly timeout?: number;
  /** How often a request is sent again after a failure that may pass (5). */
  readonly retries?: number;
  /** Sends requests, in the place of the platform's `fetch`. */
  readonly fetch?: typeof fetch;
  /** Makes WebSockets, in the place of the platform's, or of the package `ws`. */
  readonly webSocket?: WebSocketFactory;
  /** Is told what listeners throw, and why an event stream was lost (`console.error`). */
  readonly onError?: (error: unknown) => void;
}

/** How one call behaves. */
export interface CallOptions {
  /** Ends the call, which then fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Milliseconds it may take, retries included. */
  readonly timeout?: number;
  /** How often the request is sent again after a failure that may pass. */
  readonly retries?: number;
}

/** How a task is submitted. */
export interface SubmitOptions extends CallOptions {
  /** Name of this submission, by which another process can repeat it; one is made up otherwise. */
  readonly idempotencyKey?: string;
}

/** How the end of a task is waited for. */
export interface WaitOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds until it is given up (300 000). */
  readonly timeout?: number;
}

/** How events are brought to the listeners of a client. */
export interface ConnectOptions extends StreamOptions {
  /** Is told when the stream has ended: why, or nothing if it was closed by this side. */
  readonly onClose?: (error?: unknown) => void;
}

/** A task to run: that of the contract, with a priority by name and a time as a `Date`, too. */
export type NewTask = Omit<CreateTaskRequest, 'priority' | 'scheduled_at'> & {
  priority?: CreateTaskRequest['priority'] | Priority;
  scheduled_at?: CreateTaskRequest['scheduled_at'] | Date;
};

const NUMBERS: Readonly<Record<Priority, number>> = { low: 0, normal: 1, high: 2, critical: 3 };

/** Return a task as the contract has it. */
export function toRequest(task: NewTask): CreateTaskRequest {
  const { priority, scheduled_at: at, ...rest } = task;
  const request: CreateTaskRequest = rest;
  if (priority !== undefined) {
    request.priority = typeof priority === 'string' ? NUMBERS[priority] : priority;
  }
  if (at !== undefined) request.scheduled_at = at instanceof Date ? at.toISOString() : at;
  return request;
}

/** Return a name that nobody else uses; browsers have `randomUUID` on secure pages only. */
export function newIdempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
