/* SPDX-License-Identifier: Apache-2.0 */

/* What a handler does about an intent. */

#include <inttypes.h>
#include <stdio.h>

#include "schema-tables.h"
#include "service/intents.h"

int intent_is_repeat(Call *call, Store *store) {
        Sc__Received key = SC__RECEIVED__INIT;
        Sc__Received *received;

        if (!call->intent.source)
                return 0;
        key.target = (char *) call->intent.target;
        key.source = (char *) call->intent.source;
        int r = store_get(store, &call->arena, &sc__received__info, &key.base, &received);
        if (r <= 0)
                return r;
        return received->number >= call->intent.number;
}

StoreItem intent_follower(const Call *call, Sc__Received *received) {
        *received = (Sc__Received) SC__RECEIVED__INIT;
        received->target = (char *) call->intent.target;
        received->source = (char *) call->intent.source;
        received->number = call->intent.number;
        return (StoreItem){.verb = STORE_PUT, .info = &sc__received__info, .record = &received->base};
}

void intent_make_id(const Call *call, char out[static UUID_TEXT_SIZE]) {
        char name[256];

        snprintf(name, sizeof(name), "%s %" PRIu64, call->intent.source, call->intent.number);
        uuid_from_name("intent", name, out);
}
