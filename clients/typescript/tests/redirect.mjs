// Loaded before a document's code: the service of the tests is at another port than the documents say.

import { Socket } from 'node:net';

const connect = Socket.prototype.connect;

Socket.prototype.connect = function redirected(...args) {
  const [target] = Array.isArray(args[0]) ? args[0] : args;
  if (Number(target?.port) === 8080) {
    Object.assign(target, { host: '127.0.0.1', port: Number(process.env.SERVICE_PORT) });
  }
  return Reflect.apply(connect, this, args);
};
