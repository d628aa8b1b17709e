// SPDX-License-Identifier: Apache-2.0
// RFC 6455, by a client that is written from it (lib/raw-websocket.mjs): everything that a client may send and must not
// send, to the installed package. At the end stands the table of what was tried. The families are those of the Autobahn
// test suite, which cannot run here (it needs Python 2); the cases are our own.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';
import { BINARY, CLOSE, closePayload, CONTINUATION, frame, PING, PONG, RawWebSocket, TEXT } from './lib/raw-websocket.mjs';

const MAX_FRAME = 131072;
let host, ann, conversation, good;
const table = [];

before(async () => {
  host = await Host.boot({
    files: {
      '/etc/stonechat/stonechat.conf.d/50-test.conf':
        `[Api]\nLoginRate=0\n[Limits]\nUserRate=0\nAddressRate=0\n[Socket]\nMaxFrame=${MAX_FRAME}\nMaxConnectionsPerAddress=0\nMaxConnectionsPerUser=0\nPendingMemory=4M\nHandshakeTimeoutSec=60s\n`,
    },
  });
  ann = await newUser(host.api);
  const bob = await newUser(host.api);
  conversation = await ann.openDirect(bob.user.id);
  good = new Client(host.socket, bob);
  await good.connect();
});
after(async () => {
  // Whatever was tried, who is connected beside it has noticed nothing.
  assert.equal(good.events.filter(([name]) => name === 'disconnected' || name === 'connecting').length, 1);
  good.disconnect();
  await host?.stop();
  const width = Math.max(...table.map(([family, name]) => family.length + name.length)) + 2;
  console.log(table.map(([family, name, result]) => `${`${family}: ${name}`.padEnd(width)}  ${result}`).join('\n'));
  console.log(`${table.filter(([, , result]) => result === 'pass').length} of ${table.length} cases of RFC 6455 pass`);
});

// A signed-in connection that speaks JSON.
class Session extends RawWebSocket {
  #id = 1;

  static async connect() {
    const raw = await RawWebSocket.open();
    assert.equal(raw.status, 101);
    Object.setPrototypeOf(raw, Session.prototype);
    raw.say = 1;
    raw.send(TEXT, JSON.stringify({ id: 1, connect: { token: ann.accessToken } }));
    await raw.reply(1);
    return raw;
  }

  get replies() {
    return this.frames.filter((one) => one.opcode === TEXT).flatMap((one) => one.payload.toString().split('\n').filter(Boolean).map((line) => JSON.parse(line)));
  }

  reply(id) {
    return this.until(`reply ${id}`, () => this.replies.find((reply) => reply.id === id) ?? (this.ended && { ended: true }));
  }

  // A command that sends `text` into the conversation, as bytes of at least `size`.
  command(text = 'text', size = 0) {
    const id = ++this.say;
    const bytes = Buffer.from(JSON.stringify({ id, rpc: { method: 'message.send', data: { conversation, text } } }));
    return { id, bytes: Buffer.concat([bytes, Buffer.alloc(Math.max(0, size - bytes.length), ' ')]) };
  }

  // The server has taken the message: it was stored, and came back as it was sent.
  async taken({ id }, text = 'text') {
    const reply = await this.reply(id);
    assert.ok(reply.rpc, `answered ${JSON.stringify(reply)}`);
    const { seq } = reply.rpc.data;
    const push = await this.until(`push ${seq}`, () => this.replies.find((one) => one.push?.pub?.offset === seq));
    assert.equal(push.push.pub.data.message.text, text);
  }

  async alive() {
    const command = this.command('still here');
    this.send(TEXT, command.bytes);
    await this.taken(command, 'still here');
  }

  // The server fails the connection with this code: a close frame, then the end, whether or not we answer.
  async refused(code) {
    assert.equal(await this.closeCode(), code);
    this.send(CLOSE, closePayload(code));
    await this.end();
  }
}

