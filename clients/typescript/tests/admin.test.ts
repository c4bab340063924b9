// Queues, workers, dead letters, the service itself.

import { describe, expect, it } from 'vitest';

import { NotFoundError } from '../src/index.js';
import { connect, deadLetter } from './clients.js';

const client = connect();

describe('queues', () => {
  it('have depths', async () => {
    const stats = await client.getQueueStats();
    expect(Object.keys(stats.queues).sort()).toEqual(['critical', 'high', 'low', 'normal']);
    expect((await client.getQueues()).totals.deferred).toBeTypeOf('number');
  });

  it('can be paused, purged and resumed', async () => {
    expect(await client.pauseQueue('low')).toMatchObject({ priority: 'low' });
    try {
      const { id } = await client.createTask({ type: 'echo', priority: 'low' });
      expect((await client.getQueueStats()).queues.low).toMatchObject({ queued: 1, paused: true });
      expect((await client.purgeQueue('low')).purged_count).toBe(1);
      expect((await client.getTask(id)).state).toBe('cancelled');
    } finally {
      await client.resumeQueue('low');
    }
    expect((await client.getQueueStats()).queues.low.paused).toBeUndefined();
  });
});

describe('workers', () => {
  it('can be looked at, paused and resumed', async () => {
    const { workers, count } = await client.listWorkers();
    expect(count).toBe(1);
    const id = workers[0]?.id ?? '';
    expect((await client.getWorker(id)).handlers.map((handler) => handler.type)).toContain('echo');
    expect((await client.pauseWorker(id)).worker_id).toBe(id);
    expect((await client.resumeWorker(id)).worker_id).toBe(id);
    await expect(client.getWorker('nobody')).rejects.toThrow(NotFoundError);
  });
});

describe('dead letters', () => {
  it('can be listed, counted, replayed and given up', async () => {
    await client.clearDlq();
    const ids = [];
    for (const message of ['one', 'two', 'two']) ids.push(await deadLetter(client, message));

    const page = await client.listDlq({ limit: 2 });
    expect([page.size, page.entries.length]).toEqual([3, 2]);
    const listed: string[] = [];
    for await (const letter of client.deadLetters({ limit: 2 })) listed.push(letter.task_id);
    expect(listed.sort()).toEqual([...ids].sort());

    const groups = await client.listDlqGroups();
    expect(groups.items.map((group) => [group.error, group.count])).toEqual([
      [expect.stringContaining('two'), 2],
      [expect.stringContaining('one'), 1],
    ]);

    const [first = ''] = ids;
    await client.retryDlqTask(first, { payload: { message: 'three' } });
    expect((await client.waitForTask(first)).error).toContain('three');
    expect(await client.retryDlqTasks({ error: 'two' }, { dryRun: true })).toBe(2);
    expect((await client.listDlq()).size).toBe(3);
    expect(await client.retryDlqTasks({ error: 'three' })).toBe(1);
    await client.waitForTask(first);
    expect(await client.retryAllDlqTasks()).toBe(3);
    for (const id of ids) await client.waitForTask(id);
    expect(await client.clearDlq()).toBe(3);
    expect((await client.listDlq()).size).toBe(0);
    await expect(client.retryDlqTask(first)).rejects.toThrow(NotFoundError);
  });
});

describe('the service', () => {
  it('says how it is', async () => {
    expect(await client.healthCheck()).toMatchObject({ redis: 'connected' });
  });

  it('has metrics', async () => {
    expect(await client.getMetrics()).toContain('taskqueue_active_workers');
  });
});
