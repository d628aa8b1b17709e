// SPDX-License-Identifier: Apache-2.0
// The units, as systemd sees them on a host with the package installed.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { request } from './lib/api.mjs';
import { Host, UNITS, until } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';

const SOCKETS = ['stonechat-api.socket', 'stonechat-api-rpc.socket', 'stonechat-group.socket', 'stonechat-arbiter.socket', 'stonechat-socket@1.socket'];
// Restarts of the target. STONECHAT_RESTARTS=500 is for whoever has changed the units: it takes ten minutes and more.
const ROUNDS = Number(process.env.STONECHAT_RESTARTS ?? 20);
const TIMERS = ['stonechat-expired-sessions.timer', 'stonechat-integrity-check.timer'];

describe('units', () => {
  let host;

  before(async () => {
    host = await Host.boot();
  });
  after(() => host?.stop());

  const state = (unit) => host.property(unit, 'ActiveState');
  const health = () => request(host.api, 'GET', '/healthz');

  it('have nothing that systemd-analyze verify would mention', async () => {
    const done = await host.exec('/bin/bash', '-c', 'systemd-analyze verify --man=no /lib/systemd/system/stonechat*.{target,slice,socket,service,timer} 2>&1');
    assert.equal(done.stdout, '');
    assert.equal(done.code, 0);
  });

  for (const unit of [...UNITS, 'stonechat-job@integrity-check.service', 'stonechat-keys.service', 'stonechat-keys-rotate.service', 'stonechat-keys-revoke.service']) {
    it(`${unit} is sandboxed`, async () => {
      const done = await host.exec('systemd-analyze', 'security', '--offline=true', '--threshold=15', '--no-pager', unit.replace(/@.*\./, '@.'));
      assert.equal(done.code, 0, done.stdout);
    });
  }

  it('share the sandbox, and the roles also the watchdog and restarts', async () => {
    const shared = '/lib/systemd/system/stonechat-.service.d';
    const once = ['stonechat-job@integrity-check.service', 'stonechat-keys.service', 'stonechat-keys-rotate.service', 'stonechat-keys-revoke.service'];
    for (const unit of [...UNITS, ...once]) {
      const dropIns = (await host.property(unit, 'DropInPaths')).split(' ').map((path) => path.replace(/^\/usr/, ''));
      assert.ok(dropIns.includes(`${shared}/10-sandbox.conf`), unit);
      assert.equal(dropIns.includes(`${shared}/10-supervision.conf`), UNITS.includes(unit), unit);
      assert.equal(await host.property(unit, 'Restart'), UNITS.includes(unit) ? 'on-failure' : 'no', unit);
      assert.equal(await host.property(unit, 'RestrictAddressFamilies'), 'AF_UNIX', unit);
    }
  });

  it('are all up after enable --now of the target, and nothing has failed', async () => {
    for (const unit of ['stonechat.target', ...SOCKETS, ...UNITS, ...TIMERS]) assert.equal(await state(unit), 'active', unit);
    assert.deepEqual(await host.failedUnits(), []);
    assert.equal((await health()).status, 200);
  });

  it('say what they do in one line each', async () => {
    for (const unit of UNITS) assert.notEqual(await host.property(unit, 'StatusText'), '', unit);
  });

  it('have the watchdog on, and run as a user of their own', async () => {
    for (const unit of UNITS) {
      assert.equal(await host.property(unit, 'WatchdogUSec'), '10s', unit);
      const pid = await host.property(unit, 'MainPID');
      assert.equal((await host.call('stat', '-c', '%U', `/proc/${pid}`)).trim(), `stonechat-${/^stonechat-(\w+)/.exec(unit)[1]}`, unit);
    }
  });

  it('map no library that their role has no use for', async () => {
    const web = ['libwebsockets', 'libuv'];
    const stores = ['libsqlite3', 'libpq', 'store-postgresql', 'store-sqlite'];
    const [own, others] = postgresql ? [['libpq', 'store-postgresql'], ['libsqlite3', 'store-sqlite']] : [['libsqlite3', 'store-sqlite'], ['libpq', 'store-postgresql']];
    // libpq brings OpenSSL.
    const forbidden = {
      'stonechat-arbiter.service': [...web, ...stores, 'libjwt', 'libssl', 'libjansson'],
      'stonechat-group.service': [...web, ...others, 'libjwt', ...(postgresql ? [] : ['libssl'])],
      'stonechat-api.service': others,
      'stonechat-socket@1.service': stores,
    };
    for (const unit of UNITS) {
      const maps = await host.call('cat', `/proc/${await host.property(unit, 'MainPID')}/maps`);
      const files = new Set(maps.split('\n').map((line) => line.split('/').at(-1)));
      assert.ok([...files].some((file) => file.startsWith('libc.so')), unit);
      assert.deepEqual([...files].filter((file) => forbidden[unit].some((name) => file.startsWith(name))), [], unit);
    }
    for (const unit of ['stonechat-api.service', 'stonechat-group.service']) {
      const maps = await host.call('cat', `/proc/${await host.property(unit, 'MainPID')}/maps`);
      for (const name of own) assert.match(maps, new RegExp(`/${name}`), unit);
    }
    // A task is over before anybody could look at its maps.
    const job = await host.call('ldd', '/usr/lib/stonechat/stonechat-job');
    assert.doesNotMatch(job, /libwebsockets|libuv|libsqlite3|libpq|libjwt|libssl|libjansson/);
  });

  it('keep secrets and data to themselves', async () => {
    const modes = await host.call('stat', '-c', '%a %U %n', '/var/lib/stonechat/keys', '/var/lib/stonechat/keys/token.private.pem', '/var/lib/stonechat/api', '/var/lib/stonechat/group', '/run/stonechat', ...['', '/api', '/group', '/arbiter'].map((directory) => `/run/stonechat/rpc${directory}`));
    assert.equal(modes, '700 root /var/lib/stonechat/keys\n600 root /var/lib/stonechat/keys/token.private.pem\n'
      + '700 stonechat-api /var/lib/stonechat/api\n700 stonechat-group /var/lib/stonechat/group\n755 root /run/stonechat\n'
      + '755 root /run/stonechat/rpc\n750 root /run/stonechat/rpc/api\n750 root /run/stonechat/rpc/group\n700 root /run/stonechat/rpc/arbiter\n');
  });

  it('listen on loopback only', async () => {
    const listening = await host.call('ss', '--no-header', '--listening', '--tcp', '--numeric');
    const addresses = listening.split('\n').filter(Boolean).map((line) => line.split(/\s+/)[3]).sort();
    assert.deepEqual(addresses, ['127.0.0.1:8080', '127.0.0.1:8090']);
  });

  it('have bus names that answer', async () => {
    for (const name of ['Api', 'Group', 'Arbiter', 'Socket.I1']) {
      const healthy = await host.call('busctl', 'get-property', `org.stonechat.${name}`, '/org/stonechat/Role', 'org.stonechat.Role1', 'Healthy');
      assert.equal(healthy, 'b true\n', name);
    }
  });

  it('explain their events in the catalog', async () => {
    const ids = (await host.journal('--unit=stonechat*', '_COMM=stonechat-api')).map((entry) => entry.MESSAGE_ID).filter(Boolean);
    assert.notEqual(ids.length, 0);
    for (const id of new Set(ids)) assert.match(await host.call('journalctl', '--list-catalog', id), /Stonechat|stonechat/);
  });

  for (const unit of UNITS) {
    it(`systemctl reload ${unit} waits and keeps the process`, async () => {
      const before = await host.property(unit, 'InvocationID');
      await host.systemctl('reload', unit);
      assert.equal(await host.property(unit, 'InvocationID'), before);
      assert.equal(await state(unit), 'active');
    });

    it(`systemctl service-log-level ${unit}`, async () => {
      await host.systemctl('service-log-level', unit, 'debug');
      assert.equal((await host.systemctl('service-log-level', unit)).trim(), 'debug');
      await host.systemctl('service-log-level', unit, 'info');
    });

    it(`${unit} comes back after kill -9`, async () => {
      const oldPid = await host.property(unit, 'MainPID');
      await host.kill(unit);
      await host.active(unit, { oldPid });
    });
  }

  it('serve the first request to a stopped role', async () => {
    await host.systemctl('stop', 'stonechat-api.service');
    assert.equal(await state('stonechat-api.service'), 'inactive');
    const answer = await health();
    assert.equal(answer.status, 200, answer.text);
    assert.equal(await state('stonechat-api.service'), 'active');
  });

  it('do not lose a connection that arrives while the role restarts', async () => {
    const restart = host.systemctl('restart', 'stonechat-api.service');
    const answers = [];
    while (answers.length < 20) answers.push((await health()).status);
    await restart;
    assert.deepEqual([...new Set(answers)], [200]);
  });

  it('run the tasks of the timers', async () => {
    for (const timer of TIMERS) {
      const service = await host.property(timer, 'Unit');
      await host.systemctl('start', service);
      assert.equal(await host.property(service, 'Result'), 'success', service);
    }
  });

  it('take a drop-in with another address', async () => {
    await host.dropIn('stonechat-api.socket', '[Socket]\nListenStream=\nListenStream=8081\n');
    await host.systemctl('restart', 'stonechat-api.socket');
    assert.equal((await request('http://[::1]:8081', 'GET', '/healthz')).status, 200);
    await host.shell('rm /etc/systemd/system/stonechat-api.socket.d/test.conf; systemctl daemon-reload; systemctl restart stonechat-api.socket');
    assert.equal((await health()).status, 200);
  });

  it('take a second instance on the same port', async () => {
    await host.systemctl('enable', '--now', 'stonechat-socket@2.socket');
    assert.equal(await state('stonechat-socket@1.socket'), 'active');
    assert.equal(await state('stonechat-socket@2.socket'), 'active');
    // The kernel chooses the instance: sooner or later a connection is the second one's.
    const { connect } = await import('node:net');
    await until('a connection starts the second instance', 10, async () => {
      connect(8090, '127.0.0.1').on('error', () => {}).on('connect', function () { this.destroy(); });
      return (await state('stonechat-socket@2.service')) === 'active';
    });
    await host.systemctl('disable', '--now', 'stonechat-socket@2.socket');
    assert.equal(await state('stonechat-socket@2.service'), 'inactive');
  });

  it('go on after the package is installed anew, with new processes on the same sockets', async () => {
    const pids = () => Promise.all(UNITS.map((unit) => host.property(unit, 'MainPID')));
    const invocations = () => Promise.all(SOCKETS.map((unit) => host.property(unit, 'InvocationID')));
    const [pidsBefore, socketsBefore] = [await pids(), await invocations()];
    await host.install();
    for (const [index, unit] of UNITS.entries()) await host.active(unit, { oldPid: pidsBefore[index] });
    assert.deepEqual(await invocations(), socketsBefore);
    assert.equal((await health()).status, 200);
  });

  it('come back each time the target is restarted', { timeout: 30_000 + ROUNDS * 20_000 }, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      await host.systemctl('restart', 'stonechat.target');
      await until('the jobs are done', 30, async () => (await host.systemctl('list-jobs', '--no-legend')) === '');
      for (const unit of [...SOCKETS, ...UNITS]) assert.equal(await state(unit), 'active', `${unit}, round ${round}`);
      await host.systemctl('reset-failed'); // counts the starts anew
    }
    assert.equal((await health()).status, 200);
  });

  it('leave nothing behind when the target stops', async () => {
    await host.systemctl('stop', 'stonechat.target'); // its own job is over before those of the units
    await until('the units have stopped', 30, async () => (await host.systemctl('list-jobs', '--no-legend')) === '');
    for (const unit of [...SOCKETS, ...UNITS, ...TIMERS]) assert.equal(await state(unit), 'inactive', unit);
    assert.deepEqual(await host.failedUnits(), []);
    assert.equal((await host.exec('pgrep', '-u', 'stonechat-api,stonechat-socket,stonechat-group,stonechat-arbiter,stonechat-job')).code, 1);
    await assert.rejects(health());
  });

  it('are gone when the package is removed', async () => {
    await host.systemctl('start', 'stonechat.target');
    await host.shell('apt-get -q remove --yes stonechat');
    assert.equal(await host.call('systemctl', 'list-units', '--plain', '--no-legend', 'stonechat*'), '');
    assert.equal((await host.exec('pgrep', '-u', 'stonechat-api,stonechat-socket,stonechat-group,stonechat-arbiter,stonechat-job')).code, 1);
  });
});
