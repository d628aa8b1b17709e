/* SPDX-License-Identifier: Apache-2.0 */
#include "api/accounts.h"

#include "api/accounts-internal.h"
#include "schema-tables.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define LIMITER_ENTRIES 100000U /* some 20 MB at most, under an attack from that many addresses */

const MessageInfo *const accounts_records[] = {
        &sc__user__info,
        &sc__credential__info,
        &sc__session__info,
        NULL,
};

int accounts_new(Accounts **ret, const AccountsConfig *config) {
        _cleanup_(accounts_freep) Accounts *accounts = new0(Accounts, 1);
        if (!accounts)
                return -ENOMEM;
        int r = limiter_new(&accounts->by_address, LIMITER_ENTRIES);
        if (r >= 0)
                r = limiter_new(&accounts->by_account, LIMITER_ENTRIES);
        if (r < 0)
                return r;
        accounts->config = *config;
        *ret = TAKE_PTR(accounts);
        return 0;
}

Accounts *accounts_free(Accounts *accounts) {
        if (!accounts)
                return NULL;
        accounts_stop_hashing(accounts);
        limiter_free(accounts->by_address);
        limiter_free(accounts->by_account);
        free(accounts);
        return NULL;
}

void accounts_stop_hashing(Accounts *accounts) {
        accounts->config.hasher = password_hasher_free(TAKE_PTR(accounts->config.hasher));
}

bool accounts_are_alive(const Accounts *accounts) {
        return !accounts->config.hasher || password_hasher_is_alive(accounts->config.hasher);
}

void *accounts_copy(Arena *arena, const ProtobufCMessage *message) {
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = arena_alloc(arena, size ?: 1);
        ProtobufCMessage *copy;

        if (!packed)
                return NULL;
        protobuf_c_message_pack(message, packed);
        return arena_unpack(arena, message->descriptor, packed, size, &copy) < 0 ? NULL : copy;
}

void accounts_fold_username(char *username) {
        for (char *p = username; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char) (*p - 'A' + 'a');
}

const IndexInfo *accounts_find_index(const MessageInfo *info, const char *name) {
        FOREACH_ARRAY(index, info->record->indexes, info->record->n_indexes)
                if (streq(index->name, name))
                        return index;
        assert_se(!"an index of records.proto");
        return NULL;
}

int accounts_read_by_username(Accounts *accounts, const char *username, StoreReadDone done, void *userdata) {
        Sc__User from = SC__USER__INIT;

        from.username = (char *) username;
        StoreRead read = {
                .info = &sc__user__info,
                .index = accounts_find_index(&sc__user__info, "users_by_username"),
                .from = &from.base,
                .n_prefix = 1,
                .limit = 1,
        };
        return store_read(accounts->config.store, &read, 1, done, userdata);
}

int accounts_read_user(Accounts *accounts, const char *id, StoreReadDone done, void *userdata) {
        Sc__User key = SC__USER__INIT;

        key.id = (char *) id;
        return store_get(accounts->config.store, &sc__user__info, &key.base, done, userdata);
}

int accounts_read_session(Accounts *accounts, const char *id, StoreReadDone done, void *userdata) {
        Sc__Session key = SC__SESSION__INIT;

        key.id = (char *) id;
        return store_get(accounts->config.store, &sc__session__info, &key.base, done, userdata);
}

bool accounts_pass_address(Accounts *accounts, Call *call) {
        const Conf *conf = accounts->config.conf;
        char key[ADDRESS_KEY_SIZE];

        if (isempty(call->address)) /* came through another role, which has its own limits */
                return true;
        address_limit_key(call->address, key);
        if (limiter_take(
                    accounts->by_address, key, conf->api_login_rate, conf->api_login_burst, boottime_usec()))
                return true;
        call_fail(call, ERROR_RATE_LIMITED, "too many tries from this address");
        return false;
}

void accounts_note_write(Accounts *accounts, int r) {
        bool full = r == -ENOSPC;

        if (full == accounts->store_full || (r < 0 && !full))
                return;
        accounts->store_full = full;
        if (accounts->config.store_full)
                accounts->config.store_full(full, accounts->config.userdata);
}

void accounts_hash_refresh_token(const char *token, uint8_t hash[static crypto_hash_sha256_BYTES]) {
        crypto_hash_sha256(hash, (const uint8_t *) token, strlen(token));
}

void accounts_make_refresh_token(const char *session, char token[static REFRESH_TOKEN_SIZE],
        uint8_t hash[static crypto_hash_sha256_BYTES]) {
        uint8_t secret[REFRESH_SECRET_SIZE];
        char text[REFRESH_SECRET_TEXT_SIZE];

        random_bytes(secret, sizeof(secret));
        sodium_bin2base64(
                text, sizeof(text), secret, sizeof(secret), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        snprintf(token, REFRESH_TOKEN_SIZE, "%s.%s", session, text);
        accounts_hash_refresh_token(token, hash);
        sodium_memzero(secret, sizeof(secret));
        sodium_memzero(text, sizeof(text));
}

void accounts_return_tokens(Accounts *accounts, Call *call, const Sc__Session *session, const Sc__User *user,
        const char *refresh_token) {
        const Conf *conf = accounts->config.conf;
        Sc__TokenResponse response = SC__TOKEN_RESPONSE__INIT;
        _cleanup_free_ char *access_token = NULL;
        TokenClaims claims = {};

        snprintf(claims.user, sizeof(claims.user), "%s", session->user);
        snprintf(claims.session, sizeof(claims.session), "%s", session->id);
        snprintf(claims.device, sizeof(claims.device), "%s", session->device);
        claims.expires_at = unix_msec() / 1000 + (int64_t) (conf->auth_access_token_usec / USEC_PER_SEC);
        int r = token_issue(accounts->config.token_key, &claims, &access_token);
        if (r < 0) {
                call_fail_errno(call, r, "sign the access token");
                return;
        }
        response.access_token = access_token;
        response.token_type = (char *) "Bearer";
        response.expires_in = (uint32_t) (conf->auth_access_token_usec / USEC_PER_SEC);
        response.refresh_token = (char *) refresh_token;
        response.refresh_expires_in = (uint32_t) (conf->auth_refresh_token_usec / USEC_PER_SEC);
        response.session = session->id;
        response.user = (Sc__User *) user;
        call_return(call, &response.base);
}
