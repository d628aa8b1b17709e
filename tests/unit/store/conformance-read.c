/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "conformance.h"
#include "fixture.h"
#include "util/macro.h"

static const IndexInfo *find_index(const MessageInfo *info, const char *name) {
        FOREACH_ARRAY(index, info->record->indexes, info->record->n_indexes)
                if (strcmp(index->name, name) == 0)
                        return index;
        fail_msg("no index %s", name);
        return NULL;
}

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
        _cleanup_rows_ Rows rows = {};

        assert_int_equal(fixture_read(f, read, 1, &rows), 0);
        assert_int_equal(rows.n, n);
        assert_int_equal(rows.more, more);
        for (size_t i = 0; i < n; i++) {
                const Sc__Message *message = (const Sc__Message *) rows.records[i];
                assert_string_equal(message->conversation, "c");
                assert_int_equal(message->seq, seqs[i]);
        }
}
#define ASSERT_SEQS(f, read, more, ...)                                                                     \
        assert_seqs(f, read, (const uint64_t[]){__VA_ARGS__},                                               \
                sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), more)

static void test_prefix_and_bounds(void **state) {
        Fixture *f = *state;
        Sc__Message from = SC__MESSAGE__INIT, to = SC__MESSAGE__INIT;
        StoreRead read = {.info = &sc__message__info, .from = &from.base, .n_prefix = 1, .limit = 100};

        fill(f);
        from.conversation = (char *) "c";
        ASSERT_SEQS(f, &read, false, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
        read.limit = 10;
        ASSERT_SEQS(f, &read, false, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
        read.limit = 3;
        ASSERT_SEQS(f, &read, true, 1, 2, 3);
        read.limit = 0; /* means 1 */
        ASSERT_SEQS(f, &read, true, 1);
        read.limit = 3;
        read.after = true;
        from.seq = 8;
        ASSERT_SEQS(f, &read, false, 9, 10);
        from.seq = 4;
        read.before = true;
        read.to = &to.base;
        to.seq = 7;
        ASSERT_SEQS(f, &read, false, 5, 6);
        read.after = false;
        read.descending = true;
        ASSERT_SEQS(f, &read, true, 6, 5, 4);
        read.before = false;
        ASSERT_SEQS(f, &read, true, 10, 9, 8);
        read.n_prefix = 2;
        from.seq = 7;
        ASSERT_SEQS(f, &read, false, 7);
}

static void test_exclude_and_count(void **state) {
        Fixture *f = *state;
        Sc__Message from = SC__MESSAGE__INIT;
        StoreRead read = {.info = &sc__message__info,
                .from = &from.base,
                .n_prefix = 1,
                .limit = 100,
                .exclude_field = "sender"};
        _cleanup_rows_ Rows rows = {};

        fill(f);
        from.conversation = (char *) "c";
        from.sender = (char *) "a";
        ASSERT_SEQS(f, &read, false, 2, 4, 6, 8, 10);
        read.limit = 2;
        ASSERT_SEQS(f, &read, true, 2, 4);
        read.count_only = true;
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_true(rows.n == 2 && rows.more && !rows.records);
        read.limit = 5;
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_true(rows.n == 5 && !rows.more);
        read.exclude_field = NULL;
        read.after = true;
        from.seq = 3;
        read.limit = 100;
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_true(rows.n == 7 && !rows.more);
}

static void test_max_bytes(void **state) {
        Fixture *f = *state;
        Sc__Message from = SC__MESSAGE__INIT;
        StoreRead read = {.info = &sc__message__info, .from = &from.base, .n_prefix = 1, .limit = 100};
        static char text[10001];

        memset(text, 'x', sizeof(text) - 1);
        for (unsigned i = 0; i < 5; i++) {
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                assert_int_equal(fixture_append_text(f, "c", i, "a", id, text).r, 0);
        }
        from.conversation = (char *) "c";
        read.max_bytes = 1; /* one comes always */
        ASSERT_SEQS(f, &read, true, 1);
        read.max_bytes = 25000;
        ASSERT_SEQS(f, &read, true, 1, 2);
        read.descending = true;
        ASSERT_SEQS(f, &read, true, 5, 4);
        read.max_bytes = 0;
        ASSERT_SEQS(f, &read, false, 5, 4, 3, 2, 1);
}

static void insert_member(Fixture *f, const char *conversation, const char *user) {
        Sc__Member member = SC__MEMBER__INIT;

        member.conversation = (char *) conversation;
        member.user = (char *) user;
        assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__member__info, &member), 0);
}

