// SPDX-License-Identifier: Apache-2.0
// The database of a host: SQLite's files, or with STONECHAT_STORE=postgresql in the environment Debian's PostgreSQL in
// the host, set up as docs/operations.md tells an administrator to.
export const postgresql = process.env.STONECHAT_STORE === 'postgresql';

const CLUSTER = 'postgresql@15-test.service';
const FILES = { accounts: '/var/lib/stonechat/api/accounts.db', conversations: '/var/lib/stonechat/group/conversations.db' };

export class Database {
  constructor(host) {
    this.host = host;
  }

  // Before the roles start. What this machine has of PostgreSQL clusters is no part of the host.
  async create() {
    await this.host.shell(`
      pg_lsclusters --no-header | while read -r version name rest; do pg_dropcluster --stop "$version" "$name"; done
      pg_createcluster 15 test --port 5432 -- --no-sync --no-instructions >/dev/null
      echo "listen_addresses = ''" >>/etc/postgresql/15/test/postgresql.conf
      systemctl start ${CLUSTER}
      runuser -u postgres -- createuser stonechat-api
      runuser -u postgres -- createuser stonechat-group
      runuser -u postgres -- createdb --encoding UTF8 --template template0 stonechat
      runuser -u postgres -- psql -q -d stonechat -c 'GRANT CREATE ON DATABASE stonechat TO "stonechat-api", "stonechat-group"'`);
    await this.host.write('/etc/stonechat/stonechat.conf.d/40-store.conf', '[Store]\nKind=postgresql\nURI=postgresql:///stonechat?host=/run/postgresql\n');
  }

  // So that the conversations have little room: PostgreSQL's own log stays where it has enough.
  async limitRoom(directory) {
    if (!postgresql) return;
    await this.host.shell(`
      chown postgres: ${directory}; chmod 700 ${directory}; install -d -o postgres -m 700 ${directory}/tables
      runuser -u postgres -- psql -XqAt -d postgres -c "CREATE TABLESPACE small LOCATION '${directory}/tables'" -c 'ALTER DATABASE stonechat SET default_tablespace = small' -c 'GRANT CREATE ON TABLESPACE small TO "stonechat-api", "stonechat-group"'`);
  }

  systemctl(verb, ...args) {
    return this.host.systemctl(verb, ...args, CLUSTER);
  }

  // Rows of a statement as lists of texts. `store`: accounts or conversations.
  async query(store, sql) {
    const output = postgresql
      ? await this.host.call('runuser', '-u', 'postgres', '--', 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-F', '\t', '-d', 'stonechat', '-c', `SET search_path = ${store}`, '-c', sql)
      : await this.host.call('/usr/bin/python3', '-c', `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
for row in db.execute(sys.argv[2]):
    print('\\t'.join(map(str, row)))
db.close()`, FILES[store], sql);
    return output.split('\n').filter(Boolean).map((line) => line.split('\t'));
  }

  async columns(store, table) {
    const rows = await this.query(store, postgresql
      ? `SELECT column_name FROM information_schema.columns WHERE table_schema = '${store}' AND table_name = '${table}'`
      : `SELECT name FROM pragma_table_info('${table}')`);
    return rows.map(([name]) => name);
  }
}
