/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rest/admit.h"

#include "api/rest/read.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* Who asks, by the token. */
static Sc__ErrorCode authenticate(RestRequest *request) {
        const char *token = rest_bearer_token(request->http);
        Sc__Caller caller = SC__CALLER__INIT;
        TokenClaims claims;

        if (!token)
                return ERROR_UNAUTHENTICATED;
        request->token_given = true;
        Sc__ErrorCode code = token_verify(request->rest->api->token_key, token, unix_msec() / 1000, &claims);
        if (code != ERROR_NONE)
                return code;
        caller.user = claims.user;
        caller.session = claims.session;
        caller.device = claims.device;
        return call_set_caller(request->call, &caller) < 0 ? ERROR_OVERLOADED : ERROR_NONE;
}

static Sc__ErrorCode charge_request(RestRequest *request, const char *user, unsigned cost) {
        request->retry_usec = charge(request->rest->api->charges, user, request->address, cost);
        if (request->retry_usec == 0)
                return ERROR_NONE;
        request->rest->n_limited++;
        return ERROR_RATE_LIMITED;
}

Sc__ErrorCode rest_admit_page(RestRequest *request) {
        return charge_request(request, NULL, CHARGE_DEFAULT_COST);
}

Sc__ErrorCode rest_admit_call(RestRequest *request) {
        const MethodInfo *method = request->call->method;
        const char *user = NULL;

        if (method->access != ACCESS_PUBLIC) {
                /* Nobody's tokens are verified for an address that is refused anyway. */
                request->retry_usec = charge_wait(request->rest->api->charges, request->address);
                if (request->retry_usec > 0) {
                        request->rest->n_limited++;
                        return ERROR_RATE_LIMITED;
                }
                Sc__ErrorCode code = authenticate(request);
                if (code != ERROR_NONE) {
                        (void) rest_admit_page(request);
                        return code;
                }
                user = request->call->caller.user;
        }
        Sc__ErrorCode code = charge_request(request, user, method->cost);
        if (code != ERROR_NONE)
                return code;
        request->trace.sampled = request->wants_sampling;
        charge_trace(request->rest->api->charges, user, request->address, &request->trace);
        request->call->trace = request->trace;
        return ERROR_NONE;
}
