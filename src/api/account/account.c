/* SPDX-License-Identifier: Apache-2.0 */
#include "api/account/account.h"

#include "schema-tables.h"
#include "service-handlers.h"

char *account_fold_username(Call *call, const char *username) {
        char *folded = arena_strdup(&call->arena, username);

        for (char *p = folded; p && *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char) (*p - 'A' + 'a');
        return folded;
}

int account_get(Call *call, const char *id, Sc__User **ret) {
        Sc__User key = SC__USER__INIT;
        Api *api = call->role;

        key.id = (char *) id;
        return store_get(api->store, &call->arena, &sc__user__info, &key.base, ret);
}

int account_find(Call *call, const char *username, Sc__User **ret) {
        Sc__User key = SC__USER__INIT;
        Api *api = call->role;

        key.username = (char *) username;
        return store_find(api->store, &call->arena, &sc__user__info, "users_by_username", &key.base, ret);
}

int handle_user_me(Call *call, _unused_ const Sc__MeRequest *request, Sc__User *response) {
        Sc__User *user;

        int r = account_get(call, call->caller.user, &user);
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_USER_NOT_FOUND, "%s", "");
        *response = *user;
        return 0;
}

static void show_profile(const Sc__User *user, Sc__Profile *response) {
        response->id = user->id;
        response->username = user->username;
        response->display_name = user->display_name;
}

int handle_user_get(Call *call, const Sc__UserGetRequest *request, Sc__Profile *response) {
        Sc__User *user;

        int r = account_get(call, request->user, &user);
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_USER_NOT_FOUND, "%s", "");
        show_profile(user, response);
        return 0;
}

int handle_user_lookup(Call *call, const Sc__UserLookupRequest *request, Sc__Profile *response) {
        char *username = account_fold_username(call, request->username);
        Sc__User *user;

        if (!username)
                return -ENOMEM;
        int r = account_find(call, username, &user);
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_USER_NOT_FOUND, "%s", "");
        show_profile(user, response);
        return 0;
}

int handle_account_check(
        Call *call, const Sc__AccountCheckRequest *request, Sc__AccountCheckResponse *response) {
        Sc__User *user;

        int r = account_get(call, request->user, &user);
        if (r < 0)
                return r;
        response->exists = r > 0;
        return 0;
}
