/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <stdio.h>
#include <time.h>

#define ADDRESS "192.0.2.1"

static Outcome *register_user(const char *username, const char *password) {
        Sc__RegisterRequest request = SC__REGISTER_REQUEST__INIT;
        char u[64], p[64];

        snprintf(u, sizeof(u), "%s", username);
        snprintf(p, sizeof(p), "%s", password);
        request.username = u;
        request.password = p;
        accounts_register(fixture.accounts, fixture_call(&method_auth_register, "", "", ADDRESS), &request);
        return fixture_wait();
}

static Outcome *login_from(const char *address, const char *username, const char *password) {
        Sc__LoginRequest request = SC__LOGIN_REQUEST__INIT;
        char u[64], p[64], d[] = "phone";

        snprintf(u, sizeof(u), "%s", username);
        snprintf(p, sizeof(p), "%s", password);
        request.username = u;
        request.password = p;
        request.device = d;
        accounts_login(fixture.accounts, fixture_call(&method_auth_login, "", "", address), &request);
        fixture_wait();
        if (fixture_outcome.code != ERROR_RATE_LIMITED)
                assert_string_equal(p, ""); /* wiped */
        return &fixture_outcome;
}

static Outcome *login(const char *username, const char *password) {
        return login_from(ADDRESS, username, password);
}

static Outcome *refresh(const char *token) {
        Sc__RefreshRequest request = SC__REFRESH_REQUEST__INIT;

        request.refresh_token = (char *) token;
        accounts_refresh(fixture.accounts, fixture_call(&method_auth_refresh, "", "", ADDRESS), &request);
        return fixture_wait();
}

static Sc__TokenResponse *must_login(const char *username, const char *password) {
        assert_int_equal(login(username, password)->code, ERROR_NONE);
        return fixture_outcome.response;
}

static bool session_is_active(const char *user, const char *session) {
        Sc__SessionCheckRequest request = SC__SESSION_CHECK_REQUEST__INIT;

        request.user = (char *) user;
        request.session = (char *) session;
        accounts_answer_session_check(
                fixture.accounts, fixture_call(&method_session_check, "", "", ""), &request);
        assert_int_equal(fixture_wait()->code, ERROR_NONE);
        return ((Sc__SessionCheckResponse *) fixture_outcome.response)->active;
}

static void test_register(void **state) {
        assert_int_equal(register_user("Ann", "correct horse")->code, ERROR_NONE);
        const Sc__User *user = ((Sc__RegisterResponse *) fixture_outcome.response)->user;
        assert_string_equal(user->username, "ann");
        assert_string_equal(user->display_name, "Ann");
        assert_int_equal(strlen(user->id), 36);
        assert_int_equal(register_user("aNN", "other password")->code, ERROR_USERNAME_TAKEN);
        assert_int_equal(fixture.accounts->n_registrations, 1);
}

static void test_registration_closed(void **state) {
        fixture.conf->api_registration = false;
        assert_int_equal(register_user("ann", "correct horse")->code, ERROR_PERMISSION_DENIED);
}

/* Two at once: both see the name free, one gets it. */
static void test_register_race(void **state) {
        Sc__RegisterRequest request = SC__REGISTER_REQUEST__INIT;
        char name[] = "ann", first[] = "correct horse", second[] = "correct horse";
        Outcome outcomes[2];

        request.username = name;
        request.password = first;
        accounts_register(fixture.accounts,
                fixture_call_into(&outcomes[0], &method_auth_register, "", "", ""), &request);
        Sc__RegisterRequest other = request;
        other.password = second;
        accounts_register(fixture.accounts,
                fixture_call_into(&outcomes[1], &method_auth_register, "", "", ""), &other);
        while (!outcomes[0].done || !outcomes[1].done)
                fixture_run_once();
        unsigned loser = outcomes[0].code == ERROR_NONE;
        assert_int_equal(outcomes[loser].code, ERROR_USERNAME_TAKEN);
        assert_int_equal(outcomes[!loser].code, ERROR_NONE);
}

