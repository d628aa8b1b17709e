/* SPDX-License-Identifier: Apache-2.0 */

/* Who gets a stack and when, what happens when there are none, and what a stack that is too small does. */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fiber/fiber.h"
#include "util/time-util.h"

#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif

/* --- the n-th allocation fails --- */

static unsigned n_allocations, fail_at; /* 0: never */

static bool fails(void) {
        return fail_at > 0 && ++n_allocations == fail_at;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int __real_mprotect(void *address, size_t size, int protection);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_mprotect(void *address, size_t size, int protection);

void *__wrap_malloc(size_t size) {
        return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
        if (!fails())
                return __real_mmap64(address, size, protection, flags, fd, offset);
        errno = ENOMEM;
        return MAP_FAILED;
}

int __wrap_mprotect(void *address, size_t size, int protection) {
        if (!fails())
                return __real_mprotect(address, size, protection);
        errno = ENOMEM;
        return -1;
}

/* --- --- */

typedef struct Fixture {
        sd_event *event;
        FiberPool *pool;
        FiberQueue gate; /* what workers wait in */
        char order[64]; /* who ran, a letter each */
        unsigned n_ran, n_cancelled;
        int r_cancelled;
} Fixture;

static Fixture fixture;

/* Four for everybody, and two for internal starts. */
static const FiberPoolConfig small = {
        .max_fibers = 6, .n_internal = 2, .max_queued = 20, .max_queued_per_key = 5};

static void setup_pool(const FiberPoolConfig *config) {
        fixture = (Fixture){};
        assert_int_equal(sd_event_new(&fixture.event), 0);
        assert_int_equal(fiber_pool_new(&fixture.pool, fixture.event, config), 0);
}

static int setup(void **state) {
        setup_pool(&small);
        return 0;
}

static int teardown(void **state) {
        fixture.pool = fiber_pool_free(fixture.pool);
        fixture.event = sd_event_unref(fixture.event);
        return 0;
}

/* The name is the userdata: a pointer to a letter. */
static void work(void *userdata) {
        const char *name = userdata;

        if (fixture.n_ran < sizeof(fixture.order) - 1)
                fixture.order[fixture.n_ran] = *name;
        fixture.n_ran++;
        (void) fiber_queue_wait(&fixture.gate, UINT64_MAX);
}

static void count_cancelled(int r, void *userdata) {
        assert_null(fiber_current());
        fixture.n_cancelled++;
        fixture.r_cancelled = r;
}

static int start_as(const char *name, const char *key, bool internal, Fiber **ret) {
        return fiber_start(fixture.pool,
                &(FiberStart){.main = work,
                        .cancelled = count_cancelled,
                        .userdata = (void *) name,
                        .key = key,
                        .internal = internal},
                ret);
}

static int start(const char *name) {
        return start_as(name, name, false, NULL);
}

static FiberPoolStatistics statistics(void) {
        FiberPoolStatistics result;

        fiber_pool_get_statistics(fixture.pool, &result);
        return result;
}

/* Lets those that run end, and so as many others begin. */
static void let_through(void) {
        fiber_queue_wake(&fixture.gate);
}

static void let_all_through(void) {
        for (unsigned i = 0; i < 100 && statistics().n_running > 0; i++)
                let_through();
        assert_int_equal(statistics().n_running, 0);
        assert_int_equal(statistics().n_queued, 0);
}

static void test_users_take_turns(void **state) {
        for (int i = 0; i < 4; i++)
                assert_int_equal(start("x"), 0);
        for (int i = 0; i < 5; i++)
                assert_int_equal(start("a"), 0);
        for (int i = 0; i < 2; i++)
                assert_int_equal(start("b"), 0);
        assert_int_equal(start("c"), 0);
        assert_int_equal(start_as("n", NULL, false, NULL), 0);
        assert_int_equal(statistics().n_queued, 9);
        let_all_through();
        assert_string_equal(fixture.order, "xxxxabcnabaaa");
        assert_true(statistics().n_started == 13);
}

static void test_reserved_stacks(void **state) {
        for (int i = 0; i < 5; i++)
                assert_int_equal(start("u"), 0);
        assert_int_equal(statistics().n_running, 4);
        for (int i = 0; i < 3; i++)
                assert_int_equal(start_as("i", "peer", true, NULL), 0);
        assert_int_equal(statistics().n_running, 6);
        assert_int_equal(statistics().n_queued, 2);
        assert_string_equal(fixture.order, "uuuuii");
        let_all_through();
        assert_string_equal(fixture.order, "uuuuiiiu"); /* internal ones go first */

        /* Internal ones may have all of them, and then the others wait. */
        for (int i = 0; i < 6; i++)
                assert_int_equal(start_as("i", "peer", true, NULL), 0);
        assert_int_equal(start("u"), 0);
        assert_int_equal(statistics().n_running, 6);
        assert_int_equal(statistics().n_queued, 1);
        let_all_through();
}

static void test_limits(void **state) {
        static const char *const names[] = {"a", "b", "c", "d"};

        for (int i = 0; i < 4; i++)
                assert_int_equal(start("x"), 0);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                for (int n = 0; n < 5; n++)
                        assert_int_equal(start(names[i]), 0);
                assert_int_equal(start(names[i]), -EBUSY);
        }
        assert_int_equal(statistics().n_queued, 20);
        assert_int_equal(start("e"), -EBUSY); /* and no more of all keys */
        assert_true(statistics().n_refused == 5);
        assert_int_equal(start_as("i", "peer", true, NULL), 0); /* there is a stack for it */
        let_all_through();
        assert_int_equal(fixture.n_ran, 25);
}

