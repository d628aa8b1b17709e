/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rest.h"

#include <sodium.h>
#include <stdio.h>

#include "api/rest-internal.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* Memory of one call: its request, and the largest answer that another role may give. */
#define REST_ARENA_LIMIT (16U << 20)

int rest_new(Rest **ret, const RestConfig *config) {
        _cleanup_(rest_freep) Rest *rest = new0(Rest, 1);
        uint8_t hash[16];

        if (!rest)
                return -ENOMEM;
        rest->config = *config;
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

void rest_get_statistics(const Rest *rest, RestStatistics *ret) {
        *ret = rest->statistics;
}

void rest_on_refused(Sc__ErrorCode code, Buffer *body, void *userdata) {
        (void) rest_write_problem(body, code, NULL, NULL);
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
                rest_answer(
                        request, 200, "application/json", &header, 1, schema_openapi, schema_openapi_size);
}

static void on_health(const HealthState *state, void *userdata) {
        bool healthy = state->store && state->group;
        char text[128];

        int n = snprintf(text, sizeof(text), "{\"status\":\"%s\",\"store\":\"%s\",\"group\":\"%s\"}",
                healthy ? "ok" : "degraded", state->store ? "ok" : "unavailable",
                state->group ? "ok" : "unavailable");
        rest_answer(userdata, healthy ? 200 : 503, "application/json", NULL, 0, text, (size_t) n);
}

static void answer_health(RestRequest *request) {
        int r = health_check(request->rest->config.health, on_health, request);
        if (r < 0)
                rest_answer_problem(request, ERROR_OVERLOADED, NULL, NULL);
}

static const struct {
        const char *path;
        void (*answer)(RestRequest *request);
} pages[] = {
        {"/", answer_root},
        {"/healthz", answer_health},
        {"/openapi.json", answer_openapi},
};

/* True if it was a page, and then it is answered, or will be. */
static bool serve_page(RestRequest *request, const char *verb, const char *path) {
        FOREACH_ARRAY(page, pages, ELEMENTSOF(pages)) {
                if (!streq(page->path, path))
                        continue;
                if (streq(verb, "GET"))
                        page->answer(request);
                else if (streq(verb, "OPTIONS"))
                        rest_answer_options(request, "GET");
                else
                        rest_answer_problem(request, ERROR_METHOD_NOT_ALLOWED, NULL, "GET");
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
                rest_answer_problem(request, code, detail, NULL);
                return;
        }
        log_trace(&call->trace, (.method = call->method->name, .user = call->caller.user),
                "Answered %s with status %u", call->method->name, call->method->http_status);
        rest_answer(request, call->method->http_status, "application/json", NULL, 0, body.data, body.size);
}

static void dispatch(RestRequest *request) {
        Call *call = TAKE_PTR(request->call);

        log_trace(&call->trace, (.method = call->method->name, .user = call->caller.user), "REST request %s",
                call->method->name);
        dispatcher_dispatch(request->rest->config.dispatcher, call);
}

static void on_session_checked(Sc__ErrorCode code, void *userdata) {
        RestRequest *request = userdata;

        if (!request->http || !request->rest)
                rest_request_end(request);
        else if (code != ERROR_NONE)
                rest_answer_problem(request, code, NULL, NULL);
        else
                dispatch(request);
}

/* Verifies the token, then asks whether its session is still in force. */
static void authenticate(RestRequest *request) {
        const RestConfig *config = &request->rest->config;
        const char *token = rest_bearer_token(request->http);
        Sc__Caller caller = SC__CALLER__INIT;
        TokenClaims claims;

        if (!token) {
                rest_answer_problem(request, ERROR_UNAUTHENTICATED, NULL, NULL);
                return;
        }
        request->token_given = true;
        Sc__ErrorCode code = token_verify(config->token_key, token, unix_msec() / 1000, &claims);
        if (code != ERROR_NONE) {
                rest_answer_problem(request, code, NULL, NULL);
                return;
        }
        caller.user = claims.user;
        caller.session = claims.session;
        caller.device = claims.device;
        int r = call_set_caller(request->call, &caller);
        if (r >= 0)
                r = accounts_check_session(
                        config->accounts, claims.user, claims.session, on_session_checked, request);
        if (r < 0)
                rest_answer_problem(request, ERROR_OVERLOADED, NULL, NULL);
}

static void serve_method(RestRequest *request, const RouteMatch *match) {
        JsonError error;

        Call *call = request->call = call_new(match->method, REST_ARENA_LIMIT, on_call_done, request);
        if (!call) {
                rest_answer_problem(request, ERROR_OVERLOADED, NULL, NULL);
                return;
        }
        call->trace = request->trace;
        call->address = arena_strdup(&call->arena, request->address);
        Sc__ErrorCode code =
                call->address ? rest_read_request(request->http, match, call, &error) : ERROR_OVERLOADED;
        if (code != ERROR_NONE)
                rest_answer_problem(request, code, error.detail, NULL);
        else if (call->method->access == ACCESS_PUBLIC)
                dispatch(request);
        else
                authenticate(request);
}

static void serve(RestRequest *request) {
        const char *given = http_request_verb(request->http);
        const char *verb = streq(given, "HEAD") ? "GET" : given; /* the web layer leaves the body out */
        const char *path = http_request_path(request->http);
        char allow[ROUTE_ALLOW_SIZE];
        RouteMatch match;

        if (serve_page(request, verb, path))
                return;
        int r = route_table_match(request->rest->routes, verb, path, &match, allow);
        if (r >= 0)
                serve_method(request, &match);
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
        rest->statistics.n_requests++;
        rest->statistics.n_active++;
        trace_begin(http_request_header(http, "traceparent"), rest->config.conf->log_trace_rate,
                &request->trace);
        rest_find_address(http, rest->config.conf, request->address, sizeof(request->address));
        serve(request);
}

void rest_on_abort(HttpRequest *http, void *userdata) {
        RestRequest *request = http_request_get_userdata(http);

        /* What is under way comes to its end; only nobody hears of it. */
        if (request)
                request->http = NULL;
}
