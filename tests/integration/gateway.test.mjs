// SPDX-License-Identifier: Apache-2.0
// How connections are attached to the group role, and catch up with what they missed: whatever happens meanwhile, nobody
// is disconnected for it, everybody hears all of it once and in order, and who has signed out hears nothing.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Api, newUser } from './lib/api.mjs';
import { Client, RawClient } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';

const CONFIGURATION = '[Api]\nLoginRate=0\nLoginAccountRate=0\nMaxConnectionsPerAddress=0\n[Auth]\nHashMemory=64K\nHashOperations=1\nMaxSessions=1000\n'
  + '[Limits]\nUserRate=0\nAddressRate=0\n[Socket]\nMaxConnectionsPerAddress=0\nMaxConnectionsPerUser=0\n[Group]\nMaxUnanswered=0\nMaxStrangers=0\n';

let host;
const clients = [];

const GROUP = 'stonechat-group.service';
const SOCKET = 'stonechat-socket@1.service';

async function connect(api, options = {}) {
  const client = new Client(host.socket, api, options);
  clients.push(client);
  await client.connect();
  return client;
}

// One that does not come back by itself: it hears what it hears.
async function connectRaw(api, subs) {
  const client = new RawClient(host.socket);
  clients.push(client);
  await client.opened();
  const { connect: reply, error } = await client.command({ connect: { token: api.accessToken, name: 'raw', subs } });
  assert.ok(reply, JSON.stringify(error));
  // The server pings, and disconnects whoever does not answer.
  client.websocket.on('message', (data) => data.toString() === '{}' && client.text('{}'));
  return client;
}

const heard = (client, channel) => client.replies.flatMap(({ push }) => (push?.channel === channel && push.pub?.offset ? [push.pub.offset] : []));
const upTo = (n, from = 1) => Array.from({ length: n - from + 1 }, (_, i) => from + i);
const sessionOf = (user) => new Api(host.api).login(user.username, user.password, 'other');
const inParallel = async (n, work) => {
  const results = [];
  for (let i = 0; i < n; i += 16) results.push(...await Promise.all(upTo(Math.min(i + 15, n - 1), i).map(work)));
  return results;
};

