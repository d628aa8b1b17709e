/* SPDX-License-Identifier: Apache-2.0 */

/* What only the SQLite back end does: its file, its schema, its log. */

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fixture.h"
#include "log/log.h"
#include "store/record.h"
#include "store/sqlite/sql.h"
#include "store/sqlite/wal-vfs.h"
#include "store/store-backend.h"
#include "util/fd-util.h"
#include "util/string-util.h"

static void exec_sql(Fixture *f, const char *sql) {
        sqlite3 *db;

        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
}

static int query_number(Fixture *f, const char *sql) {
        sqlite3_stmt *statement;
        sqlite3 *db;

        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        int n = sqlite3_column_int(statement, 0);
        sqlite3_finalize(statement);
        sqlite3_close(db);
        return n;
}

static void test_newer_schema(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_open(f, NULL), 0);
        fixture_close(f);
        assert_int_equal(query_number(f, "PRAGMA user_version"), 2);
        exec_sql(f, "PRAGMA user_version = 1000000");
        assert_int_equal(fixture_open(f, NULL), -EUCLEAN);
        assert_null(f->store);
        /* Refused, not changed; and the lock is free again. */
        assert_int_equal(query_number(f, "PRAGMA user_version"), 1000000);
        exec_sql(f, "PRAGMA user_version = 2");
        assert_int_equal(fixture_open(f, NULL), 0);
}

static void test_not_a_database(void **state) {
        Fixture *f = *state;
        _cleanup_close_ int fd = open(f->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        char junk[8192];

        memset(junk, 'j', sizeof(junk));
        assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
        assert_int_equal(fixture_open(f, NULL), -EIO);
        StoreConfig config = fixture_config(f);
        config.directory = "/nonexistent/directory";
        assert_int_equal(store_open(&f->store, f->event, &config), -ENOENT);
        config.kind = "../sqlite";
        assert_int_equal(store_open(&f->store, f->event, &config), -ENOPKG);
        config.kind = "nosuch";
        assert_int_equal(store_open(&f->store, f->event, &config), -ENOPKG);
}

/* An earlier version of User, without its last two fields. */
static MessageInfo old_user(ProtobufCMessageDescriptor *descriptor, RecordInfo *record) {
        MessageInfo info = sc__user__info;

        *descriptor = sc__user__descriptor;
        descriptor->n_fields -= 2;
        *record = *info.record;
        record->version_field = -1;
        info.descriptor = descriptor;
        info.record = record;
        return info;
}

static void test_new_columns(void **state) {
        Fixture *f = *state;
        ProtobufCMessageDescriptor descriptor;
        RecordInfo record;
        MessageInfo old = old_user(&descriptor, &record);
        Sc__User user = SC__USER__INIT;
        const StoreChange rename = {.field = store_field(&sc__user__info, "display_name")};

        user.id = user.username = (char *) "ada";
        user.display_name = (char *) "Ada";
        assert_int_equal(fixture_open(f, (const MessageInfo *const[]){&old, NULL}), 0);
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &old, &user), 0);
        fixture_close(f);
        assert_int_equal(query_number(f, "SELECT count(*) FROM pragma_table_info('users')"), 3);

        assert_int_equal(fixture_open(f, NULL), 0);
        Sc__User *found = (Sc__User *) fixture_get(f, &sc__user__info, &user);
        assert_non_null(found);
        assert_string_equal(found->display_name, "Ada");
        assert_true(found->created_at == 0 && found->version == 0);
        sc__user__free_unpacked(found, NULL);
        user.display_name = (char *) "Ada L.";
        StoreItem patch = {.verb = STORE_PATCH,
                .info = &sc__user__info,
                .record = &user.base,
                .changes = &rename,
                .n_changes = 1};
        StoreWritten written;
        assert_int_equal(fixture_write_item(f, &patch, &written), 0);
        assert_int_equal(store_version_count(written.version), 1);
        fixture_close(f);

        /* The old program still finds its way around the new file. */
        assert_int_equal(fixture_open(f, (const MessageInfo *const[]){&old, NULL}), 0);
        patch.info = &old;
        user.display_name = (char *) "Ada Lovelace";
        assert_int_equal(fixture_write_item(f, &patch, NULL), 0);
        assert_int_equal(query_number(f, "SELECT version >> 31 FROM users"), 1);
}