/* --- a pool that counts what runs of each key --- */

static const FiberPoolConfig counted = {
        .max_fibers = 4, .max_queued = 20, .max_queued_per_key = 10, .max_running_per_key = 2};

static int setup_counted(void **state) {
        setup_pool(&counted);
        return 0;
}

static void test_running_per_key(void **state) {
        for (int i = 0; i < 6; i++)
                assert_int_equal(start("a"), 0);
        assert_string_equal(fixture.order, "aa");
        assert_int_equal(statistics().n_queued, 4);
        assert_int_equal(start("b"), 0);
        assert_int_equal(start("c"), 0);
        assert_int_equal(start("d"), 0); /* no stack */
        assert_string_equal(fixture.order, "aabc");
        let_through();
        assert_string_equal(fixture.order, "aabcada"); /* of "a" two at a time */
        assert_int_equal(statistics().n_running, 3);
        let_all_through();
        assert_string_equal(fixture.order, "aabcadaaa");
        assert_int_equal(start("a"), 0); /* nothing is counted that has ended */
        assert_int_equal(start("a"), 0);
        assert_int_equal(statistics().n_running, 2);
        let_all_through();
}

static bool gate_open;
static unsigned gate_closes_after; /* so many */

static bool may_start(void *userdata) {
        return gate_open;
}

static void work_and_close(void *userdata) {
        if (gate_closes_after > 0 && --gate_closes_after == 0)
                gate_open = false;
        work(userdata);
}

static int start_gated(const char *name, Fiber **ret) {
        return fiber_start(fixture.pool,
                &(FiberStart){.main = work_and_close,
                        .cancelled = count_cancelled,
                        .userdata = (void *) name,
                        .key = name,
                        .may_start = may_start},
                ret);
}

/* Those that are held back let others go before them, and keep their turns. */
static void test_held_back(void **state) {
        Fiber *queued;

        gate_open = false;
        assert_int_equal(start_gated("a", NULL), 0);
        assert_int_equal(start_gated("a", &queued), 0);
        assert_int_equal(start_gated("b", NULL), 0);
        assert_int_equal(start("c"), 0);
        assert_string_equal(fixture.order, "c");
        fiber_pool_admit(fixture.pool);
        assert_int_equal(statistics().n_queued, 3);
        fiber_cancel(queued, -ECANCELED);
        assert_int_equal(fixture.n_cancelled, 1);
        /* It closes again when the first has begun, though both had their turn. */
        gate_open = true;
        gate_closes_after = 1;
        fiber_pool_admit(fixture.pool);
        assert_string_equal(fixture.order, "ca");
        assert_int_equal(statistics().n_queued, 1);
        assert_int_equal(statistics().n_running, 2);
        let_through();
        assert_string_equal(fixture.order, "ca");
        gate_open = true;
        fiber_pool_admit(fixture.pool);
        assert_string_equal(fixture.order, "cab");
        let_all_through();
}

