/* SPDX-License-Identifier: Apache-2.0 */
#include "api/account/account.h"
#include "api/session/known.h"
#include "api/session/session.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define MAX_SURPLUS 16U /* sessions ended by one login */

static Sc__Session *new_session(
        Call *call, const char *user, const char *device, const RefreshToken *token, const char *id) {
        Sc__Session *session = arena_new(&call->arena, Sc__Session, 1);

        if (!session)
                return NULL;
        sc__session__init(session);
        session->id = (char *) id;
        session->user = (char *) user;
        session->device = (char *) device;
        session->refresh_hash = (ProtobufCBinaryData){sizeof(token->hash), (uint8_t *) token->hash};
        session->family_hash =
                (ProtobufCBinaryData){sizeof(token->family_hash), (uint8_t *) token->family_hash};
        session->created_at = session->used_at = unix_msec();
        session->expires_at = session_expiry(call->role, session->created_at);
        return session;
}

/* Sessions unused for longest first; of those used in the same millisecond the one made first. */
static int compare_use(const void *a, const void *b) {
        const Sc__Session *x = *(Sc__Session *const *) a, *y = *(Sc__Session *const *) b;

        if (x->used_at != y->used_at)
                return x->used_at < y->used_at ? -1 : 1;
        return strcmp(x->id, y->id);
}

/* Ends the user's sessions beyond [Auth] MaxSessions=, but not the one just made. */
static int end_surplus(Call *call, const Sc__Session *current) {
        Sc__Session from = SC__SESSION__INIT;
        Api *api = call->role;
        size_t max = api->conf->auth_max_sessions;
        StoreWritten written;
        StoreRows *rows;

        from.user = current->user;
        StoreRead read = {
                .info = &sc__session__info,
                .from = &from.base,
                .n_prefix = 1,
                .limit = (unsigned) max + MAX_SURPLUS,
        };
        int r = store_read(api->store, &call->arena, &read, 1, &rows);
        if (r < 0 || rows->n <= max)
                return r;
        size_t surplus = rows->n - max;
        qsort(rows->records, rows->n, sizeof(rows->records[0]), compare_use);
        for (size_t i = 0; i < rows->n && surplus > 0; i++) {
                const Sc__Session *session = (const Sc__Session *) rows->records[i];

                if (streq(session->id, current->id))
                        continue;
                r = session_end(call, session->user, session->id, &written);
                if (r < 0 && r != -ENOENT)
                        return r;
                surplus--;
        }
        return 0;
}

static int refuse_credentials(Call *call) {
        Api *api = call->role;

        api->n_failed_logins++;
        log_peer((.trace = &call->trace, .method = call->method->name), LOG_INFO,
                "Wrong user name or password from %s.", call->address);
        return call_refuse(call, ERROR_INVALID_CREDENTIALS, "%s", "");
}

/* Who wants to sign in, and whether he may try now. *ret_user NULL: there is no such user, which nobody is to
 * notice. */
static int admit(Call *call, const Sc__LoginRequest *request, const char *username, Sc__User **ret_user,
        Known *ret_known) {
        Sc__User *user = NULL;
        Known known;

        int r = account_find(call, username, &user);
        if (r < 0)
                return r;
        r = known_read(call, user ? user->id : NULL, request->device_token, &known);
        if (r < 0)
                return r;
        /* A device that is known does not suffer from whoever shares its address either. */
        r = known.device ? 0 : api_limit_address(call);
        if (r >= 0)
                r = known_limit(call, &known, user ? user->id : "", username);
        if (r < 0)
                return r;
        *ret_user = user;
        *ret_known = known;
        return 0;
}

/* The session, and what its device and address are known by from now on. */
static int store_login(Call *call, const Sc__LoginRequest *request, const Known *known,
        const Sc__Session *session, Sc__TokenResponse *response) {
        StoreItem *items = arena_new(&call->arena, StoreItem, KNOWN_MAX_CHANGES);
        const char *device_token;
        StoreWritten written;
        size_t n_items;

        if (!items)
                return -ENOMEM;
        int r = known_remember(
                call, known, session->user, request->device_token, &device_token, items, &n_items);
        if (r < 0)
                return r;
        response->device_token = (char *) device_token;
        StoreWrite write = {
                .partition = session->user,
                .guard = {STORE_INSERT, &sc__session__info, &session->base},
                .followers = items,
                .n_followers = n_items,
        };
        r = api_write(call->role, &write, &written);
        if (r == -ENOSPC)
                return call_refuse(call, ERROR_STORAGE_FULL,
                        "nobody can sign in just now; those who are signed in may go on");
        return r;
}

static int begin_session(Call *call, const Sc__LoginRequest *request, const Known *known, Sc__User *user,
        Sc__TokenResponse *response) {
        RefreshToken *token = arena_new(&call->arena, RefreshToken, 1);
        char *id = arena_alloc(&call->arena, UUID_TEXT_SIZE);

        if (!token || !id)
                return -ENOMEM;
        uuid_v7(id);
        session_make_refresh_token(id, token);
        Sc__Session *session = new_session(call, user->id, request->device, token, id);
        if (!session)
                return -ENOMEM;
        int r = session_answer_tokens(call, session, user, token->text, response);
        if (r >= 0)
                r = store_login(call, request, known, session, response);
        if (r < 0)
                return r;
        r = end_surplus(call, session);
        if (r < 0 && r != -ECANCELED)
                log_peer((.trace = &call->trace, .user = user->id, .error_number = -r), LOG_WARNING,
                        "Failed to end a user's surplus sessions: %s", store_error_text(r));
        return 0;
}

/* Says the same, after the same time, whether the user is unknown or the password wrong. */
int handle_auth_login(Call *call, const Sc__LoginRequest *request, Sc__TokenResponse *response) {
        _cleanup_(password_wipep) char *password = request->password;
        char *username = account_fold_username(call, request->username);
        Api *api = call->role;
        Sc__User *user;
        Known known;

        if (!username)
                return -ENOMEM;
        int r = admit(call, request, username, &user, &known);
        if (r < 0)
                return r;
        r = account_check_password(call, user, known.device || known.address, password);
        if (r == -EKEYREJECTED)
                return refuse_credentials(call);
        if (r >= 0)
                r = begin_session(call, request, &known, user, response);
        if (r < 0)
                return r;
        api->n_logins++;
        log_trace(&call->trace, (.method = call->method->name, .user = user->id), "Signed in");
        return 0;
}
