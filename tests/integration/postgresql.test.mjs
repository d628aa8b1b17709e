// SPDX-License-Identifier: Apache-2.0
// PostgreSQL over the network and with a password, as docs/operations.md tells; and what an operator is told when it is not right.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Host, until } from './lib/host.mjs';
import { postgresql } from './lib/store.mjs';

const ROLES = ['stonechat-api.service', 'stonechat-group.service'];
const CONFIGURATION = '/etc/stonechat/stonechat.conf.d/60-test.conf';
const PASSWORD = 'correct horse battery';
const NETWORK = 'PrivateNetwork=no\nIPAddressAllow=127.0.0.1\nRestrictAddressFamilies=AF_INET AF_INET6\n';
const CREDENTIAL = 'LoadCredential=store.password:/etc/stonechat/store.password\n';

describe('PostgreSQL', { skip: !postgresql }, () => {
  let host, ann;

  before(async () => {
    host = await Host.boot();
    ann = await newUser(host.api);
    await host.shell(`
      echo 'host stonechat stonechat-api,stonechat-group 127.0.0.1/32 scram-sha-256' >>/etc/postgresql/15/test/pg_hba.conf
      echo "listen_addresses = '127.0.0.1'" >>/etc/postgresql/15/test/postgresql.conf
      for role in stonechat-api stonechat-group; do
        runuser -u postgres -- psql -XqAt -c "ALTER ROLE \\"$role\\" PASSWORD '${PASSWORD}'"
      done`);
    await host.database.systemctl('restart');
  });
  after(() => host?.stop());

  // Starts the roles anew with this URI, these lines in their drop-ins, and this password; answers whether they run.
  const restart = async ({ uri, service = '', password = PASSWORD }) => {
    await host.write(CONFIGURATION, `[Api]\nLoginRate=0\n[Store]\nURI=${uri}\nTimeoutSec=2s\n`);
    await host.write('/etc/stonechat/store.password', `${password}\n`);
    await host.call('chmod', '600', '/etc/stonechat/store.password');
    for (const unit of ROLES) await host.dropIn(unit, `[Service]\n${service}`);
    await host.systemctl('stop', 'stonechat.target', ...ROLES);
    await host.exec('systemctl', 'reset-failed');
    const done = await host.exec('systemctl', 'start', ...ROLES);
    return done.code === 0;
  };
  const told = async (pattern) => {
    const entries = await host.journal('--unit=stonechat-group.service');
    assert.ok(entries.some(({ MESSAGE }) => pattern.test(MESSAGE)), `${pattern}: ${JSON.stringify(entries.slice(-10).map(({ MESSAGE }) => MESSAGE))}`);
  };
  const assertServes = async () => {
    await host.systemctl('start', 'stonechat.target');
    await ann.login(ann.username, ann.password, 'test');
    const bob = await newUser(host.api);
    const conversation = await ann.openDirect(bob.user.id);
    assert.equal((await ann.send(conversation, 'hello')).seq, 1);
  };
  const TCP = 'postgresql://127.0.0.1/stonechat';

  it('takes the password as a credential, over the network once the sandbox allows it', async () => {
    assert.equal(await restart({ uri: TCP, service: NETWORK + CREDENTIAL }), true);
    await assertServes();
    const environment = await host.shell(`for unit in ${ROLES.join(' ')}; do pid=$(systemctl show --value -p MainPID $unit); tr '\\0' '\\n' </proc/$pid/environ; tr '\\0' ' ' </proc/$pid/cmdline; done`);
    assert.ok(!environment.includes(PASSWORD));
  });

  it('is not reached over the network from within the sandbox, and the journal says so', async () => {
    assert.equal(await restart({ uri: TCP, service: CREDENTIAL + 'Restart=no\n' }), false);
    await told(/Failed to connect to the store: .*(127\.0\.0\.1|socket)/);
  });

  it('refuses a wrong password', async () => {
    assert.equal(await restart({ uri: TCP, service: `${NETWORK + CREDENTIAL}Restart=no\n`, password: 'wrong, wrong' }), false);
    await told(/Failed to connect to the store: .*28P01: password authentication failed/);
  });

  it('is not configured with a password in the URI', async () => {
    assert.equal(await restart({ uri: `postgresql://stonechat:${encodeURIComponent(PASSWORD)}@127.0.0.1/stonechat`, service: NETWORK }), false);
    await told(/60-test\.conf:4: Store\.URI: holds a password; give it as the credential store\.password/);
    assert.equal(await host.property('stonechat-group.service', 'ExecMainStatus'), '78'); // EX_CONFIG: it is not tried again
    const config = await host.exec('stonechatctl', 'config', '--check');
    assert.notEqual(config.code, 0);
    assert.ok(!(config.stdout + config.stderr).includes('correct'));
  });

  it('refuses a schema that is newer than the program', async () => {
    await host.database.query('conversations', 'UPDATE stonechat_schema SET version = version + 1');
    assert.equal(await restart({ uri: 'postgresql:///stonechat?host=/run/postgresql', service: 'Restart=no\n' }), false);
    await told(/The store's schema "conversations" has version 3; this program knows those up to 2/);
    await host.database.query('conversations', 'UPDATE stonechat_schema SET version = version - 1');
  });

  it('is waited for when the role starts first', async () => {
    await host.database.systemctl('stop');
    const started = restart({ uri: 'postgresql:///stonechat?host=/run/postgresql' });
    await until('the role waits', 20, async () => (await host.property('stonechat-group.service', 'ActiveState')) === 'activating');
    await host.database.systemctl('start');
    await started;
    for (const unit of ROLES) await host.active(unit);
    await assertServes();
  });

  it('needs its package', async () => {
    await host.shell('apt-get -q remove --yes stonechat-postgresql');
    assert.equal(await restart({ uri: 'postgresql:///stonechat?host=/run/postgresql', service: 'Restart=no\n' }), false);
    await told(/Failed to load the store's back end: .*store-postgresql\.so/);
  });

  it('leaves no password in the journal', async () => {
    const journal = JSON.stringify(await host.journal(...ROLES.map((unit) => `--unit=${unit}`)));
    assert.match(journal, /store\.password/);
    assert.ok(!journal.includes('correct horse') && !journal.includes('correct%20horse') && !journal.includes('wrong, wrong'));
  });
});