static void test_cancel_before_start(void **state) {
        Fiber *first, *second;

        for (int i = 0; i < 4; i++)
                assert_int_equal(start("x"), 0);
        assert_int_equal(start_as("a", "k", false, &first), 0);
        assert_int_equal(start_as("b", "k", false, &second), 0);
        fiber_cancel(first, -EOWNERDEAD);
        assert_int_equal(fixture.n_cancelled, 1);
        assert_int_equal(fixture.r_cancelled, -EOWNERDEAD);
        assert_int_equal(statistics().n_queued, 1);
        let_all_through();
        assert_string_equal(fixture.order, "xxxxb");
        assert_true(statistics().n_cancelled == 1);
}

static void cancel_it(void *userdata) {
        fiber_cancel(userdata, -ECANCELED);
        assert_int_equal(fixture.n_cancelled, 0); /* that comes from the loop */
}

static void test_fiber_cancels_before_start(void **state) {
        Fiber *fiber;

        for (int i = 0; i < 4; i++)
                assert_int_equal(start("x"), 0);
        assert_int_equal(start_as("a", "k", false, &fiber), 0);
        assert_int_equal(
                fiber_start(fixture.pool,
                        &(FiberStart){.main = cancel_it, .userdata = fiber, .internal = true}, NULL),
                0);
        assert_int_equal(fixture.n_cancelled, 1);
        let_all_through();
        assert_string_equal(fixture.order, "xxxx");
}

static void test_deadline_before_start(void **state) {
        for (int i = 0; i < 4; i++)
                assert_int_equal(start("x"), 0);
        assert_int_equal(fiber_start(fixture.pool,
                                 &(FiberStart){.main = work,
                                         .cancelled = count_cancelled,
                                         .deadline_usec = boottime_usec() + 5 * USEC_PER_MSEC},
                                 NULL),
                0);
        while (fixture.n_cancelled == 0)
                assert_true(sd_event_run(fixture.event, 5 * USEC_PER_SEC) > 0);
        assert_int_equal(fixture.r_cancelled, -ETIMEDOUT);
        assert_int_equal(statistics().n_queued, 0);
        let_all_through();
        assert_int_equal(fixture.n_ran, 4);
}

static void test_cancel_all_with_queue(void **state) {
        for (int i = 0; i < 4; i++)
                assert_int_equal(start("x"), 0);
        for (int i = 0; i < 5; i++)
                assert_int_equal(start("a"), 0);
        fiber_pool_cancel_all(fixture.pool);
        assert_int_equal(fixture.n_cancelled, 5);
        assert_int_equal(fixture.r_cancelled, -ECANCELED);
        assert_int_equal(statistics().n_running, 0);
        assert_string_equal(fixture.order, "xxxx");
}

/* --- memory --- */

static unsigned starts_that_succeed(void) {
        static const char names[] = "abcdef";
        unsigned n = 0;

        for (const char *name = names; *name; name++) {
                const char key[] = {*name, 0};
                int r = start_as(name, key, false, NULL);

                assert_true(r == 0 || r == -ENOMEM);
                n += r == 0;
        }
        return n;
}

/* Each start that is accepted runs or is cancelled, exactly once, and what was refused leaves nothing. */
static void test_memory(void **state) {
        for (unsigned n = 1, failed = true; failed; n++) {
                n_allocations = 0;
                fail_at = n;
                fixture.n_ran = fixture.n_cancelled = 0;
                unsigned accepted = starts_that_succeed();
                let_all_through();
                failed = n_allocations >= n;
                fail_at = 0;
                assert_int_equal(fixture.n_ran + fixture.n_cancelled, accepted);
                if (fixture.n_cancelled > 0)
                        assert_int_equal(fixture.r_cancelled, -ENOMEM);
                assert_true(!failed || accepted + 1 >= 6 - fixture.n_cancelled);
                /* All stacks go, so that the next round needs the same ones. */
                fixture.pool = fiber_pool_free(fixture.pool);
                assert_int_equal(fiber_pool_new(&fixture.pool, fixture.event, &small), 0);
        }
}

static void test_memory_of_pool(void **state) {
        FiberPool *pool = NULL;

        n_allocations = 0;
        fail_at = 1;
        assert_int_equal(fiber_pool_new(&pool, fixture.event, &small), -ENOMEM);
        fail_at = 0;
        assert_null(pool);
}

