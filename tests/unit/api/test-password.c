/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <sodium.h>
#include <cmocka.h>

#include "api/password.h"
#include "util/string-util.h"
#include "util/time-util.h"

static const PasswordCost cheap = {.memory = 8192, .operations = 1},
                          dearer = {.memory = 16384, .operations = 2};

static sd_event *event;
static PasswordHasher *hasher;

typedef struct Outcome {
        unsigned n_done;
        int r;
        char hash[crypto_pwhash_STRBYTES]; /* empty: none */
} Outcome;

static void on_done(int r, const char *hash, void *userdata) {
        Outcome *outcome = userdata;

        outcome->n_done++;
        outcome->r = r;
        strcpy(outcome->hash, strempty(hash));
}

static void wait_for(Outcome *outcome) {
        while (outcome->n_done == 0)
                assert_true(sd_event_run(event, 10 * USEC_PER_SEC) > 0);
        assert_int_equal(outcome->n_done, 1);
}

static Outcome hash(const char *password, PasswordCost cost) {
        Outcome outcome = {};

        assert_int_equal(password_hash(hasher, password, cost, on_done, &outcome), 0);
        assert_int_equal(outcome.n_done, 0); /* never from within */
        wait_for(&outcome);
        return outcome;
}

static Outcome verify(const char *password, const char *stored, PasswordCost cost) {
        Outcome outcome = {};

        assert_int_equal(password_verify(hasher, password, stored, cost, on_done, &outcome), 0);
        wait_for(&outcome);
        return outcome;
}

static int setup(void **state) {
        if (sodium_init() < 0 || sd_event_new(&event) < 0)
                return -1;
        return password_hasher_new(&hasher, event, 2, 4);
}

static int teardown(void **state) {
        hasher = password_hasher_free(hasher);
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
        assert_int_equal(outcome.r, 0);
        assert_int_equal(verify("correct horse", outcome.hash, dearer).r, 0);
        assert_string_equal(verify("wrong", stored.hash, dearer).hash, "");
}

static void test_queue_is_bounded(void **state) {
        Outcome outcomes[20] = {};
        unsigned n_submitted = 0;
        int r = 0;

        while (r >= 0 && n_submitted < ELEMENTSOF(outcomes)) {
                r = password_hash(hasher, "x", (PasswordCost){.memory = 32 << 20, .operations = 2}, on_done,
                        &outcomes[n_submitted]);
                n_submitted += r >= 0;
        }
        assert_int_equal(r, -EBUSY);
        assert_true(n_submitted >= 4 && n_submitted <= 6); /* four wait, up to two are being worked on */
        hasher = password_hasher_free(hasher); /* finishes them all */
        for (unsigned i = 0; i < n_submitted; i++) {
                assert_int_equal(outcomes[i].n_done, 1);
                assert_int_equal(outcomes[i].r, 0);
        }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_right_and_wrong),
                TEST(test_salted),
                TEST(test_unknown_user),
                TEST(test_cost_changed),
                TEST(test_queue_is_bounded),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
