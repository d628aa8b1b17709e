/* SPDX-License-Identifier: Apache-2.0 */

/* bench-fiber: what a fiber costs: a switch there and back, a start that ends at once, one that waits once,
 * and the memory of many that wait. */

#include <stdio.h>
#include <unistd.h>

#include "fiber/fiber.h"
#include "util/time-util.h"

#define N_SWITCHES 20000000U
#define N_STARTS 5000000U
#define N_WAITING 10000U

static const FiberPoolConfig config = {.max_fibers = N_WAITING, .max_queued = 1, .max_queued_per_key = 1};

static uint64_t begin;

static void report(const char *what, unsigned n) {
        printf("  %-44s %7.1f ns\n", what, (double) (now_usec(CLOCK_PROCESS_CPUTIME_ID) - begin) * 1000 / n);
}

static FiberQueue queue;
static unsigned n_rounds;

static void wait_in_turn(void *userdata) {
        while (n_rounds > 0) {
                n_rounds--;
                (void) fiber_queue_wait(&queue, UINT64_MAX);
        }
}

static void do_nothing(void *userdata) {
}

static void wait_once(void *userdata) {
        (void) fiber_queue_wait(&queue, UINT64_MAX);
}

static size_t resident_kib(void) {
        long pages = 0;
        FILE *file = fopen("/proc/self/statm", "re");

        if (!file || fscanf(file, "%*d %ld", &pages) != 1)
                pages = 0;
        if (file)
                fclose(file);
        return (size_t) pages * (size_t) sysconf(_SC_PAGESIZE) / 1024;
}

static void start(FiberPool *pool, void (*run)(void *userdata)) {
        const FiberStart fiber = {.main = run, .key = "user"};

        assert_se(fiber_start(pool, &fiber, NULL) >= 0);
}

int main(void) {
        FiberPool *pool;
        sd_event *event;

        assert_se(sd_event_new(&event) >= 0 && fiber_pool_new(&pool, event, &config) >= 0);

        n_rounds = N_SWITCHES;
        begin = now_usec(CLOCK_PROCESS_CPUTIME_ID);
        start(pool, wait_in_turn);
        while (n_rounds > 0)
                fiber_queue_wake(&queue);
        report("a wait: switch to the loop and back", N_SWITCHES);
        fiber_queue_wake(&queue);

        begin = now_usec(CLOCK_PROCESS_CPUTIME_ID);
        for (unsigned i = 0; i < N_STARTS; i++)
                start(pool, do_nothing);
        report("a fiber that does nothing", N_STARTS);

        begin = now_usec(CLOCK_PROCESS_CPUTIME_ID);
        for (unsigned i = 0; i < N_STARTS; i++) {
                start(pool, wait_once);
                fiber_queue_wake(&queue);
        }
        report("a fiber that waits once", N_STARTS);

        size_t before = resident_kib();
        begin = now_usec(CLOCK_PROCESS_CPUTIME_ID);
        for (unsigned i = 0; i < N_WAITING; i++)
                start(pool, wait_once);
        report("a fiber on a stack that is mapped for it", N_WAITING);
        printf("  %-44s %7.1f KiB\n", "memory of one that waits",
                (double) (resident_kib() - before) / N_WAITING);
        fiber_queue_wake(&queue);

        fiber_pool_free(pool);
        sd_event_unref(event);
        return 0;
}
