/* SPDX-License-Identifier: Apache-2.0 */

/* Registration, profiles, limits, upkeep. */

#include "fixture.h"

#include <stdio.h>

static const Sc__User *must_register(const char *username) {
        Outcome *outcome = register_user(username, "correct horse");

        assert_int_equal(outcome->code, ERROR_NONE);
        return ((Sc__RegisterResponse *) outcome->response)->user;
}

static void test_register(void **state) {
        const Sc__User *user = must_register("Ann");

        assert_string_equal(user->username, "ann");
        assert_string_equal(user->display_name, "Ann");
        assert_int_equal(strlen(user->id), 36);
        assert_int_equal(register_user("aNN", "other password")->code, ERROR_USERNAME_TAKEN);
        assert_int_equal(fixture.api.n_registrations, 1);
        assert_int_equal(login("ann", "correct horse")->code, ERROR_NONE);
        assert_int_equal(login("ann", "other password")->code, ERROR_INVALID_CREDENTIALS);
}

static void test_registration_closed(void **state) {
        fixture.conf->api_registration = false;
        assert_int_equal(register_user("ann", "correct horse")->code, ERROR_PERMISSION_DENIED);
}

/* Two at once: both see the name free, one gets it, and only that one's password opens. */
static void test_register_race(void **state) {
        static const char *const passwords[] = {"correct horse", "battery staple"};
        Outcome outcomes[2];

        for (unsigned i = 0; i < 2; i++)
                begin_register(&outcomes[i], "ann", passwords[i]);
        for (unsigned i = 0; i < 2; i++)
                fixture_wait(&outcomes[i]);
        unsigned winner = outcomes[0].code != ERROR_NONE;
        assert_int_equal(outcomes[winner].code, ERROR_NONE);
        assert_int_equal(outcomes[!winner].code, ERROR_USERNAME_TAKEN);
        assert_int_equal(login("ann", passwords[winner])->code, ERROR_NONE);
        assert_int_equal(login("ann", passwords[!winner])->code, ERROR_INVALID_CREDENTIALS);
}

static Outcome *get_user(const char *caller, const char *id) {
        Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;

        request.user = (char *) id;
        return fixture_ask(&method_user_get, &request.base, caller, "");
}

static Outcome *look_up(const char *username) {
        Sc__UserLookupRequest request = SC__USER_LOOKUP_REQUEST__INIT;

        request.username = (char *) username;
        return fixture_ask(&method_user_lookup, &request.base, "x", "");
}

static void test_users(void **state) {
        static const Sc__MeRequest me = SC__ME_REQUEST__INIT;
        const char *id = must_register("ann")->id;

        Outcome *outcome = fixture_ask(&method_user_me, &me.base, id, "");
        assert_int_equal(outcome->code, ERROR_NONE);
        assert_string_equal(((Sc__User *) outcome->response)->username, "ann");
        assert_int_equal(fixture_ask(&method_user_me, &me.base, "nobody", "")->code, ERROR_USER_NOT_FOUND);
        outcome = get_user("x", id);
        assert_int_equal(outcome->code, ERROR_NONE);
        assert_string_equal(((Sc__Profile *) outcome->response)->username, "ann");
        assert_int_equal(get_user("x", "nobody")->code, ERROR_USER_NOT_FOUND);
        outcome = look_up("ANN");
        assert_int_equal(outcome->code, ERROR_NONE);
        assert_string_equal(((Sc__Profile *) outcome->response)->id, id);
        assert_int_equal(look_up("an")->code, ERROR_USER_NOT_FOUND);
}

static bool account_exists(const char *user) {
        Sc__AccountCheckRequest request = SC__ACCOUNT_CHECK_REQUEST__INIT;

        request.user = (char *) user;
        Outcome *outcome = fixture_ask(&method_account_check, &request.base, "", "");
        assert_int_equal(outcome->code, ERROR_NONE);
        return ((Sc__AccountCheckResponse *) outcome->response)->exists;
}

static void test_account_check(void **state) {
        const char *id = must_register("ann")->id;

        assert_true(account_exists(id));
        assert_false(account_exists("ann")); /* it goes by the id */
}

static void test_address_limit(void **state) {
        must_register("ann");
        fixture.conf->api_login_rate = 1;
        fixture.conf->api_login_burst = 2;
        assert_int_equal(login("ann", "wrong")->code, ERROR_INVALID_CREDENTIALS);
        assert_int_equal(login("ann", "wrong")->code, ERROR_INVALID_CREDENTIALS);
        assert_int_equal(login("ann", "correct horse")->code, ERROR_RATE_LIMITED);
        assert_int_equal(register_user("bob", "correct horse")->code, ERROR_RATE_LIMITED);
        assert_int_equal(login_from("192.0.2.2", "ann", "correct horse")->code, ERROR_NONE);
}

