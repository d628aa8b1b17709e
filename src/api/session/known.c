/* SPDX-License-Identifier: Apache-2.0 */
#include "api/session/known.h"

#include <sodium.h>

#include "schema-tables.h"
#include "util/bytes.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define NAME_HASH_SIZE 16U
#define DEVICE_SECRET_SIZE 32U
/* Logins at the same moment may store more than KNOWN_MAX; the next one that reads them deletes these. */
#define READ_MAX (2 * KNOWN_MAX - 2) /* so that no more than KNOWN_MAX_CHANGES are needed */

/* "KIND:HASH" of something that is only this user's. */
static char *make_name(Call *call, const char *kind, const char *user, const char *value) {
        uint8_t hash[NAME_HASH_SIZE];
        char text[2 * NAME_HASH_SIZE + 1];
        crypto_generichash_state state;

        crypto_generichash_init(&state, NULL, 0, sizeof(hash));
        crypto_generichash_update(&state, (const uint8_t *) user, strlen(user) + 1);
        crypto_generichash_update(&state, (const uint8_t *) value, strlen(value));
        crypto_generichash_final(&state, hash, sizeof(hash));
        hex_encode(hash, sizeof(hash), text);
        return arena_printf(&call->arena, "%s:%s", kind, text);
}

static char *device_name(Call *call, const char *user, const char *token) {
        return make_name(call, "device", user, token);
}

static char *address_name(Call *call, const char *user) {
        char key[ADDRESS_KEY_SIZE];

        address_limit_key(call->address, key);
        return make_name(call, "address", user, key);
}

static const char *find(const Known *known, const char *name) {
        FOREACH_ARRAY(origin, known->origins, known->n)
                if (streq((*origin)->name, name))
                        return (*origin)->name;
        return NULL;
}

int known_read(Call *call, const char *user, const char *device_token, Known *ret) {
        Sc__KnownOrigin from = SC__KNOWN_ORIGIN__INIT;
        Api *api = call->role;
        StoreRows *rows;

        from.user = (char *) (user ?: "-");
        char *device = device_name(call, from.user, strempty(device_token));
        char *address = address_name(call, from.user);
        if (!device || !address)
                return -ENOMEM;
        const StoreRead read = {
                .info = &sc__known_origin__info,
                .from = &from.base,
                .n_prefix = 1,
                .limit = READ_MAX,
        };
        int r = store_read(api->store, &call->arena, &read, 1, &rows);
        if (r < 0)
                return r;
        *ret = (Known){.origins = (Sc__KnownOrigin **) rows->records, .n = rows->n};
        ret->device = find(ret, device);
        ret->address = isempty(call->address) ? NULL : find(ret, address);
        return 0;
}

int known_limit(Call *call, const Known *known, const char *user, const char *username) {
        const char *name = known->device ?: known->address;
        Api *api = call->role;

        if (!name)
                return api_limit_account(call, api->by_account, username);
        char *key = arena_printf(&call->arena, "%s:%s", user, name);
        return key ? api_limit_account(call, api->by_known, key) : -ENOMEM;
}

static char *new_device_token(Call *call) {
        uint8_t secret[DEVICE_SECRET_SIZE];
        char *text = arena_alloc(&call->arena, DEVICE_TOKEN_SIZE);

        if (!text)
                return NULL;
        random_bytes(secret, sizeof(secret));
        sodium_bin2base64(
                text, DEVICE_TOKEN_SIZE, secret, sizeof(secret), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        sodium_memzero(secret, sizeof(secret));
        return text;
}

static int put(Call *call, const char *user, const char *name, StoreItem *ret) {
        Sc__KnownOrigin *origin = arena_new(&call->arena, Sc__KnownOrigin, 1);

        if (!origin || !name)
                return -ENOMEM;
        sc__known_origin__init(origin);
        origin->user = (char *) user;
        origin->name = (char *) name;
        origin->used_at = unix_msec();
        *ret = (StoreItem){STORE_PUT, &sc__known_origin__info, &origin->base};
        return 0;
}

static int compare_use(const void *a, const void *b) {
        const Sc__KnownOrigin *x = *(Sc__KnownOrigin *const *) a, *y = *(Sc__KnownOrigin *const *) b;

        return (x->used_at < y->used_at) - (x->used_at > y->used_at);
}

/* Deletes of those used longest ago, so that with the two that are put at most KNOWN_MAX are left. */
static size_t forget(const Known *known, const char *device, const char *address, StoreItem *items) {
        size_t n_kept = 2, n = 0;

        if (known->n > 0)
                qsort(known->origins, known->n, sizeof(known->origins[0]), compare_use);
        FOREACH_ARRAY(origin, known->origins, known->n) {
                if (streq((*origin)->name, device) || streq((*origin)->name, address))
                        continue;
                if (++n_kept > KNOWN_MAX)
                        items[n++] = (StoreItem){STORE_DELETE, &sc__known_origin__info, &(*origin)->base};
        }
        return n;
}

int known_remember(Call *call, const Known *known, const char *user, const char *presented,
        const char **ret_device_token, StoreItem items[static KNOWN_MAX_CHANGES], size_t *ret_n) {
        const char *token = known->device ? presented : new_device_token(call);

        if (!token)
                return -ENOMEM;
        const char *device = device_name(call, user, token), *address = address_name(call, user);
        size_t n = 0;
        int r = put(call, user, device, &items[n++]);
        if (r >= 0 && !isempty(call->address))
                r = put(call, user, address, &items[n++]);
        if (r < 0)
                return r;
        *ret_n = n + forget(known, device, address, items + n);
        *ret_device_token = token;
        return 0;
}
