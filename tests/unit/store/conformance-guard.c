/* SPDX-License-Identifier: Apache-2.0 */

/* Guards by themselves: what they do, when they are refused, and the versions they leave. */

#include "conformance-util.h"

static void assert_user(Fixture *f, const char *id, const char *username, const char *display_name) {
        const Sc__User key = make_user(id, "");
        const Sc__User *found = GET(f, user, &key);

        assert_non_null(found);
        assert_string_equal(found->username, username);
        assert_string_equal(found->display_name, display_name);
        assert_int_equal(found->created_at, 17);
}

static uint64_t version_of(Fixture *f, const char *id) {
        const Sc__User key = make_user(id, "");
        const Sc__User *found = GET(f, user, &key);

        assert_non_null(found);
        return found->version;
}

static void insert_user(Fixture *f, const char *id, const char *username) {
        const Sc__User user = make_user(id, username);

        assert_int_equal(guard_alone(f, id, INSERT(user, &user)), 0);
}

static void test_insert(void **state) {
        Fixture *f = *state;
        const Sc__User key = make_user("u1", "");

        assert_null(GET(f, user, &key));
        insert_user(f, "u1", "ada");
        assert_user(f, "u1", "ada", "A name");
        insert_user(f, "u2", "bob");
        assert_user(f, "u2", "bob", "A name");
}

static void test_insert_taken_key(void **state) {
        Fixture *f = *state;
        const Sc__User again = make_user("u1", "other");

        insert_user(f, "u1", "ada");
        Buffer before = dump(f);
        assert_int_equal(guard_alone(f, "u1", INSERT(user, &again)), -EEXIST);
        assert_unchanged(f, &before);
}

static void test_insert_taken_index(void **state) {
        Fixture *f = *state;
        const Sc__User same = make_user("u2", "ada");

        insert_user(f, "u1", "ada");
        Buffer before = dump(f);
        assert_int_equal(guard_alone(f, "u2", INSERT(user, &same)), -EEXIST);
        assert_unchanged(f, &before);
        insert_user(f, "u2", "Ada"); /* another one, by its bytes */
}

/* A unique index whose first field is an empty string has no entry for it. */
static void test_insert_empty_index(void **state) {
        Fixture *f = *state;

        insert_user(f, "u1", "");
        insert_user(f, "u2", "");
        assert_user(f, "u1", "", "A name");
        assert_user(f, "u2", "", "A name");
}

/* What was deleted takes no place in a unique index. */
static void test_insert_again(void **state) {
        Fixture *f = *state;
        const Sc__User user = make_user("u1", "ada");

        insert_user(f, "u1", "ada");
        assert_int_equal(guard_alone(f, "u1", DELETE(user, &user)), 0);
        insert_user(f, "u2", "ada");
        insert_user(f, "u1", "bob");
}

/* Only the fields that are named, whatever else stands in the record. */
static void test_patch_set(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u1", "somebody else");

        insert_user(f, "u1", "ada");
        insert_user(f, "u2", "bob");
        user.display_name = (char *) "New";
        user.created_at = 99;
        assert_int_equal(guard_alone(f, "u1", PATCH(user, &user, SET(user, display_name))), 0);
        assert_user(f, "u1", "ada", "New");
        assert_user(f, "u2", "bob", "A name");
        user.display_name = (char *) "";
        user.username = (char *) "ada2";
        assert_int_equal(
                guard_alone(f, "u1", PATCH(user, &user, SET(user, display_name), SET(user, username))), 0);
        assert_user(f, "u1", "ada2", "");
}

static void assert_head(Fixture *f, uint64_t last_seq, uint64_t last_count, int64_t last_at) {
        const Sc__ConversationHead key = make_head("c", 0);
        const Sc__ConversationHead *head = GET(f, conversation_head, &key);

        assert_non_null(head);
        assert_int_equal(head->last_seq, last_seq);
        assert_int_equal(head->last_count, last_count);
        assert_int_equal(head->last_at, last_at);
}

static void test_patch_increment(void **state) {
        Fixture *f = *state;
        Sc__ConversationHead head = make_head("c", 10);

        head.last_count = 5;
        head.last_at = -3;
        assert_int_equal(guard_alone(f, "c", INSERT(conversation_head, &head)), 0);
        head.last_at = 10;
        const StoreItem at = PATCH(conversation_head, &head, INCREMENT(conversation_head, last_at));
        assert_int_equal(guard_alone(f, "c", at), 0);
        assert_int_equal(guard_alone(f, "c", at), 0);
        assert_head(f, 10, 5, 17);
        head.last_at = -20;
        assert_int_equal(guard_alone(f, "c", at), 0);
        assert_head(f, 10, 5, -3);
        head.last_seq = (uint64_t) -4; /* what "negative" is for an unsigned field */
        assert_int_equal(
                guard_alone(f, "c", PATCH(conversation_head, &head, INCREMENT(conversation_head, last_seq))),
                0);
        assert_head(f, 6, 5, -3);
}

