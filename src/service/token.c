/* SPDX-License-Identifier: Apache-2.0 */
#include "service/token.h"

#include <jwt.h>
#include <sodium.h>
#include <stdio.h>
#include <time.h>

#include "schema-tables.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define TOKEN_NAME "stonechat" /* issuer and audience */
#define TOKEN_TYPE "access"
#define TOKEN_KEY_MAX 4096

struct TokenKey {
        size_t size;
        uint8_t key[];
};

int token_key_new(TokenKey **ret, const void *key, size_t size) {
        if (size < TOKEN_KEY_SIZE || size > TOKEN_KEY_MAX)
                return -EINVAL;
        TokenKey *k = malloc(sizeof(TokenKey) + size);
        if (!k)
                return -ENOMEM;
        k->size = size;
        memcpy(k->key, key, size);
        *ret = k;
        return 0;
}

int token_key_load(TokenKey **ret) {
        const char *directory = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_free_ char *path = NULL, *content = NULL;
        size_t size;

        if (!directory)
                return -ENOENT;
        path = format_string("%s/token.key", directory);
        if (!path)
                return -ENOMEM;
        int r = read_file(path, TOKEN_KEY_MAX, &content, &size);
        if (r < 0)
                return r;
        r = token_key_new(ret, content, size);
        sodium_memzero(content, size);
        return r;
}

TokenKey *token_key_free(TokenKey *key) {
        if (!key)
                return NULL;
        sodium_memzero(key->key, key->size);
        free(key);
        return NULL;
}

static inline void jwt_freep(jwt_t **jwt) {
        if (*jwt)
                jwt_free(*jwt);
}

/* libjwt answers positive errno values. */
static int add_claims(jwt_t *jwt, const TokenClaims *claims, int64_t issued_at) {
        const struct {
                const char *name, *value;
        } strings[] = {
                {"iss", TOKEN_NAME},
                {"aud", TOKEN_NAME},
                {"typ", TOKEN_TYPE},
                {"sub", claims->user},
                {"sid", claims->session},
                {"dev", claims->device},
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(strings) && r == 0; i++)
                r = jwt_add_grant(jwt, strings[i].name, strings[i].value);
        if (r == 0)
                r = jwt_add_grant_int(jwt, "iat", issued_at);
        if (r == 0)
                r = jwt_add_grant_int(jwt, "exp", claims->expires_at);
        return -r;
}

int token_issue(const TokenKey *key, const TokenClaims *claims, char **ret) {
        _cleanup_(jwt_freep) jwt_t *jwt = NULL;

        int r = -jwt_new(&jwt);
        if (r < 0)
                return r;
        r = -jwt_set_alg(jwt, JWT_ALG_HS256, key->key, (int) key->size);
        if (r < 0)
                return r;
        r = add_claims(jwt, claims, time(NULL));
        if (r < 0)
                return r;
        char *token = jwt_encode_str(jwt);
        if (!token)
                return -ENOMEM;
        *ret = token;
        return 0;
}

static bool copy_claim(jwt_t *jwt, const char *name, char *out, size_t size) {
        const char *value = jwt_get_grant(jwt, name);

        return value && (size_t) snprintf(out, size, "%s", value) < size;
}

static bool claim_is(jwt_t *jwt, const char *name, const char *expected) {
        const char *value = jwt_get_grant(jwt, name);

        return value && streq(value, expected);
}

Sc__ErrorCode token_verify(const TokenKey *key, const char *token, int64_t now, TokenClaims *ret) {
        _cleanup_(jwt_freep) jwt_t *jwt = NULL;
        TokenClaims claims = {};

        if (strlen(token) > TOKEN_MAX_SIZE || jwt_decode(&jwt, token, key->key, (int) key->size) != 0)
                return ERROR_UNAUTHENTICATED;
        /* The token's header must not choose the algorithm: only one is accepted. */
        if (jwt_get_alg(jwt) != JWT_ALG_HS256)
                return ERROR_UNAUTHENTICATED;
        if (!claim_is(jwt, "iss", TOKEN_NAME) || !claim_is(jwt, "aud", TOKEN_NAME) ||
                !claim_is(jwt, "typ", TOKEN_TYPE))
                return ERROR_UNAUTHENTICATED;
        if (!copy_claim(jwt, "sub", claims.user, sizeof(claims.user)) || !*claims.user ||
                !copy_claim(jwt, "sid", claims.session, sizeof(claims.session)) ||
                !copy_claim(jwt, "dev", claims.device, sizeof(claims.device)))
                return ERROR_UNAUTHENTICATED;
        claims.expires_at = jwt_get_grant_int(jwt, "exp");
        if (claims.expires_at <= now)
                return ERROR_TOKEN_EXPIRED;
        *ret = claims;
        return ERROR_NONE;
}
