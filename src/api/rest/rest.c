/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rest/rest.h"

#include <sodium.h>
#include <stdio.h>

#include "api/rest/admit.h"
#include "api/rest/answer.h"
#include "api/rest/read.h"
#include "api/session/session.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* Memory of one call: its request, and the largest answer that another role may give. */
#define REST_ARENA_LIMIT (16U << 20)

/* For the Allow header: of our own pages, and of the server as a whole ("OPTIONS *"). */
#define PAGE_VERBS "GET, HEAD, OPTIONS"
#define ALL_VERBS "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

int rest_new(Rest **ret, Api *api, Health *health) {
        _cleanup_(rest_freep) Rest *rest = new0(Rest, 1);
        uint8_t hash[16];

        if (!rest)
                return -ENOMEM;
        rest->api = api;
        rest->health = health;
        LIST_INIT(&rest->requests);
        int r = route_table_new(&rest->routes, schema_methods, schema_n_methods);
        if (r < 0)
                return r;
        crypto_generichash(
                hash, sizeof(hash), (const uint8_t *) schema_openapi, schema_openapi_size, NULL, 0);
        rest->openapi_etag[0] = '"';
        hex_encode(hash, sizeof(hash), rest->openapi_etag + 1);
        strcpy(rest->openapi_etag + 33, "\"");
        *ret = TAKE_PTR(rest);
        return 0;
}

Rest *rest_free(Rest *rest) {
        RestRequest *request;

        if (!rest)
                return NULL;
        LIST_FOREACH(request, &rest->requests, requests)
                request->rest = NULL;
        route_table_free(rest->routes);
        free(rest);
        return NULL;
}

unsigned rest_n_active(const Rest *rest) {
        return rest->n_active;
}

size_t rest_statistics(const Rest *rest, BusStatistic *ret, size_t max) {
        const BusStatistic statistics[] = {
                {"requests", rest->n_requests},
                {"requests_active", rest->n_active},
                {"requests_failed", rest->n_failed},
                {"requests_limited", rest->n_limited},
        };
        size_t n = MIN(max, ELEMENTSOF(statistics));

        memcpy(ret, statistics, n * sizeof(BusStatistic));
        return n;
}

void rest_on_refused(Sc__ErrorCode code, Buffer *body, void *userdata) {
        (void) rest_write_problem(body, code, NULL, NULL);
}

/* --- what a request waits for --- */

/* No stack became free in time, or the role ends. */
static void on_wait_cancelled(int r, void *userdata) {
        RestRequest *request = userdata;

        if (request->http)
                rest_answer_problem(request, call_code_of_errno(r), NULL, NULL);
        else
                rest_request_end(request);
}

/* Goes on on a fiber, where it may wait; `key`: whose turn that counts as. */
static void continue_on_fiber(RestRequest *request, const char *key, void (*main)(void *userdata)) {
        Api *api = request->rest->api;
        FiberStart start = {
                .main = main,
                .cancelled = on_wait_cancelled,
                .userdata = request,
                .key = key,
                .deadline_usec = request->deadline_usec,
                .trace = &request->trace,
        };

        int r = fiber_start(dispatcher_fibers(api->dispatcher), &start, NULL);
        if (r < 0)
                rest_answer_problem(request, ERROR_OVERLOADED, NULL, NULL);
}

/* Of what the function waits for the client's going ends it. False: it has gone. */
static bool begin_waiting(RestRequest *request) {
        request->fiber = fiber_current();
        return request->http;
}

static bool end_waiting(RestRequest *request) {
        request->fiber = NULL;
        return request->http;
}

/* --- pages of our own --- */

static void answer_root(RestRequest *request) {
        static const char text[] = "Stonechat " STONECHAT_VERSION "\n"
                                   "The REST interface is described by /openapi.json.\n";

        rest_answer(request, 200, "text/plain; charset=utf-8", NULL, 0, text, sizeof(text) - 1);
}

static void answer_openapi(RestRequest *request) {
        const char *etag = request->rest->openapi_etag;
        const char *known = http_request_header(request->http, "if-none-match");
        HttpHeader header = {"etag", etag};

        if (known && (streq(known, "*") || strstr(known, etag)))
                rest_answer(request, 304, NULL, &header, 1, NULL, 0);
        else
                rest_answer_static(
                        request, 200, "application/json", &header, 1, schema_openapi, schema_openapi_size);
}

