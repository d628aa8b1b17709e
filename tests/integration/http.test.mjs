// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 by the letter, on the installed package. The table of all cases is left in build/conformance-http.txt.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { conversations, LAST, sections, summary } from '../conformance/http-cases.mjs';
import { RawHttp } from '../conformance/raw-http.mjs';
import { Table } from '../conformance/table.mjs';
import { Host } from './lib/host.mjs';

const PORT = 8080;
const table = new Table();
let host;

before(async () => {
  host = await Host.boot({
    files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Api]\nLoginRate=0\nRequestTimeoutSec=2s\nMaxConnectionsPerAddress=0\n' },
  });
  table.rows.length = 0;
});
after(async () => {
  table.write('http');
  await host?.stop();
});

async function find(talk) {
  const client = await RawHttp.connect(PORT);
  try {
    return await talk(client);
  } finally {
    client.close();
  }
}

async function outcome(talk, check) {
  try {
    const responses = await find(talk);
    const problem = responses.length > 0 && check?.(responses);
    return problem ? `${summary(responses)}: ${problem}` : summary(responses);
  } catch (error) {
    return `${error.message}${error.cause ? `: ${error.cause.message}` : ''}`;
  }
}

function assertAll(rows) {
  assert.deepEqual(rows.filter(({ ok }) => !ok).map(({ name, expected, got }) => `${name}: ${expected} expected, got ${got}`), []);
}

describe('HTTP/1.1', () => {
  for (const [section, cases] of Object.entries(sections)) {
    it(section, async () => {
      const rows = [];
      for (const [name, text, expected, check, heads] of cases) {
        const got = await outcome((client) => client.send(text + LAST).responses({ heads }), check);
        table.add(section, name, expected, got);
        rows.push(table.rows.at(-1));
      }
      assertAll(rows);
    });
  }
  for (const [section, cases] of Object.entries(conversations)) {
    it(`${section}, in turns`, async () => {
      // At the same time: most of these wait for the server's patience.
      const got = await Promise.all(cases.map(([, talk]) => outcome(talk)));
      cases.forEach(([name, , expected], i) => table.add(section, name, expected, got[i]));
      assertAll(table.rows.slice(-cases.length));
    });
  }
});