static void test_login(void **state) {
        TokenClaims claims;

        register_user("ann", "correct horse");
        const Sc__TokenResponse *tokens = must_login("ANN", "correct horse");
        assert_string_equal(tokens->token_type, "Bearer");
        assert_string_equal(tokens->user->username, "ann");
        assert_int_equal(tokens->expires_in, 900);
        assert_int_equal(tokens->refresh_expires_in, 30 * 86400);
        assert_int_equal(token_verify(fixture.key, tokens->access_token, time(NULL), &claims), ERROR_NONE);
        assert_string_equal(claims.user, tokens->user->id);
        assert_string_equal(claims.session, tokens->session);
        assert_string_equal(claims.device, "phone");
        assert_true(session_is_active(claims.user, claims.session));
        assert_false(session_is_active("somebody-else", claims.session));
        assert_false(session_is_active(claims.user, "another"));
}

static void test_wrong_credentials_look_alike(void **state) {
        char detail[256];

        register_user("ann", "correct horse");
        assert_int_equal(login("ann", "correct hors")->code, ERROR_INVALID_CREDENTIALS);
        strcpy(detail, fixture_outcome.detail);
        assert_int_equal(login("nobody", "correct horse")->code, ERROR_INVALID_CREDENTIALS);
        assert_string_equal(fixture_outcome.detail, detail);
        assert_int_equal(fixture.accounts->n_failed_logins, 2);
}

static void test_address_limit(void **state) {
        register_user("ann", "correct horse");
        fixture.conf->api_login_rate = 1;
        fixture.conf->api_login_burst = 2;
        assert_int_equal(login("ann", "wrong")->code, ERROR_INVALID_CREDENTIALS);
        assert_int_equal(login("ann", "wrong")->code, ERROR_INVALID_CREDENTIALS);
        assert_int_equal(login("ann", "correct horse")->code, ERROR_RATE_LIMITED);
        assert_int_equal(register_user("bob", "correct horse")->code, ERROR_RATE_LIMITED);
        assert_int_equal(refresh("x.y")->code, ERROR_RATE_LIMITED);
        assert_int_equal(login_from("192.0.2.2", "ann", "correct horse")->code, ERROR_NONE);
}

static void test_account_limit(void **state) {
        register_user("ann", "correct horse");
        fixture.conf->api_login_account_rate = 1;
        fixture.conf->api_login_account_burst = 2;
        assert_int_equal(login_from("192.0.2.1", "ann", "wrong")->code, ERROR_INVALID_CREDENTIALS);
        assert_int_equal(login_from("192.0.2.2", "ANN", "wrong")->code, ERROR_INVALID_CREDENTIALS);
        assert_int_equal(login_from("192.0.2.3", "ann", "correct horse")->code, ERROR_RATE_LIMITED);
        assert_int_equal(login_from("192.0.2.3", "bob", "wrong")->code, ERROR_INVALID_CREDENTIALS);
}

static void test_refresh(void **state) {
        char first[128], session[64], user[64];

        register_user("ann", "correct horse");
        const Sc__TokenResponse *tokens = must_login("ann", "correct horse");
        strcpy(first, tokens->refresh_token);
        strcpy(session, tokens->session);
        strcpy(user, tokens->user->id);
        assert_int_equal(refresh(first)->code, ERROR_NONE);
        tokens = fixture_outcome.response;
        assert_string_not_equal(tokens->refresh_token, first);
        assert_string_equal(tokens->session, session);
        assert_string_equal(tokens->user->username, "ann");
        assert_int_equal(refresh(tokens->refresh_token)->code, ERROR_NONE);
        assert_true(session_is_active(user, session));
}

static void test_reused_refresh_token_ends_the_session(void **state) {
        char first[128], second[128], session[64], user[64];

        register_user("ann", "correct horse");
        const Sc__TokenResponse *tokens = must_login("ann", "correct horse");
        strcpy(first, tokens->refresh_token);
        strcpy(session, tokens->session);
        strcpy(user, tokens->user->id);
        assert_int_equal(refresh(first)->code, ERROR_NONE);
        strcpy(second, ((Sc__TokenResponse *) fixture_outcome.response)->refresh_token);
        assert_int_equal(refresh(first)->code, ERROR_SESSION_REVOKED);
        assert_int_equal(fixture.n_sessions_ended, 1);
        assert_string_equal(fixture.ended_session, session);
        assert_int_equal(refresh(second)->code, ERROR_SESSION_REVOKED); /* the thief's, or the owner's */
        assert_false(session_is_active(user, session));
}

