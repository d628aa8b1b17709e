/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api-role.h"

#include <stdio.h>

#include "api/account/account.h"
#include "api/health.h"
#include "api/rest/rest.h"
#include "service/role-web.h"
#include "service/store-role.h"

/* A store's thread that is busy with one operation for longer hangs: most take under a millisecond. */
#define STORE_MAX_BUSY_USEC (30 * USEC_PER_SEC)
/* Some 240 bytes each: 1 MB once all are in use. */
#define REMEMBERED_TOKENS 4096U

typedef struct ApiRole {
        Api api; /* first: Call.role */
        RoleProcess *process;
        Health *health;
        Rest *rest;
        WebServer *web;
        char status[128];
} ApiRole;

static void on_changed(void *process) {
        role_process_changed(process);
}

/* --- start --- */

static int open_accounts(Api *api, RoleProcess *process) {
        const StoreRoomConfig room = {
                .full = "No space is left for accounts; registrations and logins are refused until there "
                        "is.",
                .recovered = "Accounts can be stored again.",
                .changed = on_changed,
                .userdata = process,
        };
        const Conf *conf = process->conf;

        int r = store_role_open(&api->store, process, "accounts", api_records);
        if (r < 0)
                return r;
        r = store_room_new(
                &api->room, process->event, dispatcher_fibers(process->dispatcher), api->store, &room);
        if (r < 0)
                return log_oom();
        r = intents_new(&api->intents, process->event, dispatcher_fibers(process->dispatcher), api->store,
                process->dispatcher);
        if (r < 0)
                return log_error_errno(r, "Failed to look for intents that were not delivered: %m");
        r = password_hasher_new(&api->hasher, process->event, (unsigned) conf->auth_hash_threads,
                (unsigned) conf->auth_hash_queue);
        if (r < 0)
                return log_error_errno(r, "Failed to start the threads that hash passwords: %m");
        return 0;
}

static void read_limits(const Conf *conf, WebLimits *ret) {
        *ret = (WebLimits){
                .max_body = conf->api_max_body,
                .max_headers = conf->api_max_headers,
                .max_pending = conf->api_pending_memory,
                .request_timeout_usec = conf->api_request_timeout_usec,
                .max_connections = (unsigned) conf->api_max_connections,
                .max_connections_per_address = (unsigned) conf->api_max_connections_per_address,
        };
}

static int listen_http(ApiRole *role) {
        static const WebHandlers handlers = {
                .on_request = rest_on_request,
                .on_abort = rest_on_abort,
                .on_refused = rest_on_refused,
        };
        WebLimits limits;

        read_limits(role->process->conf, &limits);
        int r = web_server_new(&role->web, role->process->web_loop, role->process->event, &limits, NULL,
                &handlers, role->rest);
        if (r < 0)
                return log_error_errno(r, "Failed to set up HTTP: %m");
        return role_web_listen(role->process, role->web, "http", "https");
}

/* A token that the others do not accept is worth nothing. */
static int check_signer(const TokenSigner *signer, const TokenVerifier *verifier) {
        return token_keys_has(token_verifier_keys(verifier), token_signer_key_id(signer)) ? 0 : -ENOKEY;
}

static int load_token_keys(Api *api, sd_event *event) {
        int r = token_signer_load(&api->token_signer);
        if (r < 0)
                return log_error_errno(r, "Failed to load the credential " TOKEN_PRIVATE_CREDENTIAL ": %m");
        r = token_verifier_new(&api->token_verifier, event, REMEMBERED_TOKENS);
        if (r < 0)
                return log_error_errno(r, "Failed to load the credential " TOKEN_PUBLIC_CREDENTIAL ": %m");
        r = check_signer(api->token_signer, api->token_verifier);
        if (r < 0)
                return log_error_errno(r,
                        "The key that signs access tokens, credential " TOKEN_PRIVATE_CREDENTIAL
                        ", is not among those in " TOKEN_PUBLIC_CREDENTIAL ".");
        return 0;
}

static void reload_token_keys(ApiRole *role) {
        _cleanup_(token_signer_freep) TokenSigner *signer = NULL;
        Api *api = &role->api;

        int r = token_verifier_reload(api->token_verifier);
        if (r < 0)
                role_process_problem(role->process,
                        "The credential " TOKEN_PUBLIC_CREDENTIAL " is not taken: %s", strerror(-r));
        r = token_signer_load(&signer);
        if (r >= 0)
                r = check_signer(signer, api->token_verifier);
        if (r < 0) {
                role_process_problem(role->process,
                        "The credential " TOKEN_PRIVATE_CREDENTIAL " is not taken: %s", strerror(-r));
                return;
        }
        token_signer_free(api->token_signer);
        api->token_signer = TAKE_PTR(signer);
}

