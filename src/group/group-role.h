/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The state of the group role, and what its handlers share. Everything here runs on the loop; the store has
 * the only threads. */

#include "bus/bus.h"
#include "conf/conf.h"
#include "group/conversation.h"
#include "group/online.h"
#include "service/call.h"
#include "util/bytes.h"

typedef struct GroupRole GroupRole;

/* What the role needs of the process around it. */
typedef struct GroupPorts {
        /* Sends a push to a gateway: `gateway` is the origin of its attach calls. Failures are its own
         * affair. */
        void (*push)(void *gateway, const char *method, const Trace *trace, const void *payload, size_t size,
                void *userdata);
        /* Asks whether the user exists (user.get): done hears ERROR_NONE, ERROR_USER_NOT_FOUND, … */
        int (*find_user)(const char *user, const Trace *trace, const Sc__Caller *caller, CallDone done,
                void *done_userdata, void *userdata);
        /* Health or status has changed. */
        void (*changed)(void *userdata);
        void *userdata;
} GroupPorts;

typedef struct Open Open;
typedef struct Attach Attach;

struct GroupRole {
        GroupPorts ports;
        const Conf *conf;
        Store *store;
        Conversations *conversations;
        Online *online;
        const IndexInfo *members_by_user;

        LIST_HEAD(, Open) opens; /* that wait for the api role */
        TAILQ_HEAD(AttachQueue, Attach) attaches_waiting;
        unsigned n_attaching;
        bool beginning_attaches;

        size_t pending_bytes; /* of bodies that wait to be committed */
        Buffer push_buffer; /* pushes are packed here, one at a time */
        bool store_full;
        uint64_t store_full_usec; /* when it was found full last */
        uint64_t n_appended, n_deliveries;
        char status[160];
};

#define GROUP_MAX_PENDING_BYTES (64U << 20) /* of messages not yet committed; ERROR_OVERLOADED beyond */
#define GROUP_MAX_RESPONSE (3U << 20) /* bytes that a page or recovery may fill; below RPC_MAX_FRAME */
#define GROUP_STORE_FULL_HOLD_USEC                                                                          \
        (5 * 1000 * 1000ULL) /* without a refusal, then the disk counts as not full */
#define GROUP_MAX_STORE_BUSY_USEC (10 * 1000 * 1000ULL) /* one operation; then the store counts as stuck */

/* Opens `path`. */
int group_role_new(
        GroupRole **ret, sd_event *event, const Conf *conf, const char *path, const GroupPorts *ports);
/* Commits what is queued; whoever waits is answered. */
GroupRole *group_role_free(GroupRole *role);
DEFINE_CLEANUP(GroupRole *, group_role_free);

bool group_role_is_alive(GroupRole *role);
bool group_role_is_healthy(const GroupRole *role);
/* Valid until the next call. */
const char *group_role_status(GroupRole *role);
size_t group_role_statistics(GroupRole *role, BusStatistic *ret, size_t max);
void group_role_forget_gateway(GroupRole *role, void *gateway);

/* Every write's outcome comes here, so that a full disk is known and told once, and its end too. */
void group_role_note_write(GroupRole *role, int r);
