// Cancels a task that waits, and one that runs.

import { ConflictError, TaskQueueClient } from '@task-queue/client';

const client = new TaskQueueClient(process.env['TQ_SERVER'] ?? 'http://localhost:8080', {
  apiKey: process.env['TQ_API_KEY'] ?? '',
});

const waiting = await client.createTask({
  type: 'echo',
  scheduled_at: new Date(Date.now() + 60_000),
});
console.log(`${waiting.id} is ${(await client.cancelTask(waiting.id)).state}`);

try {
  await client.cancelTask(waiting.id);
} catch (error) {
  if (!(error instanceof ConflictError)) throw error;
  console.log(`it cannot be cancelled again: ${error.message}`);
}

const { next_cursor: since } = await client.listEvents({ after: 'latest' });
const running = await client.createTask({ type: 'sleep', payload: { duration_seconds: 60 } });
for await (const event of client.events({ taskId: running.id, since })) {
  if (event.type === 'task.started') break;
}
await client.cancelTask(running.id, { running: true });
console.log(`${running.id} is ${(await client.waitForTask(running.id)).state}`);
