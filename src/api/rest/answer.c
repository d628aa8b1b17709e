/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rest/answer.h"

#include <stdio.h>

#include "proto/json.h"
#include "schema-tables.h"
#include "util/string-util.h"

#define MAX_HEADERS 16U
#define PREFLIGHT_SECONDS "600" /* browsers may keep a preflight's answer so long */

typedef struct HeaderList {
        HttpHeader headers[MAX_HEADERS];
        size_t n;
} HeaderList;

static void add_header(HeaderList *list, const char *name, const char *value) {
        assert_se(list->n < MAX_HEADERS);
        list->headers[list->n++] = (HttpHeader){.name = name, .value = value};
}

/* Web pages of these origins may read our answers. No cookies are involved: pages present a token. */
static void add_cors_headers(HeaderList *list, const RestRequest *request) {
        const char *allowed = request->rest->api->conf->api_allowed_origins;
        const char *origin = http_request_header(request->http, "origin");

        if (isempty(allowed))
                return;
        add_header(list, "vary", "origin");
        if (!origin || (!conf_list_contains(allowed, "*") && !conf_list_contains(allowed, origin)))
                return;
        add_header(list, "access-control-allow-origin", origin);
        add_header(list, "access-control-expose-headers", "traceparent, retry-after");
}

void rest_request_end(RestRequest *request) {
        Rest *rest = request->rest;

        if (!request->dispatched)
                call_free(request->call);
        if (request->http)
                http_request_set_userdata(request->http, NULL);
        if (rest) {
                LIST_REMOVE(request, requests);
                rest->n_active--;
        }
        free(request);
}

/* The headers of every answer, and those of this one. */
static void begin_answer(RestRequest *request, unsigned status,
        char traceparent[static TRACEPARENT_TEXT_SIZE], const HttpHeader *headers, size_t n_headers,
        HeaderList *ret) {
        trace_format(&request->trace, traceparent);
        add_header(ret, "traceparent", traceparent);
        add_header(ret, "cache-control", "no-store");
        add_header(ret, "x-content-type-options", "nosniff");
        add_cors_headers(ret, request);
        FOREACH_ARRAY(header, headers, n_headers)
                add_header(ret, header->name, header->value);
        if (status >= 500)
                request->rest->n_failed++;
        http_request_set_userdata(request->http, NULL);
}

static bool can_answer(const RestRequest *request) {
        return request->http && request->rest;
}

void rest_answer(RestRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size) {
        char traceparent[TRACEPARENT_TEXT_SIZE];
        HeaderList list = {};

        if (can_answer(request)) {
                begin_answer(request, status, traceparent, headers, n_headers, &list);
                http_respond(
                        TAKE_PTR(request->http), status, content_type, list.headers, list.n, body, size);
        }
        rest_request_end(request);
}

void rest_answer_static(RestRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, const void *body, size_t size) {
        char traceparent[TRACEPARENT_TEXT_SIZE];
        HeaderList list = {};

        if (can_answer(request)) {
                begin_answer(request, status, traceparent, headers, n_headers, &list);
                http_respond_static(
                        TAKE_PTR(request->http), status, content_type, list.headers, list.n, body, size);
        }
        rest_request_end(request);
}

void rest_answer_buffer(RestRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, Buffer *body) {
        char traceparent[TRACEPARENT_TEXT_SIZE];
        HeaderList list = {};

        if (can_answer(request)) {
                begin_answer(request, status, traceparent, headers, n_headers, &list);
                http_respond_buffer(
                        TAKE_PTR(request->http), status, content_type, list.headers, list.n, body);
        }
        rest_request_end(request);
}

int rest_write_problem(Buffer *out, Sc__ErrorCode code, const char *detail, const Trace *trace) {
        const ErrorInfo *error = schema_error(code);
        char id[TRACE_ID_TEXT_SIZE], status[32];

        (void) buffer_append_string(out, "{\"type\":\"urn:stonechat:error:");
        (void) buffer_append_string(out, error->name);
        (void) buffer_append_string(out, "\",\"title\":");
        (void) json_write_string(out, error->title, strlen(error->title));
        snprintf(status, sizeof(status), ",\"status\":%u,\"code\":\"", error->http);
        (void) buffer_append_string(out, status);
        (void) buffer_append_string(out, error->name);
        (void) buffer_append_string(out, "\"");
        if (!isempty(detail)) {
                (void) buffer_append_string(out, ",\"detail\":");
                (void) json_write_string(out, detail, strlen(detail));
        }
        if (trace) {
                trace_format_id(trace, id);
                (void) buffer_append_string(out, ",\"trace_id\":\"");
                (void) buffer_append_string(out, id);
                (void) buffer_append_string(out, "\"");
        }
        return buffer_append_string(out, "}");
}

/* What was refused for a reason that may pass will come again. A write that was sent behind it must not be done
 * before: messages keep their order. */
static void keep_order(const RestRequest *request, const ErrorInfo *error) {
        if (request->http && error->temporary && !streq(http_request_verb(request->http), "GET"))
                http_request_drop_ahead(request->http);
}

void rest_answer_problem(RestRequest *request, Sc__ErrorCode code, const char *detail, const char *allow) {
        const ErrorInfo *error = schema_error(code);
        _cleanup_buffer_ Buffer body = {};
        char retry_after[16];
        HttpHeader headers[3];
        size_t n = 0;

        /* RFC 9110: a 401 says how to sign in, a 405 what is allowed. */
        if (error->http == 401)
                headers[n++] = (HttpHeader){"www-authenticate",
                        request->token_given ? "Bearer error=\"invalid_token\"" : "Bearer"};
        if (allow)
                headers[n++] = (HttpHeader){"allow", allow};
        if (error->http == 429 || error->http == 503) {
                snprintf(retry_after, sizeof(retry_after), "%u", charge_wait_seconds(request->retry_usec));
                headers[n++] = (HttpHeader){"retry-after", retry_after};
        }
        keep_order(request, error);
        /* Without memory for the document the status alone has to do. */
        if (rest_write_problem(&body, code, detail, &request->trace) < 0)
                body.size = 0;
        rest_answer(request, error->http, "application/problem+json", headers, n, body.data, body.size);
}

void rest_answer_options(RestRequest *request, const char *allow) {
        HttpHeader headers[] = {
                {"allow", allow},
                {"access-control-allow-methods", allow},
                {"access-control-allow-headers", "authorization, content-type, traceparent"},
                {"access-control-max-age", PREFLIGHT_SECONDS},
        };

        rest_answer(request, 204, NULL, headers, ELEMENTSOF(headers), NULL, 0);
}
