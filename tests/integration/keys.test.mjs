// SPDX-License-Identifier: Apache-2.0
// The keys of access tokens: who has them, how they are rotated while people talk, and what is no token.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { newUser, request } from './lib/api.mjs';
import { Client, RawClient } from './lib/clients.mjs';
import { Host, UNITS } from './lib/host.mjs';

const ROTATED = 'MESSAGE_ID=05f10ebf0a994c94bd4f41a7227ae150';
const REVOKED = 'MESSAGE_ID=a0a43ec95b4c4de785276b0380c69216';
const KEYS = '/var/lib/stonechat/keys';

const part = (token, index) => JSON.parse(Buffer.from(token.split('.')[index], 'base64url'));
const kid = (token) => part(token, 0).kid;

describe('the keys of access tokens', () => {
  let host, ann, bob, conversation, client;

  before(async () => {
    host = await Host.boot();
    [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    conversation = await ann.openDirect(bob.user.id);
    client = new Client(host.socket, bob);
    await client.connect();
  });
  after(async () => {
    client?.disconnect();
    await host?.stop();
  });

  const invocations = () => Promise.all(UNITS.map((unit) => host.property(unit, 'InvocationID')));
  const status = async (token) => (await request(host.api, 'GET', '/v1/users/me', { token })).status;
  // The close code, or 'connected'.
  const connect = async (token) => {
    const raw = new RawClient(host.socket);
    await raw.opened();
    raw.text(JSON.stringify({ id: 1, connect: { token } }));
    await raw.until('an answer', () => raw.closed || raw.replies.length > 0);
    const outcome = raw.closed?.code ?? raw.replies[0].error?.code ?? 'connected';
    raw.close();
    return outcome;
  };
  const assertGood = async (token) => assert.deepEqual([await status(token), await connect(token)], [200, 'connected']);
  const assertBad = async (token) => assert.deepEqual([await status(token), await connect(token)], [401, 3500]);
  // Its holder is to fetch another one: 109, for SDKs never come back after 3500.
  const assertSuperseded = async (token) => assert.deepEqual([await status(token), await connect(token)], [401, 109]);
  const assertTalks = async (text) => {
    const { seq } = await ann.send(conversation, text);
    assert.equal((await client.received(conversation, seq)).data.message.text, text);
  };
  const signIn = (user) => user.login(user.username, user.password, 'test');

  it('are for one role alone', async () => {
    assert.equal(await host.call('stat', '-c', '%a %U %n', KEYS, `${KEYS}/token.private.pem`, `${KEYS}/token.public.pem`),
      `700 root ${KEYS}\n600 root ${KEYS}/token.private.pem\n600 root ${KEYS}/token.public.pem\n`);
    const credentials = async (unit) => (await host.call('ls', `/run/credentials/${unit}`)).split('\n').filter(Boolean);
    assert.deepEqual(await credentials('stonechat-api.service'), ['token.private.pem', 'token.public.pem']);
    assert.deepEqual(await credentials('stonechat-socket@1.service'), ['token.public.pem']);
    for (const unit of ['stonechat-group.service', 'stonechat-arbiter.service']) assert.equal((await host.exec('ls', `/run/credentials/${unit}`)).code, 2, unit);
  });

  it('sign as RFC 7518 says, so that any library can verify', async () => {
    const [header, body, signature] = ann.accessToken.split('.');
    assert.deepEqual({ ...part(ann.accessToken, 0), kid: '' }, { alg: 'ES256', kid: '', typ: 'JWT' });
    const key = crypto.createPublicKey(await host.call('cat', `${KEYS}/token.public.pem`));
    assert.equal(crypto.verify('sha256', Buffer.from(`${header}.${body}`), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url')), true);
    const { crv, kty, x, y } = key.export({ format: 'jwk' });
    assert.equal(kid(ann.accessToken), crypto.createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url'));
  });

  it('are not to be had from the public one', async () => {
    const pem = await host.call('cat', `${KEYS}/token.public.pem`);
    const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const make = (header, sign) => {
      const text = `${encode({ typ: 'JWT', kid: kid(ann.accessToken), ...header })}.${encode({ ...part(ann.accessToken, 1), sub: bob.user.id })}`;
      return `${text}.${sign(text)}`;
    };
    const { privateKey: own } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await assertBad(make({ alg: 'ES256' }, (text) => crypto.sign('sha256', Buffer.from(text), { key: own, dsaEncoding: 'ieee-p1363' }).toString('base64url')));
    await assertBad(make({ alg: 'HS256' }, (text) => crypto.createHmac('sha256', pem).update(text).digest('base64url')));
    await assertBad(make({ alg: 'none' }, () => ''));
    await assertGood(ann.accessToken);
  });

  it('are rotated, and nobody notices', async () => {
    const old = ann.accessToken;
    const [before, events] = [await invocations(), client.events.length];
    await host.systemctl('start', 'stonechat-keys-rotate.service');
    await signIn(ann);
    assert.notEqual(kid(ann.accessToken), kid(old));
    await assertGood(ann.accessToken);
    await assertGood(old);
    await assertTalks('with a new key');
    assert.deepEqual(await invocations(), before, 'no role was restarted');
    assert.deepEqual(client.events.slice(events).filter(([name]) => name !== 'message'), [], 'nobody was disconnected');
    assert.match((await host.journal(ROTATED)).at(-1).MESSAGE, new RegExp(kid(ann.accessToken)));
  });

  it('stay as they are when a role does not take the new one', async () => {
    const old = kid(ann.accessToken);
    await host.dropIn('stonechat-socket@.service', '[Service]\nExecReload=\nExecReload=/bin/false\n');
    assert.notEqual((await host.exec('systemctl', 'start', 'stonechat-keys-rotate.service')).code, 0);
    await signIn(ann);
    assert.equal(kid(ann.accessToken), old);
    await assertGood(ann.accessToken);
    await host.shell('rm /etc/systemd/system/stonechat-socket@.service.d/test.conf; systemctl daemon-reload; systemctl start stonechat-keys-rotate.service');
    const token = ann.accessToken;
    await signIn(ann);
    assert.notEqual(kid(ann.accessToken), old);
    await assertGood(ann.accessToken);
    await assertGood(token);
  });

  it('are revoked at once', async () => {
    const old = ann.accessToken;
    // Who connected with such a token comes back with a new one, whatever the old one says of how long it is valid.
    const ended = client.event('connecting', { next: true, where: ({ code }) => code === 3005 });
    await host.systemctl('start', 'stonechat-keys-rotate.service');
    await signIn(ann);
    await assertGood(old);
    const before = await invocations();
    await host.systemctl('start', 'stonechat-keys-revoke.service');
    await assertSuperseded(old);
    await assertGood(ann.accessToken);
    await ended;
    await assertTalks('with the new key alone');
    assert.deepEqual(await invocations(), before);
    assert.equal((await host.journal(REVOKED)).length, 1);
  });

  it('survive a restart of the roles, and who has a token of a revoked one comes back', async () => {
    await host.systemctl('restart', 'stonechat-api.service', 'stonechat-socket@1.service');
    await assertTalks('with a token that the SDK fetched by itself');
    await assertGood(ann.accessToken);
  });

  it('of the administrator are taken by a reload', async () => {
    const before = await invocations();
    await host.shell(`
      mkdir -p /etc/stonechat
      umask 077
      openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /etc/stonechat/private.pem
      openssl pkey -in /etc/stonechat/private.pem -pubout -out /etc/stonechat/public.pem`);
    await host.dropIn('stonechat-api.service', '[Service]\nLoadCredential=token.private.pem:/etc/stonechat/private.pem\nLoadCredential=token.public.pem:/etc/stonechat/public.pem\n');
    await host.dropIn('stonechat-socket@.service', '[Service]\nLoadCredential=token.public.pem:/etc/stonechat/public.pem\n');
    const old = ann.accessToken;
    await host.systemctl('reload', 'stonechat-socket@1.service', 'stonechat-api.service');
    await assertSuperseded(old);
    await signIn(ann);
    await assertGood(ann.accessToken);
    assert.deepEqual(await invocations(), before);
  });

  it('that are none are refused by a reload, and those in force stay', async () => {
    await host.shell('echo no key >/etc/stonechat/public.pem');
    for (const unit of ['stonechat-api.service', 'stonechat-socket@1.service']) assert.notEqual((await host.exec('systemctl', 'reload', unit)).code, 0, unit);
    await assertGood(ann.accessToken);
    const told = (await host.journal('--unit=stonechat-socket@1.service')).map(({ MESSAGE }) => MESSAGE);
    assert.ok(told.some((line) => /credential token\.public\.pem is not taken/.test(line)), told.slice(-5).join('\n'));
  });
});
