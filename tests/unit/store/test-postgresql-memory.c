/* SPDX-License-Identifier: Apache-2.0 */

/* Memory runs out at the first, second, third … allocation of the store's own code, the back end for PostgreSQL
 * included. What libpq does then is libpq's. */

#include "log/log.h"
#include "postgresql-server.h"
#include "store/store-backend.h"
#include "workload.h"

/* The first calls are the most varied; of those behind, every so many is tried. */
#define FIRST_CALLS 60U
#define STEP 23U
#define MAX_CALLS 100000U

static bool armed, happened;
static unsigned n_calls, fail_at;

static bool memory_fails(void) {
        if (!armed || ++n_calls != fail_at)
                return false;
        happened = true;
        return true;
}

/* Linked with --wrap. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size) {
        return memory_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return memory_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size) {
        return memory_fails() ? NULL : __real_realloc(p, size);
}

static void arm(unsigned n) {
        n_calls = 0;
        fail_at = n;
        happened = false;
        armed = true;
}

static bool run_with_failure(unsigned n) {
        Fixture f;
        Workload w = {};

        fixture_new(&f);
        arm(n);
        workload_run(&w, &f, 3);
        armed = false;
        assert_int_equal(fixture_open(&f, workload_records), 0);
        workload_verify(&w, &f);
        for (unsigned i = 0; i < WORKLOAD_MESSAGES; i++)
                assert_true(w.acknowledged[i] > 0);
        fixture_done(&f);
        return happened;
}

static void test_writes(void **state) {
        unsigned n = 1;

        while (run_with_failure(n)) {
                assert_true(n < MAX_CALLS);
                n += n < FIRST_CALLS ? 1 : STEP;
        }
        assert_true(n > FIRST_CALLS);
}

typedef struct Reading {
        bool done;
        int r;
        size_t n[3];
} Reading;

static void on_read(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        Reading *reading = userdata;

        reading->done = true;
        reading->r = r;
        for (size_t i = 0; r == 0 && i < n; i++)
                reading->n[i] = rows[i].n;
}

/* Two of these are one statement. */
static int read_all(Fixture *f) {
        Sc__Message c = fixture_message("c", "", "", ""), d = fixture_message("d", "", "", "");
        const StoreRead reads[] = {
                {.info = &sc__message__info, .from = &c.base, .n_prefix = 1, .limit = 100},
                {.info = &sc__user__info, .limit = 100},
                {.info = &sc__message__info, .from = &d.base, .n_prefix = 1, .limit = 100},
        };
        Reading reading = {};

        int r = store_read_start(f->store, reads, 3, on_read, &reading);
        if (r < 0)
                return r;
        fixture_wait(f, &reading.done);
        if (reading.r == 0) {
                assert_int_equal(reading.n[0], 2);
                assert_int_equal(reading.n[1], 0);
                assert_int_equal(reading.n[2], 1);
        }
        return reading.r;
}

/* On the store's first read, which prepares statements, and on its second. */
static void test_reads(void **state) {
        Fixture f;

        fixture_new(&f);
        assert_int_equal(fixture_open(&f, NULL), 0);
        assert_int_equal(fixture_append_text(&f, "c", 0, "a", "1", "one").r, 0);
        assert_int_equal(fixture_append_text(&f, "c", 1, "a", "2", "two").r, 0);
        assert_int_equal(fixture_append_text(&f, "d", 0, "a", "3", "three").r, 0);
        fixture_close(&f);
        happened = true;
        for (unsigned n = 1; happened; n++) {
                assert_int_equal(fixture_open(&f, NULL), 0);
                arm(n);
                int r = read_all(&f);
                assert_true(r == 0 || r == -ENOMEM);
                armed = false;
                assert_int_equal(read_all(&f), 0);
                fixture_close(&f);
        }
        fixture_done(&f);
}

static int run(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reads),
                cmocka_unit_test(test_writes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
        fixture_config = postgresql_config;
        store_register_backend(&store_backend_class);
        log_set_level(LOG_EMERG); /* what fails here is meant to */
        return postgresql_run(run);
}