static void test_bad_refresh_tokens(void **state) {
        register_user("ann", "correct horse");
        const Sc__TokenResponse *tokens = must_login("ann", "correct horse");
        _cleanup_free_ char *guess =
                format_string("%s.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", tokens->session);
        _cleanup_free_ char *real = strdup(tokens->refresh_token);
        const char *const malformed[] = {"", ".", "x", ".x"}, *const unknown[] = {"x.", "nobody.x", guess};

        FOREACH_ARRAY(token, malformed, ELEMENTSOF(malformed))
                assert_int_equal(refresh(*token)->code, ERROR_UNAUTHENTICATED);
        FOREACH_ARRAY(token, unknown, ELEMENTSOF(unknown))
                assert_int_equal(refresh(*token)->code, ERROR_SESSION_REVOKED);
        /* Guessing ends nobody's session. */
        assert_int_equal(fixture.n_sessions_ended, 0);
        assert_int_equal(refresh(real)->code, ERROR_NONE);
}

static void test_logout(void **state) {
        char session[64], user[64];

        register_user("ann", "correct horse");
        const Sc__TokenResponse *tokens = must_login("ann", "correct horse");
        strcpy(session, tokens->session);
        strcpy(user, tokens->user->id);
        _cleanup_free_ char *token = strdup(tokens->refresh_token);
        for (unsigned i = 0; i < 2; i++) { /* again is fine */
                accounts_logout(fixture.accounts, fixture_call(&method_auth_logout, user, session, ""));
                assert_int_equal(fixture_wait()->code, ERROR_NONE);
        }
        assert_string_equal(fixture.ended_session, session);
        assert_false(session_is_active(user, session));
        assert_int_equal(refresh(token)->code, ERROR_SESSION_REVOKED);
}

static void test_users(void **state) {
        register_user("ann", "correct horse");
        _cleanup_free_ char *id = strdup(((Sc__RegisterResponse *) fixture_outcome.response)->user->id);

        accounts_me(fixture.accounts, fixture_call(&method_user_me, id, "", ""));
        assert_int_equal(fixture_wait()->code, ERROR_NONE);
        assert_string_equal(((Sc__User *) fixture_outcome.response)->username, "ann");
        accounts_get_user(fixture.accounts, fixture_call(&method_user_get, "x", "", ""), id);
        assert_int_equal(fixture_wait()->code, ERROR_NONE);
        assert_string_equal(((Sc__Profile *) fixture_outcome.response)->username, "ann");
        accounts_get_user(fixture.accounts, fixture_call(&method_user_get, "x", "", ""), "nobody");
        assert_int_equal(fixture_wait()->code, ERROR_USER_NOT_FOUND);
        accounts_lookup_user(fixture.accounts, fixture_call(&method_user_lookup, "x", "", ""), "ANN");
        assert_int_equal(fixture_wait()->code, ERROR_NONE);
        assert_string_equal(((Sc__Profile *) fixture_outcome.response)->id, id);
        accounts_lookup_user(fixture.accounts, fixture_call(&method_user_lookup, "x", "", ""), "an");
        assert_int_equal(fixture_wait()->code, ERROR_USER_NOT_FOUND);
}

static Sc__SessionPurgeResponse *purge(uint32_t limit) {
        accounts_purge_sessions(fixture.accounts, fixture_call(&method_session_purge, "", "", ""), limit);
        assert_int_equal(fixture_wait()->code, ERROR_NONE);
        return fixture_outcome.response;
}

