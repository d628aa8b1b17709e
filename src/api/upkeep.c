/* SPDX-License-Identifier: Apache-2.0 */

/* What the job role asks for, beside what the domains do themselves. */

#include "api/role-state.h"
#include "service-handlers.h"
#include "service/store-role.h"

int handle_accounts_check(
        Call *call, _unused_ const Sc__StoreCheckRequest *request, Sc__StoreCheckResponse *response) {
        Api *api = call->role;
        return store_role_check(call, api->store, response);
}

int handle_accounts_retry_intents(
        Call *call, _unused_ const Sc__RetryIntentsRequest *request, Sc__RetryIntentsResponse *response) {
        Api *api = call->role;
        return intents_retry_parked(api->intents, &response->retried);
}
