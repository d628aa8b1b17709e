/* SPDX-License-Identifier: Apache-2.0 */

/* A store that often cannot tell whether a write was done: what is said to the client is true all the same,
 * and whoever has to be told of the end of a session is. */

#include "fixture.h"

#include <stdio.h>

#define N_TRIES 60U
#define PASSWORD "correct horse"

/* With delays, so that what lands late does so before and after somebody looks. */
static const ModelFaults often_unknown = {.reorder = true,
                                 .unknown = 60,
                                 .max_delay_usec = 2 * USEC_PER_MSEC},
                         none = {};

/* From here on nothing lands late. */
static void settle(void) {
        model_set_faults(fixture.model, &none);
        model_settle(fixture.model);
}

/* Nobody else wants the name, so nobody hears that it is taken. */
static void test_registration(void **state) {
        unsigned n_done = 0, n_unknown = 0;
        char name[32];

        for (unsigned i = 0; i < N_TRIES; i++) {
                snprintf(name, sizeof(name), "user-%u", i);
                model_set_faults(fixture.model, &often_unknown);
                Sc__ErrorCode code = register_user(name, PASSWORD)->code;
                settle();
                if (code == ERROR_NONE) {
                        n_done++;
                        must_login(name, PASSWORD);
                        continue;
                }
                assert_int_equal(code, ERROR_TIMEOUT);
                n_unknown++;
                /* It was done, or the name is still free. */
                if (login(name, PASSWORD)->code != ERROR_NONE)
                        assert_int_equal(register_user(name, PASSWORD)->code, ERROR_NONE);
        }
        assert_true(n_done > 0);
        assert_true(n_unknown > 0);
}

/* A try that cannot tell, and then one that is refused: nobody hears that it failed when it was done. */
static void test_registration_refused(void **state) {
        const ModelFaults faults = {
                .reorder = true, .unknown = 50, .refuse = 30, .max_delay_usec = 2 * USEC_PER_MSEC};
        unsigned n_refused = 0, n_unknown = 0;
        char name[32];

        for (unsigned i = 0; i < 2 * N_TRIES; i++) {
                snprintf(name, sizeof(name), "user-%u", i);
                model_set_faults(fixture.model, &faults);
                Sc__ErrorCode code = register_user(name, PASSWORD)->code;
                settle();
                if (code == ERROR_NONE)
                        must_login(name, PASSWORD);
                else if (code != ERROR_TIMEOUT) {
                        assert_int_equal(login(name, PASSWORD)->code, ERROR_INVALID_CREDENTIALS);
                        n_refused++;
                } else
                        n_unknown++;
        }
        assert_true(n_refused > 0);
        assert_true(n_unknown > 0);
}

/* Two who want the same name, with another password each: at most one hears that he has it, and he has. */
static void test_registration_race(void **state) {
        char name[32], passwords[2][32] = {"correct horse", "battery staple"};
        Outcome outcomes[2];

        for (unsigned i = 0; i < N_TRIES; i++) {
                snprintf(name, sizeof(name), "user-%u", i);
                model_set_faults(fixture.model, &often_unknown);
                for (unsigned k = 0; k < 2; k++)
                        begin_register(&outcomes[k], name, passwords[k]);
                for (unsigned k = 0; k < 2; k++)
                        fixture_wait(&outcomes[k]);
                settle();
                assert_false(outcomes[0].code == ERROR_NONE && outcomes[1].code == ERROR_NONE);
                for (unsigned k = 0; k < 2; k++) {
                        Sc__ErrorCode code = login(name, passwords[k])->code;
                        if (outcomes[k].code == ERROR_NONE)
                                assert_int_equal(code, ERROR_NONE);
                        else if (outcomes[k].code == ERROR_USERNAME_TAKEN)
                                assert_int_equal(code, ERROR_INVALID_CREDENTIALS);
                        else
                                assert_int_equal(outcomes[k].code, ERROR_TIMEOUT);
                }
        }
}

static void test_login_and_refresh(void **state) {
        unsigned n_unknown = 0;

        assert_int_equal(register_user("ann", PASSWORD)->code, ERROR_NONE);
        fixture.conf->auth_max_sessions = 1000;
        for (unsigned i = 0; i < N_TRIES; i++) {
                model_set_faults(fixture.model, &often_unknown);
                Outcome *outcome = login("ann", PASSWORD);
                if (outcome->code != ERROR_NONE) {
                        assert_int_equal(outcome->code, ERROR_TIMEOUT);
                        n_unknown++;
                        continue;
                }
                outcome = refresh(((Sc__TokenResponse *) outcome->response)->refresh_token);
                settle();
                /* The answer has the token in force. */
                if (outcome->code == ERROR_NONE)
                        assert_int_equal(
                                refresh(((Sc__TokenResponse *) outcome->response)->refresh_token)->code,
                                ERROR_NONE);
                else
                        assert_int_equal(outcome->code, ERROR_TIMEOUT);
        }
        assert_true(n_unknown > 0);
}

/* Whether the logout was answered or not: if the session is gone, the group role hears of it. */
static void test_logout(void **state) {
        unsigned n_unknown = 0, n_gone_unknown = 0;

        assert_int_equal(register_user("ann", PASSWORD)->code, ERROR_NONE);
        fixture.conf->auth_max_sessions = 1000;
        for (unsigned i = 0; i < N_TRIES; i++) {
                const Sc__TokenResponse *tokens = must_login("ann", PASSWORD);
                model_set_faults(fixture.model, &often_unknown);
                Sc__ErrorCode code = logout(tokens->user->id, tokens->session)->code;
                settle();
                bool gone = !session_is_active(tokens->user->id, tokens->session);
                if (code == ERROR_NONE)
                        assert_true(gone);
                else {
                        assert_int_equal(code, ERROR_TIMEOUT);
                        n_unknown++;
                        n_gone_unknown += gone;
                }
                while (gone && !fixture_was_told(tokens->session))
                        fixture_run_once();
                assert_int_equal(fixture_was_told(tokens->session), gone);
        }
        assert_true(n_unknown > 0);
        assert_true(n_gone_unknown > 0);
}

/* The process dies at each point of a logout: afterwards the session is in force and nobody was told, or it is
 * gone and the group role hears of it from the next process. */
static void test_crash_in_logout(void **state) {
        bool crashed = true;

        assert_int_equal(register_user("ann", PASSWORD)->code, ERROR_NONE);
        for (uint64_t point = 1; crashed; point++) {
                const Sc__TokenResponse *tokens = must_login("ann", PASSWORD);
                model_set_faults(fixture.model, &(ModelFaults){.crash_point = point});
                Sc__LogoutRequest request = SC__LOGOUT_REQUEST__INIT;
                Outcome outcome;
                fixture_begin(&outcome, &method_auth_logout, &request.base, tokens->user->id,
                        tokens->session, ADDRESS);
                while (!outcome.done && !model_has_crashed(fixture.model))
                        fixture_run_once();
                crashed = model_has_crashed(fixture.model);
                model_set_faults(fixture.model, &none);
                fixture_stop();
                fixture_start();
                bool gone = !session_is_active(tokens->user->id, tokens->session);
                while (gone && !fixture_was_told(tokens->session))
                        fixture_run_once();
                assert_int_equal(fixture_was_told(tokens->session), gone);
                assert_true(gone || crashed);
        }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_registration),
                TEST(test_registration_refused),
                TEST(test_registration_race),
                TEST(test_login_and_refresh),
                TEST(test_logout),
                TEST(test_crash_in_logout),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
