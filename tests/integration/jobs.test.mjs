// SPDX-License-Identifier: Apache-2.0
// The tasks of the timers: what they do to the stores, and what an operator then finds in the journal.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Host, until } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';

const CONVERSATIONS = '/var/lib/stonechat/group/conversations.db';
const SESSIONS_PURGED = '27be3fcb0abc457e90d192338a30c2a8';
const INTEGRITY_OK = 'bd1984c351bb4a8a81a7ca0cafbb3612';
const INTEGRITY_FAILED = 'b3d52368f9364ee79b7beccd86389a73';
const CHECK = 'stonechat-job@integrity-check.service';

describe('the tasks', () => {
  let host;

  before(async () => {
    host = await Host.boot({ files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Api]\nLoginRate=0\nLoginAccountRate=0\n' } });
  });
  after(() => host?.stop());

  // The rows of a statement in the store of a role, which is stopped meanwhile.
  const edit = async (role, sql) => {
    await host.systemctl('stop', `stonechat-${role}.service`);
    const rows = await host.database.query(role === 'api' ? 'accounts' : 'conversations', sql);
    await host.systemctl('start', `stonechat-${role}.service`);
    return rows;
  };

  // What was written by the latest run of a unit.
  const written = async (unit) => host.journal(`_SYSTEMD_INVOCATION_ID=${await host.property(unit, 'InvocationID')}`);

  const check = async () => {
    const done = await host.exec('systemctl', 'start', CHECK);
    return { failed: done.code !== 0, entries: await written(CHECK) };
  };

  it('of expired sessions: the timer starts it, and only what has expired is gone', async () => {
    const [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    // Ann's session expires; with it more of them than one transaction takes.
    await edit('api', `UPDATE sessions SET expires_at = 1000 WHERE id = '${ann.session}'`);
    const columns = (await host.database.columns('accounts', 'sessions')).filter((name) => name !== 'id').map((name) => `"${name}"`);
    await edit('api', `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
      INSERT INTO sessions (id, ${columns}) SELECT 'expired-' || i, ${columns} FROM sessions, n WHERE id = '${ann.session}'`);
    await assert.rejects(ann.refresh(), { code: 'session_revoked' });
    assert.equal((await ann.request('GET', '/v1/users/me')).body.code, 'session_revoked');

    await host.dropIn('stonechat-expired-sessions.timer', '[Timer]\nOnCalendar=\nOnActiveSec=100ms\nAccuracySec=1ms\nRandomizedDelaySec=0\n');
    await host.systemctl('restart', 'stonechat-expired-sessions.timer');
    let entries;
    await until('the timer has run the task', 30, async () => (entries = await host.journal(`MESSAGE_ID=${SESSIONS_PURGED}`)).length > 0);
    assert.equal(entries[0].MESSAGE, 'Deleted 1201 expired sessions.');
    assert.equal(entries[0]._SYSTEMD_UNIT, 'stonechat-job@expired-sessions.service');
    assert.match(entries[0].STONECHAT_TRACE_ID, /^[0-9a-f]{32}$/);
    await until('the task has ended', 10, async () => (await host.property('stonechat-job@expired-sessions.service', 'ActiveState')) === 'inactive');
    assert.equal(await host.property('stonechat-job@expired-sessions.service', 'Result'), 'success');

    assert.deepEqual(await edit('api', 'SELECT id FROM sessions'), [[bob.session]]);
    await bob.refresh();
    await ann.login(ann.username, ann.password, 'test');
  });

  it('of integrity: both stores are in order', async () => {
    const { failed, entries } = await check();
    assert.equal(failed, false);
    const told = entries.filter(({ MESSAGE_ID }) => MESSAGE_ID === INTEGRITY_OK).map(({ MESSAGE }) => MESSAGE);
    assert.equal(told.length, 2, JSON.stringify(told));
    assert.match(told[0], /^The store accounts is in order \(\d+ pages\)\.$/);
    assert.match(told[1], /^The store conversations is in order \(\d+ pages\)\.$/);
  });

  it('are told with their unit, however late the journal listens', async () => {
    await host.shell(`
kill -STOP "$(systemctl show --value --property=MainPID systemd-journald.service)"
systemctl start --no-block ${CHECK}
sleep 1
kill -CONT "$(systemctl show --value --property=MainPID systemd-journald.service)"
systemctl start ${CHECK}`);
    const told = await host.journal(`--unit=${CHECK}`, `MESSAGE_ID=${INTEGRITY_OK}`);
    assert.equal(told.filter(({ _SYSTEMD_UNIT }) => _SYSTEMD_UNIT === CHECK).length, (await host.journal(`MESSAGE_ID=${INTEGRITY_OK}`)).length);
  });

  it('that does not exist is refused by name', async () => {
    const done = await host.exec('/usr/lib/stonechat/stonechat-job', 'no-such-task');
    assert.notEqual(done.code, 0);
    assert.match(done.stdout + done.stderr, /no-such-task/);
  });

  describe('of integrity, on a damaged store', () => {
    let conversation;

    before(async () => {
      const [ann, bob] = [await newUser(host.api), await newUser(host.api)];
      conversation = await ann.openDirect(bob.user.id);
      for (let i = 0; i < 50; i++) await ann.send(conversation, `message ${i}`);
    });
    after(async () => {
      await host.systemctl('reset-failed');
    });

    const assertDamaged = async (finding) => {
      const { failed, entries } = await check();
      assert.equal(failed, true);
      assert.equal(await host.property(CHECK, 'Result'), 'exit-code');
      assert.ok((await host.failedUnits()).some((line) => line.includes(CHECK)));
      const verdict = entries.find(({ MESSAGE_ID }) => MESSAGE_ID === INTEGRITY_FAILED);
      assert.ok(verdict, JSON.stringify(entries.map(({ MESSAGE }) => MESSAGE)));
      assert.match(verdict.MESSAGE, /^The store conversations is damaged: the check reports \d+ findings\.$/);
      assert.equal(verdict.PRIORITY, '3');
      assert.ok(entries.some(({ MESSAGE, PRIORITY }) => PRIORITY === '3' && finding.test(MESSAGE)), JSON.stringify(entries.map(({ MESSAGE }) => MESSAGE)));
      assert.ok(entries.some(({ MESSAGE_ID, MESSAGE }) => MESSAGE_ID === INTEGRITY_OK && MESSAGE.startsWith('The store accounts ')), 'the other store is judged by itself');
      // It looks and tells; serving goes on.
      assert.equal(await host.property('stonechat-group.service', 'ActiveState'), 'active');
    };

    it('finds a gap in a conversation', async () => {
      const [here, elsewhere] = [`conversation = '${conversation}' AND seq = 20`, "conversation = 'elsewhere' AND seq = 1"];
      const set = (place) => `SET ${place.replace(' AND', ',')}`;
      await edit('group', `UPDATE messages ${set(elsewhere)} WHERE ${here}`);
      await assertDamaged(new RegExp(`^conversations: conversation ${conversation} has 49 entries from number 1 to number 50$`));
      await edit('group', `UPDATE messages ${set(here)} WHERE ${elsewhere}`);
      assert.equal((await check()).failed, false);
    });

    // PostgreSQL's own files are its administrator's to check.
    it('finds an index that does not fit its table', { skip: postgresql }, async () => {
      await host.systemctl('stop', 'stonechat-group.service');
      await host.call('/usr/bin/python3', '-c', `
import shutil, sqlite3
db = sqlite3.connect('${CONVERSATIONS}', isolation_level=None)
root, size = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages_by_client_id'").fetchone()[0], db.execute("PRAGMA page_size").fetchone()[0]
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
db.close()
shutil.copy2('${CONVERSATIONS}', '${CONVERSATIONS}.sound')
shutil.chown('${CONVERSATIONS}.sound', 'stonechat-group', 'stonechat-group')
with open('${CONVERSATIONS}', 'r+b') as file:
    file.seek((root - 1) * size)
    file.write(b'\\xff' * 64)`);
      await host.systemctl('start', 'stonechat-group.service');
      await assertDamaged(/^conversations: [^]*(page|index|malformed)/i);
      await host.systemctl('stop', 'stonechat-group.service');
      await host.shell(`rm -f ${CONVERSATIONS}-*; mv ${CONVERSATIONS}.sound ${CONVERSATIONS}`);
      await host.systemctl('start', 'stonechat-group.service');
      assert.equal((await check()).failed, false);
    });
  });
});
