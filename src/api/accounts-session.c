/* SPDX-License-Identifier: Apache-2.0 */

/* The life of a session behind the login: refresh, logout, and the question whether it is in force. */

#include "api/accounts-internal.h"
#include "log/message-ids.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define REFRESH_TRIES 3U

static void tell_session_ended(
        Accounts *accounts, const Trace *trace, const char *user, const char *session) {
        if (accounts->config.session_ended)
                accounts->config.session_ended(trace, user, session, accounts->config.userdata);
}

/* --- refresh: session → compare → compare-and-set the next hash → user → tokens --- */

typedef struct Refresh { /* in the call's arena */
        Accounts *accounts;
        Call *call;
        unsigned n_tries;
        char *session_id;
        uint8_t presented[crypto_hash_sha256_BYTES];
        Sc__Session *session;
        SessionHashes hashes;
        char refresh_token[REFRESH_TOKEN_SIZE];
} Refresh;

static int begin_refresh(Refresh *refresh);

static void on_refreshed_user(int r, const StoreRows *rows, size_t n, void *userdata) {
        Refresh *refresh = userdata;

        if (r < 0)
                call_fail_errno(refresh->call, r, "read the user");
        else if (rows[0].n == 0)
                call_fail(refresh->call, ERROR_SESSION_REVOKED, "%s", "");
        else {
                refresh->accounts->n_refreshes++;
                accounts_return_tokens(refresh->accounts, refresh->call, refresh->session,
                        (const Sc__User *) rows[0].records[0], refresh->refresh_token);
        }
}

static void on_refresh_stored(int r, size_t failed, void *userdata) {
        Refresh *refresh = userdata;

        accounts_note_write(refresh->accounts, r);
        if (r == -ENOENT) {
                call_fail(refresh->call, ERROR_SESSION_REVOKED, "%s", "");
                return;
        }
        /* Somebody else changed it meanwhile: with the same token, most likely. Look again. */
        if (r == -ESTALE && ++refresh->n_tries < REFRESH_TRIES)
                r = begin_refresh(refresh);
        else if (r >= 0)
                r = accounts_read_user(
                        refresh->accounts, refresh->session->user, on_refreshed_user, refresh);
        if (r < 0)
                call_fail_errno(refresh->call, r, "refresh the session");
}

static bool hash_is(const ProtobufCBinaryData *stored, const uint8_t hash[static crypto_hash_sha256_BYTES]) {
        return stored->len == crypto_hash_sha256_BYTES &&
               sodium_memcmp(stored->data, hash, crypto_hash_sha256_BYTES) == 0;
}

static int renew(Refresh *refresh) {
        const Conf *conf = refresh->accounts->config.conf;
        Sc__Session *session = refresh->session;
        int64_t now = unix_msec();

        memcpy(refresh->hashes.previous, refresh->presented, sizeof(refresh->hashes.previous));
        accounts_make_refresh_token(session->id, refresh->refresh_token, refresh->hashes.current);
        session->previous_hash =
                (ProtobufCBinaryData){sizeof(refresh->hashes.previous), refresh->hashes.previous};
        session->refresh_hash =
                (ProtobufCBinaryData){sizeof(refresh->hashes.current), refresh->hashes.current};
        session->used_at = now;
        session->expires_at = now + (int64_t) (conf->auth_refresh_token_usec / USEC_PER_MSEC);
        StoreWrite write = {STORE_UPDATE, &sc__session__info, &session->base};
        return store_write(refresh->accounts->config.store, &write, 1, on_refresh_stored, refresh);
}

static void on_reused_deleted(int r, size_t failed, void *userdata) {
        Refresh *refresh = userdata;
        Call *call = refresh->call;

        accounts_note_write(refresh->accounts, r);
        if (r < 0 && r != -ENOENT) {
                call_fail_errno(call, r, "end the session");
                return;
        }
        log_peer((.message_id = MESSAGE_ID_REFRESH_TOKEN_REUSED, .trace = &call->trace,
                         .user = refresh->session->user),
                LOG_WARNING, "A spent refresh token was presented from %s; its session was ended.",
                isempty(call->address) ? "another role" : call->address);
        tell_session_ended(refresh->accounts, &call->trace, refresh->session->user, refresh->session->id);
        call_fail(call, ERROR_SESSION_REVOKED, "the refresh token was used before");
}

static int end_reused(Refresh *refresh) {
        Sc__Session key = SC__SESSION__INIT;
        StoreWrite write = {STORE_DELETE, &sc__session__info, &key.base};

        key.id = refresh->session->id;
        return store_write(refresh->accounts->config.store, &write, 1, on_reused_deleted, refresh);
}

