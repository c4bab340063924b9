// Following events, from the service itself.

import { describe, expect, expectTypeOf, inject, it } from 'vitest';
import { WebSocket } from 'ws';

import {
  type Event,
  type EventOf,
  type EventType,
  ConnectionError,
  InvalidRequestError,
  TaskQueueClient,
  UnauthorizedError,
  type WebSocketFactory,
} from '../src/index.js';
import { connect, taskOf } from './clients.js';

/** Return a client that is connected, and the events that it gets. */
async function listen(
  options: Parameters<TaskQueueClient['connectWebSocket']>[0] = {},
): Promise<{ client: TaskQueueClient; got: Event[] } & AsyncDisposable> {
  const client = connect();
  const got: Event[] = [];
  client.onAnyEvent((event) => void got.push(event));
  await client.connectWebSocket(options);
  return { client, got, [Symbol.asyncDispose]: async () => client.closeWebSocket() };
}

/** Return the types of a task's events, without their common beginning. */
function story(events: readonly Event[], taskId: string): string[] {
  const own = events.filter((event) => taskOf(event) === taskId);
  return own.map((event) => event.type.replace('task.', ''));
}

const STORY = ['submitted', 'started', 'completed'];

describe('a listener', () => {
  it('gets the events of its type, until it has had enough', async () => {
    await using following = await listen();
    const { client } = following;
    const completed: string[] = [];
    const stop = client.onEvent('task.completed', (event) => {
      expectTypeOf(event).toEqualTypeOf<EventOf<'task.completed'>>();
      expectTypeOf(event.data.duration_ms).toEqualTypeOf<number>();
      completed.push(event.data.task_id);
    });
    const first = await client.createTask({ type: 'echo' });
    await expect.poll(() => completed).toEqual([first.id]);
    stop();
    const second = await client.createTask({ type: 'echo' });
    await expect.poll(() => story(following.got, second.id)).toEqual(STORY);
    expect(completed).toEqual([first.id]);
    expect(story(following.got, first.id)).toEqual(STORY);
  });

  it('that fails, now or later, does no harm to another', async () => {
    const errors: unknown[] = [];
    const client = connect({ onError: (error) => void errors.push(error) });
    client.onEvent('task.submitted', () => {
      throw new Error('at once');
    });
    client.onEvent('task.submitted', () => Promise.reject(new Error('later')));
    const got: string[] = [];
    client.onEvent('task.submitted', (event) => void got.push(event.data.task_id));
    await client.connectWebSocket();
    const { id } = await client.createTask({ type: 'echo' });
    await expect.poll(() => got).toContain(id);
    expect(errors.map(String)).toEqual(['Error: at once', 'Error: later']);
    client.closeWebSocket();
  });
});

