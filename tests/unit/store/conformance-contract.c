/* SPDX-License-Identifier: Apache-2.0 */

/* What breaks the contract is refused at once, with -EINVAL: nothing happens, and no completion comes. */

#include <stdio.h>

#include "conformance-util.h"

static void must_not_come(int r, const StoreWritten *written, void *userdata) {
        fail_msg("a completion of what was refused");
}

static void assert_refused(Fixture *f, const StoreWrite *write) {
        assert_int_equal(store_write_start(f->store, write, must_not_come, NULL), -EINVAL);
}

static void assert_guard_refused(Fixture *f, StoreItem guard) {
        assert_refused(f, &(StoreWrite){.partition = "c", .guard = guard});
}

static void assert_follower_refused(Fixture *f, StoreItem follower) {
        const Sc__InboxEntry guard = make_inbox_entry("c", "guard");

        assert_refused(f, &(StoreWrite){.partition = "c",
                                  .guard = INSERT(inbox_entry, &guard),
                                  .followers = &follower,
                                  .n_followers = 1});
}

static void test_partition(void **state) {
        Fixture *f = *state;
        const Sc__Member elsewhere = make_member("d", "u", 1), nowhere = make_member("", "u", 1);

        assert_guard_refused(f, INSERT(member, &elsewhere));
        assert_guard_refused(f, DELETE(member, &elsewhere));
        assert_follower_refused(f, PUT(member, &elsewhere));
        assert_follower_refused(f, DELETE(member, &elsewhere));
        assert_refused(f, &(StoreWrite){.partition = "", .guard = INSERT(member, &nowhere)});
}

static void test_verbs(void **state) {
        Fixture *f = *state;
        const Sc__Member member = make_member("c", "u", 1);
        Sc__Session session = make_session("c", "s", 1);

        assert_guard_refused(f, PUT(member, &member));
        assert_follower_refused(f, INSERT(member, &member));
        /* A unique index could refuse it. */
        assert_follower_refused(f, PUT(session, &session));
}

static void test_changes(void **state) {
        Fixture *f = *state;
        const Sc__Member member = make_member("c", "u", 1);
        const Sc__Message message = fixture_message("c", "a", "1", "text");
        const StoreItem key = PATCH(member, &member, SET(member, user)),
                        version = PATCH(member, &member, SET(member, version)),
                        twice = PATCH(member, &member, SET(member, read_seq), RAISE(member, read_seq)),
                        no_field = PATCH(member, &member, (StoreChange){100, STORE_SET}),
                        text = PATCH(message, &message, INCREMENT(message, kind)),
                        indexed = PATCH(message, &message, SET(message, sender)),
                        half = PATCH(message, &message, SET(message, text));
        StoreItem none = key;

        none.n_changes = 0;
        const StoreItem bad[] = {none, key, version, twice, no_field, text, half};
        FOREACH_ARRAY(item, bad, ELEMENTSOF(bad)) {
                assert_guard_refused(f, *item);
                assert_follower_refused(f, *item);
        }
        assert_follower_refused(f, indexed);
        StoreItem insert = PATCH(member, &member, SET(member, read_seq));
        insert.verb = STORE_INSERT;
        assert_guard_refused(f, insert);
}

static void test_conditions(void **state) {
        Fixture *f = *state;
        const Sc__Member member = make_member("c", "u", 1);

        assert_guard_refused(f, IF_EQUAL(INSERT(member, &member), FIELD(member, read_seq)));
        assert_guard_refused(f, IF_EQUAL(DELETE(member, &member), 100));
        assert_follower_refused(f, IF_EQUAL(DELETE(member, &member), FIELD(member, read_seq)));
}

static void test_limit_of_followers(void **state) {
        Fixture *f = *state;
        Sc__Member members[STORE_MAX_FOLLOWERS + 1];
        StoreItem followers[STORE_MAX_FOLLOWERS + 1];
        StoreIntent intents[STORE_MAX_FOLLOWERS + 1];
        char users[STORE_MAX_FOLLOWERS + 1][8];
        const Sc__InboxEntry guard = make_inbox_entry("c", "guard");
        const Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;

        for (unsigned i = 0; i < ELEMENTSOF(members); i++) {
                snprintf(users[i], sizeof(users[i]), "u%03u", i);
                members[i] = make_member("c", users[i], i);
                followers[i] = PUT(member, &members[i]);
                intents[i] = make_intent("d", &request);
        }
        StoreWrite write = {.partition = "c",
                .guard = INSERT(inbox_entry, &guard),
                .followers = followers,
                .n_followers = STORE_MAX_FOLLOWERS + 1,
                .intents = intents};
        Buffer before = dump(f);
        assert_refused(f, &write);
        write.n_followers = 0;
        write.n_intents = STORE_MAX_FOLLOWERS + 1;
        assert_refused(f, &write);
        write.n_followers = 56;
        write.n_intents = STORE_MAX_FOLLOWERS - 55;
        assert_refused(f, &write);
        assert_unchanged(f, &before);
        write.n_intents--;
        assert_int_equal(fixture_write(f, &write, NULL), 0);
}

