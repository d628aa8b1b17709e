/* SPDX-License-Identifier: Apache-2.0 */
#include "conformance.h"

#include <stdio.h>

#include "fixture.h"
#include "util/macro.h"

static Sc__User make_user(const char *id, const char *username) {
        Sc__User user = SC__USER__INIT;

        user.id = (char *) id;
        user.username = (char *) username;
        user.display_name = (char *) "A name";
        user.created_at = -5;
        user.version = 1;
        return user;
}

static void assert_user(Fixture *f, const char *id, const char *username, uint64_t version) {
        Sc__User key = make_user(id, ""), *found = (Sc__User *) fixture_get(f, &sc__user__info, &key);

        assert_non_null(found);
        assert_string_equal(found->username, username);
        assert_int_equal(found->version, version);
        sc__user__free_unpacked(found, NULL);
}

static void assert_no_user(Fixture *f, const char *id) {
        Sc__User key = make_user(id, "");

        assert_null(fixture_get(f, &sc__user__info, &key));
}

static void test_insert(void **state) {
        Fixture *f = *state;
        Sc__User ada = make_user("u1", "ada"), same_key = make_user("u1", "other"),
                 same_name = make_user("u2", "ada");

        assert_no_user(f, "u1");
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &ada), 0);
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &same_key), -EEXIST);
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &same_name), -EEXIST);
        assert_user(f, "u1", "ada", 1);
        assert_no_user(f, "u2");
}

static void test_update(void **state) {
        Fixture *f = *state;
        Sc__User ada = make_user("u1", "ada"), bob = make_user("u2", "bob"),
                 nobody = make_user("u3", "carl");

        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &ada), 0);
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &bob), 0);
        ada.username = (char *) "ada2";
        assert_int_equal(fixture_write_one(f, STORE_UPDATE, &sc__user__info, &ada), 0);
        assert_user(f, "u1", "ada2", 2);
        /* The stored version is 2 now. */
        assert_int_equal(fixture_write_one(f, STORE_UPDATE, &sc__user__info, &ada), -ESTALE);
        assert_int_equal(fixture_write_one(f, STORE_UPDATE, &sc__user__info, &nobody), -ENOENT);
        bob.username = (char *) "ada2";
        assert_int_equal(fixture_write_one(f, STORE_UPDATE, &sc__user__info, &bob), -EEXIST);
        assert_user(f, "u2", "bob", 1);
}

static void test_delete(void **state) {
        Fixture *f = *state;
        Sc__User ada = make_user("u1", "ada");

        assert_int_equal(fixture_write_one(f, STORE_DELETE, &sc__user__info, &ada), -ENOENT);
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &ada), 0);
        ada.version = 7;
        assert_int_equal(fixture_write_one(f, STORE_DELETE, &sc__user__info, &ada), -ESTALE);
        assert_user(f, "u1", "ada", 1);
        ada.version = 1;
        assert_int_equal(fixture_write_one(f, STORE_DELETE, &sc__user__info, &ada), 0);
        assert_no_user(f, "u1");
        ada.version = 7;
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &ada), 0);
        ada.version = 0; /* whatever it is */
        assert_int_equal(fixture_write_one(f, STORE_DELETE, &sc__user__info, &ada), 0);
        assert_no_user(f, "u1");
}

/* Every kind of value comes back as it went in. */
static void test_values(void **state) {
        Fixture *f = *state;
        uint8_t hash[] = {0, 1, 0xff, 0};
        Sc__Session in = SC__SESSION__INIT, key = SC__SESSION__INIT;

        in.id = (char *) "s1";
        in.user = (char *) "ünïcode \xf0\x9f\x90\xa6";
        in.refresh_hash = (ProtobufCBinaryData){.len = sizeof(hash), .data = hash};
        in.created_at = INT64_MIN;
        in.used_at = INT64_MAX;
        in.version = INT64_MAX;
        key.id = in.id;
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__session__info, &in), 0);
        Sc__Session *out = (Sc__Session *) fixture_get(f, &sc__session__info, &key);
        assert_non_null(out);
        assert_string_equal(out->user, in.user);
        assert_string_equal(out->device, "");
        assert_int_equal(out->refresh_hash.len, sizeof(hash));
        assert_memory_equal(out->refresh_hash.data, hash, sizeof(hash));
        assert_true(out->created_at == INT64_MIN && out->used_at == INT64_MAX && out->expires_at == 0);
        assert_true(out->version == INT64_MAX);
        sc__session__free_unpacked(out, NULL);
}

