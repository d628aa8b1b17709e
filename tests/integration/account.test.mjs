// SPDX-License-Identifier: Apache-2.0
// Who signs in, how often one may ask, and what strangers can do about it: with a good client beside the bad one.
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { Api, newUser, request } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';

const CONFIGURATION = '/etc/stonechat/stonechat.conf.d/50-test.conf';

// Clients that say where they come from: the test stands where a proxy would.
const from = (address) => ({ 'x-forwarded-for': address });

describe('an account', () => {
  let host;
  before(async () => {
    host = await Host.boot({
      files: { [CONFIGURATION]: '[Api]\nLoginRate=0\nMaxConnectionsPerAddress=0\n[Auth]\nHashMemory=64K\nHashOperations=1\nRefreshGraceSec=10min\n[Limits]\nAddressRate=0\n'
        + '[Group]\nMaxUnanswered=3\nMaxStrangers=6\n' },
    });
  });
  after(() => host?.stop());

  describe('a refresh token', () => {
    let ann, client;
    before(async () => {
      ann = await newUser(host.api);
      client = new Client(host.socket, await new Api(host.api).login(ann.username, ann.password, 'phone'));
      await client.connect();
    });
    after(() => client?.disconnect());

    const refresh = (token, options = {}) => request(host.api, 'POST', '/v1/auth/refresh', { json: { refresh_token: token }, ...options });

    // That it is in force, and that the session is.
    const goesOn = async (token) => {
      const response = await refresh(token);
      assert.equal(response.status, 200, response.text);
      ann.take(response.body);
      assert.equal((await ann.me()).username, ann.username);
    };

    it('is exchanged for one successor by a thousand requests at once', async () => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 250 });
      const answers = await Promise.all(Array.from({ length: 1000 }, () => refresh(ann.refreshToken, { agent, timeout: 30_000 })));
      agent.destroy();
      assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
      const successors = new Set(answers.map(({ body }) => body.refresh_token));
      assert.equal(successors.size, 1);
      assert.ok(!successors.has(ann.refreshToken));
      assert.ok((await host.statistics('Api')).refreshes_repeated >= 999);
      await goesOn([...successors][0]);
    });

    it('may be used again when the answer was lost, also after the api role was killed', async () => {
      const spent = ann.refreshToken;
      const n = (await host.statistics('Api')).refreshes;
      await new Promise((resolve, reject) => {
        const body = JSON.stringify({ refresh_token: spent });
        const socket = net.connect(8080, '127.0.0.1', () => {
          socket.write(`POST /v1/auth/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
          // Whatever is answered is not read.
          until('it was exchanged', 10, async () => (await host.statistics('Api')).refreshes > n).then(() => socket.destroy(), reject);
        });
        socket.on('error', reject);
        socket.on('close', resolve);
      });
      const first = await refresh(spent);
      assert.equal(first.status, 200, first.text);
      const oldPid = await host.property('stonechat-api.service', 'MainPID');
      await host.kill('stonechat-api.service');
      await host.active('stonechat-api.service', { oldPid });
      const again = await refresh(spent);
      assert.equal(again.status, 200, again.text);
      assert.equal(again.body.refresh_token, first.body.refresh_token);
      await goesOn(again.body.refresh_token);
    });

    it('ends the session when it is used again later, and no other session', async () => {
      const other = await new Api(host.api).login(ann.username, ann.password, 'tablet');
      const spent = other.refreshToken;
      await other.refresh();
      await host.write('/etc/stonechat/stonechat.conf.d/60-grace.conf', '[Auth]\nRefreshGraceSec=0\n');
      await host.systemctl('reload', 'stonechat-api.service');
      assert.equal((await refresh(spent)).body.code, 'session_revoked');
      assert.equal((await refresh(other.refreshToken)).body.code, 'session_revoked');
      await goesOn(ann.refreshToken);
    });

    it('ends the session however long ago it was spent; one that was made up ends nothing', async () => {
      const other = await new Api(host.api).login(ann.username, ann.password, 'tablet');
      const stolen = other.refreshToken;
      for (let i = 0; i < 3; i++) await other.refresh();
      const [session, family, secret] = stolen.split('.');
      const madeUp = [`${session}.${secret}`, `${session}.${secret.slice(0, family.length)}.${secret}`, `${session}..${secret}`, `${session}.`];
      for (const token of madeUp) assert.equal((await refresh(token)).status, 401);
      await other.refresh();
      assert.equal((await refresh(stolen)).body.code, 'session_revoked');
      assert.equal((await refresh(other.refreshToken)).body.code, 'session_revoked');
      await goesOn(ann.refreshToken);
      assert.equal(client.centrifuge.state, 'connected');
      assert.equal(client.events.filter(([name]) => name === 'disconnected').length, 0);
    });
  });

  describe('strangers', () => {
    const open = (api, other) => api.request('POST', '/v1/conversations/direct', { json: { user: other.user.id } });
    // How many were let in, and what the others were told.
    const outcome = (answers) => ({
      opened: answers.filter(({ status }) => status === 200).length,
      refused: [...new Set(answers.filter(({ status }) => status !== 200).map(({ status, body }) => `${status} ${body.code}`))],
    });

    it('can open so many conversations until somebody answers, however they try', async () => {
      const spammer = await newUser(host.api);
      const others = await Promise.all(Array.from({ length: 12 }, () => newUser(host.api)));
      const answers = await Promise.all(others.map((other) => open(spammer, other)));
      assert.deepEqual(outcome(answers), { opened: 3, refused: ['403 too_many_unanswered'] });
      const victim = others[answers.findIndex(({ status }) => status === 200)];
      const conversation = answers.find(({ status }) => status === 200).body.conversation.id;
      await spammer.send(conversation, 'hello?');
      const group = 'stonechat-group.service';
      const oldPid = await host.property(group, 'MainPID');
      await host.kill(group);
      await host.active(group, { oldPid });
      const waiting = others.filter((_, i) => answers[i].status !== 200);
      assert.deepEqual(outcome(await Promise.all(waiting.map((other) => open(spammer, other)))), { opened: 0, refused: ['403 too_many_unanswered'] });
      const client = new Client(host.socket, spammer);
      await client.connect();
      await assert.rejects(client.rpc('conversation.open_direct', { user: waiting[0].user.id }), { code: 1034 });
      client.disconnect();
      // Who answers makes room for one more.
      await victim.send(conversation, 'who are you?');
      assert.deepEqual(outcome(await Promise.all(waiting.map((other) => open(spammer, other)))), { opened: 1, refused: ['403 too_many_unanswered'] });
      // The others are not concerned.
      assert.equal((await open(waiting[0], waiting[1])).status, 200);
    });

    it('cannot fill an inbox', async () => {
      const victim = await newUser(host.api);
      const client = new Client(host.socket, victim);
      await client.connect();
      const many = await Promise.all(Array.from({ length: 12 }, () => newUser(host.api)));
      const answers = await Promise.all(many.map((stranger) => open(stranger, victim)));
      assert.deepEqual(outcome(answers), { opened: 6, refused: ['403 inbox_full'] });
      await until('six are in the inbox', 10, async () => (await victim.conversations()).conversations.length === 6);
      // The owner opens what he likes, and by answering lets others in.
      const late = many.find((_, i) => answers[i].status !== 200);
      const own = await victim.openDirect(late.user.id);
      await late.send(own, 'thank you');
      await client.received(own, 1);
      await victim.send(answers.find(({ status }) => status === 200).body.conversation.id, 'hello');
      const others = many.filter((stranger, i) => answers[i].status !== 200 && stranger !== late);
      assert.deepEqual(outcome(await Promise.all(others.map((stranger) => open(stranger, victim)))), { opened: 1, refused: ['403 inbox_full'] });
      client.disconnect();
    });
  });
});

describe('limits', () => {
  let host, ann, bob, conversation;
  before(async () => {
    host = await Host.boot({
      name: `limits-${process.pid}`,
      // Slow enough that nothing comes back while a test runs.
      files: { [CONFIGURATION]: '[Api]\nTrustedProxies=127.0.0.1\nLoginRate=1\nLoginBurst=15\nLoginAccountRate=1\nLoginAccountBurst=10\n[Auth]\nHashMemory=64K\nHashOperations=1\n'
        + '[Limits]\nUserRate=1\nUserBurst=60\nAddressRate=1\nAddressBurst=100\n' },
    });
    [ann, bob] = [await newUser(host.api, 'ann'), await newUser(host.api, 'bob')];
    conversation = await ann.openDirect(bob.user.id);
  });
  after(() => host?.stop());

  const login = (user, address, password = user.password, deviceToken) =>
    request(host.api, 'POST', '/v1/auth/login', { json: { username: user.username, password, device_token: deviceToken }, headers: from(address) });

  it('of a user are the same over REST and over the socket, and leave others alone', async () => {
    const greedy = await newUser(host.api, 'greedy');
    const own = await greedy.openDirect(bob.user.id);
    const post = () => greedy.request('POST', `/v1/conversations/${own}/messages`, { json: { text: 'more' } });
    const answers = await Promise.all(Array.from({ length: 200 }, post));
    const stored = answers.filter(({ status }) => status === 201).length;
    const refused = answers.filter(({ status }) => status === 429);
    assert.equal(stored + refused.length, 200);
    assert.ok(stored >= 50 && stored <= 70, `${stored} were stored`);
    assert.equal(refused[0].body.code, 'rate_limited');
    for (const { headers } of refused) assert.ok(Number(headers['retry-after']) >= 1);
    assert.ok((await host.statistics('Api')).requests_limited >= refused.length);
    // Two connections of one user have what one has.
    const clients = [new Client(host.socket, greedy), new Client(host.socket, greedy)];
    for (const client of clients) await client.connect();
    const sent = await Promise.allSettled(Array.from({ length: 80 }, (_, i) => clients[i % 2].send(own, 'more')));
    const done = sent.filter(({ status }) => status === 'fulfilled').length;
    assert.ok(done >= 50 && done <= 70, `${done} were stored`);
    for (const { reason } of sent.filter(({ status }) => status === 'rejected')) {
      assert.equal(reason.code, 111);
      assert.match(reason.message, /^rate_limited: again in \d+ s$/);
    }
    for (const client of clients) client.disconnect();
    assert.equal((await ann.send(conversation, 'not concerned')).seq, 1);
    assert.equal((await bob.wholeHistory(own)).length, stored + done);
  });

  it('of an address hold for whoever asks from there, but not for health checks', async () => {
    const ask = (path, address) => request(host.api, 'GET', path, { headers: from(address) });
    const answers = await Promise.all(Array.from({ length: 150 }, () => ask('/nowhere', '2001:db8:0:1::1')));
    const let_in = answers.filter(({ status }) => status === 404).length;
    assert.ok(let_in >= 100 && let_in <= 110, `${let_in} were let in`);
    assert.equal((await ask('/openapi.json', '2001:db8:0:1:ffff::9')).status, 429, 'the same network');
    assert.equal((await ask('/openapi.json', '2001:db8:0:2::1')).status, 200);
    assert.equal((await ask('/healthz', '2001:db8:0:1::1')).status, 200);
    assert.equal((await bob.request('GET', '/v1/users/me', { headers: from('2001:db8:0:1::1') })).status, 429);
    assert.equal((await bob.me()).username, 'bob');
  });

  it('of passwords: strangers lock out strangers, and not the owner', async () => {
    const home = '192.0.2.1';
    const { device_token: token } = (await login(ann, home)).body;
    assert.ok(token);
    // One account from many addresses.
    const guesses = [];
    for (let i = 0; i < 15; i++) guesses.push((await login(ann, `203.0.113.${i}`, 'a guess')).status);
    // Signing in twice from places that were not known yet was two of the ten tries.
    assert.deepEqual(guesses, [...Array(8).fill(401), ...Array(7).fill(429)]);
    assert.equal((await login(ann, '198.51.100.1')).status, 429, 'from elsewhere the owner is a stranger, too');
    assert.equal((await login(ann, home)).status, 200, 'an address that is known');
    assert.equal((await login(ann, '198.51.100.1', ann.password, token)).status, 200, 'a device that is known');
    // It is stored.
    await host.systemctl('restart', 'stonechat-api.service');
    for (let i = 0; i < 12; i++) await login(ann, `203.0.113.${i}`, 'a guess');
    assert.equal((await login(ann, '198.51.100.2')).status, 429);
    assert.equal((await login(ann, home)).status, 200);
    assert.equal((await login(ann, '198.51.100.2', ann.password, token)).status, 200);
  });

  it('of passwords: many accounts from one address, and nothing tells which exist', async () => {
    const [carl, nobody] = [{ username: 'carl', password: 'correct horse' }, { username: 'nobody', password: 'x' }];
    await new Api(host.api).register(carl.username, carl.password);
    const answers = { existing: [], missing: [] };
    for (let i = 0; i < 12; i++) {
      answers.existing.push(await login(carl, `203.0.113.${100 + i}`, 'a guess'));
      answers.missing.push(await login(nobody, `203.0.113.${100 + i}`, 'a guess'));
    }
    const shown = (list) => list.map(({ status, body }) => [status, body.code, body.title, body.detail?.replace(/\d+ s$/, 'N s')]);
    assert.deepEqual(shown(answers.existing), shown(answers.missing));
    assert.equal(answers.existing.at(-1).status, 429);
    const statuses = [];
    for (let i = 0; i < 20; i++) statuses.push((await login({ username: `user-${i}` }, '203.0.113.250', 'a guess')).status);
    assert.deepEqual(statuses, [...Array(15).fill(401), ...Array(5).fill(429)]);
  });
});

describe('a full disk', () => {
  const directory = postgresql ? '/srv/small' : '/var/lib/stonechat';
  let host, ann, bob, conversation, client;
  before(async () => {
    host = await Host.boot({
      name: `no-room-${process.pid}`,
      start: false,
      files: { [CONFIGURATION]: '[Api]\nLoginRate=0\nLoginAccountRate=0\n[Auth]\nHashMemory=64K\nHashOperations=1\n[Limits]\nUserRate=0\nAddressRate=0\n' },
    });
    await host.shell(`mkdir -p ${directory} && mount -t tmpfs -o size=64M,mode=755 tmpfs ${directory}`);
    if (postgresql) await host.database.limitRoom(directory);
    await host.systemctl('enable', '--now', 'stonechat.target');
    [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    conversation = await ann.openDirect(bob.user.id);
    await ann.send(conversation, 'before');
    client = new Client(host.socket, bob);
    await client.connect();
  });
  after(async () => {
    client?.disconnect();
    await host?.stop();
  });

  const health = () => request(host.api, 'GET', '/healthz');
  const isHealthy = async (role) => (await host.call('busctl', 'get-property', `org.stonechat.${role}`, '/org/stonechat/Role', 'org.stonechat.Role1', 'Healthy')).trim() === 'b true';

  it('leaves those who are signed in signed in, is told by /healthz, and is over by itself', { timeout: 120_000 }, async () => {
    assert.deepEqual((await health()).body, { status: 'ok', store: 'ok', group: 'ok' });
    await host.exec('/bin/sh', '-c', `dd if=/dev/zero of=${directory}/ballast bs=64k 2>/dev/null; dd if=/dev/zero of=${directory}/ballast2 bs=1k 2>/dev/null`);
    const text = 'x'.repeat(60_000);
    await until('messages are refused', 60, async () => (await ann.request('POST', `/v1/conversations/${conversation}/messages`, { json: { text } })).body.code === 'storage_full');
    const login = () => request(host.api, 'POST', '/v1/auth/login', { json: { username: ann.username, password: ann.password } });
    const refused = await until('logins are refused', 60, async () => {
      const response = await login();
      return response.status !== 200 && response;
    });
    assert.equal(refused.status, 507);
    assert.equal(refused.body.code, 'storage_full');
    assert.match(refused.body.detail, /sign in/);
    const state = await health();
    assert.equal(state.status, 200);
    assert.deepEqual(state.body, { status: 'degraded', reason: 'storage_full', store: 'full', group: 'full' });
    assert.equal(await isHealthy('Api'), false);
    assert.equal(await isHealthy('Group'), false);

    // The session goes on: what is spent now and then although the disk is full is fine, too.
    for (let i = 0; i < 5; i++) {
      await ann.refresh();
      assert.equal((await ann.me()).username, ann.username);
    }
    assert.ok((await ann.history(conversation)).messages.length > 0);
    const other = new Client(host.socket, ann);
    await other.connect();
    other.disconnect();
    assert.equal(client.centrifuge.state, 'connected');

    // Nobody writes anything from here on, and all the same it is found out.
    await host.call('rm', `${directory}/ballast`, `${directory}/ballast2`);
    await until('it is healthy again', 30, async () => (await health()).body.status === 'ok');
    assert.equal(await isHealthy('Api'), true);
    assert.equal(await isHealthy('Group'), true);
    const before = ann.refreshToken;
    await ann.refresh();
    assert.notEqual(ann.refreshToken, before);
    await ann.login(ann.username, ann.password, 'again');
    const { seq } = await ann.send(conversation, 'after');
    await client.received(conversation, seq);
    assert.equal(client.events.filter(([name]) => name === 'disconnected').length, 0);
  });
});
