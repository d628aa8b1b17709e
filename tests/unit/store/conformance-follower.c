/* SPDX-License-Identifier: Apache-2.0 */

/* Followers: what they do when the guard is done, and that they do nothing when it is refused. */

#include <stdio.h>

#include "conformance-util.h"

static const Sc__Member *get_member(Fixture *f, const char *conversation, const char *user) {
        const Sc__Member key = make_member(conversation, user, 0);

        return GET(f, member, &key);
}

static void put_member(Fixture *f, const char *conversation, const char *user, uint64_t read_seq) {
        const Sc__Member member = make_member(conversation, user, read_seq);

        assert_int_equal(FOLLOW(f, conversation, PUT(member, &member)), 0);
}

static void test_put(void **state) {
        Fixture *f = *state;
        Sc__Member member = make_member("c", "u", 7);

        assert_int_equal(FOLLOW(f, "c", PUT(member, &member)), 0);
        assert_int_equal(get_member(f, "c", "u")->read_seq, 7);
        /* All of it takes the place of what was there. */
        member = make_member("c", "u", 3);
        member.joined_at = 0;
        member.read_count = 5;
        assert_int_equal(FOLLOW(f, "c", PUT(member, &member)), 0);
        assert_int_equal(get_member(f, "c", "u")->read_seq, 3);
        assert_int_equal(get_member(f, "c", "u")->joined_at, 0);
        assert_int_equal(get_member(f, "c", "u")->read_count, 5);
}

static void test_put_without_version(void **state) {
        Fixture *f = *state;
        Sc__ConversationHead head = make_head("c", 7);

        assert_int_equal(FOLLOW(f, "c", PUT(conversation_head, &head)), 0);
        head.last_seq = 6;
        assert_int_equal(FOLLOW(f, "c", PUT(conversation_head, &head)), 0);
        const Sc__ConversationHead *found = GET(f, conversation_head, &head);
        assert_non_null(found);
        assert_int_equal(found->last_seq, 6);
}

static void test_patch(void **state) {
        Fixture *f = *state;
        Sc__Member member = make_member("c", "u", 7);

        member.read_count = 2;
        assert_int_equal(FOLLOW(f, "c", PUT(member, &member)), 0);
        member = make_member("c", "u", 10);
        member.joined_at = -19;
        member.read_count = 4;
        member.version = 4711; /* is no condition here */
        const StoreItem set = PATCH(member, &member, SET(member, read_count)),
                        increment = PATCH(member, &member, INCREMENT(member, joined_at)),
                        raise = PATCH(member, &member, RAISE(member, read_seq));
        assert_int_equal(FOLLOW(f, "c", set), 0);
        assert_int_equal(get_member(f, "c", "u")->read_seq, 7);
        assert_int_equal(get_member(f, "c", "u")->joined_at, 19);
        assert_int_equal(get_member(f, "c", "u")->read_count, 4);
        assert_int_equal(FOLLOW(f, "c", increment), 0);
        assert_int_equal(FOLLOW(f, "c", raise), 0);
        assert_int_equal(get_member(f, "c", "u")->read_seq, 10);
        assert_int_equal(get_member(f, "c", "u")->joined_at, 0);
        member.read_seq = 9;
        assert_int_equal(FOLLOW(f, "c", raise), 0);
        assert_int_equal(get_member(f, "c", "u")->read_seq, 10);
        assert_int_equal(get_member(f, "c", "u")->read_count, 4);
}

/* A follower on a record that is not there is done, and the record still is not there. */
static void test_missing(void **state) {
        Fixture *f = *state;
        const Sc__Member member = make_member("c", "u", 7);

        put_member(f, "c", "v", 1);
        Buffer before = dump(f);
        const StoreItem patch = PATCH(member, &member, RAISE(member, read_seq));
        assert_int_equal(FOLLOW(f, "c", patch), 0);
        assert_int_equal(FOLLOW(f, "c", DELETE(member, &member)), 0);
        assert_unchanged(f, &before);
}

static void test_delete(void **state) {
        Fixture *f = *state;
        Sc__Member member = make_member("c", "u", 99);

        put_member(f, "c", "u", 1);
        put_member(f, "c", "v", 1);
        member.version = 4711; /* is no condition here */
        assert_int_equal(FOLLOW(f, "c", DELETE(member, &member)), 0);
        assert_null(get_member(f, "c", "u"));
        assert_non_null(get_member(f, "c", "v"));
}

