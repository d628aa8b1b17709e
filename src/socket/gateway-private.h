/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What gateway.c (links and pushes) and attachment.c (attaching and what is held meanwhile) share. */

#include "rpc/rpc.h"
#include "socket/gateway.h"
#include "socket/socket-role.h"

typedef struct Link Link;
typedef struct Attachment Attachment;
typedef struct Held Held;

/* Links are as many as addresses in the routes, and these at most as many as shards. */
#define LINKS_MAX SHARDS_DEFAULT

/* The connection to one group primary. */
struct Link {
        LIST_ENTRY(Link) in_gateway;
        Gateway *gateway;
        char *address;
        RpcClient *client;
        uint64_t valid_since; /* what was attached before must be attached again */
        uint64_t table; /* fingerprint of the shards it serves */
        Session *next; /* of role->sessions, the next to attach again; NULL: none */
        unsigned n_reattaching;
        bool wanted; /* while routes are compared */
};

/* One answer of an attachment. */
typedef struct Part {
        Attachment *attachment;
        Link *link;
        Arena arena;
        Sc__AttachResponse *response; /* in the arena */
        bool answered;
} Part;

/* Requests of gateway.attach that belong together: of a new session to all primaries, or of one that is
 * attached again to one primary. Lives until the last answer; the session may go before. */
struct Attachment {
        TAILQ_ENTRY(Attachment) in_gateway; /* in the order of serial */
        LIST_ENTRY(Attachment) in_session;
        Gateway *gateway;
        Session *session; /* NULL: gone */
        char *user;
        char client[UUID_TEXT_SIZE];
        uint64_t serial; /* when it began: what came later is held for it */
        bool overflowed; /* too much was held, it cannot succeed */
        AttachDone done; /* NULL: attached again */
        Sc__ErrorCode failure;
        char detail[128];
        unsigned n_waiting, n_parts;
        Part parts[];
};

struct Gateway {
        SocketRole *role;
        LIST_HEAD(, Link) links;
        size_t n_links;
        uint64_t serial;
        TAILQ_HEAD(, Attachment) attachments;
        TAILQ_HEAD(, Held) held;
        size_t n_held;
};

/* --- attachment.c --- */
/* Starts to attach all sessions again, those that have been before; goes on by itself. */
void link_reattach(Link *link);
void link_reattach_some(Link *link);
/* Attachments that already had the link's answer, but not all others', have to start over; for ever: the
 * link goes. */
void link_lost(Link *link, bool for_ever);
/* Keep what was pushed for the attachments under way. */
void gateway_hold_delivery(Gateway *gateway, Delivery *delivery);
void gateway_hold_membership(Gateway *gateway, const void *payload, size_t size);
/* -ECONNRESET: the session was or is disconnected. */
int session_apply_membership(Session *session, const Sc__MembershipChanged *change);

/* --- gateway.c --- */
int gateway_ensure_links(Gateway *gateway);
