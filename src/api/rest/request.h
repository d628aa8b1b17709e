/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The REST surface's state, and that of one request: what its parts share. Not for other domains. */

#include <sys/queue.h>

#include "api/health.h"
#include "api/rest/route-table.h"
#include "web/web.h"

#define OPENAPI_ETAG_SIZE 35U /* quotes, 16 bytes in hexadecimal, NUL */

typedef struct Rest Rest;

/* A request under way: from its arrival until it is answered, even if the client has gone meanwhile. */
typedef struct RestRequest {
        Rest *rest; /* NULL: gone before */
        HttpRequest *http; /* NULL: the client has gone, or was answered */
        Call *call; /* of a method; the request's until it is dispatched */
        bool dispatched;
        Fiber *fiber; /* that it waits on; NULL: none, or it has not begun */
        Trace trace; /* sampled only once it was admitted */
        bool wants_sampling;
        char address[64]; /* of the client */
        uint64_t deadline_usec; /* on CLOCK_BOOTTIME */
        bool token_given, token_checked;
        Sc__ErrorCode token_code; /* once it was checked */
        TokenClaims claims; /* if that is ERROR_NONE */
        uint64_t retry_usec; /* of ERROR_RATE_LIMITED: after how long to try again; 0: not known */
        LIST_ENTRY(RestRequest) requests;
} RestRequest;

struct Rest {
        Api *api;
        Health *health;
        RouteTable *routes;
        uint64_t n_requests, n_failed, n_limited; /* failed: answered with a status of 500 and above */
        unsigned n_active;
        char openapi_etag[OPENAPI_ETAG_SIZE];
        LIST_HEAD(RestRequestList, RestRequest) requests;
};
