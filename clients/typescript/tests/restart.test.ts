// A server that is restarted while a client follows events, and while it submits.

import { afterAll, beforeAll, expect, it } from 'vitest';

import { type Event, TaskQueueClient, UnavailableError } from '../src/index.js';
import { taskOf } from './clients.js';
import { KEYS, Service } from './live.js';

const TASKS = 300;
const STORY = ['task.submitted', 'task.started', 'task.completed'];
let service: Service;

beforeAll(async () => {
  service = await Service.start();
});
afterAll(() => service.stop());

it('loses no event and makes no task twice', { timeout: 90_000 }, async () => {
  const client = new TaskQueueClient(service.url, { apiKey: KEYS[0], retries: 30, timeout: 60_000 });
  const stories = new Map<string, string[]>();
  const gaps: Event[] = [];
  client.onAnyEvent((event) => {
    const id = taskOf(event);
    if (id !== undefined) stories.set(id, [...(stories.get(id) ?? []), event.type]);
  });
  client.onEvent('events.gap', (event) => void gaps.push(event));
  await client.connectWebSocket();

  // The server goes before the client has seen anything but the place it began at.
  await service.stopServer();
  const first = submit(client, 100);
  await service.startServer();
  const ids = await first;
  ids.push(...(await submit(client, 100)));
  // And again, while events are on their way.
  const last = submit(client, 100);
  await service.stopServer();
  await service.startServer();
  ids.push(...(await last));

  const told = (): number => [...stories.values()].reduce((sum, story) => sum + story.length, 0);
  await expect.poll(told, { timeout: 30_000 }).toBeGreaterThanOrEqual(3 * TASKS);
  expect(new Set(ids).size).toBe(TASKS);
  expect([...stories.keys()].sort()).toEqual([...ids].sort());
  for (const story of stories.values()) expect(story).toEqual(STORY);
  expect(told()).toBe(900);
  expect(gaps).toEqual([]);
  client.closeWebSocket();
});

it('says that there is no service when it stays away', async () => {
  const client = new TaskQueueClient(service.url, { apiKey: KEYS[0], retries: 1 });
  const closed = new Promise<unknown>((onClose) => {
    void client.connectWebSocket({ onClose, maxReconnectAttempts: 2, reconnectInterval: 10 });
  });
  await expect.poll(() => client.isWebSocketConnected).toBe(true);
  await service.stopServer();
  expect(await closed).toMatchObject({ name: expect.stringMatching(/Connection|Unavail/) as string });
  const failure = await client.getQueueStats().catch((error: unknown) => error);
  expect(failure).not.toBeInstanceOf(UnavailableError);
  expect(failure).toMatchObject({ name: 'ConnectionError' });
});

async function submit(client: TaskQueueClient, count: number): Promise<string[]> {
  const tasks = Array.from({ length: count }, (_, n) =>
    client.createTask({ type: 'echo', payload: { n } }),
  );
  return (await Promise.all(tasks)).map((task) => task.id);
}
