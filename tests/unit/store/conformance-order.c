/* SPDX-License-Identifier: Apache-2.0 */

/* Many operations at once: neighbours, the order of completion, and what a read sees. */

#include <stdio.h>

#include "conformance-util.h"

#define N_MANY 600U
#define N_PARTITIONS 7U

/* One of many writes. */
typedef struct Submitted {
        struct Many *many;
        unsigned index;
        int expected;
} Submitted;

typedef struct Many {
        Submitted submitted[N_MANY];
        int next[N_PARTITIONS]; /* the index that must complete next is larger than this */
        unsigned n_completed, n_wrong, n_out_of_order;
        bool all;
} Many;

static void completed(Submitted *s, int r) {
        Many *many = s->many;
        int *last = &many->next[s->index % N_PARTITIONS];

        many->n_wrong += r != s->expected;
        many->n_out_of_order += (int) s->index <= *last;
        *last = (int) s->index;
        many->all = ++many->n_completed == N_MANY;
}

static void on_write(int r, const StoreWritten *written, void *userdata) {
        completed(userdata, r);
}

static void on_append(int r, const StoreAppended *appended, void *userdata) {
        completed(userdata, r);
}

static Many *many_new(void) {
        Many *many = calloc(1, sizeof(Many));

        for (unsigned i = 0; i < N_MANY; i++)
                many->submitted[i] = (Submitted){.many = many, .index = i};
        for (unsigned i = 0; i < N_PARTITIONS; i++)
                many->next[i] = -1;
        return many;
}

static void submit(Fixture *f, Submitted *s, const char *partition, StoreItem guard, int expected) {
        s->expected = expected;
        assert_int_equal(store_write_start(f->store, &(StoreWrite){.partition = partition, .guard = guard},
                                 on_write, s),
                0);
}

static void submit_append(Fixture *f, Submitted *s, const char *conversation, uint64_t after_seq,
        const char *id, int expected) {
        Sc__Message message = fixture_message(conversation, "a", id, "text"), *entries[] = {&message};

        s->expected = expected;
        assert_int_equal(store_append_start(f->store,
                                 &(StoreAppend){.conversation = conversation,
                                         .after_seq = after_seq,
                                         .entries = entries,
                                         .n = 1},
                                 on_append, s),
                0);
}

/* Refused writes of every kind among good ones of other partitions, all submitted before any completes. */
static void test_refused_neighbours(void **state) {
        Fixture *f = *state;
        Many *many = many_new();
        Sc__User there = make_user("there", "taken"), stale = there;
        char id[16];

        assert_int_equal(guard_alone(f, "there", INSERT(user, &there)), 0);
        assert_int_equal(fixture_append_text(f, "log", 0, "a", "taken", "x").r, 0);
        stale.version = 1;
        for (unsigned i = 0; i < N_MANY; i++) {
                Submitted *s = &many->submitted[i];
                snprintf(id, sizeof(id), "new-%u", i);
                Sc__User new = make_user(id, id), same_name = make_user(id, "taken");
                switch (i % 12) {
                case 0:
                        submit(f, s, id, INSERT(user, &same_name), -EEXIST);
                        break;
                case 2:
                        submit(f, s, "there", INSERT(user, &there), -EEXIST);
                        break;
                case 4:
                        submit(f, s, id, DELETE(user, &new), -ENOENT);
                        break;
                case 6:
                        submit(f, s, "there", DELETE(user, &stale), -ESTALE);
                        break;
                case 8:
                        submit_append(f, s, id, 3, id, -ESTALE);
                        break;
                case 10:
                        submit_append(f, s, id, 0, id, 0);
                        break;
                default:
                        submit(f, s, id, INSERT(user, &new), 0);
                }
        }
        fixture_wait(f, &many->all);
        assert_int_equal(many->n_wrong, 0);
        for (unsigned i = 0; i < N_MANY; i++) {
                snprintf(id, sizeof(id), "new-%u", i);
                const Sc__User key = make_user(id, "");
                assert_true((GET(f, user, &key) != NULL) == (i % 2 == 1));
                assert_int_equal(fixture_count_messages(f, id), i % 12 == 10);
        }
        assert_non_null(GET(f, user, &there));
        free(many);
}