/* Enums, both members of a oneof, none of them, and nested messages. */
static void test_nested_values(void **state) {
        Fixture *f = *state;
        Sc__ConversationAdded added = SC__CONVERSATION_ADDED__INIT;
        Sc__Event event = SC__EVENT__INIT;
        Sc__Message text = fixture_message("c", "a", "1", ""), data = text, personal = text;
        uint8_t byte = 0;

        data.client_msg_id = (char *) "2";
        data.body_case = SC__MESSAGE__BODY_DATA;
        data.data = (ProtobufCBinaryData){.len = 1, .data = &byte};
        personal.client_msg_id = (char *) "3";
        personal.body_case = SC__MESSAGE__BODY__NOT_SET;
        personal.event = &event;
        event.what_case = SC__EVENT__WHAT_CONVERSATION_ADDED;
        event.conversation_added = &added;
        added.conversation = (char *) "elsewhere";
        added.kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_GROUP;
        Appended a = fixture_append(f, "c", 0, (Sc__Message *[]){&text, &data, &personal}, 3);
        assert_int_equal(a.r, 0);

        Sc__Message from = SC__MESSAGE__INIT;
        _cleanup_rows_ Rows rows = {};
        from.conversation = (char *) "c";
        const StoreRead read = {.info = &sc__message__info, .from = &from.base, .n_prefix = 1, .limit = 9};
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_int_equal(rows.n, 3);
        Sc__Message **m = (Sc__Message **) rows.records;
        assert_int_equal(m[0]->body_case, SC__MESSAGE__BODY_TEXT);
        assert_string_equal(m[0]->text, "");
        assert_null(m[0]->event);
        assert_int_equal(m[1]->body_case, SC__MESSAGE__BODY_DATA);
        assert_int_equal(m[1]->data.len, 1);
        assert_int_equal(m[2]->body_case, SC__MESSAGE__BODY__NOT_SET);
        assert_non_null(m[2]->event);
        assert_string_equal(m[2]->event->conversation_added->conversation, "elsewhere");
        assert_int_equal(
                m[2]->event->conversation_added->kind, SC__CONVERSATION_KIND__CONVERSATION_KIND_GROUP);
}

static void test_several_writes(void **state) {
        Fixture *f = *state;
        Sc__User ada = make_user("u1", "ada"), bob = make_user("u2", "bob"), clash = make_user("u3", "ada");
        StoreWrite writes[] = {
                {.verb = STORE_INSERT, .info = &sc__user__info, .record = &bob.base},
                {.verb = STORE_UPDATE, .info = &sc__user__info, .record = &ada.base},
                {.verb = STORE_INSERT, .info = &sc__user__info, .record = &clash.base},
                {.verb = STORE_DELETE, .info = &sc__user__info, .record = &ada.base},
        };
        size_t failed = 99;

        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &ada), 0);
        assert_int_equal(fixture_write(f, writes, 4, &failed), -EEXIST);
        assert_int_equal(failed, 2);
        assert_no_user(f, "u2"); /* none of it happened */
        assert_user(f, "u1", "ada", 1);
        clash.username = (char *) "carl";
        ada.version = 1;
        assert_int_equal(fixture_write(f, writes, 3, &failed), 0);
        assert_user(f, "u1", "ada", 2);
        assert_user(f, "u2", "bob", 1);
        assert_user(f, "u3", "carl", 1);
        assert_int_equal(store_write(f->store, writes, 0, fixture_count_write, f), -EINVAL);
}

