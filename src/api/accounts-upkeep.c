/* SPDX-License-Identifier: Apache-2.0 */

/* What keeps the store of accounts small and sound: expired sessions, too many sessions, the integrity
 * check. */

#include "api/accounts-internal.h"
#include "schema-tables.h"
#include "service/store-role.h"
#include "util/time-util.h"

#define PURGE_DEFAULT 500U
#define PURGE_MAX 1000U /* sessions of one transaction */

/* --- expired sessions --- */

typedef struct Purge { /* in the call's arena */
        Accounts *accounts;
        Call *call;
        uint32_t n;
        bool more;
} Purge;

static void return_purged(Purge *purge) {
        Sc__SessionPurgeResponse response = SC__SESSION_PURGE_RESPONSE__INIT;

        response.deleted = purge->n;
        response.more = purge->more;
        call_return(purge->call, &response.base);
}

static void on_purged(int r, size_t failed, void *userdata) {
        Purge *purge = userdata;

        accounts_note_write(purge->accounts, r);
        if (r == -ENOENT ||
                r == -ESTALE) { /* one was deleted in between, and so none here: the caller comes again */
                purge->n = 0;
                purge->more = true;
                r = 0;
        }
        if (r < 0)
                call_fail_errno(purge->call, r, "delete expired sessions");
        else
                return_purged(purge);
}

static void on_expired_found(int r, const StoreRows *rows, size_t n, void *userdata) {
        Purge *purge = userdata;

        if (r >= 0 && rows[0].n == 0) {
                return_purged(purge);
                return;
        }
        if (r >= 0) {
                StoreWrite writes[PURGE_MAX];
                purge->n = (uint32_t) MIN(rows[0].n, (size_t) PURGE_MAX);
                purge->more = rows[0].more;
                for (size_t i = 0; i < purge->n; i++)
                        writes[i] = (StoreWrite){STORE_DELETE, &sc__session__info, rows[0].records[i]};
                r = store_write(purge->accounts->config.store, writes, purge->n, on_purged, purge);
        }
        if (r < 0)
                call_fail_errno(purge->call, r, "delete expired sessions");
}

void accounts_purge_sessions(Accounts *accounts, Call *call, uint32_t limit) {
        Sc__Session from = SC__SESSION__INIT, to = SC__SESSION__INIT;
        Purge *purge = arena_new(&call->arena, Purge, 1);

        if (!purge) {
                call_fail_errno(call, -ENOMEM, "look for expired sessions");
                return;
        }
        *purge = (Purge){.accounts = accounts, .call = call};
        to.expires_at = unix_msec();
        StoreRead read = {
                .info = &sc__session__info,
                .index = accounts_find_index(&sc__session__info, "sessions_by_expiry"),
                .from = &from.base,
                .before = true,
                .to = &to.base,
                .limit = limit == 0 ? PURGE_DEFAULT : MIN(limit, PURGE_MAX),
        };
        int r = store_read(accounts->config.store, &read, 1, on_expired_found, purge);
        if (r < 0)
                call_fail_errno(call, r, "look for expired sessions");
}

/* --- too many sessions of one user --- */

typedef struct SessionLimit {
        Accounts *accounts;
        Trace trace;
        char user[];
} SessionLimit;

static void on_surplus_deleted(int r, size_t failed, void *userdata) {
        accounts_note_write(userdata, r);
        if (r < 0 && r != -ENOENT)
                log_peer((.error_number = -r), LOG_WARNING, "Failed to end a user's oldest session: %m");
}

static void end_least_used(SessionLimit *limit, const StoreRows *rows) {
        Accounts *accounts = limit->accounts;
        const Sc__Session *oldest = (const Sc__Session *) rows->records[0];

        FOREACH_ARRAY(record, rows->records, rows->n) {
                const Sc__Session *session = (const Sc__Session *) *record;
                if (session->used_at < oldest->used_at)
                        oldest = session;
        }
        StoreWrite write = {STORE_DELETE, &sc__session__info, &oldest->base};
        int r = store_write(accounts->config.store, &write, 1, on_surplus_deleted, accounts);
        if (r < 0)
                on_surplus_deleted(r, 0, accounts);
        else if (accounts->config.session_ended)
                accounts->config.session_ended(
                        &limit->trace, limit->user, oldest->id, accounts->config.userdata);
}

static void on_sessions_listed(int r, const StoreRows *rows, size_t n, void *userdata) {
        _cleanup_free_ SessionLimit *limit = userdata;

        if (r < 0)
                log_peer((.trace = &limit->trace, .error_number = -r), LOG_WARNING,
                        "Failed to list the sessions of a user: %m");
        else if (rows[0].n > limit->accounts->config.conf->auth_max_sessions)
                end_least_used(limit, &rows[0]);
}

void accounts_limit_sessions(Accounts *accounts, const Trace *trace, const char *user) {
        Sc__Session from = SC__SESSION__INIT;
        size_t size = strlen(user) + 1;
        SessionLimit *limit = malloc(sizeof(SessionLimit) + size);

        if (!limit) {
                log_oom();
                return;
        }
        *limit = (SessionLimit){.accounts = accounts, .trace = *trace};
        memcpy(limit->user, user, size);
        from.user = limit->user;
        StoreRead read = {
                .info = &sc__session__info,
                .index = accounts_find_index(&sc__session__info, "sessions_by_user"),
                .from = &from.base,
                .n_prefix = 1,
                .limit = (unsigned) accounts->config.conf->auth_max_sessions + 1,
        };
        int r = store_read(accounts->config.store, &read, 1, on_sessions_listed, limit);
        if (r < 0)
                on_sessions_listed(r, NULL, 0, limit);
}

void accounts_check_store(Accounts *accounts, Call *call) {
        call_check_store(call, accounts->config.store);
}
