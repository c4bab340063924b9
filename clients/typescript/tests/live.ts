// The service itself, from this checkout's .venv: broker, server and worker, each its own process.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '../../..');
/** Keys of the settings: they may do everything. The README's samples use the first. */
export const KEYS = ['your-api-key', 'another-key'] as const;
/** Signs tokens. */
export const SECRET = 'a secret of tokens with 32 bytes.';

const BIN = process.env['TASKQUEUE_BIN'] ?? join(ROOT, '.venv/bin');
const START_MS = 30_000;

/** Call until the answer is true. */
export async function until(condition: () => Promise<boolean> | boolean, what: string): Promise<void> {
  const deadline = Date.now() + START_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((tick) => setTimeout(tick, 20));
  }
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

export class Service {
  readonly #folder = mkdtempSync(join(tmpdir(), 'taskqueue-'));
  readonly #processes = new Map<string, ChildProcess>();

  private constructor(
    readonly port: number,
    readonly brokerPort: number,
  ) {}

  static async start(): Promise<Service> {
    const service = new Service(await freePort(), await freePort());
    try {
      service.#spawn('taskqueue', 'broker');
      await until(() => /redis:\/\//.test(service.log('taskqueue')), 'a broker');
      await service.startServer();
      service.#spawn('taskqueue-worker');
      await until(async () => (await service.#get('/admin/workers'))?.['count'] === 1, 'a worker');
    } catch (error) {
      const logs = [...service.#processes.keys()].map((name) => service.log(name)).join('\n');
      await service.stop();
      throw new Error(`the service did not start\n${logs}`, { cause: error });
    }
    return service;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Start the server, at the same address as before. */
  async startServer(): Promise<void> {
    this.#spawn('taskqueue-server', '--port', String(this.port));
    await until(async () => (await this.#get('/health/ready')) !== undefined, 'a server');
  }

  /** Stop the server; broker and worker go on. */
  async stopServer(): Promise<void> {
    await this.#stop('taskqueue-server');
  }

  async stop(): Promise<void> {
    for (const name of ['taskqueue-worker', 'taskqueue-server', 'taskqueue']) await this.#stop(name);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  log(name: string): string {
    return readFileSync(join(this.#folder, `${name}.log`), 'utf8');
  }

  #spawn(name: string, ...flags: string[]): void {
    const log = openSync(join(this.#folder, `${name}.log`), 'a');
    const inherited = Object.entries(process.env).filter(([key]) => !key.includes('TASKQUEUE'));
    const env: NodeJS.ProcessEnv = {
      ...Object.fromEntries(inherited),
      TASKQUEUE_AUTH_ENABLED: 'true',
      TASKQUEUE_AUTH_APIKEYS: KEYS.join(','),
      TASKQUEUE_AUTH_JWTSECRET: SECRET,
      TASKQUEUE_QUEUE_RETRYINITIALBACKOFF: '50ms',
    };
    // The others find the broker through its folder, which holds its password too.
    if (name === 'taskqueue') env['TASKQUEUE_REDIS_ADDR'] = `127.0.0.1:${this.brokerPort}`;
    const options = { cwd: this.#folder, env };
    const started = spawn(join(BIN, name), flags, { ...options, stdio: ['ignore', log, log] });
    closeSync(log);
    this.#processes.set(name, started);
  }

  async #stop(name: string): Promise<void> {
    const process = this.#processes.get(name);
    this.#processes.delete(name);
    if (!process || process.exitCode !== null) return;
    const exited = once(process, 'exit');
    process.kill('SIGTERM');
    await exited;
  }

  async #get(path: string): Promise<Record<string, unknown> | undefined> {
    try {
      const headers = { 'X-API-Key': KEYS[0] };
      const response = await fetch(this.url + path, { headers });
      return response.ok ? ((await response.json()) as Record<string, unknown>) : undefined;
    } catch {
      return undefined;
    }
  }
}
