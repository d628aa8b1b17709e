/* SPDX-License-Identifier: Apache-2.0 */

/* Appends to the log of a conversation, and the deletion of its oldest entries. */

#include <stdio.h>

#include "conformance-util.h"

static Appended append_with(Fixture *f, uint64_t after_seq, Sc__Message *message, const StoreItem *followers,
        size_t n_followers) {
        const Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        const StoreIntent intents[] = {make_intent("x", &request), make_intent("y", &request)};

        return fixture_append_all(f, &(StoreAppend){.conversation = message->conversation,
                                             .after_seq = after_seq,
                                             .entries = &message,
                                             .n = 1,
                                             .followers = followers,
                                             .n_followers = n_followers,
                                             .intents = intents,
                                             .n_intents = 2});
}

static const Sc__Message *get_entry(Fixture *f, const char *conversation, uint64_t seq) {
        Sc__Message key = fixture_message(conversation, "", "", "");

        key.seq = seq;
        return GET(f, message, &key);
}

static void test_append(void **state) {
        Fixture *f = *state;
        Sc__Message first = fixture_message("c", "a", "1", "one"),
                    second = fixture_message("c", "a", "2", "two");

        first.seq = 77; /* is ignored */
        first.count = 5;
        second.created_at++;
        Appended a = fixture_append(f, "c", 0, (Sc__Message *[]){&first, &second}, 2);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_seq, 2);
        assert_int_equal(a.last_intent, 0);
        assert_int_equal(a.n_taken, 0);
        a = fixture_append_text(f, "c", 2, "b", "1", "another sender's 1");
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_seq, 3);
        assert_int_equal(fixture_count_messages(f, "c"), 3);
        const Sc__Message *found = get_entry(f, "c", 1);
        assert_string_equal(found->text, "one");
        assert_string_equal(found->sender, "a");
        assert_string_equal(found->client_msg_id, "1");
        assert_int_equal(found->count, 5);
        assert_int_equal(found->created_at, first.created_at);
        found = get_entry(f, "c", 2);
        assert_string_equal(found->text, "two");
        assert_int_equal(found->created_at, first.created_at + 1);
}

static void test_stale(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "2", "two").r, 0);
        Buffer before = dump(f);
        for (unsigned after = 0; after < 5; after++) {
                if (after == 2)
                        continue;
                Appended a = fixture_append_text(f, "c", after, "a", "3", "three");
                assert_int_equal(a.r, -ESTALE);
                assert_int_equal(a.last_seq, 2);
                assert_int_equal(a.n_taken, 0);
        }
        Appended a = fixture_append_text(f, "new", 5, "a", "3", "three");
        assert_int_equal(a.r, -ESTALE);
        assert_int_equal(a.last_seq, 0);
        assert_unchanged(f, &before);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "3", "three").r, 0);
}

/* Each of the entries told is one that is stored, and was among those to append. */
static void assert_taken(const Appended *a, uint64_t seq, const char *client_msg_id, const char *text) {
        for (size_t i = 0; i < a->n_taken; i++) {
                if (a->taken[i].seq != seq)
                        continue;
                assert_string_equal(a->taken[i].conversation, "c");
                assert_string_equal(a->taken[i].sender, "a");
                assert_string_equal(a->taken[i].client_msg_id, client_msg_id);
                assert_string_equal(a->taken[i].text, text);
                assert_int_equal(a->taken[i].created_at, 1700000000000);
                return;
        }
        fail_msg("entry %lu is not told", (unsigned long) seq);
}

static void test_taken(void **state) {
        Fixture *f = *state;
        Sc__Message again = fixture_message("c", "a", "1", "other text");

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        Buffer before = dump(f);
        again.created_at = 5;
        Appended a = fixture_append(f, "c", 1, (Sc__Message *[]){&again}, 1);
        assert_int_equal(a.r, -EEXIST);
        assert_true(a.last_seq == 1 || a.last_seq == 0);
        assert_int_equal(a.n_taken, 1);
        assert_taken(&a, 1, "1", "one");
        assert_unchanged(f, &before);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "2", "two").last_seq, 2);
}

/* Among new ones: none of them is stored, and what is taken is told, at least one of it. */
static void test_taken_among_others(void **state) {
        Fixture *f = *state;
        Sc__Message new = fixture_message("c", "a", "new", "new"), one = fixture_message("c", "a", "1", "x"),
                    last = fixture_message("c", "a", "last", "x"), two = fixture_message("c", "a", "2", "x");

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "0", "zero").r, 0);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "2", "two").r, 0);
        Buffer before = dump(f);
        Appended a = fixture_append(f, "c", 3, (Sc__Message *[]){&new, &two, &last, &one}, 4);
        assert_int_equal(a.r, -EEXIST);
        assert_in_range(a.n_taken, 1, 2);
        for (size_t i = 0; i < a.n_taken; i++)
                assert_taken(&a, a.taken[i].seq, a.taken[i].seq == 1 ? "1" : "2",
                        a.taken[i].seq == 1 ? "one" : "two");
        assert_unchanged(f, &before);
        a = fixture_append(f, "c", 3, (Sc__Message *[]){&new, &last}, 2);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_seq, 5);
}

