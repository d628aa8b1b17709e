/* SPDX-License-Identifier: Apache-2.0 */

/* Sessions, from login to whatever ends them. */

#include "fixture.h"

#include <stdio.h>
#include <time.h>

#define HOUR_USEC (3600 * USEC_PER_SEC)

/* Of the user ann, and her first session. */
static char user[64], session[64], token[128];

static void sign_in(void) {
        assert_int_equal(register_user("ann", "correct horse")->code, ERROR_NONE);
        const Sc__TokenResponse *tokens = must_login("ann", "correct horse");
        snprintf(user, sizeof(user), "%s", tokens->user->id);
        snprintf(session, sizeof(session), "%s", tokens->session);
        snprintf(token, sizeof(token), "%s", tokens->refresh_token);
}

static void wait_for_next_millisecond(void) {
        int64_t begin = unix_msec();

        while (unix_msec() == begin)
                ;
}

static void wait_until_told(unsigned n) {
        while (fixture.n_ended < n)
                fixture_run_once();
}

static void test_login(void **state) {
        TokenClaims claims;

        sign_in();
        const Sc__TokenResponse *tokens = must_login("ANN", "correct horse");
        assert_string_equal(tokens->token_type, "Bearer");
        assert_string_equal(tokens->user->username, "ann");
        assert_int_equal(tokens->expires_in, 900);
        assert_int_equal(tokens->refresh_expires_in, 30 * 86400);
        assert_int_equal(token_verify(token_verifier_keys(fixture.api.token_verifier), tokens->access_token,
                                 time(NULL), &claims),
                ERROR_NONE);
        assert_string_equal(claims.user, tokens->user->id);
        assert_string_equal(claims.session, tokens->session);
        assert_string_equal(claims.device, "phone");
        assert_true(session_is_active(claims.user, claims.session));
        assert_false(session_is_active("somebody-else", claims.session));
        assert_false(session_is_active(claims.user, "another"));
        assert_int_equal(fixture.api.n_logins, 2);
}

static void test_wrong_credentials_look_alike(void **state) {
        char detail[256];

        sign_in();
        Outcome *outcome = login("ann", "correct hors");
        assert_int_equal(outcome->code, ERROR_INVALID_CREDENTIALS);
        strcpy(detail, outcome->detail);
        outcome = login("nobody", "correct horse");
        assert_int_equal(outcome->code, ERROR_INVALID_CREDENTIALS);
        assert_string_equal(outcome->detail, detail);
        assert_int_equal(fixture.api.n_failed_logins, 2);
}

static void test_logout(void **state) {
        fixture.conf->auth_access_token_usec = HOUR_USEC;
        sign_in();
        int64_t begin = unix_msec();
        assert_int_equal(logout(user, session)->code, ERROR_NONE);
        /* The group role knows when the answer comes, and for how long access tokens may turn up. */
        assert_int_equal(fixture.n_ended, 1);
        assert_string_equal(fixture.ended_session, session);
        assert_true(fixture.ended_expires_at >= begin + (3600 + 60) * 1000);
        assert_true(fixture.ended_expires_at <= unix_msec() + (3600 + 60) * 1000);
        assert_false(session_is_active(user, session));
        assert_int_equal(refresh(token)->code, ERROR_SESSION_REVOKED);
        /* Again is fine, and nobody is told twice. */
        assert_int_equal(logout(user, session)->code, ERROR_NONE);
        assert_int_equal(fixture.n_ended, 1);
}

/* Nobody ends somebody else's session by naming it. */
static void test_logout_of_another_user(void **state) {
        sign_in();
        assert_int_equal(logout("somebody-else", session)->code, ERROR_NONE);
        assert_true(session_is_active(user, session));
        assert_int_equal(fixture.n_ended, 0);
}

static void test_logout_while_group_is_away(void **state) {
        sign_in();
        fixture.group_away = true;
        uint64_t begin = boottime_usec();
        assert_int_equal(logout(user, session)->code, ERROR_NONE);
        assert_true(boottime_usec() - begin >= USEC_PER_SEC);
        assert_true(fixture.n_refused > 0);
        assert_int_equal(fixture.n_ended, 0);
        assert_false(session_is_active(user, session));
        fixture.group_away = false;
        wait_until_told(1);
        assert_string_equal(fixture.ended_session, session);
}

/* The role ends, and starts again, before the group role could be told. */
static void test_restart_before_group_is_told(void **state) {
        Outcome outcome;

        sign_in();
        fixture.group_away = true;
        Sc__LogoutRequest request = SC__LOGOUT_REQUEST__INIT;
        fixture_begin(&outcome, &method_auth_logout, &request.base, user, session, ADDRESS);
        while (fixture.n_refused == 0)
                fixture_run_once();
        fixture_stop();
        assert_true(outcome.done);
        fixture.group_away = false;
        fixture_start();
        wait_until_told(1);
        assert_string_equal(fixture.ended_session, session);
        assert_false(session_is_active(user, session));
}

/* The loop is over when the role ends, and so no timer can be set any more: what waits for the group role lets
 * go all the same. */
static void test_end_after_the_loop(void **state) {
        Outcome outcome;

        sign_in();
        fixture.group_is_slow = true;
        Sc__LogoutRequest request = SC__LOGOUT_REQUEST__INIT;
        fixture_begin(&outcome, &method_auth_logout, &request.base, user, session, ADDRESS);
        while (fixture.n_waiting == 0)
                fixture_run_once();
        assert_int_equal(sd_event_exit(fixture.event, 0), 0);
        assert_int_equal(sd_event_loop(fixture.event), 0);
        fixture_stop();
        assert_true(outcome.done);
        assert_int_equal(outcome.code, ERROR_NONE); /* it was done */
}

