/* SPDX-License-Identifier: Apache-2.0 */

/* Reads: by the key and by indexes of every shape, bounds, limits, many in one submission. */

#include <stdio.h>

#include "conformance-util.h"

/* Ten messages in "c", by "a" and "b" in turn, with one of another conversation before and behind. */
static void fill(Fixture *f) {
        for (unsigned i = 0; i < 10; i++) {
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                assert_int_equal(fixture_append_text(f, "c", i, i % 2 > 0 ? "b" : "a", id, "text").r, 0);
        }
        assert_int_equal(fixture_append_text(f, "b", 0, "a", "x", "text").r, 0);
        assert_int_equal(fixture_append_text(f, "d", 0, "a", "y", "text").r, 0);
}

/* What is read must be these sequence numbers of "c". */
static void assert_seqs(Fixture *f, const StoreRead *read, const uint64_t *seqs, size_t n, bool more) {
        const StoreRows *rows = read_rows(f, read);

        assert_int_equal(rows->n, n);
        assert_int_equal(rows->more, more);
        for (size_t i = 0; i < n; i++) {
                const Sc__Message *message = (const Sc__Message *) rows->records[i];
                assert_string_equal(message->conversation, "c");
                assert_int_equal(message->seq, seqs[i]);
        }
}
#define ASSERT_SEQS(f, read, more, ...)                                                                     \
        assert_seqs(f, read, ARRAY(uint64_t, __VA_ARGS__), N(uint64_t, __VA_ARGS__), more)

static StoreRead read_messages(const Sc__Message *from) {
        return (StoreRead){.info = &sc__message__info, .from = &from->base, .n_prefix = 1, .limit = 100};
}

