// SPDX-License-Identifier: Apache-2.0
// What an operator sees and does: stonechatctl, the configuration, and the arbiter's view of the units.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { Api, newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, UNITS, until } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';

const DROP_IN = '/etc/stonechat/stonechat.conf.d/60-test.conf';
const GROUP = 'stonechat-group.service';

let host, ann, bo, conversation;
before(async () => {
  host = await Host.boot();
  [ann, bo] = [await newUser(host.api), await newUser(host.api)];
  conversation = await ann.openDirect(bo.user.id);
});
after(async () => { await host?.stop(); });

const ctl = (...args) => host.exec('stonechatctl', ...args);

async function status() {
  const { code, stdout } = await ctl('status', '--json');
  return { code, ...JSON.parse(stdout) };
}

const service = async (unit) => (await status()).services.find((entry) => entry.unit === unit);

async function configure(text) {
  await host.write(DROP_IN, text);
}

// May anybody register? [Api] Registration= as it is in force.
async function registrationIsOpen() {
  try {
    await newUser(host.api);
    return true;
  } catch (error) {
    assert.equal(error.code, 'permission_denied', error.message);
    return false;
  }
}

// A message from Ann over the WebSocket, heard by Bo.
async function talk() {
  const clients = [new Client(host.socket, ann), new Client(host.socket, bo)];
  try {
    await Promise.all(clients.map((client) => client.connect()));
    const { seq } = await clients[0].send(conversation, 'Hello');
    await clients[1].received(conversation, seq);
  } finally {
    for (const client of clients) client.disconnect();
  }
}