/* A record with a unique index may be patched in other fields, and deleted. */
static void test_unique_type(void **state) {
        Fixture *f = *state;
        Sc__Session session = make_session("u", "s1", 5), other = make_session("u", "s2", 6);

        assert_int_equal(guard_alone(f, "u", INSERT(session, &session)), 0);
        assert_int_equal(guard_alone(f, "u", INSERT(session, &other)), 0);
        session.used_at = 8;
        const StoreItem patch = PATCH(session, &session, SET(session, used_at));
        assert_int_equal(FOLLOW(f, "u", patch, DELETE(session, &other)), 0);
        const Sc__Session *found = FIND(f, session, "sessions_by_id", &session);
        assert_non_null(found);
        assert_int_equal(found->used_at, 8);
        assert_int_equal(found->expires_at, 5);
        assert_null(FIND(f, session, "sessions_by_id", &other));
}

/* A write with every kind of follower, and intents, in partition "c". */
static void set_up_all(Fixture *f) {
        const Sc__Conversation conversation = make_conversation("c", "title");

        assert_int_equal(guard_alone(f, "c", INSERT(conversation, &conversation)), 0);
        put_member(f, "c", "patched", 1);
        put_member(f, "c", "replaced", 1);
        put_member(f, "c", "deleted", 1);
}

static int write_all(Fixture *f, StoreItem guard, StoreWritten *ret) {
        const Sc__Member new = make_member("c", "new", 2), replaced = make_member("c", "replaced", 2),
                         patched = make_member("c", "patched", 2), deleted = make_member("c", "deleted", 2),
                         missing = make_member("c", "missing", 2);
        const Sc__ConversationHead head = make_head("c", 2);
        const Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        const StoreItem followers[] = {
                PUT(member, &new),
                PUT(member, &replaced),
                PATCH(member, &patched, SET(member, read_seq), INCREMENT(member, joined_at)),
                DELETE(member, &deleted),
                PATCH(member, &missing, SET(member, read_seq)),
                PUT(conversation_head, &head),
        };
        const StoreIntent intents[] = {make_intent("d", &request), make_intent("e", &request)};
        const StoreWrite write = {
                .partition = "c",
                .guard = guard,
                .followers = followers,
                .n_followers = ELEMENTSOF(followers),
                .intents = intents,
                .n_intents = ELEMENTSOF(intents),
        };

        return fixture_write(f, &write, ret);
}

static void assert_all_done(Fixture *f, const StoreWritten *written) {
        const Sc__ConversationHead head = make_head("c", 0);
        const Sc__IntentCounter key = {
                PROTOBUF_C_MESSAGE_INIT(&sc__intent_counter__descriptor), (char *) "c"};

        assert_int_equal(get_member(f, "c", "new")->read_seq, 2);
        assert_int_equal(get_member(f, "c", "replaced")->read_seq, 2);
        assert_int_equal(get_member(f, "c", "patched")->read_seq, 2);
        assert_int_equal(get_member(f, "c", "patched")->joined_at, 38);
        assert_null(get_member(f, "c", "deleted"));
        assert_null(get_member(f, "c", "missing"));
        const Sc__ConversationHead *found = GET(f, conversation_head, &head);
        assert_non_null(found);
        assert_int_equal(found->last_seq, 2);
        assert_int_equal(written->last_intent, 2);
        const Sc__IntentCounter *counter = GET(f, intent_counter, &key);
        assert_non_null(counter);
        assert_int_equal(counter->number, 2);
}

static void test_insert_with_all(void **state) {
        Fixture *f = *state;
        const Sc__InboxEntry guard = make_inbox_entry("c", "guard");
        StoreWritten written;

        set_up_all(f);
        assert_int_equal(write_all(f, INSERT(inbox_entry, &guard), &written), 0);
        assert_non_null(GET(f, inbox_entry, &guard));
        assert_all_done(f, &written);
}

static void test_patch_with_all(void **state) {
        Fixture *f = *state;
        const Sc__Conversation guard = make_conversation("c", "new title");
        StoreWritten written;

        set_up_all(f);
        const StoreItem patch = PATCH(conversation, &guard, SET(conversation, title));
        assert_int_equal(write_all(f, IF_EQUAL(patch, FIELD(conversation, kind)), &written), 0);
        const Sc__Conversation *found = GET(f, conversation, &guard);
        assert_string_equal(found->title, "new title");
        assert_int_equal(found->version, written.version);
        assert_all_done(f, &written);
}

