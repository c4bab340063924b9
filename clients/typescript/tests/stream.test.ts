// What a connection can do to a stream, done by a server that a test holds in its hand.

import { once } from 'node:events';
import { type IncomingMessage, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { describe, expect, it } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';

import { type ConnectOptions, type Event, ForbiddenError, TaskQueueClient } from '../src/index.js';

const timestamp = '2026-01-15T12:00:00.000Z';
const SLOW = { type: 'events.gap', timestamp, data: { missed: 3, reason: 'slow' } };
const TRIMMED = { type: 'events.gap', timestamp, data: { missed: 3, reason: 'trimmed' } };

function started(id: string): object {
  return { type: 'task.started', timestamp, id, data: { task_id: `task of ${id}` } };
}

/** A service of events alone; the test decides what each connection gets. */
class Stage {
  /** The query of each connection. */
  readonly queries: URLSearchParams[] = [];
  readonly frames: string[] = [];
  /** What is answered to the question for the present place. */
  look = { status: 200, body: { items: [], next_cursor: 'begin' } as object };
  readonly #http = createServer((request, response) => {
    this.looked.push(request.url ?? '');
    response.writeHead(this.look.status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(this.look.body));
  });
  readonly looked: string[] = [];
  readonly #sockets = new WebSocketServer({ noServer: true });

  /** `play` is called with the number of each connection; without it the handshake is refused. */
  static async open(play: (socket: WebSocket, number: number) => void): Promise<Stage> {
    const stage = new Stage();
    stage.#http.on('upgrade', (request: IncomingMessage, socket, head) => {
      stage.queries.push(new URL(request.url ?? '', 'http://stage').searchParams);
      const number = stage.queries.length;
      if (stage.look.status !== 200) {
        socket.end(`HTTP/1.1 ${stage.look.status} No\r\nContent-Length: 0\r\n\r\n`);
        return;
      }
      stage.#sockets.handleUpgrade(request, socket, head, (opened) => {
        opened.on('message', (data) => stage.frames.push(String(data)));
        play(opened, number);
      });
    });
    stage.#http.listen(0, '127.0.0.1');
    await once(stage.#http, 'listening');
    return stage;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  /** How many there are now. */
  get connections(): number {
    return this.#sockets.clients.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#http.close();
    this.#http.closeAllConnections();
  }
}

function send(socket: WebSocket, ...frames: object[]): void {
  for (const frame of frames) socket.send(JSON.stringify(frame));
}

/** Follow a stage; `ended` says why the stream ended, when it has. */
async function follow(
  stage: Stage,
  options: ConnectOptions = {},
): Promise<{ client: TaskQueueClient; got: unknown[]; ended: unknown[] } & AsyncDisposable> {
  const client = new TaskQueueClient(stage.url, { apiKey: 'a key', timeout: 500 });
  const got: unknown[] = [];
  const ended: unknown[] = [];
  client.onAnyEvent((event: Event) => void got.push('id' in event ? event.id : event.data));
  const onClose = (error: unknown): void => void ended.push(error);
  await client.connectWebSocket({ reconnectInterval: 1, onClose, ...options });
  return { client, got, ended, [Symbol.asyncDispose]: async () => client.closeWebSocket() };
}

describe('a stream', () => {
  it('begins where it is now, and goes on where it was', async () => {
    await using stage = await Stage.open((socket, number) => {
      if (number <= 2) socket.close(1001);
      else if (number === 3) send(socket, started('a'), started('b'));
      if (number === 3) socket.close(1001);
    });
    await using _ = await follow(stage);
    await expect.poll(() => stage.queries.length).toBe(4);
    const places = stage.queries.map((query) => query.get('since'));
    expect(places).toEqual(['begin', 'begin', 'begin', 'b']);
    expect(stage.queries[0]?.get('token')).toBe('a key');
    expect(stage.looked).toEqual(['/api/v1/events?after=latest&limit=1']);
  });

  it('gets what a slow reader lost, without being told', async () => {
    await using stage = await Stage.open((socket, number) => {
      if (number === 1) send(socket, started('a'), SLOW, started('e'));
      else send(socket, started('b'));
    });
    const options = { events: ['task.started'], taskId: 'x', reconnect: false } as const;
    await using following = await follow(stage, options);
    await expect.poll(() => following.got).toEqual(['a', 'b']);
    expect(Object.fromEntries(stage.queries[1] ?? [])).toEqual({
      since: 'a',
      events: 'task.started',
      task_id: 'x',
      token: 'a key',
    });
  });

  it('tells of events that are gone', async () => {
    await using stage = await Stage.open((socket) => send(socket, TRIMMED, started('d')));
    await using following = await follow(stage);
    await expect.poll(() => following.got).toEqual([TRIMMED.data, 'd']);
  });

  it('hands on what it does not know, and passes over what is no event', async () => {
    await using stage = await Stage.open((socket) => {
      socket.send('{');
      socket.send('null');
      send(socket, {}, { ...started('a'), type: 'task.exploded' });
    });
    await using following = await follow(stage);
    await expect.poll(() => following.got).toEqual(['a']);
  });

  it('brings what comes with the handshake to listeners that are registered after it', async () => {
    await using stage = await Stage.open((socket) => send(socket, started('a')));
    const client = new TaskQueueClient(stage.url);
    await client.connectWebSocket();
    const got: string[] = [];
    client.onEvent('task.started', (event) => void got.push(event.id));
    await expect.poll(() => got).toEqual(['a']);
    client.closeWebSocket();
  });

  it('keeps what it was subscribed to', async () => {
    const types = [['task.started'], []];
    await using stage = await Stage.open((socket, number) => {
      socket.on('message', () => {
        const data = { events: types[number - 1] };
        send(socket, { type: 'subscription.updated', timestamp, data });
        if (number <= 2) socket.close(1001);
      });
    });
    await using following = await follow(stage);
    const { client } = following;
    expect(await client.subscribeToEvents(['task.started'])).toEqual(['task.started']);
    await expect.poll(() => stage.queries.length).toBe(2);
    await expect.poll(() => client.isWebSocketConnected).toBe(true);
    expect(await client.unsubscribeFromEvents(['task.started'])).toEqual([]);
    await expect.poll(() => stage.queries.length).toBe(3);
    const asked = stage.queries.map((query) => query.get('events'));
    expect(asked).toEqual([null, 'task.started', 'events.gap']);
  });
});

