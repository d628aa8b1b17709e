/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of this folder share: the gateway and its links to the group primaries. To other folders
 * gateway.h is the interface. */

#include "rpc/rpc.h"
#include "socket/gateway/push-buffer.h"
#include "socket/role-state.h"

typedef struct Link Link;

/* What attaching brought: the responses, one of each primary, valid during the call; or why it failed. */
typedef void (*GatewayAttached)(Connection *connection, Sc__ErrorCode code, const char *detail,
        Sc__AttachResponse *const *responses, size_t n_responses);

/* There is a link for each address of the routes; these are at most as many as shards. */
#define LINKS_MAX SHARDS_DEFAULT

/* The connection to one group primary. */
struct Link {
        LIST_ENTRY(Link) in_gateway;
        Gateway *gateway;
        char *address;
        RpcClient *client;
        uint64_t shards_hash; /* of the shards that the routes give it */
        bool in_routes; /* while these are compared */

        /* --- reattach.c --- */
        uint64_t valid_since; /* role->serial: what was attached before has to be attached again */
        Connection *next_reattach; /* of role->connections; NULL: all were seen */
        unsigned n_reattaching;
};

struct Gateway {
        SocketRole *role;
        LIST_HEAD(, Link) links;
        size_t n_links;
        TAILQ_HEAD(, Attachment) attachments; /* under way, in the order of their serials */
        PushBuffer push_buffer;
};