/* A repeat by who does not know that it was stored: either refusal is true. */
static void test_taken_and_stale(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        Buffer before = dump(f);
        Appended a = fixture_append_text(f, "c", 0, "a", "1", "one");
        if (a.r == -EEXIST)
                assert_taken(&a, 1, "1", "one");
        else {
                assert_int_equal(a.r, -ESTALE);
                assert_int_equal(a.last_seq, 1);
        }
        assert_unchanged(f, &before);
}

/* The same id of the same sender in another conversation: accepted, or refused by name. */
static void test_taken_elsewhere(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        Buffer before = dump(f);
        Appended a = fixture_append_text(f, "d", 0, "a", "1", "one");
        if (a.r == -EEXIST) {
                assert_taken(&a, 1, "1", "one");
                assert_unchanged(f, &before);
                return;
        }
        buffer_done(&before);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_seq, 1);
        assert_int_equal(fixture_count_messages(f, "d"), 1);
}

/* Entries without an id: none is another's repeat. */
static void test_without_id(void **state) {
        Fixture *f = *state;
        Sc__Message event = fixture_message("c", "", "", "joined"),
                    of_sender = fixture_message("c", "a", "", "x");

        Appended a = fixture_append(f, "c", 0, (Sc__Message *[]){&event, &event, &of_sender, &of_sender}, 4);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_seq, 4);
        assert_int_equal(fixture_append(f, "c", 4, (Sc__Message *[]){&event, &of_sender}, 2).last_seq, 6);
        event.conversation = (char *) "d";
        assert_int_equal(fixture_append(f, "d", 0, (Sc__Message *[]){&event}, 1).last_seq, 1);
}

/* Entries without a sender, but with an id. */
static void test_without_sender(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "", "source/1", "one").r, 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "", "source/2", "two").r, 0);
        Appended a = fixture_append_text(f, "c", 2, "", "source/1", "one");
        assert_int_equal(a.r, -EEXIST);
        assert_int_equal(a.taken[0].seq, 1);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "source/1", "one").r, 0);
}

static void test_with_followers(void **state) {
        Fixture *f = *state;
        Sc__Message message = fixture_message("c", "a", "1", "one");
        Sc__Member member = make_member("c", "a", 1), *found;
        Sc__ConversationHead head = make_head("c", 1);
        const StoreItem raise = PATCH(member, &member, RAISE(member, read_seq));
        StoreItem followers[] = {PUT(member, &member), PUT(conversation_head, &head)};

        Appended a = append_with(f, 0, &message, followers, 2);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_seq, 1);
        assert_int_equal(a.last_intent, 2);
        assert_non_null(found = GET(f, member, &member));
        assert_int_equal(found->read_seq, 1);
        assert_int_equal(store_version_count(found->version), 1);
        followers[0] = raise;
        followers[1] = DELETE(conversation_head, &head);
        member.read_seq = 2;
        message.client_msg_id = (char *) "2";
        a = append_with(f, 1, &message, followers, 2);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_intent, 4);
        assert_non_null(found = GET(f, member, &member));
        assert_int_equal(found->read_seq, 2);
        assert_int_equal(store_version_count(found->version), 2);
        assert_null(GET(f, conversation_head, &head));
}

static void test_refused_with_followers(void **state) {
        Fixture *f = *state;
        Sc__Message first = fixture_message("c", "a", "1", "one"),
                    second = fixture_message("c", "a", "2", "two");
        Sc__Member member = make_member("c", "a", 1), other = make_member("c", "b", 1);
        const StoreItem followers[] = {PUT(member, &member), DELETE(member, &other)};

        assert_int_equal(append_with(f, 0, &first, NULL, 0).last_intent, 2);
        assert_int_equal(FOLLOW(f, "c", PUT(member, &other)), 0);
        Buffer before = dump(f);
        Appended a = append_with(f, 1, &first, followers, 2);
        assert_int_equal(a.r, -EEXIST);
        assert_int_equal(a.last_intent, 0);
        a = append_with(f, 0, &second, followers, 2);
        assert_int_equal(a.r, -ESTALE);
        assert_int_equal(a.last_intent, 0);
        assert_int_equal(append_with(f, 2, &second, followers, 2).r, -ESTALE);
        assert_unchanged(f, &before);
        assert_int_equal(append_with(f, 1, &second, followers, 2).last_intent, 4);
        assert_null(GET(f, member, &other));
}

