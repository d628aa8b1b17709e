// SPDX-License-Identifier: Apache-2.0
// Everything that is refused has a name, harms nobody else, and loses nothing.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { newUser, request } from './lib/api.mjs';
import { Client, RawClient } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';

let host, ann, bob, eve, conversation;

function problem(response, status, code) {
  assert.equal(response.status, status, response.text);
  assert.match(response.headers['content-type'], /^application\/problem\+json/);
  assert.equal(response.body.code, code, response.text);
  assert.equal(response.body.status, status);
  assert.ok(response.body.title);
  // What is refused before it is a whole request has no trace.
  if (![404, 413, 426].includes(status) || response.body.trace_id) assert.match(response.body.trace_id, /^[0-9a-f]{32}$/);
}

// What the server says to bytes that no HTTP library would send.
function raw(port, bytes, { end = false } = {}) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => (end ? socket.end(bytes) : socket.write(bytes)));
    let text = '';
    socket.setTimeout(15_000, () => socket.destroy(new Error(`no end of the connection; so far: ${text}`)));
    socket.on('data', (data) => (text += data));
    socket.on('error', (error) => (error.code === 'ECONNRESET' ? resolve(text) : reject(error)));
    socket.on('close', () => resolve(text));
  });
}

before(async () => {
  host = await Host.boot({
    files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Api]\nLoginRate=0\nRequestTimeoutSec=3s\n[Socket]\nHandshakeTimeoutSec=3s\nMaxConnectionsPerAddress=0\n' },
  });
  [ann, bob, eve] = [await newUser(host.api), await newUser(host.api), await newUser(host.api)];
  conversation = await ann.openDirect(bob.user.id);
  await ann.send(conversation, 'between us');
});
after(() => host?.stop());

