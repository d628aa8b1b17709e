/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rest/admit.h"

#include "api/rest/read.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

bool rest_token_is_unknown(RestRequest *request, const MethodInfo *method) {
        const char *token = rest_bearer_token(request->http);
        Api *api = request->rest->api;

        if (!token || request->token_checked || method->access == ACCESS_PUBLIC)
                return false;
        request->token_given = true;
        if (token_verifier_find(api->token_verifier, token, &request->claims)) {
                request->token_checked = true;
                return false;
        }
        /* Nobody's tokens are verified for an address that is refused anyway. */
        return charge_wait(api->charges, request->address) == 0;
}

int rest_check_token(RestRequest *request) {
        const char *token = rest_bearer_token(request->http);

        int r = token_verifier_check(
                request->rest->api->token_verifier, token, &request->claims, &request->token_code);
        if (r >= 0)
                request->token_checked = true;
        return r;
}

/* Who asks, by the token. */
static Sc__ErrorCode authenticate(RestRequest *request) {
        Sc__Caller caller = SC__CALLER__INIT;

        if (!request->token_checked)
                return ERROR_UNAUTHENTICATED;
        if (request->token_code != ERROR_NONE)
                return request->token_code;
        caller.user = request->claims.user;
        caller.session = request->claims.session;
        caller.device = request->claims.device;
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
