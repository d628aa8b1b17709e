/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A session is a signed-in device: from its login, through refreshes, to whatever ends it.
 *
 * Its refresh token is "SESSION.FAMILY.SECRET", with 16 and 32 bytes in base64url; it is replaced at every use,
 * but for the family, which all tokens of the session share. Only SHA-256s are stored, of the token and of the
 * family. Whoever presents a spent one, however old, ends the session: either he or the owner has stolen it, and
 * we cannot tell which. One that was made up has not the family, and ends nothing.
 *
 * Except within [Auth] RefreshGraceSec= of its use: then its answer may have been lost, or two requests of the
 * client have crossed, and it answers the same successor again. That is not kept anywhere: the successor's
 * secret is a keyed hash of the spent token, with a random salt as key that is stored with the session. Who
 * has only the token, or only the database, cannot make it; any process that has both can.
 *
 * The end of a session is stored together with an intent for the user's inbox, which closes the connections
 * and lets nobody attach with an access token of the session; those live a while longer. */

#include <sodium.h>

#include "api/role-state.h"
#include "stonechat/v1/auth.pb-c.h"
#include "util/time-util.h"

/* Access tokens of an ended session are remembered for so much longer than they live: for the difference of
 * the clocks of two hosts. */
#define SESSION_ENDED_MARGIN_USEC (60 * USEC_PER_SEC)

#define REFRESH_TOKEN_SIZE 128U /* text, with NUL */

typedef struct RefreshToken {
        char text[REFRESH_TOKEN_SIZE];
        uint8_t hash[crypto_hash_sha256_BYTES]; /* what is stored of it */
        uint8_t family_hash[crypto_hash_sha256_BYTES]; /* of the family */
} RefreshToken;

#define SUCCESSOR_SALT_SIZE 32U

/* A new one for the session of this id. */
void session_make_refresh_token(const char *session, RefreshToken *ret);
/* The one that follows `spent` in the session of this id, with this salt: always the same. */
void session_make_successor(const char *session, const char *spent,
        const uint8_t salt[static SUCCESSOR_SALT_SIZE], RefreshToken *ret);
void session_hash_refresh_token(const char *text, uint8_t ret[static crypto_hash_sha256_BYTES]);
/* False: it has no family, as those of 0.2. Their successors have one. */
bool session_hash_refresh_family(const char *text, uint8_t ret[static crypto_hash_sha256_BYTES]);
/* Until when the refresh token of a session that is used now is good, Unix milliseconds. */
int64_t session_expiry(const Api *api, int64_t now);

/* Fills in the answer to a login or refresh, with a new access token. All it is given must live as long as
 * the call. */
int session_answer_tokens(Call *call, Sc__Session *session, Sc__User *user, const char *refresh_token,
        Sc__TokenResponse *response);

/* Is this session of the user in force? 1 or 0. May suspend. */
int session_check(Api *api, const char *user, const char *session);

/* Ends it, unless it has ended: -ENOENT. May suspend. */
int session_end(Call *call, const char *user, const char *session, StoreWritten *ret);
