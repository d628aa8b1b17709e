/* SPDX-License-Identifier: Apache-2.0 */

/* Strangers who guess at a password: what they can hinder, and what not. */

#include "fixture.h"

#include <stdio.h>

#include "api/session/known.h"

#define PASSWORD "correct horse"
#define HOME "192.0.2.1"
#define AWAY "198.51.100.7"
#define BURST 3U

static char user[64], device_token[64];

static Outcome *try(const char *address, const char *username, const char *password, const char *token) {
        Sc__LoginRequest request = SC__LOGIN_REQUEST__INIT;
        static Outcome outcome;

        request.username = (char *) username;
        request.password = (char *) password;
        request.device_token = (char *) strempty(token);
        fixture_begin(&outcome, &method_auth_login, &request.base, "", "", address);
        fixture_wait(&outcome);
        return &outcome;
}

static const Sc__TokenResponse *must_sign_in(const char *address, const char *token) {
        Outcome *outcome = try(address, "ann", PASSWORD, token);

        assert_int_equal(outcome->code, ERROR_NONE);
        return outcome->response;
}

/* Ann has signed in at home; from then on tries are limited. */
static void begin(void) {
        assert_int_equal(register_user("ann", PASSWORD)->code, ERROR_NONE);
        const Sc__TokenResponse *tokens = must_sign_in(HOME, NULL);
        snprintf(user, sizeof(user), "%s", tokens->user->id);
        snprintf(device_token, sizeof(device_token), "%s", tokens->device_token);
        fixture.conf->api_login_account_rate = 1;
        fixture.conf->api_login_account_burst = BURST;
}

/* Each from an address of its own. The tries that the account has for strangers are used up. */
static void strangers_guess(const char *username) {
        char address[32];

        for (unsigned i = 0; i < 2 * BURST; i++) {
                snprintf(address, sizeof(address), "203.0.113.%u", i);
                assert_int_equal(try(address, username, "wrong", NULL)->code,
                        i < BURST ? ERROR_INVALID_CREDENTIALS : ERROR_RATE_LIMITED);
        }
}

typedef struct Count {
        bool done;
        size_t n;
} Count;

static void on_counted(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        Count *count = userdata;

        assert_int_equal(r, 0);
        *count = (Count){.done = true, .n = rows[0].n};
}

static size_t count_known(void) {
        Sc__KnownOrigin from = SC__KNOWN_ORIGIN__INIT;
        Count count = {};

        from.user = user;
        const StoreRead read = {
                .info = &sc__known_origin__info, .from = &from.base, .n_prefix = 1, .limit = 1000};
        assert_int_equal(store_read_start(fixture.api.store, &read, 1, on_counted, &count), 0);
        while (!count.done)
                fixture_run_once();
        return count.n;
}

static void test_owner_gets_in(void **state) {
        begin();
        strangers_guess("ann");
        /* Somewhere else, and without a token of the device's, the owner is a stranger, */
        assert_int_equal(try(AWAY, "ann", PASSWORD, NULL)->code, ERROR_RATE_LIMITED);
        assert_int_equal(try(AWAY, "ann", PASSWORD, "made-up")->code, ERROR_RATE_LIMITED);
        /* but not at home, and not with it; the token stays the same. */
        const Sc__TokenResponse *tokens = must_sign_in(HOME, NULL);
        assert_string_not_equal(tokens->device_token, device_token);
        assert_string_equal(must_sign_in(AWAY, device_token)->device_token, device_token);
        /* And now that address is known as well. */
        must_sign_in(AWAY, NULL);
}

static void test_survives_a_restart(void **state) {
        begin();
        fixture_stop();
        fixture_start();
        strangers_guess("ann");
        must_sign_in(HOME, NULL);
        must_sign_in(AWAY, device_token);
}

