// SPDX-License-Identifier: Apache-2.0
// What crosses from one role to another: a conversation that is opened comes into its members' inboxes, and a session that
// ends is closed everywhere, once, whoever is killed, stopped or frozen in between.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { Api, newUser } from './lib/api.mjs';
import { Client, RawClient } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';

const CONFIGURATION = '[Api]\nLoginRate=0\nLoginAccountRate=0\n[Auth]\nHashMemory=64K\nHashOperations=1\n[Limits]\nUserRate=0\nAddressRate=0\n[Socket]\nMaxConnectionsPerAddress=0\n';
const STORES = { api: 'accounts', group: 'conversations' };

const DATABASE = 'postgresql@15-test.service';

let host;
const clients = [];

// Rows of a role's store, which may be running.
const query = (role, sql) => host.database.query(STORES[role], sql);
const intents = async (role, where = 'parked >= 0') => Number((await query(role, `SELECT count(*) FROM intents WHERE ${where}`))[0][0]);

function allDelivered() {
  return until('all intents are delivered', 60, async () => await intents('api') + await intents('group') === 0);
}

async function connect(api, options) {
  const client = new Client(host.socket, api, options);
  clients.push(client);
  await client.connect();
  return client;
}

// What a connection with the session's access token is answered, an error or the close of it: null if it is let in.
async function refusal(api) {
  const client = new RawClient(host.socket);
  try {
    await client.opened();
    client.text(JSON.stringify({ id: 1, connect: { token: api.accessToken, name: 'raw' } }));
    await client.until('an answer', () => client.closed || client.replies.length);
    return client.closed ?? client.replies[0].error ?? null;
  } finally {
    client.terminate();
  }
}

// Until it succeeds: whoever is killed comes back.
async function insist(what, request) {
  for (let deadline = Date.now() + 60_000; ;) {
    try {
      return await request();
    } catch (error) {
      if ((error.status !== undefined && error.status < 500) || Date.now() > deadline) throw new Error(`${what}: ${error.message}`, { cause: error });
      await sleep(20);
    }
  }
}

// The entries of a user's personal log, by what they say: 'conversation_added ID' or 'session_ended ID'.
async function events(api, user) {
  const log = await api.wholeHistory(`#${user}`);
  assert.deepEqual(log.map(({ seq }) => seq), log.map((_, i) => i + 1));
  assert.equal(new Set(log.map((entry) => entry.client_msg_id)).size, log.length);
  return log.map(({ event }) => `${Object.keys(event)[0]} ${event.conversation_added?.conversation ?? event.session_ended?.session}`);
}

const count = (list, value) => list.filter((one) => one === value).length;
const secondSession = (user) => new Api(host.api).login(user.username, user.password, 'second');

