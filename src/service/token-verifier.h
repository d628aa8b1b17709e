/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Verifies the access tokens of many peers. A signature takes some 95 µs, so ten thousand clients that come
 * back at once are a second's work: a thread does it, and the loop goes on serving those who are there.
 *
 * Tokens that were found good are remembered, as a digest and their claims, if the role wants that: over REST
 * every request brings the token anew. */

#include <systemd/sd-event.h>

#include "service/token.h"

#define TOKEN_VERIFIER_MAX_WAITING 16384U /* tokens; beyond that -EBUSY */

typedef struct TokenVerifier TokenVerifier;

/* Loads the public keys, the credential token.public.pem. `n_remembered`: tokens, 0 for none. */
int token_verifier_new(TokenVerifier **ret, sd_event *event, size_t n_remembered);
/* With these keys instead. Takes a reference. */
int token_verifier_new_with(TokenVerifier **ret, sd_event *event, size_t n_remembered, TokenKeys *keys);
/* Checks what waits to its end: its done() is called. */
TokenVerifier *token_verifier_free(TokenVerifier *verifier);
DEFINE_CLEANUP(TokenVerifier *, token_verifier_free);
bool token_verifier_is_alive(TokenVerifier *verifier);

/* Takes the keys of the credential as it is now, and forgets the tokens it remembered. On failure the keys in
 * force stay. */
int token_verifier_reload(TokenVerifier *verifier);
const TokenKeys *token_verifier_keys(const TokenVerifier *verifier);

/* True if the token is remembered, and has not expired; its claims. */
bool token_verifier_find(TokenVerifier *verifier, const char *token, TokenClaims *ret);

/* ERROR_NONE and the claims, or the codes of token_verify(). Comes on the loop, exactly once. */
typedef void (*TokenVerified)(Sc__ErrorCode code, const TokenClaims *claims, void *userdata);

/* Copies the token. -EBUSY: too many wait. -ENOMEM. -ECANCELED: `verifier` is NULL, the role ends. */
int token_verifier_start(TokenVerifier *verifier, const char *token, TokenVerified done, void *userdata);

/* The same for a fiber, which waits: 0 and *ret_code, the claims in *ret if that is ERROR_NONE; or what
 * token_verifier_start() fails with, or what the fiber was cancelled with. */
int token_verifier_check(
        TokenVerifier *verifier, const char *token, TokenClaims *ret, Sc__ErrorCode *ret_code);
