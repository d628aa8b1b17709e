// SPDX-License-Identifier: Apache-2.0
// REST beside clients that begin and do not end, that leave before the answer, and while the role is restarted.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { RawHttp } from '../conformance/raw-http.mjs';
import { newUser } from './lib/api.mjs';
import { Host, until } from './lib/host.mjs';

const API = 'stonechat-api.service';
const MIB = 1 << 20;
const PENDING = 16 * MIB; // PendingMemory=
const BODY = 256 * 1024; // MaxBody=

let host, ann, bo, conversation;

before(async () => {
  host = await Host.boot({
    files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Api]\nLoginRate=0\nMaxConnectionsPerAddress=0\nRequestTimeoutSec=30s\n[Limits]\nUserRate=0\nAddressRate=0\n' },
  });
  [ann, bo] = [await newUser(host.api), await newUser(host.api)];
  conversation = await ann.openDirect(bo.user.id);
});
after(() => host?.stop());

const statistics = async (role = 'Api') => JSON.parse(await host.call('busctl', 'get-property', '--json=short',
  `org.stonechat.${role}`, '/org/stonechat/Role', 'org.stonechat.Role1', 'Statistics')).data;

async function memory() {
  const pid = await host.property(API, 'MainPID');
  const text = await host.call('cat', `/proc/${pid}/status`);
  return Number(/RssAnon:\s+(\d+) kB/.exec(text)[1]) * 1024;
}

// Users who ask one thing after the other until stop(): how many answers they had.
function goodClients(n) {
  let stopped = false;
  let answers = 0;
  const run = async () => {
    while (!stopped) {
      const text = `good ${randomUUID()}`;
      await ann.send(conversation, text);
      await ann.ask('GET', '/v1/users/me');
      answers += 2;
    }
  };
  const running = Promise.all(Array.from({ length: n }, run));
  running.catch(() => {}); // it is awaited in the end
  return {
    get answers() { return answers; },
    async stop() {
      stopped = true;
      await running;
      return answers;
    },
  };
}

// n connections that each send this and then wait. All bytes have left this process, or the server has refused.
async function flood(n, text) {
  const clients = [];
  for (let i = 0; i < n; i += 50) {
    const some = await Promise.all(Array.from({ length: 50 }, () => RawHttp.connect(8080)));
    await Promise.all(some.map((client) => new Promise((resolve) => {
      client.socket.on('close', resolve);
      client.socket.write(text, 'latin1', resolve);
    })));
    clients.push(...some);
  }
  return clients;
}

describe('requests that are not complete', () => {
  const head = 'POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n';
  for (const [what, n, text] of [
    ['bodies', 1000, `${head}Content-Length: ${BODY}\r\n\r\n${'x'.repeat(BODY - 1)}`],
    ['chunked bodies', 1000, `${head}Transfer-Encoding: chunked\r\n\r\n${BODY.toString(16)}\r\n${'x'.repeat(BODY - 1)}`],
    ['heads', 1900, `${head}X: ${'x'.repeat(16000)}`],
  ]) {
    it(`${n} ${what} share a budget, and others notice nothing`, async (t) => {
      await ann.send(conversation, 'before');
      const [begin, evictedBefore] = [await memory(), (await statistics()).pending_evicted];
      const good = goodClients(4);
      let most = 0;
      let flooding = true;
      const measuring = (async () => {
        while (flooding) most = Math.max(most, await memory());
      })();
      const clients = await flood(n, text);
      await until('all of them have come', 30, async () => {
        const { pending_bytes, pending_evicted } = await statistics();
        return pending_bytes <= PENDING && pending_bytes > PENDING / 2 && pending_evicted > evictedBefore;
      });
      const { pending_evicted } = await statistics();
      flooding = false;
      await measuring;
      // Who was refused knows why.
      const first = await clients[0].response();
      assert.equal(first.status, 503);
      assert.equal(first.body.code, 'overloaded');
      assert.equal(first.headers['retry-after'], '1');
      clients.forEach((client) => client.close());
      await until('nothing is left of them', 30, async () => (await statistics()).pending_bytes === 0);
      const answers = await good.stop();
      const end = await memory();
      t.diagnostic(`private memory ${(begin / MIB).toFixed(1)} MiB before, ${(most / MIB).toFixed(1)} at most, ${(end / MIB).toFixed(1)} after; ${pending_evicted - evictedBefore} refused; ${answers} answers to others`);
      assert.ok(answers > 0);
      if (process.env.STONECHAT_SANITIZE !== '1') {
        assert.ok(most - begin < PENDING + 12 * MIB, `${most - begin} bytes more at most`);
        assert.ok(end - begin < 6 * MIB, `${end - begin} bytes more in the end`);
      }
    });
  }
});

