/* SPDX-License-Identifier: Apache-2.0 */

/* Refresh tokens: each is exchanged once, and a lost answer costs nobody the session. */

#include "fixture.h"

#include <stdio.h>

#define HOUR_USEC (3600 * USEC_PER_SEC)
#define MANY 1000U

/* Of the user ann, and her first session. */
static char user[64], session[64], token[128];

static void sign_in(void) {
        assert_int_equal(register_user("ann", "correct horse")->code, ERROR_NONE);
        const Sc__TokenResponse *tokens = must_login("ann", "correct horse");
        snprintf(user, sizeof(user), "%s", tokens->user->id);
        snprintf(session, sizeof(session), "%s", tokens->session);
        snprintf(token, sizeof(token), "%s", tokens->refresh_token);
}

static const char *must_refresh(const char *with) {
        Outcome *outcome = refresh(with);

        assert_int_equal(outcome->code, ERROR_NONE);
        const Sc__TokenResponse *tokens = outcome->response;
        assert_string_equal(tokens->session, session);
        return tokens->refresh_token;
}

static void assert_ended(unsigned n_told) {
        while (fixture.n_ended < n_told)
                fixture_run_once();
        assert_string_equal(fixture.ended_user, user);
        assert_string_equal(fixture.ended_session, session);
        assert_false(session_is_active(user, session));
}

static void test_refresh(void **state) {
        sign_in();
        Outcome *outcome = refresh(token);
        assert_int_equal(outcome->code, ERROR_NONE);
        const Sc__TokenResponse *tokens = outcome->response;
        assert_string_not_equal(tokens->refresh_token, token);
        assert_string_equal(tokens->session, session);
        assert_string_equal(tokens->user->username, "ann");
        assert_int_equal(refresh(tokens->refresh_token)->code, ERROR_NONE);
        assert_true(session_is_active(user, session));
        assert_int_equal(fixture.api.n_refreshes, 2);
}

/* Its answer was lost, and the client asks again. */
static void test_repeated(void **state) {
        sign_in();
        const char *next = must_refresh(token);
        assert_string_not_equal(next, token);
        assert_string_equal(must_refresh(token), next);
        assert_string_equal(must_refresh(token), next);
        assert_int_equal(fixture.api.n_repeated_refreshes, 2);
        /* What is answered is the one in force, */
        const char *third = must_refresh(next);
        assert_string_not_equal(third, next);
        assert_string_equal(must_refresh(next), third);
        must_refresh(third);
        assert_true(session_is_active(user, session));
        assert_int_equal(fixture.n_ended, 0);
}

/* The thief has been quick, and has refreshed more than once before the owner comes. */
static void test_older_ends_the_session(void **state) {
        char made_up[sizeof(token) + 64];

        sign_in();
        const char *next = must_refresh(must_refresh(token));
        /* What never was a token of the session ends nothing. */
        snprintf(made_up, sizeof(made_up), "%s.c29tZXRoaW5nIGVsc2U.%s", session, strrchr(token, '.') + 1);
        assert_int_equal(refresh(made_up)->code, ERROR_SESSION_REVOKED);
        snprintf(made_up, sizeof(made_up), "%s.%s", session, strrchr(token, '.') + 1);
        assert_int_equal(refresh(made_up)->code, ERROR_SESSION_REVOKED);
        next = must_refresh(next);
        assert_int_equal(refresh(token)->code, ERROR_SESSION_REVOKED);
        assert_int_equal(refresh(next)->code, ERROR_SESSION_REVOKED);
        assert_false(session_is_active(user, session));
}

/* Nothing of it is kept in memory. */
static void test_repeated_after_a_restart(void **state) {
        sign_in();
        const char *next = must_refresh(token);
        fixture_stop();
        fixture_start();
        assert_string_equal(must_refresh(token), next);
        must_refresh(next);
}

static void test_reused_later_ends_the_session(void **state) {
        sign_in();
        const char *next = must_refresh(token);
        fixture.conf->auth_refresh_grace_usec = 0; /* as if that time had passed */
        assert_int_equal(refresh(token)->code, ERROR_SESSION_REVOKED);
        assert_ended(1);
        /* the thief's, or the owner's */
        assert_int_equal(refresh(next)->code, ERROR_SESSION_REVOKED);
        assert_int_equal(fixture.n_ended, 1);
}

static void test_another_device_has_no_grace(void **state) {
        Sc__RefreshRequest request = SC__REFRESH_REQUEST__INIT;

        sign_in();
        must_refresh(token);
        request.refresh_token = token;
        request.device = (char *) "phone"; /* as it signed in */
        assert_int_equal(fixture_ask(&method_auth_refresh, &request.base, "", "")->code, ERROR_NONE);
        request.device = (char *) "tablet";
        assert_int_equal(
                fixture_ask(&method_auth_refresh, &request.base, "", "")->code, ERROR_SESSION_REVOKED);
        assert_ended(1);
}

