/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by the accounts-*.c only. */

#include <sodium.h>

#include "api/accounts.h"

#define REFRESH_SECRET_SIZE 32U /* random bytes */
#define REFRESH_SECRET_TEXT_SIZE 44U /* in base64url without padding, with NUL */
#define REFRESH_TOKEN_SIZE (64U + 1U + REFRESH_SECRET_TEXT_SIZE) /* text, with NUL */

/* Room of a session record's bytes, so that one can live on the stack or in an arena. */
typedef struct SessionHashes {
        uint8_t current[crypto_hash_sha256_BYTES];
        uint8_t previous[crypto_hash_sha256_BYTES];
} SessionHashes;

/* A deep copy in the arena, NULL at its limit: what a store hands out dies with the completion. */
void *accounts_copy(Arena *arena, const ProtobufCMessage *message);

/* User names are unique without regard to case: ASCII capitals become small, in place. */
void accounts_fold_username(char *username);

/* An index of the record by its name in records.proto, which must be there. */
const IndexInfo *accounts_find_index(const MessageInfo *info, const char *name);

/* Reads the user with this (folded) name. */
int accounts_read_by_username(Accounts *accounts, const char *username, StoreReadDone done, void *userdata);
int accounts_read_user(Accounts *accounts, const char *id, StoreReadDone done, void *userdata);
int accounts_read_session(Accounts *accounts, const char *id, StoreReadDone done, void *userdata);

/* Takes from the limits of the address. False: the call was refused. */
bool accounts_pass_address(Accounts *accounts, Call *call);

/* Every completion of a write reports here, so that a full disk is told once. */
void accounts_note_write(Accounts *accounts, int r);

/* A new refresh token of the session: its text, and the hash to store. */
void accounts_make_refresh_token(const char *session, char token[static REFRESH_TOKEN_SIZE],
        uint8_t hash[static crypto_hash_sha256_BYTES]);
void accounts_hash_refresh_token(const char *token, uint8_t hash[static crypto_hash_sha256_BYTES]);

/* Answers with an access token and this refresh token. */
void accounts_return_tokens(Accounts *accounts, Call *call, const Sc__Session *session, const Sc__User *user,
        const char *refresh_token);

/* Deletes the sessions of the user beyond [Auth] MaxSessions=, those unused for longest; on its own. */
void accounts_limit_sessions(Accounts *accounts, const Trace *trace, const char *user);