// describe() with cases: [name, async (session) => …]. Each has a connection of its own, signed in.
function family(name, cases) {
  describe(name, () => {
    for (const [what, run, bare] of cases) {
      it(what, async () => {
        const row = [name, what, 'fail'];
        table.push(row);
        const session = bare ? null : await Session.connect();
        try {
          await run(session);
          assert.equal(session?.violation ?? null, null);
          row[2] = 'pass';
        } finally {
          session?.destroy();
        }
      });
    }
  });
}

const violates = (name, ...parts) => [name, async (s) => {
  s.write(...parts);
  await s.refused(1002);
}];

family('framing', [
  ...[0, 125, 126, 127, 128, 65535, 65536, MAX_FRAME].map((size) => [`text of ${size} bytes`, async (s) => {
    const command = s.command('text', size);
    if (size === 0) s.send(TEXT, ''); // says nothing
    s.send(TEXT, command.bytes);
    await s.taken(command);
  }]),
  ...[1, 125, 126, 65535, 65536].map((size) => [`text of ${size} bytes in segments of 997`, async (s) => {
    const command = s.command('text', size);
    const bytes = frame(TEXT, command.bytes);
    for (let at = 0; at < bytes.length; at += 997) s.write(bytes.subarray(at, at + 997));
    await s.taken(command);
  }]),
  ['byte by byte', async (s) => {
    const command = s.command('héllo ☺');
    await s.dribble(Buffer.concat([frame(TEXT, command.bytes), frame(PING, 'slow')]));
    await s.taken(command, 'héllo ☺');
    await s.until('pong', () => s.frames.find((one) => one.opcode === PONG && one.payload.toString() === 'slow'));
  }],
  ['50 messages in one segment', async (s) => {
    const commands = Array.from({ length: 50 }, (_, i) => s.command(`message ${i}`));
    s.write(...commands.map((one) => frame(TEXT, one.bytes)));
    for (const [i, one] of commands.entries()) await s.taken(one, `message ${i}`);
  }],
  ['a message as many tiny frames', async (s) => {
    const command = s.command('t'.repeat(2000));
    s.write(...[...command.bytes].map((byte, i) => frame(i ? CONTINUATION : TEXT, [byte], { fin: i === command.bytes.length - 1 })));
    await s.taken(command, 't'.repeat(2000));
  }],
  ['binary to a connection that speaks text is refused above', async (s) => {
    s.send(BINARY, [1, 2, 3]);
    assert.equal(await s.closeCode(), 3501);
  }],
  ['binary, protobuf', async () => {
    const raw = await RawWebSocket.open();
    // Command{id: 7, ping: {}} before connect, behind its length: it is refused there, in binary.
    raw.send(BINARY, [4, 0x08, 7, 0x5a, 0]);
    await raw.until('an answer in binary, or a close frame', () => raw.frames.find((one) => one.opcode === BINARY || one.opcode === CLOSE));
    assert.equal(raw.violation, null);
    raw.destroy();
  }, true],
  violates('length 5 in 16 bits', frame(TEXT, 'hello', { form: 16 })),
  violates('length 5 in 64 bits', frame(TEXT, 'hello', { form: 64 })),
  violates('length 125 in 16 bits', frame(TEXT, ' '.repeat(125), { form: 16 })),
  violates('length 65535 in 64 bits', frame(TEXT, ' '.repeat(65535), { form: 64 })),
  violates('length with the highest bit', Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4])),
]);

family('masks', [
  violates('text without mask', frame(TEXT, '{}', { masked: false })),
  violates('empty text without mask', frame(TEXT, '', { masked: false })),
  violates('binary without mask', frame(BINARY, [1], { masked: false })),
  violates('ping without mask', frame(PING, 'ping', { masked: false })),
  violates('close without mask', frame(CLOSE, closePayload(1000), { masked: false })),
  ['second fragment without mask', async (s) => {
    s.write(frame(TEXT, '{', { fin: false }), frame(CONTINUATION, '}', { masked: false }));
    await s.refused(1002);
  }],
  ['mask of zeros', async (s) => {
    const command = s.command('text', 200);
    s.write(Buffer.concat([Buffer.from([0x81, 0xfe, command.bytes.length >> 8, command.bytes.length & 255, 0, 0, 0, 0]), command.bytes]));
    await s.taken(command);
  }],
]);