/* For load balancers the status code is enough: 503 while this host cannot serve. On a full disk it can: reading,
 * and whoever is signed in, go on, so that is 200, and the document says what is wrong. */
static void answer_state(RestRequest *request, const HealthState *state) {
        static const char *const names[] = {
                [HEALTH_UNAVAILABLE] = "unavailable", [HEALTH_FULL] = "full", [HEALTH_OK] = "ok"};
        HealthOf worst = MIN(state->store, state->group);
        const char *reason = worst == HEALTH_FULL                 ? ",\"reason\":\"storage_full\""
                             : state->store == HEALTH_UNAVAILABLE ? ",\"reason\":\"store_unavailable\""
                             : state->group == HEALTH_UNAVAILABLE ? ",\"reason\":\"group_unavailable\""
                                                                  : "";
        char text[160];

        int n = snprintf(text, sizeof(text), "{\"status\":\"%s\"%s,\"store\":\"%s\",\"group\":\"%s\"}",
                worst == HEALTH_OK     ? "ok"
                : worst == HEALTH_FULL ? "degraded"
                                       : "unavailable",
                reason, names[state->store], names[state->group]);
        rest_answer(request, worst == HEALTH_UNAVAILABLE ? 503 : 200, "application/json", NULL, 0, text,
                (size_t) n);
}

static void serve_health(void *userdata) {
        RestRequest *request = userdata;
        HealthState state = {};
        int r = 0;

        if (begin_waiting(request))
                r = health_check(request->rest->health, &state);
        if (!end_waiting(request)) {
                rest_request_end(request);
                return;
        }
        if (r < 0)
                rest_answer_problem(request, ERROR_OVERLOADED, NULL, NULL);
        else
                answer_state(request, &state);
}

static void answer_health(RestRequest *request) {
        continue_on_fiber(request, "health", serve_health);
}

static const struct {
        const char *path;
        void (*answer)(RestRequest *request);
        bool free; /* whoever looks after the server asks often, and is answered whatever else its address does */
} pages[] = {
        {"/", answer_root, false},
        {"/healthz", answer_health, true},
        {"/openapi.json", answer_openapi, false},
};

/* False: it was refused. */
static bool admit_page(RestRequest *request) {
        Sc__ErrorCode code = rest_admit_page(request);

        if (code != ERROR_NONE)
                rest_answer_problem(request, code, NULL, NULL);
        return code == ERROR_NONE;
}

/* True if it was a page, and then it is answered, or will be. */
static bool serve_page(RestRequest *request, const char *verb, const char *path) {
        FOREACH_ARRAY(page, pages, ELEMENTSOF(pages)) {
                if (!streq(page->path, path))
                        continue;
                if (!page->free && !admit_page(request))
                        return true;
                if (streq(verb, "GET"))
                        page->answer(request);
                else if (streq(verb, "OPTIONS"))
                        rest_answer_options(request, PAGE_VERBS);
                else
                        rest_answer_problem(request, ERROR_METHOD_NOT_ALLOWED, NULL, PAGE_VERBS);
                return true;
        }
        return false;
}

/* --- methods --- */

static void on_call_done(Call *call, Sc__ErrorCode code, const char *detail,
        const ProtobufCMessage *response, void *userdata) {
        RestRequest *request = userdata;
        _cleanup_buffer_ Buffer body = {};

        if (!request->http || !request->rest) {
                rest_request_end(request);
                return;
        }
        if (code == ERROR_NONE && json_write_message(&body, call->method->response, response) < 0) {
                code = ERROR_INTERNAL;
                detail = NULL;
        }
        if (code != ERROR_NONE) {
                request->retry_usec = call->retry_usec;
                rest_answer_problem(request, code, detail, NULL);
                return;
        }
        log_trace(&call->trace, (.method = call->method->name, .user = call->caller.user),
                "Answered %s with status %u", call->method->name, call->method->http_status);
        rest_answer_buffer(request, call->method->http_status, "application/json", NULL, 0, &body);
}

static void dispatch(RestRequest *request) {
        Call *call = request->call;

        log_trace(&call->trace, (.method = call->method->name, .user = call->caller.user), "REST request %s",
                call->method->name);
        request->dispatched = true;
        dispatcher_dispatch(request->rest->api->dispatcher, call);
}

