/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api-role.h"

#include <stdio.h>

#include "log/message-ids.h"
#include "schema-tables.h"
#include "service/store-role.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* A store's thread that is busy with one operation for longer hangs: most take under a millisecond. */
#define STORE_MAX_BUSY_USEC (30 * USEC_PER_SEC)

/* --- what the parts tell us --- */

static void on_kicked(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        if (code != ERROR_NONE)
                log_peer((.trace = &call->trace, .method = call->method->name,
                                 .error = schema_error(code)->name),
                        LOG_WARNING, "The connections of an ended session were not closed.");
}

/* The session is gone from the store already; its connections go with the next token refresh at the latest.
 */
static void on_session_ended(const Trace *trace, const char *user, const char *session, void *userdata) {
        Sc__SessionKickRequest request = SC__SESSION_KICK_REQUEST__INIT;
        Api *api = userdata;

        request.user = (char *) user;
        request.session = (char *) session;
        int r = dispatcher_call(
                api->process->dispatcher, &method_session_kick, &request.base, trace, NULL, on_kicked, NULL);
        if (r < 0)
                log_peer((.trace = trace, .error_number = -r), LOG_WARNING,
                        "Failed to have an ended session's connections closed: %m");
}

static void on_store_full(bool full, void *userdata) {
        Api *api = userdata;

        if (full)
                log_with((.message_id = MESSAGE_ID_STORE_FULL), LOG_ERR,
                        "The disk is full: no registration or login can be stored.");
        else
                log_with((.message_id = MESSAGE_ID_STORE_RECOVERED), LOG_NOTICE, "The disk has room again.");
        role_process_changed(api->process);
}

static void on_idle(void *userdata) {
        Api *api = userdata;

        if (api->draining)
                role_process_stopped(api->process);
}

/* --- start --- */

static int open_accounts(Api *api) {
        const Conf *conf = api->process->conf;
        _cleanup_free_ char *path =
                format_string("%s/accounts.db", role_process_state_directory(api->process));
        if (!path)
                return log_oom();
        int r = store_open(&api->store, api->process->event,
                &(StoreConfig){
                        .kind = conf->store_kind,
                        .path = path,
                        .records = accounts_records,
                        .n_readers = (unsigned) conf->store_readers,
                        .batch_operations = (unsigned) conf->store_batch_operations,
                        .max_queued = (unsigned) conf->store_queue,
                });
        if (r < 0)
                return log_error_errno(r, "Failed to open the store %s: %m", path);
        _cleanup_(password_hasher_freep) PasswordHasher *hasher = NULL;
        r = password_hasher_new(&hasher, api->process->event, (unsigned) conf->auth_hash_threads,
                (unsigned) conf->auth_hash_queue);
        if (r < 0)
                return log_error_errno(r, "Failed to start the threads that hash passwords: %m");
        AccountsConfig config = {
                .store = api->store,
                .conf = conf,
                .token_key = api->token_key,
                .hasher = hasher,
                .session_ended = on_session_ended,
                .store_full = on_store_full,
                .userdata = api,
        };
        r = accounts_new(&api->accounts, &config);
        if (r < 0)
                return log_oom();
        TAKE_PTR(hasher); /* the accounts' now */
        return 0;
}

static void read_limits(const Conf *conf, WebLimits *ret) {
        *ret = (WebLimits){
                .max_body = conf->api_max_body,
                .max_headers = conf->api_max_headers,
                .request_timeout_usec = conf->api_request_timeout_usec,
                .max_connections = (unsigned) conf->api_max_connections,
                .max_connections_per_address = (unsigned) conf->api_max_connections_per_address,
        };
}

