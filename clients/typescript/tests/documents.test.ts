// What people read is true: the sample of the original, the README, the examples.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { connect } from './clients.js';
import { ROOT, until } from './live.js';
import { BUILD, compile, compileAll, runToEnd, start } from './programs.js';

const EXAMPLES = join(ROOT, 'examples/typescript');
const README = readFileSync(join(ROOT, 'clients/typescript/README.md'), 'utf8');
const [BEGIN = '', ...SNIPPETS] = [...README.matchAll(/^```typescript\n(.*?)^```$/gms)].map(
  (found) => found[1] ?? '',
);

beforeAll(() => compile('-p', '.'));

it('the sample of the original compiles under strict and runs as it is', async () => {
  const sample = readFileSync(join(import.meta.dirname, 'sample.ts'), 'utf8');
  const program = start(join(await compileAll({ sample }), 'sample.js'));
  try {
    let printed = '';
    program.stdout?.on('data', (chunk) => (printed += String(chunk)));
    const client = connect();
    await until(async () => {
      await client.createTask({ type: 'echo' });
      return /Task completed: \{\s+task_id: '[0-9a-f-]{36}'/.test(printed);
    }, 'the completion of a task');
    expect(program.exitCode).toBeNull();
  } finally {
    program.kill();
  }
});

it('the ten calls of the README do what they say', async () => {
  expect(SNIPPETS).toHaveLength(10);
  const blocks = SNIPPETS.map((text, n) => `console.log('## ${n}');\n{\n${text}}\n`);
  const readme = [BEGIN, ...blocks].join('\n');
  const printed = await runToEnd(join(await compileAll({ readme }), 'readme.js'));
  const parts = printed.split(/^## \d\n/m).slice(1);
  expect(parts).toHaveLength(10);
  const [submit, wait, schedule, many, find, listen, loop, letters, look, wrong] = parts;
  expect(submit).toMatch(/^[0-9a-f-]{36} pending\n$/);
  expect(wait).toMatch(/echoed: \{ n: 1 \}/);
  expect(schedule).toBe('scheduled\ncancelled\n');
  expect(many).toMatch(/^\[\n?( *'[0-9a-f-]{36}',?\n?){2}\] 0\n$/);
  expect(find).toMatch(/^([0-9a-f-]{36} \S+Z\n)+$/);
  expect(listen).toMatch(/^([0-9a-f-]{36} \d+\n)+$/);
  expect(loop).toBe('task.submitted\ntask.started\ntask.completed\n');
  // Other tests' letters may be among them.
  expect(letters).toMatch(/^([0-9a-f-]{36} .*\n)+[1-9]\d* sent back\n$/);
  expect(letters).toMatch(/^[0-9a-f-]{36} .*intentional.*$/m);
  expect(look).toMatch(/^\[ '\w+' \] \d+ \d+\n$/);
  expect(wrong).toMatch(/intentional failure/);
});

it('the README names every method', async () => {
  const client = connect();
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(client)).slice(1);
  const missing = names.filter((name) => !new RegExp(`\\b${name}\\b`).test(README));
  expect(missing).toEqual([]);
});

describe('an example', () => {
  beforeAll(() => compile('-p', EXAMPLES, '--outDir', join(BUILD, 'examples')));

  const expected: Record<string, RegExp> = {
    submit: /^the service is \w+\n(submitted \S+ with the priority \w+\nnow it is \w+\n){4}$/,
    scheduled: /^\S+ is scheduled for \S+Z\nit is completed, started at \S+Z\n$/,
    wait: /^result: \{[^}]+\}\nfailed: dead_letter .+\nnot waited for: .+ in time: it is \w+\n$/,
    events: /task\.completed\n(.*\n)*task\.submitted -> task\.started -> task\.completed\n$/,
    cancel: /^\S+ is cancelled\nit cannot be cancelled again: .+\n\S+ is cancelled\n$/,
    'dlq-replay': /would be sent back\n[1-9]\d* are sent back\n\S+ is dead_letter again\nwith .+still/,
  };

  it('is looked at here', () => {
    const found = readdirSync(EXAMPLES).filter((name) => name.endsWith('.ts'));
    expect(found.sort()).toEqual(Object.keys(expected).map((name) => `${name}.ts`).sort());
  });

  it.each(Object.keys(expected))('%s', async (name) => {
    expect(await runToEnd(join(BUILD, 'examples', `${name}.js`))).toMatch(expected[name] ?? /^$/);
  });
});