/* Is the session of the token still in force? Then the method's turn. */
static void serve_signed_in(void *userdata) {
        RestRequest *request = userdata;
        const Sc__Caller *caller = &request->call->caller;
        int r = 0;

        if (begin_waiting(request))
                r = session_check(request->rest->api, caller->user, caller->session);
        if (!end_waiting(request)) {
                rest_request_end(request);
                return;
        }
        if (r < 0) {
                log_peer((.trace = &request->trace, .error_number = -r), LOG_WARNING,
                        "Failed to read a session: %s", store_error_text(r));
                rest_answer_problem(request, call_code_of_errno(r), NULL, NULL);
        } else if (r == 0)
                rest_answer_problem(request, ERROR_SESSION_REVOKED, NULL, NULL);
        else
                dispatch(request);
}

static void serve(RestRequest *request);

static void serve_with_token(void *userdata) {
        RestRequest *request = userdata;
        int r = 0;

        if (begin_waiting(request))
                r = rest_check_token(request);
        if (!end_waiting(request)) {
                rest_request_end(request);
                return;
        }
        if (r < 0)
                rest_answer_problem(request, call_code_of_errno(r), NULL, NULL);
        else
                serve(request);
}

static void serve_method(RestRequest *request, const RouteMatch *match) {
        JsonError error = {};

        if (rest_token_is_unknown(request, match->method)) {
                continue_on_fiber(request, request->address, serve_with_token);
                return;
        }
        Call *call = request->call = call_new(match->method, REST_ARENA_LIMIT, on_call_done, request);
        if (!call) {
                rest_answer_problem(request, ERROR_OVERLOADED, NULL, NULL);
                return;
        }
        call->trace = request->trace;
        call->deadline_usec = request->deadline_usec;
        call->address = arena_strdup(&call->arena, request->address);
        Sc__ErrorCode code = call->address ? rest_admit_call(request) : ERROR_OVERLOADED;
        if (code == ERROR_NONE)
                code = rest_read_request(request->http, match, call, &error);
        http_request_free_body(request->http);
        if (code != ERROR_NONE)
                rest_answer_problem(request, code, error.detail, NULL);
        else if (call->method->access == ACCESS_PUBLIC)
                dispatch(request);
        else
                continue_on_fiber(request, call->caller.user, serve_signed_in);
}

static void serve(RestRequest *request) {
        const char *given = http_request_verb(request->http);
        const char *verb = streq(given, "HEAD") ? "GET" : given; /* the web layer leaves the body out */
        const char *path = http_request_path(request->http);
        char allow[ROUTE_ALLOW_SIZE];
        RouteMatch match;

        if (serve_page(request, verb, path))
                return;
        if (streq(path, "*")) {
                if (admit_page(request))
                        rest_answer_options(request, ALL_VERBS);
                return;
        }
        int r = route_table_match(request->rest->routes, verb, path, &match, allow);
        if (r >= 0)
                serve_method(request, &match);
        else if (!admit_page(request))
                return;
        else if (r == -ENOENT)
                rest_answer_problem(request, ERROR_METHOD_NOT_FOUND, "no such path", NULL);
        else if (streq(verb, "OPTIONS"))
                rest_answer_options(request, allow);
        else
                rest_answer_problem(request, ERROR_METHOD_NOT_ALLOWED, NULL, allow);
}

void rest_on_request(HttpRequest *http, void *userdata) {
        RestRequest *request = new0(RestRequest, 1);
        Rest *rest = userdata;

        if (!request) {
                http_respond(http, 503, NULL, NULL, 0, NULL, 0);
                return;
        }
        request->rest = rest;
        request->http = http;
        http_request_set_userdata(http, request);
        LIST_INSERT_HEAD(&rest->requests, request, requests);
        request->deadline_usec = boottime_usec() + rest->api->conf->rpc_timeout_usec;
        rest->n_requests++;
        rest->n_active++;
        trace_begin(http_request_header(http, "traceparent"), &request->trace);
        request->wants_sampling = request->trace.sampled;
        request->trace.sampled = false;
        rest_find_address(http, rest->api->conf, request->address, sizeof(request->address));
        serve(request);
}

void rest_on_abort(HttpRequest *http, void *userdata) {
        RestRequest *request = http_request_get_userdata(http);

        if (!request)
                return;
        request->http = NULL;
        /* Both may end the request at once. What waits for nothing comes to its end; only nobody hears of
         * it. */
        if (request->fiber)
                fiber_cancel(request->fiber, -ECANCELED);
        else if (request->dispatched)
                call_cancel(request->call);
}
