// Sends requests for the generated code: credential, time limit, retries, errors as exceptions.
//
// A request is sent again after 429 and 503, which say that it was not carried out, and after a lost
// connection where it may be carried out twice: reads, and what has an Idempotency-Key.

import { backoff, sleep } from './backoff.js';
import { ConnectionError, RateLimitedError, TimeoutError, UnavailableError, toApiError } from './errors.js';

/** A key or token, or what returns the present one. */
export type Credential = string | (() => string | Promise<string>);

/** How much one call may take. */
export interface Patience {
  /** Milliseconds until it fails, retries included. */
  readonly timeout: number;
  /** How often the request is sent again at most. */
  readonly retries: number;
}

export class Transport {
  readonly #fetch: typeof fetch;
  readonly #credential: Credential | undefined;

  constructor(send: typeof fetch, credential: Credential | undefined) {
    this.#fetch = send;
    this.#credential = credential;
  }

  /** Return the key or token to show now. */
  async credential(): Promise<string | undefined> {
    return typeof this.#credential === 'function' ? await this.#credential() : this.#credential;
  }

  /** Return a `fetch` that sends with this patience, and throws what is no success. */
  fetcher(patience: Patience): typeof fetch {
    return async (input, init) => this.#send(new Request(input, init), patience);
  }

  async #send(request: Request, patience: Patience): Promise<Response> {
    const deadline = Date.now() + patience.timeout;
    for (let attempt = 1; ; attempt += 1) {
      const failure = await this.#attempt(request, deadline - Date.now());
      if (failure instanceof Response) return failure;
      const delay = delayBefore(attempt, failure, request);
      const isLast = attempt > patience.retries || Date.now() + (delay ?? 0) >= deadline;
      if (delay === undefined || isLast) throw failure;
      await sleep(delay, request.signal);
    }
  }

  /** Return an answer that is a success, or the error that there is instead. */
  async #attempt(request: Request, timeout: number): Promise<Response | Error> {
    try {
      const { response, body } = await this.#sendOnce(request, timeout);
      if (!response.ok) return toApiError(response, body);
      const type = response.headers.get('Content-Type') ?? '';
      if (/^(application\/json|text\/plain)\b/.test(type)) return new Response(body, response);
      return new ConnectionError(`the answer is no JSON but ${type || 'of no type'}`);
    } catch (error) {
      if (error instanceof ConnectionError) return error;
      throw error;
    }
  }

  /** Send; the body is read within the time limit too. */
  async #sendOnce(request: Request, timeout: number): Promise<{ response: Response; body: string }> {
    const copy = request.clone();
    const credential = await this.credential();
    if (credential) copy.headers.set('Authorization', `Bearer ${credential}`);
    const ending = new AbortController();
    const late = new TimeoutError(`no answer from ${new URL(request.url).origin} in time`);
    const timer = timeout === Infinity ? undefined : setTimeout(() => ending.abort(late), timeout);
    const onAbort = (): void => ending.abort(request.signal.reason);
    request.signal.addEventListener('abort', onAbort, { once: true });
    try {
      request.signal.throwIfAborted();
      const response = await this.#fetch(copy, { signal: ending.signal });
      return { response, body: await response.text() };
    } catch (error) {
      request.signal.throwIfAborted();
      if (ending.signal.aborted) throw late;
      const origin = new URL(request.url).origin;
      throw new ConnectionError(`no answer from ${origin}: ${reasonOf(error)}`, { cause: error });
    } finally {
      clearTimeout(timer);
      request.signal.removeEventListener('abort', onAbort);
    }
  }
}

/** Return how long to wait before the request is sent again, undefined if it must not be. */
function delayBefore(attempt: number, failure: Error, request: Request): number | undefined {
  if (failure instanceof RateLimitedError || failure instanceof UnavailableError) {
    return Math.max(backoff(attempt), 1000 * (failure.retryAfter ?? 0));
  }
  const isRepeatable = request.method === 'GET' || request.headers.has('Idempotency-Key');
  return failure instanceof ConnectionError && isRepeatable ? backoff(attempt) : undefined;
}

/** Return the innermost message: fetch says `fetch failed` and hides why in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message ? error.cause.message : error.message;
}
