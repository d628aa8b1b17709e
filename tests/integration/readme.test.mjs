// SPDX-License-Identifier: Apache-2.0
// The first conversation of README.md, as a reader would type it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, it } from 'node:test';
import { Host } from './lib/host.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const [, section] = readFileSync(join(here, '../../README.md'), 'utf8').split('\n## The first conversation\n');
const commands = section.match(/(^ {4}.*\n)+/m)[0];
const program = section.match(/^```js\n([^`]*)^```/m)[1];

let host, directory;
before(async () => {
  host = await Host.boot();
  directory = mkdtempSync(join(tmpdir(), 'stonechat-readme-'));
  symlinkSync(join(here, 'node_modules'), join(directory, 'node_modules'));
  writeFileSync(join(directory, 'grace.mjs'), program);
});
after(async () => {
  if (directory) rmSync(directory, { recursive: true });
  await host?.stop();
});

function run(file, args) {
  return new Promise((resolve) => {
    execFile(file, args, { cwd: directory }, (error, stdout, stderr) => resolve({ stdout, stderr }));
  });
}

// What a program that goes on for ever prints first.
function firstOutput(file, args) {
  return new Promise((resolve) => {
    const child = execFile(file, args, { cwd: directory, timeout: 20_000 }, (error, stdout, stderr) => resolve({ stdout, stderr }));
    child.stdout.once('data', () => child.kill());
  });
}

it('the commands and the program of the README do what it says', async () => {
  const typed = await run('/bin/bash', ['-euo', 'pipefail', '-c', commands]);
  assert.equal(typed.stderr, '');
  const answers = typed.stdout.trim().split(/\n(?=\{)/).map((text) => JSON.parse(text));
  assert.deepEqual(answers.slice(0, 2).map(({ user }) => user.username), ['ada', 'grace']);
  assert.equal(answers[2].seq, 1);
  assert.deepEqual(answers[3].messages.map(({ text }) => text), ['Hello, Grace!']);

  const { stdout, stderr } = await firstOutput(process.execPath, ['grace.mjs']);
  assert.deepEqual([stdout, stderr], [`${answers[2].conversation} 2 Hello, Ada.\n`, '']);
});