describe('REST refuses', () => {
  it('a wrong password and an unknown user alike', async () => {
    const wrong = await request(host.api, 'POST', '/v1/auth/login', { json: { username: ann.username, password: 'not it, surely' } });
    const unknown = await request(host.api, 'POST', '/v1/auth/login', { json: { username: 'nobody-here', password: 'not it, surely' } });
    problem(wrong, 401, 'invalid_credentials');
    problem(unknown, 401, 'invalid_credentials');
    assert.equal(wrong.body.title, unknown.body.title);
    assert.equal(wrong.body.detail, unknown.body.detail);
  });

  it('a taken user name, in whatever case', async () => {
    problem(await request(host.api, 'POST', '/v1/auth/register', { json: { username: ann.username.toUpperCase(), password: 'long enough' } }), 409, 'username_taken');
  });

  it('a weak password and a bad name, naming the field', async () => {
    const short = await request(host.api, 'POST', '/v1/auth/register', { json: { username: 'somebody', password: 'short' } });
    problem(short, 400, 'invalid_argument');
    assert.match(short.body.detail, /password/);
    assert.doesNotMatch(short.text, /"short"/);
    const name = await request(host.api, 'POST', '/v1/auth/register', { json: { username: 'some body', password: 'long enough' } });
    problem(name, 400, 'invalid_argument');
    assert.match(name.body.detail, /username/);
  });

  it('no token, a bad token, a tampered token', async () => {
    problem(await request(host.api, 'GET', '/v1/users/me'), 401, 'unauthenticated');
    problem(await ann.request('GET', '/v1/users/me', { token: 'rubbish' }), 401, 'unauthenticated');
    const [head, claims, signature] = ann.accessToken.split('.');
    const other = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(claims, 'base64url')), sub: bob.user.id })).toString('base64url');
    problem(await ann.request('GET', '/v1/users/me', { token: `${head}.${other}.${signature}` }), 401, 'unauthenticated');
    const none = Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url');
    problem(await ann.request('GET', '/v1/users/me', { token: `${none}.${claims}.` }), 401, 'unauthenticated');
  });

  it('what is no JSON, or too deep, or of the wrong type', async () => {
    const send = (body, headers = { 'content-type': 'application/json' }) => ann.request('POST', `/v1/conversations/${conversation}/messages`, { body, headers });
    problem(await send('{"text": "no end'), 400, 'invalid_json');
    problem(await send('['.repeat(5000)), 400, 'invalid_json');
    problem(await send('{"text": 1}'), 400, 'invalid_argument');
    problem(await send('{"text": "a", "text": "b"}'), 400, 'invalid_json');
    problem(await send('[]'), 400, 'invalid_argument');
    problem(await send('{"text": "x"}', { 'content-type': 'text/plain' }), 415, 'unsupported_media_type');
    problem(await send('{}'), 400, 'invalid_argument');
    problem(await send(Buffer.from('{"text": "\xff"}', 'latin1')), 400, 'invalid_json');
  });

  it('a body that is too large, and a text that is', async () => {
    problem(await ann.request('POST', `/v1/conversations/${conversation}/messages`, { body: 'x'.repeat(300_000), headers: { 'content-type': 'application/json' } }), 413, 'body_too_large');
    problem(await ann.request('POST', `/v1/conversations/${conversation}/messages`, { json: { text: 'x'.repeat(65_537) } }), 400, 'invalid_argument');
    assert.equal((await ann.request('POST', `/v1/conversations/${conversation}/messages`, { json: { text: 'x'.repeat(65_536) } })).status, 201);
  });

  it('unknown paths and methods', async () => {
    problem(await ann.request('GET', '/v1/nothing'), 404, 'method_not_found');
    const response = await ann.request('DELETE', '/v1/users/me');
    problem(response, 405, 'method_not_allowed');
    assert.match(response.headers.allow, /GET/);
    problem(await ann.request('POST', '/v1/session/check', { json: {} }), 404, 'method_not_found');
  });

  it("someone else's conversation, on every method, exactly as one that is not there", async () => {
    for (const id of [conversation, '00000000-0000-8000-8000-000000000000']) {
      problem(await eve.request('GET', `/v1/conversations/${id}`), 403, 'not_a_member');
      problem(await eve.request('GET', `/v1/conversations/${id}/messages`), 403, 'not_a_member');
      problem(await eve.request('GET', `/v1/conversations/${id}/presence`), 403, 'not_a_member');
      problem(await eve.request('POST', `/v1/conversations/${id}/messages`, { json: { text: 'let me in' } }), 403, 'not_a_member');
      problem(await eve.request('POST', `/v1/conversations/${id}/read`, { json: { seq: 1 } }), 403, 'not_a_member');
    }
    problem(await eve.request('POST', `/v1/conversations/${encodeURIComponent(`#${ann.user.id}`)}/messages`, { json: { text: 'x' } }), 403, 'permission_denied');
    problem(await eve.request('GET', `/v1/conversations/${encodeURIComponent(`#${ann.user.id}`)}/messages`), 403, 'not_a_member');
    problem(await eve.request('POST', '/v1/conversations/direct', { json: { user: 'no-such-user' } }), 404, 'user_not_found');
  });

  it('a client_msg_id that stood for something else', async () => {
    await ann.send(conversation, 'first meaning', 'reused');
    problem(await ann.request('POST', `/v1/conversations/${conversation}/messages`, { json: { text: 'second meaning', client_msg_id: 'reused' } }), 409, 'client_msg_id_conflict');
    assert.equal((await bob.send(conversation, 'another sender may', 'reused')).duplicate ?? false, false);
  });

  it('requests that are smuggled, unending or too large in the head', async () => {
    const head = 'GET /healthz HTTP/1.1\r\nHost: x\r\n';
    assert.match(await raw(8080, `POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`), /^HTTP\/1.1 4\d\d /);
    assert.match(await raw(8080, `POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}`), /^HTTP\/1.1 400 /);
    assert.match(await raw(8080, `${head}X-Long: ${'x'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1.1 431 |^$/);
    const slow = await raw(8080, 'GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ');
    assert.match(slow, /^HTTP\/1.1 408 |^$/);
    assert.match(await raw(8080, 'POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{'), /^HTTP\/1.1 408 |^$/);
    assert.equal((await request(host.api, 'GET', '/healthz')).status, 200);
  });
});

describe('the socket refuses', () => {
  const connected = async () => {
    const client = new RawClient(host.socket);
    const reply = await client.connect(ann.accessToken);
    assert.ok(reply.connect, JSON.stringify(reply));
    return client;
  };

  it('a bad token with error 101 and an end', async () => {
    const client = new RawClient(host.socket);
    await client.opened();
    client.text(JSON.stringify({ id: 1, connect: { token: 'rubbish' } }));
    await client.until('an answer', () => client.closed || client.replies.length);
    const [reply] = client.replies;
    if (reply) assert.equal(reply.error.code, 101);
    else assert.equal(client.closed.code, 3500);
  });

  it('anything before connect, and silence', async () => {
    const hasty = new RawClient(host.socket);
    await hasty.opened();
    hasty.text('{"id":1,"rpc":{"method":"user.me"}}');
    await hasty.until('the end', () => hasty.closed);
    assert.equal(hasty.closed.code >= 3500, true);
    const silent = new RawClient(host.socket);
    await silent.opened();
    await silent.until('the end', () => silent.closed, 15);
    assert.equal(silent.closed.code, 3502);
  });

  it('what is no JSON with the end of the connection', async () => {
    const client = await connected();
    client.text('{"id":');
    await client.until('the end', () => client.closed);
    assert.equal(client.closed.code, 3501);
  });

  it('a text that JSON cannot carry, alone', async () => {
    const client = new Client(host.socket, ann);
    await client.connect();
    for (const text of ['\u0000', 'half of 😀'.slice(0, -1)]) await assert.rejects(client.centrifuge.publish(conversation, { text }), { code: 107 });
    await client.centrifuge.publish(conversation, { text: 'whole 😀' });
    client.disconnect();
  });

  it('unknown methods and methods of the roles', async () => {
    const client = await connected();
    assert.equal((await client.command({ rpc: { method: 'no.such' } })).error.code, 104);
    assert.equal((await client.command({ rpc: { method: 'session.purge' } })).error.code, 104);
    assert.equal((await client.command({ rpc: { method: 'session.check', data: {} } })).error.code, 104);
    client.close();
  });

  it('bad arguments, by the name of the field', async () => {
    const client = await connected();
    const reply = await client.command({ rpc: { method: 'message.send', data: { conversation, text: 7 } } });
    assert.equal(reply.error.code, 107);
    assert.match(reply.error.message, /text/);
    assert.equal((await client.command({ publish: { channel: conversation, data: {} } })).error.code, 107);
    client.close();
  });

  it("someone else's conversation", async () => {
    const client = new RawClient(host.socket);
    const reply = await client.connect(eve.accessToken);
    assert.ok(!(conversation in (reply.connect.subs ?? {})));
    for (const command of [{ publish: { channel: conversation, data: { text: 'x' } } }, { history: { channel: conversation, limit: 10 } }, { presence: { channel: conversation } }, { presence_stats: { channel: conversation } }, { subscribe: { channel: conversation } }, { rpc: { method: 'message.send', data: { conversation, text: 'x' } } }]) {
      const { error } = await client.command(command);
      assert.equal(error?.code, 103, JSON.stringify(command));
    }
    client.close();
  });

  it('a request that is no upgrade, saying what is wanted', async () => {
    problem(await request('http://127.0.0.1:8090', 'GET', '/connection/websocket'), 426, 'upgrade_required');
    problem(await request('http://127.0.0.1:8090', 'GET', '/'), 404, 'not_found');
  });

  it('a frame that is too large, alone', async () => {
    const [large, other] = [await connected(), await connected()];
    large.text(JSON.stringify({ id: 9, publish: { channel: conversation, data: { text: 'x'.repeat(600_000) } } }));
    await large.until('the end', () => large.closed);
    assert.equal(large.closed.code, 1009);
    assert.ok((await other.command({ rpc: { method: 'user.me', data: {} } })).rpc);
    other.close();
  });

  it('too many commands, with an error first', async () => {
    const client = await connected();
    for (let i = 0; i < 400; i++) client.text(JSON.stringify({ id: 1000 + i, rpc: { method: 'user.me', data: {} } }));
    await client.until('a refusal', () => client.closed || client.replies.find((reply) => reply.error?.code === 111));
    client.close();
  });

  it('pages of another origin', async () => {
    const client = new RawClient(host.socket, { origin: 'https://elsewhere.example' });
    await client.until('a refusal', () => client.refused || client.closed);
    assert.equal(client.refused, 403);
    const same = new RawClient(host.socket, { origin: 'http://127.0.0.1:8090' });
    await same.opened();
    same.close();
  });

  it('a reader that is too slow: it is closed, recovers, and nobody else waits', { timeout: 120_000 }, async () => {
    await host.write('/etc/stonechat/stonechat.conf.d/60-slow.conf', '[Limits]\nUserRate=0\nAddressRate=0\n[Socket]\nMaxQueue=64K\n');
    await host.systemctl('restart', 'stonechat-socket@1.service');
    const reader = new Client(host.socket, bob);
    await reader.connect();
    const writer = new Client(host.socket, ann);
    await writer.connect();
    const first = (await writer.send(conversation, 'begin')).seq;
    await reader.received(conversation, first);
    // The reader's process stops reading; the kernel's buffers fill, then ours.
    const { _socket: socket } = reader.centrifuge._transport._transport ?? {};
    assert.ok(socket, 'the SDK lets us at its TCP socket');
    socket.pause();
    let last = first;
    const text = 'x'.repeat(20_000);
    const disconnects = async () => (await host.journal('MESSAGE_ID=928667281f5e4acb80060c2c04a134ce')).length;
    // The journal is asked now and then only, as that takes longer than many messages.
    for (let i = 0; i < 1200 && (i % 20 > 0 || await disconnects() === 0); i++) last = (await writer.send(conversation, text)).seq;
    assert.equal(await disconnects(), 1, 'the journal says that a slow client was closed');
    socket.resume();
    await until('the reader is back', 20, () => reader.centrifuge.state === 'connected');
    const after = (await writer.send(conversation, 'after')).seq;
    assert.equal(after, last + 1);
    await reader.received(conversation, after, 30);
    const offsets = reader.of(conversation).map(({ offset }) => offset).filter((offset) => offset >= first);
    assert.deepEqual(offsets, Array.from({ length: after - first + 1 }, (_, i) => first + i));
    reader.disconnect();
    writer.disconnect();
  });
});

describe('no secret and no text', () => {
  it('is in the journal', async () => {
    const journal = JSON.stringify(await host.journal('--unit=stonechat*'));
    for (const secret of [ann.password, bob.password, ann.accessToken, ann.refreshToken, 'between us', 'first meaning']) assert.ok(!journal.includes(secret), 'found a secret');
  });
});