/* A write with followers whose guard is refused, between writes of the same records. */
static void test_refused_between(void **state) {
        Fixture *f = *state;
        Many *many = many_new();
        const Sc__InboxEntry there = make_inbox_entry("c", "there");
        Sc__Member member = make_member("c", "u", 1);
        const StoreItem increment = PATCH(member, &member, INCREMENT(member, read_seq));

        assert_int_equal(guard_alone(f, "c", INSERT(inbox_entry, &there)), 0);
        assert_int_equal(guard_alone(f, "c", INSERT(member, &member)), 0);
        for (unsigned i = 0; i < N_MANY; i++) {
                Submitted *s = &many->submitted[i];
                const StoreItem patch = PATCH(inbox_entry, &there, SET(inbox_entry, added_at));
                bool refused = i % 3 == 1;
                s->expected = refused ? -EEXIST : 0;
                const StoreWrite write = {.partition = "c",
                        .guard = refused ? INSERT(inbox_entry, &there) : patch,
                        .followers = &increment,
                        .n_followers = 1};
                assert_int_equal(store_write_start(f->store, &write, on_write, s), 0);
        }
        fixture_wait(f, &many->all);
        assert_int_equal(many->n_wrong, 0);
        const Sc__Member *found = GET(f, member, &member);
        assert_int_equal(found->read_seq, 1 + N_MANY - N_MANY / 3);
        free(many);
}

static void on_overflow(int r, const StoreWritten *written, void *userdata) {
        *(int *) userdata = r;
}

/* Neither does one that the engine cannot carry out: a sum that is no 64-bit integer. What becomes of that write
 * itself is not promised, but if it fails nothing of it is done. */
static void test_failed_neighbour(void **state) {
        Fixture *f = *state;
        Sc__ConversationHead head = make_head("c", 1);
        const Sc__InboxEntry follower = make_inbox_entry("c", "x");
        int overflow = 1;
        char user[16];

        head.last_at = INT64_MAX;
        assert_int_equal(guard_alone(f, "c", INSERT(conversation_head, &head)), 0);
        Buffer before = dump(f);
        for (unsigned i = 0; i < 100; i++) {
                snprintf(user, sizeof(user), "u%u", i);
                const Sc__Member member = make_member(i % 2 > 0 ? "c" : user, user, i);
                const StoreWrite good = {.partition = member.conversation, .guard = INSERT(member, &member)};
                const StoreItem increment =
                        PATCH(conversation_head, &head, INCREMENT(conversation_head, last_at));
                const StoreWrite bad = {.partition = "c",
                        .guard = increment,
                        .followers = &PUT(inbox_entry, &follower),
                        .n_followers = 1};
                if (i == 50)
                        assert_int_equal(store_write_start(f->store, &bad, on_overflow, &overflow), 0);
                assert_int_equal(store_write_start(f->store, &good, fixture_count_write, f), 0);
        }
        fixture_wait_completed(f, 100);
        assert_int_equal(f->n_failed, 0);
        assert_true(overflow <= 0);
        for (unsigned i = 0; i < 100; i++) {
                snprintf(user, sizeof(user), "u%u", i);
                const Sc__Member member = make_member(i % 2 > 0 ? "c" : user, user, i);
                assert_int_equal(guard_alone(f, member.conversation, DELETE(member, &member)), 0);
        }
        if (overflow < 0)
                assert_unchanged(f, &before);
        else
                buffer_done(&before);
}

/* Writes and appends of a few partitions: each partition's complete in the order of their submission, and are
 * carried out in it. */
