// Waits for tasks: for a result, for a failure, and not for ever.

import { TaskFailedError, TaskQueueClient, TimeoutError } from '@task-queue/client';

const client = new TaskQueueClient(process.env['TQ_SERVER'] ?? 'http://localhost:8080', {
  apiKey: process.env['TQ_API_KEY'] ?? '',
});

const sum = await client.createTask({ type: 'compute', payload: { iterations: 1_000 } });
console.log('result:', await client.getResult(sum.id));

const doomed = await client.createTask({ type: 'fail', max_retries: 0 });
try {
  await client.getResult(doomed.id);
} catch (error) {
  if (!(error instanceof TaskFailedError)) throw error;
  console.log('failed:', error.task.state, error.task.error);
}

const long = await client.createTask({ type: 'sleep', payload: { duration_seconds: 30 } });
try {
  await client.waitForTask(long.id, { timeout: 500 });
} catch (error) {
  if (!(error instanceof TimeoutError)) throw error;
  console.log('not waited for:', error.message);
}
await client.cancelTask(long.id, { running: true });