family('reserved bits', [1, 2, 3, 4, 5, 6, 7].flatMap((rsv) => [
  violates(`${rsv} in text`, frame(TEXT, '{}', { rsv })),
  violates(`${rsv} in a ping`, frame(PING, 'x', { rsv })),
]));

family('opcodes', [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].flatMap((opcode) => [
  violates(`${opcode} alone`, frame(opcode, '')),
  [`${opcode} behind a message`, async (s) => {
    const command = s.command();
    s.write(frame(TEXT, command.bytes), frame(opcode, 'x'), frame(PING, 'not any more'));
    await s.refused(1002);
  }],
]));

family('pings and pongs', [
  ...[0, 1, 124, 125].map((size) => [`ping of ${size} bytes`, async (s) => {
    const payload = Buffer.alloc(size, 0xfe);
    s.send(PING, payload);
    const pong = await s.until('pong', () => s.frames.find((one) => one.opcode === PONG));
    assert.deepEqual(pong.payload, payload);
    await s.alive();
  }]),
  violates('ping of 126 bytes', frame(PING, Buffer.alloc(126))),
  violates('pong of 65536 bytes', frame(PONG, Buffer.alloc(65536))),
  violates('ping in fragments', frame(PING, 'x', { fin: false })),
  ['ten pings in one segment: the latest is answered', async (s) => {
    s.write(...Array.from({ length: 10 }, (_, i) => frame(PING, `ping ${i}`)));
    await s.until('pong 9', () => s.frames.find((one) => one.opcode === PONG && one.payload.toString() === 'ping 9'));
    const pongs = s.frames.filter((one) => one.opcode === PONG).map((one) => one.payload.toString());
    assert.deepEqual(pongs, [...pongs].sort());
    await s.alive();
  }],
  ['ten pings, a segment each', async (s) => {
    for (let i = 0; i < 10; i++) {
      s.send(PING, `ping ${i}`);
      await s.until(`pong ${i}`, () => s.frames.find((one) => one.opcode === PONG && one.payload.toString() === `ping ${i}`));
    }
  }],
  ['a pong nobody asked for', async (s) => {
    s.send(PONG, 'unasked');
    await s.alive();
    assert.equal(s.frames.filter((one) => one.opcode === PONG).length, 0);
  }],
  ['a ping byte by byte', async (s) => {
    await s.dribble(frame(PING, 'a'.repeat(125)));
    await s.until('pong', () => s.frames.find((one) => one.opcode === PONG && one.payload.length === 125));
  }],
]);