describe('silence', () => {
  it('is nothing when the server answers', async () => {
    await using stage = await Stage.open((socket) => {
      const refused = { type: 'frame.refused', timestamp, data: { message: 'what?' } };
      socket.on('message', () => send(socket, refused));
    });
    await using _ = await follow(stage, { silence: 20 });
    await expect.poll(() => stage.frames.length).toBeGreaterThan(3);
    expect(stage.queries).toHaveLength(1);
  });

  it('ends a connection that is dead', async () => {
    await using stage = await Stage.open((socket, number) => {
      if (number === 1) send(socket, started('a'));
      else send(socket, started('b'));
    });
    await using following = await follow(stage, { silence: 20 });
    await expect.poll(() => following.got.slice(0, 2), { timeout: 5_000 }).toEqual(['a', 'b']);
    expect(stage.queries[1]?.get('since')).toBe('a');
  });
});

describe('a loop that does not go on', () => {
  it('has no connection when a thousand events wait, and goes on where it was', async () => {
    const all = Array.from({ length: 2_500 }, (_, n) => started(String(n)));
    await using stage = await Stage.open((socket, number) => {
      const since = stage.queries[number - 1]?.get('since');
      send(socket, ...all.slice(since === 'begin' ? 0 : Number(since) + 1));
    });
    const client = new TaskQueueClient(stage.url, { apiKey: 'of the loop' });
    const own = (): URLSearchParams[] =>
      stage.queries.filter((query) => query.get('token') === 'of the loop');
    const got: string[] = [];
    for await (const event of client.events({ events: ['task.started'] })) {
      if (event.type === 'events.gap') continue;
      if (got.length === 0) {
        // Whoever comes back at once would be here before somebody else.
        await expect.poll(() => stage.connections).toBe(0);
        await using _ = await follow(stage);
        expect(own()).toHaveLength(1);
      }
      got.push(event.id);
      if (got.length === all.length) break;
    }
    expect(got).toEqual(all.map((_, n) => String(n)));
    expect(own().length).toBeGreaterThan(1);
  });
});

describe('a stream that is lost', () => {
  it('ends when its key does not hold any more, with the reason', async () => {
    await using stage = await Stage.open((socket) => {
      stage.look = { status: 403, body: { error: 'Forbidden', message: 'not you' } };
      socket.close(1008);
    });
    await using following = await follow(stage);
    await expect.poll(() => following.ended).toEqual([expect.any(ForbiddenError)]);
    expect(following.client.isWebSocketConnected).toBe(false);
    expect(stage.queries).toHaveLength(2);
  });

  it('comes again while the service is away', async () => {
    await using stage = await Stage.open((socket, number) => {
      if (number > 1) return;
      stage.look = { ...stage.look, status: 503 };
      socket.close(1001);
    });
    await using following = await follow(stage);
    await expect.poll(() => stage.queries.length).toBeGreaterThan(2);
    stage.look = { status: 200, body: { items: [], next_cursor: 'later' } };
    await expect.poll(() => following.client.isWebSocketConnected).toBe(true);
    expect(stage.queries.at(-1)?.get('since')).toBe('begin');
  });

  it('is not made again where it should not be, nor for ever', async () => {
    await using stage = await Stage.open((socket) => socket.close(1001));
    await using once = await follow(stage, { reconnect: false });
    await expect.poll(() => once.ended.map(String)).toEqual([expect.stringMatching(/cut off/)]);
    expect(stage.queries).toHaveLength(1);
    await using thrice = await follow(stage, { maxReconnectAttempts: 2 });
    await expect.poll(() => thrice.ended.map(String)).toEqual([expect.stringMatching(/cut off/)]);
    expect(stage.queries).toHaveLength(4);
  });

  it('has all its attempts again when something came', async () => {
    await using stage = await Stage.open((socket, number) => {
      if (number <= 5) send(socket, started(String(number)));
      if (number <= 5) socket.close(1001);
    });
    await using following = await follow(stage, { maxReconnectAttempts: 1 });
    await expect.poll(() => stage.queries.length, { timeout: 5_000 }).toBe(6);
    expect(following.ended).toEqual([]);
  });

  it('is told to whoever hears errors, without onClose', async () => {
    await using stage = await Stage.open((socket) => socket.close(1001));
    const errors: unknown[] = [];
    const onError = (error: unknown): void => void errors.push(error);
    const client = new TaskQueueClient(stage.url, { onError });
    await client.connectWebSocket({ reconnect: false });
    await expect.poll(() => errors.map(String)).toEqual([expect.stringMatching(/cut off/)]);
  });

  it('ends the loop over it', async () => {
    await using stage = await Stage.open((socket) => {
      send(socket, started('a'));
      socket.close(1001);
    });
    const client = new TaskQueueClient(stage.url);
    const got: unknown[] = [];
    const loop = async (): Promise<void> => {
      for await (const event of client.events({ reconnect: false })) got.push(event.type);
    };
    await expect(loop()).rejects.toThrow(/cut off/);
    expect(got).toEqual(['task.started']);
  });
});
