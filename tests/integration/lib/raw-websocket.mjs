// SPDX-License-Identifier: Apache-2.0
// A WebSocket client written from RFC 6455 that sends whatever it is told to, and takes nothing that a server must not
// send. For tests of the protocol itself; what is said in messages is no business of it.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';

export const TEXT = 1, BINARY = 2, CONTINUATION = 0, CLOSE = 8, PING = 9, PONG = 10;

export function mask(payload, key) {
  const masked = Buffer.from(payload);
  for (let i = 0; i < masked.length; i++) masked[i] ^= key[i & 3];
  return masked;
}

// One frame of a client. form: how the length is written (7, 16 or 64 bits), the shortest unless given; length: what it
// says, if that is not the truth.
export function frame(opcode, payload = '', { fin = true, rsv = 0, masked = true, form, length } = {}) {
  const data = Buffer.from(payload);
  const size = length ?? data.length;
  const bits = form ?? (size < 126 ? 7 : size < 65536 ? 16 : 64);
  const head = Buffer.alloc(bits === 7 ? 2 : bits === 16 ? 4 : 10);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (masked ? 0x80 : 0) | (bits === 7 ? size : bits === 16 ? 126 : 127);
  if (bits === 16) head.writeUInt16BE(size, 2);
  if (bits === 64) head.writeBigUInt64BE(BigInt(size), 2);
  if (!masked) return Buffer.concat([head, data]);
  const key = randomBytes(4);
  return Buffer.concat([head, key, mask(data, key)]);
}

export function closePayload(code, reason = '') {
  const data = Buffer.from(reason);
  const payload = Buffer.alloc(2 + data.length);
  payload.writeUInt16BE(code, 0);
  data.copy(payload, 2);
  return payload;
}

export class RawWebSocket {
  #waiting = new Set();
  #input = Buffer.alloc(0);

  // Connects and sends the opening handshake; resolves when it was answered, with status and headers. Header names are
  // sent as they are given; a value that is undefined leaves the header out, a list repeats it.
  static async open({ port = 8090, host = '127.0.0.1', path = '/connection/websocket', headers = {}, verb = 'GET', version = 'HTTP/1.1', behind = '', options, allowHalfOpen = true } = {}) {
    const raw = new RawWebSocket();
    raw.socket = options ? tls.connect({ port, host, ...options }) : net.connect({ port, host, allowHalfOpen, noDelay: true });
    raw.#follow();
    await raw.until('connected', () => raw.connected || raw.error);
    raw.key = randomBytes(16).toString('base64');
    const all = {
      Host: `${host}:${port}`, Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Key': raw.key, 'Sec-WebSocket-Version': '13', ...headers,
    };
    const lines = Object.entries(all).flatMap(([name, value]) => [value ?? []].flat().map((one) => `${name}: ${one}\r\n`));
    raw.socket.write(Buffer.concat([Buffer.from(`${verb} ${path} ${version}\r\n${lines.join('')}\r\n`), Buffer.from(behind)]));
    await raw.until('the answer to the handshake', () => raw.status || raw.ended);
    return raw;
  }

  constructor() {
    this.frames = []; // {opcode, payload}
    this.status = 0;
    this.headers = {};
    this.ended = false; // the server closed
    this.reset = false; // and not in good order
    this.violation = null; // what it must not have sent
  }

  #follow() {
    this.socket.on(this.socket instanceof tls.TLSSocket ? 'secureConnect' : 'connect', () => { this.connected = true; this.#notify(); });
    this.socket.on('data', (data) => {
      this.#input = Buffer.concat([this.#input, data]);
      if (!this.status) this.#readHead();
      if (this.status === 101) this.#readFrames();
      this.#notify();
    });
    this.socket.on('end', () => { this.ended = true; this.#notify(); });
    this.socket.on('close', () => { this.ended = true; this.#notify(); });
    this.socket.on('error', (error) => { this.error = error; this.ended = true; this.reset = error.code === 'ECONNRESET' || error.code === 'EPIPE'; this.#notify(); });
  }

  #readHead() {
    const end = this.#input.indexOf('\r\n\r\n');
    if (end < 0) return;
    const [first, ...lines] = this.#input.subarray(0, end).toString('latin1').split('\r\n');
    this.#input = this.#input.subarray(end + 4);
    this.status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)[1]);
    for (const line of lines) this.headers[line.slice(0, line.indexOf(':')).toLowerCase()] = line.slice(line.indexOf(':') + 1).trim();
    if (this.status !== 101) return;
    assert.equal(this.headers['sec-websocket-accept'], createHash('sha1').update(`${this.key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64'));
    assert.match(this.headers.upgrade, /^websocket$/i);
    assert.match(this.headers.connection, /^upgrade$/i);
  }

  #readFrames() {
    for (;;) {
      const input = this.#input;
      if (input.length < 2) return;
      const opcode = input[0] & 15, bits = input[1] & 127, extra = bits === 127 ? 8 : bits === 126 ? 2 : 0;
      if (input.length < 2 + extra) return;
      const size = extra === 8 ? Number(input.readBigUInt64BE(2)) : extra ? input.readUInt16BE(2) : bits;
      if (input.length < 2 + extra + size) return;
      if (input[0] & 0x70) this.violation ??= 'reserved bits';
      if (input[1] & 0x80) this.violation ??= 'masked';
      if (!(input[0] & 0x80)) this.violation ??= 'fragmented';
      if (![TEXT, BINARY, CLOSE, PING, PONG].includes(opcode)) this.violation ??= `opcode ${opcode}`;
      if ((extra === 2 && size < 126) || (extra === 8 && size < 65536)) this.violation ??= 'length not minimal';
      if (this.closed) this.violation ??= 'a frame behind its close frame';
      const payload = input.subarray(2 + extra, 2 + extra + size);
      this.frames.push({ opcode, payload });
      this.#input = input.subarray(2 + extra + size);
    }
  }

  #notify() {
    for (const check of this.#waiting) check();
  }

  until(what, condition, seconds = 15) {
    return new Promise((resolve, reject) => {
      const check = () => {
        const value = condition();
        if (!value) return;
        this.#waiting.delete(check);
        clearTimeout(timer);
        resolve(value);
      };
      const timer = setTimeout(() => { this.#waiting.delete(check); reject(new Error(`not within ${seconds} s: ${what}`)); }, seconds * 1000);
      this.#waiting.add(check);
      check();
    });
  }

  write(...buffers) {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(buffers));
  }

  send(opcode, payload, options) {
    this.write(frame(opcode, payload, options));
  }

  // Byte for byte, each in a segment of its own.
  async dribble(data) {
    for (const byte of data) await new Promise((resolve) => this.socket.write(Buffer.from([byte]), () => setImmediate(resolve)));
  }

  get closed() {
    return this.frames.find((one) => one.opcode === CLOSE);
  }

  // The code of the server's close frame, 1005 for an empty one; 0: it ended without one.
  async closeCode() {
    const found = await this.until('a close frame', () => this.closed || (this.ended && 'none'));
    if (found === 'none') return 0;
    return found.payload.length < 2 ? 1005 : found.payload.readUInt16BE(0);
  }

  // Until the server has closed the TCP connection, in good order.
  async end() {
    await this.until('the end of the connection', () => this.ended);
    assert.ok(!this.reset, 'the connection was reset');
    assert.equal(this.violation, null);
    this.destroy();
  }

  destroy() {
    this.socket.destroy();
  }
}