family('fragments', [
  ['text in two', async (s) => {
    const command = s.command('in two');
    s.write(frame(TEXT, command.bytes.subarray(0, 9), { fin: false }), frame(CONTINUATION, command.bytes.subarray(9)));
    await s.taken(command, 'in two');
  }],
  ['empty fragments before, between and behind', async (s) => {
    const command = s.command();
    const empty = frame(CONTINUATION, '', { fin: false });
    s.write(frame(TEXT, '', { fin: false }), empty, frame(CONTINUATION, command.bytes, { fin: false }), empty, frame(CONTINUATION, ''));
    await s.taken(command);
  }],
  ['three empty fragments', async (s) => {
    s.write(frame(TEXT, '', { fin: false }), frame(CONTINUATION, '', { fin: false }), frame(CONTINUATION, ''));
    await s.alive();
  }],
  ['with pings between them, each answered at once', async (s) => {
    const command = s.command();
    s.send(TEXT, command.bytes.subarray(0, 5), { fin: false });
    s.send(PING, 'between');
    await s.until('pong', () => s.frames.find((one) => one.opcode === PONG && one.payload.toString() === 'between'));
    s.send(CONTINUATION, command.bytes.subarray(5, 10), { fin: false });
    s.send(PONG, 'unasked');
    s.send(CONTINUATION, command.bytes.subarray(10));
    await s.taken(command);
  }],
  ['with a close between them', async (s) => {
    s.write(frame(TEXT, '{', { fin: false }), frame(CLOSE, closePayload(1001)));
    assert.equal(await s.closeCode(), 1001);
    await s.end();
  }],
  violates('a continuation of nothing', frame(CONTINUATION, 'x')),
  violates('a continuation of nothing, not the last', frame(CONTINUATION, 'x', { fin: false })),
  ['a continuation behind a whole message', async (s) => {
    s.write(frame(TEXT, s.command().bytes), frame(CONTINUATION, 'x'));
    await s.refused(1002);
  }],
  violates('text within text', frame(TEXT, '{', { fin: false }), frame(TEXT, '}')),
  violates('binary within text', frame(TEXT, '{', { fin: false }), frame(BINARY, '}')),
  violates('text within text, not the last', frame(TEXT, '{', { fin: false }), frame(TEXT, '}', { fin: false })),
]);

const GOOD_TEXT = ['plain', 'κόσμε', '\u0080\u07ff\u0800\ud7ff\ue000\ufffd\uffff', '\u{10000}\u{10ffff}', '☺'.repeat(5000), '\ufeffbom', '\u{1f600}'.repeat(300)];
const BAD_TEXT = [
  ['a lone continuation', [0x80]], ['byte fe', [0xfe]], ['byte ff', [0xff]], ['overlong /', [0xc0, 0xaf]], ['overlong / in 3', [0xe0, 0x80, 0xaf]],
  ['overlong / in 4', [0xf0, 0x80, 0x80, 0xaf]], ['overlong NUL', [0xc0, 0x80]], ['surrogate D800', [0xed, 0xa0, 0x80]], ['surrogate DFFF', [0xed, 0xbf, 0xbf]],
  ['a pair of surrogates', [0xed, 0xa0, 0x80, 0xed, 0xb0, 0x80]], ['U+110000', [0xf4, 0x90, 0x80, 0x80]], ['five bytes', [0xf8, 0x88, 0x80, 0x80, 0x80]],
  ['first byte alone', [0xe2, 0x20]], ['cut off', [0xe2, 0x98]], ['cut off after one', [0xf0]],
];

family('UTF-8', [
  ...GOOD_TEXT.map((text) => [`valid: ${JSON.stringify(text).slice(0, 20)}`, async (s) => {
    const command = s.command(text);
    s.send(TEXT, command.bytes);
    await s.taken(command, text);
  }]),
  ['valid, cut after every byte into fragments', async (s) => {
    const text = 'κ\u0800\u{10ffff}';
    const command = s.command(text);
    s.write(...[...command.bytes].map((byte, i) => frame(i ? CONTINUATION : TEXT, [byte], { fin: i === command.bytes.length - 1 })));
    await s.taken(command, text);
  }],
  ['valid, byte by byte', async (s) => {
    const command = s.command('κόσμε\u{10ffff}');
    await s.dribble(frame(TEXT, command.bytes));
    await s.taken(command, 'κόσμε\u{10ffff}');
  }],
  ['NUL is a character', async (s) => {
    s.send(TEXT, '\0');
    assert.equal(await s.closeCode(), 3501); // not JSON, but not 1007
  }],
  ...BAD_TEXT.map(([name, bytes]) => [`${name}`, async (s) => {
    s.send(TEXT, Buffer.concat([Buffer.from('{"x":"'), Buffer.from(bytes)]));
    await s.refused(1007);
  }]),
  ...BAD_TEXT.slice(0, 12).map(([name, bytes]) => [`${name}, in a fragment, before the message ends`, async (s) => {
    s.write(frame(TEXT, 'valid so far', { fin: false }), frame(CONTINUATION, bytes, { fin: false }));
    await s.refused(1007);
  }]),
  ['cut off before an empty last fragment', async (s) => {
    s.write(frame(TEXT, [0xe2, 0x98], { fin: false }), frame(CONTINUATION, ''));
    await s.refused(1007);
  }],
  ['a ping within a character', async (s) => {
    const command = s.command('☺');
    const at = command.bytes.indexOf(0xe2) + 1;
    s.write(frame(TEXT, command.bytes.subarray(0, at), { fin: false }), frame(PING, [0xff]), frame(CONTINUATION, command.bytes.subarray(at)));
    await s.taken(command, '☺');
  }],
]);