static int listen_http(Api *api) {
        static const WebHandlers handlers = {
                .on_request = rest_on_request,
                .on_abort = rest_on_abort,
                .on_refused = rest_on_refused,
        };
        WebLimits limits;

        read_limits(api->process->conf, &limits);
        int r = web_server_new(
                &api->web, api->process->web_loop, api->process->event, &limits, NULL, &handlers, api->rest);
        if (r < 0)
                return log_error_errno(r, "Failed to set up HTTP: %m");
        int fd = role_process_take_socket(api->process, "http");
        if (fd < 0)
                return log_error_errno(fd, "Got no socket named http to listen on: %m");
        r = web_server_listen(api->web, fd);
        if (r < 0)
                return log_error_errno(r, "Failed to listen for HTTP: %m");
        return 0;
}

static int start(Api *api) {
        RoleProcess *process = api->process;

        int r = token_key_load(&api->token_key);
        if (r < 0)
                return log_error_errno(r,
                        "Failed to load the credential token.key (%d random bytes at least): %m",
                        TOKEN_KEY_SIZE);
        r = open_accounts(api);
        if (r < 0)
                return r;
        r = health_new(&api->health, process->event, api->store, process->dispatcher);
        if (r < 0)
                return r;
        r = rest_new(&api->rest, &(RestConfig){
                                         .conf = process->conf,
                                         .token_key = api->token_key,
                                         .dispatcher = process->dispatcher,
                                         .accounts = api->accounts,
                                         .health = api->health,
                                         .idle = on_idle,
                                         .userdata = api,
                                 });
        if (r < 0)
                return r;
        return listen_http(api);
}

int api_start(RoleProcess *process, void **ret) {
        Api *api = new0(Api, 1);

        if (!api)
                return log_oom();
        api->process = process;
        int r = start(api);
        if (r < 0) {
                api_stop(api);
                return r;
        }
        *ret = api;
        return 0;
}

/* In this order: no new requests; hashes under way end and may still write; the store commits what is queued
 * and answers everybody; then nobody uses the rest. */
void api_stop(void *role) {
        Api *api = role;

        web_server_free(api->web);
        if (api->accounts)
                accounts_stop_hashing(api->accounts);
        store_close(api->store);
        health_free(api->health);
        rest_free(api->rest);
        accounts_free(api->accounts);
        token_key_free(api->token_key);
        free(api);
}

/* --- while it runs --- */

void api_reload(void *role) {
        Api *api = role;
        WebLimits limits;

        read_limits(api->process->conf, &limits);
        web_server_set_limits(api->web, &limits);
}

bool api_healthy(void *role) {
        Api *api = role;
        return !api->accounts->store_full;
}

bool api_alive(void *role) {
        Api *api = role;
        return accounts_are_alive(api->accounts) && store_is_alive(api->store, STORE_MAX_BUSY_USEC);
}

const char *api_status(void *role) {
        Api *api = role;
        unsigned n = web_server_n_connections(api->web);

        if (api->accounts->store_full)
                return "Degraded: the disk is full";
        snprintf(api->status, sizeof(api->status), "Serving, %u HTTP connection%s", n, n == 1 ? "" : "s");
        return api->status;
}

size_t api_statistics(BusStatistic *ret, size_t max, void *role) {
        Api *api = role;
        RestStatistics rest;

        rest_get_statistics(api->rest, &rest);
        const BusStatistic statistics[] = {
                {"connections", web_server_n_connections(api->web)},
                {"requests", rest.n_requests},
                {"requests_active", rest.n_active},
                {"requests_failed", rest.n_failed},
                {"registrations", api->accounts->n_registrations},
                {"logins", api->accounts->n_logins},
                {"logins_failed", api->accounts->n_failed_logins},
                {"refreshes", api->accounts->n_refreshes},
        };
        size_t n = MIN(max, ELEMENTSOF(statistics));
        memcpy(ret, statistics, n * sizeof(BusStatistic));
        n += store_role_statistics(api->store, ret + n, max - n);
        return n;
}

void api_drain(void *role) {
        Api *api = role;
        RestStatistics rest;

        api->draining = true;
        web_server_stop_accepting(api->web);
        rest_get_statistics(api->rest, &rest);
        if (rest.n_active == 0)
                role_process_stopped(api->process);
}