describe('what crosses between roles', () => {
  before(async () => {
    host = await Host.boot({ disk: true, files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': CONFIGURATION } });
  });
  after(async () => {
    for (const client of clients) client.disconnect();
    await host?.stop();
  });

  it('is there when the request is answered', async () => {
    const [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    const [annClient, bobClient] = [await connect(ann), await connect(bob)];
    const conversation = await ann.openDirect(bob.user.id);
    assert.deepEqual((await bob.conversations()).conversations.map((one) => one.conversation.id), [conversation]);
    for (const client of [annClient, bobClient]) await client.event('subscribed', { where: ({ channel }) => channel === conversation });
    const other = await secondSession(bob);
    const otherClient = await connect(other);
    await other.logout();
    await otherClient.event('disconnected');
    assert.deepEqual(await events(bob, bob.user.id), [`conversation_added ${conversation}`, `session_ended ${other.session}`]);
    await allDelivered();
  });

  it('waits for a role that is stopped: a session that ends then is dead as soon as the role is there', async () => {
    const ann = await newUser(host.api);
    const other = await secondSession(ann);
    const client = await connect(other, { getToken: async () => other.accessToken });
    await host.systemctl('stop', 'stonechat-group.socket', 'stonechat-group.service');
    await other.logout();
    assert.equal(await intents('api'), 1);
    const disconnected = client.event('disconnected');
    await host.systemctl('start', 'stonechat-group.socket', 'stonechat-group.service');
    await disconnected;
    await allDelivered();
    assert.notEqual(await refusal(other), null);
    assert.equal(await refusal(ann), null);
    assert.deepEqual(await events(ann, ann.user.id), [`session_ended ${other.session}`]);
  });

  it('outlives the process that stored it, and whoever gets it twice does it once', async () => {
    const ann = await newUser(host.api);
    const other = await secondSession(ann);
    await host.kill('stonechat-group.service', 'SIGSTOP'); // requests wait in its socket
    const answer = other.logout().catch((error) => error);
    await until('the logout is committed', 10, async () => await intents('api') === 1);
    const oldPid = await host.property('stonechat-api.service', 'MainPID');
    await host.kill('stonechat-api.service');
    await answer;
    await host.active('stonechat-api.service', { oldPid });
    // The new process sends it, too: a connection waits behind that of the dead one.
    await until('the new process has connected', 10, async () => Number((await host.call('ss', '-xlH', 'src', '/run/stonechat/rpc/group/rpc.sock')).trim().split(/\s+/)[2]) > 0);
    await host.kill('stonechat-group.service', 'SIGCONT');
    await allDelivered();
    assert.deepEqual(await events(ann, ann.user.id), [`session_ended ${other.session}`]);
    await assert.rejects(other.refresh(), { status: 401 });
    assert.notEqual(await refusal(other), null);
  });

  it('is parked when it is refused for good, says so, and can be sent again', async () => {
    const ann = await newUser(host.api);
    const [other, third] = [await secondSession(ann), await secondSession(ann)];
    await host.systemctl('stop', 'stonechat-group.socket', 'stonechat-group.service');
    await other.logout();
    await host.systemctl('stop', 'stonechat-api.service');
    // As if a release had made a request that the other role does not understand.
    await query('api', "UPDATE intents SET method = 'conversation.mark_read'");
    await host.systemctl('start', 'stonechat-group.socket', 'stonechat-group.service', 'stonechat-api.service');
    await until('it is parked', 20, async () => await intents('api', 'parked = 1') === 1);
    const entry = await until('the journal says so', 10, async () => (await host.journal('--unit=stonechat-api.service')).find(({ MESSAGE_ID: id, MESSAGE: text }) => id && /is parked/.test(text)));
    assert.match(entry.MESSAGE, new RegExp(`^#${ann.user.id} refuses intent 1 of ${ann.user.id} for good, it is parked: invalid_argument`));
    assert.match((await host.exec('stonechatctl', 'status')).stdout, /intents_parked +1\b/);

    await third.logout(); // what comes behind it passes
    assert.deepEqual(await events(ann, ann.user.id), [`session_ended ${third.session}`]);
    await host.systemctl('stop', 'stonechat-api.service');
    await query('api', "UPDATE intents SET method = 'inbox.session_ended'");
    await host.systemctl('start', 'stonechat-api.service', 'stonechat-job@retry-intents.service');
    await allDelivered();
    assert.deepEqual(await events(ann, ann.user.id), [`session_ended ${third.session}`, `session_ended ${other.session}`]);
  });

  const victims = [['stonechat-api.service'], ['stonechat-group.service'], ['stonechat-api.service', 'stonechat-group.service', 'stonechat-socket@1.service']];
  if (postgresql) victims.push([DATABASE]); // then outcomes are unknown, too
  for (const units of victims) {
    it(`happens once while ${units.join(', ')} ${units.length > 1 ? 'are' : 'is'} killed again and again`, { timeout: 240_000 }, async (t) => {
      const users = await Promise.all(Array.from({ length: 40 }, () => insist('a new user', () => newUser(host.api))));
      const sessions = (await Promise.all(users.map((user) => Promise.all([1, 2, 3].map(async () => [user, await insist('login', () => secondSession(user))]))))).flat();
      const watchers = await Promise.all(users.slice(0, 4).map((user) => connect(user)));

      // Everybody opens a conversation with everybody, himself included, and ends his second sessions.
      const opened = new Set();
      const tasks = users.flatMap((user, i) => users.slice(i).map((other, k) => async () => {
        const [one, two] = k % 2 ? [user, other] : [other, user];
        opened.add(await insist('opening', () => one.openDirect(two.user.id)));
      }));
      sessions.forEach(([, api], i) => tasks.splice(7 * i, 0, async () => {
        // A logout whose answer was lost finds its token revoked.
        await insist('logout', () => api.logout()).catch((error) => assert.equal(error.cause?.status, 401, error.message));
      }));
      const todo = tasks.values();
      let working = true;
      const begin = Date.now();
      const work = Promise.all(Array.from({ length: 8 }, async () => {
        for (const task of todo) {
          await task();
          await sleep(40); // so that there is work for some kills
        }
      })).finally(() => { working = false; });

      let kills = 0;
      for (; working; kills++) {
        const victim = units[kills % units.length];
        const oldPid = await host.property(victim, 'MainPID');
        await host.kill(victim);
        // Nobody else starts it, and it does not start while one of its old processes is still there.
        if (victim === DATABASE) await until('the database starts', 20, () => host.systemctl('start', victim).then(() => true, () => false));
        await host.active(victim, { oldPid });
        await sleep(350 + 37 * (kills % 11)); // the units allow twenty starts in ten seconds
      }
      await work;
      assert.ok(kills >= (units[0] === DATABASE ? 2 : 4), `${kills} kills`);
      t.diagnostic(`${opened.size} conversations, ${sessions.length} sessions, ${kills} kills in ${Date.now() - begin} ms`);
      await insist('the roles answer', () => users[0].conversations());
      await allDelivered();

      assert.equal(opened.size, users.length * (users.length + 1) / 2);
      const ids = users.map(({ user }) => `'${user.id}'`).join();
      const left = new Set((await query('api', `SELECT id FROM sessions WHERE "user" IN (${ids})`)).map(([id]) => id));
      const members = (await query('group', `SELECT conversation, "user" FROM members WHERE "user" IN (${ids}) AND conversation NOT LIKE '#%'`)).map(([conversation, user]) => ({ conversation, user }));
      assert.equal(members.length, users.length * users.length);
      for (const user of users) {
        const said = await events(user, user.user.id);
        const mine = members.filter((member) => member.user === user.user.id).map(({ conversation }) => conversation);
        const listed = (await user.ask('GET', '/v1/conversations?limit=200')).conversations.map((one) => one.conversation.id);
        assert.deepEqual(listed.toSorted(), mine.toSorted());
        for (const conversation of mine) assert.equal(count(said, `conversation_added ${conversation}`), 1, conversation);
        const ended = sessions.filter(([owner, api]) => owner === user && !left.has(api.session)).map(([, api]) => api);
        assert.equal(ended.length, 3);
        for (const api of ended) {
          assert.equal(count(said, `session_ended ${api.session}`), 1, api.session);
          await assert.rejects(api.refresh(), { status: 401 });
          assert.notEqual(await refusal(api), null, 'a token of an ended session');
        }
        assert.equal(said.length, mine.length + ended.length, 'and nothing else');
        assert.equal(await refusal(user), null);
      }
      // Who was connected all the time knows all of his conversations.
      for (const [i, client] of watchers.entries()) {
        const mine = members.filter((member) => member.user === users[i].user.id).map(({ conversation }) => conversation);
        for (const conversation of mine) await client.event('subscribed', { where: ({ channel }) => channel === conversation });
      }
      assert.deepEqual(await host.failedUnits(), []);
    });
  }
});
