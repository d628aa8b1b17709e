/* SPDX-License-Identifier: Apache-2.0 */

/* Opening and closing, and what is there afterwards. */

#include <stdio.h>

#include "conformance-util.h"

static void reopen(Fixture *f) {
        fixture_close(f);
        assert_int_equal(fixture_open(f, NULL), 0);
}

static void test_everything_is_there(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u1", "ada");
        const Sc__Session session = make_session("u1", "s", 5);
        Sc__Member member = make_member("c", "a", 1);
        const Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        const StoreIntent intent = make_intent("x", &request);
        const Sc__InboxEntry guard = make_inbox_entry("#u", "c");

        assert_int_equal(GUARD_WITH(f, "u1", INSERT(user, &user), DELETE(session, &session)), 0);
        assert_int_equal(guard_alone(f, "u1", INSERT(session, &session)), 0);
        assert_int_equal(FOLLOW(f, "c", PUT(member, &member)), 0);
        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "2", "two").r, 0);
        const StoreWrite write = {
                .partition = "#u", .guard = INSERT(inbox_entry, &guard), .intents = &intent, .n_intents = 1};
        assert_int_equal(fixture_write(f, &write, NULL), 0);
        Buffer before = dump(f);
        reopen(f);
        assert_unchanged(f, &before);
        /* And whoever goes on finds all of it. */
        const Sc__User *found = GET(f, user, &user);
        user.version = found->version;
        const StoreItem patch = PATCH(user, &user, SET(user, display_name));
        assert_int_equal(guard_alone(f, "u1", patch), 0);
        assert_int_equal(guard_alone(f, "u1", patch), -ESTALE);
        const Sc__User same_name = make_user("u2", "ada");
        assert_int_equal(guard_alone(f, "u2", INSERT(user, &same_name)), -EEXIST);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "1", "one").r, -EEXIST);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "3", "three").r, -ESTALE);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "3", "three").last_seq, 3);
        member.read_seq = 9;
        const StoreItem raise = PATCH(member, &member, RAISE(member, read_seq));
        assert_int_equal(guard_alone(f, "c", raise), 0);
}

static void test_deleted_is_gone(void **state) {
        Fixture *f = *state;
        const Sc__User user = make_user("u1", "ada");
        unsigned n;

        assert_int_equal(guard_alone(f, "u1", INSERT(user, &user)), 0);
        assert_int_equal(guard_alone(f, "u1", DELETE(user, &user)), 0);
        for (unsigned i = 0; i < 5; i++) {
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                assert_int_equal(fixture_append_text(f, "c", i, "a", id, "x").r, 0);
        }
        assert_int_equal(fixture_delete_entries(f, "c", 100, 100, &n), 0);
        reopen(f);
        assert_null(GET(f, user, &user));
        assert_int_equal(fixture_append_text(f, "c", 0, "a", "new", "x").last_seq, 5);
        assert_int_equal(fixture_append_text(f, "c", 5, "a", "0", "x").last_seq, 6);
}

/* Closing carries out what is queued, and calls every completion before it returns. */
static void test_close_writes(void **state) {
        Fixture *f = *state;
        char name[8];

        for (unsigned i = 0; i < 200; i++) {
                snprintf(name, sizeof(name), "c%u", i);
                Sc__Message message = fixture_message(name, "a", name, "x"), *entries[] = {&message};
                const Sc__Member member = make_member(name, "u", 1);
                const StoreAppend append = {.conversation = name, .entries = entries, .n = 1};
                assert_int_equal(store_append_start(f->store, &append, fixture_count_append, f), 0);
                const StoreWrite write = {.partition = name, .guard = INSERT(member, &member)};
                assert_int_equal(store_write_start(f->store, &write, fixture_count_write, f), 0);
        }
        fixture_close(f);
        assert_int_equal(f->n_completed, 400);
        assert_int_equal(f->n_failed, 0);
        assert_int_equal(fixture_open(f, NULL), 0);
        for (unsigned i = 0; i < 200; i++) {
                snprintf(name, sizeof(name), "c%u", i);
                const Sc__Member member = make_member(name, "u", 1);
                assert_int_equal(fixture_count_messages(f, name), 1);
                assert_non_null(GET(f, member, &member));
        }
}

static void on_closing_read(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        Fixture *f = userdata;

        assert_true(r == 0 || r == -ECANCELED);
        assert_int_equal(n, r == 0 ? 1 : 0);
        f->n_completed++;
}

/* Reads that have not begun are cancelled, and told so. */
static void test_close_with_reads(void **state) {
        Fixture *f = *state;
        const StoreRead read = {.info = &sc__message__info, .limit = 100};

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        for (unsigned i = 0; i < 500; i++)
                assert_int_equal(store_read_start(f->store, &read, 1, on_closing_read, f), 0);
        fixture_close(f);
        assert_int_equal(f->n_completed, 500);
}

static void on_write_again(int r, const StoreWritten *written, void *userdata) {
        Fixture *f = userdata;
        const Sc__User user = make_user("u2", "u2");
        const StoreWrite write = {.partition = "u2", .guard = INSERT(user, &user)};
        const StoreRead read = {.info = &sc__user__info, .limit = 1};

        assert_int_equal(r, 0);
        assert_int_equal(store_write_start(f->store, &write, on_write_again, f), -ECANCELED);
        assert_int_equal(store_read_start(f->store, &read, 1, on_closing_read, f), -ECANCELED);
        f->n_completed++;
}

static void test_submit_while_closing(void **state) {
        Fixture *f = *state;
        const Sc__User user = make_user("u", "u");
        const StoreWrite write = {.partition = "u", .guard = INSERT(user, &user)};

        assert_int_equal(store_write_start(f->store, &write, on_write_again, f), 0);
        fixture_close(f);
        assert_int_equal(f->n_completed, 1);
        assert_int_equal(fixture_open(f, NULL), 0);
        assert_non_null(GET(f, user, &user));
}

static void test_open_often(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 5; i++) {
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                assert_int_equal(fixture_append_text(f, "c", i, "a", id, "x").r, 0);
                reopen(f);
                assert_int_equal(fixture_count_messages(f, "c"), i + 1);
        }
}

static void test_unknown_kind(void **state) {
        Fixture *f = *state;
        StoreConfig config = fixture_config(f);
        Store *store = NULL;

        config.kind = "stonetablets";
        assert_int_equal(store_open(&store, f->event, &config), -ENOPKG);
        assert_null(store);
}

int conformance_run_durability(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_everything_is_there),
                CONFORMANCE_TEST(test_deleted_is_gone),
                CONFORMANCE_TEST(test_close_writes),
                CONFORMANCE_TEST(test_close_with_reads),
                CONFORMANCE_TEST(test_submit_while_closing),
                CONFORMANCE_TEST(test_open_often),
                CONFORMANCE_TEST(test_unknown_kind),
        };
        return cmocka_run_group_tests_name("durability", tests, NULL, NULL);
}
