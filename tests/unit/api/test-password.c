/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <sodium.h>
#include <cmocka.h>

#include "api/account/password.h"
#include "fiber/fiber.h"
#include "util/string-util.h"
#include "util/time-util.h"

static const PasswordCost cheap = {.memory = 8192, .operations = 1},
                          dearer = {.memory = 16384, .operations = 2};

static sd_event *event;
static FiberPool *fibers;
static PasswordHasher *hasher;

typedef struct Outcome {
        bool done;
        int r;
        char hash[PASSWORD_HASH_SIZE]; /* empty: none */
        /* what was asked for */
        Fiber *fiber;
        char password[64];
        const char *stored; /* NULL: nobody's */
        bool verify, known;
        PasswordCost cost;
} Outcome;

static void run(void *userdata) {
        Outcome *outcome = userdata;

        outcome->r = outcome->verify
                             ? password_verify(hasher, outcome->password, outcome->stored, outcome->known,
                                       outcome->cost, outcome->hash)
                             : password_hash(hasher, outcome->password, outcome->cost, outcome->hash);
        assert_string_equal(outcome->password, ""); /* wiped */
        outcome->done = true;
}

static void begin(Outcome *outcome, const char *password) {
        FiberStart start = {.main = run, .userdata = outcome};

        strcpy(outcome->password, password);
        assert_int_equal(fiber_start(fibers, &start, &outcome->fiber), 0);
}

static void wait_for(Outcome *outcome) {
        while (!outcome->done)
                assert_true(sd_event_run(event, 10 * USEC_PER_SEC) > 0);
}

static Outcome hash(const char *password, PasswordCost cost) {
        Outcome outcome = {.cost = cost};

        begin(&outcome, password);
        assert_false(outcome.done);
        assert_string_equal(outcome.password, ""); /* already */
        wait_for(&outcome);
        return outcome;
}

static Outcome verify(const char *password, const char *stored, PasswordCost cost) {
        Outcome outcome = {.verify = true, .stored = stored, .cost = cost};

        begin(&outcome, password);
        wait_for(&outcome);
        return outcome;
}

static int setup(void **state) {
        FiberPoolConfig config = {.max_fibers = 32, .max_queued = 1, .max_queued_per_key = 1};

        if (sodium_init() < 0 || sd_event_new(&event) < 0 || fiber_pool_new(&fibers, event, &config) < 0)
                return -1;
        return password_hasher_new(&hasher, event, 2, 4);
}

static int teardown(void **state) {
        hasher = password_hasher_free(hasher);
        fibers = fiber_pool_free(fibers);
        event = sd_event_unref(event);
        return 0;
}

static void test_right_and_wrong(void **state) {
        Outcome stored = hash("correct horse", cheap), outcome;

        assert_int_equal(stored.r, 0);
        assert_non_null(startswith(stored.hash, "$argon2id$"));
        outcome = verify("correct horse", stored.hash, cheap);
        assert_int_equal(outcome.r, 0);
        assert_string_equal(outcome.hash, ""); /* nothing to replace */
        assert_int_equal(verify("correct horsf", stored.hash, cheap).r, -EKEYREJECTED);
        assert_int_equal(verify("", stored.hash, cheap).r, -EKEYREJECTED);
        assert_int_equal(verify("correct horse", "nonsense", cheap).r, -EKEYREJECTED);
        assert_true(password_hasher_is_alive(hasher));
}

static void test_salted(void **state) {
        Outcome a = hash("x", cheap), b = hash("x", cheap);
        assert_string_not_equal(a.hash, b.hash);
}

static void test_unknown_user(void **state) {
        Outcome outcome = verify("correct horse", NULL, cheap);

        assert_int_equal(outcome.r, -EKEYREJECTED);
        assert_string_equal(outcome.hash, "");
}

static void test_cost_changed(void **state) {
        Outcome stored = hash("correct horse", cheap), outcome;

        outcome = verify("correct horse", stored.hash, dearer);
        assert_int_equal(outcome.r, 1);
        assert_int_equal(verify("correct horse", outcome.hash, dearer).r, 0);
        assert_string_equal(verify("wrong", stored.hash, dearer).hash, "");
}

static int hash_without_hasher(void) {
        Outcome outcome = {.cost = cheap};

        begin(&outcome, "x");
        wait_for(&outcome);
        return outcome.r;
}

static void test_queue_is_bounded(void **state) {
        Outcome outcomes[20];
        unsigned n_refused = 0;

        for (unsigned i = 0; i < ELEMENTSOF(outcomes); i++) {
                outcomes[i] = (Outcome){.cost = cheap, .verify = true, .known = i >= 15};
                begin(&outcomes[i], "x");
                if (outcomes[i].done) {
                        assert_int_equal(outcomes[i].r, -EBUSY);
                        n_refused++;
                }
        }
        /* Four may wait, two be worked on; one of these places is kept for those who are known. */
        assert_int_equal(n_refused, 20 - 6);
        for (unsigned i = 0; i < ELEMENTSOF(outcomes); i++)
                assert_int_equal(outcomes[i].done, i >= 5 && i != 15);
        PasswordHasher *h = TAKE_PTR(hasher);
        password_hasher_free(h); /* finishes them all */
        for (unsigned i = 0; i < ELEMENTSOF(outcomes); i++) {
                assert_true(outcomes[i].done);
                assert_true(outcomes[i].r == -EKEYREJECTED || outcomes[i].r == -EBUSY);
        }
        assert_int_equal(hash_without_hasher(), -ECANCELED);
}

/* Who was cancelled does not wait; the thread comes to its end all the same. */
static void test_cancelled(void **state) {
        Outcome outcome = {.cost = cheap};

        begin(&outcome, "x");
        fiber_cancel(outcome.fiber, -ECANCELED);
        wait_for(&outcome);
        assert_int_equal(outcome.r, -ECANCELED);
        assert_string_equal(outcome.hash, "");
        assert_int_equal(hash("x", cheap).r, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_right_and_wrong),
                TEST(test_salted),
                TEST(test_unknown_user),
                TEST(test_cost_changed),
                TEST(test_queue_is_bounded),
                TEST(test_cancelled),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