static void on_refresh_session(int r, const StoreRows *rows, size_t n, void *userdata) {
        Refresh *refresh = userdata;

        if (r >= 0 && rows[0].n > 0) {
                refresh->session = accounts_copy(&refresh->call->arena, rows[0].records[0]);
                if (!refresh->session)
                        r = -ENOMEM;
        }
        if (r < 0) {
                call_fail_errno(refresh->call, r, "read the session");
                return;
        }
        const Sc__Session *session = refresh->session;
        if (rows[0].n == 0 || session->expires_at <= unix_msec()) {
                call_fail(refresh->call, ERROR_SESSION_REVOKED, "%s", "");
                return;
        }
        if (hash_is(&session->refresh_hash, refresh->presented))
                r = renew(refresh);
        else if (hash_is(&session->previous_hash, refresh->presented))
                r = end_reused(refresh);
        else {
                call_fail(refresh->call, ERROR_SESSION_REVOKED, "%s", "");
                return;
        }
        if (r < 0)
                call_fail_errno(refresh->call, r, "refresh the session");
}

static int begin_refresh(Refresh *refresh) {
        return accounts_read_session(refresh->accounts, refresh->session_id, on_refresh_session, refresh);
}

void accounts_refresh(Accounts *accounts, Call *call, const Sc__RefreshRequest *request) {
        const char *dot = strchr(request->refresh_token, '.');

        if (!accounts_pass_address(accounts, call))
                return;
        if (!dot || dot == request->refresh_token) {
                call_fail(call, ERROR_UNAUTHENTICATED, "the refresh token is malformed");
                return;
        }
        Refresh *refresh = arena_new(&call->arena, Refresh, 1);
        char *session_id =
                arena_strndup(&call->arena, request->refresh_token, (size_t) (dot - request->refresh_token));
        if (!refresh || !session_id) {
                call_fail_errno(call, -ENOMEM, "begin to refresh");
                return;
        }
        *refresh = (Refresh){.accounts = accounts, .call = call, .session_id = session_id};
        accounts_hash_refresh_token(request->refresh_token, refresh->presented);
        int r = begin_refresh(refresh);
        if (r < 0)
                call_fail_errno(call, r, "read the session");
}

/* --- logout --- */

typedef struct Logout { /* in the call's arena */
        Accounts *accounts;
        Call *call;
} Logout;

static void on_logged_out(int r, size_t failed, void *userdata) {
        static const Sc__LogoutResponse response = SC__LOGOUT_RESPONSE__INIT;
        Logout *logout = userdata;
        Call *call = logout->call;

        accounts_note_write(logout->accounts, r);
        if (r < 0 && r != -ENOENT) { /* gone already: that is what was asked for */
                call_fail_errno(call, r, "end the session");
                return;
        }
        log_trace(&call->trace, (.method = call->method->name, .user = call->caller.user), "Signed out");
        tell_session_ended(logout->accounts, &call->trace, call->caller.user, call->caller.session);
        call_return(call, &response.base);
}

void accounts_logout(Accounts *accounts, Call *call) {
        Sc__Session key = SC__SESSION__INIT;
        StoreWrite write = {STORE_DELETE, &sc__session__info, &key.base};
        Logout *logout = arena_new(&call->arena, Logout, 1);

        if (!logout) {
                call_fail_errno(call, -ENOMEM, "begin the logout");
                return;
        }
        *logout = (Logout){.accounts = accounts, .call = call};
        key.id = call->caller.session;
        int r = store_write(accounts->config.store, &write, 1, on_logged_out, logout);
        if (r < 0)
                call_fail_errno(call, r, "end the session");
}

/* --- is it in force? --- */

typedef struct SessionCheck {
        AccountsSessionDone done;
        void *userdata;
        char user[]; /* who claims it */
} SessionCheck;

static void on_checked(int r, const StoreRows *rows, size_t n, void *userdata) {
        _cleanup_free_ SessionCheck *check = userdata;
        Sc__ErrorCode code = ERROR_SESSION_REVOKED;

        if (r < 0) {
                log_peer((.error_number = -r), LOG_WARNING, "Failed to read a session: %m");
                code = ERROR_UNAVAILABLE;
        } else if (rows[0].n > 0) {
                const Sc__Session *session = (const Sc__Session *) rows[0].records[0];
                if (streq(session->user, check->user) && session->expires_at > unix_msec())
                        code = ERROR_NONE;
        }
        check->done(code, check->userdata);
}

int accounts_check_session(Accounts *accounts, const char *user, const char *session,
        AccountsSessionDone done, void *userdata) {
        size_t size = strlen(user) + 1;
        _cleanup_free_ SessionCheck *check = malloc(sizeof(SessionCheck) + size);
        if (!check)
                return -ENOMEM;
        *check = (SessionCheck){.done = done, .userdata = userdata};
        memcpy(check->user, user, size);
        int r = accounts_read_session(accounts, session, on_checked, check);
        if (r >= 0)
                TAKE_PTR(check);
        return r;
}

static void on_check_answered(Sc__ErrorCode code, void *userdata) {
        Sc__SessionCheckResponse response = SC__SESSION_CHECK_RESPONSE__INIT;
        Call *call = userdata;

        if (code != ERROR_NONE && code != ERROR_SESSION_REVOKED) {
                call_fail(call, code, "%s", "");
                return;
        }
        response.active = code == ERROR_NONE;
        call_return(call, &response.base);
}

void accounts_answer_session_check(Accounts *accounts, Call *call, const Sc__SessionCheckRequest *request) {
        int r = accounts_check_session(accounts, request->user, request->session, on_check_answered, call);
        if (r < 0)
                call_fail_errno(call, r, "read the session");
}