static void test_append(void **state) {
        Fixture *f = *state;
        Sc__Message first = fixture_message("c", "a", "1", "one"),
                    second = fixture_message("c", "a", "2", "two");

        Appended a = fixture_append(f, "c", 0, (Sc__Message *[]){&first, &second}, 2);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.n, 2);
        assert_int_equal(a.last_seq, 2);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(a.results[i].seq, i + 1);
                assert_int_equal(a.results[i].created_at, first.created_at);
                assert_false(a.results[i].duplicate || a.results[i].conflict);
        }
        a = fixture_append_text(f, "c", 2, "b", "1", "another sender's 1");
        assert_int_equal(a.results[0].seq, 3);
        a = fixture_append_text(f, "d", 0, "a", "3", "another conversation");
        assert_int_equal(a.results[0].seq, 1);
        assert_int_equal(fixture_count_messages(f, "c"), 3);
}

static void test_append_stale(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        for (unsigned after = 0; after < 3; after += 2) {
                Appended a = fixture_append_text(f, "c", after, "a", "2", "two");
                assert_int_equal(a.r, -ESTALE);
                assert_int_equal(a.last_seq, 1);
                assert_int_equal(a.n, 0);
        }
        assert_int_equal(fixture_append_text(f, "new", 5, "a", "2", "two").r, -ESTALE);
        assert_int_equal(fixture_count_messages(f, "c"), 1);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "2", "two").r, 0);
}

static void test_append_duplicate(void **state) {
        Fixture *f = *state;
        Sc__Message message = fixture_message("c", "a", "1", "one");

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        message.created_at += 1000; /* does not count */
        Appended a = fixture_append(f, "c", 1, (Sc__Message *[]){&message}, 1);
        assert_int_equal(a.r, 0);
        assert_true(a.results[0].duplicate);
        assert_false(a.results[0].conflict);
        assert_int_equal(a.results[0].seq, 1);
        assert_int_equal(a.results[0].created_at, message.created_at - 1000);
        assert_int_equal(a.last_seq, 1);
        /* Between new ones: it takes no place. */
        Sc__Message two = fixture_message("c", "a", "2", "two"),
                    three = fixture_message("c", "a", "3", "three");
        a = fixture_append(f, "c", 1, (Sc__Message *[]){&two, &message, &three, &two}, 4);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.results[0].seq, 2);
        assert_int_equal(a.results[1].seq, 1);
        assert_int_equal(a.results[2].seq, 3);
        assert_int_equal(a.results[3].seq, 2); /* twice in the same call */
        assert_true(a.results[1].duplicate && a.results[3].duplicate && !a.results[2].duplicate);
        assert_int_equal(a.last_seq, 3);
        assert_int_equal(fixture_count_messages(f, "c"), 3);
}

static void test_append_conflict(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        Appended a = fixture_append_text(f, "c", 1, "a", "1", "something else");
        assert_int_equal(a.r, 0);
        assert_true(a.results[0].conflict && !a.results[0].duplicate);
        assert_int_equal(a.results[0].seq, 1);
        a = fixture_append_text(f, "d", 0, "a", "1", "one");
        assert_int_equal(a.r, 0);
        assert_true(a.results[0].conflict && !a.results[0].duplicate);
        assert_int_equal(a.results[0].seq, 0);
        assert_int_equal(a.last_seq, 0);
        Sc__Message kind = fixture_message("c", "a", "1", "one"), data = kind;
        kind.kind = (char *) "poll";
        data.body_case = SC__MESSAGE__BODY_DATA;
        data.data = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *) "one"};
        a = fixture_append(f, "c", 1, (Sc__Message *[]){&kind, &data}, 2);
        assert_true(a.results[0].conflict && a.results[1].conflict);
        assert_int_equal(fixture_count_messages(f, "c"), 1);
        assert_int_equal(fixture_count_messages(f, "d"), 0);
}

