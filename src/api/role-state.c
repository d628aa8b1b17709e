/* SPDX-License-Identifier: Apache-2.0 */
#include "api/role-state.h"

#include "schema-tables.h"
#include "service/store-role.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define LIMITER_ENTRIES 100000U /* some 20 MB at most, under an attack from that many addresses */

const MessageInfo *const api_records[] = {
        &sc__user__info,
        &sc__credential__info,
        &sc__known_origin__info,
        &sc__session__info,
        STORE_ROLE_RECORDS,
        NULL,
};

int api_init(Api *api) {
        Limiter **limiters[] = {&api->by_address, &api->by_account, &api->by_known};

        for (size_t i = 0; i < ELEMENTSOF(limiters); i++) {
                int r = limiter_new(limiters[i], LIMITER_ENTRIES);
                if (r < 0)
                        return r;
        }
        return charges_new(&api->charges, api->conf);
}

void api_done(Api *api) {
        api->charges = charges_free(api->charges);
        api->by_address = limiter_free(api->by_address);
        api->by_account = limiter_free(api->by_account);
        api->by_known = limiter_free(api->by_known);
}

void api_note_write(Api *api, int r) {
        store_room_note(api->room, r);
}

int api_write(Api *api, const StoreWrite *write, StoreWritten *ret) {
        int r = fiber_check_cancelled();
        if (r < 0)
                return r;
        r = intents_write(api->intents, api->store, write, ret);
        api_note_write(api, r);
        return r;
}

/* rate: a minute. */
static int take_try(
        Call *call, Limiter *limiter, const char *key, uint64_t rate, uint64_t burst, const char *what) {
        const LimiterTake take = {limiter, key, (double) rate / 60, (double) burst, 1};
        uint64_t wait;

        int r = limiter_take(&take, 1, boottime_usec(), &wait);
        if (r < 0)
                return r;
        return r > 0 ? 0 : call_refuse_for(call, wait, what);
}

int api_limit_address(Call *call) {
        const Api *api = call->role;
        char key[ADDRESS_KEY_SIZE];

        if (isempty(call->address)) /* came through another role, which has its own limits */
                return 0;
        address_limit_key(call->address, key);
        return take_try(call, api->by_address, key, api->conf->api_login_rate, api->conf->api_login_burst,
                "too many tries from this address");
}

int api_limit_account(Call *call, Limiter *limiter, const char *key) {
        const Api *api = call->role;

        return take_try(call, limiter, key, api->conf->api_login_account_rate,
                api->conf->api_login_account_burst, "too many tries for this account");
}
