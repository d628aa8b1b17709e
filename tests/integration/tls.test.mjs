// SPDX-License-Identifier: Apache-2.0
// TLS without another process, set up as docs/operations.md says: HTTPS beside HTTP, WSS instead of WS.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { after, before, describe, it } from 'node:test';
import WebSocket from 'ws';
import { RawHttp } from '../conformance/raw-http.mjs';
import { newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host } from './lib/host.mjs';

const API = 'stonechat-api.service';
const SOCKET = 'stonechat-socket@1.service';
const HTTPS = 8443;
const WSS = 8090;
const CERTIFICATE = '/etc/stonechat/tls/fullchain.pem';
const KEY = '/etc/stonechat/tls/privkey.pem';
const UPGRADE = 'GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
const CREDENTIALS = `[Service]\nLoadCredential=tls.crt:${CERTIFICATE}\nLoadCredential=tls.key:${KEY}\n`;

const directory = mkdtempSync(join(tmpdir(), 'stonechat-tls-'));
let host, ca, ann, bo, conversation;

const openssl = (...args) => execFileSync('openssl', args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] });

// {certificate, key} of a new certificate for 127.0.0.1, signed by the CA of this test.
function issue(name) {
  openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
  writeFileSync(join(directory, 'extensions'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-out', `${name}.crt`, '-extfile', 'extensions');
  return { certificate: readFileSync(join(directory, `${name}.crt`), 'utf8'), key: readFileSync(join(directory, `${name}.key`), 'utf8') };
}

async function install({ certificate, key }) {
  await host.write(CERTIFICATE, certificate);
  await host.write(KEY, key);
}

before(async () => {
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=test CA', '-days', '2');
  ca = readFileSync(join(directory, 'ca.crt'), 'utf8');
  host = await Host.boot({
    start: false,
    files: {
      '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Api]\nLoginRate=0\n',
      '/etc/systemd/system/stonechat-api.service.d/tls.conf': CREDENTIALS,
      '/etc/systemd/system/stonechat-socket@.service.d/tls.conf': CREDENTIALS,
      '/etc/systemd/system/stonechat-api-tls.socket': '[Unit]\nPartOf=stonechat.target\n\n'
        + `[Socket]\nListenStream=127.0.0.1:${HTTPS}\nFileDescriptorName=https\nService=${API}\nNoDelay=yes\nBacklog=4096\n\n[Install]\nWantedBy=stonechat.target\n`,
      '/etc/systemd/system/stonechat-socket@.socket.d/tls.conf': '[Socket]\nFileDescriptorName=websocket-tls\n',
    },
  });
  await install(issue('first'));
  await host.call('chmod', '0600', KEY);
  await host.systemctl('daemon-reload');
  await host.systemctl('enable', 'stonechat-api-tls.socket');
  await host.systemctl('enable', '--now', 'stonechat.target');
  [ann, bo] = [await newUser(host.api), await newUser(host.api)];
  conversation = await ann.openDirect(bo.user.id);
});
after(async () => {
  rmSync(directory, { recursive: true, force: true });
  await host?.stop();
});

// One request over HTTPS: {status, headers, text, name (of the certificate), protocol}.
function ask(path, { agent, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const request = https.request({ host: '127.0.0.1', port: HTTPS, path, ca, agent, timeout: 15_000, ...options }, (response) => {
      const { socket } = response;
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({
        status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString(), name: socket.getPeerCertificate().subject?.CN, protocol: socket.getProtocol(),
      }));
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', reject);
    request.end();
  });
}

async function handshake(port, options) {
  const socket = tls.connect({ port, host: '127.0.0.1', ca, ...options });
  try {
    await once(socket, 'secureConnect');
    return { alpn: socket.alpnProtocol, protocol: socket.getProtocol(), name: socket.getPeerCertificate().subject.CN };
  } finally {
    socket.destroy();
  }
}

class SecureWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { ca });
  }
}
const secureClient = (api) => new Client(`wss://127.0.0.1:${WSS}/connection/websocket`, api, { websocket: SecureWebSocket });