static void test_account_limit(void **state) {
        must_register("ann");
        fixture.conf->api_login_account_rate = 1;
        fixture.conf->api_login_account_burst = 2;
        assert_int_equal(login_from("192.0.2.1", "ann", "wrong")->code, ERROR_INVALID_CREDENTIALS);
        assert_int_equal(login_from("192.0.2.2", "ANN", "wrong")->code, ERROR_INVALID_CREDENTIALS);
        assert_int_equal(login_from("192.0.2.3", "ann", "correct horse")->code, ERROR_RATE_LIMITED);
        assert_int_equal(login_from("192.0.2.3", "bob", "wrong")->code, ERROR_INVALID_CREDENTIALS);
}

/* More passwords at once than may wait for the threads. */
static void test_hash_queue_is_bounded(void **state) {
        Outcome outcomes[32];
        unsigned n_overloaded = 0;

        for (unsigned i = 0; i < ELEMENTSOF(outcomes); i++)
                begin_login(&outcomes[i], ADDRESS, "nobody", "wrong");
        for (unsigned i = 0; i < ELEMENTSOF(outcomes); i++) {
                fixture_wait(&outcomes[i]);
                if (outcomes[i].code == ERROR_OVERLOADED)
                        n_overloaded++;
                else
                        assert_int_equal(outcomes[i].code, ERROR_INVALID_CREDENTIALS);
        }
        assert_true(n_overloaded > 0);
        assert_int_equal(login("nobody", "wrong")->code, ERROR_INVALID_CREDENTIALS);
}

/* The cost of hashing is raised: the next login stores a new hash, which then serves. */
static void test_rehash(void **state) {
        must_register("ann");
        uint64_t n_writes = model_n_writes(fixture.model);
        fixture.conf->auth_hash_memory = 16384;
        must_login("ann", "correct horse");
        assert_int_equal(model_n_writes(fixture.model), n_writes + 2); /* the hash, the session */
        must_login("ann", "correct horse");
        assert_int_equal(model_n_writes(fixture.model), n_writes + 3);
        assert_int_equal(login("ann", "wrong")->code, ERROR_INVALID_CREDENTIALS);
}

static void test_store_full(void **state) {
        char name[32];

        must_register("ann");
        model_set_full(fixture.model, true);
        for (unsigned i = 0; i < 3; i++) {
                snprintf(name, sizeof(name), "user-%u", i);
                assert_int_equal(register_user(name, "correct horse")->code, ERROR_STORAGE_FULL);
                Outcome *outcome = login("ann", "correct horse");
                assert_int_equal(outcome->code, ERROR_STORAGE_FULL);
                assert_non_null(strstr(outcome->detail, "sign in"));
        }
        assert_true(store_room_is_full(fixture.api.room));
        assert_int_equal(fixture.n_store_full_changes, 1);
        /* It tries again and again, and finds out by itself when there is room again. */
        uint64_t n_writes = model_n_writes(fixture.model);
        while (model_n_writes(fixture.model) < n_writes + 2)
                fixture_run_once();
        assert_true(store_room_is_full(fixture.api.room));
        model_set_full(fixture.model, false);
        while (store_room_is_full(fixture.api.room))
                fixture_run_once();
        assert_int_equal(fixture.n_store_full_changes, 2);
        must_login("ann", "correct horse");
}

static void test_upkeep(void **state) {
        static const Sc__StoreCheckRequest check = SC__STORE_CHECK_REQUEST__INIT;
        static const Sc__RetryIntentsRequest retry = SC__RETRY_INTENTS_REQUEST__INIT;

        Outcome *outcome = fixture_ask(&method_accounts_check, &check.base, "", "");
        assert_int_equal(outcome->code, ERROR_NONE);
        const Sc__StoreCheckResponse *response = outcome->response;
        assert_true(response->ok);
        assert_int_equal(response->n_findings, 0);
        outcome = fixture_ask(&method_accounts_retry_intents, &retry.base, "", "");
        assert_int_equal(outcome->code, ERROR_NONE);
        assert_int_equal(((Sc__RetryIntentsResponse *) outcome->response)->retried, 0);
}

/* What is under way when the role ends is answered, not forgotten. */
static void test_end(void **state) {
        Outcome outcome;

        begin_register(&outcome, "ann", "correct horse");
        fixture_stop();
        assert_true(outcome.done);
        assert_int_equal(outcome.code, ERROR_UNAVAILABLE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_register),
                TEST(test_registration_closed),
                TEST(test_register_race),
                TEST(test_users),
                TEST(test_account_check),
                TEST(test_address_limit),
                TEST(test_account_limit),
                TEST(test_hash_queue_is_bounded),
                TEST(test_rehash),
                TEST(test_store_full),
                TEST(test_upkeep),
                TEST(test_end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
