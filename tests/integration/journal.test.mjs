// SPDX-License-Identifier: Apache-2.0
// A journal that does not read: nobody waits for it, nobody is killed for waiting, and what it missed is told.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, UNITS } from './lib/host.mjs';

const LOST = 'MESSAGE_ID=15782e7f99e84438b1266612b8986995';
const WATCHDOG_SECONDS = 3;

describe('a journal that hangs', () => {
  let host, ann, bob, conversation, client;

  before(async () => {
    host = await Host.boot({
      start: false,
      files: {
        '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Log]\nLevel=debug\nTraceRate=100000\n[Limits]\nUserRate=0\nAddressRate=0\n',
        // Sooner than the units say, so that the test is short.
        '/etc/systemd/system/stonechat-.service.d/20-test.conf': `[Service]\nWatchdogSec=${WATCHDOG_SECONDS}s\nLogRateLimitIntervalSec=0\n`,
      },
    });
    await host.shell('mkdir -p /etc/systemd/system/stonechat-job@.service.d; systemctl daemon-reload');
    await host.systemctl('enable', '--now', 'stonechat.target');
    [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    conversation = await ann.openDirect(bob.user.id);
    client = new Client(host.socket, bob);
    await client.connect();
  });
  after(async () => {
    await host?.exec('pkill', '-CONT', '-x', 'systemd-journal');
    client?.disconnect();
    await host?.stop();
  });

  it('holds nobody up, while people talk longer than the watchdog waits', async () => {
    const invocations = () => Promise.all(UNITS.map((unit) => host.property(unit, 'InvocationID')));
    const before = await invocations();
    const pid = await host.property('systemd-journald.service', 'MainPID');
    await host.call('kill', '-STOP', pid);
    const end = performance.now() + 3 * WATCHDOG_SECONDS * 1000;
    let n = 0;
    // Far more entries than the kernel holds for the journal; every request is traced through the roles.
    while (performance.now() < end || n < 1000) {
      const { seq } = await ann.send(conversation, `message ${n++}`);
      await client.received(conversation, seq);
    }
    assert.equal(client.events.filter(([name]) => name === 'disconnected' || name === 'connecting').length, 1, 'it was connecting once, at the beginning');
    assert.deepEqual(await invocations(), before);
    await host.call('kill', '-CONT', pid);
    await host.systemctl('reload', 'stonechat-group.service'); // an entry is written after which it must have said so
    const lost = await host.journal(LOST);
    assert.ok(lost.some(({ _SYSTEMD_UNIT }) => _SYSTEMD_UNIT === 'stonechat-group.service'), JSON.stringify(lost.map(({ MESSAGE }) => MESSAGE)));
    for (const { MESSAGE } of lost) assert.match(MESSAGE, /^[1-9]\d* entries are missing here/);
    assert.deepEqual(await invocations(), before);
    assert.equal((await client.received(conversation, n)).data.message.text, `message ${n - 1}`);
  });
});
