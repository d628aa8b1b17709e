// SPDX-License-Identifier: Apache-2.0
// An upgrade from 0.1: its stores (tests/unit/store/store-0.1) under the installed package. Whatever a user saw is there.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { Api } from './lib/api.mjs';
import { Client, RawClient } from './lib/clients.mjs';
import { Host, UNITS } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';

const directory = new URL('../unit/store/store-0.1/', import.meta.url);
const { users, histories } = JSON.parse(readFileSync(new URL('expectations.json', directory)));
const user = (name) => users.find(({ username }) => username === name);
const view = (name, conversation) => user(name).list.find((one) => one.conversation.id === conversation);

// As 0.1 left it in the state directory of the role: one user, stonechat, owned all.
async function putStore(host, role, name) {
  const path = `/var/lib/stonechat/${role}/${name}.db`;
  await host.write(`/tmp/${name}.sql`, readFileSync(new URL(`${name}.sql`, directory), 'utf8'));
  await host.shell(`rm -f ${path} ${path}-*; sqlite3 ${path} </tmp/${name}.sql; chmod 600 ${path}; chown -R stonechat:stonechat /var/lib/stonechat/${role}`);
}

let host;
const clients = [];
const signIn = (name, device = 'test') => new Api(host.api).login(name, user(name).password, device);

// With the session that device had: its refresh token is replaced at each use, so once a session.
async function comeBack(name, device) {
  const session = user(name).sessions.find((one) => one.device === device);
  const api = await new Api(host.api, { refresh_token: session.refresh_token }).refresh();
  assert.equal(api.session, session.id);
  return api;
}

async function connect(api) {
  const client = new Client(host.socket, api);
  clients.push(client);
  await client.connect();
  return client;
}

