// SPDX-License-Identifier: Apache-2.0
// What one connection sends into one conversation is stored in the order in which it was sent: several messages under way, into many
// conversations that are not in memory, while the group role is restarted, killed, and cannot store anything for a moment.
// STONECHAT_ROUNDS=N in the environment kills it so many times (3).
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';
import { Talker, findFaults } from './lib/talk.mjs';

const CONFIGURATION = '[Api]\nLoginRate=0\n[Limits]\nUserRate=0\nAddressRate=0\n[Rpc]\nTimeoutSec=2s\n';
const GROUP = 'stonechat-group.service';
const LIMITS = '/etc/stonechat/stonechat.conf.d/90-limits.conf';
const ROUNDS = Number(process.env.STONECHAT_ROUNDS ?? 3);

// Each of n users talks with each, over one connection.
async function crowd(host, n) {
  const people = [];
  for (let i = 0; i < n; i++) {
    const api = await newUser(host.api);
    const client = new Client(host.socket, api, { timeout: 5000 });
    people.push({ api, client });
  }
  const conversations = [];
  for (const [i, a] of people.entries()) {
    for (const b of people.slice(i + 1)) {
      const id = await a.api.openDirect(b.api.user.id);
      conversations.push({ id, api: a.api, talkers: [a, b].map(({ client, api }) => new Talker(client, id, api.username)) });
    }
  }
  await Promise.all(people.map(({ client }) => client.connect()));
  return conversations;
}

// Keeps `parallel` messages under way of each in each conversation while trouble() goes on, then compares.
async function inOrder(host, n, parallel, trouble) {
  const conversations = await crowd(host, n);
  const talkers = conversations.flatMap(({ talkers }) => talkers);
  try {
    await host.systemctl('restart', GROUP); // so that no conversation is in memory
    for (const talker of talkers) talker.start({ parallel, pauseMs: 2 });
    const progress = async (what, more) => {
      const from = talkers.map(({ acked }) => acked.size);
      await until(what, 60, () => talkers.every(({ acked }, i) => acked.size > from[i] + more));
    };
    await progress('all are talking', parallel);
    await trouble(progress, talkers);
    await progress('all are talking again', parallel);
    await Promise.all(talkers.map((talker) => talker.stop()));
    let stored = 0;
    for (const { id, api, talkers: pair } of conversations) {
      const history = await api.wholeHistory(id);
      await Promise.all(pair.map((talker) => talker.hearsUpTo(history.length)));
      assert.deepEqual(findFaults(history, pair).slice(0, 10), []);
      stored += history.length;
    }
    const errors = {};
    for (const [what, times] of talkers.flatMap((talker) => [...talker.errors])) errors[what] = (errors[what] ?? 0) + times;
    return `${stored} texts in ${conversations.length} conversations, ${talkers.reduce((sum, { duplicates }) => sum + duplicates, 0)} repeated; errors: ${JSON.stringify(errors)}`;
  } finally {
    for (const talker of talkers) talker.abandon();
  }
}

describe('what one connection sends into a conversation keeps its order', () => {
  let host;
  before(async () => {
    host = await Host.boot({ disk: true, files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': CONFIGURATION } });
    await host.dropIn(GROUP, '[Unit]\nStartLimitIntervalSec=0\n');
  });
  after(() => host?.stop());

  for (const [n, parallel] of [[6, 8], [4, 16]]) {
    it(`with ${parallel} under way, when the group role is killed`, { timeout: 60_000 + ROUNDS * 30_000 }, async (t) => {
      t.diagnostic(await inOrder(host, n, parallel, async (progress) => {
        for (let i = 0; i < ROUNDS; i++) {
          const oldPid = await host.property(GROUP, 'MainPID');
          await host.kill(GROUP);
          await host.active(GROUP, { oldPid });
          await progress('all are talking again', i % 2 ? parallel : 0); // now and then it is killed as soon as they do
        }
      }));
    });
  }

  it('when the group role is restarted', { timeout: 120_000 }, async (t) => {
    t.diagnostic(await inOrder(host, 6, 8, async (progress) => {
      for (let i = 0; i < ROUNDS; i++) {
        await host.systemctl('restart', GROUP);
        await progress('all are talking again', 0);
      }
    }));
  });

  it('when the limits of a user are reached again and again', { timeout: 120_000 }, async (t) => {
    t.diagnostic(await inOrder(host, 4, 8, async (progress, talkers) => {
      await host.write(LIMITS, '[Limits]\nUserRate=100\nUserBurst=20\n');
      await host.systemctl('reload', 'stonechat-socket@1.service');
      await until('some are refused', 20, () => talkers.every(({ errors }) => [...errors.keys()].some((what) => what.startsWith('111 '))));
      await progress('all are talking again', 4);
      await host.call('rm', LIMITS);
      await host.systemctl('reload', 'stonechat-socket@1.service');
    }));
  });

  // The gateway fails what was not answered in time; what is behind must not pass it.
  it('when the group role hangs for longer than a call waits', { timeout: 120_000 }, async (t) => {
    t.diagnostic(await inOrder(host, 4, 8, async (progress, talkers) => {
      await host.kill(GROUP, 'SIGSTOP');
      await until('calls are given up', 20, () => talkers.every(({ errors }) => errors.has('1004 timeout')));
      await host.kill(GROUP, 'SIGCONT');
      await progress('all are talking again', 0);
    }));
  });
});
