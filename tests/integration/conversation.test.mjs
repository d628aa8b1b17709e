// SPDX-License-Identifier: Apache-2.0
// What people do: register, sign in, connect, talk, read, leave and come back. On the installed package, with the official SDK.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { Api, newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';

let host;
const clients = [];

// A signed-in user with a connected client.
async function person(api, options) {
  const user = api ?? await newUser(host.api);
  const client = new Client(host.socket, user, options);
  clients.push(client);
  await client.connect();
  return { api: user, client };
}

// Two people and their conversation, both subscribed to it.
async function pair() {
  const [ann, bob] = [await person(), await person()];
  const conversation = await ann.api.openDirect(bob.api.user.id);
  for (const { client } of [ann, bob]) await client.event('subscribed', { where: ({ channel }) => channel === conversation });
  return { ann, bob, conversation };
}

const texts = (client, conversation) => client.of(conversation).filter(({ data }) => data.message).map(({ data }) => data.message.text);

describe('people', () => {
  before(async () => {
    host = await Host.boot({
      files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Api]\nLoginRate=0\nLoginAccountRate=0\n[Limits]\nUserRate=0\nAddressRate=0\n[Socket]\nMaxConnectionsPerAddress=0\n[Log]\nTraceRate=1000\nTraceUserRate=0\n' },
    });
  });
  after(async () => {
    for (const client of clients) client.disconnect();
    await host?.stop();
  });

  it('register, sign in, see themselves and each other', async () => {
    const ann = await newUser(host.api);
    const me = await ann.me();
    assert.equal(me.username, ann.username);
    assert.equal(me.id, ann.user.id);
    const bob = await newUser(host.api);
    const profile = await ann.ask('GET', `/v1/users/${bob.user.id}`);
    assert.deepEqual(Object.keys(profile).sort().filter((key) => key !== 'display_name'), ['id', 'username']);
    assert.equal((await ann.ask('GET', `/v1/users?username=${bob.username}`)).id, bob.user.id);
    assert.doesNotMatch(JSON.stringify([me, profile]), /password|hash/);
  });

  it('talk: a message is acknowledged with its place and pushed to both', async () => {
    const { ann, bob, conversation } = await pair();
    const sent = await ann.client.send(conversation, 'Hello, Bob!');
    assert.equal(sent.seq, 1);
    const got = await bob.client.received(conversation, 1);
    assert.equal(got.data.message.text, 'Hello, Bob!');
    assert.equal(got.data.message.sender, ann.api.user.id);
    await bob.client.publish(conversation, { text: 'Hello, Ann.' });
    await ann.client.received(conversation, 2);
    assert.deepEqual(texts(ann.client, conversation), ['Hello, Bob!', 'Hello, Ann.']);
    assert.deepEqual((await bob.api.wholeHistory(conversation)).map(({ seq, text }) => [seq, text]), [[1, 'Hello, Bob!'], [2, 'Hello, Ann.']]);
  });

  it('open the same direct conversation from both sides and at the same time', async () => {
    const [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    const ids = await Promise.all([ann.openDirect(bob.user.id), bob.openDirect(ann.user.id), ann.openDirect(bob.user.id)]);
    assert.equal(new Set(ids).size, 1);
  });

  it('see unread counts, mark as read, and the other side hears of it', async () => {
    const { ann, bob, conversation } = await pair();
    for (const text of ['one', 'two', 'three']) await ann.api.send(conversation, text);
    const mine = async (api) => (await api.conversations()).conversations.find((view) => view.conversation.id === conversation);
    let view = await mine(bob.api);
    assert.equal(view.unread_count, 3);
    assert.equal(view.last_message.text, 'three');
    assert.equal(view.last_seq, 3);
    assert.equal((await mine(ann.api)).unread_count ?? 0, 0, 'own messages are not unread');
    assert.equal((await bob.api.markRead(conversation, 2)).read_seq, 2);
    const receipt = await ann.client.until('a receipt', () => ann.client.of(conversation).find(({ data }) => data.receipt));
    assert.deepEqual(receipt.data.receipt, { conversation, user: bob.api.user.id, read_seq: 2 });
    assert.equal(receipt.offset, undefined);
    view = await mine(bob.api);
    assert.equal(view.unread_count, 1);
    assert.equal((await bob.api.markRead(conversation, 1)).read_seq, 2, 'the cursor never goes back');
    assert.equal((await bob.api.markRead(conversation, 99)).read_seq, 3, 'nor beyond the last message');
  });

  it('page through history in both directions', async () => {
    const { ann, conversation } = await pair();
    for (let i = 1; i <= 25; i++) await ann.api.send(conversation, `m${i}`);
    const seqs = (page) => (page.messages ?? []).map(({ seq }) => seq);
    const latest = await ann.api.history(conversation, { limit: 10 });
    assert.deepEqual(seqs(latest), [16, 17, 18, 19, 20, 21, 22, 23, 24, 25]);
    assert.equal(latest.more, true);
    assert.equal(latest.last_seq, 25);
    const earlier = await ann.api.history(conversation, { before: 6, limit: 10 });
    assert.deepEqual(seqs(earlier), [1, 2, 3, 4, 5]);
    assert.equal(earlier.more ?? false, false);
    assert.deepEqual(seqs(await ann.api.history(conversation, { after: 23 })), [24, 25]);
    const sdk = await ann.client.centrifuge.history(conversation, { limit: 3, since: { offset: 10, epoch: latest.epoch } });
    assert.deepEqual(sdk.publications.map(({ offset }) => offset), [11, 12, 13]);
  });

  it('use two devices: both hear everything, each keeps its own place', async () => {
    const { ann, bob, conversation } = await pair();
    const tablet = await person(await new Api(host.api).login(bob.api.username, bob.api.password, 'tablet'));
    assert.ok(tablet.client.events.find(([name, context]) => name === 'subscribed' && context.channel === conversation));
    await ann.client.send(conversation, 'to all devices');
    await bob.client.received(conversation, 1);
    await tablet.client.received(conversation, 1);
    await tablet.client.send(conversation, 'from the tablet');
    await bob.client.received(conversation, 2);
    const presence = await ann.client.centrifuge.presence(conversation);
    assert.equal(Object.keys(presence.clients).length, 3);
    const stats = await ann.client.centrifuge.presenceStats(conversation);
    assert.deepEqual([stats.numClients, stats.numUsers], [3, 2]);
  });

  it('come back after a while and get exactly what they missed', async () => {
    const { ann, bob, conversation } = await pair();
    await ann.client.send(conversation, 'before');
    await bob.client.received(conversation, 1);
    bob.client.disconnect();
    for (let i = 0; i < 20; i++) await ann.client.send(conversation, `missed ${i}`);
    // A conversation that began meanwhile, too.
    const carol = await person();
    const second = await carol.api.openDirect(bob.api.user.id);
    await carol.client.send(second, 'are you there?');
    await bob.client.connect();
    await bob.client.received(conversation, 21);
    assert.deepEqual(bob.client.of(conversation).map(({ offset }) => offset), Array.from({ length: 21 }, (_, i) => i + 1));
    const subscribed = bob.client.events.filter(([name, context]) => name === 'subscribed' && context.channel === conversation).at(-1)[1];
    assert.equal(subscribed.recovered, true);
    assert.equal(subscribed.wasRecovering, true);
    assert.ok(bob.client.events.find(([name, context]) => name === 'subscribed' && context.channel === second));
    await ann.client.send(conversation, 'after');
    await bob.client.received(conversation, 22);
  });

  it('are told to page when they missed more than is replayed', async () => {
    const { ann, bob, conversation } = await pair();
    await ann.client.send(conversation, 'seen');
    await bob.client.received(conversation, 1);
    bob.client.disconnect();
    for (let i = 0; i < 600; i += 30) await Promise.all(Array.from({ length: 30 }, (_, j) => ann.client.send(conversation, `flood ${i + j}`)));
    const next = bob.client.event('subscribed', { next: true, where: ({ channel }) => channel === conversation });
    await bob.client.connect();
    const context = await next;
    assert.equal(context.recovered, false);
    assert.equal(context.wasRecovering, true);
    assert.equal(context.streamPosition.offset, 601);
    assert.equal((await bob.api.wholeHistory(conversation)).length, 601);
    await ann.client.send(conversation, 'after the flood');
    await bob.client.received(conversation, 602);
  });

  it('are answered alike however often they repeat a message', async () => {
    const { ann, bob, conversation } = await pair();
    const id = randomUUID();
    const answers = [];
    for (let i = 0; i < 3; i++) answers.push(await ann.client.send(conversation, 'once', id));
    for (let i = 0; i < 2; i++) answers.push(await ann.api.send(conversation, 'once', id));
    assert.equal(new Set(answers.map(({ seq, created_at: at }) => `${seq} ${at}`)).size, 1);
    assert.deepEqual(answers.map(({ duplicate }) => duplicate ?? false), [false, true, true, true, true]);
    await ann.client.send(conversation, 'next');
    await bob.client.received(conversation, 2);
    assert.deepEqual(texts(bob.client, conversation), ['once', 'next']);
    // At the same time, too.
    const racing = randomUUID();
    const raced = await Promise.all(Array.from({ length: 5 }, () => ann.client.send(conversation, 'race', racing)));
    assert.deepEqual([...new Set(raced.map(({ seq }) => seq))], [3]);
  });

  it('keep the same order everywhere when all talk at once', async () => {
    const { ann, bob, conversation } = await pair();
    await Promise.all([ann, bob].map(async ({ client }, who) => {
      for (let i = 0; i < 100; i += 20) await Promise.all(Array.from({ length: 20 }, (_, j) => client.send(conversation, `${who} ${i + j}`)));
    }));
    await ann.client.received(conversation, 200);
    await bob.client.received(conversation, 200);
    const stored = (await ann.api.wholeHistory(conversation)).map(({ text }) => text);
    assert.equal(stored.length, 200);
    assert.deepEqual(texts(ann.client, conversation), stored);
    assert.deepEqual(texts(bob.client, conversation), stored);
  });

  it('send bytes and other kinds', async () => {
    const { ann, bob, conversation } = await pair();
    const data = Buffer.from([0, 1, 2, 253, 254, 255]).toString('base64');
    await ann.client.rpc('message.send', { conversation, kind: 'x.sticker', data });
    const { data: update } = await bob.client.received(conversation, 1);
    assert.equal(update.message.kind, 'x.sticker');
    assert.equal(update.message.data, data);
  });

  it('stay connected across a refresh of the token, and lose the connection of a session that ended', async () => {
    const { ann, conversation } = await pair();
    const phone = await person(await new Api(host.api).login(ann.api.username, ann.api.password, 'phone'));
    await phone.api.logout();
    const gone = await phone.client.event('disconnected');
    assert.equal(gone.code >= 3500 && gone.code < 4000, true, `code ${gone.code}`);
    assert.equal((await phone.api.request('GET', '/v1/users/me')).body.code, 'session_revoked');
    assert.equal(ann.client.centrifuge.state, 'connected');
    await ann.client.send(conversation, 'still here');
  });

  it('keep the messages when everything restarts', async () => {
    const { ann, bob, conversation } = await pair();
    for (let i = 0; i < 5; i++) await ann.client.send(conversation, `m${i}`);
    await host.systemctl('stop', 'stonechat.target');
    await host.systemctl('start', 'stonechat.target');
    await ann.client.event('connected', { next: true, seconds: 20 }).catch(() => {}); // it may be back already
    await until('ann is connected', 20, () => ann.client.centrifuge.state === 'connected');
    await until('bob is connected', 20, () => bob.client.centrifuge.state === 'connected');
    assert.equal((await ann.client.send(conversation, 'after')).seq, 6);
    await bob.client.received(conversation, 6);
    assert.deepEqual(bob.client.of(conversation).map(({ offset }) => offset), [1, 2, 3, 4, 5, 6]);
  });
});