static void test_order(void **state) {
        Fixture *f = *state;
        Many *many = many_new();
        char id[16], partition[16];

        for (unsigned i = 0; i < N_MANY; i++) {
                Submitted *s = &many->submitted[i];
                snprintf(id, sizeof(id), "%u", i);
                snprintf(partition, sizeof(partition), "c%u", i % N_PARTITIONS);
                Sc__Member member = make_member(partition, "u", i);
                const StoreItem set = PATCH(member, &member, SET(member, read_seq));
                if (i < N_PARTITIONS)
                        submit(f, s, partition, INSERT(member, &member), 0);
                else if (i / N_PARTITIONS == 5) /* one may be outstanding */
                        submit_append(f, s, partition, 0, id, 0);
                else if (i / N_PARTITIONS % 2 == 0)
                        submit(f, s, partition, set, 0);
                else
                        submit(f, s, partition, INSERT(member, &member), -EEXIST);
        }
        fixture_wait(f, &many->all);
        assert_int_equal(many->n_wrong, 0);
        assert_int_equal(many->n_out_of_order, 0);
        for (unsigned i = 0; i < N_PARTITIONS; i++) {
                snprintf(partition, sizeof(partition), "c%u", i);
                const Sc__Member key = make_member(partition, "u", 0);
                const Sc__Member *found = GET(f, member, &key);
                /* The last one that set it. */
                unsigned row = (N_MANY - 1 - i) / N_PARTITIONS / 2 * 2;
                assert_int_equal(found->read_seq, row * N_PARTITIONS + i);
                assert_int_equal(fixture_count_messages(f, partition), 1);
        }
        free(many);
}

/* --- what a read sees --- */

typedef struct ReadBack {
        Fixture *f;
        unsigned n_left;
        bool done;
} ReadBack;

static void write_next(ReadBack *b);

static void on_read_back(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        ReadBack *b = userdata;

        assert_int_equal(r, 0);
        assert_int_equal(n, 2);
        assert_int_equal(rows[0].n, 1);
        assert_int_equal(rows[1].n, 1);
        b->done = --b->n_left == 0;
        if (!b->done)
                write_next(b);
}

static void on_written(int r, const StoreWritten *written, void *userdata) {
        ReadBack *b = userdata;
        char id[8];

        assert_int_equal(r, 0);
        snprintf(id, sizeof(id), "%u", b->n_left);
        const Sc__User key = make_user(id, id);
        const StoreRead reads[] = {
                {.info = &sc__user__info, .from = &key.base, .n_prefix = 1},
                {.info = &sc__user__info,
                        .index = store_index(&sc__user__info, "users_by_username"),
                        .from = &key.base,
                        .n_prefix = 1},
        };
        assert_int_equal(store_read_start(b->f->store, reads, 2, on_read_back, b), 0);
}

static void write_next(ReadBack *b) {
        char id[8];

        snprintf(id, sizeof(id), "%u", b->n_left);
        const Sc__User user = make_user(id, id);
        const StoreWrite write = {.partition = id, .guard = INSERT(user, &user)};
        assert_int_equal(store_write_start(b->f->store, &write, on_written, b), 0);
}

/* A read that is submitted after a write completed, from its completion, sees it. */
static void test_read_your_writes(void **state) {
        ReadBack b = {.f = *state, .n_left = 100};

        write_next(&b);
        fixture_wait(b.f, &b.done);
}

#define N_TOGETHER 8U

/* While one write after the other sets all of some members to the same number. */
typedef struct Together {
        Fixture *f;
        unsigned n_writes, n_reads, n_torn;
        bool all;
} Together;

static void write_together(Together *t);

static void on_together(int r, const StoreWritten *written, void *userdata) {
        Together *t = userdata;

        assert_int_equal(r, 0);
        t->all = ++t->n_writes == 200;
        if (!t->all)
                write_together(t);
}

static void write_together(Together *t) {
        Sc__Member members[N_TOGETHER];
        StoreItem items[N_TOGETHER];
        char users[N_TOGETHER][4];
        const StoreChange set = SET(member, read_seq);

        for (unsigned i = 0; i < N_TOGETHER; i++) {
                snprintf(users[i], sizeof(users[i]), "%u", i);
                members[i] = make_member("c", users[i], t->n_writes + 1);
                items[i] = ITEM(STORE_PATCH, member, &members[i], .changes = &set, .n_changes = 1);
        }
        const StoreWrite write = {
                .partition = "c", .guard = items[0], .followers = items + 1, .n_followers = N_TOGETHER - 1};
        assert_int_equal(store_write_start(t->f->store, &write, on_together, t), 0);
}

static void read_together(Together *t);