static void test_purge(void **state) {
        char session[64], user[64];
        const Sc__SessionPurgeResponse *purged;

        register_user("ann", "correct horse");
        fixture.conf->auth_refresh_token_usec = 0; /* expired as soon as made */
        for (unsigned i = 0; i < 3; i++)
                must_login("ann", "correct horse");
        const Sc__TokenResponse *tokens = fixture_outcome.response;
        assert_false(session_is_active(tokens->user->id, tokens->session));
        fixture.conf->auth_refresh_token_usec = 60 * USEC_PER_SEC;
        tokens = must_login("ann", "correct horse");
        strcpy(session, tokens->session);
        strcpy(user, tokens->user->id);
        int64_t begin = unix_msec();
        while (unix_msec() == begin) /* expiry counts in milliseconds */
                ;
        purged = purge(2);
        assert_int_equal(purged->deleted, 2);
        assert_true(purged->more);
        purged = purge(2);
        assert_int_equal(purged->deleted, 1);
        assert_false(purged->more);
        assert_int_equal(purge(0)->deleted, 0);
        assert_true(session_is_active(user, session));
}

static void test_expired_session_does_not_refresh(void **state) {
        register_user("ann", "correct horse");
        fixture.conf->auth_refresh_token_usec = 0;
        _cleanup_free_ char *token = strdup(must_login("ann", "correct horse")->refresh_token);
        fixture.conf->auth_refresh_token_usec = 60 * USEC_PER_SEC;
        assert_int_equal(refresh(token)->code, ERROR_SESSION_REVOKED);
}

static void test_session_limit(void **state) {
        char sessions[4][64], user[64];

        fixture.conf->auth_max_sessions = 3;
        register_user("ann", "correct horse");
        for (unsigned i = 0; i < 4; i++) {
                const Sc__TokenResponse *tokens = must_login("ann", "correct horse");
                strcpy(sessions[i], tokens->session);
                strcpy(user, tokens->user->id);
                int64_t begin = unix_msec();
                while (unix_msec() == begin) /* use is counted in milliseconds */
                        ;
        }
        while (fixture.n_sessions_ended == 0)
                fixture_run_once();
        assert_string_equal(fixture.ended_session, sessions[0]);
        while (session_is_active(user, sessions[0]))
                ;
        for (unsigned i = 1; i < 4; i++)
                assert_true(session_is_active(user, sessions[i]));
}

/* The cost of hashing is raised: the next login stores a new hash, which then serves. */
static void test_rehash(void **state) {
        register_user("ann", "correct horse");
        fixture.conf->auth_hash_memory = 16384;
        must_login("ann", "correct horse");
        must_login("ann", "correct horse");
        assert_int_equal(login("ann", "wrong")->code, ERROR_INVALID_CREDENTIALS);
}

static void test_check(void **state) {
        accounts_check_store(fixture.accounts, fixture_call(&method_accounts_check, "", "", ""));
        assert_int_equal(fixture_wait()->code, ERROR_NONE);
        const Sc__StoreCheckResponse *response = fixture_outcome.response;
        assert_true(response->ok);
        assert_int_equal(response->n_findings, 0);
}

/* What is under way when the role ends is answered, not forgotten. */
static void test_end(void **state) {
        Sc__RegisterRequest request = SC__REGISTER_REQUEST__INIT;
        char name[] = "ann", password[] = "correct horse";

        request.username = name;
        request.password = password;
        accounts_register(fixture.accounts, fixture_call(&method_auth_register, "", "", ""), &request);
        accounts_stop_hashing(fixture.accounts);
        fixture.store = store_close(fixture.store);
        assert_true(fixture_outcome.done);
        assert_int_equal(fixture_outcome.code, ERROR_UNAVAILABLE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_register),
                TEST(test_registration_closed),
                TEST(test_register_race),
                TEST(test_login),
                TEST(test_wrong_credentials_look_alike),
                TEST(test_address_limit),
                TEST(test_account_limit),
                TEST(test_refresh),
                TEST(test_reused_refresh_token_ends_the_session),
                TEST(test_bad_refresh_tokens),
                TEST(test_logout),
                TEST(test_users),
                TEST(test_purge),
                TEST(test_expired_session_does_not_refresh),
                TEST(test_session_limit),
                TEST(test_rehash),
                TEST(test_check),
                TEST(test_end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
