// SPDX-License-Identifier: Apache-2.0
// One id through every role: what `journalctl STONECHAT_TRACE_ID=…` tells of one message, whichever way it came in.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { newUser, request } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';

const CONFIGURATION = '/etc/stonechat/stonechat.conf.d/50-test.conf';
const configuration = (rate, userRate = 0) => `[Api]\nLoginRate=0\nLoginAccountRate=0\n[Limits]\nUserRate=0\nAddressRate=0\n[Log]\nTraceRate=${rate}\nTraceUserRate=${userRate}\n`;
const ROLES = ['stonechat-api.service', 'stonechat-group.service', 'stonechat-socket@1.service'];

const newTrace = (flags = '01') => {
  const id = randomBytes(16).toString('hex');
  return { id, traceparent: `00-${id}-${randomBytes(8).toString('hex')}-${flags}` };
};

describe('a trace', () => {
  let host, ann, bob, conversation;
  const clients = [];

  const configure = async (...rates) => {
    await host.write(CONFIGURATION, configuration(...rates));
    await host.systemctl('reload', ...ROLES);
  };

  // Its stations in the order of their happening, as [role, message]. All roles run on one clock.
  const stations = async ({ id }) =>
    (await host.journal(`STONECHAT_TRACE_ID=${id}`))
      .sort((a, b) => Number(a._SOURCE_REALTIME_TIMESTAMP) - Number(b._SOURCE_REALTIME_TIMESTAMP))
      .map((entry) => [entry.SYSLOG_IDENTIFIER.replace('stonechat-', ''), entry.MESSAGE]);

  // Until the last of them, the answer or the delivery, is in the journal.
  const told = async (trace, n) => {
    let found;
    await until(`${n} stations of trace ${trace.id}`, 10, async () => (found = await stations(trace)).length >= n);
    return found;
  };

  before(async () => {
    host = await Host.boot({ files: { [CONFIGURATION]: configuration(1000) } });
    [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    conversation = await ann.openDirect(bob.user.id);
    for (const api of [ann, bob]) {
      const client = new Client(host.socket, api);
      clients.push(client);
      await client.connect();
    }
  });
  after(async () => {
    for (const client of clients) client.disconnect();
    await host?.stop();
  });

  const send = (traceparent, text = 'hello') =>
    ann.request('POST', `/v1/conversations/${conversation}/messages`, { json: { text, client_msg_id: randomUUID() }, headers: { traceparent } });

  // Of the two ends of a path each has its own order; those on it happen one after the other.
  const assertInOrder = (found, path) => {
    const places = path.map(([role, message]) => found.findIndex(([r, m]) => r === role && message.test(m)));
    assert.ok(places.every((place) => place >= 0), JSON.stringify({ found, places }));
    assert.deepEqual(places, [...places].sort((a, b) => a - b), JSON.stringify(found));
  };

  it('of an HTTP request goes through api, group and socket in order', async () => {
    const trace = newTrace();
    const answer = await send(trace.traceparent);
    assert.equal(answer.status, 201);
    assert.equal(answer.headers.traceparent.split('-')[1], trace.id);
    const found = await told(trace, 6);
    assertInOrder(found, [['api', /^REST request message\.send$/], ['group', /^Queued$/], ['group', /^Stored as seq 1$/], ['group', /^Handed to 1 gateways$/], ['socket', /^Delivered to 2 connections$/]]);
    assertInOrder(found, [['group', /^Stored/], ['api', /^Answered message\.send with status 201$/]]);
    assert.equal(found.length, 6, JSON.stringify(found));
  });

  it('names user, method and conversation in fields of their own, and never what was said', async () => {
    const trace = newTrace(), secret = `secret ${randomUUID()}`;
    await send(trace.traceparent, secret);
    await told(trace, 6);
    const entries = await host.journal(`STONECHAT_TRACE_ID=${trace.id}`);
    const first = entries.find(({ MESSAGE }) => MESSAGE.startsWith('REST request'));
    assert.equal(first.STONECHAT_USER, ann.user.id);
    assert.equal(first.STONECHAT_METHOD, 'message.send');
    for (const entry of entries.filter(({ SYSLOG_IDENTIFIER }) => SYSLOG_IDENTIFIER !== 'stonechat-api')) assert.equal(entry.STONECHAT_CONVERSATION, conversation, entry.MESSAGE);
    assert.doesNotMatch(JSON.stringify(await host.journal()), new RegExp(secret));
  });

  const fromSocket = async (name, command) => {
    const trace = newTrace();
    await command(trace.traceparent);
    const found = await told(trace, 6);
    assertInOrder(found, [['socket', /^Command \d+ of connection [0-9a-f-]{36}$/], ['group', /^Queued$/], ['group', /^Stored as seq \d+$/], ['group', /^Handed to 1 gateways$/], ['socket', /^Delivered to 2 connections$/]]);
    assertInOrder(found, [['group', /^Stored/], ['socket', /^Answering command \d+$/]]);
    assert.equal(found.length, 6, `${name}: ${JSON.stringify(found)}`);
  };

  it('of a socket rpc goes there and back', () =>
    fromSocket('rpc', (traceparent) => clients[0].rpc('message.send', { conversation, text: 'hello', client_msg_id: randomUUID(), traceparent })));

  it('of a socket publish goes there and back', () =>
    fromSocket('publish', (traceparent) => clients[0].publish(conversation, { text: 'hello', traceparent })));

  it('is told by stonechatctl as well', async () => {
    const trace = newTrace();
    await send(trace.traceparent);
    await told(trace, 6);
    const text = await host.call('stonechatctl', 'trace', trace.traceparent);
    for (const what of ['REST request message.send', 'Stored as seq', 'Delivered to 2 connections']) assert.ok(text.includes(what), text);
  });

  it('that goes wrong says where and why', async () => {
    const trace = newTrace();
    const answer = await ann.request('POST', '/v1/conversations/no-such-one/messages', { json: { text: 'hello' }, headers: { traceparent: trace.traceparent } });
    assert.equal(answer.body.code, 'not_a_member');
    assert.equal(answer.body.trace_id, trace.id);
    const found = await told(trace, 3);
    assertInOrder(found, [['api', /^REST request/], ['group', /^message\.send refused: not_a_member$/], ['api', /^message\.send refused: not_a_member$/]]);
  });

  it('that is not sampled writes nothing', async () => {
    const trace = newTrace('00'), marker = newTrace();
    assert.equal((await send(trace.traceparent)).headers.traceparent.split('-')[1], trace.id);
    await clients[0].publish(conversation, { text: 'hello', traceparent: trace.traceparent });
    await send(marker.traceparent);
    await told(marker, 6);
    assert.deepEqual(await stations(trace), []);
  });

  it('that is no trace gets a new id', async () => {
    for (const traceparent of ['rubbish', '00-00000000000000000000000000000000-0000000000000001-01', `ff-${'a'.repeat(32)}-${'b'.repeat(16)}-01`]) {
      const answer = await send(traceparent);
      assert.equal(answer.status, 201);
      assert.match(answer.headers.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
      assert.notEqual(answer.headers.traceparent.split('-')[1], traceparent.split('-')[1]);
    }
  });

  it('is written only as often as TraceRate= allows', async () => {
    const rate = 2;
    await configure(rate);
    const begin = Date.now(), traces = Array.from({ length: 60 }, () => newTrace());
    for (const trace of traces) assert.equal((await send(trace.traceparent)).status, 201);
    const allowed = rate + Math.ceil(((Date.now() - begin) / 1000) * rate);
    const written = new Set((await host.journal('SYSLOG_IDENTIFIER=stonechat-api')).map((entry) => entry.STONECHAT_TRACE_ID));
    const n = traces.filter(({ id }) => written.has(id)).length;
    assert.ok(n >= 1 && n <= allowed, `${n} of 60 traces were written, ${allowed} allowed`);

    await configure(0);
    const none = newTrace();
    await send(none.traceparent);
    await clients[0].publish(conversation, { text: 'hello', traceparent: none.traceparent });
    assert.deepEqual(await stations(none), []);
  });

  // As it is configured by default.
  it('of a greedy client, or of nobody in particular, leaves room in the journal, and for the others', async () => {
    await configure(5, 6);
    const begin = Date.now();
    const greedy = { rest: [], socket: [], anonymous: [] };
    for (let i = 0; i < 150; i++) {
      const [rest, socket, anonymous] = [newTrace(), newTrace(), newTrace()];
      greedy.rest.push(rest.id);
      greedy.socket.push(socket.id);
      greedy.anonymous.push(anonymous.id);
      assert.equal((await send(rest.traceparent)).status, 201);
      await clients[0].publish(conversation, { text: 'more', traceparent: socket.traceparent });
      await request(host.api, 'POST', '/v1/auth/refresh', { json: { refresh_token: 'x.y' }, headers: { traceparent: anonymous.traceparent } });
    }
    const wanted = newTrace();
    await until('the trace of another user is written', 20, async () => {
      await bob.request('GET', `/v1/conversations/${conversation}`, { headers: { traceparent: wanted.traceparent } });
      return (await stations(wanted)).length > 0;
    });
    const entries = (await host.journal()).filter((entry) => entry.STONECHAT_TRACE_ID);
    // Six at once, and six a minute.
    const allowed = 6 + Math.ceil((Date.now() - begin) / 10_000);
    for (const [who, ids] of Object.entries(greedy)) {
      const written = new Set(entries.map((entry) => entry.STONECHAT_TRACE_ID).filter((id) => ids.includes(id)));
      assert.ok(written.size <= allowed, `${who}: ${written.size} of 150 traces were written, ${allowed} allowed`);
    }
    const bytes = JSON.stringify(entries.filter((entry) => greedy.rest.includes(entry.STONECHAT_TRACE_ID) || greedy.socket.includes(entry.STONECHAT_TRACE_ID))).length;
    assert.ok(bytes < 2 * allowed * 12_000, `${bytes} bytes in the journal`);
  });
});
