/* SPDX-License-Identifier: Apache-2.0 */
#include "api/account/account.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define STORE_TRIES 3U
#define STORE_RETRY_USEC (100 * USEC_PER_MSEC)

static Sc__User *new_user(Call *call, const Sc__RegisterRequest *request) {
        Sc__User *user = arena_new(&call->arena, Sc__User, 1);
        char *id = arena_alloc(&call->arena, UUID_TEXT_SIZE);
        char *username = account_fold_username(call, request->username);

        if (!user || !id || !username)
                return NULL;
        sc__user__init(user);
        uuid_v7(id);
        user->id = id;
        user->username = username;
        user->display_name = isempty(request->display_name) ? request->username : request->display_name;
        user->created_at = unix_msec();
        return user;
}

/* The user, with the unique name, is the guard: who gets the name gets the password with it. */
static int store_account_once(Api *api, Sc__User *user, char *hash) {
        Sc__Credential credential = SC__CREDENTIAL__INIT;
        StoreItem follower = {STORE_PUT, &sc__credential__info, &credential.base};
        StoreWritten written;

        credential.user = user->id;
        credential.password_hash = hash;
        StoreWrite write = {
                .partition = user->id,
                .guard = {STORE_INSERT, &sc__user__info, &user->base},
                .followers = &follower,
                .n_followers = 1,
        };
        return api_write(api, &write, &written);
}

/* 0 if the name is this user's now, -EEXIST if it is somebody else's. While the outcome is unknown the same
 * user is stored again, which only one of the tries can do; that the name is taken then says nothing about
 * who has it. */
static int store_account(Call *call, Sc__User *user, char *hash) {
        Sc__User *owner;

        int r = store_account_once(call->role, user, hash);
        if (r != -EINPROGRESS)
                return r;
        for (unsigned n = 1; r == -EINPROGRESS && n < STORE_TRIES; n++) {
                if (fiber_sleep(STORE_RETRY_USEC) < 0)
                        return r;
                r = store_account_once(call->role, user, hash);
        }
        if (r >= 0)
                return 0;
        if (r != -EEXIST)
                return -EINPROGRESS; /* refused for another reason, but an earlier try may still be done */
        r = account_find(call, user->username, &owner);
        if (r < 0)
                return -EINPROGRESS;
        return r > 0 && streq(owner->id, user->id) ? 0 : -EEXIST;
}

int handle_auth_register(Call *call, const Sc__RegisterRequest *request, Sc__RegisterResponse *response) {
        _cleanup_(password_wipep) char *password = request->password;
        char hash[PASSWORD_HASH_SIZE];
        Api *api = call->role;
        Sc__User *user, *other;

        if (!api->conf->api_registration)
                return call_refuse(call, ERROR_PERMISSION_DENIED, "registration is closed on this server");
        int r = api_limit_address(call);
        if (r < 0)
                return r;
        user = new_user(call, request);
        if (!user)
                return -ENOMEM;
        r = account_find(call, user->username, &other);
        if (r < 0)
                return r;
        if (r > 0)
                return call_refuse(call, ERROR_USERNAME_TAKEN, "username: taken");
        r = password_hash(api->hasher, password, password_cost(api->conf), hash);
        if (r < 0)
                return r;
        r = store_account(call, user, hash);
        if (r == -EEXIST) /* somebody was faster */
                return call_refuse(call, ERROR_USERNAME_TAKEN, "username: taken");
        if (r < 0)
                return r;
        api->n_registrations++;
        log_trace(&call->trace, (.method = call->method->name, .user = user->id), "Account created");
        response->user = user;
        return 0;
}
