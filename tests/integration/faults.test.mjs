// SPDX-License-Identifier: Apache-2.0
// Two people keep talking while roles are killed, restarted, and the disk fills up. Afterwards the checker decides: nothing that
// was acknowledged is missing, no gap, no duplicate, nothing out of order, and both heard exactly what is stored.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, UNITS, until } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';
import { Talker, findFaults } from './lib/talk.mjs';

const CONFIGURATION = '[Api]\nLoginRate=0\n[Limits]\nUserRate=0\nAddressRate=0\n';

async function talkers(host) {
  const apis = [await newUser(host.api), await newUser(host.api)];
  const conversation = await apis[0].openDirect(apis[1].user.id);
  const people = [];
  for (const api of apis) {
    const client = new Client(host.socket, api, { timeout: 5000 });
    await client.connect();
    people.push(new Talker(client, conversation, api.username));
  }
  return { apis, conversation, people };
}

// Lets both talk while `trouble` goes on, then checks; answers what to report.
async function underLoad(host, trouble) {
  const { apis, conversation, people } = await talkers(host);
  try {
    for (const talker of people) talker.start();
    await until('both are talking', 20, () => people.every((talker) => talker.acked.size > 20));
    await trouble(people);
    const before = people.map((talker) => talker.acked.size);
    await until('both are talking again', 30, () => people.every((talker, i) => talker.acked.size > before[i] + 20));
    await Promise.all(people.map((talker) => talker.stop()));
    const history = await apis[0].wholeHistory(conversation);
    await Promise.all(people.map((talker) => talker.hearsUpTo(history.length)));
    const faults = findFaults(history, people);
    assert.deepEqual(faults.slice(0, 10), []);
    const acked = people.reduce((sum, talker) => sum + talker.acked.size, 0);
    return `${history.length} stored, ${acked} acknowledged, ${people.reduce((sum, talker) => sum + talker.duplicates, 0)} repeated; longest pause ${Math.max(...people.map((talker) => talker.longestPause()))} ms; errors: ${JSON.stringify(Object.fromEntries(people.flatMap((talker) => [...talker.errors])))}`;
  } finally {
    for (const talker of people) talker.abandon();
  }
}

describe('nothing acknowledged is lost', () => {
  let host;
  before(async () => {
    host = await Host.boot({ disk: true, files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': CONFIGURATION } });
  });
  after(() => host?.stop());

  for (const unit of UNITS) {
    it(`when ${unit} is killed, three times`, { timeout: 180_000 }, async (t) => {
      t.diagnostic(await underLoad(host, async () => {
        for (let i = 0; i < 3; i++) {
          const oldPid = await host.property(unit, 'MainPID');
          await host.kill(unit);
          await host.active(unit, { oldPid });
          await sleep(300 + 400 * i); // another moment each time
        }
      }));
    });

    it(`when ${unit} is restarted`, { timeout: 180_000 }, async (t) => {
      t.diagnostic(await underLoad(host, () => host.systemctl('restart', unit)));
    });
  }

  it('when all roles are killed at once', { timeout: 180_000 }, async (t) => {
    t.diagnostic(await underLoad(host, async () => {
      const pids = await Promise.all(UNITS.map((unit) => host.property(unit, 'MainPID')));
      await host.systemctl('kill', '--signal=SIGKILL', ...UNITS);
      await Promise.all(UNITS.map((unit, i) => host.active(unit, { oldPid: pids[i] })));
    }));
  });

  it('when the database server is killed, and when it is restarted', { skip: !postgresql, timeout: 180_000 }, async (t) => {
    t.diagnostic(await underLoad(host, async () => {
      for (let i = 0; i < 2; i++) {
        await host.database.systemctl('kill', '--signal=SIGKILL');
        await until('the server is down', 10, async () => (await host.exec('pg_lsclusters', '--no-header')).stdout.includes(' down'));
        await host.database.systemctl('restart');
        await sleep(500);
        await host.database.systemctl('restart');
        await sleep(500);
      }
    }));
    assert.equal((await host.journal('MESSAGE_ID=89cca3a1ac084934b0eb15b3c6ba4a24')).length > 0, true, 'the journal says so');
  });
});

describe('a full disk', () => {
  const directory = postgresql ? '/srv/small' : '/var/lib/stonechat/group';
  let host;
  before(async () => {
    host = await Host.boot({ name: `full-${process.pid}`, start: false, files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': CONFIGURATION } });
    // The database on a small file system of its own: with SQLite smaller than the write-ahead log becomes elsewhere before it
    // starts over, so the log must leave room for what it holds.
    if (postgresql) {
      await host.shell(`mkdir -p ${directory} && mount -t tmpfs -o size=64M tmpfs ${directory}`);
      await host.database.limitRoom(directory);
    } else await host.shell(`mkdir -p ${directory} && mount -t tmpfs -o size=24M,mode=700 tmpfs ${directory} && chown stonechat-group:stonechat-group ${directory}`);
    await host.systemctl('enable', '--now', 'stonechat.target');
  });
  after(() => host?.stop());

  it('refuses by name, loses nothing, and goes on when there is room', { timeout: 180_000 }, async (t) => {
    t.diagnostic(await underLoad(host, async ([talker]) => {
      await host.exec('/bin/sh', '-c', `dd if=/dev/zero of=${directory}/ballast bs=64k 2>/dev/null`);
      await until('sends are refused', 60, () => [...talker.errors.keys()].some((what) => what.startsWith('1005 ')));
      const acked = talker.acked.size;
      await sleep(500);
      assert.ok(talker.acked.size - acked < 5, 'nothing is acknowledged while nothing can be stored');
      assert.equal((await host.journal('MESSAGE_ID=5e6cdbd796d342e088b046769106dd20')).length, 1, 'the journal says so, once');
      assert.equal((await host.call('busctl', 'get-property', 'org.stonechat.Group', '/org/stonechat/Role', 'org.stonechat.Role1', 'Healthy')).trim(), 'b false');
      await host.call('rm', `${directory}/ballast`);
      await until('it has recovered', 30, async () => (await host.journal('MESSAGE_ID=0e63ea0817664e568520e87fadb1a391')).length > 0);
    }));
    assert.equal((await host.systemctl('show', '--value', '-p', 'NRestarts', 'stonechat-group.service')).trim(), '0');
  });
});
