/* SPDX-License-Identifier: Apache-2.0 */
#include "api/account/account.h"
#include "api/session/session.h"
#include "log/message-ids.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define REFRESH_TRIES 3U

static bool hash_is(const ProtobufCBinaryData *stored, const uint8_t hash[static crypto_hash_sha256_BYTES]) {
        return stored->len == crypto_hash_sha256_BYTES &&
               sodium_memcmp(stored->data, hash, crypto_hash_sha256_BYTES) == 0;
}

static int refuse_reused(Call *call, const Sc__Session *session) {
        StoreWritten written;

        int r = session_end(call, session->user, session->id, &written);
        if (r < 0 && r != -ENOENT)
                return r;
        log_peer((.message_id = MESSAGE_ID_REFRESH_TOKEN_REUSED, .trace = &call->trace,
                         .user = session->user),
                LOG_WARNING, "A spent refresh token was presented from %s; its session was ended.",
                isempty(call->address) ? "another role" : call->address);
        return call_refuse(call, ERROR_SESSION_REVOKED, "the refresh token was used before");
}

/* The presented token becomes the spent one. -ESTALE if the session was changed since it was read. */
static int store_renewal(Call *call, Sc__Session *session, uint8_t *presented, RefreshToken *next) {
        const StoreChange changes[] = {
                {store_field(&sc__session__info, "refresh_hash"), STORE_SET},
                {store_field(&sc__session__info, "previous_hash"), STORE_SET},
                {store_field(&sc__session__info, "used_at"), STORE_SET},
                {store_field(&sc__session__info, "expires_at"), STORE_SET},
        };
        StoreWritten written;

        session->refresh_hash = (ProtobufCBinaryData){sizeof(next->hash), next->hash};
        session->previous_hash = (ProtobufCBinaryData){crypto_hash_sha256_BYTES, presented};
        session->used_at = unix_msec();
        session->expires_at = session_expiry(call->role, session->used_at);
        StoreWrite write = {
                .partition = session->user,
                .guard = {STORE_PATCH, &sc__session__info, &session->base, changes, ELEMENTSOF(changes)},
        };
        return api_write(call->role, &write, &written);
}

/* -ESTALE: somebody else changed the session meanwhile; with the same token, most likely. */
static int refresh_once(Call *call, const char *id, const char *text, Sc__TokenResponse *response) {
        RefreshToken *next = arena_new(&call->arena, RefreshToken, 1);
        uint8_t presented[crypto_hash_sha256_BYTES];
        Sc__Session key = SC__SESSION__INIT, *session;
        Api *api = call->role;
        Sc__User *user;

        if (!next)
                return -ENOMEM;
        key.id = (char *) id;
        int r = store_find(
                api->store, &call->arena, &sc__session__info, "sessions_by_id", &key.base, &session);
        if (r < 0)
                return r;
        if (r == 0 || session->expires_at <= unix_msec())
                return call_refuse(call, ERROR_SESSION_REVOKED, "%s", "");
        session_hash_refresh_token(text, presented);
        if (hash_is(&session->previous_hash, presented))
                return refuse_reused(call, session);
        if (!hash_is(&session->refresh_hash, presented))
                return call_refuse(call, ERROR_SESSION_REVOKED, "%s", "");
        r = account_get(call, session->user, &user);
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_SESSION_REVOKED, "%s", "");
        /* Stored last: what fails before that leaves the client's token good. */
        session_make_refresh_token(session->id, next);
        r = session_answer_tokens(call, session, user, next, response);
        if (r < 0)
                return r;
        r = store_renewal(call, session, presented, next);
        if (r == -ENOENT)
                return call_refuse(call, ERROR_SESSION_REVOKED, "%s", "");
        return r;
}

int handle_auth_refresh(Call *call, const Sc__RefreshRequest *request, Sc__TokenResponse *response) {
        const char *dot = strchr(request->refresh_token, '.');
        Api *api = call->role;

        int r = api_limit_address(call);
        if (r < 0)
                return r;
        if (!dot || dot == request->refresh_token)
                return call_refuse(call, ERROR_UNAUTHENTICATED, "the refresh token is malformed");
        char *id =
                arena_strndup(&call->arena, request->refresh_token, (size_t) (dot - request->refresh_token));
        if (!id)
                return -ENOMEM;
        r = -ESTALE;
        for (unsigned n = 0; r == -ESTALE && n < REFRESH_TRIES; n++)
                r = refresh_once(call, id, request->refresh_token, response);
        if (r < 0)
                return r;
        api->n_refreshes++;
        return 0;
}