// 0.1 knew SQLite alone.
describe('the stores of 0.1', { skip: postgresql }, () => {
  before(async () => {
    host = await Host.boot({
      start: false,
      files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Api]\nLoginRate=0\nLoginAccountRate=0\n[Auth]\nMaxSessions=1000\n[Limits]\nUserRate=0\nAddressRate=0\n' },
    });
    await host.shell('useradd --system --no-create-home stonechat');
    await host.systemctl('start', 'stonechat-api.service', 'stonechat-group.service');
    await host.systemctl('stop', 'stonechat-api.service', 'stonechat-api.socket', 'stonechat-group.service', 'stonechat-group.socket');
    await putStore(host, 'api', 'accounts');
    await putStore(host, 'group', 'conversations');
    await host.shell('cd /var/lib/stonechat/keys; rm *; head -c 32 /dev/urandom >token.key; chmod 600 token.key');
    await host.systemctl('enable', '--now', 'stonechat.target');
  });
  after(async () => {
    for (const client of clients) client.disconnect();
    await host?.stop();
  });

  it('open, and are whole', async () => {
    await host.systemctl('start', ...UNITS);
    assert.deepEqual(await host.failedUnits(), []);
    await host.systemctl('start', 'stonechat-job@integrity-check.service');
    for (const [role, name] of [['api', 'accounts'], ['group', 'conversations']])
      assert.equal((await host.call('sqlite3', `/var/lib/stonechat/${role}/${name}.db`, 'PRAGMA user_version')).trim(), '2');
  });

  it('belong to their roles, and nothing is left of the secret that all roles had', async () => {
    for (const role of ['api', 'group'])
      assert.equal(await host.shell(`find /var/lib/stonechat/${role} -printf '%u:%g %m\\n' | sort -u`), `stonechat-${role}:stonechat-${role} 600\nstonechat-${role}:stonechat-${role} 700\n`);
    assert.equal(await host.call('ls', '/var/lib/stonechat/keys'), 'token.private.pem\ntoken.public.pem\n');
  });

  it('know everybody by his password, and nobody by another', async () => {
    for (const { username, id, display_name: name, profile } of users) {
      const me = await (await signIn(username)).me();
      assert.equal(me.id, id);
      assert.equal(me.display_name, name || username);
      assert.equal(me.created_at, profile.created_at);
    }
    await assert.rejects(new Api(host.api).login('ada', user('bob').password), { code: 'invalid_credentials' });
  });

  it('show the same conversations, cursors and unread counts, the latest first', async () => {
    for (const { username, list } of users) {
      const now = (await (await signIn(username)).conversations()).conversations ?? [];
      const byId = (views) => Object.fromEntries(views.map((one) => [one.conversation.id, { ...one, members: one.members.toSorted() }]));
      assert.deepEqual(byId(now), byId(list), username);
      const times = now.map((one) => one.last_message?.created_at ?? one.conversation.created_at);
      assert.deepEqual(times, times.toSorted((a, b) => b - a), username);
    }
  });

  it('hold every message and every event, as it was', async () => {
    for (const { username, id, list, events, positions } of users) {
      const api = await signIn(username);
      for (const { conversation } of list) assert.deepEqual(await api.wholeHistory(conversation.id), histories[conversation.id]);
      if (Object.keys(positions).length) assert.deepEqual(await api.wholeHistory(`#${id}`), events);
    }
  });

  it('let clients recover from where they were', async () => {
    for (const { username, positions } of users) {
      const api = await signIn(username);
      const client = new RawClient(host.socket);
      await client.opened();
      // Three messages behind, or at the beginning.
      const behind = Object.entries(positions).map(([channel, { epoch, offset }]) => [channel, { recover: true, epoch, offset: Math.max(offset - 3, 0) }]);
      const { connect: reply } = await client.command({ connect: { token: api.accessToken, name: 'raw', subs: Object.fromEntries(behind) } });
      for (const [channel, { epoch, offset }] of Object.entries(positions)) {
        const sub = reply.subs[channel];
        const from = Math.max(offset - 3, 0);
        assert.deepEqual({ epoch: sub.epoch, offset: sub.offset ?? 0 }, { epoch, offset: from }, `${username} in ${channel}`);
        assert.equal(sub.recovered, true);
        const heard = () => client.replies.flatMap(({ push }) => (push?.channel === channel && push.pub?.offset ? [push.pub.offset] : []));
        await client.until('what was missed', () => heard().length >= offset - from);
        assert.deepEqual(heard(), Array.from({ length: offset - from }, (_, i) => from + 1 + i));
      }
      client.close();
      assert.deepEqual(Object.keys(reply.subs).sort(), [...new Set([...Object.keys(positions), `#${user(username).id}`])].sort());
    }
  });

  it('take the refresh tokens that were in force, and no other', async () => {
    for (const { username, sessions } of users) {
      for (const { id, device, state, refresh_token: token } of sessions) {
        if (state !== 'valid') {
          await assert.rejects(new Api(host.api, { refresh_token: token }).refresh(), { status: 401 }, `${username}: ${device} had ${state}`);
          continue;
        }
        const api = await comeBack(username, device);
        assert.equal(api.session, id);
        assert.equal((await api.me()).username, username);
        if (username === 'bob' && device === 'two') {
          await api.refresh();
          await api.logout();
          await assert.rejects(api.refresh(), { status: 401 });
        }
      }
    }
  });

  it('go on after the last message', async () => {
    const [ada, bob] = [await signIn('ada'), await signIn('bob')];
    const { conversation } = user('bob').list.find((one) => one.members.includes(user('ada').id));
    const { last_seq: last, unread_count: unread } = view('bob', conversation.id);
    assert.equal(await ada.openDirect(user('bob').id), conversation.id);
    const client = await connect(bob);
    const sent = await ada.send(conversation.id, 'after the upgrade');
    assert.equal(sent.seq, last + 1);
    assert.equal((await client.received(conversation.id, last + 1)).data.message.text, 'after the upgrade');
    let mine = (await bob.conversations()).conversations[0];
    assert.equal(mine.conversation.id, conversation.id);
    assert.equal(mine.unread_count, unread + 1);
    assert.equal((await bob.markRead(conversation.id, last)).read_seq, last);
    mine = (await bob.conversations()).conversations[0];
    assert.deepEqual([mine.read_seq, mine.unread_count], [last, 1]);

    // What was sent before is known by its id.
    const old = histories[conversation.id].find(({ sender, text }) => sender === user('ada').id && text);
    const again = await ada.send(conversation.id, old.text, old.client_msg_id);
    assert.deepEqual([again.seq, again.duplicate], [old.seq, true]);
    await assert.rejects(ada.send(conversation.id, 'another text', old.client_msg_id), { code: 'client_msg_id_conflict' });
  });

  it('take new conversations, and whoever never came', async () => {
    const [fay, eve] = [await signIn('fay'), await signIn('eve')];
    const client = await connect(fay);
    const conversation = await eve.openDirect(user('fay').id);
    await client.event('subscribed', { where: ({ channel }) => channel === conversation });
    await eve.send(conversation, 'hello');
    await client.received(conversation, 1);
    assert.deepEqual((await fay.conversations()).conversations.map((one) => [one.conversation.id, one.unread_count]), [[conversation, 1]]);
  });
});
