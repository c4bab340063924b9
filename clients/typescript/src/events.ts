// Types of events, and who listens to them.

import type { Event, EventType, WebSocketReply } from './generated/index.js';

/** The event of one type, such as `EventOf<'task.completed'>`. */
export type EventOf<T extends EventType> = Extract<Event, { type: T }>;

/** What is called with events; it may return a promise, which is not waited for. */
export type Listener<E> = (event: E) => void | Promise<void>;

/** Hands events to those who listen; one who fails does no harm to the others. */
export class Listeners {
  readonly #byType = new Map<string, Set<Listener<Event>>>();
  readonly #any = new Set<Listener<Event>>();
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Call a listener with every event of one type; returns what ends that. */
  on<T extends EventType>(type: T, listener: Listener<EventOf<T>>): () => void {
    const listeners = this.#byType.get(type) ?? new Set();
    this.#byType.set(type, listeners);
    return add(listeners, listener as Listener<Event>);
  }

  /** Call a listener with every event, also of types that this package does not know. */
  onAny(listener: Listener<Event>): () => void {
    return add(this.#any, listener);
  }

  tell(event: Event): void {
    for (const listener of [...(this.#byType.get(event.type) ?? []), ...this.#any]) {
      void this.#call(listener, event);
    }
  }

  async #call(listener: Listener<Event>, event: Event): Promise<void> {
    try {
      await listener(event);
    } catch (error) {
      this.#onError(error);
    }
  }
}

/** Add a listener; the same one twice is called twice. */
function add(listeners: Set<Listener<Event>>, listener: Listener<Event>): () => void {
  const entry: Listener<Event> = (event) => listener(event);
  listeners.add(entry);
  return () => void listeners.delete(entry);
}

/** A frame of the server. */
export type Frame = Event | WebSocketReply;

/** Return a frame, undefined when it is none. */
export function parseFrame(text: unknown): Frame | undefined {
  try {
    const parsed: unknown = JSON.parse(String(text));
    const isFrame = typeof parsed === 'object' && parsed !== null && 'type' in parsed;
    return isFrame ? (parsed as Frame) : undefined;
  } catch {
    return undefined;
  }
}

/** Tell whether a frame answers one of ours. */
export function isReply(frame: Frame): frame is WebSocketReply {
  return frame.type === 'subscription.updated' || frame.type === 'frame.refused';
}
