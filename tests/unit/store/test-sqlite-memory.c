/* SPDX-License-Identifier: Apache-2.0 */

/* Memory runs out at the first, second, third … allocation: SQLite's, then the store's own. */

#include <sqlite3.h>
#include <stdatomic.h>

#include "log/log.h"
#include "store/store-backend.h"
#include "workload.h"

/* The first calls are the most varied; of those behind, every so many is tried. */
#define FIRST_CALLS 300U
#define STEP 61U
#define MAX_CALLS 1000000U

typedef struct Memory {
        _Atomic bool armed, happened;
        _Atomic unsigned n, fail_at;
} Memory;

static Memory sqlite_memory, own_memory;
static sqlite3_mem_methods real_methods;

static bool memory_fails(Memory *memory) {
        if (!atomic_load(&memory->armed) ||
                atomic_fetch_add(&memory->n, 1) + 1 != atomic_load(&memory->fail_at))
                return false;
        atomic_store(&memory->happened, true);
        return true;
}

static void memory_arm(Memory *memory, unsigned fail_at) {
        atomic_store(&memory->n, 0);
        atomic_store(&memory->fail_at, fail_at);
        atomic_store(&memory->happened, false);
        atomic_store(&memory->armed, true);
}

static void *failing_malloc(int size) {
        return memory_fails(&sqlite_memory) ? NULL : real_methods.xMalloc(size);
}

static void *failing_realloc(void *p, int size) {
        return memory_fails(&sqlite_memory) ? NULL : real_methods.xRealloc(p, size);
}

/* Linked with --wrap: these are the calls of the store's own code and of the tests'. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t size) {
        return memory_fails(&own_memory) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return memory_fails(&own_memory) ? NULL : __real_calloc(n, size);
}

static bool run_with_failure(Memory *memory, unsigned fail_at) {
        Fixture f;
        Workload w = {};

        fixture_new(&f);
        memory_arm(memory, fail_at);
        workload_run(&w, &f, 3);
        atomic_store(&memory->armed, false);
        assert_int_equal(fixture_open(&f, workload_records), 0);
        workload_verify(&w, &f);
        for (unsigned i = 0; i < WORKLOAD_MESSAGES; i++)
                assert_true(w.acknowledged[i] > 0);
        fixture_done(&f);
        return atomic_load(&memory->happened);
}

static void run_until_unharmed(Memory *memory) {
        unsigned n = 1;

        while (run_with_failure(memory, n)) {
                assert_true(n < MAX_CALLS);
                n += n < FIRST_CALLS ? 1 : STEP;
        }
        assert_true(n > WORKLOAD_MESSAGES);
}

static void test_sqlite_memory(void **state) {
        run_until_unharmed(&sqlite_memory);
}

static void test_own_memory(void **state) {
        run_until_unharmed(&own_memory);
}

typedef struct Reading {
        bool done;
        int r;
        size_t n;
} Reading;

static void on_read(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        *(Reading *) userdata = (Reading){.done = true, .r = r, .n = r == 0 ? rows[0].n : 0};
}

static int read_all(Fixture *f) {
        const StoreRead reads[] = {
                {.info = &sc__message__info, .limit = 100},
                {.info = &sc__user__info, .limit = 100},
        };
        Reading reading = {};

        int r = store_read_start(f->store, reads, 2, on_read, &reading);
        if (r < 0)
                return r;
        fixture_wait(f, &reading.done);
        if (reading.r == 0)
                assert_int_equal(reading.n, 2);
        return reading.r;
}

/* On the store's first read, which prepares statements, and on its second. */
static void test_read(void **state) {
        Memory *memories[] = {&sqlite_memory, &own_memory};

        for (unsigned i = 0; i < 2; i++)
                for (unsigned n = 1, happened = true; happened; n++) {
                        Fixture f;
                        fixture_new(&f);
                        assert_int_equal(fixture_open(&f, NULL), 0);
                        assert_int_equal(fixture_append_text(&f, "c", 0, "a", "1", "one").r, 0);
                        assert_int_equal(fixture_append_text(&f, "c", 1, "a", "2", "two").r, 0);
                        memory_arm(memories[i], n);
                        int r = read_all(&f);
                        assert_true(r == 0 || r == -ENOMEM);
                        atomic_store(&memories[i]->armed, false);
                        happened = atomic_load(&memories[i]->happened);
                        assert_int_equal(read_all(&f), 0);
                        fixture_done(&f);
                }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read),
                cmocka_unit_test(test_own_memory),
                cmocka_unit_test(test_sqlite_memory),
        };

        sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_methods);
        sqlite3_mem_methods failing = real_methods;
        failing.xMalloc = failing_malloc;
        failing.xRealloc = failing_realloc;
        sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
        store_register_backend(&store_backend_class);
        if (access("/dev/shm", W_OK) == 0)
                fixture_parent = "/dev/shm"; /* no disk to wait for: thousands of stores are opened */
        log_set_level(LOG_EMERG); /* what fails here is meant to */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