describe('TLS', () => {
  it('HTTPS beside HTTP: the same answers', async () => {
    const plain = await fetch(`${host.api}/openapi.json`).then((response) => response.text());
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    const over = await ask('/openapi.json', { agent });
    assert.equal(over.status, 200);
    assert.equal(over.text, plain);
    assert.equal(over.protocol, 'TLSv1.3');
    assert.equal((await ask('/healthz', { agent })).status, 200); // on the same connection
    assert.equal((await ask('/v1/users/me', { headers: { authorization: `Bearer ${ann.accessToken}` } })).status, 200);
    agent.destroy();
  });

  it('HTTP/1.1 by the letter there too', async () => {
    const client = await RawHttp.connect(HTTPS, { secure: { ca } });
    client.send('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    const responses = await client.responses({ heads: [1] });
    assert.deepEqual(responses.map(({ status }) => status), [200, 200, 200]);
    client.close();
  });

  it('WSS, with the SDK', async () => {
    const clients = [secureClient(ann), secureClient(bo)];
    try {
      await Promise.all(clients.map((client) => client.connect()));
      for (const text of ['short', 'long '.repeat(10_000)]) {
        const { seq } = await clients[0].send(conversation, text);
        assert.equal((await clients[1].received(conversation, seq)).data.message.text, text);
      }
    } finally {
      for (const client of clients) client.disconnect();
    }
  });

  it('takes TLS 1.2 and 1.3, and nothing older', async () => {
    for (const port of [HTTPS, WSS]) {
      for (const version of ['TLSv1.2', 'TLSv1.3']) assert.equal((await handshake(port, { minVersion: version, maxVersion: version })).protocol, version);
      for (const version of ['TLSv1', 'TLSv1.1']) {
        await assert.rejects(handshake(port, { minVersion: version, maxVersion: version, ciphers: 'DEFAULT@SECLEVEL=0' }), /version|alert|ECONNRESET/i);
      }
    }
  });

  it('speaks http/1.1, and says so to who asks', async () => {
    assert.equal((await handshake(HTTPS, { ALPNProtocols: ['h2', 'http/1.1'] })).alpn, 'http/1.1');
    assert.equal((await handshake(HTTPS, {})).alpn, false);
    await assert.rejects(handshake(HTTPS, { ALPNProtocols: ['h2'] }), /no application protocol|ECONNRESET/i);
  });

  it('tells who speaks plain text', async () => {
    for (const port of [HTTPS, WSS]) {
      const client = await RawHttp.connect(port);
      const [response, ...rest] = await client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n').responses();
      assert.equal(response.status, 400);
      assert.equal(response.body.code, 'tls_required');
      assert.equal(rest.length, 0);
      client.close();
    }
  });

  it('an idle connection takes little memory', async (t) => {
    const memory = async (unit) => {
      const text = await host.call('cat', `/proc/${await host.property(unit, 'MainPID')}/status`);
      return Number(/RssAnon:\s+(\d+) kB/.exec(text)[1]);
    };
    const n = 150;
    for (const [unit, port, request] of [[API, HTTPS, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'], [SOCKET, WSS, UPGRADE]]) {
      const before = await memory(unit);
      const clients = [];
      for (let i = 0; i < n; i++) {
        const client = await RawHttp.connect(port, { secure: { ca } });
        const { status } = await client.send(request).response();
        assert.ok(status === 200 || status === 101);
        clients.push(client);
      }
      const each = ((await memory(unit)) - before) / n;
      t.diagnostic(`${unit}: ${each.toFixed(1)} KiB`);
      for (const client of clients) client.close();
      if (process.env.STONECHAT_SANITIZE !== '1') assert.ok(each < 24, `${each} KiB each`);
    }
  });

  it('a renewed certificate is in force after a reload, for new connections', async () => {
    assert.equal((await handshake(WSS, {})).name, 'first');
    const client = secureClient(ann);
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    try {
      await client.connect();
      assert.equal((await ask('/', { agent })).name, 'first');
      const pids = [await host.property(API, 'MainPID'), await host.property(SOCKET, 'MainPID')];
      await install(issue('second'));
      await host.systemctl('reload', API, SOCKET);
      for (const port of [HTTPS, WSS]) assert.equal((await handshake(port, {})).name, 'second');
      // Those that were there go on.
      await client.send(conversation, 'still here');
      assert.equal((await ask('/', { agent })).status, 200);
      assert.equal(client.events.filter(([name]) => name === 'connecting').length, 1);
      assert.deepEqual([await host.property(API, 'MainPID'), await host.property(SOCKET, 'MainPID')], pids);
    } finally {
      client.disconnect();
      agent.destroy();
    }
  });

  it('a certificate that is no good changes nothing, and the reload says so', async () => {
    const second = await host.call('cat', CERTIFICATE);
    await host.write(CERTIFICATE, issue('third').certificate); // not of that key
    const { code } = await host.exec('systemctl', 'reload', API);
    assert.notEqual(code, 0);
    assert.equal((await handshake(HTTPS, {})).name, 'second');
    const said = (await host.journal(`_SYSTEMD_UNIT=${API}`)).map(({ MESSAGE }) => MESSAGE).filter((text) => /certificate in force stays/.test(text));
    assert.ok(said.length > 0);
    await host.write(CERTIFICATE, second);
    await host.systemctl('reload', API);
  });

  it('without a certificate the role says what is missing', async () => {
    await host.write('/etc/systemd/system/stonechat-api.service.d/tls.conf', '[Service]\n');
    await host.systemctl('daemon-reload');
    await host.exec('systemctl', 'restart', API);
    const said = (await host.journal(`_SYSTEMD_UNIT=${API}`)).map(({ MESSAGE }) => MESSAGE);
    assert.ok(said.some((text) => /socket named https needs a certificate, but the credential tls.crt/.test(text)), said.slice(-5).join('\n'));
    await host.write('/etc/systemd/system/stonechat-api.service.d/tls.conf', CREDENTIALS);
    await host.systemctl('daemon-reload');
    await host.systemctl('restart', 'stonechat.target');
    await host.active(API);
    assert.equal((await handshake(HTTPS, {})).name, 'second');
  });
});
