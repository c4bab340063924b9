// Submitting tasks, reading them, waiting for them.

import { describe, expect, it } from 'vitest';

import { ConflictError, NotFoundError, TaskFailedError, TimeoutError, hasEnded } from '../src/index.js';
import { connect } from './clients.js';

const client = connect();
const inAnHour = (): Date => new Date(Date.now() + 3_600_000);

describe('a task', () => {
  it('runs, and has a result', async () => {
    const task = await client.createTask({ type: 'echo', payload: { message: 'hello' } });
    expect(task.state).toBe('pending');
    const ended = await client.waitForTask(task.id);
    expect(ended).toMatchObject({ state: 'completed', result: { echoed: { message: 'hello' } } });
    expect(hasEnded(ended)).toBe(true);
    expect(hasEnded(task)).toBe(false);
    expect(await client.getResult(task.id)).toEqual(ended.result);
    expect(await client.getTask(task.id)).toEqual(ended);
  });

  it('has a priority by number or by name', async () => {
    for (const priority of [3, 'critical'] as const) {
      const task = await client.createTask({ type: 'echo', priority });
      expect(task.priority).toBe('critical');
    }
  });

  it('can be for later, as a date or as text', async () => {
    const at = inAnHour();
    for (const scheduled_at of [at, at.toISOString()]) {
      const task = await client.createTask({ type: 'echo', scheduled_at });
      expect(task).toMatchObject({ state: 'scheduled', scheduled_at: at.toISOString() });
      expect((await client.cancelTask(task.id)).state).toBe('cancelled');
    }
  });

  it('takes null for a field as not sent', async () => {
    const nothing = { priority: null, scheduled_at: null, payload: null };
    const task = await client.createTask({ type: 'echo', ...nothing });
    expect(task).toMatchObject({ priority: 'normal', payload: {} });
  });

  it('can be cancelled once', async () => {
    const { id } = await client.createTask({ type: 'echo', scheduled_at: inAnHour() });
    await client.cancelTask(id);
    await expect(client.cancelTask(id)).rejects.toThrow(ConflictError);
  });

  it('can be cancelled while it runs', async () => {
    const { id } = await client.createTask({ type: 'sleep', payload: { duration_seconds: 60 } });
    const isRunning = async (): Promise<boolean> => (await client.getTask(id)).state === 'running';
    await expect.poll(isRunning, { timeout: 10_000 }).toBe(true);
    await expect(client.cancelTask(id)).rejects.toThrow(ConflictError);
    expect(await client.cancelTask(id, { running: true })).toMatchObject({ cancel_requested: true });
    expect((await client.waitForTask(id)).state).toBe('cancelled');
  });

  it('that fails has attempts and no result, and can be retried', async () => {
    const task = await client.createTask({
      type: 'fail',
      payload: { message: 'no luck' },
      max_retries: 1,
    });
    const failure = await client.getResult(task.id).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(TaskFailedError);
    expect((failure as TaskFailedError).task.state).toBe('dead_letter');
    expect((failure as TaskFailedError).message).toContain('no luck');
    const attempts = await client.listAttempts(task.id);
    expect(attempts.map((attempt) => attempt.attempt)).toEqual([1, 2]);
    expect((await client.retryTask(task.id)).task_id).toBe(task.id);
    expect((await client.waitForTask(task.id)).state).toBe('dead_letter');
  });

  it('that there is not is an error', async () => {
    await expect(client.getTask('nothing')).rejects.toThrow(NotFoundError);
    await expect(client.waitForTask('nothing')).rejects.toThrow(NotFoundError);
  });
});

describe('waiting', () => {
  it('ends in time', async () => {
    const { id } = await client.createTask({ type: 'echo', scheduled_at: inAnHour() });
    const waited = client.waitForTask(id, { timeout: 300 });
    await expect(waited).rejects.toThrow(TimeoutError);
    await expect(waited).rejects.toThrow('it is scheduled');
    await client.cancelTask(id);
  });

  it('ends with its signal', async () => {
    const { id } = await client.createTask({ type: 'echo', scheduled_at: inAnHour() });
    const controller = new AbortController();
    const waited = client.waitForTask(id, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(waited).rejects.toThrow('enough');
    await client.cancelTask(id);
  });

  it('is over when a task ends meanwhile', async () => {
    const { id } = await client.createTask({ type: 'sleep', payload: { duration: 700 } });
    expect((await client.waitForTask(id)).state).toBe('completed');
  });
});

describe('many tasks', () => {
  it('are accepted or refused one by one', async () => {
    const tooFar = new Date(Date.now() + 400 * 86_400_000);
    const answer = await client.createTasks([
      { type: 'echo', priority: 'low' },
      { type: 'echo', scheduled_at: tooFar },
    ]);
    expect(answer).toMatchObject({ accepted_count: 1, refused_count: 1 });
    expect(answer.items[0]).toMatchObject({ status: 201, task: { priority: 'low' } });
    expect(answer.items[1]).toMatchObject({ status: 400, field: 'scheduled_at' });
  });

  it('are found page by page', async () => {
    const batch = String(Date.now());
    const metadata = { batch };
    const { items } = await client.createTasks(Array(7).fill({ type: 'echo', metadata }));
    const ids = items.map((item) => item.task?.id ?? '');
    for (const id of ids) await client.waitForTask(id);
    const found: string[] = [];
    const filter = { metadata: `batch=${batch}`, limit: 2 };
    for await (const task of client.listTasks(filter)) found.push(task.id);
    expect(found.sort()).toEqual(ids.sort());
    expect((await client.searchTasks(filter)).items.length).toBeLessThanOrEqual(2);
  });

  it('with the same key are the same', async () => {
    const idempotencyKey = `batch-${Date.now()}`;
    const tasks = [{ type: 'echo' }, { type: 'echo' }];
    const first = await client.createTasks(tasks, { idempotencyKey });
    const second = await client.createTasks(tasks, { idempotencyKey });
    const ids = first.items.map((item) => item.task?.id);
    expect(second.items.map((item) => item.task?.id)).toEqual(ids);
    expect(second.items.map((item) => item.status)).toEqual([200, 200]);
  });
});

it('lists what workers handle', async () => {
  const types = await client.listTaskTypes();
  expect(types.map((type) => type.type)).toEqual(expect.arrayContaining(['echo', 'fail']));
});