static void test_delete_with_all(void **state) {
        Fixture *f = *state;
        const Sc__Conversation guard = make_conversation("c", "");
        StoreWritten written;

        set_up_all(f);
        assert_int_equal(write_all(f, DELETE(conversation, &guard), &written), 0);
        assert_null(GET(f, conversation, &guard));
        assert_all_done(f, &written);
}

/* If the guard is refused nothing happens, whatever else the write has. */
static void test_refused_with_all(void **state) {
        Fixture *f = *state;
        const Sc__Conversation same = make_conversation("c", "x");
        Sc__Conversation other_version = same;
        const Sc__InboxEntry missing = make_inbox_entry("c", "missing");
        StoreWritten written = {.last_intent = 99};

        set_up_all(f);
        other_version.version = 3;
        const StoreItem missing_patch = PATCH(inbox_entry, &missing, SET(inbox_entry, added_at)),
                        stale_patch = PATCH(conversation, &other_version, SET(conversation, title)),
                        unequal_patch = PATCH(conversation, &same, SET(conversation, kind));
        const struct {
                StoreItem guard;
                int r;
        } refused[] = {
                {INSERT(conversation, &same), -EEXIST},
                {missing_patch, -ENOENT},
                {DELETE(inbox_entry, &missing), -ENOENT},
                {stale_patch, -ESTALE},
                {DELETE(conversation, &other_version), -ESTALE},
                {IF_EQUAL(unequal_patch, FIELD(conversation, title)), -ESTALE},
                {IF_EQUAL(DELETE(conversation, &same), FIELD(conversation, title)), -ESTALE},
        };
        Buffer before = dump(f);
        FOREACH_ARRAY(one, refused, ELEMENTSOF(refused)) {
                assert_int_equal(write_all(f, one->guard, &written), one->r);
                assert_int_equal(written.version, 0);
                assert_int_equal(written.last_intent, 0);
        }
        assert_unchanged(f, &before);
}

/* The unique index of another partition refuses the guard, too. */
static void test_refused_by_index(void **state) {
        Fixture *f = *state;
        const Sc__Session session = make_session("u1", "s", 5), same = make_session("u2", "s", 6),
                          own = make_session("u2", "own", 7);

        assert_int_equal(guard_alone(f, "u1", INSERT(session, &session)), 0);
        assert_int_equal(guard_alone(f, "u2", INSERT(session, &own)), 0);
        Buffer before = dump(f);
        assert_int_equal(GUARD_WITH(f, "u2", INSERT(session, &same), DELETE(session, &own)), -EEXIST);
        assert_unchanged(f, &before);
}

static void test_many(void **state) {
        Fixture *f = *state;
        Sc__Member members[STORE_MAX_FOLLOWERS];
        StoreItem followers[STORE_MAX_FOLLOWERS];
        char users[STORE_MAX_FOLLOWERS][8];
        const Sc__Member from = make_member("c", "", 0);

        for (unsigned i = 0; i < STORE_MAX_FOLLOWERS; i++) {
                snprintf(users[i], sizeof(users[i]), "u%03u", i);
                members[i] = make_member("c", users[i], i);
                followers[i] = PUT(member, &members[i]);
        }
        assert_int_equal(follow_all(f, "c", followers, STORE_MAX_FOLLOWERS), 0);
        const StoreRead read = {.info = &sc__member__info, .from = &from.base, .n_prefix = 1, .limit = 1000};
        const StoreRows *rows = read_rows(f, &read);
        assert_int_equal(rows->n, STORE_MAX_FOLLOWERS);
        for (size_t i = 0; i < rows->n; i++)
                assert_int_equal(((const Sc__Member *) rows->records[i])->read_seq, i);
}

int conformance_run_followers(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_put),
                CONFORMANCE_TEST(test_put_without_version),
                CONFORMANCE_TEST(test_patch),
                CONFORMANCE_TEST(test_missing),
                CONFORMANCE_TEST(test_delete),
                CONFORMANCE_TEST(test_unique_type),
                CONFORMANCE_TEST(test_insert_with_all),
                CONFORMANCE_TEST(test_patch_with_all),
                CONFORMANCE_TEST(test_delete_with_all),
                CONFORMANCE_TEST(test_refused_with_all),
                CONFORMANCE_TEST(test_refused_by_index),
                CONFORMANCE_TEST(test_many),
        };
        return cmocka_run_group_tests_name("followers", tests, NULL, NULL);
}
