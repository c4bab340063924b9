// The event stream as one thing, over as many connections as it takes.
//
// It knows the place of the last event that was handed on. Every connection begins there, so that no
// event is missed and none comes twice; where some cannot be had any more, `events.gap` says so.

import { backoff, sleep } from './backoff.js';
import { Connection, type ConnectionLimits } from './connection.js';
import { ApiError, ConnectionError, TaskQueueError } from './errors.js';
import type { Event, EventType } from './generated/index.js';
import type { WebSocketFactory } from './socket.js';

/** Which events somebody follows, and how. */
export interface StreamOptions<T extends EventType = EventType> {
  /** Only events of these types, and gaps. */
  readonly events?: readonly T[];
  /** Only events of this task, and gaps. */
  readonly taskId?: string;
  /** Id of the last event that is known, or a `next_cursor`; without it from now on. */
  readonly since?: string;
  /** Whether a lost connection is made again (true). */
  readonly reconnect?: boolean;
  /** Milliseconds before the first attempt to do so (250); the wait doubles up to 5 seconds. */
  readonly reconnectInterval?: number;
  /** Attempts in a row after which it is given up (never). */
  readonly maxReconnectAttempts?: number;
  /** Milliseconds of silence after which the server is asked for a sign of life (30 000). */
  readonly silence?: number;
  /** Ends it. */
  readonly signal?: AbortSignal;
}

/** Where a stream comes from. */
export interface StreamSource {
  /** Return what makes a WebSocket, and the address with its credential. */
  address(query: URLSearchParams): Promise<{ readonly make: WebSocketFactory; readonly url: string }>;
  /** Return the place behind an event, or behind `latest`; fails where the handshake would. */
  look(place: string): Promise<string>;
  readonly timeout: number;
}

/** Attempts to connect for the first time, after which whoever waits is told. */
const FIRST_ATTEMPTS = 5;

export class EventStream {
  readonly #source: StreamSource;
  readonly #options: StreamOptions;
  readonly #onEvent: (event: Event) => void;
  readonly #ending = new AbortController();
  #place: string | undefined;
  #types: readonly EventType[] | undefined;
  #connection: Connection | undefined;
  /** Resolves when a stream that pauses may go on. */
  #pause: { readonly over: Promise<void>; readonly resume: () => void } | undefined;
  /** Whether the connection is ended by this side, to make another one. */
  #isComingBack = false;
  #hasOpened = false;

  /** Resolves when it is connected for the first time. */
  readonly opened: Promise<void>;
  /** Resolves when it was closed; fails when it was lost for good. */
  readonly done: Promise<void>;