/* As many as may be, with more bytes than another write may have. */
static void test_many(void **state) {
        Fixture *f = *state;
        enum { SIZE = 20000 };
        Sc__Message messages[STORE_MAX_APPEND], *entries[STORE_MAX_APPEND];
        char ids[STORE_MAX_APPEND][8];
        static char text[SIZE + 1];

        memset(text, 'x', SIZE);
        for (unsigned i = 0; i < STORE_MAX_APPEND; i++) {
                snprintf(ids[i], sizeof(ids[i]), "%u", i);
                messages[i] = fixture_message("c", "a", ids[i], text);
                entries[i] = &messages[i];
        }
        static_assert(SIZE * STORE_MAX_APPEND > STORE_MAX_WRITE_BYTES, "more than another write");
        Appended a = fixture_append(f, "c", 0, entries, STORE_MAX_APPEND);
        assert_int_equal(a.r, 0);
        assert_int_equal(a.last_seq, STORE_MAX_APPEND);
        assert_int_equal(fixture_count_messages(f, "c"), STORE_MAX_APPEND);
        assert_string_equal(get_entry(f, "c", STORE_MAX_APPEND)->text, text);
        assert_string_equal(get_entry(f, "c", STORE_MAX_APPEND)->client_msg_id, "63");
        a = fixture_append(f, "c", STORE_MAX_APPEND, entries, STORE_MAX_APPEND);
        assert_int_equal(a.r, -EEXIST);
        assert_in_range(a.n_taken, 1, STORE_MAX_APPEND);
}

/* An entry is emptied, not deleted: a patch by key, which leaves it in its place, and its id taken. */
static void test_patch_entry(void **state) {
        Fixture *f = *state;
        Sc__Message key = fixture_message("c", "", "", "");

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "2", "two").r, 0);
        key.seq = 1;
        key.body_case = SC__MESSAGE__BODY_DATA;
        key.data = (ProtobufCBinaryData){2, (uint8_t *) "\0x"};
        const StoreItem patch = PATCH(message, &key, SET(message, text), SET(message, data));
        assert_int_equal(FOLLOW(f, "c", patch), 0);
        const Sc__Message *found = get_entry(f, "c", 1);
        assert_int_equal(found->body_case, SC__MESSAGE__BODY_DATA);
        assert_int_equal(found->data.len, 2);
        assert_string_equal(found->client_msg_id, "1");
        key.body_case = SC__MESSAGE__BODY__NOT_SET;
        assert_int_equal(guard_alone(f, "c", patch), 0);
        assert_int_equal(get_entry(f, "c", 1)->body_case, SC__MESSAGE__BODY__NOT_SET);
        assert_string_equal(get_entry(f, "c", 2)->text, "two");
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "1", "one").r, -EEXIST);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "3", "three").last_seq, 3);
}

/* Where a conversation stands is what is stored, also by another write than an append. */
static void test_other_writes_of_entries(void **state) {
        Fixture *f = *state;
        Sc__Message entry = fixture_message("c", "a", "1", "one");

        entry.seq = 1;
        assert_int_equal(fixture_append_text(f, "c", 0, "a", "0", "zero").last_seq, 1);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "2", "two").last_seq, 2);
        entry.seq = 2;
        assert_int_equal(guard_alone(f, "c", DELETE(message, &entry)), 0);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "3", "three").r, -ESTALE);
        assert_int_equal(guard_alone(f, "c", INSERT(message, &entry)), 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "3", "three").r, -ESTALE);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "3", "three").last_seq, 3);
        entry.seq = 3;
        assert_int_equal(FOLLOW(f, "c", DELETE(message, &entry)), 0);
        assert_int_equal(fixture_append_text(f, "c", 3, "a", "3", "three").r, -ESTALE);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "3", "three").last_seq, 3);
}

/* --- deleting the oldest --- */

static void fill(Fixture *f, const char *conversation, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                char id[32];
                snprintf(id, sizeof(id), "%s%u", conversation, i);
                assert_int_equal(fixture_append_text(f, conversation, i, "a", id, "text").r, 0);
        }
}

/* What is left are the entries first … last. */
static void assert_left(Fixture *f, const char *conversation, uint64_t first, uint64_t last) {
        const Sc__Message from = fixture_message(conversation, "", "", "");
        const StoreRows *rows = read_rows(f,
                &(StoreRead){.info = &sc__message__info, .from = &from.base, .n_prefix = 1, .limit = 1000});

        assert_int_equal(rows->n, last - first + 1);
        for (size_t i = 0; i < rows->n; i++)
                assert_int_equal(((const Sc__Message *) rows->records[i])->seq, first + i);
}

