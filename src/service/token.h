/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Access tokens: JWT (RFC 7519), ES256 (RFC 7518, 3.4), short-lived. The api role signs them with a private
 * key that it alone has; every role verifies them with public keys, so none of the others can make one.
 *
 * Header: alg "ES256", kid, typ "JWT". kid is the thumbprint of the public key (RFC 7638), so it needs no
 * name. Several public keys may be in force: while keys are rotated, tokens of the key before stay valid.
 * Claims: iss "stonechat", aud "stonechat", sub (user), sid (session), dev (device), typ "access", iat, exp.
 * Nothing else in a header is looked at; no other algorithm is accepted.
 *
 * libjwt takes a token apart and puts it together. Signatures are made and checked with OpenSSL itself, as
 * libjwt reads the PEM text anew each time: 580 µs a token instead of 95 (2 cores at 2.x GHz, OpenSSL 3.0).
 * What verifies many tokens on an event loop uses service/token-verifier.h. */

#include <stdbool.h>
#include <stdint.h>

#include "stonechat/v1/errors.pb-c.h"
#include "util/macro.h"

#define TOKEN_MAX_SIZE 2048 /* of a token's text */
#define TOKEN_PEM_MAX 16384 /* of a credential */
#define TOKEN_KEYS_MAX 8 /* in force at a time */
#define TOKEN_KEY_ID_SIZE 44 /* 32 bytes in base64url, and a NUL */

/* Credentials. The private key goes to api alone. */
#define TOKEN_PRIVATE_CREDENTIAL "token.private.pem"
#define TOKEN_PUBLIC_CREDENTIAL "token.public.pem"

typedef struct TokenClaims {
        char user[64], session[64], device[65];
        int64_t expires_at; /* Unix time, seconds */
        uint32_t key; /* stands for the key that signed it: see token_keys_has_number() */
} TokenClaims;

/* --- verifying --- */

/* The public keys in force. Immutable and reference-counted, so threads may share it. */
typedef struct TokenKeys TokenKeys;

/* From PEM texts of P-256 public keys, one behind the other. -EINVAL: none, too many, or something else among
 * them. */
int token_keys_new(TokenKeys **ret, const char *pem, size_t size);
/* The credential token.public.pem. */
int token_keys_load(TokenKeys **ret);
TokenKeys *token_keys_ref(TokenKeys *keys);
TokenKeys *token_keys_unref(TokenKeys *keys);
DEFINE_CLEANUP(TokenKeys *, token_keys_unref);
bool token_keys_has(const TokenKeys *keys, const char *key_id);
/* Is the key of a token that was verified earlier still in force? (TokenClaims.key, the beginning of its id.) */
bool token_keys_has_number(const TokenKeys *keys, uint32_t number);

/* ERROR_NONE, ERROR_UNAUTHENTICATED or ERROR_TOKEN_EXPIRED: its time is over, or its key is not in force any more,
 * so its holder is to fetch a new one. `now`: Unix time in seconds. Takes some 95 µs. Thread-safe. */
Sc__ErrorCode token_verify(const TokenKeys *keys, const char *token, int64_t now, TokenClaims *ret);

/* --- signing --- */

typedef struct TokenSigner TokenSigner;

/* -EINVAL: no private key of P-256. */
int token_signer_new(TokenSigner **ret, const char *pem, size_t size);
/* The credential token.private.pem. */
int token_signer_load(TokenSigner **ret);
TokenSigner *token_signer_free(TokenSigner *signer);
DEFINE_CLEANUP(TokenSigner *, token_signer_free);
const char *token_signer_key_id(const TokenSigner *signer);

/* Caller frees. */
int token_issue(const TokenSigner *signer, const TokenClaims *claims, char **ret);

/* --- making keys --- */

/* A new key pair, as PEM texts (PKCS #8, SubjectPublicKeyInfo) that the caller frees, and wipes: the first. */
int token_key_generate(char **ret_private, char **ret_public);
/* The public part of a private key, as PEM. */
int token_key_public(const char *private_pem, char **ret_public);
