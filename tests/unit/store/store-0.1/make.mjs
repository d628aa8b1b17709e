// SPDX-License-Identifier: Apache-2.0
// Makes the stores of this directory, and notes what their users see: see README.md.
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Api, request } from '../../../integration/lib/api.mjs';
import { RawClient } from '../../../integration/lib/clients.mjs';
import { Host } from '../../../integration/lib/host.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const CONFIGURATION = '/etc/stonechat/stonechat.conf.d/50-test.conf';
// Refresh tokens that live for ten years, so that the tests can use them as long.
const configuration = (life) => `[Api]\nLoginRate=0\nLoginAccountRate=0\n[Auth]\nRefreshTokenSec=${life}\nMaxSessions=5\n`;

const host = await Host.boot({ files: { [CONFIGURATION]: configuration('1min') } });
const users = {};

async function user(name, displayName) {
  const password = `the password of ${name}`;
  await new Api(host.api).register(name, password, displayName);
  users[name] = { username: name, password, display_name: displayName, sessions: [] };
}

async function session(name, device, state) {
  const api = await new Api(host.api).login(name, users[name].password, device);
  users[name].id = api.user.id;
  users[name].sessions.push({ api, device, state });
  return api;
}

// Who of the two says it, what, and how: texts, bytes, kinds, ids of the sender's and of the server's.
async function say(conversation, [one, other], n, { from = 0 } = {}) {
  for (let i = from; i < from + n; i++) {
    const sender = i % 3 === 2 ? other : one;
    const path = `/v1/conversations/${conversation}/messages`;
    if (i % 10 === 7) await sender.ask('POST', path, { data: Buffer.from(`bytes ${i}`).toString('base64'), kind: 'x-note', client_msg_id: `note-${i}-${conversation.slice(0, 8)}` });
    else if (i % 10 === 3) await sender.ask('POST', path, { text: `Grüße ${i}: "quoted", it's ☕\n` });
    else await sender.send(conversation, `number ${i}`);
  }
}

// Where a client that connects stands in each of its channels.
async function positionsOf(api) {
  const client = new RawClient(host.socket);
  const { connect } = await client.connect(api.accessToken);
  client.close();
  return Object.fromEntries(Object.entries(connect.subs).map(([channel, { epoch, offset = 0 }]) => [channel, { epoch, offset }]));
}

try {
  await user('ada', 'Ada Lovelace');
  await user('bob', '');
  await user('cleo', 'Cléo ☀');
  await user('dan', "Dan O'Hara");
  await user('eve', 'Eve, who talks to nobody');
  await user('fay', 'Fay, who never came');
  await session('ada', 'forgotten', 'expired');
  await host.write(CONFIGURATION, configuration('3650d'));
  await host.call('stonechatctl', 'reload');

  const ada = await session('ada', 'phone', 'valid');
  const [bob, cleo, dan] = [await session('bob', 'phone', 'valid'), await session('cleo', 'phone', 'valid'), await session('dan', '', 'valid')];
  await session('eve', 'tablet', 'valid');
  await session('fay', 'never connected', 'valid');
  await ada.refresh();
  await ada.refresh();
  await session('ada', 'laptop', 'valid');
  for (const device of ['one', 'two', 'three', 'four', 'five']) await session('bob', device, 'valid');
  users.bob.sessions[0].state = 'ended'; // one more than MaxSessions=
  await session('bob', 'six', 'valid');
  users.bob.sessions[1].state = 'ended';
  const bobNow = users.bob.sessions.at(-1).api;

  const both = await ada.openDirect(bob.user.id);
  await say(both, [ada, bobNow], 120);
  await bobNow.markRead(both, 80);
  await ada.markRead(both, 118);
  await say(both, [bobNow, ada], 20, { from: 120 });
  const note = await ada.openDirect(ada.user.id);
  await say(note, [ada, ada], 12);
  await ada.markRead(note, 4);
  const bobCleo = await bobNow.openDirect(cleo.user.id);
  await say(bobCleo, [cleo, bobNow], 60);
  await cleo.markRead(bobCleo, 60);
  await cleo.openDirect(dan.user.id); // nobody says anything
  const adaDan = await dan.openDirect(ada.user.id);
  for (let i = 0; i < 5; i++) await ada.send(adaDan, `monologue ${i}`);
  const cleoAda = await cleo.openDirect(ada.user.id);
  await say(cleoAda, [cleo, ada], 40);
  await ada.markRead(cleoAda, 39);
  await dan.send(adaDan, 'a late answer');
  await (await session('ada', 'left', 'ended')).logout();
  const stolen = await session('ada', 'stolen', 'ended');
  const old = stolen.refreshToken;
  await stolen.refresh();
  const reuse = await request(host.api, 'POST', '/v1/auth/refresh', { json: { refresh_token: old } });
  if (reuse.status !== 401) throw new Error(`a spent token: ${reuse.text}`);

  const expectations = { users: [] };
  for (const [name, { sessions, ...known }] of Object.entries(users)) {
    const reader = sessions.findLast(({ state }) => state === 'valid').api;
    const list = await reader.ask('GET', '/v1/conversations?limit=200');
    if (list.next_after) throw new Error('more than one page');
    const came = name !== 'fay';
    const positions = came ? await positionsOf(reader) : {};
    const events = came ? await reader.wholeHistory(`#${known.id}`) : [];
    expectations.users.push({ ...known, profile: await reader.me(), list: list.conversations ?? [], positions, events,
      sessions: sessions.map(({ api, device, state }) => ({ id: api.session, device, state, refresh_token: api.refreshToken })) });
    expectations.histories ??= {};
    for (const { conversation } of list.conversations ?? []) expectations.histories[conversation.id] ??= await reader.wholeHistory(conversation.id);
  }
  writeFileSync(join(here, 'expectations.json'), `${JSON.stringify(expectations, null, 1)}\n`);

  await host.systemctl('stop', 'stonechat.target', 'stonechat-*.socket', 'stonechat-*.service');
  for (const [role, name] of [['api', 'accounts'], ['group', 'conversations']]) {
    const path = `/var/lib/stonechat/${role}/${name}.db`;
    const version = (await host.call('sqlite3', path, 'PRAGMA user_version')).trim();
    writeFileSync(join(here, `${name}.sql`), `${await host.call('sqlite3', path, '.dump')}PRAGMA user_version = ${version};\n`);
  }
} finally {
  await host.stop();
}
