// Events for `for await`, as fast as the loop takes them.

import type { Event } from './generated/index.js';
import type { EventStream } from './stream.js';

/** Events that may wait in memory for the loop; the others wait at the server. */
const MOST_WAITING = 1_000;

/** Yield the events of a stream of its own, which ends with the loop. */
export async function* iterate(
  open: (take: (event: Event) => void) => EventStream,
): AsyncGenerator<Event, void, undefined> {
  let waiting: Event[] = [];
  let isOver = false;
  let failure: unknown;
  let wake = (): void => {};
  const stream = open((event) => {
    waiting.push(event);
    if (waiting.length >= MOST_WAITING) stream.pause();
    wake();
  });
  const end = (error?: unknown): void => {
    isOver = true;
    failure = error;
    wake();
  };
  stream.done.then(() => end(), end);
  try {
    for (;;) {
      const events = waiting;
      waiting = [];
      yield* events;
      if (waiting.length > 0) continue;
      if (isOver) break;
      stream.resume();
      await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    stream.close();
  }
  if (failure !== undefined) throw failure;
}