static Sc__SessionPurgeResponse *purge(uint32_t limit) {
        Sc__SessionPurgeRequest request = SC__SESSION_PURGE_REQUEST__INIT;

        request.limit = limit;
        Outcome *outcome = fixture_ask(&method_session_purge, &request.base, "", "");
        assert_int_equal(outcome->code, ERROR_NONE);
        return outcome->response;
}

static void test_purge(void **state) {
        fixture.conf->auth_refresh_token_usec = HOUR_USEC;
        sign_in();
        fixture.conf->auth_refresh_token_usec = 0; /* expired as soon as made */
        for (unsigned i = 0; i < 40; i++)
                must_login("ann", "correct horse");
        wait_for_next_millisecond(); /* expiry counts in milliseconds */
        assert_int_equal(count_sessions(user), 41);
        const Sc__SessionPurgeResponse *purged = purge(2);
        assert_int_equal(purged->deleted, 2);
        assert_true(purged->more);
        purged = purge(0); /* more than are under way at a time */
        assert_int_equal(purged->deleted, 38);
        assert_false(purged->more);
        assert_int_equal(purge(0)->deleted, 0);
        assert_int_equal(count_sessions(user), 1);
        assert_true(session_is_active(user, session));
        assert_int_equal(fixture.n_ended, 0);
}

/* Two at once delete each session once, and none of them fails because the other was faster. */
static void test_purge_by_two_at_once(void **state) {
        Sc__SessionPurgeRequest request = SC__SESSION_PURGE_REQUEST__INIT;
        Outcome outcomes[2];
        unsigned n_deleted = 0;

        fixture.conf->auth_refresh_token_usec = 0;
        sign_in();
        for (unsigned i = 0; i < 9; i++)
                must_login("ann", "correct horse");
        wait_for_next_millisecond();
        for (unsigned i = 0; i < 2; i++)
                fixture_begin(&outcomes[i], &method_session_purge, &request.base, "", "", "");
        for (unsigned i = 0; i < 2; i++) {
                fixture_wait(&outcomes[i]);
                assert_int_equal(outcomes[i].code, ERROR_NONE);
                n_deleted += ((Sc__SessionPurgeResponse *) outcomes[i].response)->deleted;
        }
        assert_int_equal(n_deleted, 10);
        assert_int_equal(count_sessions(user), 0);
}

static void test_session_limit(void **state) {
        char sessions[4][64];

        fixture.conf->auth_max_sessions = 3;
        sign_in();
        strcpy(sessions[0], session);
        for (unsigned i = 1; i < 4; i++) {
                wait_for_next_millisecond(); /* use is counted in milliseconds */
                strcpy(sessions[i], must_login("ann", "correct horse")->session);
        }
        wait_until_told(1);
        assert_string_equal(fixture.ended_session, sessions[0]);
        assert_int_equal(count_sessions(user), 3);
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(session_is_active(user, sessions[i]), i > 0);
}

/* The limit was lowered: the next login ends as many as it takes, and never its own session. */
static void test_session_limit_lowered(void **state) {
        sign_in();
        for (unsigned i = 0; i < 5; i++)
                must_login("ann", "correct horse");
        fixture.conf->auth_max_sessions = 1;
        strcpy(session, must_login("ann", "correct horse")->session);
        assert_int_equal(count_sessions(user), 1);
        assert_true(session_is_active(user, session));
        wait_until_told(6);
}

/* A client that goes at any moment of its login: there is a session, and an answer, or there is neither. */
static void test_login_cancelled(void **state) {
        bool completed = false;

        sign_in();
        size_t n_before = count_sessions(user);
        for (unsigned n_turns = 0; !completed; n_turns++) {
                Outcome outcome;
                Call *call = begin_login(&outcome, ADDRESS, "ann", "correct horse");
                for (unsigned i = 0; i < n_turns && !outcome.done; i++)
                        fixture_run_once();
                completed = outcome.done;
                if (!completed)
                        call_cancel(call);
                fixture_wait(&outcome);
                size_t n = count_sessions(user);
                assert_int_equal(n, n_before + (outcome.code == ERROR_NONE));
                if (outcome.code != ERROR_NONE)
                        assert_int_equal(outcome.code, ERROR_UNAVAILABLE);
                n_before = n;
        }
        must_login("ann", "correct horse");
}

/* The same for a logout; what was done is told, whoever still wants to hear of it. */
static void test_logout_cancelled(void **state) {
        Sc__LogoutRequest request = SC__LOGOUT_REQUEST__INIT;
        unsigned n_ended = 0;
        bool completed = false;

        sign_in();
        for (unsigned n_turns = 0; !completed; n_turns++) {
                Outcome outcome;
                strcpy(session, must_login("ann", "correct horse")->session);
                Call *call =
                        fixture_begin(&outcome, &method_auth_logout, &request.base, user, session, ADDRESS);
                for (unsigned i = 0; i < n_turns && !outcome.done; i++)
                        fixture_run_once();
                completed = outcome.done;
                if (!completed)
                        call_cancel(call);
                fixture_wait(&outcome);
                n_ended += outcome.code == ERROR_NONE;
                assert_int_equal(session_is_active(user, session), outcome.code != ERROR_NONE);
                wait_until_told(n_ended);
        }
        assert_int_equal(fixture.n_ended, n_ended);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_login),
                TEST(test_wrong_credentials_look_alike),
                TEST(test_logout),
                TEST(test_logout_of_another_user),
                TEST(test_logout_while_group_is_away),
                TEST(test_restart_before_group_is_told),
                TEST(test_end_after_the_loop),
                TEST(test_purge),
                TEST(test_purge_by_two_at_once),
                TEST(test_session_limit),
                TEST(test_session_limit_lowered),
                TEST(test_login_cancelled),
                TEST(test_logout_cancelled),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
