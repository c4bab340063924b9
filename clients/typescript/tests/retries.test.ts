// What is sent again, what is not, and when it is given up.

import { describe, expect, inject, it } from 'vitest';

import {
  ApiError,
  ConnectionError,
  RateLimitedError,
  TaskQueueClient,
  type TaskQueueClientOptions,
  TimeoutError,
  UnavailableError,
} from '../src/index.js';
import { FaultyServer, answer, drop, ignore, pass, passAndDrop, refuse } from './faulty.js';
import { KEYS } from './live.js';

const url = inject('url');

function connect(server: FaultyServer, options: TaskQueueClientOptions = {}): TaskQueueClient {
  return new TaskQueueClient(server.url, { apiKey: KEYS[0], ...options });
}

describe('a submission', () => {
  it('whose answer is lost is sent again, and made once', async () => {
    await using server = await FaultyServer.start(passAndDrop(url), drop, pass(url));
    const client = connect(server);
    const note = `note=${Date.now()}`;
    const metadata = { note: note.slice(5) };
    const task = await client.createTask({ type: 'echo', payload: { n: 1 }, metadata });
    expect(server.seen).toHaveLength(3);
    const [{ key, body } = { key: '', body: '' }] = server.seen;
    expect(key).toMatch(/^[0-9a-f]{32}$/);
    for (const seen of server.seen) expect(seen).toMatchObject({ method: 'POST', key, body });
    await client.waitForTask(task.id);
    const found: string[] = [];
    for await (const one of client.listTasks({ metadata: note })) found.push(one.id);
    expect(found).toEqual([task.id]);
  });

  it('has a key of its own, or the one that it is given', async () => {
    await using server = await FaultyServer.start(pass(url));
    const client = connect(server);
    await client.createTask({ type: 'echo' });
    await client.createTask({ type: 'echo' });
    await client.createTask({ type: 'echo' }, { idempotencyKey: 'mine' });
    const keys = server.seen.map((seen) => seen.key);
    expect(new Set(keys).size).toBe(3);
    expect(keys[2]).toBe('mine');
  });
});

describe.each([429, 503])('after %i', (status) => {
  it('the request comes again, not before it is told to', async () => {
    await using server = await FaultyServer.start(refuse(status, { 'Retry-After': '1' }), pass(url));
    await connect(server).createTask({ type: 'echo' });
    const [first, second] = server.seen;
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(990);
  });

  it('a time is as good as seconds', async () => {
    const at = new Date(Date.now() + 2_000).toUTCString();
    await using server = await FaultyServer.start(refuse(status, { 'Retry-After': at }), pass(url));
    await connect(server).getQueueStats();
    expect(server.seen[1]?.at).toBeGreaterThanOrEqual(Date.parse(at) - 50);
  });

  it('it is given up when that is too late', async () => {
    await using server = await FaultyServer.start(refuse(status, { 'Retry-After': '60' }));
    const begin = Date.now();
    const failure = await connect(server)
      .createTask({ type: 'echo' })
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(status === 429 ? RateLimitedError : UnavailableError);
    expect(failure).toMatchObject({ status, retryAfter: 60 });
    expect(server.seen).toHaveLength(1);
    expect(Date.now() - begin).toBeLessThan(5_000);
  });
});

describe('a lost connection', () => {
  it('is made again for reads', async () => {
    await using server = await FaultyServer.start(drop, drop, pass(url));
    await connect(server).getQueueStats();
    expect(server.seen).toHaveLength(3);
  });

  it('is an error where the request may not be made twice', async () => {
    await using server = await FaultyServer.start(drop, pass(url));
    await expect(connect(server).retryTask('some')).rejects.toThrow(ConnectionError);
    expect(server.seen).toHaveLength(1);
  });

  it('is an error after so many attempts', async () => {
    await using server = await FaultyServer.start(drop);
    const client = connect(server, { retries: 2 });
    await expect(client.getTask('some')).rejects.toThrow(ConnectionError);
    expect(server.seen).toHaveLength(3);
    await expect(client.getTask('some', { retries: 0 })).rejects.toThrow(ConnectionError);
    expect(server.seen).toHaveLength(4);
  });

  it('does not end a wait', async () => {
    await using server = await FaultyServer.start(pass(url), drop, refuse(503), drop, drop, pass(url));
    const client = connect(server, { retries: 0 });
    const { id } = await client.createTask({ type: 'sleep', payload: { duration: 100 } });
    expect((await client.waitForTask(id, { timeout: 20_000 })).state).toBe('completed');
  });
});

describe('time', () => {
  it('ends a call that is not answered', async () => {
    await using server = await FaultyServer.start(ignore);
    const begin = Date.now();
    const client = connect(server, { timeout: 300 });
    await expect(client.createTask({ type: 'echo' })).rejects.toThrow(TimeoutError);
    expect(Date.now() - begin).toBeLessThan(3_000);
    await expect(client.getQueueStats({ timeout: 100 })).rejects.toThrow(TimeoutError);
  });

  it('ends a body that does not end', async () => {
    await using server = await FaultyServer.start((_request, response) => {
      response.writeHead(200, { 'Content-Type': 'application/json' }).write('{');
    });
    await expect(connect(server).getQueueStats({ timeout: 300 })).rejects.toThrow(TimeoutError);
  });
});

describe('a signal', () => {
  it('ends a call that is not answered', async () => {
    await using server = await FaultyServer.start(ignore);
    const signal = AbortSignal.timeout(100);
    const failure = await connect(server)
      .getQueueStats({ signal })
      .catch((error: unknown) => error);
    expect(failure).toBe(signal.reason);
  });

  it('ends the wait for the next attempt', async () => {
    await using server = await FaultyServer.start(refuse(503, { 'Retry-After': '20' }));
    const controller = new AbortController();
    const call = connect(server).getQueueStats({ signal: controller.signal });
    await expect.poll(() => server.seen.length).toBe(1);
    controller.abort();
    await expect(call).rejects.toThrow(controller.signal.reason as Error);
  });

  it('that was given before sends nothing', async () => {
    await using server = await FaultyServer.start(pass(url));
    const call = connect(server).getQueueStats({ signal: AbortSignal.abort(new Error('no')) });
    await expect(call).rejects.toThrow('no');
    expect(server.seen).toHaveLength(0);
  });
});

describe('an answer that is none of the service', () => {
  it('is an error of the connection', async () => {
    await using server = await FaultyServer.start(answer('text/html', '<h1>hello</h1>'));
    const call = connect(server, { retries: 0 }).createTask({ type: 'echo' });
    await expect(call).rejects.toThrow(/no JSON but text\/html/);
  });

  it('is an error with its status, whatever it says', async () => {
    for (const body of ['<h1>Bad Gateway</h1>', 'null', '{"message": 3}']) {
      await using server = await FaultyServer.start(answer('text/html', body, 502));
      const failure = await connect(server)
        .createTask({ type: 'echo' })
        .catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ApiError);
      expect(failure).toMatchObject({ status: 502, error: 'Bad Gateway' });
    }
  });
});
