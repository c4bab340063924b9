// What is published works alone: in plain Node, and in a bundle for browsers.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { afterAll, beforeAll, expect, it } from 'vitest';
import { build } from 'vite';

import { compile, runToEnd } from './programs.js';

const PACKAGE = resolve(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'package-'));

/** Submits, and says whether there is a WebSocket. */
const PROGRAM = `
import { TaskQueueClient } from '@task-queue/client';
const client = new TaskQueueClient('http://localhost:8080', { apiKey: 'your-api-key' });
console.log((await client.createTask({ type: 'echo' })).state);
const connected = client.connectWebSocket().then(() => 'connected', (error) => error.message);
console.log(await connected);
client.closeWebSocket();
`;
const EXPECTED =
  typeof WebSocket === 'function' ? /^pending\nconnected\n$/ : /^pending\n.*npm install ws\n$/;

beforeAll(() => compile('-p', '.'));
afterAll(() => rmSync(folder, { recursive: true }));

it('loads in plain Node, with no other package', async () => {
  const destination = join(folder, 'node_modules/@task-queue/client');
  mkdirSync(destination, { recursive: true });
  const flags = ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder];
  execFileSync('npm', flags, { cwd: PACKAGE });
  const [archive = ''] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  execFileSync('tar', ['-xzf', join(folder, archive), '--strip-components=1', '-C', destination]);
  expect(readdirSync(destination).sort()).toEqual(['README.md', 'dist', 'package.json']);
  writeFileSync(join(folder, 'plain.mjs'), PROGRAM);
  expect(await runToEnd(join(folder, 'plain.mjs'), folder)).toMatch(EXPECTED);
});

it('can be bundled for browsers: nothing of Node is in it', async () => {
  const entry = join(folder, 'entry.mjs');
  writeFileSync(entry, PROGRAM);
  await build({
    root: folder,
    logLevel: 'error',
    configFile: false,
    resolve: { alias: { '@task-queue/client': join(PACKAGE, 'dist/index.js') } },
    build: {
      outDir: join(folder, 'bundle'),
      target: 'es2022',
      minify: true,
      lib: { entry, formats: ['es'], fileName: () => 'bundle.mjs' },
    },
  });
  const bundle = join(folder, 'bundle/bundle.mjs');

  const text = readFileSync(bundle, 'utf8');
  expect(text).not.toMatch(/\bfrom\s*["']|node:|\brequire\(|\bprocess\.|\bBuffer\b/);
  expect(text.length).toBeLessThan(60_000);
  expect(await runToEnd(bundle, folder)).toMatch(EXPECTED);
});
