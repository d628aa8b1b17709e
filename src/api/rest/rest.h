/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The REST surface. A request becomes a Call: route → fields from path, query and JSON body → bearer token →
 * session → dispatcher; its outcome becomes JSON, or a problem document (RFC 9457). When its client goes the
 * call is cancelled.
 *
 * Beside the methods' routes it answers / (a line of text), /healthz, /openapi.json, and OPTIONS (CORS). */

#include "api/health.h"
#include "bus/bus.h"
#include "web/web.h"

typedef struct Rest Rest;

/* All of it outlives the Rest. */
int rest_new(Rest **ret, Api *api, Health *health);
Rest *rest_free(Rest *rest);
DEFINE_CLEANUP(Rest *, rest_free);

unsigned rest_n_active(const Rest *rest);
size_t rest_statistics(const Rest *rest, BusStatistic *ret, size_t max);

/* For WebHandlers, with the Rest as userdata. */
void rest_on_request(HttpRequest *http, void *userdata);
void rest_on_abort(HttpRequest *http, void *userdata);
void rest_on_refused(Sc__ErrorCode code, Buffer *body, void *userdata);
