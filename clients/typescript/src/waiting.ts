// Waiting for the end of a task: the server answers when it has ended, or after some seconds.

import { backoff, sleep } from './backoff.js';
import { ConnectionError, RateLimitedError, TimeoutError, UnavailableError } from './errors.js';
import type { Task, TaskState } from './generated/index.js';

const ENDED: ReadonlySet<TaskState> = new Set(['completed', 'cancelled', 'failed', 'dead_letter']);
/** Seconds that the server is asked to wait: less than proxies allow an answer to take. */
const LONGEST_WAIT = 25;

/** Tell whether nothing more happens to a task by itself. */
export function hasEnded(task: Task): boolean {
  return ENDED.has(task.state);
}

/** Return a task that has ended; `get` asks for it, with so many seconds to wait. */
export async function waitForEnd(
  get: (wait: number) => Promise<Task>,
  taskId: string,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<Task> {
  const deadline = Date.now() + timeout;
  let state = 'not known';
  for (let idle = 1; ; idle += 1) {
    const begin = Date.now();
    const wait = Math.min(LONGEST_WAIT, Math.max(0, (deadline - begin) / 1000));
    try {
      const task = await get(wait);
      if (hasEnded(task)) return task;
      state = task.state;
      // The server has waited: it may be asked again at once.
      if (Date.now() - begin >= 500 * wait) idle = 0;
    } catch (error) {
      if (!isTransient(error)) throw error;
      if (Date.now() >= deadline) throw error;
    }
    const left = deadline - Date.now();
    if (left <= 0) throw new TimeoutError(`task ${taskId} has not ended in time: it is ${state}`);
    if (idle > 0) await sleep(Math.min(left, backoff(idle)), signal);
  }
}

function isTransient(error: unknown): boolean {
  return [ConnectionError, RateLimitedError, UnavailableError].some((kind) => error instanceof kind);
}
