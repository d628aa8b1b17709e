/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/migrate.h"

#include <systemd/sd-daemon.h>

#include "log/log.h"
#include "util/time-util.h"

/* Steps of SQLite's virtual machine between two looks at the clock: some milliseconds. */
#define STEPS_BETWEEN_LOOKS 1000000
#define NOTIFY_USEC USEC_PER_SEC
#define EXTENSION_USEC "60000000"

/* A statement for a store that has these tables; a store has only those of its role. */
typedef struct Step {
        const char *tables[2];
        const char *sql;
} Step;

/* 1 to 2 (release 0.2): the key of a session begins with its user. */
static const Step begin_1[] = {
        {{"sessions"}, "DROP INDEX IF EXISTS sessions_by_user"},
        {{"sessions"}, "DROP INDEX IF EXISTS sessions_by_expiry"},
        {{"sessions"}, "ALTER TABLE sessions RENAME TO sessions_1"},
        {{"members"}, "DROP INDEX IF EXISTS members_by_user"},
};

/* Versions count in their upper bits, and 0 is none. An entry carries the number of counting entries so far, which was
 * its seq but in personal logs. What is unread stays as it was: in 1 the messages of others behind read_seq, in 2 the
 * last entry's count less read_count. Heads and inboxes follow from what there was. A head is the entry with the
 * greatest seq: beside max(), SQLite takes the other columns from the row that has it. */
static const Step finish_1[] = {
        {{"sessions_1", "sessions"},
                "INSERT INTO sessions (id, \"user\", device, refresh_hash, created_at, used_at, expires_at, "
                "version,"
                " previous_hash) SELECT id, \"user\", device, refresh_hash, created_at, used_at, expires_at,"
                " max(version, 1) << 31, previous_hash FROM sessions_1"},
        {{"sessions_1"}, "DROP TABLE sessions_1"},
        {{"users"}, "UPDATE users SET version = max(version, 1) << 31"},
        {{"credentials"}, "UPDATE credentials SET version = max(version, 1) << 31"},
        {{"conversations"}, "UPDATE conversations SET version = max(version, 1) << 31"},
        {{"messages"}, "UPDATE messages SET \"count\" = seq WHERE substr(conversation, 1, 1) <> '#'"},
        {{"members"}, "UPDATE members SET version = max(version, 1) << 31"},
        {{"members", "messages"},
                "UPDATE members SET read_count = ifnull((SELECT max(seq) FROM messages"
                " WHERE messages.conversation = members.conversation), 0) - (SELECT count(*) FROM messages"
                " WHERE messages.conversation = members.conversation AND seq > read_seq AND sender <> "
                "\"user\")"
                " WHERE substr(conversation, 1, 1) <> '#'"},
        {{"heads", "messages"},
                "INSERT INTO heads (conversation, last_seq, last_count, last_at)"
                " SELECT conversation, max(seq), \"count\", created_at FROM messages GROUP BY conversation"},
        {{"inboxes", "members"}, "INSERT INTO inboxes (inbox, conversation, kind, added_at, version)"
                                 " SELECT '#' || m.\"user\", m.conversation, c.kind, m.joined_at, 1 << 31"
                                 " FROM members m JOIN conversations c ON c.id = m.conversation"
                                 " WHERE substr(m.conversation, 1, 1) <> '#'"},
};

static int has_table(SqliteConnection *connection, const char *table) {
        _cleanup_sqlite_free_ char *sql = sqlite3_mprintf(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = %Q", table);
        int64_t n;

        if (!sql)
                return -ENOMEM;
        int r = connection_query_number(connection, sql, &n);
        return r < 0 ? r : n > 0;
}

static int run_step(SqliteConnection *connection, const Step *step) {
        FOREACH_ARRAY(table, step->tables, ELEMENTSOF(step->tables)) {
                if (!*table)
                        break;
                int r = has_table(connection, *table);
                if (r <= 0)
                        return r;
        }
        return connection_exec(connection, step->sql);
}

static int on_progress(void *userdata) {
        uint64_t *notified = userdata, now = boottime_usec();

        if (now - *notified >= NOTIFY_USEC) {
                (void) sd_notify(false,
                        "EXTEND_TIMEOUT_USEC=" EXTENSION_USEC "\nSTATUS=Bringing the store up to date…");
                *notified = now;
        }
        return 0;
}

static int run_steps(SqliteConnection *connection, const Step *steps, size_t n) {
        sqlite3 *db = connection_handle(connection);
        uint64_t notified = boottime_usec();
        int r = 0;

        sqlite3_progress_handler(db, STEPS_BETWEEN_LOOKS, on_progress, &notified);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = run_step(connection, &steps[i]);
        sqlite3_progress_handler(db, 0, NULL, NULL);
        return r;
}

int sqlite_migrate_begin(SqliteConnection *connection, int64_t from_version) {
        if (from_version != 1)
                return 0;
        log_notice("Bringing the store from schema 1 to 2; this may take minutes if it is large, and needs "
                   "as much "
                   "free space on the disk as the store has");
        return run_steps(connection, begin_1, ELEMENTSOF(begin_1));
}

int sqlite_migrate_finish(SqliteConnection *connection, int64_t from_version) {
        return from_version == 1 ? run_steps(connection, finish_1, ELEMENTSOF(finish_1)) : 0;
}