static void test_patch_max(void **state) {
        Fixture *f = *state;
        Sc__ConversationHead head = make_head("c", 10);

        assert_int_equal(guard_alone(f, "c", INSERT(conversation_head, &head)), 0);
        const StoreItem raise = PATCH(conversation_head, &head, RAISE(conversation_head, last_seq),
                RAISE(conversation_head, last_at));
        head.last_seq = 9;
        head.last_at = -1;
        assert_int_equal(guard_alone(f, "c", raise), 0);
        assert_head(f, 10, 0, 0);
        head.last_seq = 12;
        head.last_at = 7;
        assert_int_equal(guard_alone(f, "c", raise), 0);
        assert_head(f, 12, 0, 7);
        head.last_seq = 11;
        head.last_at = INT64_MAX;
        assert_int_equal(guard_alone(f, "c", raise), 0);
        assert_head(f, 12, 0, INT64_MAX);
}

/* All three in one patch. */
static void test_patch_mixed(void **state) {
        Fixture *f = *state;
        Sc__ConversationHead head = make_head("c", 10);

        head.last_count = 20;
        head.last_at = 30;
        assert_int_equal(guard_alone(f, "c", INSERT(conversation_head, &head)), 0);
        head = make_head("c", 5);
        head.last_count = 2;
        head.last_at = 40;
        const StoreItem patch = PATCH(conversation_head, &head, SET(conversation_head, last_seq),
                INCREMENT(conversation_head, last_count), RAISE(conversation_head, last_at));
        assert_int_equal(guard_alone(f, "c", patch), 0);
        assert_head(f, 5, 22, 40);
}

static void test_patch_missing(void **state) {
        Fixture *f = *state;
        const Sc__User user = make_user("u2", "ada");

        insert_user(f, "u1", "ada");
        Buffer before = dump(f);
        assert_int_equal(guard_alone(f, "u2", PATCH(user, &user, SET(user, display_name))), -ENOENT);
        assert_unchanged(f, &before);
}

/* A guard that patches a field of a unique index. */
static void test_patch_taken_index(void **state) {
        Fixture *f = *state;
        const Sc__User user = make_user("u2", "ada"), same = make_user("u1", "ada");

        insert_user(f, "u1", "ada");
        insert_user(f, "u2", "bob");
        Buffer before = dump(f);
        assert_int_equal(guard_alone(f, "u2", PATCH(user, &user, SET(user, username))), -EEXIST);
        assert_unchanged(f, &before);
        assert_int_equal(guard_alone(f, "u1", PATCH(user, &same, SET(user, username))), 0);
        const Sc__User empty = make_user("u1", "");
        assert_int_equal(guard_alone(f, "u1", PATCH(user, &empty, SET(user, username))), 0);
        assert_int_equal(guard_alone(f, "u2", PATCH(user, &user, SET(user, username))), 0);
        assert_user(f, "u2", "ada", "A name");
}

static void test_patch_version(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u1", "ada");

        insert_user(f, "u1", "ada");
        uint64_t first = version_of(f, "u1");
        user.version = first;
        user.display_name = (char *) "New";
        const StoreItem patch = PATCH(user, &user, SET(user, display_name));
        assert_int_equal(guard_alone(f, "u1", patch), 0);
        Buffer before = dump(f);
        assert_int_equal(guard_alone(f, "u1", patch), -ESTALE);
        user.version = version_of(f, "u1") ^ 1; /* the right count, another name */
        assert_int_equal(guard_alone(f, "u1", patch), -ESTALE);
        assert_unchanged(f, &before);
        user.version = 0; /* any */
        assert_int_equal(guard_alone(f, "u1", patch), 0);
}

