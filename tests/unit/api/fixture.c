/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

Fixture fixture;
Outcome fixture_outcome;
static Arena response_arena;

static void on_session_ended(const Trace *trace, const char *user, const char *session, void *userdata) {
        fixture.n_sessions_ended++;
        snprintf(fixture.ended_session, sizeof(fixture.ended_session), "%s", session);
}

static void on_store_full(bool full, void *userdata) {
        fixture.n_store_full_changes++;
}

static int load_conf(void) {
        static const char *const nowhere[] = {NULL};
        static const char *const environment[] = {"STONECHAT_AUTH_HASHMEMORY=8K",
                "STONECHAT_AUTH_HASHOPERATIONS=1", "STONECHAT_API_LOGINRATE=0",
                "STONECHAT_API_LOGINACCOUNTRATE=0", NULL};

        return conf_load(&(ConfSource){.dirs = nowhere, .environment = (char *const *) environment}, NULL,
                NULL, &fixture.conf);
}

int fixture_setup(void **state) {
        static const uint8_t key[TOKEN_KEY_SIZE] = {1, 2, 3};
        PasswordHasher *hasher = NULL;

        fixture = (Fixture){.directory = "/tmp/test-api-XXXXXX"};
        fixture_outcome = (Outcome){};
        arena_init(&response_arena, 1U << 20);
        if (sodium_init() < 0 || !mkdtemp(fixture.directory) || sd_event_new(&fixture.event) < 0)
                return -1;
        _cleanup_free_ char *path = format_string("%s/accounts.db", fixture.directory);
        StoreConfig store_config = {
                .kind = "sqlite",
                .path = path,
                .records = accounts_records,
                .n_readers = 1,
                .batch_operations = 16,
                .max_queued = 100,
        };
        if (load_conf() < 0 || token_key_new(&fixture.key, key, sizeof(key)) < 0 ||
                store_open(&fixture.store, fixture.event, &store_config) < 0 ||
                password_hasher_new(&hasher, fixture.event, 1, 8) < 0)
                return -1;
        AccountsConfig config = {
                .store = fixture.store,
                .conf = fixture.conf,
                .token_key = fixture.key,
                .hasher = hasher,
                .session_ended = on_session_ended,
                .store_full = on_store_full,
        };
        return accounts_new(&fixture.accounts, &config);
}

int fixture_teardown(void **state) {
        accounts_stop_hashing(fixture.accounts);
        store_close(fixture.store);
        accounts_free(fixture.accounts);
        token_key_free(fixture.key);
        conf_free(fixture.conf);
        sd_event_unref(fixture.event);
        arena_done(&response_arena);
        _cleanup_free_ char *command = format_string("rm -rf '%s'", fixture.directory);
        return system(command);
}

void fixture_run_once(void) {
        assert_true(sd_event_run(fixture.event, 10 * USEC_PER_SEC) > 0);
}

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        Outcome *outcome = userdata;

        assert_false(outcome->done);
        *outcome = (Outcome){.done = true, .code = code};
        snprintf(outcome->detail, sizeof(outcome->detail), "%s", strempty(detail));
        if (!response)
                return;
        uint8_t packed[4096];
        assert_true(protobuf_c_message_get_packed_size(response) <= sizeof(packed));
        size_t size = protobuf_c_message_pack(response, packed);
        ProtobufCMessage *copy;
        assert_int_equal(arena_unpack(&response_arena, response->descriptor, packed, size, &copy), 0);
        outcome->response = copy;
}

Call *fixture_call(const MethodInfo *method, const char *user, const char *session, const char *address) {
        return fixture_call_into(&fixture_outcome, method, user, session, address);
}

Call *fixture_call_into(Outcome *outcome, const MethodInfo *method, const char *user, const char *session,
        const char *address) {
        Sc__Caller caller = SC__CALLER__INIT;

        *outcome = (Outcome){};
        Call *call = call_new(method, 1U << 20, on_done, outcome);
        assert_non_null(call);
        caller.user = (char *) user;
        caller.session = (char *) session;
        assert_int_equal(call_set_caller(call, &caller), 0);
        call->address = address;
        return call;
}

Outcome *fixture_wait(void) {
        while (!fixture_outcome.done)
                fixture_run_once();
        return &fixture_outcome;
}