describe('a connection', () => {
  it('is one, and can be closed', async () => {
    const client = connect();
    await Promise.all([client.connectWebSocket(), client.connectWebSocket()]);
    expect(client.isWebSocketConnected).toBe(true);
    client.closeWebSocket();
    expect(client.isWebSocketConnected).toBe(false);
    const closed = new Promise<unknown>((onClose) => void client.connectWebSocket({ onClose }));
    await expect.poll(() => client.isWebSocketConnected).toBe(true);
    client.closeWebSocket();
    expect(await closed).toBeUndefined();
  });

  it('brings what came after a place', async () => {
    const client = connect();
    const { next_cursor: since } = await client.listEvents({ after: 'latest' });
    const { id } = await client.createTask({ type: 'echo' });
    await client.waitForTask(id);
    await using following = await listen({ since });
    await expect.poll(() => story(following.got, id)).toEqual(STORY);
  });

  it('brings the events of one task, or of some types', async () => {
    const client = connect();
    const { id } = await client.createTask({ type: 'sleep', payload: { duration: 500 } });
    await using one = await listen({ taskId: id });
    await using some = await listen({ events: ['task.completed'] });
    const other = await client.createTask({ type: 'echo' });
    await client.waitForTask(other.id);
    await client.waitForTask(id);
    await expect.poll(() => some.got.length).toBe(2);
    expect(new Set(some.got.map((event) => event.type))).toEqual(new Set(['task.completed']));
    await expect.poll(() => one.got.map((event) => event.type)).toContain('task.completed');
    expect(new Set(one.got.map(taskOf))).toEqual(new Set([id]));
  });

  it('can be limited and widened while it is open', async () => {
    await using following = await listen();
    const { client, got } = following;
    expect(await client.subscribeToEvents(['task.completed'])).toEqual(['task.completed']);
    const both: EventType[] = ['task.completed', 'task.started'];
    expect(await client.subscribeToEvents(['task.started'])).toEqual(both);
    expect(await client.unsubscribeFromEvents(['task.completed'])).toEqual(['task.started']);
    const { id } = await client.createTask({ type: 'echo' });
    await client.waitForTask(id);
    await expect.poll(() => story(got, id)).toEqual(['started']);
    const unknown = client.subscribeToEvents(['task.exploded' as EventType]);
    await expect(unknown).rejects.toThrow(/task\.exploded/);
  });

  it('is not there before it is made', async () => {
    await expect(connect().subscribeToEvents(['task.started'])).rejects.toThrow(/not connected/);
  });

  it('that is refused says why', async () => {
    const stranger = new TaskQueueClient(inject('url'), { apiKey: 'wrong' });
    await expect(stranger.connectWebSocket()).rejects.toThrow(UnauthorizedError);
    await expect(stranger.connectWebSocket({ since: 'x' })).rejects.toThrow(UnauthorizedError);
    await expect(connect().connectWebSocket({ since: 'x' })).rejects.toThrow(InvalidRequestError);
    expect(stranger.isWebSocketConnected).toBe(false);
  });

  it('to nobody is given up', async () => {
    const nobody = new TaskQueueClient('http://127.0.0.1:9');
    const connected = nobody.connectWebSocket({ maxReconnectAttempts: 2, reconnectInterval: 1 });
    await expect(connected).rejects.toThrow(ConnectionError);
  });

  it('ends with its signal, before and after it is open', async () => {
    const reason = new Error('enough');
    const early = connect().connectWebSocket({ signal: AbortSignal.abort(reason) });
    await expect(early).rejects.toBe(reason);
    const controller = new AbortController();
    const ends: unknown[] = [];
    const client = connect();
    const onClose = (error: unknown): void => void ends.push(error);
    await client.connectWebSocket({ signal: controller.signal, onClose });
    controller.abort(reason);
    await expect.poll(() => ends).toEqual([undefined]);
    expect(client.isWebSocketConnected).toBe(false);
  });
});

describe('a loop', () => {
  it('gets events, typed', async () => {
    const client = connect();
    const { next_cursor: since } = await client.listEvents({ after: 'latest' });
    const { id } = await client.createTask({ type: 'echo' });
    const kinds: string[] = [];
    const events = ['task.started', 'task.completed'] as const;
    for await (const event of client.events({ events, since })) {
      expectTypeOf(event.type).toEqualTypeOf<
        'task.started' | 'task.completed' | 'events.gap'
      >();
      if (event.type === 'events.gap' || event.data.task_id !== id) continue;
      kinds.push(event.type);
      if (event.type === 'task.completed') break;
    }
    expect(kinds).toEqual([...events]);
  });

  it('ends quietly with its signal', async () => {
    const controller = new AbortController();
    const client = connect();
    let count = 0;
    const { next_cursor: since } = await client.listEvents({ after: 'latest' });
    await client.createTask({ type: 'echo' });
    for await (const _ of client.events({ since, signal: controller.signal })) {
      if ((count += 1) === 3) controller.abort();
    }
    expect(count).toBe(3);
  });

  it('that cannot connect fails', async () => {
    const stranger = new TaskQueueClient(inject('url'), { apiKey: 'wrong' });
    await expect(stranger.events().next()).rejects.toThrow(UnauthorizedError);
  });

  it('that is slow misses nothing; what it cannot hold waits at the server', async () => {
    let connections = 0;
    class Counted extends WebSocket {
      constructor(url: string) {
        super(url);
        connections += 1;
      }
    }
    const client = connect({ webSocket: Counted as unknown as WebSocketFactory });
    const { next_cursor: since } = await client.listEvents({ after: 'latest' });
    const scheduled_at = new Date(Date.now() + 3_600_000);
    const left = new Set<string>();
    for (let n = 0; n < 3; n += 1) {
      const { items } = await client.createTasks(Array(1_000).fill({ type: 'echo', scheduled_at }));
      for (const item of items) left.add(item.task?.id ?? '');
    }
    expect(left.size).toBe(3_000);
    for await (const event of client.events({ events: ['task.submitted'], since })) {
      if (event.type === 'events.gap') throw new Error('there is a gap');
      expect(left.delete(event.data.task_id)).toBe(true);
      // A macrotask now and then, in which more arrive.
      if (left.size % 100 === 0) await new Promise((tick) => setTimeout(tick, 20));
      if (left.size === 0) break;
    }
    expect(connections).toBeGreaterThan(1);
  });
});
