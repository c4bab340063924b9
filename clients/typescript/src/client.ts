// The client that people type. Every method is one operation of the contract, or a few of them.

import { TaskFailedError, UnavailableError } from './errors.js';
import { type EventOf, type Listener, Listeners } from './events.js';
import { createClient } from './generated/client/index.js';
import type * as api from './generated/index.js';
import * as sdk from './generated/index.js';
import { iterate } from './iteration.js';
import {
  type CallOptions,
  type ConnectOptions,
  type NewTask,
  type SubmitOptions,
  type TaskQueueClientOptions,
  type WaitOptions,
  newIdempotencyKey,
  toRequest,
} from './options.js';
import { findWebSocket } from './socket.js';
import { EventStream, type StreamOptions, type StreamSource } from './stream.js';
import { Transport } from './transport.js';
import { waitForEnd } from './waiting.js';

const TIMEOUT_MS = 30_000;
const WAIT_MS = 300_000;
const RETRIES = 5;

type SearchQuery = NonNullable<api.SearchTasksData['query']>;
type DeadLetterQuery = NonNullable<api.ListDeadLettersData['query']>;
type EventQuery = NonNullable<api.ListEventsData['query']>;

export class TaskQueueClient {
  readonly #baseUrl: string;
  readonly #options: TaskQueueClientOptions;
  readonly #transport: Transport;
  readonly #client: ReturnType<typeof createClient>;
  readonly #listeners: Listeners;
  #stream: EventStream | undefined;

  constructor(baseUrl: string, options: TaskQueueClientOptions = {}) {
    this.#baseUrl = baseUrl.replace(/\/+$/, '');
    this.#options = options;
    const send = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.#transport = new Transport(send, options.token ?? options.apiKey);
    this.#client = createClient({ baseUrl: this.#baseUrl, headers: { ...options.headers } });
    this.#listeners = new Listeners((error) => this.#report(error));
  }

  // Tasks

  /** Submit a task. It is stored when this returns, and stored once, however often it was sent. */
  async createTask(task: NewTask, options: SubmitOptions = {}): Promise<api.Task> {
    const headers = { 'Idempotency-Key': options.idempotencyKey ?? newIdempotencyKey() };
    const call = this.#call(options);
    return (await sdk.createTask({ ...call, headers, body: toRequest(task) })).data;
  }