const echoed = (code) => [`${code} is answered with itself`, async (s) => {
  s.send(CLOSE, closePayload(code, 'reason ☺'));
  assert.equal(await s.closeCode(), code);
  await s.end();
}];
const badCode = (code) => [`${code} is refused`, async (s) => {
  s.send(CLOSE, closePayload(code));
  await s.refused(1002);
}];

family('closing', [
  ...[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999].map(echoed),
  ...[0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535].map(badCode),
  ['without a payload', async (s) => {
    s.send(CLOSE, '');
    assert.equal(await s.closeCode(), 1005);
    await s.end();
  }],
  ['a payload of one byte', async (s) => {
    s.send(CLOSE, [3]);
    await s.refused(1002);
  }],
  ['a reason of 123 bytes', async (s) => {
    s.send(CLOSE, closePayload(1000, 'r'.repeat(123)));
    assert.equal(await s.closeCode(), 1000);
    await s.end();
  }],
  violates('a reason of 124 bytes', frame(CLOSE, closePayload(1000, 'r'.repeat(124)))),
  violates('in fragments', frame(CLOSE, closePayload(1000), { fin: false })),
  ['a reason that is not UTF-8', async (s) => {
    s.send(CLOSE, Buffer.concat([closePayload(1000), Buffer.from([0xce, 0xba, 0xff])]));
    await s.refused(1007);
  }],
  ['a reason that is cut off', async (s) => {
    s.send(CLOSE, Buffer.concat([closePayload(1000), Buffer.from([0xe2, 0x98])]));
    await s.refused(1007);
  }],
  ['byte by byte', async (s) => {
    await s.dribble(frame(CLOSE, closePayload(1000, 'bye')));
    assert.equal(await s.closeCode(), 1000);
    await s.end();
  }],
  ['twice', async (s) => {
    s.write(frame(CLOSE, closePayload(1000)), frame(CLOSE, closePayload(1001)));
    assert.equal(await s.closeCode(), 1000);
    await s.end();
  }],
  ['messages and a ping behind it are not taken', async (s) => {
    const command = s.command('too late');
    s.write(frame(CLOSE, closePayload(1000)), frame(TEXT, command.bytes), frame(PING, 'too late'));
    assert.equal(await s.closeCode(), 1000);
    await s.end();
    assert.ok(!s.replies.some((reply) => reply.id === command.id) && !s.frames.some((one) => one.opcode === PONG));
  }],
  ['a megabyte behind it does not lose the answer', async (s) => {
    s.write(frame(CLOSE, closePayload(1000)), Buffer.alloc(1 << 20, 0x81));
    assert.equal(await s.closeCode(), 1000);
    await s.end();
  }],
  ['a message before it is taken', async (s) => {
    const command = s.command(`before ${Math.random()}`);
    s.write(frame(TEXT, command.bytes), frame(CLOSE, closePayload(1000)));
    assert.equal(await s.closeCode(), 1000);
    await s.end();
  }],
  ['by the server, and the client answers', async (s) => {
    s.send(TEXT, '{"nonsense": 1, "id": "seven"}'); // answered
    s.send(BINARY, [1]); // the other protocol: the connection ends
    const code = await s.closeCode();
    assert.ok(code >= 3000);
    s.send(CLOSE, closePayload(code));
    await s.end();
  }],
  ['by the server, and the client goes on sending first', async (s) => {
    s.send(BINARY, [1]);
    const code = await s.closeCode();
    for (let i = 0; i < 20; i++) s.write(frame(TEXT, s.command().bytes), frame(PING, 'x'));
    s.send(CLOSE, closePayload(code));
    await s.end();
  }],
  ['TCP half closed without it', async (s) => {
    s.socket.end();
    await s.until('the end', () => s.ended);
    assert.equal(s.closed, undefined);
  }],
]);

