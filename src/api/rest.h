/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The REST surface. A request becomes a Call: route → fields from path, query and JSON body → bearer token →
 * session → dispatcher; its outcome becomes JSON, or a problem document (RFC 9457).
 *
 * Beside the methods' routes it answers / (a line of text), /healthz, /openapi.json, and OPTIONS (CORS). */

#include "api/accounts.h"
#include "api/health.h"
#include "conf/conf.h"
#include "service/dispatcher.h"
#include "web/web.h"

typedef struct Rest Rest;

/* All of it outlives the Rest. */
typedef struct RestConfig {
        const Conf *conf;
        const TokenKey *token_key;
        Dispatcher *dispatcher;
        Accounts *accounts;
        Health *health;
        void (*idle)(void *userdata); /* the last request under way was answered; optional */
        void *userdata;
} RestConfig;

typedef struct RestStatistics {
        uint64_t n_requests, n_failed; /* failed: answered with a status of 500 and above */
        unsigned n_active;
} RestStatistics;

int rest_new(Rest **ret, const RestConfig *config);
Rest *rest_free(Rest *rest);
DEFINE_CLEANUP(Rest *, rest_free);
void rest_get_statistics(const Rest *rest, RestStatistics *ret);

/* For WebHandlers, with the Rest as userdata. */
void rest_on_request(HttpRequest *http, void *userdata);
void rest_on_abort(HttpRequest *http, void *userdata);
void rest_on_refused(Sc__ErrorCode code, Buffer *body, void *userdata);