describe('short-lived tokens', () => {
  let short;
  before(async () => {
    short = await Host.boot({ name: `short-${process.pid}`, files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Auth]\nAccessTokenSec=10s\nRefreshGraceSec=1s\n' } });
  });
  after(() => short?.stop());

  it('expire with a name of their own, and are refreshed under a connection', { timeout: 120_000 }, async () => {
    const user = await newUser(short.api);
    const stale = user.accessToken;
    const client = new Client(short.socket, user);
    const { client: id } = await client.connect();
    assert.ok(id);
    await until('the first token has expired', 20, async () => (await user.request('GET', '/v1/users/me', { token: stale })).status === 401);
    assert.equal((await user.request('GET', '/v1/users/me', { token: stale })).body.code, 'token_expired');
    await until('the SDK has refreshed', 20, () => user.accessToken !== stale);
    assert.equal(client.centrifuge.state, 'connected');
    assert.equal(client.events.filter(([name]) => name === 'connected').length, 1);
    assert.equal((await user.me()).id, user.user.id);
    client.disconnect();
  });

  it('end the session when a spent refresh token is used again later', async () => {
    const user = await newUser(short.api);
    const spent = user.refreshToken;
    await user.refresh();
    await until('the grace is over', 20, async () => {
      const replay = await user.request('POST', '/v1/auth/refresh', { json: { refresh_token: spent }, token: '' });
      if (replay.status === 200) assert.equal(replay.body.refresh_token, user.refreshToken);
      return replay.status === 401;
    });
    const next = await user.request('POST', '/v1/auth/refresh', { json: { refresh_token: user.refreshToken }, token: '' });
    assert.equal(next.status, 401, 'whoever holds the newer one is out too');
    assert.equal((await user.request('GET', '/v1/users/me')).body.code, 'session_revoked');
  });
});