family('limits', [
  ['a message of the limit, in fragments', async (s) => {
    const command = s.command('text', MAX_FRAME);
    const half = MAX_FRAME / 2;
    s.write(frame(TEXT, command.bytes.subarray(0, half), { fin: false }), frame(PING, ''), frame(CONTINUATION, command.bytes.subarray(half)));
    await s.taken(command);
  }],
  ['one byte more', async (s) => {
    s.send(TEXT, Buffer.alloc(MAX_FRAME + 1, ' '));
    await s.refused(1009);
  }],
  ['one byte more, announced and left unfinished', async (s) => {
    s.write(frame(TEXT, Buffer.alloc(10, ' '), { length: MAX_FRAME + 1 }));
    await s.refused(1009);
  }],
  ['one byte more, by the last fragment', async (s) => {
    s.write(frame(TEXT, Buffer.alloc(MAX_FRAME, ' '), { fin: false }), frame(CONTINUATION, ' '));
    await s.refused(1009);
  }],
  ['one byte more, by a fragment that is left unfinished', async (s) => {
    s.write(frame(TEXT, Buffer.alloc(MAX_FRAME, ' '), { fin: false }), frame(CONTINUATION, '', { length: 5 }));
    await s.refused(1009);
  }],
  ['63 bits announced', async (s) => {
    s.write(Buffer.from([0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4]));
    await s.refused(1009);
  }],
  ['four megabytes, all sent', async (s) => {
    s.send(BINARY, Buffer.alloc(4 << 20));
    await s.refused(1009);
  }],
]);

const handshake = (name, status, options, check) => [name, async () => {
  const raw = await RawWebSocket.open(options);
  try {
    assert.equal(raw.status, status);
    await check?.(raw);
    if (status === 101) {
      raw.send(CLOSE, closePayload(1000));
      assert.equal(await raw.closeCode(), 1000);
      await raw.end();
    }
  } finally {
    raw.destroy();
  }
}, true];

family('handshake', [
  handshake('as the RFC has it', 101, {}),
  handshake('header names and values in other cases', 101, { headers: { Upgrade: 'WebSocket', Connection: 'keep-alive, UPGRADE' } }),
  handshake('extensions are not accepted', 101, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits, x-unknown' } }, (raw) => assert.equal(raw.headers['sec-websocket-extensions'], undefined)),
  handshake('the known subprotocol is accepted', 101, { headers: { 'Sec-WebSocket-Protocol': 'other, centrifuge-protobuf' } }, (raw) => assert.equal(raw.headers['sec-websocket-protocol'], 'centrifuge-protobuf')),
  handshake('an unknown subprotocol is not', 101, { headers: { 'Sec-WebSocket-Protocol': 'other' } }, (raw) => assert.equal(raw.headers['sec-websocket-protocol'], undefined)),
  handshake('the own origin', 101, { headers: { Origin: 'http://127.0.0.1:8090' } }),
  handshake('a foreign origin', 403, { headers: { Origin: 'https://evil.example' } }),
  handshake('version 8', 426, { headers: { 'Sec-WebSocket-Version': '8' } }, (raw) => assert.equal(raw.headers['sec-websocket-version'], '13')),
  handshake('version 14', 426, { headers: { 'Sec-WebSocket-Version': '14' } }),
  handshake('no version', 426, { headers: { 'Sec-WebSocket-Version': undefined } }),
  handshake('no key', 400, { headers: { 'Sec-WebSocket-Key': undefined } }),
  handshake('a key of 15 bytes', 400, { headers: { 'Sec-WebSocket-Key': Buffer.alloc(15).toString('base64') } }),
  handshake('a key that is no base64', 400, { headers: { 'Sec-WebSocket-Key': '!'.repeat(22) + '==' } }),
  handshake('two keys', 400, { headers: { 'Sec-WebSocket-Key': ['dGhlIHNhbXBsZSBub25jZQ==', 'dGhlIHNhbXBsZSBub25jZQ=='] } }),
  handshake('no Upgrade', 426, { headers: { Upgrade: undefined } }),
  handshake('no Connection', 426, { headers: { Connection: undefined } }),
  handshake('Upgrade to something else', 426, { headers: { Upgrade: 'h2c' } }),
  handshake('POST', 400, { verb: 'POST', headers: { 'Content-Length': '0' } }),
  handshake('a body', 413, { headers: { 'Content-Length': '2' }, behind: 'ab' }),
  handshake('frames before the answer', 400, { behind: frame(TEXT, '{}') }),
  handshake('HTTP/1.0', 426, { version: 'HTTP/1.0' }),
  handshake('no host', 400, { headers: { Host: undefined } }),
  handshake('another path', 404, { path: '/elsewhere' }),
]);

// Bytes that the role holds of its own, not of files.
async function memory() {
  const pid = await host.property('stonechat-socket@1.service', 'MainPID');
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(await host.call('cat', `/proc/${pid}/status`))[1]) * 1024;
}

