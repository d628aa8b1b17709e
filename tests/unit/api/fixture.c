/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <sodium.h>
#include <stdio.h>

#define SEED 1U
#define MAX_BINDINGS 48U

Fixture fixture;
static MethodBinding methods[MAX_BINDINGS];
static Arena response_arena;

/* --- the group role --- */

static int on_session_ended(Call *call, const ProtobufCMessage *request, ProtobufCMessage *response) {
        const Sc__InboxSessionEndedRequest *ended = (const Sc__InboxSessionEndedRequest *) request;

        if (fixture.group_is_slow) {
                fixture.n_waiting++;
                return fiber_sleep(60 * USEC_PER_SEC);
        }
        if (fixture.group_away) {
                fixture.n_refused++;
                return call_refuse(call, ERROR_UNAVAILABLE, "%s", "");
        }
        snprintf(fixture.ended_user, sizeof(fixture.ended_user), "%s", ended->user);
        snprintf(fixture.ended_session, sizeof(fixture.ended_session), "%s", ended->session);
        fixture.ended_expires_at = ended->expires_at;
        fixture.told = realloc(fixture.told, (fixture.n_ended + 1) * sizeof(fixture.told[0]));
        assert_non_null(fixture.told);
        strcpy(fixture.told[fixture.n_ended++], fixture.ended_session);
        assert_string_equal(call->intent.source, ended->user);
        assert_int_equal(call->intent.target[0], '#');
        assert_string_equal(call->intent.target + 1, ended->user);
        return 0;
}

static int on_ping(Call *call, const ProtobufCMessage *request, ProtobufCMessage *response) {
        ((Sc__GroupPingResponse *) response)->store_full = fixture.group_full;
        return fixture.group_away ? call_refuse(call, ERROR_UNAVAILABLE, "%s", "") : 0;
}

/* --- begin and end --- */

static void add_methods(size_t *n, const MethodBinding *bindings) {
        for (const MethodBinding *b = bindings; b && b->method; b++) {
                assert_true(*n + 1 < MAX_BINDINGS);
                methods[(*n)++] = *b;
        }
        methods[*n] = (MethodBinding){};
}

static int load_conf(void) {
        static const char *const nowhere[] = {NULL};
        static const char *const environment[] = {"STONECHAT_AUTH_HASHMEMORY=8K",
                "STONECHAT_AUTH_HASHOPERATIONS=1", "STONECHAT_API_LOGINRATE=0",
                "STONECHAT_API_LOGINACCOUNTRATE=0", NULL};

        return conf_load(&(ConfSource){.dirs = nowhere, .environment = (char *const *) environment}, NULL,
                NULL, &fixture.conf);
}

static void on_changed(void *userdata) {
        fixture.n_store_full_changes++;
}

/* The same for all starts, as they are on disk. */
static void make_token_keys(Api *api) {
        static char *private_pem, *public_pem;
        _cleanup_(token_keys_unrefp) TokenKeys *keys = NULL;

        if (!private_pem)
                assert_int_equal(token_key_generate(&private_pem, &public_pem), 0);
        assert_int_equal(token_signer_new(&api->token_signer, private_pem, strlen(private_pem)), 0);
        assert_int_equal(token_keys_new(&keys, public_pem, strlen(public_pem)), 0);
        assert_int_equal(token_verifier_new_with(&api->token_verifier, fixture.event, 16, keys), 0);
}

