/* SPDX-License-Identifier: Apache-2.0 */

/* All intents of a store, shard by shard: what a former process has left, and what was parked. */

#include "log/log.h"
#include "service/intents-internal.h"

#define PAGE 64U

/* Goes through the rows of a shard, source by source: `after` is the last row of the page before. */
static int read_shard(Intents *intents, unsigned shard, const Sc__Intent *after, bool in_source,
        Arena *arena, StoreRows **ret) {
        Sc__Intent from = SC__INTENT__INIT;
        const StoreRead read = {.info = &sc__intent__info,
                .index = store_index(&sc__intent__info, "intents_by_shard"),
                .from = &from.base,
                .n_prefix = in_source ? 2 : 1,
                .after = after->source[0] != 0,
                .limit = PAGE};

        from.shard = shard;
        from.source = after->source;
        from.number = after->number;
        return store_read(intents->store, arena, &read, 1, ret);
}

typedef int (*IntentVisitor)(Intents *intents, const Sc__Intent *intent, void *userdata);

/* Calls the visitor for every intent of a shard, which may suspend. Stops at the first negative result. */
static int visit_shard(Intents *intents, unsigned shard, IntentVisitor visit, void *userdata) {
        _cleanup_free_ char *source = NULL;
        Sc__Intent after = SC__INTENT__INIT;
        bool more = true, in_source = false;

        while (more || in_source) {
                _cleanup_arena_ Arena arena;
                StoreRows *rows;

                arena_init(&arena, INTENTS_ARENA_MAX);
                int r = read_shard(intents, shard, &after, in_source, &arena, &rows);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < rows->n; i++) {
                        r = visit(intents, (const Sc__Intent *) rows->records[i], userdata);
                        if (r < 0)
                                return r;
                }
                if (!in_source)
                        more = rows->more;
                in_source = rows->more; /* the rest of the last source, then those behind it */
                if (rows->n == 0)
                        continue;
                const Sc__Intent *last = (const Sc__Intent *) rows->records[rows->n - 1];
                free(source);
                source = strdup(last->source);
                if (!source)
                        return -ENOMEM;
                after.source = source;
                after.number = last->number;
        }
        return 0;
}

static int find_one(Intents *intents, const Sc__Intent *intent, void *userdata) {
        uint64_t *n_parked = userdata;
        Source *source;

        if (intent->parked) {
                (*n_parked)++;
                return 0;
        }
        source = source_get(intents, intent->source);
        if (!source)
                return -ENOMEM;
        if (intent->number > source->counted) {
                source->counted = intent->number;
                source_set_pending(source, source->pending + 1);
        }
        source_wake(source);
        return 0;
}

static int find_in_shard(Intents *intents, unsigned shard) {
        uint64_t n_parked = 0;

        int r = visit_shard(intents, shard, find_one, &n_parked);
        if (r >= 0)
                intents->n_parked += n_parked;
        return r;
}

int intents_find_all(Intents *intents) {
        unsigned shard = 0, n_failures = 0;
        int r;

        intents->n_parked = 0;
        while (shard < SHARDS_DEFAULT) {
                r = find_in_shard(intents, shard);
                if (r >= 0) {
                        shard++;
                        continue;
                }
                log_peer((.error_number = -r), LOG_WARNING, "Failed to look for intents, trying again: %s",
                        store_error_text(r));
                r = fiber_sleep(intents_retry_delay(intents, n_failures++));
                if (r < 0)
                        return r;
        }
        return fiber_check_cancelled();
}

/* --- what was parked --- */

/* Deletes it, and stores the same anew: one write of one partition. */
static int retry_one(Intents *intents, const Sc__Intent *intent, void *userdata) {
        const MethodInfo *method = schema_find_method(intent->method);
        const unsigned parked = store_field(&sc__intent__info, "parked");
        unsigned *n = userdata;
        ProtobufCMessage *request;
        StoreWritten written;

        if (!intent->parked || !method)
                return 0;
        _cleanup_arena_ Arena arena;
        arena_init(&arena, INTENTS_ARENA_MAX);
        int r = arena_unpack(
                &arena, method->request->descriptor, intent->request.data, intent->request.len, &request);
        if (r < 0)
                return r == -EBADMSG ? 0 : r;
        const Trace trace = intent_trace(intent);
        const StoreIntent again = {.target = intent->target,
                .method = method,
                .request = request,
                .trace = intent->trace_id.len > 0 ? &trace : NULL};
        const StoreWrite write = {.partition = intent->source,
                .guard = {.verb = STORE_DELETE,
                        .info = &sc__intent__info,
                        .record = &intent->base,
                        .equal = &parked,
                        .n_equal = 1},
                .intents = &again,
                .n_intents = 1};
        r = intents_write(intents, intents->store, &write, &written);
        if (r == -ENOENT || r == -ESTALE)
                return 0; /* somebody else did it */
        if (r < 0)
                return r;
        intents->n_parked -= MIN(intents->n_parked, 1U);
        (*n)++;
        return 0;
}

int intents_retry_parked(Intents *intents, unsigned *ret) {
        *ret = 0;
        for (unsigned shard = 0; shard < SHARDS_DEFAULT; shard++) {
                int r = visit_shard(intents, shard, retry_one, ret);
                if (r < 0)
                        return r;
        }
        return 0;
}