static void test_index(void **state) {
        Fixture *f = *state;
        Sc__Member from = SC__MEMBER__INIT;
        StoreRead read = {.info = &sc__member__info,
                .index = find_index(&sc__member__info, "members_by_user"),
                .from = &from.base,
                .n_prefix = 1,
                .limit = 10};
        _cleanup_rows_ Rows rows = {}, after = {}, none = {};

        insert_member(f, "c3", "u");
        insert_member(f, "c1", "u");
        insert_member(f, "c1", "v");
        insert_member(f, "c2", "u");
        from.user = (char *) "u";
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_int_equal(rows.n, 3);
        assert_string_equal(((Sc__Member *) rows.records[0])->conversation, "c1");
        assert_string_equal(((Sc__Member *) rows.records[2])->conversation, "c3");
        read.after = true; /* a string bound */
        from.conversation = (char *) "c2";
        assert_int_equal(fixture_read(f, &read, 1, &after), 0);
        assert_int_equal(after.n, 1);
        assert_string_equal(((Sc__Member *) after.records[0])->conversation, "c3");
        from.user = (char *) "nobody";
        assert_int_equal(fixture_read(f, &read, 1, &none), 0);
        assert_int_equal(none.n, 0);
}

/* Sessions that have expired, the way a job looks for them: no prefix, only a bound. */
static void test_index_without_prefix(void **state) {
        Fixture *f = *state;
        Sc__Session session = SC__SESSION__INIT, to = SC__SESSION__INIT;
        const StoreRead read = {.info = &sc__session__info,
                .index = find_index(&sc__session__info, "sessions_by_expiry"),
                .before = true,
                .to = &to.base,
                .limit = 10};
        _cleanup_rows_ Rows rows = {};

        for (int64_t i = 9; i > 0; i--) {
                char id[8];
                snprintf(id, sizeof(id), "%d", (int) i);
                session.id = id;
                session.expires_at = i;
                assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__session__info, &session), 0);
        }
        to.expires_at = 4;
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_int_equal(rows.n, 3);
        for (int64_t i = 0; i < 3; i++)
                assert_int_equal(((Sc__Session *) rows.records[i])->expires_at, i + 1);
}

static void test_unique_index(void **state) {
        Fixture *f = *state;
        const IndexInfo *index = find_index(&sc__message__info, "messages_by_client_id");
        Sc__Message from = SC__MESSAGE__INIT, event = fixture_message("c", "", "", "event");
        const StoreRead read = {
                .info = &sc__message__info, .index = index, .from = &from.base, .n_prefix = 2, .limit = 10};
        _cleanup_rows_ Rows rows = {}, none = {};

        fill(f);
        assert_int_equal(fixture_append(f, "c", 10, (Sc__Message *[]){&event, &event}, 2).r, 0);
        from.sender = (char *) "b";
        from.client_msg_id = (char *) "3";
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_int_equal(rows.n, 1);
        assert_int_equal(((Sc__Message *) rows.records[0])->seq, 4);
        /* Empty ids stand outside the index. */
        from.sender = from.client_msg_id = (char *) "";
        assert_int_equal(fixture_read(f, &read, 1, &none), 0);
        assert_int_equal(none.n, 0);
}