/* The known ones have tries of their own, and no more. */
static void test_known_ones_are_limited_too(void **state) {
        begin();
        for (unsigned i = 0; i < 2 * BURST; i++)
                assert_int_equal(try(HOME, "ann", "wrong", NULL)->code,
                        i < BURST ? ERROR_INVALID_CREDENTIALS : ERROR_RATE_LIMITED);
        for (unsigned i = 0; i < 2 * BURST; i++)
                assert_int_equal(try(HOME, "ann", "wrong", device_token)->code,
                        i < BURST ? ERROR_INVALID_CREDENTIALS : ERROR_RATE_LIMITED);
        must_sign_in(AWAY, NULL); /* strangers' are untouched */
}

/* Whoever has an account of his own here gains nothing for that of another. */
static void test_known_for_oneself_only(void **state) {
        begin();
        assert_int_equal(register_user("eve", PASSWORD)->code, ERROR_NONE);
        Outcome *outcome = try(AWAY, "eve", PASSWORD, NULL);
        assert_int_equal(outcome->code, ERROR_NONE);
        const Sc__TokenResponse *tokens = outcome->response;
        strangers_guess("ann");
        assert_int_equal(try(AWAY, "ann", "wrong", tokens->device_token)->code, ERROR_RATE_LIMITED);
        must_sign_in(HOME, NULL);
}

/* What strangers hear does not tell whether there is such an account. */
static void test_no_oracle(void **state) {
        char existing[256], made_up[256];

        begin();
        strangers_guess("ann");
        strangers_guess("nobody");
        Outcome *outcome = try(AWAY, "ann", "wrong", "made-up");
        assert_int_equal(outcome->code, ERROR_RATE_LIMITED);
        strcpy(existing, outcome->detail);
        outcome = try(AWAY, "nobody", "wrong", "made-up");
        assert_int_equal(outcome->code, ERROR_RATE_LIMITED);
        strcpy(made_up, outcome->detail);
        assert_string_equal(existing, made_up);
}

/* Many accounts from one address; but a device that is known does not suffer from its neighbours. */
static void test_one_address(void **state) {
        char name[16];

        begin();
        fixture.conf->api_login_rate = 1;
        fixture.conf->api_login_burst = 5;
        for (unsigned i = 0; i < 10; i++) {
                snprintf(name, sizeof(name), "user-%u", i);
                assert_int_equal(try(HOME, name, "wrong", NULL)->code,
                        i < 5 ? ERROR_INVALID_CREDENTIALS : ERROR_RATE_LIMITED);
        }
        assert_int_equal(try(HOME, "ann", PASSWORD, "made-up")->code, ERROR_RATE_LIMITED);
        must_sign_in(HOME, device_token);
}

static void test_bounded(void **state) {
        Outcome outcomes[8];
        char address[32];

        begin();
        fixture.conf->api_login_account_rate = 0;
        for (unsigned i = 0; i < 2 * KNOWN_MAX; i++) {
                snprintf(address, sizeof(address), "203.0.113.%u", i);
                must_sign_in(address, device_token);
        }
        assert_int_equal(count_known(), KNOWN_MAX);
        for (unsigned i = 0; i < ELEMENTSOF(outcomes); i++) {
                static char addresses[ELEMENTSOF(outcomes)][32];
                snprintf(addresses[i], sizeof(addresses[i]), "198.51.100.%u", i);
                begin_login(&outcomes[i], addresses[i], "ann", PASSWORD);
        }
        for (unsigned i = 0; i < ELEMENTSOF(outcomes); i++)
                fixture_wait(&outcomes[i]);
        must_sign_in(HOME, device_token);
        assert_int_equal(count_known(), KNOWN_MAX);
        /* Those used last are known, and the one that is used all the time. */
        fixture.conf->api_login_account_rate = 1;
        strangers_guess("ann");
        must_sign_in(AWAY, device_token);
        must_sign_in(HOME, NULL);
        assert_int_equal(try("203.0.113.9", "ann", PASSWORD, NULL)->code, ERROR_RATE_LIMITED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_owner_gets_in),
                TEST(test_survives_a_restart),
                TEST(test_known_ones_are_limited_too),
                TEST(test_known_for_oneself_only),
                TEST(test_no_oracle),
                TEST(test_one_address),
                TEST(test_bounded),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
