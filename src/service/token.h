/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Access tokens: JWT, HS256, signed with the credential token.key, short-lived. Claims: iss "stonechat", aud
 * "stonechat", sub (user), sid (session), dev (device), typ "access", iat, exp. No other algorithm is
 * accepted; jku, x5u, jwk, kid are ignored. */

#include "stonechat/v1/errors.pb-c.h"
#include "util/macro.h"

#define TOKEN_KEY_SIZE 32 /* bytes, at least; the credential is raw bytes */
#define TOKEN_MAX_SIZE 2048 /* of a token's text */

typedef struct TokenKey TokenKey;

typedef struct TokenClaims {
        char user[64], session[64], device[65];
        int64_t expires_at; /* Unix time, seconds */
} TokenClaims;

/* Reads $CREDENTIALS_DIRECTORY/token.key. -ENOENT if there is none, -EINVAL if it is shorter than
 * TOKEN_KEY_SIZE. */
int token_key_load(TokenKey **ret);
int token_key_new(TokenKey **ret, const void *key, size_t size);
TokenKey *token_key_free(TokenKey *key); /* wipes it */
DEFINE_CLEANUP(TokenKey *, token_key_free);

/* Caller frees. */
int token_issue(const TokenKey *key, const TokenClaims *claims, char **ret);
/* ERROR_NONE, ERROR_UNAUTHENTICATED or ERROR_TOKEN_EXPIRED. `now`: Unix time in seconds. */
Sc__ErrorCode token_verify(const TokenKey *key, const char *token, int64_t now, TokenClaims *ret);