void fixture_start(void) {
        Api *api = &fixture.api;
        StoreConfig store = {
                .kind = "model",
                .name = "accounts",
                .records = api_records,
                .n_readers = 1,
                .batch_operations = 16,
                .max_queued = 1000,
        };

        *api = (Api){.conf = fixture.conf};
        assert_int_equal(dispatcher_new(&fixture.dispatcher, fixture.event, fixture.routes, methods,
                                 10 * USEC_PER_SEC),
                0);
        dispatcher_set_role(fixture.dispatcher, api);
        api->dispatcher = fixture.dispatcher;
        assert_int_equal(api_init(api), 0);
        make_token_keys(api);
        model_use(fixture.model, "model");
        assert_int_equal(store_open(&api->store, fixture.event, &store), 0);
        const StoreRoomConfig room = {.full = "full", .recovered = "recovered", .changed = on_changed};
        assert_int_equal(store_room_new(&api->room, fixture.event, dispatcher_fibers(fixture.dispatcher),
                                 api->store, &room),
                0);
        assert_int_equal(intents_new(&api->intents, fixture.event, dispatcher_fibers(fixture.dispatcher),
                                 api->store, fixture.dispatcher),
                0);
        assert_int_equal(password_hasher_new(&api->hasher, fixture.event, 1, 8), 0);
}

void fixture_stop(void) {
        Api *api = &fixture.api;

        if (!api->store)
                return;
        /* As the role's process does it, when the loop has ended. */
        dispatcher_stop_calls(fixture.dispatcher);
        intents_stop(api->intents);
        password_hasher_free(TAKE_PTR(api->hasher));
        store_room_stop(api->room);
        token_verifier_free(TAKE_PTR(api->token_verifier));
        store_close(api->store);
        store_room_free(api->room);
        intents_free(api->intents);
        token_signer_free(api->token_signer);
        api_done(api);
        fixture.dispatcher = dispatcher_free(fixture.dispatcher);
        fixture.api = (Api){};
}

int fixture_setup_with(const MethodBinding *bindings) {
        static const MethodBinding group[] = {
                {&method_inbox_session_ended, on_session_ended},
                {&method_group_ping, on_ping},
                {},
        };
        size_t n = 0;

        fixture = (Fixture){};
        arena_init(&response_arena, 16U << 20);
        add_methods(&n, bindings);
        add_methods(&n, group);
        add_methods(&n, api_methods);
        if (sodium_init() < 0 || sd_event_new(&fixture.event) < 0 || load_conf() < 0 ||
                routes_new(&fixture.routes, NULL, NULL, NULL) < 0)
                return -1;
        fixture.model = model_new(SEED);
        if (!fixture.model)
                return -1;
        fixture_start();
        return 0;
}

int fixture_setup(void **state) {
        return fixture_setup_with(NULL);
}

int fixture_teardown(void **state) {
        fixture_stop();
        model_free(fixture.model);
        routes_free(fixture.routes);
        conf_free(fixture.conf);
        sd_event_unref(fixture.event);
        arena_done(&response_arena);
        free(fixture.told);
        return 0;
}

bool fixture_was_told(const char *session) {
        FOREACH_ARRAY(told, fixture.told, fixture.n_ended)
                if (streq(*told, session))
                        return true;
        return false;
}

void fixture_run_once(void) {
        assert_true(sd_event_run(fixture.event, 10 * USEC_PER_SEC) > 0);
}

/* --- calls --- */

static ProtobufCMessage *copy_message(Arena *arena, const ProtobufCMessage *message) {
        size_t size = protobuf_c_message_get_packed_size(message);
        _cleanup_free_ uint8_t *packed = malloc(size ?: 1);
        ProtobufCMessage *copy;

        assert_non_null(packed);
        protobuf_c_message_pack(message, packed);
        assert_int_equal(arena_unpack(arena, message->descriptor, packed, size, &copy), 0);
        return copy;
}

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        Outcome *outcome = userdata;

        assert_false(outcome->done);
        *outcome = (Outcome){.done = true, .code = code};
        snprintf(outcome->detail, sizeof(outcome->detail), "%s", strempty(detail));
        if (response)
                outcome->response = copy_message(&response_arena, response);
        if (code == ERROR_INVALID_ARGUMENT) /* by the schema's rules: no handler saw it */
                return;
        if (call->method == &method_auth_login)
                assert_string_equal(((Sc__LoginRequest *) call->request)->password, "");
        if (call->method == &method_auth_register)
                assert_string_equal(((Sc__RegisterRequest *) call->request)->password, "");
}

