/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of this folder share: the gateway and its links to the group primaries. To other folders
 * gateway.h is the interface. */

#include "rpc/rpc.h"
#include "socket/channel/channel.h"

typedef struct Link Link;
typedef struct AttachBatch AttachBatch;

/* Attaching has ended: with ERROR_NONE the connection has its subscriptions; or why it failed. */
typedef void (*GatewayAttached)(Connection *connection, Sc__ErrorCode code, const char *detail);

/* There is a link for each address of the routes; these are at most as many as shards. */
#define LINKS_MAX SHARDS_DEFAULT

/* What failed for the moment is tried again after this time. */
#define GATEWAY_RETRY_USEC (200 * 1000ULL)

/* The connection to one group primary. */
struct Link {
        LIST_ENTRY(Link) in_gateway;
        Gateway *gateway;
        char *address;
        RpcClient *client;
        uint64_t shards_hash; /* of the shards that the routes give it */
        bool in_routes; /* while these are compared */

        /* --- attachment.c --- */
        TAILQ_HEAD(, Attachment) waiting; /* not asked for yet */
        LIST_HEAD(, AttachBatch) batches; /* not answered yet */
        unsigned n_batches;
        sd_event_source *retry; /* while it is armed nothing is sent */
        bool retrying;

        /* --- reattach.c --- */
        uint64_t valid_since; /* role->serial: what was attached before has to be attached again */
        Connection *next_reattach; /* of role->connections; NULL: all were seen */
};

struct Gateway {
        SocketRole *role;
        LIST_HEAD(, Link) links;
        size_t n_links;
        GatewayAttached attached;

        /* --- catch-up.c --- */
        TAILQ_HEAD(, Connection) behind; /* whose turn comes */
        LIST_HEAD(, Fetch) fetches;
        unsigned n_fetches;
        sd_event_source *retry; /* while it is armed nothing is fetched */
        bool retrying;
};

/* NULL: there is none to this address. */
Link *gateway_find_link(const Gateway *gateway, const char *address);
/* Do the routes give this conversation to the link? */
bool link_serves(const Link *link, const char *conversation);
/* The link that they give it to; NULL: none. */
Link *gateway_link_of(const Gateway *gateway, const char *conversation);
