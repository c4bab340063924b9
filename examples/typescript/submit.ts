// Submits a task of each priority and looks at one of them again.

import { TaskQueueClient } from '@task-queue/client';

const client = new TaskQueueClient(process.env['TQ_SERVER'] ?? 'http://localhost:8080', {
  apiKey: process.env['TQ_API_KEY'] ?? '',
});

const health = await client.healthCheck();
console.log(`the service is ${health.status}`);

for (const priority of ['low', 'normal', 'high', 'critical'] as const) {
  const task = await client.createTask({
    type: 'echo',
    payload: { message: 'Hello, World!' },
    priority,
    metadata: { example: 'submit' },
  });
  console.log(`submitted ${task.id} with the priority ${task.priority}`);
  console.log(`now it is ${(await client.getTask(task.id)).state}`);
}
