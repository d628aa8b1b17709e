/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which group primary serves which shard: published by the arbiter as property Routes, a(uusts), of
 * org.stonechat.Arbiter1 at /org/stonechat/Arbiter (first shard, last shard, host, epoch, address), watched
 * here.
 *
 * While no arbiter answered yet, and for as long as none does, everything goes to this host's group role: on
 * one host that is the truth, and an arbiter that dies changes nothing. */

#include <systemd/sd-bus.h>

#include "proto/schema.h"
#include "util/macro.h"

typedef struct Routes Routes;

typedef struct Route {
        unsigned first_shard, last_shard;
        char *host;
        uint64_t epoch;
        char *address; /* of the primary's RPC socket */
} Route;

#define ROUTES_DIRECTORY                                                                                    \
        "/run/stonechat/rpc" /* STONECHAT_RUNTIME_DIRECTORY in the environment: another one, for tests */

/* bus may be NULL. `changed` is called after every change. */
int routes_new(Routes **ret, sd_bus *bus, void (*changed)(void *userdata), void *userdata);
Routes *routes_free(Routes *routes);
DEFINE_CLEANUP(Routes *, routes_free);

/* The address of the role, for the group role of the primary of the shard of `key`, a conversation or a user
 * (NULL: of any); owned by routes, valid until they change. */
const char *routes_address(const Routes *routes, Role role, const char *key);
/* All of them, for a gateway that talks to every primary. */
const Route *routes_all(const Routes *routes, size_t *ret_n);