static void test_limit_of_bytes(void **state) {
        Fixture *f = *state;
        static char text[STORE_MAX_WRITE_BYTES + 1], half[STORE_MAX_WRITE_BYTES / 2 + 1];
        Sc__Conversation conversation = make_conversation("c", text), other;

        memset(text, 'x', sizeof(text) - 1);
        memset(half, 'y', sizeof(half) - 1);
        assert_guard_refused(f, INSERT(conversation, &conversation));
        conversation.title = half;
        other = conversation;
        const Sc__InboxEntry guard = make_inbox_entry("c", "guard");
        const StoreItem put = PUT(conversation, &conversation),
                        patch = PATCH(conversation, &other, SET(conversation, title)), both[] = {put, patch};
        assert_refused(f, &(StoreWrite){.partition = "c",
                                  .guard = INSERT(inbox_entry, &guard),
                                  .followers = both,
                                  .n_followers = 2});
        half[sizeof(half) - 1000] = 0;
        assert_int_equal(follow_all(f, "c", both, 2), 0);
        const Sc__Conversation *found = GET(f, conversation, &conversation);
        assert_string_equal(found->title, half);
}

static void append_must_not_come(int r, const StoreAppended *appended, void *userdata) {
        fail_msg("a completion of what was refused");
}

static void assert_append_refused(Fixture *f, const StoreAppend *append) {
        assert_int_equal(store_append_start(f->store, append, append_must_not_come, NULL), -EINVAL);
}

static void test_appends(void **state) {
        Fixture *f = *state;
        Sc__Message message = fixture_message("c", "a", "1", "x"), elsewhere = message,
                    same_name = fixture_message("c", "a", "1", "y");
        Sc__Message *entries[STORE_MAX_APPEND + 1];
        const Sc__Member member = make_member("d", "u", 1);

        for (unsigned i = 0; i < ELEMENTSOF(entries); i++)
                entries[i] = &message;
        elsewhere.conversation = (char *) "d";
        StoreAppend append = {.conversation = "c", .entries = entries};
        assert_append_refused(f, &append);
        append.n = STORE_MAX_APPEND + 1;
        assert_append_refused(f, &append);
        append.n = 2;
        entries[1] = &elsewhere;
        assert_append_refused(f, &append);
        entries[1] = &same_name;
        assert_append_refused(f, &append);
        append.n = 1;
        append.followers = &PUT(member, &member);
        append.n_followers = 1;
        assert_append_refused(f, &append);
        elsewhere.conversation = (char *) "";
        entries[0] = &elsewhere;
        assert_append_refused(f, &(StoreAppend){.conversation = "", .entries = entries, .n = 1});
}

static void read_must_not_come(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        fail_msg("a completion of what was refused");
}

static void test_reads(void **state) {
        Fixture *f = *state;
        const Sc__Message from = fixture_message("c", "", "", "");
        const StoreRead good = {.info = &sc__message__info, .from = &from.base, .n_prefix = 1};
        StoreRead bad[5];

        for (unsigned i = 0; i < ELEMENTSOF(bad); i++)
                bad[i] = good;
        bad[0].n_prefix = 3;
        bad[1].n_prefix = 2;
        bad[1].after = true; /* there is no next field */
        bad[2].before = true; /* without `to` */
        bad[3].from = NULL;
        bad[4].from = NULL;
        bad[4].n_prefix = 0;
        bad[4].after = true;
        for (unsigned i = 0; i < ELEMENTSOF(bad); i++) {
                const StoreRead reads[] = {good, bad[i]};
                assert_int_equal(store_read_start(f->store, reads, 2, read_must_not_come, NULL), -EINVAL);
        }
        assert_int_equal(store_read_start(f->store, bad, 0, read_must_not_come, NULL), -EINVAL);
}

int conformance_run_contract(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_partition),
                CONFORMANCE_TEST(test_verbs),
                CONFORMANCE_TEST(test_changes),
                CONFORMANCE_TEST(test_conditions),
                CONFORMANCE_TEST(test_limit_of_followers),
                CONFORMANCE_TEST(test_limit_of_bytes),
                CONFORMANCE_TEST(test_appends),
                CONFORMANCE_TEST(test_reads),
        };
        return cmocka_run_group_tests_name("contract", tests, NULL, NULL);
}