  /** Submit up to 1000 tasks. The answer says of each whether it was accepted. */
  async createTasks(
    tasks: readonly NewTask[],
    options: SubmitOptions = {},
  ): Promise<api.CreatedTasks> {
    const headers = { 'Idempotency-Key': options.idempotencyKey ?? newIdempotencyKey() };
    const body = { tasks: tasks.map(toRequest) };
    return (await sdk.createTasks({ ...this.#call(options), headers, body })).data;
  }

  async getTask(taskId: string, options: CallOptions = {}): Promise<api.Task> {
    return (await sdk.getTask({ ...this.#call(options), path: { task_id: taskId } })).data;
  }

  /** Return the task when it has ended, however that may be. */
  async waitForTask(taskId: string, options: WaitOptions = {}): Promise<api.Task> {
    const { signal, timeout = WAIT_MS } = options;
    const path = { task_id: taskId };
    const patience = this.#options.timeout ?? TIMEOUT_MS;
    const get = async (wait: number): Promise<api.Task> => {
      const call = this.#call({ ...(signal && { signal }), timeout: patience + 1000 * wait });
      return (await sdk.getTask({ ...call, path, query: { wait } })).data;
    };
    return waitForEnd(get, taskId, timeout, signal);
  }

  /** Return what the task's handler returned, when it has; fails when it never will. */
  async getResult(taskId: string, options: WaitOptions = {}): Promise<unknown> {
    const task = await this.waitForTask(taskId, options);
    if (task.state !== 'completed') throw new TaskFailedError(task);
    return task.result;
  }

  /** Cancel a task that waits; with `running` also ask the worker of one that runs to stop it. */
  async cancelTask(
    taskId: string,
    options: CallOptions & { readonly running?: boolean } = {},
  ): Promise<api.Task> {
    const query = options.running === undefined ? {} : { running: options.running };
    const path = { task_id: taskId };
    return (await sdk.cancelTask({ ...this.#call(options), path, query })).data;
  }

  /** Send a task that failed or was cancelled back to its queue. */
  async retryTask(taskId: string, options: CallOptions = {}): Promise<api.TaskRequeued> {
    return (await sdk.retryTask({ ...this.#call(options), path: { task_id: taskId } })).data;
  }

  /** Return the failed attempts of a task, the oldest first. */
  async listAttempts(taskId: string, options: CallOptions = {}): Promise<api.Attempt[]> {
    const path = { task_id: taskId };
    return (await sdk.listAttempts({ ...this.#call(options), path })).data.items;
  }

  /** Return one page of the tasks that fit. */
  async searchTasks(filter: SearchQuery = {}, options: CallOptions = {}): Promise<api.TaskPage> {
    return (await sdk.searchTasks({ ...this.#call(options), query: filter })).data;
  }

  /** Yield all tasks that fit, asking for a page when the one before is used up. */
  async *listTasks(
    filter: SearchQuery = {},
    options: CallOptions = {},
  ): AsyncGenerator<api.Task, void, undefined> {
    for (let query: SearchQuery | undefined = filter; query; ) {
      const page: api.TaskPage = await this.searchTasks(query, options);
      yield* page.items;
      query = page.next_cursor ? { ...query, cursor: page.next_cursor } : undefined;
    }
  }

  /** Return what live workers handle. */
  async listTaskTypes(options: CallOptions = {}): Promise<api.TaskType[]> {
    return (await sdk.listTaskTypes(this.#call(options))).data.items;
  }

  // Queues

  /** Return the depths of all priorities. */
  async getQueueStats(options: CallOptions = {}): Promise<api.QueueStats> {
    return (await sdk.getQueueStats(this.#call(options))).data;
  }

  /** Return the same as `getQueueStats`, for those who may do everything. */
  async getQueues(options: CallOptions = {}): Promise<api.QueueStats> {
    return (await sdk.listQueues(this.#call(options))).data;
  }

  /** Cancel all waiting tasks of a priority. */
  async purgeQueue(priority: api.Priority, options: CallOptions = {}): Promise<api.QueuePurged> {
    return (await sdk.purgeQueue({ ...this.#call(options), path: { priority } })).data;
  }

  /** Start no task of a priority until it is resumed. */
  async pauseQueue(priority: api.Priority, options: CallOptions = {}): Promise<api.QueueChanged> {
    return (await sdk.pauseQueue({ ...this.#call(options), path: { priority } })).data;
  }

  async resumeQueue(priority: api.Priority, options: CallOptions = {}): Promise<api.QueueChanged> {
    return (await sdk.resumeQueue({ ...this.#call(options), path: { priority } })).data;
  }

  // Workers

  async listWorkers(options: CallOptions = {}): Promise<api.WorkerList> {
    return (await sdk.listWorkers(this.#call(options))).data;
  }

  async getWorker(workerId: string, options: CallOptions = {}): Promise<api.WorkerDetail> {
    return (await sdk.getWorker({ ...this.#call(options), path: { worker_id: workerId } })).data;
  }

  /** Stop a worker from taking new tasks. */
  async pauseWorker(workerId: string, options: CallOptions = {}): Promise<api.WorkerChanged> {
    return (await sdk.pauseWorker({ ...this.#call(options), path: { worker_id: workerId } })).data;
  }

  async resumeWorker(workerId: string, options: CallOptions = {}): Promise<api.WorkerChanged> {
    return (await sdk.resumeWorker({ ...this.#call(options), path: { worker_id: workerId } })).data;
  }

  // Dead letters

  /** Return one page of dead letters, the newest first, and how many there are. */
  async listDlq(
    filter: DeadLetterQuery = {},
    options: CallOptions = {},
  ): Promise<api.DeadLetterList> {
    return (await sdk.listDeadLetters({ ...this.#call(options), query: filter })).data;
  }

  /** Yield all dead letters that fit. */
  async *deadLetters(
    filter: DeadLetterQuery = {},
    options: CallOptions = {},
  ): AsyncGenerator<api.DeadLetter, void, undefined> {
    for (let query: DeadLetterQuery | undefined = filter; query; ) {
      const page: api.DeadLetterList = await this.listDlq(query, options);
      yield* page.entries;
      query = page.next_cursor ? { ...query, cursor: page.next_cursor } : undefined;
    }
  }

  /** Count dead letters by type, reason and error. */
  async listDlqGroups(
    filter: NonNullable<api.ListDeadLetterGroupsData['query']> = {},
    options: CallOptions = {},
  ): Promise<api.DeadLetterGroupList> {
    return (await sdk.listDeadLetterGroups({ ...this.#call(options), query: filter })).data;
  }

  /** Send one dead letter back to its queue, with another payload if there is one. */
  async retryDlqTask(
    taskId: string,
    options: CallOptions & { readonly payload?: api.Payload } = {},
  ): Promise<void> {
    const { payload } = options;
    const body = { task_id: taskId, ...(payload && { payload }) };
    await sdk.retryDeadLetters({ ...this.#call(options), body });
  }

  /** Send all dead letters that fit back to their queues; returns how many they are. */
  async retryDlqTasks(
    filter: api.DeadLetterFilter,
    options: CallOptions & { readonly dryRun?: boolean } = {},
  ): Promise<number> {
    const body = { filter, ...(options.dryRun && { dry_run: true }) };
    return countOf((await sdk.retryDeadLetters({ ...this.#call(options), body })).data);
  }

  /** Send all dead letters back to their queues; returns how many they are. */
  async retryAllDlqTasks(options: CallOptions = {}): Promise<number> {
    const body = { retry_all: true } as const;
    return countOf((await sdk.retryDeadLetters({ ...this.#call(options), body })).data);
  }

  /** Give all dead letters up; returns how many they were. */
  async clearDlq(options: CallOptions = {}): Promise<number> {
    return (await sdk.clearDeadLetters(this.#call(options))).data.cleared_count;
  }

  // The service

  /** Return how the service is. That it has no broker is an answer too; no answer is an error. */
  async healthCheck(options: CallOptions = {}): Promise<api.Health | api.Unhealthy> {
    try {
      return (await sdk.healthCheck(this.#call({ retries: 0, ...options }))).data;
    } catch (error) {
      if (error instanceof UnavailableError && 'redis' in error.body) {
        return error.body as api.Unhealthy;
      }
      throw error;
    }
  }

  /** Return the metrics in Prometheus' text format. */
  async getMetrics(options: CallOptions = {}): Promise<string> {
    return (await sdk.getMetrics({ ...this.#call(options), parseAs: 'text' })).data;
  }

  // Events

  /** Return one page of past events. */
  async listEvents(query: EventQuery = {}, options: CallOptions = {}): Promise<api.EventPage> {
    return (await sdk.listEvents({ ...this.#call(options), query })).data;
  }

  /** Bring events to the listeners from now on, or from `since` on, until `closeWebSocket`. */
  async connectWebSocket(options: ConnectOptions = {}): Promise<void> {
    if (this.#stream) return this.#stream.opened;
    const tell = (event: api.Event): void => this.#listeners.tell(event);
    const stream = new EventStream(this.#source(), options, tell);
    this.#stream = stream;
    const end = (error?: unknown): void => {
      if (this.#stream === stream) this.#stream = undefined;
      if (!stream.hasOpened) return;
      if (options.onClose) options.onClose(error);
      else if (error !== undefined) this.#report(error);
    };
    stream.done.then(() => end(), end);
    await stream.opened;
  }

  /** Call a listener with every event of one type; returns what ends that. */
  onEvent<T extends api.EventType>(type: T, listener: Listener<EventOf<T>>): () => void {
    return this.#listeners.on(type, listener);
  }

  /** Call a listener with every event; there may be types that this version does not know. */
  onAnyEvent(listener: Listener<api.Event>): () => void {
    return this.#listeners.onAny(listener);
  }

  /** Limit the connection to these types and those subscribed before; returns all of them. */
  async subscribeToEvents(types: readonly api.EventType[]): Promise<readonly api.EventType[]> {
    return this.#connected().subscribe(types);
  }

  /** Take these types no more; returns those that are left. */
  async unsubscribeFromEvents(types: readonly api.EventType[]): Promise<readonly api.EventType[]> {
    return this.#connected().unsubscribe(types);
  }

  closeWebSocket(): void {
    this.#stream?.close();
    this.#stream = undefined;
  }

  get isWebSocketConnected(): boolean {
    return this.#stream?.isConnected ?? false;
  }

  /**
   * Yield events over a connection of its own, from the first step of the loop on, or from `since`
   * on; it ends with the loop, or quietly with its signal. A loop that is slow misses none.
   */
  events<T extends api.EventType = api.EventType>(
    options: StreamOptions<T> = {},
  ): AsyncGenerator<EventOf<T | 'events.gap'>, void, undefined> {
    const source = this.#source();
    const events = iterate((take) => new EventStream(source, options, take));
    return events as AsyncGenerator<EventOf<T | 'events.gap'>, void, undefined>;
  }

  // Inside

  #timeout(options: CallOptions): number {
    return options.timeout ?? this.#options.timeout ?? TIMEOUT_MS;
  }

  /** Return what every call of the generated code is given. */
  #call(options: CallOptions) {
    const timeout = this.#timeout(options);
    const retries = options.retries ?? this.#options.retries ?? RETRIES;
    return {
      client: this.#client,
      fetch: this.#transport.fetcher({ timeout, retries }),
      throwOnError: true as const,
      ...(options.signal && { signal: options.signal }),
    };
  }

  #source(): StreamSource {
    return {
      timeout: this.#timeout({}),
      // Who connects tries again by itself.
      look: async (after) => (await this.listEvents({ after, limit: 1 }, { retries: 0 })).next_cursor,
      address: async (query) => {
        const credential = await this.#transport.credential();
        // The only way that browsers have.
        if (credential) query.set('token', credential);
        const url = `${this.#baseUrl.replace(/^http/, 'ws')}/ws?${query.toString()}`;
        return { make: this.#options.webSocket ?? (await findWebSocket()), url };
      },
    };
  }

  #connected(): EventStream {
    if (!this.#stream) throw new Error('the WebSocket is not connected: connectWebSocket first');
    return this.#stream;
  }

  #report(error: unknown): void {
    if (this.#options.onError) this.#options.onError(error);
    else console.error(error);
  }
}

function countOf(answer: api.DeadLettersRequeued): number {
  if (!('retried_count' in answer)) return 1;
  return answer.matched_count ?? answer.retried_count;
}