describe('stonechatctl', () => {
  it('status: a line a unit, the sockets, the figures', async () => {
    const { code, stdout, stderr } = await ctl();
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^UNIT +STATE +HEALTHY +FOR +RESTARTS +MEMORY +STATUS$/m);
    for (const unit of UNITS) assert.match(stdout, new RegExp(`^${unit} +active \\(running\\) +yes +\\d`, 'm'));
    assert.match(stdout, /^stonechat-api\.socket +active \(running\) +127\.0\.0\.1:8080$/m);
    assert.match(stdout, /^stonechat-socket@1\.socket +active \((running|listening)\) +127\.0\.0\.1:8090$/m);
    assert.match(stdout, /^stonechat-group\.service +conversations +\d+$/m);
    assert.match(stdout, /^stonechat-api\.service +registrations +2$/m);
  });

  it('status --no-legend has no headings', async () => {
    assert.doesNotMatch((await ctl('--no-legend')).stdout, /^(UNIT|SOCKET) /m);
  });

  it('status --json', async () => {
    const { code, healthy, services, sockets } = await status();
    assert.equal(code, 0);
    assert.equal(healthy, true);
    for (const unit of UNITS) {
      const entry = services.find((candidate) => candidate.unit === unit);
      assert.equal(entry.active, 'active');
      assert.equal(entry.healthy, true);
      assert.equal(entry.restarts, 0);
      assert.equal(String(entry.main_pid), await host.property(unit, 'MainPID'));
      assert.ok(entry.memory > 0);
      assert.match(entry.version, /^\d+\.\d+/);
      assert.notEqual(entry.status, '');
    }
    assert.equal(sockets.find((entry) => entry.unit === 'stonechat-socket@1.socket').listen, '127.0.0.1:8090');
  });

  it('is for everybody to look with, and for root to change', async () => {
    const as = (...args) => host.exec('setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups', 'stonechatctl', ...args);
    assert.equal((await as('status')).code, 0);
    assert.equal((await as('routes')).code, 0);
    assert.equal((await as('config')).code, 0);
    for (const args of [['reload'], ['log-level', 'debug']]) {
      const { code, stderr } = await as(...args);
      assert.equal(code, 1);
      assert.match(stderr, /stonechat-api\.service: /);
    }
    assert.match((await ctl('log-level')).stdout, /stonechat-api\.service +info/);
  });

  it('routes', async () => {
    const [route, ...others] = JSON.parse((await ctl('routes', '--json')).stdout).routes;
    assert.deepEqual(others, []);
    assert.deepEqual([route.first_shard, route.last_shard, route.address], [0, 255, '/run/stonechat/rpc/group/rpc.sock']);
    assert.match((await ctl('routes')).stdout, new RegExp(`^0-255 +${route.host} +${route.epoch} +/run/stonechat/rpc/group/rpc.sock$`, 'm'));
  });

  it('config: every value and where it comes from', async () => {
    assert.match((await ctl('config')).stdout, /^Socket +PingIntervalSec +25s +default$/m);
    await configure('[Socket]\nPingIntervalSec = 45\n');
    assert.match((await ctl('config')).stdout, new RegExp(`^Socket +PingIntervalSec +45s +${DROP_IN}:2$`, 'm'));
    const { values, problems } = JSON.parse((await ctl('config', '--json')).stdout);
    assert.deepEqual(problems, []);
    assert.deepEqual(values.find(({ key }) => key === 'PingIntervalSec'),
      { section: 'Socket', key: 'PingIntervalSec', value: '45s', source: `${DROP_IN}:2`, reloadable: true });
    const { code, stdout } = await ctl('config', '--check');
    assert.deepEqual([code, stdout], [0, 'The configuration is valid.\n']);
  });

  it('config --check: file, line and key of what is wrong', async () => {
    await configure('[Socket]\nPingInterval=45s\n\n[Api]\nMaxBody=much\n');
    const { code, stdout, stderr } = await ctl('config', '--check');
    assert.deepEqual([code, stdout], [1, '']);
    assert.deepEqual(stderr.trimEnd().split('\n'), [
      `${DROP_IN}:2: Socket.PingInterval: there is no such key; ignored`,
      `${DROP_IN}:5: Api.MaxBody: "much" is not a size such as 65536, 64K or 1M`,
    ]);
  });

  it('reload: takes what is good, keeps the old value for what is bad, and says so', async () => {
    await configure('[Api]\nRegistration=no\n');
    const since = (await service('stonechat-api.service')).since_ms;
    const good = await ctl('reload');
    assert.deepEqual(good, { code: 0, stdout: '4 roles have reloaded their configuration.\n', stderr: '' });
    assert.equal(await registrationIsOpen(), false);
    assert.equal((await service('stonechat-api.service')).since_ms, since, 'a reload is no start');

    await configure('[Api]\nRegistration=perhaps\n[Store]\nReaders=3\n');
    const bad = await ctl('reload');
    assert.equal(bad.code, 1);
    assert.match(bad.stdout, /the old value stays in force/);
    assert.equal(bad.stderr, `${['api', 'arbiter', 'group', 'socket@1'].map((role) => `stonechat-${role}.service`).join(', ')}:\n`
      + `${DROP_IN}:2: Api.Registration: "perhaps" is neither yes nor no\n${DROP_IN}:4: Store.Readers: takes effect after a restart\n`);
    assert.equal(await registrationIsOpen(), false);
    const entries = await host.journal('--unit=stonechat-api', 'MESSAGE_ID=1289fd46d0444162b9b39d915ea5e452');
    assert.match(entries.map((entry) => entry.MESSAGE).join('\n'), /60-test\.conf:2: Api\.Registration: "perhaps"/);

    await host.call('rm', DROP_IN);
    assert.equal((await ctl('reload')).code, 0);
    assert.equal(await registrationIsOpen(), true);
  });

  it('a role that is started with a bad value says why, once, and comes when it is corrected', async () => {
    await configure('[Group]\nMaxRecovery=-1\n');
    assert.notEqual((await host.exec('systemctl', 'restart', GROUP)).code, 0);
    assert.equal(await host.property(GROUP, 'ExecMainStatus'), '78');
    assert.equal(await host.property(GROUP, 'NRestarts'), '0');
    await until('the arbiter has made up its mind', 10, async () => (await service(GROUP)).healthy === false);
    const { code, stdout } = await ctl();
    assert.equal(code, 3);
    assert.match(stdout, /^stonechat-group\.service +failed \(failed\) +no .*failed, result 'exit-code'$/m);
    await host.call('rm', DROP_IN);
    await host.systemctl('restart', 'stonechat-group.socket', GROUP);
    await until('all is well again', 10, async () => (await status()).code === 0);
  });

  it('log-level: shows and sets', async () => {
    assert.equal((await ctl('log-level', 'debug')).code, 0);
    for (const unit of UNITS) assert.equal((await host.systemctl('service-log-level', unit)).trim(), 'debug', unit);
    await host.systemctl('service-log-level', GROUP, 'warning');
    assert.match((await ctl('log-level')).stdout, /^stonechat-group\.service +warning$/m);
    const { levels } = JSON.parse((await ctl('log-level', 'info', '--json')).stdout);
    assert.deepEqual(levels.map(({ level }) => level), ['info', 'info', 'info', 'info']);
    const { code, stderr } = await ctl('log-level', 'loud');
    assert.deepEqual([code, stderr], [1, "'loud' is none of debug, info, notice, warning, err.\n"]);
  });

  it("trace: a request's way through the roles", async () => {
    const sent = await ann.request('POST', `/v1/conversations/${conversation}/messages`, { json: { text: 'What way do I go?' } });
    const { traceparent } = sent.headers;
    const id = traceparent.split('-')[1];
    const output = await until('the journal has all of it', 10, async () => {
      const { stdout } = await ctl('trace', traceparent);
      return /Answered message\.send/.test(stdout) && stdout;
    });
    assert.match(output, /stonechat-api.* REST request message\.send\n(.*\n)*.*stonechat-group.* Stored as seq \d+\n(.*\n)*.*stonechat-api.* Answered message\.send with status 201/);
    assert.doesNotMatch(output, /What way/);
    const entries = (await ctl('trace', id.toUpperCase(), '--json')).stdout.trimEnd().split('\n').map((line) => JSON.parse(line));
    assert.deepEqual([...new Set(entries.map((entry) => entry.STONECHAT_TRACE_ID))], [id]);
  });

  it('says what is wrong with a command line', async () => {
    for (const [args, message] of [
      [['dance'], /There is no verb 'dance'/],
      [['trace'], /trace needs an argument: ID/],
      [['trace', 'xyz'], /'xyz' is no trace id/],
      [['status', 'more'], /Unexpected argument 'more'/],
      [['status', '--check'], /--check goes with config only/],
      [['--loud'], /unrecognized option/],
    ]) {
      const { code, stdout, stderr } = await ctl(...args);
      assert.deepEqual([code, stdout], [1, ''], args.join(' '));
      assert.match(stderr, message);
    }
    assert.match((await ctl('--help')).stdout, /^ {2}log-level \[LEVEL\] /m);
    assert.match((await ctl('--version')).stdout, /^stonechat \d/);
  });
});

