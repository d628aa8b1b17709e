// SPDX-License-Identifier: Apache-2.0
// Replays the transcript of docs/protocol.md: says what its clients say, and compares what they hear.
import assert from 'node:assert/strict';
import WebSocket from 'ws';

// The lines of the first ```transcript block: {number, client, arrow, text}, arrow one of → ← closes closed.
export function parseTranscript(markdown) {
  const lines = markdown.split('\n');
  const begin = lines.indexOf('```transcript');
  assert.notEqual(begin, -1, 'there is no transcript');
  const steps = [];
  for (let i = begin + 1; lines[i] !== '```'; i++) {
    if (!lines[i].trim() || lines[i].startsWith('#')) continue;
    const [, client, arrow, text] = lines[i].match(/^(\S+) (→|←|closes|closed) ?(.*)$/) ?? assert.fail(`line ${i + 1}: ${lines[i]}`);
    steps.push({ number: i + 1, client, arrow, text });
  }
  return steps;
}

const isName = (value) => typeof value === 'string' && /^<[^<>]+>$/.test(value);

// Does the value fit the pattern? New names are noted in `names`.
function fits(pattern, value, names) {
  if (isName(pattern)) {
    if (pattern === '<*>') return true;
    if (!(pattern in names)) names[pattern] = value;
    return names[pattern] === value;
  }
  if (typeof pattern === 'string') return fill(pattern, names) === value;
  if (pattern === null || typeof pattern !== 'object') return pattern === value;
  if (value === null || typeof value !== 'object' || Array.isArray(pattern) !== Array.isArray(value)) return false;
  const keys = Object.keys(pattern);
  return keys.length === Object.keys(value).length
    && keys.every((key) => fill(key, names) in value && fits(pattern[key], value[fill(key, names)], names));
}

const fill = (text, names) => text.replace(/<[^<>*]+>/g, (name) => names[name] ?? name);

class Connection {
  heard = [];
  closed = undefined;
  #wake = () => {};

  constructor(url) {
    this.socket = new WebSocket(url);
    this.open = new Promise((resolve, reject) => {
      this.socket.on('open', resolve);
      this.socket.on('error', reject);
    });
    this.socket.on('message', (data) => {
      this.heard.push(...data.toString().split('\n').filter((line) => line !== '{}').map((line) => JSON.parse(line)));
      this.#wake();
    });
    this.socket.on('close', (code) => {
      this.closed = code;
      this.#wake();
    });
  }

  async until(what, condition, seconds = 5) {
    const deadline = setTimeout(() => this.#wake(true), seconds * 1000);
    try {
      for (;;) {
        const value = condition();
        if (value !== undefined) return value;
        const late = await new Promise((resolve) => { this.#wake = resolve; });
        assert.ok(!late, `${what}; heard instead: ${JSON.stringify(this.heard)}, closed: ${this.closed}`);
      }
    } finally {
      clearTimeout(deadline);
    }
  }
}

// `names` holds what is known before: '<ann>', '<ann.token>', …
export async function replay(steps, url, names) {
  const connections = {};
  const actions = {
    '→': async ({ client, text }) => {
      connections[client] ??= new Connection(url);
      await connections[client].open;
      connections[client].socket.send(fill(text, names));
    },
    '←': async ({ number, client, text }) => {
      const connection = connections[client];
      const pattern = JSON.parse(text);
      await connection.until(`line ${number}: ${text}`, () => {
        const index = connection.heard.findIndex((value) => {
          const attempt = { ...names };
          return fits(pattern, value, attempt) && Object.assign(names, attempt);
        });
        return index < 0 ? undefined : connection.heard.splice(index, 1);
      });
    },
    closes: async ({ client }) => {
      connections[client].socket.close();
      await connections[client].until('it closes', () => connections[client].closed);
      assert.deepEqual(connections[client].heard, [], `${client} heard more than is told`);
      delete connections[client];
    },
    closed: async ({ number, client, text }) => {
      const code = await connections[client].until(`line ${number}: the end`, () => connections[client].closed);
      assert.equal(code, Number(text), `line ${number}`);
    },
  };
  try {
    for (const step of steps) await actions[step.arrow](step);
    for (const [client, { heard }] of Object.entries(connections)) assert.deepEqual(heard, [], `${client} heard more than is told`);
  } finally {
    for (const { socket } of Object.values(connections)) socket.terminate();
  }
}
