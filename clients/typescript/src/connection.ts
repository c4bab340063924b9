// One WebSocket: its handshake, its frames, and whether the other side is still there.

import { ConnectionError, TimeoutError } from './errors.js';
import { type Frame, isReply, parseFrame } from './events.js';
import type { Event, WebSocketReply } from './generated/index.js';
import type { WebSocketFactory } from './socket.js';

/** How a connection is made, in milliseconds. */
export interface ConnectionLimits {
  /** The handshake may take so long, and so may an answer to a frame. */
  readonly timeout: number;
  /** After such a silence the server is asked for a sign of life. */
  readonly silence: number;
}

interface Question {
  readonly resolve: (reply: WebSocketReply) => void;
  readonly reject: (error: Error) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Connection {
  readonly #socket: WebSocket;
  readonly #limits: ConnectionLimits;
  readonly #onEvent: (event: Event) => void;
  /** Asked and not answered yet, in their order: that of the answers. */
  readonly #questions: Question[] = [];
  readonly #end: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Frames that came before whoever waited for the connection could say who listens. */
  #held: Frame[] | undefined = [];
  #isOver = false;
  #hasHeard = false;

  /** Resolves when it is over, whoever ended it. */
  readonly ended: Promise<void>;

  private constructor(
    socket: WebSocket,
    limits: ConnectionLimits,
    onEvent: (event: Event) => void,
  ) {
    this.#socket = socket;
    this.#limits = limits;
    this.#onEvent = onEvent;
    let end = (): void => {};
    this.ended = new Promise((resolve) => (end = resolve));
    this.#end = end;
  }

  /** Return a connection that is open. */
  static async open(
    url: string,
    make: WebSocketFactory,
    limits: ConnectionLimits,
    onEvent: (event: Event) => void,
    signal: AbortSignal,
  ): Promise<Connection> {
    signal.throwIfAborted();
    const connection = new Connection(new make(url), limits, onEvent);
    await connection.#handshake(signal);
    return connection;
  }

  /** Tell whether anything came: a server that takes connections only to end them sends nothing. */
  get hasHeard(): boolean {
    return this.#hasHeard;
  }

  /** Send a frame and return the answer to it. */
  ask(frame: object): Promise<WebSocketReply> {
    if (this.#isOver) return Promise.reject(new ConnectionError('the WebSocket is closed'));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.close(), this.#limits.timeout);
      this.#questions.push({ resolve, reject, timer });
      this.#socket.send(JSON.stringify(frame));
    });
  }

  /** End it now; a server that has gone is not waited for. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    for (const { reject, timer } of this.#questions.splice(0)) {
      clearTimeout(timer);
      reject(new ConnectionError('the WebSocket was closed before the answer came'));
    }
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
    this.#end();
  }

  #handshake(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => fail(signal.reason);
      const fail = (error: unknown): void => {
        signal.removeEventListener('abort', onAbort);
        this.close();
        reject(error);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const late = (): void => fail(new TimeoutError('the WebSocket did not open in time'));
      this.#timer = setTimeout(late, this.#limits.timeout);
      // What went wrong is not told; the end of the connection follows.
      this.#socket.onerror = () => {};
      this.#socket.onclose = () => fail(new ConnectionError('the WebSocket could not be opened'));
      this.#socket.onmessage = (message) => this.#take(message.data);
      this.#socket.onopen = () => {
        signal.removeEventListener('abort', onAbort);
        clearTimeout(this.#timer);
        this.#socket.onclose = () => this.#onClose();
        this.#watch();
        resolve();
        // Those who wait for this promise register their listeners before the next macrotask.
        setTimeout(() => this.#release(), 0);
      };
    });
  }

  #onClose(): void {
    this.#release();
    this.close();
  }

  #take(text: unknown): void {
    this.#hasHeard = true;
    this.#watch();
    const frame = parseFrame(text);
    if (frame === undefined) return;
    if (this.#held) this.#held.push(frame);
    else this.#deliver(frame);
  }

  #release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const frame of held) this.#deliver(frame);
  }

  #deliver(frame: Frame): void {
    if (this.#isOver) return;
    if (!isReply(frame)) {
      this.#onEvent(frame);
      return;
    }
    const question = this.#questions.shift();
    clearTimeout(question?.timer);
    question?.resolve(frame);
  }

  /** Wait for silence: pings are not shown to pages, so a connection that is dead looks idle. */
  #watch(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // No frame of the contract means "are you there?", but whatever is sent is answered.
      this.ask({ action: 'ping', events: [] }).catch(() => {});
    }, this.#limits.silence);
  }
}