static void test_patch_equal(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u1", "ada");

        insert_user(f, "u1", "ada");
        user.display_name = (char *) "New";
        const StoreItem patch = PATCH(user, &user, SET(user, display_name));
        const StoreItem conditional = IF_EQUAL(patch, FIELD(user, username), FIELD(user, created_at));
        assert_int_equal(guard_alone(f, "u1", conditional), 0);
        assert_user(f, "u1", "ada", "New");
        user.display_name = (char *) "Newer";
        user.created_at = 18;
        Buffer before = dump(f);
        assert_int_equal(guard_alone(f, "u1", conditional), -ESTALE);
        user.created_at = 17;
        user.username = (char *) "Ada";
        assert_int_equal(guard_alone(f, "u1", conditional), -ESTALE);
        user.username = (char *) "ada";
        user.version = 12345;
        assert_int_equal(guard_alone(f, "u1", conditional), -ESTALE);
        assert_unchanged(f, &before);
        user.version = version_of(f, "u1");
        assert_int_equal(guard_alone(f, "u1", conditional), 0);
        assert_user(f, "u1", "ada", "Newer");
}

/* The field that a patch changes may be the condition, as for a token that is used once, with bytes too. */
static void test_patch_equal_changed(void **state) {
        Fixture *f = *state;
        uint8_t first[] = {0, 1, 0}, second[] = {0, 1, 1};
        Sc__Session session = make_session("u", "s", 5);

        session.refresh_hash = (ProtobufCBinaryData){sizeof(first), first};
        assert_int_equal(guard_alone(f, "u", INSERT(session, &session)), 0);
        session.refresh_hash.data = second;
        const StoreItem patch = PATCH(session, &session, INCREMENT(session, used_at));
        const StoreItem conditional = IF_EQUAL(patch, FIELD(session, refresh_hash));
        assert_int_equal(guard_alone(f, "u", conditional), -ESTALE);
        session.refresh_hash.len = 2;
        assert_int_equal(guard_alone(f, "u", conditional), -ESTALE);
        session.refresh_hash.data = first;
        assert_int_equal(guard_alone(f, "u", conditional), -ESTALE);
        session.refresh_hash.len = 3;
        assert_int_equal(guard_alone(f, "u", conditional), 0);
        session.expires_at = 5;
        const StoreItem same = PATCH(session, &session, INCREMENT(session, expires_at));
        assert_int_equal(guard_alone(f, "u", IF_EQUAL(same, FIELD(session, expires_at))), 0);
        assert_int_equal(guard_alone(f, "u", IF_EQUAL(same, FIELD(session, expires_at))), -ESTALE);
}

static void test_delete(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u1", "ada");

        assert_int_equal(guard_alone(f, "u1", DELETE(user, &user)), -ENOENT);
        insert_user(f, "u1", "ada");
        insert_user(f, "u2", "bob");
        assert_int_equal(guard_alone(f, "u1", DELETE(user, &user)), 0);
        assert_null(GET(f, user, &user));
        assert_user(f, "u2", "bob", "A name");
        assert_int_equal(guard_alone(f, "u1", DELETE(user, &user)), -ENOENT);
}

static void test_delete_conditional(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u1", "wrong");

        insert_user(f, "u1", "ada");
        Buffer before = dump(f);
        user.version = 7;
        assert_int_equal(guard_alone(f, "u1", DELETE(user, &user)), -ESTALE);
        user.version = version_of(f, "u1");
        assert_int_equal(
                guard_alone(f, "u1", IF_EQUAL(DELETE(user, &user), FIELD(user, username))), -ESTALE);
        assert_unchanged(f, &before);
        user.username = (char *) "ada";
        assert_int_equal(guard_alone(f, "u1", IF_EQUAL(DELETE(user, &user), FIELD(user, username))), 0);
        assert_null(GET(f, user, &user));
}

/* A record in the same partition with the same rest of a key is another one. */
static void test_keys_of_two_fields(void **state) {
        Fixture *f = *state;
        const Sc__Member a = make_member("c", "a", 1), b = make_member("c", "b", 2),
                         other = make_member("d", "a", 3), shifted = make_member("ca", "", 4);
        const Sc__Member *found;

        assert_int_equal(guard_alone(f, "c", INSERT(member, &a)), 0);
        assert_int_equal(guard_alone(f, "c", INSERT(member, &b)), 0);
        assert_int_equal(guard_alone(f, "d", INSERT(member, &other)), 0);
        assert_int_equal(guard_alone(f, "ca", INSERT(member, &shifted)), 0);
        assert_int_equal(guard_alone(f, "c", DELETE(member, &a)), 0);
        assert_null(GET(f, member, &a));
        assert_non_null(found = GET(f, member, &b));
        assert_int_equal(found->read_seq, 2);
        assert_non_null(found = GET(f, member, &other));
        assert_int_equal(found->read_seq, 3);
        assert_non_null(found = GET(f, member, &shifted));
        assert_int_equal(found->read_seq, 4);
}

/* --- versions --- */

