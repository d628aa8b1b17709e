/* SPDX-License-Identifier: Apache-2.0 */
#include "api/session/session.h"

#include <stdio.h>

#include "schema-tables.h"
#include "service-handlers.h"
#include "util/id.h"
#include "util/string-util.h"

#define REFRESH_SECRET_SIZE 32U
#define REFRESH_FAMILY_SIZE 16U
#define BASE64_SIZE 44U /* of the longer, without padding, with NUL */
#define CHECK_ARENA_LIMIT (64U << 10)

/* The random part of a token. */
typedef struct Secrets {
        uint8_t secret[REFRESH_SECRET_SIZE];
        uint8_t family[REFRESH_FAMILY_SIZE];
} Secrets;

void session_hash_refresh_token(const char *text, uint8_t ret[static crypto_hash_sha256_BYTES]) {
        crypto_hash_sha256(ret, (const uint8_t *) text, strlen(text));
}

/* 0: there is none. */
static size_t find_family(const char *text, const char **ret) {
        const char *first = strchr(text, '.'), *second = first ? strchr(first + 1, '.') : NULL;

        if (!second)
                return 0;
        *ret = first + 1;
        return (size_t) (second - *ret);
}

bool session_hash_refresh_family(const char *text, uint8_t ret[static crypto_hash_sha256_BYTES]) {
        const char *family;
        size_t size = find_family(text, &family);

        if (size > 0)
                crypto_hash_sha256(ret, (const uint8_t *) family, size);
        return size > 0;
}

/* `spent`: whose family it gets; NULL: one of its own. */
static void make_token(const char *session, const char *spent, const Secrets *secrets, RefreshToken *ret) {
        char secret[BASE64_SIZE], own[BASE64_SIZE];
        const char *family;
        size_t size = spent ? find_family(spent, &family) : 0;

        if (size == 0) {
                family = sodium_bin2base64(own, sizeof(own), secrets->family, sizeof(secrets->family),
                        sodium_base64_VARIANT_URLSAFE_NO_PADDING);
                size = strlen(family);
        }
        sodium_bin2base64(secret, sizeof(secret), secrets->secret, sizeof(secrets->secret),
                sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        snprintf(ret->text, sizeof(ret->text), "%s.%.*s.%s", session, (int) size, family, secret);
        session_hash_refresh_token(ret->text, ret->hash);
        session_hash_refresh_family(ret->text, ret->family_hash);
        sodium_memzero(secret, sizeof(secret));
        sodium_memzero(own, sizeof(own));
}

void session_make_refresh_token(const char *session, RefreshToken *ret) {
        Secrets secrets;

        random_bytes(&secrets, sizeof(secrets));
        make_token(session, NULL, &secrets, ret);
        sodium_memzero(&secrets, sizeof(secrets));
}

/* BLAKE2b with a key, and not SHA-256, which of the spent token is stored. */
void session_make_successor(const char *session, const char *spent,
        const uint8_t salt[static SUCCESSOR_SALT_SIZE], RefreshToken *ret) {
        Secrets secrets;

        crypto_generichash((uint8_t *) &secrets, sizeof(secrets), (const uint8_t *) spent, strlen(spent),
                salt, SUCCESSOR_SALT_SIZE);
        make_token(session, spent, &secrets, ret);
        sodium_memzero(&secrets, sizeof(secrets));
}

int64_t session_expiry(const Api *api, int64_t now) {
        return now + (int64_t) (api->conf->auth_refresh_token_usec / USEC_PER_MSEC);
}

int session_answer_tokens(Call *call, Sc__Session *session, Sc__User *user, const char *refresh_token,
        Sc__TokenResponse *response) {
        _cleanup_free_ char *access_token = NULL;
        int64_t now = unix_msec();
        const Api *api = call->role;
        const Conf *conf = api->conf;
        TokenClaims claims = {};

        snprintf(claims.user, sizeof(claims.user), "%s", session->user);
        snprintf(claims.session, sizeof(claims.session), "%s", session->id);
        snprintf(claims.device, sizeof(claims.device), "%s", session->device);
        claims.expires_at = now / 1000 + (int64_t) (conf->auth_access_token_usec / USEC_PER_SEC);
        int r = token_issue(api->token_signer, &claims, &access_token);
        if (r < 0)
                return r;
        response->access_token = arena_strdup(&call->arena, access_token);
        if (!response->access_token)
                return -ENOMEM;
        response->token_type = (char *) "Bearer";
        response->expires_in = (uint32_t) (conf->auth_access_token_usec / USEC_PER_SEC);
        response->refresh_token = (char *) refresh_token;
        /* Rounded up: one that was stored a moment ago lives as long as configured. */
        response->refresh_expires_in = (uint32_t) ((MAX(session->expires_at - now, 0) + 999) / 1000);
        response->session = session->id;
        response->user = user;
        return 0;
}

int session_check(Api *api, const char *user, const char *session) {
        Sc__Session key = SC__SESSION__INIT, *found;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, CHECK_ARENA_LIMIT);
        key.user = (char *) user;
        key.id = (char *) session;
        int r = store_get(api->store, &arena, &sc__session__info, &key.base, &found);
        if (r <= 0)
                return r;
        return found->expires_at > unix_msec();
}

int handle_session_check(
        Call *call, const Sc__SessionCheckRequest *request, Sc__SessionCheckResponse *response) {
        int r = session_check(call->role, request->user, request->session);
        if (r < 0)
                return r;
        response->active = r > 0;
        return 0;
}

int session_end(Call *call, const char *user, const char *session, StoreWritten *ret) {
        Sc__InboxSessionEndedRequest ended = SC__INBOX_SESSION_ENDED_REQUEST__INIT;
        Sc__Session key = SC__SESSION__INIT;
        Api *api = call->role;

        char *inbox = arena_printf(&call->arena, "#%s", user);
        if (!inbox)
                return -ENOMEM;
        key.user = ended.user = (char *) user;
        key.id = ended.session = (char *) session;
        ended.expires_at =
                unix_msec() +
                (int64_t) ((api->conf->auth_access_token_usec + SESSION_ENDED_MARGIN_USEC) / USEC_PER_MSEC);
        StoreIntent intent = {
                .target = inbox,
                .method = &method_inbox_session_ended,
                .request = &ended.base,
                .trace = &call->trace,
        };
        StoreWrite write = {
                .partition = user,
                .guard = {STORE_DELETE, &sc__session__info, &key.base},
                .intents = &intent,
                .n_intents = 1,
        };
        return api_write(api, &write, ret);
}
