/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One update of a conversation on its way to connections: encoded once for each framing, whatever the number
 * of connections that get it. */

#include "socket/codec.h"
#include "stonechat/v1/internal.pb-c.h"

/* Reference-counted. */
typedef struct Delivery {
        unsigned n_ref;
        uint64_t seq; /* 0: has no place in the conversation (a receipt) */
        Bytes *encoded[N_CODECS]; /* made when first needed */
        Arena arena;
        Client__Reply *reply; /* in the arena */
        char *conversation; /* likewise */
} Delivery;

int delivery_new(Delivery **ret, const char *conversation, const Sc__Update *update);
Delivery *delivery_ref(Delivery *delivery);
Delivery *delivery_unref(Delivery *delivery);
DEFINE_CLEANUP(Delivery *, delivery_unref);
/* Its encoding, owned by the delivery; NULL when out of memory. */
Bytes *delivery_encoded(Delivery *delivery, CodecKind kind);

/* A publication as it stands in replies of recovery and history, in the arena; NULL at the arena's limit. */
Client__Publication *publication_of(Arena *arena, const Sc__Update *update);
