/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What all domains of the api role share: Call.role of its handlers. api-role.c makes and ends it. */

#include "conf/conf.h"
#include "service/call.h"
#include "service/charge.h"
#include "service/intents.h"
#include "service/limiter.h"
#include "service/store-room.h"
#include "service/token-verifier.h"
#include "store/store.h"

typedef struct PasswordHasher PasswordHasher; /* account/account.h */

typedef struct Api {
        const Conf *conf;
        TokenSigner *token_signer; /* the only one: no other role has the key */
        TokenVerifier *token_verifier;
        Store *store; /* of the accounts */
        Dispatcher *dispatcher;
        StoreRoom *room; /* in the store */
        Intents *intents;
        PasswordHasher *hasher; /* NULL when the role stops */
        Charges *charges;
        /* Of tries to sign in: of all from an address; to an account by strangers; to it from a device or an
         * address that is known. */
        Limiter *by_address, *by_account, *by_known;
        /* since the start */
        uint64_t n_registrations, n_logins, n_failed_logins, n_refreshes, n_repeated_refreshes;
} Api;

extern const MessageInfo *const api_records[]; /* for StoreConfig */

/* Makes and frees the limiters; conf must be there, and the other members are the caller's. */
int api_init(Api *api);
void api_done(Api *api);

/* intents_write(): every write of a handler goes this way. What the fiber was cancelled with, if that was
 * before. May suspend. */
int api_write(Api *api, const StoreWrite *write, StoreWritten *ret);
/* Notes whether the disk is full, from the result of a write that went another way. */
void api_note_write(Api *api, int r);

/* Takes from [Api] LoginRate= of the caller's address: 0, or the call was refused. */
int api_limit_address(Call *call);
/* Takes from [Api] LoginAccountRate= of one bucket of by_account or by_known. */
int api_limit_account(Call *call, Limiter *limiter, const char *key);