/* One more write has touched the user: the count grows by one, the name is new. */
static uint64_t assert_next_version(Fixture *f, uint64_t before, const StoreWritten *written) {
        uint64_t now = version_of(f, "u1");

        if (written)
                assert_int_equal(written->version, now);
        assert_int_equal(store_version_count(now), store_version_count(before) + 1);
        assert_int_not_equal(now & 0x7fffffff, before & 0x7fffffff);
        return now;
}

static void test_versions(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u1", "ada");
        StoreWritten written;

        user.version = 4711; /* not the caller's to choose */
        assert_int_equal(
                fixture_write(f, &(StoreWrite){.partition = "u1", .guard = INSERT(user, &user)}, &written),
                0);
        uint64_t version = assert_next_version(f, 0, &written);
        for (unsigned i = 0; i < 20; i++) {
                user.version = i % 2 > 0 ? version : 0;
                /* A patch that changes nothing is a write, too. */
                const StoreWrite write = {
                        .partition = "u1", .guard = PATCH(user, &user, SET(user, display_name))};
                assert_int_equal(fixture_write(f, &write, &written), 0);
                version = assert_next_version(f, version, &written);
        }
        const StoreItem follower = PATCH(user, &user, SET(user, display_name));
        assert_int_equal(FOLLOW(f, "u1", follower), 0);
        assert_next_version(f, version, NULL);
}

/* Of a record that a follower puts. */
static void test_versions_put(void **state) {
        Fixture *f = *state;
        Sc__Member member = make_member("c", "u", 1);
        uint64_t version = 0;

        for (unsigned i = 0; i < 5; i++) {
                member.version = 4711;
                assert_int_equal(FOLLOW(f, "c", PUT(member, &member)), 0);
                const Sc__Member *found = GET(f, member, &member);
                assert_non_null(found);
                assert_int_equal(store_version_count(found->version), store_version_count(version) + 1);
                assert_int_not_equal(found->version & 0x7fffffff, version & 0x7fffffff);
                version = found->version;
        }
}

static void test_versions_refused(void **state) {
        Fixture *f = *state;
        Sc__User user = make_user("u1", "ada");

        insert_user(f, "u1", "ada");
        uint64_t version = version_of(f, "u1");
        assert_int_equal(guard_alone(f, "u1", INSERT(user, &user)), -EEXIST);
        user.version = 1;
        assert_int_equal(guard_alone(f, "u1", PATCH(user, &user, SET(user, display_name))), -ESTALE);
        assert_int_equal(version_of(f, "u1"), version);
}

static void test_type_without_version(void **state) {
        Fixture *f = *state;
        const Sc__ConversationHead head = make_head("c", 1);
        StoreWritten written = {.version = 99, .last_intent = 99};
        const StoreWrite write = {.partition = "c", .guard = INSERT(conversation_head, &head)};

        assert_int_equal(fixture_write(f, &write, &written), 0);
        assert_int_equal(written.version, 0);
        assert_int_equal(written.last_intent, 0);
}

static void test_version_next(void **state) {
        uint64_t version = 0;

        for (unsigned i = 1; i < 100; i++) {
                uint64_t next = store_version_next(version);
                assert_int_equal(store_version_count(next), i);
                assert_int_not_equal(next & 0x7fffffff, version & 0x7fffffff);
                version = next;
        }
}

int conformance_run_guards(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_insert),
                CONFORMANCE_TEST(test_insert_taken_key),
                CONFORMANCE_TEST(test_insert_taken_index),
                CONFORMANCE_TEST(test_insert_empty_index),
                CONFORMANCE_TEST(test_insert_again),
                CONFORMANCE_TEST(test_patch_set),
                CONFORMANCE_TEST(test_patch_increment),
                CONFORMANCE_TEST(test_patch_max),
                CONFORMANCE_TEST(test_patch_mixed),
                CONFORMANCE_TEST(test_patch_missing),
                CONFORMANCE_TEST(test_patch_taken_index),
                CONFORMANCE_TEST(test_patch_version),
                CONFORMANCE_TEST(test_patch_equal),
                CONFORMANCE_TEST(test_patch_equal_changed),
                CONFORMANCE_TEST(test_delete),
                CONFORMANCE_TEST(test_delete_conditional),
                CONFORMANCE_TEST(test_keys_of_two_fields),
                CONFORMANCE_TEST(test_versions),
                CONFORMANCE_TEST(test_versions_put),
                CONFORMANCE_TEST(test_versions_refused),
                CONFORMANCE_TEST(test_type_without_version),
                CONFORMANCE_TEST(test_version_next),
        };
        return cmocka_run_group_tests_name("guards", tests, NULL, NULL);
}