static void test_thousands(void **state) {
        const FiberPoolConfig config = {.max_fibers = 5000, .max_queued = 1, .max_queued_per_key = 1};

        teardown(state);
        setup_pool(&config);
        for (int round = 0; round < 3; round++) {
                for (int i = 0; i < 5000; i++)
                        assert_int_equal(start("x"), 0);
                assert_int_equal(statistics().n_stacks, 5000);
                let_through();
                assert_int_equal(statistics().n_running, 0);
        }
        assert_int_equal(fixture.n_ran, 15000);
        assert_int_equal(statistics().n_stacks, 5000);
        /* Nobody needs them any more: most are given back. */
        while (statistics().n_stacks > 16)
                assert_true(sd_event_run(fixture.event, 10 * USEC_PER_SEC) > 0);
        assert_int_equal(start("x"), 0);
        let_all_through();
        assert_int_equal(statistics().n_stacks, 16);
}

/* --- overflow --- */

static volatile unsigned sink, enough = UINT32_MAX;

static unsigned overflow(unsigned depth) {
        volatile char frame[256];

        if (depth == enough)
                return 0;
        frame[depth % sizeof(frame)] = (char) depth;
        unsigned result = overflow(depth + 1) + (unsigned) frame[depth % 7];
        sink = result; /* no tail call */
        return result;
}

static char *stack_top;

static void run_overflow(void *userdata) {
        (void) fiber_queue_wait(&fixture.gate, UINT64_MAX);
        stack_top = __builtin_frame_address(0);
        (void) overflow(0);
}

/* One frame that reaches beyond stack and guard, touched at its far end only. */
__attribute__((noinline)) static void use_large_frame(void) {
        volatile char frame[300U << 10];

        __asm__ volatile("" : : "r"(frame) : "memory"); /* or the compiler keeps only what is touched */
        frame[0] = 1;
        sink = (unsigned) frame[0];
}

static void run_large_frame(void *userdata) {
        (void) fiber_queue_wait(&fixture.gate, UINT64_MAX);
        stack_top = __builtin_frame_address(0);
        use_large_frame();
}

/* It must have been the guard, and not what lies somewhere below it. */
static void on_fault(_unused_ int number, siginfo_t *info, _unused_ void *context) {
        size_t depth = (size_t) (stack_top - (char *) info->si_addr);

        if (depth > (128U + 64U) << 10)
                _exit(12);
}

static int child(void (*run)(void *userdata)) {
        pid_t pid = fork();

        if (pid == 0) {
                static char own_stack[64U << 10];
                const struct sigaction action = {
                        .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};
                const stack_t on = {.ss_sp = own_stack, .ss_size = sizeof(own_stack)};

                (void) setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
                if (!freopen("/dev/null", "w", stderr))
                        _exit(9);
#ifndef ASAN /* which has its own */
                if (sigaltstack(&on, NULL) < 0 || sigaction(SIGSEGV, &action, NULL) < 0)
                        _exit(9);
#endif
                (void) action;
                (void) on;
                /* The second stack lies below the first. */
                (void) fiber_start(fixture.pool, &(FiberStart){.main = run}, NULL);
                (void) fiber_start(
                        fixture.pool, &(FiberStart){.main = work, .userdata = (void *) "o"}, NULL);
                fiber_queue_wake(&fixture.gate);
                _exit(11); /* it came back */
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

static void dies_at_the_guard(void (*run)(void *userdata)) {
        int status = child(run);

#ifdef ASAN
        /* It reports and exits, unless there is no stack left for the report. */
        if (WIFEXITED(status)) {
                assert_int_equal(WEXITSTATUS(status), 1);
                return;
        }
#endif
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void test_overflow(void **state) {
        dies_at_the_guard(run_overflow);
#ifndef ASAN /* its stacks are larger */
        dies_at_the_guard(run_large_frame);
#endif
        (void) run_large_frame;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_users_take_turns, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reserved_stacks, setup, teardown),
                cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
                cmocka_unit_test_setup_teardown(test_running_per_key, setup_counted, teardown),
                cmocka_unit_test_setup_teardown(test_held_back, setup_counted, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_before_start, setup, teardown),
                cmocka_unit_test_setup_teardown(test_fiber_cancels_before_start, setup, teardown),
                cmocka_unit_test_setup_teardown(test_deadline_before_start, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_all_with_queue, setup, teardown),
                cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
                cmocka_unit_test_setup_teardown(test_memory_of_pool, setup, teardown),
                cmocka_unit_test_setup_teardown(test_thousands, setup, teardown),
                cmocka_unit_test_setup_teardown(test_overflow, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
