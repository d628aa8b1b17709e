/* SPDX-License-Identifier: Apache-2.0 */

/* Users: oneself, and others' public profiles. */

#include "api/accounts-internal.h"
#include "schema-tables.h"

/* r, or what an answered read means for one user: NULL when the call was failed here. */
static const Sc__User *found_user(Call *call, int r, const StoreRows *rows) {
        if (r < 0) {
                call_fail_errno(call, r, "read the user");
                return NULL;
        }
        if (rows[0].n == 0) {
                call_fail(call, ERROR_USER_NOT_FOUND, "%s", "");
                return NULL;
        }
        return (const Sc__User *) rows[0].records[0];
}

static void on_me(int r, const StoreRows *rows, size_t n, void *userdata) {
        Call *call = userdata;
        const Sc__User *user = found_user(call, r, rows);

        if (user)
                call_return(call, &user->base);
}

static void on_other(int r, const StoreRows *rows, size_t n, void *userdata) {
        Sc__Profile profile = SC__PROFILE__INIT;
        Call *call = userdata;
        const Sc__User *user = found_user(call, r, rows);

        if (!user)
                return;
        profile.id = user->id;
        profile.username = user->username;
        profile.display_name = user->display_name;
        call_return(call, &profile.base);
}

void accounts_me(Accounts *accounts, Call *call) {
        int r = accounts_read_user(accounts, call->caller.user, on_me, call);
        if (r < 0)
                call_fail_errno(call, r, "read the user");
}

void accounts_get_user(Accounts *accounts, Call *call, const char *user) {
        int r = accounts_read_user(accounts, user, on_other, call);
        if (r < 0)
                call_fail_errno(call, r, "read the user");
}

void accounts_lookup_user(Accounts *accounts, Call *call, const char *username) {
        char *folded = arena_strdup(&call->arena, username);

        if (!folded) {
                call_fail_errno(call, -ENOMEM, "look up the user");
                return;
        }
        accounts_fold_username(folded);
        int r = accounts_read_by_username(accounts, folded, on_other, call);
        if (r < 0)
                call_fail_errno(call, r, "look up the user");
}