static void test_prefix(void **state) {
        Fixture *f = *state;
        Sc__Message from = fixture_message("c", "", "", "");
        StoreRead read = read_messages(&from);

        fill(f);
        ASSERT_SEQS(f, &read, false, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
        read.descending = true;
        ASSERT_SEQS(f, &read, false, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1);
        read.n_prefix = 2;
        from.seq = 7;
        ASSERT_SEQS(f, &read, false, 7);
        from.seq = 11;
        assert_int_equal(read_rows(f, &read)->n, 0);
        read.n_prefix = 1;
        from.conversation = (char *) "nothing";
        assert_int_equal(read_rows(f, &read)->n, 0);
        assert_false(read_rows(f, &read)->more);
}

static void test_limit(void **state) {
        Fixture *f = *state;
        Sc__Message from = fixture_message("c", "", "", "");
        StoreRead read = read_messages(&from);

        fill(f);
        read.limit = 11;
        ASSERT_SEQS(f, &read, false, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
        read.limit = 10;
        ASSERT_SEQS(f, &read, false, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
        read.limit = 9;
        ASSERT_SEQS(f, &read, true, 1, 2, 3, 4, 5, 6, 7, 8, 9);
        read.limit = 1;
        ASSERT_SEQS(f, &read, true, 1);
        read.limit = 0; /* means 1 */
        ASSERT_SEQS(f, &read, true, 1);
        read.descending = true;
        ASSERT_SEQS(f, &read, true, 10);
        read.limit = 3;
        ASSERT_SEQS(f, &read, true, 10, 9, 8);
}

static void test_bounds(void **state) {
        Fixture *f = *state;
        Sc__Message from = fixture_message("c", "", "", ""), to = fixture_message("other", "", "", "");
        StoreRead read = read_messages(&from);

        fill(f);
        read.limit = 3;
        read.after = true;
        from.seq = 8;
        ASSERT_SEQS(f, &read, false, 9, 10);
        from.seq = 4;
        ASSERT_SEQS(f, &read, true, 5, 6, 7);
        read.descending = true;
        ASSERT_SEQS(f, &read, true, 10, 9, 8);
        read.descending = false;
        read.before = true;
        read.to = &to.base;
        to.seq = 7;
        ASSERT_SEQS(f, &read, false, 5, 6);
        to.seq = 8;
        ASSERT_SEQS(f, &read, false, 5, 6, 7);
        read.after = false;
        read.descending = true;
        to.seq = 7;
        ASSERT_SEQS(f, &read, true, 6, 5, 4);
        to.seq = 2;
        ASSERT_SEQS(f, &read, false, 1);
        to.seq = 1;
        assert_int_equal(read_rows(f, &read)->n, 0);
        read.after = true;
        from.seq = 4;
        to.seq = 5;
        assert_int_equal(read_rows(f, &read)->n, 0);
        to.seq = 3;
        assert_int_equal(read_rows(f, &read)->n, 0);
        from.seq = 10;
        to.seq = 20;
        assert_int_equal(read_rows(f, &read)->n, 0);
}

/* All of a table, and from some key on, by a bound on the first field. */
static void test_without_prefix(void **state) {
        Fixture *f = *state;
        static const char *const ids[] = {"a", "b", "c", "d", "e"};
        StoreRead read = {.info = &sc__conversation__info, .limit = 100};

        for (unsigned i = ELEMENTSOF(ids); i > 0; i--) {
                const Sc__Conversation conversation = make_conversation(ids[i - 1], "x");
                assert_int_equal(guard_alone(f, ids[i - 1], INSERT(conversation, &conversation)), 0);
        }
        const StoreRows *rows = read_rows(f, &read);
        assert_int_equal(rows->n, ELEMENTSOF(ids));
        for (unsigned i = 0; i < ELEMENTSOF(ids); i++)
                assert_string_equal(((const Sc__Conversation *) rows->records[i])->id, ids[i]);
        const Sc__Conversation from = make_conversation("b", ""), to = make_conversation("e", "");
        read.from = &from.base;
        read.to = &to.base;
        read.after = read.before = true;
        rows = read_rows(f, &read);
        assert_int_equal(rows->n, 2);
        assert_string_equal(((const Sc__Conversation *) rows->records[0])->id, "c");
        assert_string_equal(((const Sc__Conversation *) rows->records[1])->id, "d");
        read.descending = true;
        rows = read_rows(f, &read);
        assert_string_equal(((const Sc__Conversation *) rows->records[0])->id, "d");
}

static void test_max_bytes(void **state) {
        Fixture *f = *state;
        Sc__Message from = fixture_message("c", "", "", "");
        StoreRead read = read_messages(&from);
        static char text[10001];

        memset(text, 'x', sizeof(text) - 1);
        for (unsigned i = 0; i < 5; i++) {
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                assert_int_equal(fixture_append_text(f, "c", i, "a", id, text).r, 0);
        }
        read.max_bytes = 1; /* one comes always */
        ASSERT_SEQS(f, &read, true, 1);
        read.max_bytes = 25000;
        ASSERT_SEQS(f, &read, true, 1, 2);
        read.descending = true;
        ASSERT_SEQS(f, &read, true, 5, 4);
        read.max_bytes = 0; /* enough for these */
        ASSERT_SEQS(f, &read, false, 5, 4, 3, 2, 1);
        read.max_bytes = 1;
        read.n_prefix = 2;
        from.seq = 3;
        ASSERT_SEQS(f, &read, false, 3);
}

/* What max_bytes 0 stands for: 1 MiB. */
static void test_max_bytes_default(void **state) {
        Fixture *f = *state;
        Sc__Message from = fixture_message("c", "", "", "");
        StoreRead read = read_messages(&from);
        static char text[60001];

        memset(text, 'x', sizeof(text) - 1);
        for (unsigned i = 0; i < 25; i++) {
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                assert_int_equal(fixture_append_text(f, "c", i, "a", id, text).r, 0);
        }
        const StoreRows *rows = read_rows(f, &read);
        assert_true(rows->more);
        assert_in_range(rows->n, 15, 17);
        read.max_bytes = 10U << 20;
        rows = read_rows(f, &read);
        assert_false(rows->more);
        assert_int_equal(rows->n, 25);
}

static void assert_member_order(const StoreRows *rows, const char *const *users, size_t n) {
        assert_int_equal(rows->n, n);
        for (size_t i = 0; i < n; i++)
                assert_string_equal(((const Sc__Member *) rows->records[i])->user, users[i]);
}

/* Strings sort by their bytes, whatever language they are of, and are bounded likewise. */
static void test_order_of_strings(void **state) {
        Fixture *f = *state;
        static const char *const users[] = {"", " ", "#a", "-", "1", "10", "9", "A", "B", "Z", "a", "a b",
                "aB", "ab", "b", "z", "\xc2\xa0", "\xc3\x84", "\xc3\xa4", "\xd0\xb0", "\xe2\x82\xac",
                "\xf0\x9f\x90\xa6"};
        Sc__Member from = make_member("c", "", 0), to = make_member("c", "", 0);
        StoreRead read = {.info = &sc__member__info, .from = &from.base, .n_prefix = 1, .limit = 100};
        unsigned n = ELEMENTSOF(users);

        for (unsigned i = 0; i < n; i++) {
                const Sc__Member member = make_member("c", users[i * 7 % n], i);
                assert_int_equal(guard_alone(f, "c", INSERT(member, &member)), 0);
        }
        assert_member_order(read_rows(f, &read), users, n);
        read.to = &to.base;
        for (unsigned i = 0; i < n; i++) {
                from.user = to.user = (char *) users[i];
                read.after = true;
                read.before = false;
                assert_member_order(read_rows(f, &read), users + i + 1, n - i - 1);
                read.after = false;
                read.before = true;
                assert_member_order(read_rows(f, &read), users, i);
        }
}

static void test_order_of_integers(void **state) {
        Fixture *f = *state;
        static const int64_t times[] = {INT64_MIN, -1000, -1, 0, 1, 9, 10, 100, INT32_MAX, INT64_MAX};
        StoreRead read = {.info = &sc__session__info,
                .index = store_index(&sc__session__info, "sessions_by_expiry"),
                .limit = 100};
        Sc__Session from = make_session("", "", 0);
        unsigned n = ELEMENTSOF(times);
        char id[8];

        for (unsigned i = 0; i < n; i++) {
                snprintf(id, sizeof(id), "%u", i);
                const Sc__Session session = make_session("u", id, times[i * 3 % n]);
                assert_int_equal(guard_alone(f, "u", INSERT(session, &session)), 0);
        }
        read.from = &from.base;
        for (unsigned i = 0; i < n; i++) {
                from.expires_at = times[i];
                read.after = true;
                const StoreRows *rows = read_rows(f, &read);
                assert_int_equal(rows->n, n - i - 1);
                for (size_t k = 0; k < rows->n; k++)
                        assert_true(
                                ((const Sc__Session *) rows->records[k])->expires_at == times[i + 1 + k]);
                read.after = false;
                read.n_prefix = 1;
                rows = read_rows(f, &read);
                assert_int_equal(rows->n, 1);
                assert_true(((const Sc__Session *) rows->records[0])->expires_at == times[i]);
                read.n_prefix = 0;
        }
}

/* Sessions that have expired, the way a job looks for them: of all users, no prefix, only a bound. */
static void test_index_without_prefix(void **state) {
        Fixture *f = *state;
        Sc__Session to = make_session("", "", 4);
        StoreRead read = {.info = &sc__session__info,
                .index = store_index(&sc__session__info, "sessions_by_expiry"),
                .before = true,
                .to = &to.base,
                .limit = 10};

        for (int64_t i = 9; i > 0; i--) {
                char id[8];
                snprintf(id, sizeof(id), "%d", (int) i);
                const Sc__Session session = make_session(id, id, i);
                assert_int_equal(guard_alone(f, id, INSERT(session, &session)), 0);
        }
        const StoreRows *rows = read_rows(f, &read);
        assert_int_equal(rows->n, 3);
        for (int64_t i = 0; i < 3; i++)
                assert_int_equal(((const Sc__Session *) rows->records[i])->expires_at, i + 1);
        read.descending = true;
        read.limit = 2;
        rows = read_rows(f, &read);
        assert_true(rows->more && rows->n == 2);
        assert_int_equal(((const Sc__Session *) rows->records[0])->expires_at, 3);
}

/* Several records with the same values of an index. */
static void test_index_with_ties(void **state) {
        Fixture *f = *state;
        const Sc__EndedSession init = SC__ENDED_SESSION__INIT;
        Sc__EndedSession from = init;
        bool seen[20] = {};
        StoreRead read = {.info = &sc__ended_session__info,
                .index = store_index(&sc__ended_session__info, "ended_sessions_by_expiry"),
                .from = &from.base,
                .n_prefix = 1,
                .limit = 100};

        for (unsigned i = 0; i < 20; i++) {
                Sc__EndedSession ended = init;
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                ended.inbox = (char *) "#u";
                ended.session = id;
                ended.expires_at = i % 2;
                assert_int_equal(guard_alone(f, "#u", INSERT(ended_session, &ended)), 0);
        }
        from.expires_at = 1;
        const StoreRows *rows = read_rows(f, &read);
        assert_int_equal(rows->n, 10);
        for (size_t i = 0; i < rows->n; i++) {
                unsigned id = (unsigned) atoi(((const Sc__EndedSession *) rows->records[i])->session);
                assert_true(id % 2 == 1 && id < 20 && !seen[id]);
                seen[id] = true;
        }
        read.n_prefix = 0;
        rows = read_rows(f, &read);
        assert_int_equal(rows->n, 20);
        for (size_t i = 0; i < rows->n; i++)
                assert_int_equal(((const Sc__EndedSession *) rows->records[i])->expires_at, i / 10);
}

static void put_intent(Fixture *f, const char *source, uint64_t number, uint32_t shard) {
        Sc__Intent intent = SC__INTENT__INIT;

        intent.source = (char *) source;
        intent.number = number;
        intent.shard = shard;
        assert_int_equal(FOLLOW(f, source, PUT(intent, &intent)), 0);
}

/* Of three fields: with each length of prefix, and a bound behind it. */
static void test_index_of_three_fields(void **state) {
        Fixture *f = *state;
        Sc__Intent from = SC__INTENT__INIT, to = SC__INTENT__INIT;
        StoreRead read = {.info = &sc__intent__info,
                .index = store_index(&sc__intent__info, "intents_by_shard"),
                .from = &from.base,
                .to = &to.base,
                .limit = 100};

        for (unsigned i = 0; i < 24; i++) {
                char source[4];
                snprintf(source, sizeof(source), "s%u", i / 3 % 4);
                put_intent(f, source, i % 3 + 10 * (i / 12), i / 12);
        }
        const StoreRows *rows = read_rows(f, &read);
        assert_int_equal(rows->n, 24);
        for (size_t i = 1; i < rows->n; i++) {
                const Sc__Intent *a = (const Sc__Intent *) rows->records[i - 1],
                                 *b = (const Sc__Intent *) rows->records[i];
                int order =
                        a->shard != b->shard ? (a->shard < b->shard ? -1 : 1) : strcmp(a->source, b->source);
                assert_true(order < 0 || (order == 0 && a->number < b->number));
        }
        from.shard = 0;
        read.after = true;
        assert_int_equal(read_rows(f, &read)->n, 12);
        read.n_prefix = 1;
        from.source = (char *) "s1";
        assert_int_equal(read_rows(f, &read)->n, 6);
        read.before = true;
        to.source = (char *) "s3";
        assert_int_equal(read_rows(f, &read)->n, 3);
        from.shard = 1;
        read.n_prefix = 2;
        from.number = 10;
        to.number = 12;
        rows = read_rows(f, &read);
        assert_int_equal(rows->n, 1);
        assert_int_equal(((const Sc__Intent *) rows->records[0])->number, 11);
        read.before = read.after = false;
        assert_int_equal(read_rows(f, &read)->n, 3);
        read.n_prefix = 3;
        assert_int_equal(read_rows(f, &read)->n, 1);
}

static void test_unique_index(void **state) {
        Fixture *f = *state;
        Sc__Message from = fixture_message("", "b", "3", ""), event = fixture_message("c", "", "", "event");
        StoreRead read = {.info = &sc__message__info,
                .index = store_index(&sc__message__info, "messages_by_client_id"),
                .from = &from.base,
                .n_prefix = 2,
                .limit = 100};

        fill(f);
        assert_int_equal(fixture_append(f, "c", 10, (Sc__Message *[]){&event, &event}, 2).r, 0);
        ASSERT_SEQS(f, &read, false, 4);
        from.sender = (char *) "a";
        assert_int_equal(read_rows(f, &read)->n, 0);
        read.n_prefix = 1;
        ASSERT_SEQS(f, &read, false, 4);
        /* Records that are empty in the first field stand outside the index. */
        from.sender = from.client_msg_id = (char *) "";
        assert_int_equal(read_rows(f, &read)->n, 0);
        read.n_prefix = 0;
        assert_int_equal(read_rows(f, &read)->n, 12);
        read.after = true;
        from.client_msg_id = (char *) "8";
        assert_int_equal(read_rows(f, &read)->n, 3); /* 9, x, y */
        read.after = false;
        read.before = true;
        read.to = &from.base;
        assert_int_equal(read_rows(f, &read)->n, 8); /* 0 … 7 */
}

/* The index follows what is changed and deleted. */
static void test_index_follows(void **state) {
        Fixture *f = *state;
        Sc__Session session = make_session("u", "s", 5);
        StoreRead read = {.info = &sc__session__info,
                .index = store_index(&sc__session__info, "sessions_by_expiry"),
                .from = &session.base,
                .n_prefix = 1,
                .limit = 100};

        assert_int_equal(guard_alone(f, "u", INSERT(session, &session)), 0);
        assert_int_equal(read_rows(f, &read)->n, 1);
        session.expires_at = 6;
        const StoreItem patch = PATCH(session, &session, SET(session, expires_at));
        assert_int_equal(FOLLOW(f, "u", patch), 0);
        assert_int_equal(read_rows(f, &read)->n, 1);
        session.expires_at = 5;
        assert_int_equal(read_rows(f, &read)->n, 0);
        session.expires_at = 6;
        assert_int_equal(FOLLOW(f, "u", DELETE(session, &session)), 0);
        assert_int_equal(read_rows(f, &read)->n, 0);
}

/* One StoreRows a read, in order, of different types and shapes; far more of them than anybody would prepare. */
static void test_many_reads(void **state) {
        Fixture *f = *state;
        enum { N_READS = 400 };
        StoreRead reads[N_READS];
        Sc__Message messages[N_READS];
        Sc__Member members[N_READS];
        char names[N_READS][8];
        const StoreRows *rows = NULL;

        fill(f);
        for (unsigned i = 0; i < N_READS; i++) {
                snprintf(names[i], sizeof(names[i]), "u%u", i);
                members[i] = make_member("c", names[i], i);
                messages[i] = fixture_message("c", "", "", "");
                messages[i].seq = i % 12;
                if (i % 4 == 0)
                        assert_int_equal(guard_alone(f, "c", INSERT(member, &members[i])), 0);
                reads[i] = i % 2 == 0 ? (StoreRead){.info = &sc__member__info,
                                                .from = &members[i].base,
                                                .n_prefix = 2}
                                      : (StoreRead){.info = &sc__message__info,
                                                .from = &messages[i].base,
                                                .n_prefix = 1,
                                                .after = true,
                                                .limit = 1 + i % 3};
        }
        assert_int_equal(try_read(f, reads, N_READS, &rows), 0);
        for (unsigned i = 0; i < N_READS; i++) {
                if (i % 2 == 0) {
                        assert_int_equal(rows[i].n, i % 4 == 0);
                        if (rows[i].n > 0)
                                assert_string_equal(((Sc__Member *) rows[i].records[0])->user, names[i]);
                        continue;
                }
                unsigned after = i % 12, left = after > 10 ? 0 : 10 - after, limit = 1 + i % 3;
                assert_int_equal(rows[i].n, MIN(left, limit));
                assert_int_equal(rows[i].more, left > limit);
                for (size_t k = 0; k < rows[i].n; k++)
                        assert_int_equal(((Sc__Message *) rows[i].records[k])->seq, after + 1 + k);
        }
}

static void test_page_through(void **state) {
        Fixture *f = *state;
        Sc__Member from = make_member("c", "", 0);
        StoreRead read = {
                .info = &sc__member__info, .from = &from.base, .n_prefix = 1, .after = true, .limit = 7};
        unsigned n = 0;

        for (unsigned i = 0; i < 50; i++) {
                char user[8];
                snprintf(user, sizeof(user), "u%02u", i);
                const Sc__Member member = make_member("c", user, i);
                assert_int_equal(guard_alone(f, "c", INSERT(member, &member)), 0);
        }
        for (bool more = true; more;) {
                const StoreRows *rows = read_rows(f, &read);
                for (size_t i = 0; i < rows->n; i++, n++)
                        assert_int_equal(((const Sc__Member *) rows->records[i])->read_seq, n);
                from.user = ((const Sc__Member *) rows->records[rows->n - 1])->user;
                more = rows->more;
        }
        assert_int_equal(n, 50);
}

int conformance_run_reads(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_prefix),
                CONFORMANCE_TEST(test_limit),
                CONFORMANCE_TEST(test_bounds),
                CONFORMANCE_TEST(test_without_prefix),
                CONFORMANCE_TEST(test_max_bytes),
                CONFORMANCE_TEST(test_max_bytes_default),
                CONFORMANCE_TEST(test_order_of_strings),
                CONFORMANCE_TEST(test_order_of_integers),
                CONFORMANCE_TEST(test_index_without_prefix),
                CONFORMANCE_TEST(test_index_with_ties),
                CONFORMANCE_TEST(test_index_of_three_fields),
                CONFORMANCE_TEST(test_unique_index),
                CONFORMANCE_TEST(test_index_follows),
                CONFORMANCE_TEST(test_many_reads),
                CONFORMANCE_TEST(test_page_through),
        };
        return cmocka_run_group_tests_name("reads", tests, NULL, NULL);
}
