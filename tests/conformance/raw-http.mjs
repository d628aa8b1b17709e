// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 client that sends exactly the bytes it is told to, and reads responses by the letter of RFC 9112. It
// shares nothing with the server, and uses no HTTP library.
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';

const END = Symbol('end');

// Bytes are written here as strings of the characters U+0000 to U+00FF.
export const bytes = (text) => Buffer.from(text, 'latin1');

export class RawHttp {
  #data = Buffer.alloc(0);
  #ended = false;
  #wake = () => {};

  // secure: options of tls.connect(), or nothing.
  static async connect(port, { host = '127.0.0.1', secure, timeout = 30_000 } = {}) {
    const socket = secure ? tls.connect({ port, host, ...secure }) : net.connect(port, host);
    const client = new RawHttp(socket, timeout);
    await once(socket, secure ? 'secureConnect' : 'connect');
    return client;
  }

  constructor(socket, timeout) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.setTimeout(timeout, () => socket.destroy(new Error('the server said nothing for too long')));
    socket.on('data', (data) => {
      this.#data = Buffer.concat([this.#data, data]);
      this.#wake();
    });
    const end = (error) => {
      this.error ??= error instanceof Error ? error : undefined;
      this.#ended = true;
      this.#wake();
    };
    socket.on('error', end);
    socket.on('end', end);
    socket.on('close', end);
  }

  send(text) {
    if (!this.socket.destroyed) this.socket.write(bytes(text));
    return this;
  }

  close() {
    this.socket.destroy();
  }

  async #more() {
    if (this.#ended) throw END;
    await new Promise((resolve) => (this.#wake = resolve));
  }

  async #take(size) {
    while (this.#data.length < size) await this.#more();
    const taken = this.#data.subarray(0, size);
    this.#data = this.#data.subarray(size);
    return taken;
  }

  async #line() {
    let at;
    while ((at = this.#data.indexOf('\n')) < 0) await this.#more();
    const line = (await this.#take(at + 1)).toString('latin1');
    if (!line.endsWith('\r\n')) throw new Error(`a line without CR: ${JSON.stringify(line)}`);
    return line.slice(0, -2);
  }

  async #fields() {
    const headers = {};
    for (let line; (line = await this.#line()) !== '';) {
      const found = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/.exec(line);
      if (!found) throw new Error(`no header: ${JSON.stringify(line)}`);
      const name = found[1].toLowerCase();
      if (name in headers && ['content-length', 'transfer-encoding', 'date', 'content-type'].includes(name)) throw new Error(`${name} twice`);
      headers[name] = name in headers ? `${headers[name]}, ${found[2]}` : found[2];
    }
    return headers;
  }

  async #chunks() {
    const pieces = [];
    for (;;) {
      const size = /^([0-9a-fA-F]+)(;.*)?$/.exec(await this.#line());
      if (!size) throw new Error('no chunk');
      const n = parseInt(size[1], 16);
      if (n === 0) break;
      pieces.push(await this.#take(n));
      if ((await this.#take(2)).toString('latin1') !== '\r\n') throw new Error('a chunk does not end where it says');
    }
    await this.#fields();
    return Buffer.concat(pieces);
  }

  async #untilEnd() {
    try {
      for (;;) await this.#more();
    } catch (error) {
      if (error !== END) throw error;
    }
    return this.#take(this.#data.length);
  }

  // RFC 9112 section 6.3.
  async #body(status, headers, head) {
    if (head || status < 200 || status === 204 || status === 304) return Buffer.alloc(0);
    if ('transfer-encoding' in headers) {
      if ('content-length' in headers) throw new Error('two lengths');
      if (headers['transfer-encoding'].toLowerCase() !== 'chunked') throw new Error('an unknown coding');
      return this.#chunks();
    }
    if (!('content-length' in headers)) return this.#untilEnd();
    if (!/^[0-9]+$/.test(headers['content-length'])) throw new Error('a strange length');
    return this.#take(Number(headers['content-length']));
  }

  // {status, headers, text, body}; undefined when the connection ended in good order before one began. `head`: of a
  // HEAD request.
  async response({ head = false } = {}) {
    try {
      while (this.#data.length === 0) await this.#more();
    } catch (error) {
      if (error === END) return undefined;
      throw error;
    }
    try {
      const line = await this.#line();
      const found = /^HTTP\/1\.1 ([1-5][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)$/.exec(line);
      if (!found) throw new Error(`no status line: ${JSON.stringify(line)}`);
      const status = Number(found[1]);
      const headers = await this.#fields();
      const text = (await this.#body(status, headers, head)).toString();
      let body;
      if (/json/.test(headers['content-type'] ?? '') && text) body = JSON.parse(text);
      return { status, reason: found[2], headers, text, body };
    } catch (error) {
      if (error === END) throw new Error('the response is cut off', { cause: this.error });
      throw error;
    }
  }

  // All responses until the server closes. `heads`: the places of those that answer HEAD.
  async responses({ heads = [] } = {}) {
    const all = [];
    for (let next; (next = await this.response({ head: heads.includes(all.length) })) !== undefined;) all.push(next);
    return all;
  }
}