// A message from ann to bob, who is connected all the time.
async function talk() {
  const { seq } = await ann.send(conversation, 'beside a flood');
  await good.received(conversation, seq);
}

describe('strangers', () => {
  it('hold no more memory than PendingMemory= with messages that they do not end', async () => {
    const strangers = 1000, size = 100_000, limit = 4 << 20;
    await talk();
    const [before, statistics] = [await memory(), await host.statistics('Socket.I1')];
    const flood = [];
    for (let i = 0; i < strangers; i++) {
      const raw = await RawWebSocket.open();
      raw.write(frame(TEXT, Buffer.alloc(size, ' '), { length: size + 1 }));
      flood.push(raw);
      if (i % 100 === 99) await talk();
    }
    // Only the latest can still wait; the others were told why they had to go.
    const room = Math.floor(limit / size);
    await until('the older ones are gone', 20, async () => flood.slice(0, strangers - room).every((raw) => raw.ended));
    const during = await memory();
    const gone = flood.filter((raw) => raw.ended);
    for (const raw of gone) assert.equal(await raw.closeCode(), 1013);
    assert.ok(!gone.some((raw) => raw.reset || raw.violation));
    const counted = await host.statistics('Socket.I1');
    assert.ok(counted.pending_bytes <= limit, `${counted.pending_bytes} bytes`);
    assert.equal(counted.pending_evicted - statistics.pending_evicted, gone.length);
    for (const raw of flood) raw.destroy();
    await until('nothing is pending', 20, async () => (await host.statistics('Socket.I1')).pending_bytes === 0);
    await talk();
    const after = await memory();
    console.log(`${strangers} strangers with ${size} bytes each, ${gone.length} sent away: ${before >> 10} KiB before, ${during >> 10} during, ${after >> 10} after`);
    // Each connection has some KiB of its own, and malloc() its slack.
    assert.ok(during - before < limit + strangers * 4096 + (4 << 20), `${(during - before) >> 10} KiB more`);
    assert.ok(after - before < 2 << 20, `${(after - before) >> 10} KiB stay`);
  });

  it('may connect with a long message all the same', async () => {
    const raw = await RawWebSocket.open();
    raw.send(TEXT, Buffer.concat([Buffer.from(JSON.stringify({ id: 1, connect: { token: ann.accessToken } })), Buffer.alloc(MAX_FRAME - 2000, ' ')]));
    await raw.until('connected', () => raw.frames.some((one) => one.payload.toString().includes('"connect"')));
    raw.destroy();
  });
});