static int start(ApiRole *role) {
        RoleProcess *process = role->process;
        Api *api = &role->api;

        api->conf = process->conf;
        api->dispatcher = process->dispatcher;
        int r = api_init(api);
        if (r < 0)
                return log_oom();
        r = load_token_keys(api, process->event);
        if (r < 0)
                return r;
        r = open_accounts(api, process);
        if (r < 0)
                return r;
        r = health_new(&role->health, api);
        if (r < 0)
                return log_oom();
        r = rest_new(&role->rest, api, role->health);
        if (r < 0)
                return log_error_errno(r, "Failed to set up REST: %m");
        return listen_http(role);
}

int api_start(RoleProcess *process, void **ret) {
        ApiRole *role = new0(ApiRole, 1);

        if (!role)
                return log_oom();
        role->process = process;
        int r = start(role);
        if (r < 0) {
                api_stop(role);
                return r;
        }
        *ret = role;
        return 0;
}

/* Calls were cancelled before; what still runs waits for a write. In this order: no new requests; the hashes
 * under way end; the store commits what is queued, and with that the last fibers end; then nobody uses the
 * rest. */
void api_stop(void *userdata) {
        ApiRole *role = userdata;
        Api *api = &role->api;

        web_server_free(role->web);
        if (api->intents)
                intents_stop(api->intents);
        password_hasher_free(TAKE_PTR(api->hasher));
        store_room_stop(api->room);
        token_verifier_free(TAKE_PTR(api->token_verifier));
        store_close(api->store);
        store_room_free(api->room);
        intents_free(api->intents);
        health_free(role->health);
        rest_free(role->rest);
        token_signer_free(api->token_signer);
        api_done(api);
        free(role);
}

/* --- while it runs --- */

void api_reload(void *userdata) {
        ApiRole *role = userdata;
        WebLimits limits;

        read_limits(role->api.conf, &limits);
        web_server_set_limits(role->web, &limits);
        role_web_reload(role->process, role->web);
        reload_token_keys(role);
}

bool api_healthy(void *userdata) {
        ApiRole *role = userdata;
        return !store_room_is_full(role->api.room) && store_is_connected(role->api.store);
}

bool api_alive(void *userdata) {
        ApiRole *role = userdata;
        return password_hasher_is_alive(role->api.hasher) &&
               token_verifier_is_alive(role->api.token_verifier) &&
               store_is_alive(role->api.store, STORE_MAX_BUSY_USEC);
}

const char *api_status(void *userdata) {
        ApiRole *role = userdata;
        unsigned n = web_server_n_connections(role->web);

        if (store_room_is_full(role->api.room))
                return "Degraded: the disk is full";
        if (!store_is_connected(role->api.store))
                return "Degraded: the store is not reachable";
        snprintf(role->status, sizeof(role->status), "Serving, %u HTTP connection%s", n, n == 1 ? "" : "s");
        return role->status;
}

size_t api_statistics(BusStatistic *ret, size_t max, void *userdata) {
        ApiRole *role = userdata;
        const Api *api = &role->api;
        WebStatistics web;
        web_server_get_statistics(role->web, &web);
        const BusStatistic statistics[] = {
                {"connections", web_server_n_connections(role->web)},
                {"pending_bytes", web.pending},
                {"pending_evicted", web.n_evicted},
                {"registrations", api->n_registrations},
                {"logins", api->n_logins},
                {"logins_failed", api->n_failed_logins},
                {"refreshes", api->n_refreshes},
                {"refreshes_repeated", api->n_repeated_refreshes},
        };
        size_t n = MIN(max, ELEMENTSOF(statistics));

        memcpy(ret, statistics, n * sizeof(BusStatistic));
        n += rest_statistics(role->rest, ret + n, max - n);
        n += store_role_statistics(api->store, ret + n, max - n);
        n += intents_statistics(api->intents, ret + n, max - n);
        return n;
}

static void on_drained(void *userdata) {
        role_process_stopped(((ApiRole *) userdata)->process);
}

/* Requests that were taken are answered, and the answers written, before the role ends. */
void api_drain(void *userdata) {
        ApiRole *role = userdata;

        web_server_drain(role->web, on_drained, role);
}
