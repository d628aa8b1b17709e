/* SPDX-License-Identifier: Apache-2.0 */
#include "api/role-state.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/time-util.h"

#define PURGE_DEFAULT 500U
#define PURGE_MAX 1000U /* sessions of one call */
#define PURGE_BATCH 32U /* writes under way at a time */

/* Writes that were submitted together. */
typedef struct Batch {
        Future future; /* one reference is ours, one all completions' together */
        Api *api;
        unsigned n_pending, n_deleted;
        int r; /* of a write that failed; a session that was ended or used since is no failure */
} Batch;

static void batch_unrefp(Batch **batch) {
        if (*batch)
                future_unref(&(*batch)->future);
}

static void on_deleted(int r, _unused_ const StoreWritten *written, void *userdata) {
        Batch *batch = userdata;

        api_note_write(batch->api, r);
        if (r >= 0)
                batch->n_deleted++;
        else if (r != -ENOENT && r != -ESTALE)
                batch->r = r;
        if (--batch->n_pending == 0)
                future_fulfil(&batch->future);
}

static int delete_one(Batch *batch, const Sc__Session *session) {
        /* The record has its version: one that was used since stays. */
        StoreWrite write = {
                .partition = session->user,
                .guard = {STORE_DELETE, &sc__session__info, &session->base},
        };

        int r = store_write_start(batch->api->store, &write, on_deleted, batch);
        if (r >= 0)
                batch->n_pending++;
        return r;
}

static int delete_batch(Api *api, ProtobufCMessage *const *sessions, size_t n, uint32_t *n_deleted) {
        _cleanup_(batch_unrefp) Batch *batch = new0(Batch, 1);
        int r = 0;

        if (!batch)
                return -ENOMEM;
        future_init(&batch->future, NULL);
        batch->api = api;
        for (size_t i = 0; i < n && r >= 0; i++)
                r = delete_one(batch, (const Sc__Session *) sessions[i]);
        if (batch->n_pending > 0) {
                future_ref(&batch->future);
                future_await_fully(&batch->future);
        }
        *n_deleted += batch->n_deleted;
        return r < 0 ? r : batch->r;
}

/* Nobody is told of it: an expired session is refused before it is deleted. */
int handle_session_purge(
        Call *call, const Sc__SessionPurgeRequest *request, Sc__SessionPurgeResponse *response) {
        Sc__Session from = SC__SESSION__INIT, to = SC__SESSION__INIT;
        Api *api = call->role;
        StoreRows *expired;

        to.expires_at = unix_msec();
        StoreRead read = {
                .info = &sc__session__info,
                .index = store_index(&sc__session__info, "sessions_by_expiry"),
                .from = &from.base,
                .before = true,
                .to = &to.base,
                .limit = request->limit == 0 ? PURGE_DEFAULT : MIN(request->limit, PURGE_MAX),
        };
        int r = store_read(api->store, &call->arena, &read, 1, &expired);
        for (size_t i = 0; r >= 0 && i < expired->n; i += PURGE_BATCH) {
                r = fiber_check_cancelled();
                if (r >= 0)
                        r = delete_batch(api, expired->records + i,
                                MIN(expired->n - i, (size_t) PURGE_BATCH), &response->deleted);
        }
        if (r < 0)
                return r;
        response->more = expired->more;
        return 0;
}