Call *fixture_begin(Outcome *outcome, const MethodInfo *method, const ProtobufCMessage *request,
        const char *user, const char *session, const char *address) {
        Sc__Caller caller = SC__CALLER__INIT;

        *outcome = (Outcome){};
        Call *call = call_new(method, 1U << 20, on_done, outcome);
        assert_non_null(call);
        caller.user = (char *) user;
        caller.session = (char *) session;
        assert_int_equal(call_set_caller(call, &caller), 0);
        call->request = copy_message(&call->arena, request);
        call->address = address;
        call->internal = method->access == ACCESS_INTERNAL;
        dispatcher_dispatch(fixture.dispatcher, call);
        return call;
}

void fixture_wait(const Outcome *outcome) {
        while (!outcome->done)
                fixture_run_once();
}

Outcome *fixture_ask(
        const MethodInfo *method, const ProtobufCMessage *request, const char *user, const char *session) {
        static Outcome outcome;

        fixture_begin(&outcome, method, request, user, session, ADDRESS);
        fixture_wait(&outcome);
        return &outcome;
}

/* --- methods --- */

Call *begin_register(Outcome *outcome, const char *username, const char *password) {
        Sc__RegisterRequest request = SC__REGISTER_REQUEST__INIT;

        request.username = (char *) username;
        request.password = (char *) password;
        return fixture_begin(outcome, &method_auth_register, &request.base, "", "", ADDRESS);
}

Outcome *register_user(const char *username, const char *password) {
        static Outcome outcome;

        begin_register(&outcome, username, password);
        fixture_wait(&outcome);
        return &outcome;
}

Call *begin_login(Outcome *outcome, const char *address, const char *username, const char *password) {
        Sc__LoginRequest request = SC__LOGIN_REQUEST__INIT;

        request.username = (char *) username;
        request.password = (char *) password;
        request.device = (char *) "phone";
        return fixture_begin(outcome, &method_auth_login, &request.base, "", "", address);
}

Outcome *login_from(const char *address, const char *username, const char *password) {
        static Outcome outcome;

        begin_login(&outcome, address, username, password);
        fixture_wait(&outcome);
        return &outcome;
}

Outcome *login(const char *username, const char *password) {
        return login_from(ADDRESS, username, password);
}

Sc__TokenResponse *must_login(const char *username, const char *password) {
        Outcome *outcome = login(username, password);

        assert_int_equal(outcome->code, ERROR_NONE);
        return outcome->response;
}

Call *begin_refresh(Outcome *outcome, const char *token) {
        Sc__RefreshRequest request = SC__REFRESH_REQUEST__INIT;

        request.refresh_token = (char *) token;
        return fixture_begin(outcome, &method_auth_refresh, &request.base, "", "", ADDRESS);
}

Outcome *refresh(const char *token) {
        static Outcome outcome;

        begin_refresh(&outcome, token);
        fixture_wait(&outcome);
        return &outcome;
}

Outcome *logout(const char *user, const char *session) {
        Sc__LogoutRequest request = SC__LOGOUT_REQUEST__INIT;
        return fixture_ask(&method_auth_logout, &request.base, user, session);
}

bool session_is_active(const char *user, const char *session) {
        Sc__SessionCheckRequest request = SC__SESSION_CHECK_REQUEST__INIT;

        request.user = (char *) user;
        request.session = (char *) session;
        Outcome *outcome = fixture_ask(&method_session_check, &request.base, "", "");
        assert_int_equal(outcome->code, ERROR_NONE);
        return ((Sc__SessionCheckResponse *) outcome->response)->active;
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

size_t count_sessions(const char *user) {
        Sc__Session from = SC__SESSION__INIT;
        Count count = {};

        from.user = (char *) user;
        StoreRead read = {.info = &sc__session__info, .from = &from.base, .n_prefix = 1, .limit = 1000};
        assert_int_equal(store_read_start(fixture.api.store, &read, 1, on_counted, &count), 0);
        while (!count.done)
                fixture_run_once();
        return count.n;
}