describe('connections and the group role', () => {
  before(async () => {
    host = await Host.boot({ files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': CONFIGURATION } });
  });
  after(async () => {
    for (const client of clients) (client.disconnect ?? client.terminate).call(client);
    await host?.stop();
  });

  it('that come back at once, while messages were missed and others come: nobody is disconnected', async () => {
    const ann = await newUser(host.api);
    const others = await inParallel(200, () => newUser(host.api));
    const talks = await inParallel(200, (i) => ann.openDirect(others[i].user.id));
    const devices = await inParallel(200, (i) => connectRaw(others[i]));
    await inParallel(200, (i) => ann.send(talks[i], 'heard by all'));
    await Promise.all(devices.map((device, i) => device.until('the first', () => heard(device, talks[i]).length === 1)));
    // The gateway does not notice anything of what follows until it may go on.
    await host.kill(SOCKET, 'SIGSTOP');
    await host.systemctl('restart', GROUP);
    await inParallel(200, (i) => ann.send(talks[i], 'missed'));
    await host.kill(SOCKET, 'SIGCONT');
    for (let round = 0; round < 3; round++) await inParallel(200, (i) => ann.send(talks[i], 'meanwhile'));
    await Promise.all(devices.map((device, i) => device.until('all', () => heard(device, talks[i]).length >= 5 || device.closed)));
    devices.forEach((device, i) => {
      assert.equal(device.closed, null);
      assert.deepEqual(heard(device, talks[i]), upTo(5));
    });
    const { reattached_total: reattached, slow_clients_total: slow } = await host.statistics('Socket.I1');
    assert.ok(reattached >= 200 && slow === 0);
    for (const device of devices) device.close();
  });

  it('get six pages of a thousand messages at once, however many bytes these are, and live messages beside', { timeout: 120_000 }, async () => {
    const [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    const text = 'x'.repeat(1000);
    const talks = await inParallel(6, async () => {
      const other = await newUser(host.api);
      const talk = await ann.openDirect(other.user.id);
      await inParallel(1000, () => other.send(talk, text));
      return talk;
    });
    const live = await ann.openDirect(bob.user.id);
    const reader = await connectRaw(ann);
    const page = async (channel) => {
      const offsets = [];
      for (;;) {
        const { history } = await reader.command({ history: { channel, limit: 1000, since: { offset: offsets.at(-1) ?? 0 } } }, 60);
        const publications = history.publications ?? [];
        assert.ok(publications.length > 0);
        assert.ok(JSON.stringify(publications).length < 600_000);
        offsets.push(...publications.map(({ offset }) => offset));
        if (offsets.at(-1) === history.offset) return offsets;
      }
    };
    const reading = Promise.all(talks.map(page));
    for (let i = 0; i < 40; i++) await bob.send(live, text);
    for (const offsets of await reading) assert.deepEqual(offsets, upTo(1000));
    await reader.until('what came live', () => heard(reader, live).length >= 40);
    assert.deepEqual(heard(reader, live), upTo(40));
    assert.equal(reader.closed, null);
    reader.close();
  });

  it('that missed much get it in pages, and the SDK counts on from there', { timeout: 120_000 }, async () => {
    const ann = await newUser(host.api);
    const others = await inParallel(4, () => newUser(host.api));
    const talks = await inParallel(4, (i) => ann.openDirect(others[i].user.id));
    const phone = await connect(await sessionOf(ann));
    await inParallel(4, (i) => others[i].send(talks[i], 'begin'));
    for (const talk of talks) await phone.received(talk, 1);
    phone.disconnect();
    // 4 x 400 messages of 4 KB are many pages.
    await inParallel(4, (i) => inParallel(400, () => others[i].send(talks[i], 'y'.repeat(4000))));
    await phone.connect();
    // In the middle of it the network goes: what had come is not sent again.
    await phone.received(talks[0], 200, 30);
    phone.centrifuge._transport._transport.terminate();
    for (const talk of talks) await phone.received(talk, 401, 30);
    for (const talk of talks) assert.deepEqual(phone.of(talk).map(({ offset }) => offset), upTo(401));
    const subscribed = phone.events.filter(([name, { channel }]) => name === 'subscribed' && channel === talks[3]).at(-1)[1];
    assert.deepEqual([subscribed.recovered, subscribed.wasRecovering], [true, true]);
  });

  it('of a user in more conversations than a reply holds hear all of them', { timeout: 120_000 }, async () => {
    const ann = await newUser(host.api);
    const others = await inParallel(1100, () => newUser(host.api));
    const talks = await inParallel(1100, (i) => ann.openDirect(others[i].user.id));
    const phone = await connect(ann);
    const subscribed = () => new Set(phone.events.filter(([name]) => name === 'subscribed').map(([, { channel }]) => channel));
    await phone.until('all are subscribed', () => subscribed().size === 1101, 30);
    await inParallel(1100, (i) => others[i].send(talks[i], 'one'));
    for (const talk of talks) await phone.received(talk, 1, 30);
    phone.disconnect();
    await inParallel(1100, (i) => others[i].send(talks[i], 'two'));
    const seen = phone.events.length;
    await phone.connect();
    for (const talk of talks) await phone.received(talk, 2, 30);
    for (const talk of talks) assert.deepEqual(phone.of(talk).map(({ offset }) => offset), [1, 2]);
    const again = phone.events.slice(seen).filter(([name]) => name === 'subscribed' || name === 'unsubscribed');
    assert.equal(again.filter(([name, context]) => name === 'subscribed' && context.recovered).length, 1101);
    assert.equal(again.filter(([name]) => name === 'unsubscribed').length, 0);
  });

  it('end with their session, whenever that ends', { timeout: 120_000 }, async () => {
    const ann = await newUser(host.api);
    const stays = await connectRaw(ann);
    const attempt = async (api) => {
      const client = new RawClient(host.socket);
      clients.push(client);
      await client.opened();
      client.text(JSON.stringify({ id: 1, connect: { token: api.accessToken, name: 'raw' } }));
      return client;
    };
    const gone = (client) => client.until('its end', () => client.closed, 20).then(({ code }) => assert.equal(code, 3500));

    // Between the check of the session and the attach, which waits for a group role that does not go on.
    for (let i = 0; i < 3; i++) {
      const session = await sessionOf(ann);
      await host.kill(GROUP, 'SIGSTOP');
      const before = (await host.statistics('Api')).fibers_started;
      const client = await attempt(session);
      await until('the session is checked', 10, async () => (await host.statistics('Api')).fibers_started > before);
      const answer = session.logout();
      await assert.rejects(until('the logout is committed', 10, () => session.me().then(() => false)), { status: 401 });
      await host.kill(GROUP, 'SIGCONT');
      await answer;
      await gone(client);
    }

    // In the same millisecond, more or less.
    const sessions = await inParallel(200, () => sessionOf(ann));
    await inParallel(200, async (i) => {
      const client = await attempt(sessions[i]);
      for (let k = 0; k < i % 8; k++) await new Promise(setImmediate);
      await sessions[i].logout();
      await gone(client);
    });

    // While the group role is away, and while it comes back.
    const some = await inParallel(100, () => sessionOf(ann));
    const devices = await inParallel(100, (i) => connectRaw(some[i]));
    await host.kill(GROUP);
    await inParallel(50, (i) => some[i].logout());
    await Promise.all(devices.slice(0, 50).map(gone));
    const bob = await newUser(host.api);
    const talk = await bob.openDirect(ann.user.id);
    await bob.send(talk, 'who is there?');
    await Promise.all([stays, ...devices.slice(50)].map((device) => device.until('the message', () => heard(device, talk).length === 1 || device.closed)));
    for (const device of [stays, ...devices.slice(50)]) assert.equal(device.closed, null);
    for (const device of devices.slice(0, 50)) assert.deepEqual(heard(device, talk), []);
  });
});
