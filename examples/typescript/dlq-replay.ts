// Looks at the dead letters, sends those of one error back, and mends the payload of one.

import { TaskQueueClient } from '@task-queue/client';

const client = new TaskQueueClient(process.env['TQ_SERVER'] ?? 'http://localhost:8080', {
  apiKey: process.env['TQ_API_KEY'] ?? '',
});

const payload = { message: 'out of order' };
const task = await client.createTask({ type: 'fail', payload, max_retries: 0 });
console.log(`${task.id} is ${(await client.waitForTask(task.id)).state}`);

for (const group of (await client.listDlqGroups()).items) {
  console.log(`${group.count} of ${group.task_type}: ${group.error}`);
}

const filter = { type: 'fail', error: 'out of order' };
console.log(`${await client.retryDlqTasks(filter, { dryRun: true })} would be sent back`);
console.log(`${await client.retryDlqTasks(filter)} are sent back`);
console.log(`${task.id} is ${(await client.waitForTask(task.id)).state} again`);

await client.retryDlqTask(task.id, { payload: { message: 'still out of order' } });
console.log(`with another payload: ${(await client.waitForTask(task.id)).error}`);