  constructor(source: StreamSource, options: StreamOptions, onEvent: (event: Event) => void) {
    this.#source = source;
    this.#options = options;
    this.#onEvent = onEvent;
    this.#place = options.since;
    this.#types = options.events;
    const { signal } = options;
    const onAbort = (): void => this.#ending.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    this.#ending.signal.addEventListener('abort', () => this.#end());
    let isOpen = (): void => {};
    const opening = new Promise<void>((resolve) => (isOpen = resolve));
    const running = this.#run(isOpen).finally(() => signal?.removeEventListener('abort', onAbort));
    this.opened = Promise.race([opening, running]);
    this.done = running.catch((error: unknown) => {
      if (!this.#ending.signal.aborted) throw error;
    });
    // Whoever does not look at one of them looks at the other.
    this.opened.catch(() => {});
    this.done.catch(() => {});
  }

  get isConnected(): boolean {
    return this.#connection !== undefined;
  }

  /** Tell whether it was connected at least once. */
  get hasOpened(): boolean {
    return this.#hasOpened;
  }

  /** Take these types too; returns all that are taken now. */
  subscribe(events: readonly EventType[]): Promise<readonly EventType[]> {
    return this.#change('subscribe', events);
  }

  /** Take these types no more; returns all that are taken now. */
  unsubscribe(events: readonly EventType[]): Promise<readonly EventType[]> {
    return this.#change('unsubscribe', events);
  }

  /** Get no events until `resume`; they wait at the server. */
  pause(): void {
    if (this.#pause) return;
    let resume = (): void => {};
    const over = new Promise<void>((resolve) => (resume = resolve));
    this.#pause = { over, resume };
    this.#comeBack();
  }

  resume(): void {
    this.#pause?.resume();
    this.#pause = undefined;
  }

  close(): void {
    this.#ending.abort(new TaskQueueError('the event stream was closed'));
  }

  #end(): void {
    this.resume();
    this.#connection?.close();
  }

  async #run(isOpen: () => void): Promise<never> {
    const { signal } = this.#ending;
    for (let failures = 0; ; ) {
      const before = this.#place;
      let failure: unknown = new ConnectionError('the event stream was cut off');
      try {
        const connection = await this.#connect();
        this.#hasOpened = true;
        isOpen();
        await connection.ended;
        if (connection.hasHeard) failures = 0;
      } catch (error) {
        if (!isTransient(error)) throw error;
        failure = error;
      } finally {
        this.#connection = undefined;
      }
      signal.throwIfAborted();
      await this.#pause?.over;
      const isComingBack = this.#isComingBack;
      this.#isComingBack = false;
      if (isComingBack && this.#place !== before) continue;
      failures += 1;
      if (failures > this.#attempts()) throw failure;
      await sleep(backoff(failures, this.#options.reconnectInterval), signal);
    }
  }

  #attempts(): number {
    if (this.#options.reconnect === false) return 0;
    const most = this.#options.maxReconnectAttempts ?? Infinity;
    return this.#hasOpened ? most : Math.min(most, FIRST_ATTEMPTS);
  }

  async #connect(): Promise<Connection> {
    const { signal } = this.#ending;
    signal.throwIfAborted();
    // Without a place the events between a first connection and a second one would be lost.
    const place = (this.#place ??= await this.#source.look('latest'));
    const { make, url } = await this.#source.address(this.#query(place));
    const limits: ConnectionLimits = {
      timeout: this.#source.timeout,
      silence: this.#options.silence ?? 30_000,
    };
    const take = (event: Event): void => this.#take(event);
    try {
      this.#connection = await Connection.open(url, make, limits, take, signal);
    } catch (error) {
      // A WebSocket does not say why it was refused; this does, if there is a reason that stays.
      if (!signal.aborted) await this.#source.look(place);
      throw error;
    }
    if (signal.aborted) this.#connection.close();
    return this.#connection;
  }

  #query(place: string): URLSearchParams {
    const query = new URLSearchParams({ since: place });
    if (this.#options.taskId !== undefined) query.set('task_id', this.#options.taskId);
    // No type at all cannot be asked for; gaps come in any case.
    if (this.#types) query.set('events', this.#types.join(',') || 'events.gap');
    return query;
  }

  #take(event: Event): void {
    if (event.type === 'events.gap' && event.data.reason === 'slow') {
      // What is missing is still there, behind the place: nothing is lost, so nobody need be told.
      this.#comeBack();
      return;
    }
    if ('id' in event) this.#place = event.id;
    this.#onEvent(event);
  }

  #comeBack(): void {
    this.#isComingBack = true;
    this.#connection?.close();
  }

  async #change(
    action: 'subscribe' | 'unsubscribe',
    events: readonly EventType[],
  ): Promise<readonly EventType[]> {
    if (!this.#connection) throw new ConnectionError('the WebSocket is not connected');
    const reply = await this.#connection.ask({ action, events });
    if (reply.type === 'frame.refused') throw new TaskQueueError(reply.data.message);
    this.#types = reply.data.events;
    return this.#types;
  }
}

function isTransient(error: unknown): boolean {
  if (error instanceof ApiError) return error.status === 429 || error.status >= 500;
  return error instanceof ConnectionError;
}