static void test_many_at_once(void **state) {
        Outcome *outcomes = new0(Outcome, MANY);
        const Sc__TokenResponse *tokens;

        assert_non_null(outcomes);
        sign_in();
        for (unsigned i = 0; i < MANY; i++)
                begin_refresh(&outcomes[i], token);
        for (unsigned i = 0; i < MANY; i++) {
                fixture_wait(&outcomes[i]);
                assert_int_equal(outcomes[i].code, ERROR_NONE);
                tokens = outcomes[i].response;
                assert_string_equal(
                        tokens->refresh_token, ((Sc__TokenResponse *) outcomes[0].response)->refresh_token);
        }
        must_refresh(((Sc__TokenResponse *) outcomes[0].response)->refresh_token);
        assert_int_equal(fixture.n_ended, 0);
        free(outcomes);
}

/* A store that often cannot tell what became of a write: the client asks until it is answered, and always
 * stays signed in. */
static void test_unknown_outcomes(void **state) {
        const ModelFaults faults = {.reorder = true, .unknown = 60, .max_delay_usec = 2 * USEC_PER_MSEC};

        sign_in();
        model_set_faults(fixture.model, &faults);
        for (unsigned n = 0; n < 100;) {
                Outcome *outcome = refresh(token);
                if (outcome->code == ERROR_NONE) {
                        strcpy(token, ((Sc__TokenResponse *) outcome->response)->refresh_token);
                        n++;
                } else
                        assert_int_equal(outcome->code, ERROR_TIMEOUT);
        }
        model_set_faults(fixture.model, &(ModelFaults){});
        model_settle(fixture.model);
        must_refresh(token);
        assert_int_equal(fixture.n_ended, 0);
}

/* While nothing can be stored the token stays as it is, and the access token is a new one all the same. */
static void test_full_disk(void **state) {
        TokenClaims claims;
        char next[128];

        sign_in();
        model_set_full(fixture.model, true);
        for (unsigned i = 0; i < 3; i++) {
                Outcome *outcome = refresh(token);
                assert_int_equal(outcome->code, ERROR_NONE);
                const Sc__TokenResponse *tokens = outcome->response;
                assert_string_equal(tokens->refresh_token, token);
                assert_true(tokens->refresh_expires_in > 0);
                assert_int_equal(token_verify(token_verifier_keys(fixture.api.token_verifier),
                                         tokens->access_token, unix_msec() / 1000, &claims),
                        ERROR_NONE);
                assert_string_equal(claims.session, session);
        }
        assert_true(session_is_active(user, session));
        assert_int_equal(login("ann", "correct horse")->code, ERROR_STORAGE_FULL);
        model_set_full(fixture.model, false);
        strcpy(next, must_refresh(token));
        assert_string_not_equal(next, token);
        /* One that was spent before is answered also while it is full. */
        model_set_full(fixture.model, true);
        assert_string_equal(must_refresh(token), next);
        model_set_full(fixture.model, false);
        assert_int_equal(fixture.n_ended, 0);
}

static void test_bad_refresh_tokens(void **state) {
        sign_in();
        _cleanup_free_ char *guess =
                format_string("%s.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", session);
        const char *const malformed[] = {".", "x", ".x"}, *const unknown[] = {"x.", "nobody.x", guess};

        assert_int_equal(refresh("")->code, ERROR_INVALID_ARGUMENT);
        FOREACH_ARRAY(bad, malformed, ELEMENTSOF(malformed))
                assert_int_equal(refresh(*bad)->code, ERROR_UNAUTHENTICATED);
        FOREACH_ARRAY(bad, unknown, ELEMENTSOF(unknown))
                assert_int_equal(refresh(*bad)->code, ERROR_SESSION_REVOKED);
        /* Guessing ends nobody's session. */
        assert_int_equal(refresh(token)->code, ERROR_NONE);
        assert_int_equal(fixture.n_ended, 0);
}

static void test_expired_session_does_not_refresh(void **state) {
        fixture.conf->auth_refresh_token_usec = 0;
        sign_in();
        fixture.conf->auth_refresh_token_usec = HOUR_USEC;
        assert_int_equal(refresh(token)->code, ERROR_SESSION_REVOKED);
        assert_false(session_is_active(user, session));
}

/* A client that goes at any moment: the new token is the one in force, or the old one still is, or may be
 * repeated. */
static void test_refresh_cancelled(void **state) {
        bool completed = false;

        sign_in();
        for (unsigned n_turns = 0; !completed; n_turns++) {
                Outcome outcome;
                Call *call = begin_refresh(&outcome, token);
                for (unsigned i = 0; i < n_turns && !outcome.done; i++)
                        fixture_run_once();
                completed = outcome.done;
                if (!completed)
                        call_cancel(call);
                fixture_wait(&outcome);
                if (outcome.code == ERROR_NONE)
                        strcpy(token, ((Sc__TokenResponse *) outcome.response)->refresh_token);
                else
                        assert_int_equal(outcome.code, ERROR_UNAVAILABLE);
        }
        assert_int_equal(refresh(token)->code, ERROR_NONE);
        assert_int_equal(fixture.n_ended, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_refresh),
                TEST(test_repeated),
                TEST(test_older_ends_the_session),
                TEST(test_repeated_after_a_restart),
                TEST(test_reused_later_ends_the_session),
                TEST(test_another_device_has_no_grace),
                TEST(test_many_at_once),
                TEST(test_unknown_outcomes),
                TEST(test_full_disk),
                TEST(test_bad_refresh_tokens),
                TEST(test_expired_session_does_not_refresh),
                TEST(test_refresh_cancelled),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
