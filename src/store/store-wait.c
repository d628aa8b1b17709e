/* SPDX-License-Identifier: Apache-2.0 */

/* The functions of store.h that wait: the same submissions, with a future for the completion. */

#include "fiber/fiber.h"
#include "schema-tables.h"
#include "store/store-submit.h"

/* What a completion brings. Shared with it, as the fiber may be gone when it comes. */
typedef struct Outcome {
        Future future;
        int r;
        Arena arena; /* holds the rows or findings */
        union {
                StoreWritten written;
                unsigned n_deleted;
                StoreRows *rows;
                StoreCheck check;
        };
} Outcome;

static void outcome_destroy(Future *future) {
        Outcome *outcome = CONTAINER_OF(future, Outcome, future);

        arena_done(&outcome->arena);
        free(outcome);
}

static Outcome *outcome_new(void) {
        Outcome *outcome = new0(Outcome, 1);

        if (!outcome)
                return NULL;
        future_init(&outcome->future, outcome_destroy);
        arena_init(&outcome->arena, SIZE_MAX);
        return outcome;
}

static void outcome_unrefp(Outcome **outcome) {
        if (*outcome)
                future_unref(&(*outcome)->future);
}
#define _cleanup_outcome_ _cleanup_(outcome_unrefp)

/* A submission was made, or refused with r: then its completion does not come. */
static int await_fully(Outcome *outcome, int r) {
        if (r < 0) {
                future_unref(&outcome->future);
                return r;
        }
        future_await_fully(&outcome->future);
        return outcome->r;
}

static int await(Outcome *outcome, int r) {
        if (r < 0) {
                future_unref(&outcome->future);
                return r;
        }
        r = future_await(&outcome->future);
        return r < 0 ? r : outcome->r;
}

/* --- reads --- */

static void on_read(int r, const StoreRows *rows, _unused_ size_t n, Arena *arena, void *userdata) {
        Outcome *outcome = userdata;

        outcome->r = r;
        outcome->rows = (StoreRows *) rows; /* in the arena */
        arena_adopt(&outcome->arena, arena);
        future_fulfil(&outcome->future);
}

int store_read(Store *store, Arena *arena, const StoreRead *reads, size_t n, StoreRows **ret) {
        _cleanup_outcome_ Outcome *outcome = outcome_new();
        if (!outcome)
                return -ENOMEM;
        int r = await(outcome, store_read_start(store, reads, n, on_read, future_ref(&outcome->future)));
        if (r < 0)
                return r;
        arena_adopt(arena, &outcome->arena);
        *ret = outcome->rows;
        return 0;
}

static int read_one(Store *store, Arena *arena, const StoreRead *read, void *ret) {
        StoreRows *rows;

        int r = store_read(store, arena, read, 1, &rows);
        if (r < 0 || rows->n == 0)
                return r;
        *(ProtobufCMessage **) ret = rows->records[0];
        return 1;
}

int store_get(Store *store, Arena *arena, const MessageInfo *info, const ProtobufCMessage *key, void *ret) {
        const StoreRead read = {.info = info, .from = key, .n_prefix = info->record->key.n_fields};
        return read_one(store, arena, &read, ret);
}

int store_find(Store *store, Arena *arena, const MessageInfo *info, const char *index,
        const ProtobufCMessage *key, void *ret) {
        const IndexInfo *by = store_index(info, index);
        const StoreRead read = {.info = info, .index = by, .from = key, .n_prefix = by->n_fields};
        return read_one(store, arena, &read, ret);
}

/* --- writes --- */

static void on_written(int r, const StoreWritten *written, void *userdata) {
        Outcome *outcome = userdata;

        outcome->r = r;
        outcome->written = *written;
        future_fulfil(&outcome->future);
}

/* Reads the one record with this key, whatever cancels the fiber. */
static int read_fully(Store *store, const MessageInfo *info, const ProtobufCMessage *key, Outcome **ret) {
        const StoreRead read = {.info = info, .from = key, .n_prefix = info->record->key.n_fields};

        _cleanup_outcome_ Outcome *outcome = outcome_new();
        if (!outcome)
                return -ENOMEM;
        int r = await_fully(
                outcome, store_read_start(store, &read, 1, on_read, future_ref(&outcome->future)));
        if (r < 0)
                return r;
        if (outcome->rows->n == 0)
                return -ENOENT;
        *ret = TAKE_PTR(outcome);
        return 0;
}

