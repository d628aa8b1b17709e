/* SPDX-License-Identifier: Apache-2.0 */
#include "api/account/account.h"
#include "api/session/session.h"
#include "log/message-ids.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/id.h"
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

/* Of one refresh. */
typedef struct Refresh {
        Call *call;
        const Sc__RefreshRequest *request;
        Sc__TokenResponse *response;
        const char *id; /* of the session, as the token names it */
        uint8_t presented[crypto_hash_sha256_BYTES];
        Sc__Session *session;
        Sc__User *user;
} Refresh;

/* The presented token becomes the spent one. -ESTALE if the session was changed since it was read. */
static int store_renewal(Refresh *refresh, uint8_t *salt, RefreshToken *next) {
        const StoreChange changes[] = {
                {store_field(&sc__session__info, "refresh_hash"), STORE_SET},
                {store_field(&sc__session__info, "previous_hash"), STORE_SET},
                {store_field(&sc__session__info, "family_hash"), STORE_SET},
                {store_field(&sc__session__info, "successor_salt"), STORE_SET},
                {store_field(&sc__session__info, "used_at"), STORE_SET},
                {store_field(&sc__session__info, "expires_at"), STORE_SET},
        };
        Sc__Session *session = refresh->session;
        StoreWritten written;

        session->refresh_hash = (ProtobufCBinaryData){sizeof(next->hash), next->hash};
        session->previous_hash = (ProtobufCBinaryData){sizeof(refresh->presented), refresh->presented};
        session->family_hash = (ProtobufCBinaryData){sizeof(next->family_hash), next->family_hash};
        session->successor_salt = (ProtobufCBinaryData){SUCCESSOR_SALT_SIZE, salt};
        StoreWrite write = {
                .partition = session->user,
                .guard = {STORE_PATCH, &sc__session__info, &session->base, changes, ELEMENTSOF(changes)},
        };
        return api_write(refresh->call->role, &write, &written);
}

/* While the disk is full the client goes on with the refresh token that it has. */
static int answer_unchanged(Refresh *refresh, int64_t expires_at) {
        refresh->response->refresh_token = refresh->request->refresh_token;
        refresh->response->refresh_expires_in = (uint32_t) (MAX(expires_at - unix_msec(), 0) / 1000);
        return 0;
}

/* The token in force was presented. */
static int exchange(Refresh *refresh) {
        Call *call = refresh->call;
        RefreshToken *next = arena_new(&call->arena, RefreshToken, 1);
        uint8_t salt[SUCCESSOR_SALT_SIZE];
        Sc__Session *session = refresh->session;
        int64_t expires_at = session->expires_at;

        if (!next)
                return -ENOMEM;
        random_bytes(salt, sizeof(salt));
        session_make_successor(session->id, refresh->request->refresh_token, salt, next);
        session->used_at = unix_msec();
        session->expires_at = session_expiry(call->role, session->used_at);
        /* Stored last: what fails before that leaves the client's token good. */
        int r = session_answer_tokens(call, session, refresh->user, next->text, refresh->response);
        if (r < 0)
                return r;
        r = store_renewal(refresh, salt, next);
        if (r == -ENOSPC)
                return answer_unchanged(refresh, expires_at);
        if (r == -ENOENT)
                return call_refuse(call, ERROR_SESSION_REVOKED, "%s", "");
        return r;
}

/* Was the token spent so shortly ago, by this device, that its answer may have been lost? */
static bool has_grace(const Refresh *refresh) {
        const Api *api = refresh->call->role;
        const Sc__Session *session = refresh->session;
        int64_t grace = (int64_t) (api->conf->auth_refresh_grace_usec / USEC_PER_MSEC);

        if (!isempty(refresh->request->device) && !streq(refresh->request->device, session->device))
                return false;
        return session->successor_salt.len == SUCCESSOR_SALT_SIZE && unix_msec() < session->used_at + grace;
}

/* The token spent last was presented. */
static int repeat(Refresh *refresh) {
        Call *call = refresh->call;
        Sc__Session *session = refresh->session;
        Api *api = call->role;

        if (!has_grace(refresh))
                return refuse_reused(call, session);
        RefreshToken *next = arena_new(&call->arena, RefreshToken, 1);
        if (!next)
                return -ENOMEM;
        session_make_successor(
                session->id, refresh->request->refresh_token, session->successor_salt.data, next);
        api->n_repeated_refreshes++;
        return session_answer_tokens(call, session, refresh->user, next->text, refresh->response);
}

/* Was it a token of this session at any time? */
static bool is_of_family(const Refresh *refresh) {
        uint8_t family[crypto_hash_sha256_BYTES];

        return session_hash_refresh_family(refresh->request->refresh_token, family) &&
               hash_is(&refresh->session->family_hash, family);
}

/* -ESTALE: somebody else changed the session meanwhile; with the same token, most likely. */
static int refresh_once(Refresh *refresh) {
        Sc__Session key = SC__SESSION__INIT;
        Call *call = refresh->call;
        Api *api = call->role;

        key.id = (char *) refresh->id;
        int r = store_find(api->store, &call->arena, &sc__session__info, "sessions_by_id", &key.base,
                &refresh->session);
        if (r < 0)
                return r;
        if (r == 0 || refresh->session->expires_at <= unix_msec())
                return call_refuse(call, ERROR_SESSION_REVOKED, "%s", "");
        r = account_get(call, refresh->session->user, &refresh->user);
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_SESSION_REVOKED, "%s", "");
        if (hash_is(&refresh->session->refresh_hash, refresh->presented))
                return exchange(refresh);
        if (hash_is(&refresh->session->previous_hash, refresh->presented))
                return repeat(refresh);
        if (is_of_family(refresh))
                return refuse_reused(call, refresh->session);
        return call_refuse(call, ERROR_SESSION_REVOKED, "%s", "");
}

int handle_auth_refresh(Call *call, const Sc__RefreshRequest *request, Sc__TokenResponse *response) {
        const char *dot = strchr(request->refresh_token, '.');
        Refresh refresh = {.call = call, .request = request, .response = response};
        Api *api = call->role;

        if (!dot || dot == request->refresh_token)
                return call_refuse(call, ERROR_UNAUTHENTICATED, "the refresh token is malformed");
        refresh.id =
                arena_strndup(&call->arena, request->refresh_token, (size_t) (dot - request->refresh_token));
        if (!refresh.id)
                return -ENOMEM;
        session_hash_refresh_token(request->refresh_token, refresh.presented);
        /* Of those who come with the same token the first exchanges it, and the others repeat that. */
        int r = -ESTALE;
        for (unsigned n = 0; r == -ESTALE && n < REFRESH_TRIES; n++)
                r = refresh_once(&refresh);
        if (r < 0)
                return r;
        api->n_refreshes++;
        return 0;
}
