/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/connection/user.h"

ConnectedUser *connected_user_find(SocketRole *role, const char *id) {
        ConnectedUser *user;

        HASH_FIND_STR(role->users, id, user);
        return user;
}

static ConnectedUser *connected_user_new(SocketRole *role, const char *id) {
        size_t size = strlen(id) + 1;
        ConnectedUser *user = calloc(1, sizeof(ConnectedUser) + size);

        if (!user)
                return NULL;
        memcpy(user->id, id, size);
        TAILQ_INIT(&user->connections);
        HASH_ADD_KEYPTR(hh, role->users, user->id, size - 1, user);
        return HASH_WAS_ADDED(user) ? user : mfree(user);
}

ConnectedUser *connected_user_get(SocketRole *role, const char *id) {
        return connected_user_find(role, id) ?: connected_user_new(role, id);
}

void connected_user_free_if_unused(SocketRole *role, ConnectedUser *user) {
        if (user->n_connections > 0)
                return;
        HASH_DEL(role->users, user);
        free(user);
}