describe('the arbiter', () => {
  const property = async (name) => JSON.parse(await host.call('busctl', '--json=short', 'get-property', 'org.stonechat.Arbiter',
    '/org/stonechat/Arbiter', 'org.stonechat.Arbiter1', name)).data;
  const judged = async (name) => {
    const [unit, active, sub, result, restarts, invocation, , healthy, , reason] = (await property('Units')).find(([candidate]) => candidate === name);
    return { unit, active, sub, result, restarts, invocation, healthy, reason };
  };

  it('sees what systemd sees', async () => {
    for (const unit of UNITS) {
      const { active, healthy, invocation } = await judged(unit);
      assert.deepEqual([active, healthy, invocation], ['active', true, await host.property(unit, 'InvocationID')], unit);
    }
    assert.equal(await property('Healthy'), true);
  });

  it('counts restarts; a new process of the group role is a new epoch', async () => {
    const [[, , , epoch]] = await property('Routes');
    const { restarts } = await judged(GROUP);
    const oldPid = await host.property(GROUP, 'MainPID');
    await host.kill(GROUP);
    await host.active(GROUP, { oldPid });
    await until('the arbiter has noticed', 10, async () => {
      const unit = await judged(GROUP);
      return unit.restarts === restarts + 1 && unit.active === 'active' && unit.healthy;
    });
    const [[, , , later]] = await property('Routes');
    assert.ok(later > epoch, `${epoch} → ${later}`);
    assert.equal((await service(GROUP)).restarts, restarts + 1);
    await talk();
  });

  it('shows a unit that is stopped as stopped, which is no fault', async () => {
    await host.systemctl('stop', 'stonechat-socket@1.service');
    await until('the arbiter has noticed', 10, async () => (await judged('stonechat-socket@1.service')).active === 'inactive');
    const { code, stdout } = await ctl();
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^stonechat-socket@1\.service +inactive \(dead\) +- /m);
    await talk(); // which starts it
    assert.equal((await service('stonechat-socket@1.service')).active, 'active');
  });

  it('shows a unit that fails as not healthy, tells it, and tells when it has passed', async () => {
    const unit = 'stonechat-socket@1.service';
    await host.dropIn(unit, '[Service]\nExecStart=\nExecStart=/bin/false\nRestart=no\n');
    await host.exec('systemctl', 'restart', unit);
    await until('the arbiter calls it failed', 15, async () => !(await judged(unit)).healthy);
    assert.equal(await property('Healthy'), false);
    assert.match((await judged(unit)).reason, /^failed, result '/);
    const { code, healthy } = await status();
    assert.deepEqual([code, healthy], [3, false]);
    assert.match(await host.property('stonechat-arbiter.service', 'StatusText'), /not healthy: stonechat-socket@1\./);
    await host.shell(`rm -r /etc/systemd/system/${unit}.d; systemctl daemon-reload; systemctl reset-failed ${unit}; systemctl restart stonechat-socket@1.socket ${unit}`);
    await until('all is well again', 15, async () => (await status()).code === 0 && (await property('Healthy')));
    const told = (await host.journal('--unit=stonechat-arbiter', `STONECHAT_UNIT=${unit}`)).map((entry) => entry.MESSAGE);
    assert.match(told[0], /is not healthy: failed, result '/);
    assert.match(told.at(-1), /is healthy again/);
  });

  it('publishes the routes that the other roles follow', async () => {
    await host.dropIn('stonechat-group.socket', '[Socket]\nListenStream=\nListenStream=/run/elsewhere/group/rpc.sock\n');
    await host.dropIn('stonechat-arbiter.service', '[Service]\nEnvironment=STONECHAT_RUNTIME_DIRECTORY=/run/elsewhere\n');
    await host.systemctl('restart', 'stonechat-arbiter.service', 'stonechat-group.socket');
    assert.match((await ctl('routes')).stdout, / \/run\/elsewhere\/group\/rpc\.sock$/m);
    await ann.send(conversation, 'over REST');
    await talk();
    await host.shell('rm -r /etc/systemd/system/stonechat-{group.socket,arbiter.service}.d /run/elsewhere; systemctl daemon-reload; systemctl restart stonechat-arbiter.service stonechat-group.socket');
    await until('a message is sent again', 20, () => ann.send(conversation, 'and back').catch(() => null));
    await talk();
  });

  it('is not needed for anything else to work', async () => {
    await host.systemctl('mask', '--runtime', 'stonechat-arbiter.service', 'stonechat-arbiter.socket');
    await host.systemctl('stop', 'stonechat-arbiter.service', 'stonechat-arbiter.socket');
    await ann.send(conversation, 'with nobody watching');
    await talk();
    await host.systemctl('restart', GROUP, 'stonechat-socket@1.service', 'stonechat-api.service'); // they begin without it
    await ann.send(conversation, 'still nobody');
    await talk();
    const { code, stdout } = await ctl();
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^stonechat-group\.service +active \(running\) +yes /m);
    const routes = await ctl('routes');
    assert.equal(routes.code, 1);
    assert.match(routes.stderr, /The arbiter does not tell the routes/);
    await host.systemctl('unmask', '--runtime', 'stonechat-arbiter.service', 'stonechat-arbiter.socket');
    await host.systemctl('start', 'stonechat-arbiter.service');
    await until('it watches again', 10, async () => (await property('Healthy')));
  });
});

