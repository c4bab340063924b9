// Errors say what happened, in fields.

import { createHmac } from 'node:crypto';

import { describe, expect, inject, it } from 'vitest';

import {
  ApiError,
  ConnectionError,
  ForbiddenError,
  InvalidRequestError,
  NotFoundError,
  TaskQueueClient,
  TaskQueueError,
  UnauthorizedError,
} from '../src/index.js';
import { connect } from './clients.js';
import { FaultyServer, answer, pass } from './faulty.js';
import { KEYS, SECRET } from './live.js';

async function failure(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Return a token with these scopes. */
function sign(scope: string): string {
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
  const claims = { sub: 'somebody', scope, exp: Math.floor(Date.now() / 1000) + 600 };
  const text = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

describe('an error', () => {
  it('says status, message, field and request', async () => {
    const error = await failure(connect().createTask({ type: 'echo', priority: 9 }));
    expect(error).toBeInstanceOf(InvalidRequestError);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toBeInstanceOf(TaskQueueError);
    expect(error).toMatchObject({
      name: 'InvalidRequestError',
      status: 400,
      error: 'Bad Request',
      message: expect.stringContaining('priority') as string,
      field: 'priority',
      type: expect.stringMatching(/^urn:taskqueue:problem:/) as string,
      requestId: expect.stringMatching(/.+/) as string,
    });
  });

  it('has a class for each kind', async () => {
    const call = (credential: string): Promise<unknown> =>
      new TaskQueueClient(inject('url'), { token: credential }).listWorkers();
    expect(await failure(call('wrong'))).toBeInstanceOf(UnauthorizedError);
    expect(await failure(call(sign('tasks:read')))).toBeInstanceOf(ForbiddenError);
    expect(await failure(connect().getTask('nothing'))).toBeInstanceOf(NotFoundError);
    expect(await failure(new TaskQueueClient('http://127.0.0.1:9').getTask('x', { retries: 0 })))
      .toBeInstanceOf(ConnectionError);
  });

  it('is not made of a service that is ill and says so', async () => {
    const ill = { status: 'unhealthy', redis: 'disconnected', error: 'away' };
    await using server = await FaultyServer.start(
      answer('application/json', JSON.stringify(ill), 503),
      answer('text/html', 'no', 502),
    );
    const client = new TaskQueueClient(server.url);
    expect(await client.healthCheck()).toEqual(ill);
    expect(await failure(client.healthCheck())).toMatchObject({ status: 502 });
  });
});

describe('a credential', () => {
  it('may be a key, a token, or what returns the present one', async () => {
    let asked = 0;
    const token = (): Promise<string> => Promise.resolve(sign(`tasks:read${' '.repeat((asked += 1))}`));
    const client = new TaskQueueClient(inject('url'), { token });
    await client.getQueueStats();
    await client.getQueueStats();
    expect(asked).toBe(2);
    await connect({ apiKey: () => KEYS[1] }).listWorkers();
  });

  it('is what a failing function makes of it: the error is its own', async () => {
    const apiKey = (): never => {
      throw new Error('no key today');
    };
    await expect(connect({ apiKey }).getQueueStats()).rejects.toThrow('no key today');
  });
});

describe('a client', () => {
  it('sends the headers that it was given, to an address with or without a slash', async () => {
    let header: unknown;
    await using server = await FaultyServer.start((request, response, body) => {
      header = request.headers['x-request-id'];
      pass(inject('url'))(request, response, body);
    });
    const headers = { 'X-Request-ID': 'mine-1' };
    const client = new TaskQueueClient(`${server.url}/`, { apiKey: KEYS[0], headers });
    await client.getQueueStats();
    expect(header).toBe('mine-1');
    expect(server.seen[0]?.path).toBe('/api/v1/tasks');
  });
});