static void test_file_modes(void **state) {
        static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        FOREACH_ARRAY(suffix, suffixes, ELEMENTSOF(suffixes)) {
                _cleanup_free_ char *path = format_string("%s%s", f->path, *suffix);
                struct stat st;
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(st.st_mode & 0777, 0600);
        }
}

/* Each thread's connection must be the kind it is meant to be. */
static void test_durability_settings(void **state) {
        Fixture *f = *state;

        assert_int_equal(
                query_number(f, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'"), 1);
        assert_int_equal(query_number(f, "PRAGMA page_size"), 4096);
}

/* No scan of a whole table, and no sorting, for what the roles ask. */
static void assert_steps(Fixture *f, const StatementShape *shape, const char *expected, bool one_step) {
        char *sql = sql_statement(shape), *explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
        sqlite3_stmt *statement;
        sqlite3 *db;

        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, explain, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        assert_non_null(strstr((const char *) sqlite3_column_text(statement, 3), expected));
        if (one_step)
                assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
        sqlite3_finalize(statement);
        sqlite3_close(db);
        sqlite3_free(explain);
        sqlite3_free(sql);
}

static void assert_plan(Fixture *f, const StatementShape *shape, const char *expected) {
        assert_steps(f, shape, expected, true);
}

static void assert_first_plan(Fixture *f, const StatementShape *shape, const char *expected) {
        assert_steps(f, shape, expected, false);
}

static void test_plans(void **state) {
        Fixture *f = *state;
        const MessageInfo *m = &sc__message__info;
        StatementShape page = {.info = m,
                .index = &m->record->key,
                .kind = STATEMENT_SELECT,
                .n_prefix = 1,
                .before = true,
                .descending = true};

        assert_plan(f, &page, "SEARCH messages USING PRIMARY KEY (conversation=? AND seq<?)");
        page.before = false;
        page.after = true;
        assert_plan(f, &page, "SEARCH messages USING PRIMARY KEY (conversation=? AND seq>?)");
        const StatementShape by_id = {
                .info = m, .index = m->record->indexes, .kind = STATEMENT_SELECT, .n_prefix = 2};
        assert_plan(f, &by_id, "USING INDEX messages_by_client_id (client_msg_id=? AND sender=?)");
        const StatementShape inbox = {.info = &sc__inbox_entry__info,
                .index = &sc__inbox_entry__info.record->key,
                .kind = STATEMENT_SELECT,
                .n_prefix = 1,
                .after = true};
        assert_plan(f, &inbox, "SEARCH inboxes USING PRIMARY KEY (inbox=? AND conversation>?)");
        const StatementShape pending = {.info = &sc__intent__info,
                .index = sc__intent__info.record->indexes,
                .kind = STATEMENT_SELECT,
                .n_prefix = 1};
        assert_plan(f, &pending, "SEARCH intents USING INDEX intents_by_shard (shard=?)");
        const StatementShape last = {.info = m, .kind = STATEMENT_LAST};
        assert_plan(f, &last, "SEARCH messages USING PRIMARY KEY (conversation=?)");
        const StatementShape patch = {.info = &sc__member__info, .kind = STATEMENT_PATCH, .max = 1U << 2};
        assert_plan(f, &patch, "SEARCH members USING PRIMARY KEY (conversation=? AND user=?)");
        const StatementShape oldest = {.info = m, .kind = STATEMENT_DELETE_OLDEST};
        assert_first_plan(f, &oldest, "SEARCH messages USING PRIMARY KEY (conversation=? AND seq<?)");
}

/* Overwrites part of an index with what the table does not say. */
static void test_check_finds_damage(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        exec_sql(f, "PRAGMA writable_schema = ON;"
                    "UPDATE sqlite_schema SET sql = replace(sql, '<> ''''', '<> ''1''')"
                    " WHERE name = 'messages_by_client_id'");
        Checked checked = fixture_check(f);
        assert_int_equal(checked.r, 0);
        assert_true(checked.n_findings > 0);
}

/* A prefix may be missing; a gap, or a count that goes back, may not. */
static void test_check_finds_gaps(void **state) {
        Fixture *f = *state;

        for (uint64_t i = 0; i < 5; i++) {
                char id[8];
                snprintf(id, sizeof(id), "%u", (unsigned) i);
                assert_int_equal(fixture_append_text(f, "c", i, "a", id, "one").r, 0);
        }
        exec_sql(f, "DELETE FROM messages WHERE seq < 3");
        assert_int_equal(fixture_check(f).n_findings, 0);
        exec_sql(f, "DELETE FROM messages WHERE seq = 4");
        Checked checked = fixture_check(f);
        assert_int_equal(checked.n_findings, 1);
        assert_string_equal(checked.first, "conversation c has 2 entries from number 3 to number 5");
        exec_sql(f, "DELETE FROM messages WHERE seq = 3; INSERT INTO messages (conversation, seq, \"count\")"
                    " VALUES ('c', 4, 7)");
        checked = fixture_check(f);
        assert_int_equal(checked.n_findings, 1);
        assert_string_equal(checked.first, "conversation c counts less at number 5 than before");
}

/* The log is as small as it gets after closing, and does not grow without end under load. */
static void test_log_is_bounded(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *log = format_string("%s-wal", f->path);
        static char text[60001];
        uint64_t seq = 0;
        struct stat st;
        off_t largest = 0;

        memset(text, 'x', sizeof(text) - 1);
        for (unsigned i = 0; i < 2500; i++) { /* 150 MB */
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                Appended a = fixture_append_text(f, "c", seq, "a", id, text);
                assert_int_equal(a.r, 0);
                seq = a.last_seq;
                assert_int_equal(stat(log, &st), 0);
                largest = MAX(largest, st.st_size);
        }
        assert_in_range(largest, 1, 100 * 1024 * 1024);
        fixture_close(f);
        assert_int_equal(stat(log, &st), -1);
        assert_int_equal(fixture_open(f, NULL), 0);
        assert_int_equal(fixture_append_text(f, "c", seq, "a", "last", "x").last_seq, seq + 1);
}

static void exec_on(sqlite3 *db, const char *sql) {
        char *message = NULL;

        if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
                fail_msg("%s: %s", sql, message);
}

static void run_gathered(const char *path, int n_rows) {
        sqlite3 *writer, *reader;
        sqlite3_stmt *sum;
        char insert[256];

        assert_int_equal(sqlite3_open_v2(path, &writer, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                 wal_vfs_register()),
                SQLITE_OK);
        exec_on(writer, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = 10;"
                        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, text BLOB)");
        assert_int_equal(sqlite3_open(path, &reader), SQLITE_OK);
        snprintf(insert, sizeof(insert),
                "WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < %d)"
                "INSERT INTO t SELECT i, 0, randomblob(500) FROM c",
                n_rows);
        exec_on(writer, insert);
        assert_int_equal(sqlite3_prepare_v2(reader, "SELECT sum(n) FROM t", -1, &sum, NULL), SQLITE_OK);
        for (int i = 1; i <= 20; i++) {
                exec_on(writer, "BEGIN");
                for (unsigned k = 0; k < 3; k++)
                        exec_on(writer, "UPDATE t SET n = n + 1, text = randomblob(500)");
                exec_on(writer, i % 2 ? "COMMIT" : "ROLLBACK");
                assert_int_equal(sqlite3_step(sum), SQLITE_ROW);
                assert_int_equal(sqlite3_column_int(sum, 0), (i + 1) / 2 * 3 * n_rows);
                sqlite3_reset(sum);
                if (i % 5 == 0)
                        exec_on(writer, "PRAGMA wal_checkpoint(RESTART)");
        }
        sqlite3_finalize(sum);
        sqlite3_close(reader);
        sqlite3_close(writer);
}

/* Transactions larger than the cache write pages to the log, read them again, and write over them, before they are
 * committed or rolled back; another connection sees the ones that are. What is gathered is more than that, or less. */
static void test_gathered_log(void **state) {
        static const int sizes[] = {120, 1000};
        Fixture *f = *state;

        FOREACH_ARRAY(n_rows, sizes, ELEMENTSOF(sizes)) {
                _cleanup_free_ char *path = format_string("%s-%d", f->path, *n_rows);
                run_gathered(path, *n_rows);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_newer_schema, fixture_setup_closed, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_not_a_database, fixture_setup_closed, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_new_columns, fixture_setup_closed, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_file_modes, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_durability_settings, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_plans, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_check_finds_damage, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_check_finds_gaps, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_log_is_bounded, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_gathered_log, fixture_setup_closed, fixture_teardown),
        };
        store_register_backend(&store_backend_class);
        log_set_level(LOG_EMERG); /* what fails here is meant to */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