// The indented blocks of a section of docs/operations.md, as scripts.
function commandsOf(section) {
  const text = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const [, body] = text.split(`\n## ${section}\n`);
  assert.ok(body, section);
  return body.split('\n## ')[0].match(/(^ {4}.*\n)+/gm);
}

describe('docs/operations.md', () => {
  it('makes a backup and restores it; clients that know more are told', async () => {
    const [backup, restore, ...others] = commandsOf(postgresql ? 'Backup of PostgreSQL' : 'Backup');
    assert.deepEqual(others, []);
    const { seq } = await ann.send(conversation, 'in the backup');
    // One session ends before the backup, one between the copies of the two databases.
    const ending = () => new Api(host.api).login(bo.username, bo.password, 'ending');
    await (await ending()).logout();
    const between = await ending();
    // PostgreSQL makes one copy of both.
    const toConversations = postgresql ? '' : /^.*conversations\.db.*$/m.exec(backup)[0];
    await host.shell(backup.replace(toConversations, ''));
    await between.logout();
    await host.shell(toConversations);
    assert.equal((await host.call('stat', '-c', '%a', '/backup')).trim(), '700');

    const client = new Client(host.socket, bo);
    await client.connect();
    await ann.send(conversation, 'younger than the backup');
    await client.received(conversation, seq + 1);
    const again = client.event('subscribed', { next: true, seconds: 60, where: ({ channel }) => channel === conversation });
    await host.shell(restore);
    const context = await again;
    client.disconnect();
    assert.deepEqual([context.wasRecovering, context.recovered], [true, false]);
    assert.equal((await ann.wholeHistory(conversation)).at(-1).text, 'in the backup');
    assert.equal((await ann.send(conversation, 'in its place')).seq, seq + 1);
    // A session that ends now is one more that ended, and not taken for that one.
    const ended = async () => (await bo.wholeHistory(`#${bo.user.id}`)).map(({ event }) => event.session_ended?.session);
    const last = await ending();
    await last.logout();
    await until('its end is told', 10, async () => (await ended()).includes(last.session));
    assert.equal((await ended()).includes(between.session), !postgresql);
    assert.deepEqual(await host.failedUnits(), []);
  });
});
