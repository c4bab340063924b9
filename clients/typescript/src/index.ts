/** Submit tasks, wait for them, follow them: the client of the task service. */

export { TaskQueueClient } from './client.js';
export * from './errors.js';
export type { EventOf, Listener } from './events.js';
export type * from './generated/index.js';
export * as sdk from './generated/index.js';
export { createClient, createConfig } from './generated/client/index.js';
export type {
  CallOptions,
  ConnectOptions,
  NewTask,
  SubmitOptions,
  TaskQueueClientOptions,
  WaitOptions,
} from './options.js';
export type { WebSocketFactory } from './socket.js';
export type { StreamOptions } from './stream.js';
export type { Credential } from './transport.js';
export { hasEnded } from './waiting.js';