/* Of a write that is known to be done: the counter is read after that, so that it counts its intents. It may be a
 * later write's by now, which does no harm to who waits for the delivery. */
static int find_last_intent(Store *store, const StoreWrite *write, uint64_t *ret) {
        _cleanup_outcome_ Outcome *outcome = NULL;
        Sc__IntentCounter counter = SC__INTENT_COUNTER__INIT;

        *ret = 0;
        if (write->n_intents == 0)
                return 0;
        counter.source = (char *) write->partition;
        int r = read_fully(store, &sc__intent_counter__info, &counter.base, &outcome);
        if (r < 0)
                return r;
        *ret = ((const Sc__IntentCounter *) outcome->rows->records[0])->number;
        return 0;
}

/* Is the guard's record as the write of this name left it? */
static int look_up(Store *store, const StoreWrite *write, uint32_t name, StoreWritten *ret) {
        _cleanup_outcome_ Outcome *outcome = NULL;
        const MessageInfo *info = write->guard.info;

        if (info->record->version_field < 0 || write->guard.verb == STORE_DELETE)
                return -EINPROGRESS;
        if (read_fully(store, info, write->guard.record, &outcome) < 0)
                return -EINPROGRESS;
        uint64_t version = record_version(info, outcome->rows->records[0]);
        if ((version & OPERATION_NAME_MASK) != name)
                return -EINPROGRESS;
        ret->version = version;
        return find_last_intent(store, write, &ret->last_intent) < 0 ? -EINPROGRESS : 0;
}

int store_write(Store *store, const StoreWrite *write, StoreWritten *ret) {
        uint32_t name = 0;
        StoreWritten found;

        _cleanup_outcome_ Outcome *outcome = outcome_new();
        if (!outcome)
                return -ENOMEM;
        int r = await_fully(
                outcome, store_submit_write(store, write, &name, on_written, future_ref(&outcome->future)));
        if (r == 0)
                found = outcome->written;
        else if (r == -EINPROGRESS)
                r = look_up(store, write, name, &found);
        if (r < 0)
                return r;
        if (ret)
                *ret = found;
        return 0;
}

int store_write_one(Store *store, const char *partition, const StoreItem *item, StoreWritten *ret) {
        return store_write(store, &(StoreWrite){.partition = partition, .guard = *item}, ret);
}

static void on_deleted(int r, unsigned n, void *userdata) {
        Outcome *outcome = userdata;

        outcome->r = r;
        outcome->n_deleted = n;
        future_fulfil(&outcome->future);
}

int store_delete_entries(
        Store *store, const char *conversation, uint64_t last_seq, unsigned limit, unsigned *ret) {
        _cleanup_outcome_ Outcome *outcome = outcome_new();
        if (!outcome)
                return -ENOMEM;
        int r = await_fully(outcome, store_submit_delete_entries(store, conversation, last_seq, limit,
                                             on_deleted, future_ref(&outcome->future)));
        if (r < 0)
                return r;
        *ret = outcome->n_deleted;
        return 0;
}

/* --- upkeep --- */

static void on_checked(int r, const StoreCheck *check, Arena *arena, void *userdata) {
        Outcome *outcome = userdata;

        outcome->r = r;
        outcome->check = *check;
        arena_adopt(&outcome->arena, arena);
        future_fulfil(&outcome->future);
}

int store_check(Store *store, Arena *arena, StoreCheck *ret) {
        _cleanup_outcome_ Outcome *outcome = outcome_new();
        if (!outcome)
                return -ENOMEM;
        int r = await(outcome, store_submit_check(store, on_checked, future_ref(&outcome->future)));
        if (r < 0)
                return r;
        arena_adopt(arena, &outcome->arena);
        *ret = outcome->check;
        return 0;
}
