// Where a WebSocket comes from: the platform has it, or the package `ws` is installed.

import { TaskQueueError } from './errors.js';

/** What makes a WebSocket: the platform's, that of `ws`, or another with the same interface. */
export type WebSocketFactory = new (url: string) => WebSocket;

/** Return what makes a WebSocket here; Node has its own from version 22 on. */
export async function findWebSocket(): Promise<WebSocketFactory> {
  if (typeof WebSocket === 'function') return WebSocket;
  try {
    // With a name that bundlers do not see: in what they make for browsers it is never needed.
    return ((await load('ws')) as { WebSocket: WebSocketFactory }).WebSocket;
  } catch (cause) {
    throw new TaskQueueError('there is no WebSocket here: npm install ws', { cause });
  }
}

function load(name: string): Promise<unknown> {
  return import(/* @vite-ignore */ /* webpackIgnore: true */ name);
}
