/* SPDX-License-Identifier: Apache-2.0 */
#include "api/account/account.h"
#include "schema-tables.h"

/* The cost of hashing was changed since. Failing to keep up with it harms nobody: the next login tries
 * again. */
static void replace_hash(Api *api, Sc__Credential *credential, char *hash) {
        const StoreChange change = {store_field(&sc__credential__info, "password_hash"), STORE_SET};
        StoreWritten written;

        credential->password_hash = hash;
        StoreWrite write = {
                .partition = credential->user,
                .guard = {STORE_PATCH, &sc__credential__info, &credential->base, &change, 1},
        };
        int r = api_write(api, &write, &written);
        if (r < 0 && r != -ESTALE && r != -ENOENT)
                log_peer((.error_number = -r), LOG_WARNING, "Failed to store a password's new hash: %s",
                        store_error_text(r));
}

int account_check_password(Call *call, const Sc__User *user, bool known, char *password) {
        _cleanup_(password_wipep) char *secret = password;
        Sc__Credential key = SC__CREDENTIAL__INIT, *credential = NULL;
        char new_hash[PASSWORD_HASH_SIZE];
        Api *api = call->role;

        /* For an unknown user the same steps are taken. */
        if (user)
                key.user = user->id;
        int r = store_get(api->store, &call->arena, &sc__credential__info, &key.base, &credential);
        if (r < 0)
                return r;
        r = password_verify(api->hasher, secret, credential ? credential->password_hash : NULL, known,
                password_cost(api->conf), new_hash);
        if (r < 0)
                return r;
        if (r > 0)
                replace_hash(api, credential, new_hash);
        return 0;
}
