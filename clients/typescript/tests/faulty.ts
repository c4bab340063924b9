// A server between client and service that does, request by request, what a test tells it.

import { once } from 'node:events';
import {
  type IncomingMessage,
  type Server,
  type ServerResponse,
  createServer,
  request as send,
} from 'node:http';
import type { AddressInfo } from 'node:net';

/** What happened to one request. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly key: string | undefined;
  readonly body: string;
  readonly at: number;
}

type Behaviour = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** Answer with a status, as the service does. */
export function refuse(status: number, headers: Record<string, string> = {}): Behaviour {
  return (_request, response) => {
    response.writeHead(status, { 'Content-Type': 'application/problem+json', ...headers });
    response.end(JSON.stringify({ error: 'Refused', message: `it is ${status}`, status }));
  };
}

/** Answer with something else. */
export function answer(type: string, body: string, status = 200): Behaviour {
  return (_request, response) => {
    response.writeHead(status, { 'Content-Type': type }).end(body);
  };
}

/** Cut the connection before anything is done. */
export const drop: Behaviour = (request) => void request.socket.destroy();

/** Never answer. */
export const ignore: Behaviour = () => {};

/** Hand the request on to the service. */
export function pass(url: string): Behaviour {
  return (request, response, body) => {
    forward(url, request, body, (answered) => {
      response.writeHead(answered.statusCode ?? 502, answered.headers);
      answered.pipe(response);
    });
  };
}

/** Hand the request on to the service, and cut the connection instead of the answer. */
export function passAndDrop(url: string): Behaviour {
  return (request, _response, body) => {
    forward(url, request, body, (answered) => {
      answered.resume().on('end', () => request.socket.destroy());
    });
  };
}

function forward(
  url: string,
  request: IncomingMessage,
  body: string,
  onAnswer: (answered: IncomingMessage) => void,
): void {
  const { method, headers } = request;
  send(url + (request.url ?? ''), { method: method ?? 'GET', headers }, onAnswer).end(body);
}

export class FaultyServer {
  readonly seen: Seen[] = [];
  readonly #server: Server;
  readonly #script: Behaviour[];

  private constructor(script: Behaviour[]) {
    this.#script = script;
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  /** Return a server that does this in turn, and the last again and again. */
  static async start(...script: Behaviour[]): Promise<FaultyServer> {
    const faulty = new FaultyServer(script);
    faulty.#server.listen(0, '127.0.0.1');
    await once(faulty.#server, 'listening');
    return faulty;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const key = request.headers['idempotency-key'];
    this.seen.push({
      method: request.method ?? '',
      path: request.url ?? '',
      key: typeof key === 'string' ? key : undefined,
      body,
      at: Date.now(),
    });
    const behave = this.#script.length > 1 ? this.#script.shift() : this.#script[0];
    behave?.(request, response, body);
  }
}
