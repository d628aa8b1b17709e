// SPDX-License-Identifier: Apache-2.0
// Clients of the socket role for tests: the official Centrifuge SDK, and a bare one that says what it is told.
import { randomUUID } from 'node:crypto';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

// Waits for something that events bring about: check() is asked again after each notify().
class Waiter {
  #waiting = new Set();

  notify() {
    for (const check of this.#waiting) check();
  }

  wait(what, seconds, condition) {
    return new Promise((resolve, reject) => {
      const check = () => {
        const value = condition();
        if (!value) return;
        this.#waiting.delete(check);
        clearTimeout(timer);
        resolve(value);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(check);
        reject(new Error(`not within ${seconds} s: ${what}`));
      }, seconds * 1000);
      this.#waiting.add(check);
      check();
    });
  }
}

// A user's client with the SDK. Notes everything that comes:
//   messages   the publications, in order: {channel, offset, data, at (performance.now())}
//   events     ['connected', context] and so on, of the connection and of its server-side subscriptions
export class Client {
  #waiter = new Waiter();

  constructor(url, api, options = {}) {
    this.api = api;
    this.messages = [];
    this.events = [];
    this.centrifuge = new Centrifuge(url, {
      websocket: WebSocket,
      token: api.accessToken,
      getToken: async () => (await api.refresh()).accessToken,
      name: 'test',
      version: '1',
      minReconnectDelay: 20,
      maxReconnectDelay: 500,
      ...options,
    });
    for (const name of ['connecting', 'connected', 'disconnected', 'error', 'subscribing', 'subscribed', 'unsubscribed', 'join', 'leave', 'message']) {
      this.centrifuge.on(name, (context) => {
        this.events.push([name, context]);
        this.#waiter.notify();
      });
    }
    this.centrifuge.on('publication', (context) => {
      this.messages.push({ channel: context.channel, offset: context.offset, data: context.data, at: performance.now() });
      this.#waiter.notify();
    });
  }

  // Waits until condition() is true; it is asked again whenever something has come.
  until(what, condition, seconds = 10) {
    return this.#waiter.wait(what, seconds, condition);
  }

  // Resolves with the context of the event; one that came before counts unless `next` is set.
  event(name, { next = false, seconds = 10, where = () => true } = {}) {
    const from = next ? this.events.length : 0;
    return this.until(`event ${name}`, () => this.events.slice(from).find(([found, context]) => found === name && where(context)), seconds).then(([, context]) => context);
  }

  async connect() {
    const connected = this.event('connected', { next: true });
    this.centrifuge.connect();
    return connected;
  }

  // Off the network without a good-bye and without trying again, until connect().
  disconnect() {
    this.centrifuge.disconnect();
  }

  rpc(method, data = {}) {
    return this.centrifuge.rpc(method, data).then((result) => result.data);
  }

  send(conversation, text, clientMsgId = randomUUID()) {
    return this.rpc('message.send', { conversation, text, client_msg_id: clientMsgId });
  }

  publish(channel, data) {
    return this.centrifuge.publish(channel, data);
  }

  // The publications of a channel.
  of(channel) {
    return this.messages.filter((message) => message.channel === channel);
  }

  // Until that message of a channel has come.
  received(channel, offset, seconds = 10) {
    return this.until(`message ${offset} of ${channel}`, () => this.of(channel).find((message) => message.offset === offset), seconds);
  }
}

// Bare JSON frames, for what an SDK would never say. `replies` holds everything that came, in order.
export class RawClient {
  #waiter = new Waiter();
  #last = 0;

  constructor(url, options = {}) {
    this.replies = [];
    this.closed = null; // {code, reason}
    this.refused = null; // the HTTP status, when there was no upgrade
    this.websocket = new WebSocket(url, options);
    this.websocket.on('message', (data) => {
      for (const line of data.toString().split('\n').filter(Boolean)) this.replies.push(JSON.parse(line));
      this.#waiter.notify();
    });
    this.websocket.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() };
      this.#waiter.notify();
    });
    this.websocket.on('unexpected-response', (_, response) => {
      this.refused = response.statusCode;
      response.resume();
      this.#waiter.notify();
    });
    this.websocket.on('error', () => this.#waiter.notify());
    this.websocket.on('open', () => this.#waiter.notify());
  }

  until(what, condition, seconds = 10) {
    return this.#waiter.wait(what, seconds, condition);
  }

  opened() {
    return this.until('open', () => this.websocket.readyState === WebSocket.OPEN);
  }

  text(frame) {
    this.websocket.send(frame);
  }

  // A command, and the reply to it.
  async command(command, seconds = 10) {
    const id = ++this.#last;
    this.text(JSON.stringify({ id, ...command }));
    return this.until(`reply to ${JSON.stringify(command)}`, () => this.replies.find((reply) => reply.id === id), seconds);
  }

  async connect(token) {
    await this.opened();
    return this.command({ connect: { token, name: 'raw' } });
  }

  close() {
    this.websocket.close();
  }

  // Gone without a word.
  terminate() {
    this.websocket.terminate();
  }
}
