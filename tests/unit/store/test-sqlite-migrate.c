/* SPDX-License-Identifier: Apache-2.0 */

/* Stores that release 0.1 made (store-0.1/) are brought up to date, and their users see what they saw. */

#include <fcntl.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>

#include "fault-vfs.h"
#include "fixture.h"
#include "log/log.h"
#include "store/store-backend.h"
#include "util/fd-util.h"
#include "util/string-util.h"

static const char *store_name; /* "accounts" or "conversations" */

static const MessageInfo *const accounts_records[] = {
        &sc__user__info,
        &sc__credential__info,
        &sc__session__info,
        NULL,
};
static const MessageInfo *const conversations_records[] = {
        &sc__conversation__info,
        &sc__conversation_head__info,
        &sc__member__info,
        &sc__inbox_entry__info,
        &sc__ended_session__info,
        &sc__message__info,
        NULL,
};

static StoreConfig config_of_role(const Fixture *f) {
        StoreConfig config = fixture_config_sqlite(f);

        config.name = store_name;
        config.records = streq(store_name, "accounts") ? accounts_records : conversations_records;
        return config;
}

/* The database that 0.1 left. */
static void make_old_store(Fixture *f, const char *name) {
        _cleanup_free_ char *dump_path = format_string(STORE_0_1 "/%s.sql", name), *dump = NULL;
        sqlite3 *db;
        size_t size;

        store_name = name;
        free(f->path);
        f->path = format_string("%s/%s.db", f->directory, name);
        assert_int_equal(read_file(dump_path, 10 << 20, &dump, &size), 0);
        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, dump, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int query_number(const char *path, const char *sql) {
        sqlite3_stmt *statement;
        sqlite3 *db;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        int n = sqlite3_column_int(statement, 0);
        sqlite3_finalize(statement);
        sqlite3_close(db);
        return n;
}

static json_t *load_expectations(void) {
        json_t *expectations = json_load_file(STORE_0_1 "/expectations.json", 0, NULL);

        assert_non_null(expectations);
        return expectations;
}

static const char *text_of(const json_t *object, const char *name) {
        const char *text = json_string_value(json_object_get(object, name));

        assert_non_null(text);
        return text;
}

static uint64_t number_of(const json_t *object, const char *name) {
        return (uint64_t) json_integer_value(json_object_get(object, name));
}

/* --- accounts --- */

static void check_user(Fixture *f, const json_t *user) {
        Sc__User key = SC__USER__INIT;
        Sc__Credential credential_key = SC__CREDENTIAL__INIT;

        key.id = credential_key.user = (char *) text_of(user, "id");
        Sc__User *found = (Sc__User *) fixture_get(f, &sc__user__info, &key);
        Sc__Credential *credential =
                (Sc__Credential *) fixture_get(f, &sc__credential__info, &credential_key);
        assert_non_null(found);
        assert_non_null(credential);
        assert_string_equal(found->username, text_of(user, "username"));
        assert_string_equal(found->display_name, text_of(json_object_get(user, "profile"), "display_name"));
        assert_true(store_version_count(found->version) >= 1);
        assert_true(store_version_count(credential->version) >= 1);
        assert_non_null(startswith(credential->password_hash, "$argon2id$"));
        sc__user__free_unpacked(found, NULL);
        sc__credential__free_unpacked(credential, NULL);
}

/* By the index, and by the key that it has now. Ended ones are gone. */
static void check_session(Fixture *f, const char *user, const json_t *session) {
        Sc__Session key = SC__SESSION__INIT;
        const StoreRead by_id = {.info = &sc__session__info,
                .index = store_index(&sc__session__info, "sessions_by_id"),
                .from = &key.base,
                .n_prefix = 1};
        _cleanup_rows_ Rows rows = {};

        key.id = (char *) text_of(session, "id");
        key.user = (char *) user;
        assert_int_equal(fixture_read(f, &by_id, 1, &rows), 0);
        Sc__Session *found = (Sc__Session *) fixture_get(f, &sc__session__info, &key);
        if (!found) {
                assert_string_not_equal(text_of(session, "state"), "valid");
                assert_int_equal(rows.n, 0);
                return;
        }
        assert_int_equal(rows.n, 1);
        assert_string_equal(found->device, text_of(session, "device"));
        assert_int_equal(found->refresh_hash.len, 32);
        assert_true(store_version_count(found->version) >= 1);
        sc__session__free_unpacked(found, NULL);
}

static void test_accounts(void **state) {
        Fixture *f = *state;
        json_t *expectations = load_expectations(), *user, *session;
        size_t i, k, n_sessions = 0;

        make_old_store(f, "accounts");
        int n_stored = query_number(f->path, "SELECT count(*) FROM sessions");
        assert_int_equal(fixture_open(f, accounts_records), 0);
        json_array_foreach(json_object_get(expectations, "users"), i, user) {
                check_user(f, user);
                json_array_foreach(json_object_get(user, "sessions"), k, session) {
                        check_session(f, text_of(user, "id"), session);
                        n_sessions++;
                }
        }
        assert_true(n_sessions >= (size_t) n_stored && n_stored > 0);
        assert_int_equal(fixture_check(f).n_findings, 0);
        fixture_close(f);
        assert_int_equal(query_number(f->path, "SELECT count(*) FROM sessions"), n_stored);
        assert_int_equal(query_number(f->path, "PRAGMA user_version"), 2);
        assert_int_equal(
                query_number(f->path, "SELECT count(*) FROM sqlite_schema WHERE name IN ('sessions_1',"
                                      " 'sessions_by_user')"),
                0);
        json_decref(expectations);
}

/* --- conversations --- */

static void check_entry(Fixture *f, const char *inbox, const json_t *listed) {
        const json_t *conversation = json_object_get(listed, "conversation");
        Sc__InboxEntry entry_key = SC__INBOX_ENTRY__INIT;
        Sc__ConversationHead head_key = SC__CONVERSATION_HEAD__INIT;
        Sc__Member member_key = SC__MEMBER__INIT;
        uint64_t last_seq = number_of(listed, "last_seq"), last_count = 0;

        entry_key.inbox = (char *) inbox;
        entry_key.conversation = head_key.conversation = member_key.conversation =
                (char *) text_of(conversation, "id");
        member_key.user = (char *) inbox + 1;
        Sc__InboxEntry *entry = (Sc__InboxEntry *) fixture_get(f, &sc__inbox_entry__info, &entry_key);
        Sc__ConversationHead *head =
                (Sc__ConversationHead *) fixture_get(f, &sc__conversation_head__info, &head_key);
        Sc__Member *member = (Sc__Member *) fixture_get(f, &sc__member__info, &member_key);
        assert_non_null(entry);
        assert_non_null(member);
        assert_int_equal(entry->kind, SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT);
        assert_true(entry->added_at > 0 && store_version_count(entry->version) >= 1);
        if (last_seq > 0) {
                assert_non_null(head);
                assert_int_equal(head->last_seq, last_seq);
                assert_int_equal(
                        head->last_at, number_of(json_object_get(listed, "last_message"), "created_at"));
                last_count = head->last_count;
        } else
                assert_null(head);
        assert_int_equal(member->read_seq, number_of(listed, "read_seq"));
        assert_int_equal(last_count - member->read_count, number_of(listed, "unread_count"));
        assert_true(store_version_count(member->version) >= 1);
        sc__inbox_entry__free_unpacked(entry, NULL);
        if (head)
                sc__conversation_head__free_unpacked(head, NULL);
        sc__member__free_unpacked(member, NULL);
}

static void check_inbox(Fixture *f, const json_t *user) {
        _cleanup_free_ char *inbox = format_string("#%s", text_of(user, "id"));
        const json_t *list = json_object_get(user, "list"), *listed;
        Sc__InboxEntry from = SC__INBOX_ENTRY__INIT;
        const StoreRead read = {
                .info = &sc__inbox_entry__info, .from = &from.base, .n_prefix = 1, .limit = 1000};
        _cleanup_rows_ Rows rows = {};
        size_t i;

        from.inbox = inbox;
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_int_equal(rows.n, json_array_size(list));
        json_array_foreach(list, i, listed)
                check_entry(f, inbox, listed);
}

static void check_history(Fixture *f, const char *conversation, const json_t *history) {
        Sc__Message from = SC__MESSAGE__INIT;
        const StoreRead read = {
                .info = &sc__message__info, .from = &from.base, .n_prefix = 1, .limit = 1000};
        _cleanup_rows_ Rows rows = {};

        from.conversation = (char *) conversation;
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_int_equal(rows.n, json_array_size(history));
        for (size_t i = 0; i < rows.n; i++) {
                const Sc__Message *message = (const Sc__Message *) rows.records[i];
                const json_t *expected = json_array_get(history, i);
                assert_int_equal(message->seq, i + 1);
                assert_int_equal(message->count, i + 1);
                assert_string_equal(message->sender, text_of(expected, "sender"));
                assert_string_equal(message->client_msg_id, text_of(expected, "client_msg_id"));
                if (json_object_get(expected, "text"))
                        assert_string_equal(message->text, text_of(expected, "text"));
        }
}

static void verify_conversations(Fixture *f) {
        json_t *expectations = load_expectations(), *user, *history;
        const char *conversation;
        size_t i;

        json_array_foreach(json_object_get(expectations, "users"), i, user)
                check_inbox(f, user);
        json_object_foreach(json_object_get(expectations, "histories"), conversation, history)
                check_history(f, conversation, history);
        assert_int_equal(fixture_check(f).n_findings, 0);
        json_decref(expectations);
}

static void test_conversations(void **state) {
        Fixture *f = *state;

        make_old_store(f, "conversations");
        assert_int_equal(fixture_open(f, conversations_records), 0);
        verify_conversations(f);
        fixture_close(f);
        assert_int_equal(query_number(f->path, "PRAGMA user_version"), 2);
        assert_int_equal(
                query_number(f->path, "SELECT count(*) FROM sqlite_schema WHERE name = 'members_by_user'"),
                0);
        /* Personal logs count nothing, and no inbox holds one. */
        assert_int_equal(
                query_number(f->path,
                        "SELECT (SELECT count(*) FROM messages WHERE substr(conversation, 1, 1) = '#'"
                        " AND \"count\" > 0) + (SELECT count(*) FROM inboxes"
                        " WHERE substr(conversation, 1, 1) = '#')"),
                0);
        assert_true(query_number(f->path,
                            "SELECT count(*) FROM messages WHERE substr(conversation, 1, 1) = '#'") > 0);
        /* Once is enough. */
        assert_int_equal(fixture_open(f, conversations_records), 0);
        verify_conversations(f);
}

/* At any moment the file is the old store or the new one. */
static void test_crash(void **state) {
        unsigned n_old = 0, n_new = 0;

        for (unsigned first = 1, happened = true; happened; first++) {
                Fixture f, after;

                assert_true(first < 2000);
                fixture_new(&f);
                fixture_new(&after);
                fault_vfs_forget();
                make_old_store(&f, "conversations");
                fault_vfs_arm(FAULT_CRASH, first, 0);
                int r = fixture_open(&f, conversations_records);
                if (r == 0)
                        fixture_close(&f);
                happened = fault_vfs_disarm();
                assert_true(r == 0 || happened);
                if (happened) {
                        fault_vfs_restore(after.directory, first);
                        _cleanup_free_ char *path = format_string("%s/conversations.db", after.directory);
                        int version = query_number(path, "PRAGMA user_version");
                        n_old += version == 1;
                        n_new += version == 2;
                        assert_true(version == 1 || version == 2);
                        assert_int_equal(fixture_open(&after, conversations_records), 0);
                        verify_conversations(&after);
                }
                fixture_done(&f);
                fixture_done(&after);
        }
        assert_true(n_old > 0 && n_new > 0);
}

/* A write or sync that fails leaves the old store, and the next start brings it up to date. */
static void test_failure(void **state) {
        for (unsigned first = 1, happened = true; happened; first++) {
                Fixture f;

                assert_true(first < 2000);
                fixture_new(&f);
                fault_vfs_forget();
                make_old_store(&f, "conversations");
                fault_vfs_arm(first % 2 == 0 ? FAULT_ERROR : FAULT_FULL, first, 1);
                int r = fixture_open(&f, conversations_records);
                assert_true(r == 0 || r == -EIO || r == -ENOSPC);
                happened = fault_vfs_disarm();
                if (r < 0)
                        assert_int_equal(fixture_open(&f, conversations_records), 0);
                verify_conversations(&f);
                fixture_done(&f);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_accounts, fixture_setup_closed, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_conversations, fixture_setup_closed, fixture_teardown),
                cmocka_unit_test(test_crash),
                cmocka_unit_test(test_failure),
        };

        fault_vfs_register();
        store_register_backend(&store_backend_class);
        fixture_config = config_of_role;
        log_set_level(LOG_EMERG); /* what fails here is meant to */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