describe('clients that leave before the answer', () => {
  it('leave no work behind', async () => {
    const request = `GET /v1/conversations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${ann.accessToken}\r\n\r\n`;
    const cancelledBefore = (await statistics('Group')).fibers_cancelled;
    const connectionsBefore = (await statistics()).connections;
    await host.kill('stonechat-group.service', 'SIGSTOP');
    try {
      const clients = await Promise.all(Array.from({ length: 40 }, () => RawHttp.connect(8080)));
      clients.forEach((client) => client.send(request));
      await until('all wait for the group role', 10, async () => (await statistics()).requests_active === 40);
      clients.forEach((client) => client.close());
      await until('nobody works for them', 10, async () => {
        const { requests_active, fibers_running, fibers_queued, connections } = await statistics();
        return requests_active === 0 && fibers_running === 0 && fibers_queued === 0 && connections <= connectionsBefore;
      });
    } finally {
      await host.kill('stonechat-group.service', 'SIGCONT');
    }
    await ann.ask('GET', '/v1/conversations');
    const { fibers_running, fibers_cancelled } = await statistics('Group');
    assert.equal(fibers_running, 0);
    assert.ok(fibers_cancelled >= cancelledBefore);
  });
});

describe('while the role is restarted', () => {
  it('what was read is answered, and whole', async (t) => {
    const results = { answers: 0, closes: 0, unanswered: [], failures: [], acknowledged: [] };
    let stopped = false;
    const get = `GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n`;
    const post = (text) => {
      const body = JSON.stringify({ text, client_msg_id: text });
      return `POST /v1/conversations/${conversation}/messages HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${ann.accessToken}\r\n`
        + `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    };

    // One connection until it ends.
    const talk = async (kind) => {
      const client = await RawHttp.connect(8080);
      try {
        for (let last = performance.now(); !stopped;) {
          const text = randomUUID();
          const idle = performance.now() - last;
          const response = await client.send(kind === 'get' ? get : post(text)).response();
          if (!response) {
            results.unanswered.push(idle);
            return;
          }
          last = performance.now();
          results.answers++;
          if (kind === 'post' && response.status === 201) results.acknowledged.push(text);
          else if (response.status !== 200) results.failures.push(`${response.status} ${response.text}`);
          if (response.headers.connection === 'close') {
            results.closes++;
            assert.equal(await client.response(), undefined); // and so it does
            return;
          }
        }
      } catch (error) {
        results.failures.push(`${kind}: ${error.message} ${error.cause?.message ?? ''}`);
      } finally {
        client.close();
      }
    };
    const run = async (kind) => {
      while (!stopped) await talk(kind);
    };
    const running = [...Array(6).fill('get'), ...Array(6).fill('post')].map(run);
    for (let i = 0; i < 12; i++) {
      const before = results.answers;
      await until('they talk', 20, () => results.answers > before + 100);
      await host.systemctl('restart', API);
    }
    stopped = true;
    await Promise.all(running);
    t.diagnostic(`${results.answers} answers, ${results.closes} connections closed with their last one, ${results.unanswered.length} requests came too late for an answer`);
    assert.deepEqual(results.failures.slice(0, 5), []);
    // A connection that nothing comes on is closed after 0.2 s; only then a request can cross with that.
    assert.deepEqual(results.unanswered.filter((idle) => idle < 150), []);
    assert.ok(results.closes >= 12);
    const stored = (await ann.wholeHistory(conversation)).map(({ text }) => text);
    assert.equal(new Set(stored.filter((text) => /^[0-9a-f]{8}-/.test(text))).size, stored.filter((text) => /^[0-9a-f]{8}-/.test(text)).length, 'one is stored twice');
    const all = new Set(stored);
    assert.equal(results.acknowledged.filter((text) => !all.has(text)).length, 0);
  });
});
