// Follows what happens while it submits some tasks.

import { TaskQueueClient } from '@task-queue/client';

const client = new TaskQueueClient(process.env['TQ_SERVER'] ?? 'http://localhost:8080', {
  apiKey: process.env['TQ_API_KEY'] ?? '',
});

const finished = new Promise<void>((resolve) => {
  let count = 0;
  client.onEvent('task.completed', (event) => {
    console.log(`${event.data.task_id} took ${event.data.duration_ms} ms`);
    if ((count += 1) === 3) resolve();
  });
});
client.onEvent('events.gap', (event) => {
  console.log(`${event.data.missed} events are missing: ${event.data.reason}`);
});
client.onAnyEvent((event) => console.log(event.timestamp, event.type));
await client.connectWebSocket();

const { items } = await client.createTasks(Array(3).fill({ type: 'echo' }));
await finished;
client.closeWebSocket();

// The same from the past: every event has an id, and can be gone on from.
const [first] = items;
if (first?.task) {
  await client.waitForTask(first.task.id);
  const past = await client.listEvents({ task_id: first.task.id });
  console.log(past.items.map((event) => event.type).join(' -> '));
}