static unsigned delete_entries(Fixture *f, const char *conversation, uint64_t last_seq, unsigned limit) {
        unsigned n;

        assert_int_equal(fixture_delete_entries(f, conversation, last_seq, limit, &n), 0);
        return n;
}

static void test_delete_entries(void **state) {
        Fixture *f = *state;

        fill(f, "b", 3);
        fill(f, "c", 10);
        fill(f, "d", 3);
        assert_int_equal(delete_entries(f, "c", 4, 100), 4);
        assert_left(f, "c", 5, 10);
        assert_int_equal(delete_entries(f, "c", 4, 100), 0);
        assert_int_equal(delete_entries(f, "c", 9, 2), 2);
        assert_left(f, "c", 7, 10);
        assert_int_equal(delete_entries(f, "c", 6, 1), 0);
        assert_int_equal(delete_entries(f, "nothing", 100, 100), 0);
        assert_left(f, "b", 1, 3);
        assert_left(f, "d", 1, 3);
}

static void test_delete_never_the_last(void **state) {
        Fixture *f = *state;

        fill(f, "c", 5);
        assert_int_equal(delete_entries(f, "c", 5, 100), 4);
        assert_left(f, "c", 5, 5);
        assert_int_equal(delete_entries(f, "c", UINT32_MAX, 100), 0);
        assert_left(f, "c", 5, 5);
        /* The sequence goes on behind it. */
        assert_int_equal(fixture_append_text(f, "c", 0, "a", "new", "x").last_seq, 5);
        assert_int_equal(fixture_append_text(f, "c", 5, "a", "new", "x").last_seq, 6);
        assert_int_equal(delete_entries(f, "c", 6, 1), 1);
        assert_left(f, "c", 6, 6);
}

/* The id is free again: it is unique as long as the entry lives. */
static void test_delete_frees_id(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "a", "2", "two").r, 0);
        assert_int_equal(delete_entries(f, "c", 1, 1), 1);
        assert_int_equal(fixture_append_text(f, "c", 2, "a", "1", "again").last_seq, 3);
}

/* --- check --- */

static void test_check(void **state) {
        Fixture *f = *state;

        fill(f, "c", 10);
        fill(f, "d", 4);
        assert_int_equal(delete_entries(f, "c", 4, 100), 4); /* no gap: the beginning may be missing */
        Checked checked = fixture_check(f);
        assert_int_equal(checked.r, 0);
        assert_int_equal(checked.n_findings, 0);
}

static void test_check_gap(void **state) {
        Fixture *f = *state;
        Sc__Message key = fixture_message("conversation-c", "", "", "");

        fill(f, "conversation-c", 10);
        key.seq = 5;
        assert_int_equal(guard_alone(f, "conversation-c", DELETE(message, &key)), 0);
        Checked checked = fixture_check(f);
        assert_int_equal(checked.r, 0);
        assert_int_equal(checked.n_findings, 1);
        assert_non_null(strstr(checked.first, "conversation-c"));
}

/* No more than a hundred findings, however much is wrong. */
static void test_check_many(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 130; i++) {
                char name[8];
                snprintf(name, sizeof(name), "c%u", i);
                Sc__Message key = fixture_message(name, "", "", "");
                fill(f, name, 3);
                key.seq = 2;
                assert_int_equal(guard_alone(f, name, DELETE(message, &key)), 0);
        }
        Checked checked = fixture_check(f);
        assert_int_equal(checked.r, 0);
        assert_in_range(checked.n_findings, 1, 100);
}

int conformance_run_appends(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_append),
                CONFORMANCE_TEST(test_stale),
                CONFORMANCE_TEST(test_taken),
                CONFORMANCE_TEST(test_taken_among_others),
                CONFORMANCE_TEST(test_taken_and_stale),
                CONFORMANCE_TEST(test_taken_elsewhere),
                CONFORMANCE_TEST(test_without_id),
                CONFORMANCE_TEST(test_without_sender),
                CONFORMANCE_TEST(test_with_followers),
                CONFORMANCE_TEST(test_refused_with_followers),
                CONFORMANCE_TEST(test_many),
                CONFORMANCE_TEST(test_patch_entry),
                CONFORMANCE_TEST(test_other_writes_of_entries),
                CONFORMANCE_TEST(test_delete_entries),
                CONFORMANCE_TEST(test_delete_never_the_last),
                CONFORMANCE_TEST(test_delete_frees_id),
                CONFORMANCE_TEST(test_check),
                CONFORMANCE_TEST(test_check_gap),
                CONFORMANCE_TEST(test_check_many),
        };
        return cmocka_run_group_tests_name("appends", tests, NULL, NULL);
}
