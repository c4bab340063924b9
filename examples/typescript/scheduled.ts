// Submits a task for a moment from now and says when it ran.

import { TaskQueueClient } from '@task-queue/client';

const client = new TaskQueueClient(process.env['TQ_SERVER'] ?? 'http://localhost:8080', {
  apiKey: process.env['TQ_API_KEY'] ?? '',
});

const task = await client.createTask({
  type: 'echo',
  payload: { message: 'Delayed task' },
  scheduled_at: new Date(Date.now() + 1_000),
});
console.log(`${task.id} is ${task.state} for ${task.scheduled_at}`);

const ended = await client.waitForTask(task.id);
console.log(`it is ${ended.state}, started at ${ended.started_at}`);
