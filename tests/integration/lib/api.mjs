// SPDX-License-Identifier: Apache-2.0
// The REST API for tests. Requests answer whatever the server said; the methods named after the server's throw
// unless it succeeded.
import { randomUUID } from 'node:crypto';
import http from 'node:http';

export class ApiError extends Error {
  constructor(what, response) {
    super(`${what}: ${response.status} ${response.text}`);
    this.status = response.status;
    this.code = response.body?.code;
  }
}

const agent = new http.Agent({ keepAlive: true });

// One request: {status, headers, text, body}, body parsed if it is JSON. `json` is sent as such; `body` as it is.
export function request(base, method, path, { json, body, token, headers = {}, timeout = 15000, agent: own = agent } = {}) {
  const content = json === undefined ? body : JSON.stringify(json);
  const all = { ...headers };
  if (json !== undefined) all['content-type'] ??= 'application/json';
  if (content !== undefined) all['content-length'] ??= Buffer.byteLength(content);
  if (token) all.authorization = `Bearer ${token}`;
  return new Promise((resolve, reject) => {
    const outgoing = http.request(new URL(path, base), { method, headers: all, agent: own, timeout }, (incoming) => {
      const chunks = [];
      incoming.on('data', (chunk) => chunks.push(chunk));
      incoming.on('error', reject);
      incoming.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        let parsed;
        if (/json/.test(incoming.headers['content-type'] ?? '')) parsed = JSON.parse(text);
        resolve({ status: incoming.statusCode, headers: incoming.headers, text, body: parsed });
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${method} ${path}: no answer within ${timeout} ms`)));
    outgoing.on('error', reject);
    outgoing.end(content);
  });
}

// One user's view of the server, with the tokens of one session.
export class Api {
  constructor(base, tokens = {}) {
    this.base = base;
    this.take(tokens);
  }

  take(tokens) {
    this.accessToken = tokens.access_token;
    this.refreshToken = tokens.refresh_token;
    this.session = tokens.session;
    this.user = tokens.user;
  }

  // As request(), with this session's token unless another (or '') is given.
  request(method, path, options = {}) {
    return request(this.base, method, path, { token: this.accessToken, ...options });
  }

  async ask(method, path, json, options = {}) {
    const response = await this.request(method, path, { json, ...options });
    if (response.status >= 300) throw new ApiError(`${method} ${path}`, response);
    return response.body;
  }

  register(username, password, displayName) {
    return this.ask('POST', '/v1/auth/register', { username, password, display_name: displayName }, { token: '' });
  }

  async login(username, password, device) {
    this.take(await this.ask('POST', '/v1/auth/login', { username, password, device }, { token: '' }));
    return this;
  }

  async refresh() {
    this.take(await this.ask('POST', '/v1/auth/refresh', { refresh_token: this.refreshToken }, { token: '' }));
    return this;
  }

  logout() {
    return this.ask('POST', '/v1/auth/logout', {});
  }

  me() {
    return this.ask('GET', '/v1/users/me');
  }

  // The conversation id of the direct conversation with that user.
  async openDirect(user) {
    return (await this.ask('POST', '/v1/conversations/direct', { user })).conversation.id;
  }

  send(conversation, text, clientMsgId = randomUUID()) {
    return this.ask('POST', `/v1/conversations/${encodeURIComponent(conversation)}/messages`, { text, client_msg_id: clientMsgId });
  }

  history(conversation, parameters = {}) {
    return this.ask('GET', `/v1/conversations/${encodeURIComponent(conversation)}/messages?${new URLSearchParams(parameters)}`);
  }

  // Every message of a conversation, page by page.
  async wholeHistory(conversation) {
    const messages = [];
    for (;;) {
      const page = await this.history(conversation, messages.length ? { after: messages.at(-1).seq, limit: 1000 } : { oldest: true, limit: 1000 });
      messages.push(...(page.messages ?? []));
      if (!page.more) return messages;
    }
  }

  markRead(conversation, seq) {
    return this.ask('POST', `/v1/conversations/${encodeURIComponent(conversation)}/read`, { seq });
  }

  conversations() {
    return this.ask('GET', '/v1/conversations');
  }
}

let users = 0;

// A new user, signed in: an Api with .user, .username and .password.
export async function newUser(base, name = `user${process.pid}x${++users}`) {
  const password = randomUUID();
  const api = new Api(base);
  await api.register(name, password);
  await api.login(name, password, 'test');
  return Object.assign(api, { username: name, password });
}