/* The server's own events have no id of a client: none is a duplicate of another. */
static void test_append_without_id(void **state) {
        Fixture *f = *state;
        Sc__Message event = fixture_message("c", "", "", "joined");

        Appended a = fixture_append(f, "c", 0, (Sc__Message *[]){&event, &event}, 2);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_seq, 2);
        assert_int_equal(fixture_append(f, "c", 2, (Sc__Message *[]){&event}, 1).last_seq, 3);
        event.conversation = (char *) "d";
        assert_int_equal(fixture_append(f, "d", 0, (Sc__Message *[]){&event}, 1).results[0].seq, 1);
}

static void test_append_of_another(void **state) {
        Fixture *f = *state;
        Sc__Message message = fixture_message("d", "a", "1", "x"), *messages[] = {&message};

        assert_int_equal(store_append(f->store, "c", 0, messages, 1, fixture_count_append, f), -EINVAL);
        assert_int_equal(store_append(f->store, "d", 0, messages, 0, fixture_count_append, f), -EINVAL);
}

/* The same client_msg_id in several operations that are queued at once. */
static void test_append_duplicates_queued(void **state) {
        Fixture *f = *state;
        char names[20][8];

        for (unsigned i = 0; i < ELEMENTSOF(names); i++) {
                snprintf(names[i], sizeof(names[i]), "c%u", i);
                Sc__Message message = fixture_message(names[i], "a", "same", "text"),
                            *messages[] = {&message};
                assert_int_equal(
                        store_append(f->store, names[i], 0, messages, 1, fixture_count_append, f), 0);
        }
        fixture_wait_completed(f, ELEMENTSOF(names));
        assert_int_equal(f->n_failed, 0);
        uint64_t n = 0;
        for (unsigned i = 0; i < ELEMENTSOF(names); i++)
                n += fixture_count_messages(f, names[i]);
        assert_int_equal(n, 1);
}

typedef struct Order {
        Fixture *f;
        unsigned next, index;
        bool wrong, all;
} Order;

typedef struct Ordered {
        Order *order;
        unsigned index;
} Ordered;

static void on_ordered(Ordered *o) {
        o->order->wrong |= o->order->next++ != o->index;
        o->order->all = o->order->next == 300;
}

static void on_ordered_write(int r, size_t failed, void *userdata) {
        on_ordered(userdata);
}

static void on_ordered_append(
        int r, const StoreAppended *results, size_t n, uint64_t last_seq, void *userdata) {
        on_ordered(userdata);
}

/* Many operations need few commits, and their completions keep the order of submission. */
static void test_order_and_group_commit(void **state) {
        Fixture *f = *state;
        Order order = {.f = f};
        Ordered ordered[300];
        char names[300][8];

        for (unsigned i = 0; i < 300; i++) {
                ordered[i] = (Ordered){.order = &order, .index = i};
                snprintf(names[i], sizeof(names[i]), "%u", i);
                Sc__User user = make_user(names[i % 100], names[i % 100]); /* two thirds are refused */
                Sc__Message message = fixture_message(names[i], "a", names[i], "x"),
                            *messages[] = {&message};
                int r = i % 2 > 0 ? store_write(f->store,
                                            &(StoreWrite){STORE_INSERT, &sc__user__info, &user.base}, 1,
                                            on_ordered_write, &ordered[i])
                                  : store_append(f->store, names[i], 0, messages, 1, on_ordered_append,
                                            &ordered[i]);
                assert_int_equal(r, 0);
        }
        fixture_wait(f, &order.all);
        assert_false(order.wrong);
        StoreStatistics s;
        store_get_statistics(f->store, &s);
        assert_int_equal(s.writes, 300);
        assert_int_equal(s.queued, 0);
        assert_in_range(s.commits, 300 / 64, 150);
        assert_true(s.commit_usec_max >= s.commit_usec_last);
        assert_true(store_is_alive(f->store, 60 * 1000000ULL));
}

