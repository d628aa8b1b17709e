/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Accounts and sessions: everything that reads or writes users, credentials and sessions. Each function
 * takes a call whose request was checked, and answers it.
 *
 * A session is a signed-in device. Its refresh token is "SESSION.SECRET", with 32 random bytes in base64url
 * as secret; only its SHA-256 is stored, and it is replaced at every use. Whoever presents the one spent
 * last ends the session: either he or the owner has stolen it, and we cannot tell which.
 *
 * A login says the same, after the same time, whether the user is unknown or the password wrong. */

#include "api/limiter.h"
#include "api/password.h"
#include "conf/conf.h"
#include "service/call.h"
#include "service/token.h"
#include "stonechat/v1/auth.pb-c.h"
#include "stonechat/v1/users.pb-c.h"
#include "store/store.h"

extern const MessageInfo *const accounts_records[]; /* for StoreConfig */

/* What accounts work with; it outlives them, save the hasher, which they take. */
typedef struct AccountsConfig {
        Store *store;
        const Conf *conf;
        const TokenKey *token_key;
        PasswordHasher *hasher;
        /* A session was ended: its connections should be closed. */
        void (*session_ended)(const Trace *trace, const char *user, const char *session, void *userdata);
        /* The store filled up, or takes writes again. */
        void (*store_full)(bool full, void *userdata);
        void *userdata;
} AccountsConfig;

typedef struct Accounts {
        AccountsConfig config;
        Limiter *by_address, *by_account; /* of tries to sign in */
        bool store_full;
        /* since the start */
        uint64_t n_registrations, n_logins, n_failed_logins, n_refreshes;
} Accounts;

int accounts_new(Accounts **ret, const AccountsConfig *config);
/* Ends the hashes under way, which may still write to the store; from then on what needs one fails with
 * ERROR_UNAVAILABLE. Then the store is closed, and then nobody uses the accounts any more. */
void accounts_stop_hashing(Accounts *accounts);
Accounts *accounts_free(Accounts *accounts);
DEFINE_CLEANUP(Accounts *, accounts_free);

/* The threads that hash live. */
bool accounts_are_alive(const Accounts *accounts);

void accounts_register(Accounts *accounts, Call *call, const Sc__RegisterRequest *request);
void accounts_login(Accounts *accounts, Call *call, const Sc__LoginRequest *request);
void accounts_refresh(Accounts *accounts, Call *call, const Sc__RefreshRequest *request);
void accounts_logout(Accounts *accounts, Call *call);

void accounts_me(Accounts *accounts, Call *call);
void accounts_get_user(Accounts *accounts, Call *call, const char *user);
void accounts_lookup_user(Accounts *accounts, Call *call, const char *username);

/* Is this session in force? ERROR_NONE, ERROR_SESSION_REVOKED, or why it cannot be said. */
typedef void (*AccountsSessionDone)(Sc__ErrorCode code, void *userdata);
int accounts_check_session(
        Accounts *accounts, const char *user, const char *session, AccountsSessionDone done, void *userdata);
void accounts_answer_session_check(Accounts *accounts, Call *call, const Sc__SessionCheckRequest *request);
void accounts_purge_sessions(Accounts *accounts, Call *call, uint32_t limit);
void accounts_check_store(Accounts *accounts, Call *call);
