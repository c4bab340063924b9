// Programs that the tests compile under `strict` and run in a Node of their own.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

import { inject } from 'vitest';

import { KEYS } from './live.js';

/** Where they are: inside the package, whose name they may import therefore. */
export const BUILD = resolve(import.meta.dirname, '../build');
const TSC = resolve(import.meta.dirname, '../node_modules/typescript/bin/tsc');
const REDIRECT = resolve(import.meta.dirname, 'redirect.mjs');
const PROGRAM_MS = 30_000;
const run = promisify(execFile);

/** Compile; fails with what the compiler says. */
export async function compile(...flags: string[]): Promise<void> {
  try {
    await run(process.execPath, [TSC, ...flags], { cwd: resolve(BUILD, '..') });
  } catch (error) {
    throw new Error(String((error as { stdout: string }).stdout), { cause: error });
  }
}

/** Compile programs by name; returns what they have become. */
export async function compileAll(programs: Readonly<Record<string, string>>): Promise<string> {
  const folder = join(BUILD, Object.keys(programs).join('-'));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(programs)) {
    writeFileSync(join(folder, `${name}.ts`), text);
  }
  const files = Object.keys(programs).map((name) => join(folder, `${name}.ts`));
  const language = ['--strict', '--target', 'ES2022', '--module', 'NodeNext'];
  await compile(...language, '--lib', 'ES2022,DOM,DOM.Iterable', '--types', 'node', ...files);
  return folder;
}

function environment(): NodeJS.ProcessEnv {
  const own = { SERVICE_PORT: String(inject('port')), TQ_SERVER: inject('url'), TQ_API_KEY: KEYS[0] };
  return { ...process.env, ...own };
}

/** Run to the end; returns what it printed, fails with an exit code that is not 0. */
export async function runToEnd(file: string, cwd: string = BUILD): Promise<string> {
  const options = { env: environment(), timeout: PROGRAM_MS, cwd };
  return (await run(process.execPath, ['--import', REDIRECT, file], options)).stdout;
}

/** Start, to be killed by the test. */
export function start(file: string): ChildProcess {
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  return spawn(process.execPath, ['--import', REDIRECT, file], {
    env: environment(),
    stdio: [...stdio],
  });
}