static void test_queue_limit(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u", "u");
        const StoreWrite write = {STORE_DELETE, &sc__user__info, &user.base};
        unsigned n = 0;
        int r;

        /* Completions come on the loop only, so the queue fills up. */
        while ((r = store_write(f->store, &write, 1, fixture_count_write, f)) == 0)
                assert_true(++n <= 1000);
        assert_int_equal(r, -EBUSY);
        assert_int_equal(n, 1000);
        assert_int_equal(store_get(f->store, &sc__user__info, &user.base, NULL, NULL), -EBUSY);
        fixture_wait_completed(f, n);
        assert_int_equal(fixture_write_one(f, STORE_DELETE, &sc__user__info, &user), -ENOENT);
}

static void test_persistence(void **state) {
        Fixture *f = *state;
        Sc__User ada = make_user("u1", "ada");

        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__user__info, &ada), 0);
        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        fixture_close(f);
        assert_int_equal(fixture_open(f, NULL), 0);
        assert_user(f, "u1", "ada", 1);
        assert_true(fixture_append_text(f, "c", 1, "a", "1", "one").results[0].duplicate);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "2", "two").last_seq, 2);
}

static void test_close_commits(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 200; i++) {
                char name[8];
                snprintf(name, sizeof(name), "c%u", i);
                Sc__Message message = fixture_message(name, "a", name, "x"), *messages[] = {&message};
                assert_int_equal(store_append(f->store, name, 0, messages, 1, fixture_count_append, f), 0);
        }
        fixture_close(f);
        assert_int_equal(f->n_completed, 200);
        assert_int_equal(f->n_failed, 0);
        assert_int_equal(fixture_open(f, NULL), 0);
        assert_int_equal(fixture_count_messages(f, "c199"), 1);
}

static void on_write_again(int r, size_t failed, void *userdata) {
        Fixture *f = userdata;
        Sc__User user = make_user("u", "u");

        assert_int_equal(r, 0);
        assert_int_equal(store_write(f->store, &(StoreWrite){STORE_INSERT, &sc__user__info, &user.base}, 1,
                                 on_write_again, f),
                -ECANCELED);
        f->n_completed++;
}

static void test_submit_while_closing(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u", "u");

        assert_int_equal(store_write(f->store, &(StoreWrite){STORE_INSERT, &sc__user__info, &user.base}, 1,
                                 on_write_again, f),
                0);
        fixture_close(f);
        assert_int_equal(f->n_completed, 1);
}

static void test_two_openers(void **state) {
        Fixture *f = *state;
        Store *other = NULL;
        StoreConfig config = fixture_config(f);

        assert_int_equal(store_open(&other, f->event, &config), -ENOTUNIQ);
        assert_null(other);
        fixture_close(f);
        assert_int_equal(store_open(&other, f->event, &config), 0);
        store_close(other);
}

static void test_bad_config(void **state) {
        Fixture *f = *state;
        StoreConfig config = fixture_config(f);

        fixture_close(f);
        config.kind = "stone tablets";
        assert_int_equal(store_open(&f->store, f->event, &config), -EINVAL);
        config = fixture_config(f);
        config.records = (const MessageInfo *const[]){&sc__event__info, NULL};
        assert_int_equal(store_open(&f->store, f->event, &config), -EOPNOTSUPP);
        assert_null(f->store);
}

int conformance_run_writes(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_insert, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_update, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_delete, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_values, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_nested_values, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_several_writes, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_append, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_append_stale, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_append_duplicate, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_append_conflict, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_append_without_id, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_append_of_another, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(
                        test_append_duplicates_queued, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(
                        test_order_and_group_commit, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_queue_limit, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_persistence, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_close_commits, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_submit_while_closing, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_two_openers, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_bad_config, fixture_setup, fixture_teardown),
        };
        return cmocka_run_group_tests_name("writes", tests, NULL, NULL);
}
