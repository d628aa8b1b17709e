// SPDX-License-Identifier: Apache-2.0
// WebSockets under TLS: the server ends it itself, on a socket unit of the name websocket-tls.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, it } from 'node:test';
import tls from 'node:tls';
import WebSocket from 'ws';
import { newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';
import { CLOSE, closePayload, CONTINUATION, frame, PING, PONG, RawWebSocket, TEXT } from './lib/raw-websocket.mjs';

const PORT = 8443, URL = `wss://127.0.0.1:${PORT}/connection/websocket`;
const SERVICE = 'stonechat-socket@1.service';
let host, ann, bob, conversation, ca;

// A new certificate where the unit takes its credentials from; answers its PEM, which is its own CA.
async function renew(name) {
  return host.shell(`
    mkdir -p /etc/stonechat/tls && cd /etc/stonechat/tls
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=${name}' \
      -addext 'subjectAltName=IP:127.0.0.1' -keyout new.key -out new.crt 2>/dev/null
    mv new.key tls.key; mv new.crt tls.crt; cat tls.crt`);
}

before(async () => {
  host = await Host.boot({
    start: false,
    files: {
      '/etc/stonechat/stonechat.conf.d/50-test.conf':
        '[Api]\nLoginRate=0\nMaxConnectionsPerAddress=0\n[Limits]\nUserRate=0\nAddressRate=0\n[Socket]\nMaxConnectionsPerAddress=0\nMaxConnectionsPerUser=0\nMaxConnections=0\nHandshakeTimeoutSec=60s\n',
      '/etc/systemd/system/stonechat-socket-tls@.socket':
        `[Unit]\nPartOf=stonechat.target\n[Socket]\nListenStream=127.0.0.1:${PORT}\nFileDescriptorName=websocket-tls\nService=stonechat-socket@%i.service\nNoDelay=yes\nBacklog=4096\n`,
      [`/etc/systemd/system/${SERVICE}.d/tls.conf`]:
        '[Service]\nSockets=stonechat-socket-tls@1.socket\nLoadCredential=tls.crt:/etc/stonechat/tls/tls.crt\nLoadCredential=tls.key:/etc/stonechat/tls/tls.key\n',
    },
  });
  ca = await renew('first');
  await host.systemctl('daemon-reload');
  await host.systemctl('start', 'stonechat-socket-tls@1.socket');
  await host.systemctl('enable', '--now', 'stonechat.target');
  [ann, bob] = [await newUser(host.api), await newUser(host.api)];
  conversation = await ann.openDirect(bob.user.id);
});
const opened = [];
after(async () => {
  for (const one of opened) one.destroy();
  await host?.stop();
});

async function open() {
  const raw = await RawWebSocket.open({ port: PORT, options: { ca } });
  opened.push(raw);
  return raw;
}

function sdk(user) {
  const client = new Client(URL, user, { websocket: class extends WebSocket { constructor(url, protocols) { super(url, protocols, { ca }); } } });
  opened.push({ destroy: () => client.disconnect() });
  return client;
}

async function memory() {
  const pid = await host.property(SERVICE, 'MainPID');
  const status = await host.call('cat', `/proc/${pid}/status`);
  const descriptors = Number(await host.call('/bin/bash', '-c', `ls /proc/${pid}/fd | wc -l`));
  return { anonymous: Number(/^RssAnon:\s+(\d+) kB/m.exec(status)[1]) * 1024, descriptors };
}

it('the official SDK talks over wss', async () => {
  const [a, b] = [sdk(ann), sdk(bob)];
  await Promise.all([a.connect(), b.connect()]);
  const long = '☺'.repeat(20_000);
  for (const text of ['first', long, 'last']) await a.send(conversation, text);
  await b.received(conversation, 3);
  assert.deepEqual(b.of(conversation).map((one) => one.data.message.text), ['first', long, 'last']);
  a.disconnect();
  b.disconnect();
});

it('the protocol holds under TLS', async () => {
  const connected = async () => {
    const raw = await open();
    assert.equal(raw.status, 101);
    raw.send(TEXT, JSON.stringify({ id: 1, connect: { token: ann.accessToken } }));
    await raw.until('connected', () => raw.frames.length > 0);
    return raw;
  };
  let raw = await connected();
  // Byte by byte is a record for each; fragments, and pings between them.
  await raw.dribble(frame(PING, 'slow'));
  await raw.until('a pong', () => raw.frames.some((one) => one.opcode === PONG));
  raw.write(frame(TEXT, '{"id":2,', { fin: false }), frame(PING, 'between'), frame(CONTINUATION, '"ping":{}}'));
  await raw.until('both pongs', () => raw.frames.filter((one) => one.opcode === PONG).length === 2);
  await raw.until('the reply', () => raw.frames.some((one) => one.payload.toString() === '{"id":2,"ping":{}}'));
  raw.send(CLOSE, closePayload(1000));
  assert.equal(await raw.closeCode(), 1000);
  await raw.end();
  // What is refused is told, and ended in good order.
  for (const [bytes, code] of [
    [frame(TEXT, '{}', { masked: false }), 1002], [frame(TEXT, [0xff]), 1007], [frame(TEXT, '', { length: 1 << 30 }), 1009], [frame(CLOSE, closePayload(5000)), 1002],
  ]) {
    raw = await connected();
    raw.write(bytes);
    assert.equal(await raw.closeCode(), code);
    await raw.end();
  }
});

it('plain text and a half handshake do no harm', async () => {
  const silent = net.connect(PORT, '127.0.0.1');
  const plain = net.connect(PORT, '127.0.0.1', () => plain.write('GET /connection/websocket HTTP/1.1\r\nHost: x\r\n\r\n'));
  const half = net.connect(PORT, '127.0.0.1', () => half.write(Buffer.from('16030100c8010000c40303', 'hex')));
  for (const socket of [silent, plain, half]) {
    socket.on('error', () => {});
    opened.push(socket);
  }
  await new Promise((resolve) => { plain.on('close', resolve); plain.resume(); });
  const good = sdk(bob);
  await good.connect();
  good.disconnect();
  silent.destroy();
  half.destroy();
});

it('a client that does not read is held back, and the others hear nothing of it', async () => {
  const slow = await open();
  slow.send(TEXT, JSON.stringify({ id: 1, connect: { token: ann.accessToken } }));
  await slow.until('connected', () => slow.frames.length > 0);
  const text = 'x'.repeat(60_000);
  for (let i = 0; i < 20; i++) await ann.send(conversation, text);
  slow.socket.pause();
  // 20 pages of what was just sent, a quarter of a megabyte each, and nothing of it is read.
  for (let id = 2; id < 22; id++) slow.send(TEXT, JSON.stringify({ id, history: { channel: conversation, limit: 100 } }));
  const good = sdk(bob);
  await good.connect();
  const { seq } = await ann.send(conversation, 'beside it');
  await good.received(conversation, seq);
  // Then it reads, and all of it is there.
  slow.socket.resume();
  const answered = new Set();
  let looked = 0;
  await slow.until('the replies', () => {
    for (; looked < slow.frames.length; looked++)
      for (const line of slow.frames[looked].payload.toString().split('\n')) answered.add(/^\{"id":(\d+),/.exec(line)?.[1]);
    return [...Array(20).keys()].every((i) => answered.has(String(i + 2)));
  }, 60);
  assert.equal(slow.closed, undefined);
  slow.destroy();
  good.disconnect();
});

it('thousands of idle connections cost little memory, and no more than a descriptor each', async () => {
  const n = 1000;
  const before = await memory();
  const sockets = [];
  for (let i = 0; i < n; i += 50) {
    sockets.push(...await Promise.all(Array.from({ length: 50 }, async () => {
      const raw = await open();
      raw.send(TEXT, JSON.stringify({ id: 1, connect: { token: ann.accessToken } }));
      await raw.until('connected', () => raw.frames.length > 0);
      return raw;
    })));
  }
  const during = await memory();
  const each = (during.anonymous - before.anonymous) / n;
  console.log(`${n} signed-in connections under TLS: ${(each / 1024).toFixed(2)} KiB each, ${(during.descriptors - before.descriptors) / n} descriptors each`);
  assert.ok(each < 18 * 1024, `${each} bytes each`);
  assert.ok(during.descriptors - before.descriptors <= n + 10);
  for (const raw of sockets) raw.destroy();
  await until('all are gone', 20, async () => (await host.statistics('Socket.I1')).connections === 0);
  await until('their descriptors are closed', 20, async () => (await memory()).descriptors <= before.descriptors + 10);
});

it('a renewed certificate holds for new connections, and the others stay', async () => {
  const first = sdk(bob);
  await first.connect();
  const old = ca;
  ca = await renew('second');
  await host.systemctl('reload', SERVICE);
  const presented = await new Promise((resolve, reject) => {
    const socket = tls.connect({ port: PORT, host: '127.0.0.1', ca }, () => { resolve(socket.getPeerCertificate().subject.CN); socket.end(); });
    socket.on('error', reject);
  });
  assert.equal(presented, 'second');
  await assert.rejects(new Promise((resolve, reject) => {
    const socket = tls.connect({ port: PORT, host: '127.0.0.1', ca: old }, () => { resolve(); socket.end(); });
    socket.on('error', reject);
  }));
  const { seq } = await ann.send(conversation, 'after the renewal');
  await first.received(conversation, seq);
  assert.equal(first.events.filter(([name]) => name === 'connecting').length, 1);
  first.disconnect();
});
