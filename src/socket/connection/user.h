/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The users that have connections here. */

#include "socket/role-state.h"
#include "util/hash.h"

struct ConnectedUser {
        UT_hash_handle hh;
        ConnectionList connections;
        unsigned n_connections;
        unsigned n_fetches; /* pages under way for them: gateway/catch-up.c */
        char id[];
};

/* NULL if the user has no connection here. */
ConnectedUser *connected_user_find(SocketRole *role, const char *id);
/* Finds the user, or makes one without connections; NULL when out of memory. */
ConnectedUser *connected_user_get(SocketRole *role, const char *id);
/* Frees the user if it has no connection any more. */
void connected_user_free_if_unused(SocketRole *role, ConnectedUser *user);
