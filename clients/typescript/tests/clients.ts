// Clients of the service that all tests share.

import { inject } from 'vitest';

import { type Event, TaskQueueClient, type TaskQueueClientOptions } from '../src/index.js';
import { KEYS } from './live.js';

/** Return a client that may do everything. */
export function connect(options: TaskQueueClientOptions = {}): TaskQueueClient {
  return new TaskQueueClient(inject('url'), { apiKey: KEYS[0], ...options });
}

/** Return the id of a task that has just died. */
export async function deadLetter(client: TaskQueueClient, message = 'on purpose'): Promise<string> {
  const task = await client.createTask({ type: 'fail', payload: { message }, max_retries: 0 });
  const ended = await client.waitForTask(task.id);
  if (ended.state !== 'dead_letter') throw new Error(`it is ${ended.state}`);
  return task.id;
}

/** Return the task that an event is about. */
export function taskOf(event: Event): string | undefined {
  return 'task_id' in event.data ? event.data.task_id : undefined;
}
