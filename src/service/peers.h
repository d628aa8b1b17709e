/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The connections to the other roles, by address, made as they are needed. */

#include "rpc/rpc.h"

typedef struct Peer Peer;

typedef struct Peers {
        sd_event *event;
        uint64_t timeout_usec;
        Role role; /* which one we are */
        Peer *by_address;
        void (*lost)(void *userdata);
        void *userdata;
} Peers;

/* `lost` is called when a connection was lost: what it had waits to be sent again. */
void peers_init(
        Peers *peers, sd_event *event, uint64_t timeout_usec, void (*lost)(void *userdata), void *userdata);
/* Fails every call that waits for an answer. */
void peers_done(Peers *peers);

/* -ENOMEM, -EINVAL. */
int peers_get(Peers *peers, const char *address, RpcClient **ret);
