/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by the rest*.c only. */

#include <sys/queue.h>

#include "api/rest.h"
#include "api/route-table.h"
#include "proto/json.h"

#define OPENAPI_ETAG_SIZE 35U /* quotes, 16 bytes in hexadecimal, NUL */

/* A request under way: from its arrival until it is answered, even if the client has gone meanwhile. */
typedef struct RestRequest {
        Rest *rest; /* NULL: gone before */
        HttpRequest *http; /* NULL: the client has gone, or was answered */
        Call *call; /* until it is dispatched */
        Trace trace;
        char address[64]; /* of the client */
        bool token_given;
        LIST_ENTRY(RestRequest) requests;
} RestRequest;

struct Rest {
        RestConfig config;
        RouteTable *routes;
        RestStatistics statistics;
        char openapi_etag[OPENAPI_ETAG_SIZE];
        LIST_HEAD(RestRequestList, RestRequest) requests;
};

/* --- answers: each of them ends and frees the request --- */

void rest_answer(RestRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size);
/* allow: the value of the Allow header, or NULL. */
void rest_answer_problem(RestRequest *request, Sc__ErrorCode code, const char *detail, const char *allow);
/* OPTIONS on a path that knows these verbs. */
void rest_answer_options(RestRequest *request, const char *allow);
/* Frees without an answer: the client has gone. */
void rest_request_end(RestRequest *request);

/* Appends a problem document; trace may be NULL. */
int rest_write_problem(Buffer *out, Sc__ErrorCode code, const char *detail, const Trace *trace);

/* --- reading --- */

/* The client's address: the peer's, or what a trusted proxy says. */
void rest_find_address(const HttpRequest *http, const Conf *conf, char *out, size_t size);

/* Fills call->request from path, query and body. ERROR_NONE, or error->detail says more. */
Sc__ErrorCode rest_read_request(
        const HttpRequest *http, const RouteMatch *match, Call *call, JsonError *error);

/* The token of "Authorization: Bearer TOKEN", or NULL. */
const char *rest_bearer_token(const HttpRequest *http);
