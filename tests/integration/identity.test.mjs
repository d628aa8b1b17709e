// SPDX-License-Identifier: Apache-2.0
// Whoever breaks into one role has that role alone: what the socket role, which faces the network, can and cannot do.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, UNITS, until } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';

const PERMISSION_DENIED = 12;
const PROGRAM = '/usr/local/lib/intruder.py';

describe('a socket role that was broken into', () => {
  let host, ann, bob, conversation, client, outcomes;

  // Runs the program as that unit runs its own: its user, credentials and sandbox.
  const intrude = async (unit, plan) => {
    const lines = (await host.call('systemctl', 'cat', unit)).split('\n');
    const kept = lines.slice(0, lines.findIndex((line) => /10-sandbox\.conf/.test(line)))
      .filter((line) => !/^(#|Type|NotifyAccess|BusName|Exec|Requires|PartOf|Wants|Alias|\[Install)/.test(line));
    await host.write('/etc/systemd/system/stonechat-intruder.service', `${kept.join('\n')}\n[Service]\nType=oneshot\nTimeoutStartSec=60s\n`
      + `ExecStart=/usr/bin/python3 ${PROGRAM} '${JSON.stringify(plan).replaceAll('%', '%%')}'\nStandardOutput=truncate:/run/intruder.json\n`);
    await host.shell('mkdir -p /etc/systemd/system/stonechat-intruder.service.d; ln -sf /dev/null /etc/systemd/system/stonechat-intruder.service.d/10-supervision.conf');
    await host.systemctl('daemon-reload');
    await host.systemctl('start', 'stonechat-intruder.service');
    assert.equal(await host.property('stonechat-intruder.service', 'User'), await host.property(unit, 'User'));
    assert.equal(await host.property('stonechat-intruder.service', 'SystemCallFilter'), await host.property(unit, 'SystemCallFilter'));
    return JSON.parse(await host.call('cat', '/run/intruder.json'));
  };

  before(async () => {
    host = await Host.boot();
    await host.write(PROGRAM, readFileSync(new URL('lib/intruder.py', import.meta.url), 'utf8'));
    [ann, bob] = [await newUser(host.api), await newUser(host.api)];
    conversation = await ann.openDirect(bob.user.id);
    client = new Client(host.socket, bob);
    await client.connect();
    const pids = await Promise.all(UNITS.slice(0, 3).map((unit) => host.property(unit, 'MainPID')));
    const user = { 1: ann.user.id };
    outcomes = await intrude('stonechat-socket@1.service', {
      files: [
        ...(postgresql ? [] : ['/var/lib/stonechat/api/accounts.db', '/var/lib/stonechat/group/conversations.db']),
        '/var/lib/stonechat/keys/token.private.pem', '/run/credentials/stonechat-api.service/token.private.pem', '/run/credentials/stonechat-socket@1.service/token.public.pem',
      ],
      pids,
      names: ['org.stonechat.Arbiter', 'org.stonechat.Api', 'org.stonechat.Group', 'org.stonechat.Socket.I7'],
      reload: ['org.stonechat.Api', 'org.stonechat.Group', 'org.stonechat.Arbiter'],
      connect: ['api', 'group', 'arbiter'],
      calls: [
        ['api', 'session.check', 'socket', { 1: ann.session, 2: ann.user.id }],
        ['api', 'session.purge', 'socket', { 1: 500 }],
        ['api', 'session.purge', 'job', { 1: 500 }],
        ['api', 'session.purge', 'ctl', { 1: 500 }],
        ['api', 'account.check', 'socket', user],
        ['api', 'account.check', 'group', user],
        ['api', 'accounts.check', 'socket', {}],
        ['api', 'accounts.retry_intents', 'socket', {}],
        ['group', 'conversations.check', 'socket', {}],
        ['group', 'conversations.retry_intents', 'job', {}],
        ['group', 'group.ping', 'socket', {}],
        ['group', 'inbox.session_ended', 'socket', { ...user, 2: ann.session }],
        ['group', 'inbox.session_ended', 'api', { ...user, 2: ann.session }],
        ['group', 'inbox.join', 'group', { ...user, 2: conversation }],
      ],
    });
  });
  after(async () => {
    client?.disconnect();
    await host?.stop();
  });

  const outcomesOf = (pattern) => Object.fromEntries(Object.entries(outcomes).filter(([name]) => pattern.test(name)));
  const assertAll = (pattern, allowed) => {
    const found = outcomesOf(pattern);
    assert.notDeepEqual(found, {});
    for (const [name, outcome] of Object.entries(found)) assert.ok(allowed.includes(outcome), `${name}: ${JSON.stringify(outcome)}`);
  };

  it('reads no database, no private key, and no credential but its own', () => {
    assertAll(/^\/(var|run)/, ['EACCES', 'ENOENT']);
    assert.deepEqual(outcomes.credentials, ['token.public.pem']);
  });

  it('reaches no other process', () => {
    assertAll(/^signal /, ['EPERM', 'ESRCH']);
    assertAll(/^memory /, ['EACCES', 'EPERM', 'ENOENT']);
  });

  it('owns no name but its own, and reloads nobody', () => {
    assertAll(/^own org\.stonechat\.(Arbiter|Api|Group)$/, ['refused']);
    assert.equal(outcomes['own org.stonechat.Socket.I7'], 'u 1');
    assertAll(/^(reload|credentials of|level of) /, ['refused']);
    assertAll(/^look at /, ['b true']);
  });

  it('connects to those it has to ask, and no others', () => {
    assert.deepEqual(outcomesOf(/^connect /), { 'connect api': 'connected', 'connect group': 'connected', 'connect arbiter': 'EACCES' });
  });

  it('calls what is meant for it, and nothing else, whatever role it names', async () => {
    assert.equal(outcomes['session.check as socket'], 0);
    // Who says that he is somebody else is refused at once, or is taken for who he is.
    assertAll(/ as (job|ctl|group|api)$/, [PERMISSION_DENIED, 'ECONNRESET', 'EPIPE']);
    assertAll(/^(session\.purge|account\.check|accounts\..*|conversations\..*|group\.ping|inbox\..*) as socket$/, [PERMISSION_DENIED]);
    const told = (await host.journal('--unit=stonechat-api.service', '--unit=stonechat-group.service', '--priority=warning')).map(({ MESSAGE }) => MESSAGE);
    assert.ok(told.some((line) => /session\.purge/.test(line)), told.join('\n'));
  });

  it('has done no harm: everybody goes on', async () => {
    const { seq } = await ann.send(conversation, 'still here');
    assert.equal((await client.received(conversation, seq)).data.message.text, 'still here');
    assert.equal((await ann.me()).id, ann.user.id);
  });

  it('is not what a stranger is: another user of the host connects nowhere', async () => {
    const script = `import socket, sys
for role in ('api', 'group', 'arbiter'):
    try:
        socket.socket(socket.AF_UNIX).connect(f'/run/stonechat/rpc/{role}/rpc.sock')
        print('connected')
    except OSError as error:
        print(error.errno)`;
    assert.equal(await host.call('setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups', 'python3', '-c', script), '13\n13\n13\n');
    // Nor does one who got past the directory: the role looks at the user id.
    await host.shell('chmod 755 /run/stonechat/rpc/group');
    const refused = `import socket
s = socket.socket(socket.AF_UNIX)
s.connect('/run/stonechat/rpc/group/rpc.sock')
try:
    while s.recv(4096): pass
    print('closed')
except ConnectionResetError:
    print('closed')`;
    assert.equal(await host.call('setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups', 'python3', '-c', refused), 'closed\n');
    await host.shell('chmod 750 /run/stonechat/rpc/group');
    assert.ok((await host.journal('--unit=stonechat-group.service')).some(({ MESSAGE }) => /Refusing a connection of process \d+ of user id 65534/.test(MESSAGE)));
  });

  it('hears what the arbiter says while a local user floods the bus', async () => {
    // Signals as the arbiter's, to everybody and to each role's connection.
    const owners = (await Promise.all(['Api', 'Group', 'Socket.I1'].map((name) => host.call('busctl', 'call', 'org.freedesktop.DBus', '/', 'org.freedesktop.DBus', 'GetNameOwner', 's', `org.stonechat.${name}`))))
      .map((output) => /"(.*)"/.exec(output)[1]);
    await host.shell(`for destination in '' ${owners.join(' ')}; do
        systemd-run --quiet --uid=nobody --unit="flood-\${destination#:}" sh -c 'while :; do dbus-send --system --type=signal '"\${destination:+--dest=$destination}"' /org/stonechat/Arbiter org.freedesktop.DBus.Properties.PropertiesChanged string:org.stonechat.Arbiter1 dict:string:int32: array:string:Routes; done'
      done`);
    await host.dropIn('stonechat-group.socket', '[Socket]\nListenStream=\nListenStream=/run/elsewhere/group/rpc.sock\n');
    await host.dropIn('stonechat-arbiter.service', '[Service]\nEnvironment=STONECHAT_RUNTIME_DIRECTORY=/run/elsewhere\n');
    await host.systemctl('restart', 'stonechat-arbiter.service', 'stonechat-group.socket');
    const { seq } = await until('the message is sent by the new route', 20, () => ann.send(conversation, 'elsewhere').catch(() => null));
    assert.equal((await client.received(conversation, seq)).data.message.text, 'elsewhere');
    await host.shell("systemctl stop 'flood-*'");
  });
});
