/* SPDX-License-Identifier: Apache-2.0 */
#include "api/role-state.h"

#include "log/message-ids.h"
#include "schema-tables.h"
#include "service/store-role.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define LIMITER_ENTRIES 100000U /* some 20 MB at most, under an attack from that many addresses */

const MessageInfo *const api_records[] = {
        &sc__user__info,
        &sc__credential__info,
        &sc__session__info,
        STORE_ROLE_RECORDS,
        NULL,
};

int api_init(Api *api) {
        int r = limiter_new(&api->by_address, LIMITER_ENTRIES);
        if (r < 0)
                return r;
        return limiter_new(&api->by_account, LIMITER_ENTRIES);
}

void api_done(Api *api) {
        api->by_address = limiter_free(api->by_address);
        api->by_account = limiter_free(api->by_account);
}

void api_note_write(Api *api, int r) {
        bool full = r == -ENOSPC;

        if (full == api->store_full || (r < 0 && !full))
                return;
        api->store_full = full;
        if (full)
                log_with((.message_id = MESSAGE_ID_STORE_FULL), LOG_ERR,
                        "The disk is full: no registration or login can be stored.");
        else
                log_with((.message_id = MESSAGE_ID_STORE_RECOVERED), LOG_NOTICE, "The disk has room again.");
        if (api->changed)
                api->changed(api);
}

int api_write(Api *api, const StoreWrite *write, StoreWritten *ret) {
        int r = fiber_check_cancelled();
        if (r < 0)
                return r;
        r = intents_write(api->intents, api->store, write, ret);
        api_note_write(api, r);
        return r;
}

int api_limit_address(Call *call) {
        Api *api = call->role;
        char key[ADDRESS_KEY_SIZE];

        if (isempty(call->address)) /* came through another role, which has its own limits */
                return 0;
        address_limit_key(call->address, key);
        int r = limiter_take(api->by_address, key, api->conf->api_login_rate, api->conf->api_login_burst,
                boottime_usec());
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_RATE_LIMITED, "too many tries from this address");
        return 0;
}

int api_limit_account(Call *call, const char *username) {
        Api *api = call->role;

        int r = limiter_take(api->by_account, username, api->conf->api_login_account_rate,
                api->conf->api_login_account_burst, boottime_usec());
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_RATE_LIMITED, "too many tries for this account");
        return 0;
}
