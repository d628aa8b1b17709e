/* SPDX-License-Identifier: Apache-2.0 */
#include "service/identity.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#define UID_NONE ((uid_t) -1)
#define PASSWD_MAX 4096

static uid_t users[_ROLE_MAX];
static bool loaded;

static int find_user(const char *name, uid_t *ret) {
        struct passwd entry, *found;
        char text[PASSWD_MAX];

        int r = -getpwnam_r(name, &entry, text, sizeof(text), &found);
        if (r < 0 && r != -ENOENT && r != -ESRCH)
                return r;
        *ret = r == 0 && found ? found->pw_uid : UID_NONE;
        return 0;
}

int identity_load(void) {
        for (unsigned role = 0; role < _ROLE_MAX; role++) {
                const char *role_name = role_to_string((Role) role);
                char name[64];

                users[role] = UID_NONE;
                if (!role_name || role == ROLE_CTL) /* that is root */
                        continue;
                snprintf(name, sizeof(name), "stonechat-%s", role_name);
                int r = find_user(name, &users[role]);
                if (r < 0)
                        return r;
        }
        loaded = true;
        return 0;
}

int identity_find(const uid_t uids[static _ROLE_MAX], uid_t own, const RpcIdentity *identity, Role *ret) {
        if (identity->uid == UID_NONE)
                return -EPERM;
        for (unsigned role = 0; role < _ROLE_MAX; role++)
                if (uids[role] == identity->uid) {
                        *ret = (Role) role;
                        return 0;
                }
        if (identity->uid != 0 && identity->uid != own)
                return -EPERM;
        *ret = ROLE_NONE;
        return 0;
}

int identity_of_peer(const RpcIdentity *identity, Role *ret, _unused_ void *userdata) {
        assert_se(loaded);
        return identity_find(users, geteuid(), identity, ret);
}