static void test_bad_reads(void **state) {
        Fixture *f = *state;
        Sc__Message from = SC__MESSAGE__INIT;
        const StoreRead good = {.info = &sc__message__info, .from = &from.base, .n_prefix = 1};
        StoreRead bad[6];

        for (unsigned i = 0; i < ELEMENTSOF(bad); i++)
                bad[i] = good;
        bad[0].n_prefix = 3;
        bad[1].n_prefix = 2;
        bad[1].after = true;
        bad[2].before = true; /* without `to` */
        bad[3].exclude_field = "no such field";
        bad[4].from = NULL;
        bad[5].from = NULL;
        bad[5].n_prefix = 0;
        bad[5].after = true;
        for (unsigned i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(store_read(f->store, &bad[i], 1, NULL, NULL), -EINVAL);
        assert_int_equal(store_read(f->store, bad, 0, NULL, NULL), -EINVAL);
}

#define SNAPSHOT_READS 40U

typedef struct Snapshot {
        Fixture *f;
        unsigned n_writes, n_changed;
        bool all;
} Snapshot;

static void write_pair(Snapshot *s);

static void on_pair(int r, size_t failed, void *userdata) {
        Snapshot *s = userdata;

        assert_int_equal(r, 0);
        s->all = ++s->n_writes == 300;
        if (!s->all)
                write_pair(s);
}

static void write_pair(Snapshot *s) {
        Sc__User user = SC__USER__INIT;
        Sc__Session session = SC__SESSION__INIT;
        char id[8];

        snprintf(id, sizeof(id), "%u", s->n_writes);
        user.id = user.username = session.id = id;
        const StoreWrite writes[] = {
                {STORE_INSERT, &sc__user__info, &user.base},
                {STORE_INSERT, &sc__session__info, &session.base},
        };
        assert_int_equal(store_write(s->f->store, writes, 2, on_pair, s), 0);
}

static void read_snapshot(Snapshot *s);

static void on_snapshot(int r, const StoreRows *rows, size_t n, void *userdata) {
        Snapshot *s = userdata;

        if (s->all && r == -ECANCELED) /* the last one, when the store is closed before it has begun */
                return;
        assert_int_equal(r, 0);
        assert_int_equal(n, SNAPSHOT_READS);
        for (size_t i = 1; i < n; i++)
                s->n_changed += rows[i].n != rows[0].n;
        s->f->n_completed++;
        if (!s->all)
                read_snapshot(s);
}

static void read_snapshot(Snapshot *s) {
        StoreRead reads[SNAPSHOT_READS];

        for (unsigned i = 0; i < SNAPSHOT_READS; i++)
                reads[i] = (StoreRead){.info = i % 2 > 0 ? &sc__user__info : &sc__session__info,
                        .limit = 1000,
                        .count_only = true};
        assert_int_equal(store_read(s->f->store, reads, SNAPSHOT_READS, on_snapshot, s), 0);
}

/* Each write inserts a user and a session: all reads of one operation see as many of the one as of the
 * other, while writes go on. */
static void test_snapshot(void **state) {
        Snapshot s = {.f = *state};

        write_pair(&s);
        read_snapshot(&s);
        fixture_wait(s.f, &s.all);
        fixture_close(s.f);
        assert_true(s.f->n_completed > 10);
        assert_int_equal(s.n_changed, 0);
}

typedef struct ReadBack {
        Fixture *f;
        unsigned n_left;
        bool done;
} ReadBack;

static void on_written(int r, size_t failed, void *userdata);

static void write_next(ReadBack *b) {
        Sc__User user = SC__USER__INIT;
        char id[8];

        snprintf(id, sizeof(id), "%u", b->n_left);
        user.id = user.username = id;
        assert_int_equal(store_write(b->f->store, &(StoreWrite){STORE_INSERT, &sc__user__info, &user.base},
                                 1, on_written, b),
                0);
}

static void on_read_back(int r, const StoreRows *rows, size_t n, void *userdata) {
        ReadBack *b = userdata;

        assert_int_equal(r, 0);
        assert_int_equal(rows[0].n, 1);
        b->done = --b->n_left == 0;
        if (!b->done)
                write_next(b);
}

static void on_written(int r, size_t failed, void *userdata) {
        ReadBack *b = userdata;
        Sc__User key = SC__USER__INIT;
        char id[8];

        assert_int_equal(r, 0);
        snprintf(id, sizeof(id), "%u", b->n_left);
        key.id = id;
        assert_int_equal(store_get(b->f->store, &sc__user__info, &key.base, on_read_back, b), 0);
}

/* A read that is submitted after a write completed sees it, whichever thread serves it. */
static void test_read_your_writes(void **state) {
        ReadBack b = {.f = *state, .n_left = 100};

        write_next(&b);
        fixture_wait(b.f, &b.done);
}

static void on_cancelled(int r, const StoreRows *rows, size_t n, void *userdata) {
        Fixture *f = userdata;

        assert_true(r == 0 || r == -ECANCELED);
        assert_int_equal(n, r == 0 ? 1 : 0);
        f->n_completed++;
}

static void test_close_with_reads(void **state) {
        Fixture *f = *state;
        const StoreRead read = {.info = &sc__message__info, .limit = 100};

        fill(f);
        for (unsigned i = 0; i < 500; i++)
                assert_int_equal(store_read(f->store, &read, 1, on_cancelled, f), 0);
        fixture_close(f);
        assert_int_equal(f->n_completed, 500);
}

static void test_check(void **state) {
        Fixture *f = *state;

        fill(f);
        Checked checked = fixture_check(f);
        assert_int_equal(checked.r, 0);
        assert_int_equal(checked.n_findings, 0);
        assert_true(checked.pages > 0);
}

/* A message in the middle of a conversation goes missing. */
static void test_check_gap(void **state) {
        Fixture *f = *state;
        Sc__Message key = SC__MESSAGE__INIT;

        fill(f);
        key.conversation = (char *) "c";
        key.seq = 5;
        assert_int_equal(fixture_write_one(f, STORE_DELETE, &sc__message__info, &key), 0);
        Checked checked = fixture_check(f);
        assert_int_equal(checked.r, 0);
        assert_int_equal(checked.n_findings, 1);
        assert_non_null(strstr(checked.first, "conversation c "));
}

/* No more than a hundred findings, however much is wrong. */
static void test_check_many(void **state) {
        Fixture *f = *state;
        Sc__Message message = fixture_message("", "", "", "x");

        message.seq = 2;
        for (unsigned i = 0; i < 150; i++) {
                char name[8];
                snprintf(name, sizeof(name), "%u", i);
                message.conversation = name;
                assert_int_equal(fixture_write_one(f, STORE_INSERT, &sc__message__info, &message), 0);
        }
        assert_int_equal(fixture_check(f).n_findings, 100);
}

int conformance_run_reads(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_prefix_and_bounds, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_exclude_and_count, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_max_bytes, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_index, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_index_without_prefix, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_unique_index, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_bad_reads, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_snapshot, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_read_your_writes, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_close_with_reads, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_check, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_check_gap, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_check_many, fixture_setup, fixture_teardown),
        };
        return cmocka_run_group_tests_name("reads", tests, NULL, NULL);
}
