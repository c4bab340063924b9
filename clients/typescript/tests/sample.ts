import { TaskQueueClient } from '@task-queue/client';

// Create client
const client = new TaskQueueClient('http://localhost:8080', {
  apiKey: 'your-api-key',
});

// Submit a task
const task = await client.createTask({
  type: 'email',
  payload: { to: 'user@example.com' },
});

// Get task status
const status = await client.getTask(task.id);

// WebSocket events
await client.connectWebSocket();
client.onEvent('task.completed', (event) => {
  console.log('Task completed:', event.data);
});
