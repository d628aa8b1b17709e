/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The state of the group role that its domains share. Everything here runs on the loop; the store has the
 * only threads. What the domains are made of they say themselves: here are only their names. */

#include <systemd/sd-event.h>

#include "conf/conf.h"
#include "service/call.h"
#include "service/intents.h"
#include "service/store-room.h"
#include "store/store.h"
#include "util/bytes.h"

typedef struct GroupRole GroupRole;
typedef struct Conversations Conversations;
typedef struct Online Online;
typedef struct CursorFlush CursorFlush;
typedef struct AttachQueue AttachQueue;
typedef struct InboxLock InboxLock;

/* What the role needs of the process around it. */
typedef struct GroupPorts {
        /* Sends a push to a gateway: `gateway` is the origin of its attach calls. Failures are its own
         * affair. */
        void (*push)(void *gateway, const char *method, const Trace *trace, const void *payload, size_t size,
                void *userdata);
        /* 0 if there is such a user; else the call is refused (ERROR_USER_NOT_FOUND), or the error of asking.
         * May suspend. */
        int (*check_user)(Call *call, const char *user, void *userdata);
        /* Health or status has changed. */
        void (*changed)(void *userdata);
        void *userdata;
} GroupPorts;

struct GroupRole {
        GroupPorts ports;
        const Conf *conf;
        sd_event *event;
        FiberPool *fibers; /* the dispatcher's */
        Store *store;
        StoreRoom *room;
        Intents *intents;
        Conversations *conversations;
        Online *online;
        CursorFlush *flush;
        AttachQueue *attaches;
        InboxLock *inbox_locks; /* of inbox/admit.c; held by fibers, so none is left when these have ended */
        uint32_t attach_mark; /* of attach-batch.c */

        size_t pending_bytes; /* of bodies that wait to be committed */
        Buffer push_buffer; /* pushes are packed here, one at a time */
        uint64_t n_appended, n_deliveries;
        char status[160];
};

#define GROUP_MAX_PENDING_BYTES (64U << 20) /* of messages not yet committed; ERROR_OVERLOADED beyond */
#define GROUP_MAX_PAGE (256U << 10) /* bytes of records on a page, unless it is one record */
#define GROUP_MAX_SEQ ((uint64_t) INT64_MAX) /* what stores can compare */

/* Every write's outcome comes here, so that a full disk is known and told once, and its end too. */
void group_role_note_write(GroupRole *role, int r);