static void on_read_together(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        Together *t = userdata;

        if (r == -ECANCELED) /* the last one, when the store is closed before it has begun */
                return;
        assert_int_equal(r, 0);
        for (size_t k = 0; k < n; k++) {
                const Sc__Member **members = (const Sc__Member **) rows[k].records;
                assert_int_equal(rows[k].n, N_TOGETHER);
                for (unsigned i = 1; i < N_TOGETHER; i++)
                        t->n_torn += members[i]->read_seq != members[0]->read_seq;
        }
        t->n_reads++;
        if (!t->all)
                read_together(t);
}

static void read_together(Together *t) {
        const Sc__Member from = make_member("c", "", 0);
        const StoreRead read = {.info = &sc__member__info, .from = &from.base, .n_prefix = 1, .limit = 100};
        const StoreRead reads[] = {read, read, read};

        assert_int_equal(store_read_start(t->f->store, reads, 3, on_read_together, t), 0);
}

/* Each read sees all of a write, or nothing of it. */
static void test_read_is_consistent(void **state) {
        Together t = {.f = *state};

        for (unsigned i = 0; i < N_TOGETHER; i++) {
                char user[4];
                snprintf(user, sizeof(user), "%u", i);
                const Sc__Member member = make_member("c", user, 0);
                assert_int_equal(guard_alone(t.f, "c", INSERT(member, &member)), 0);
        }
        write_together(&t);
        read_together(&t);
        fixture_wait(t.f, &t.all);
        fixture_close(t.f);
        assert_true(t.n_reads > 0);
        assert_int_equal(t.n_torn, 0);
}

/* --- limits and figures --- */

static void count_read(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        ((Fixture *) userdata)->n_completed++;
}

/* Completions come on the loop only, so the queue fills up; reads and writes count together. */
static void test_queue_limit(void **state) {
        Fixture *f = *state;
        unsigned limit = fixture_config(f).max_queued;
        const Sc__User user = make_user("u", "u");
        const StoreWrite write = {.partition = "u", .guard = DELETE(user, &user)};
        const StoreRead read = {.info = &sc__user__info, .from = &user.base, .n_prefix = 1};

        for (unsigned i = 0; i < limit; i++)
                if (i % 3 == 0)
                        assert_int_equal(store_read_start(f->store, &read, 1, count_read, f), 0);
                else
                        assert_int_equal(store_write_start(f->store, &write, fixture_count_write, f), 0);
        assert_int_equal(store_write_start(f->store, &write, fixture_count_write, f), -EBUSY);
        assert_int_equal(store_read_start(f->store, &read, 1, count_read, f), -EBUSY);
        fixture_wait_completed(f, limit);
        assert_int_equal(guard_alone(f, "u", DELETE(user, &user)), -ENOENT);
        assert_int_equal(f->n_completed, limit);
}

static void test_statistics(void **state) {
        Fixture *f = *state;
        const Sc__User user = make_user("u", "u");
        StoreStatistics s;

        assert_int_equal(guard_alone(f, "u", INSERT(user, &user)), 0);
        assert_int_equal(guard_alone(f, "u", INSERT(user, &user)), -EEXIST);
        assert_int_equal(fixture_append_text(f, "c", 0, "a", "1", "one").r, 0);
        assert_non_null(GET(f, user, &user));
        store_get_statistics(f->store, &s);
        assert_int_equal(s.writes, 3);
        assert_int_equal(s.reads, 1);
        assert_int_equal(s.queued, 0);
        assert_true(s.commits >= 2 && s.commit_usec_max >= s.commit_usec_last);
        assert_true(store_is_alive(f->store, 60 * 1000000ULL));
        assert_true(store_is_connected(f->store));
}

int conformance_run_order(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_refused_neighbours),
                CONFORMANCE_TEST(test_refused_between),
                CONFORMANCE_TEST(test_failed_neighbour),
                CONFORMANCE_TEST(test_order),
                CONFORMANCE_TEST(test_read_your_writes),
                CONFORMANCE_TEST(test_read_is_consistent),
                CONFORMANCE_TEST(test_queue_limit),
                CONFORMANCE_TEST(test_statistics),
        };
        return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
