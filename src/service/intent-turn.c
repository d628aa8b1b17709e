/* SPDX-License-Identifier: Apache-2.0 */

/* A turn: one page of the intents of one source. */

#include <inttypes.h>

#include "log/log.h"
#include "log/message-ids.h"
#include "service/intents-internal.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define PAGE 64U /* intents of one turn */
/* A target that does not know a method is of an older release, or will never know it. */
#define UNKNOWN_METHOD_MAX_MSEC (60 * 60 * 1000)

typedef struct Turn {
        Intents *intents;
        Source *source;
        Arena arena;
        StoreRows rows;
        const Sc__Intent **done; /* to be deleted, n of them */
        size_t n_done;
} Turn;

static int turn_read(Turn *turn) {
        Sc__Intent from = SC__INTENT__INIT;
        const StoreRead read = {
                .info = &sc__intent__info, .from = &from.base, .n_prefix = 1, .after = true, .limit = PAGE};
        StoreRows *rows;

        from.source = turn->source->name;
        from.number = turn->source->cursor;
        int r = store_read(turn->intents->store, &turn->arena, &read, 1, &rows);
        if (r < 0)
                return r;
        turn->rows = *rows;
        turn->done = arena_new(&turn->arena, const Sc__Intent *, rows->n);
        return turn->done ? 0 : -ENOMEM;
}

Trace intent_trace(const Sc__Intent *intent) {
        Trace trace = {.parent = intent->trace_parent, .sampled = intent->trace_sampled};

        if (intent->trace_id.len == sizeof(trace.id))
                memcpy(trace.id, intent->trace_id.data, sizeof(trace.id));
        return trace;
}

static int send_intent(Turn *turn, const Sc__Intent *intent, DispatcherOutcome *ret) {
        const MethodInfo *method = schema_find_method(intent->method);
        const Trace trace = intent_trace(intent);
        const DispatcherDelivery delivery = {.method = method,
                .request = intent->request.data,
                .request_size = intent->request.len,
                .source = intent->source,
                .number = intent->number,
                .target = intent->target,
                .trace = intent->trace_id.len > 0 ? &trace : NULL};

        if (!method) {
                *ret = (DispatcherOutcome){.code = ERROR_METHOD_NOT_FOUND};
                return 0;
        }
        return dispatcher_deliver(turn->intents->dispatcher, &delivery, ret);
}

static bool is_permanent(const Sc__Intent *intent, Sc__ErrorCode code) {
        if (code == ERROR_METHOD_NOT_FOUND)
                return unix_msec() - intent->created_at > UNKNOWN_METHOD_MAX_MSEC;
        return !schema_error(code)->temporary;
}

static int park(Turn *turn, const Sc__Intent *intent, const DispatcherOutcome *outcome) {
        const char *error = schema_error(outcome->code)->name;
        const StoreChange changes[] = {{store_field(&sc__intent__info, "parked"), STORE_SET},
                {store_field(&sc__intent__info, "reason"), STORE_SET}};
        Sc__Intent parked = SC__INTENT__INIT;
        const StoreItem item = {.verb = STORE_PATCH,
                .info = &sc__intent__info,
                .record = &parked.base,
                .changes = changes,
                .n_changes = ELEMENTSOF(changes)};
        const Trace trace = intent_trace(intent);

        parked.source = intent->source;
        parked.number = intent->number;
        parked.parked = true;
        parked.reason = isempty(outcome->detail)
                                ? arena_strdup(&turn->arena, error)
                                : arena_printf(&turn->arena, "%s: %s", error, outcome->detail);
        if (!parked.reason)
                return -ENOMEM;
        int r = store_write_one(turn->intents->store, intent->source, &item, NULL);
        if (r == -ENOENT)
                return 0; /* somebody else has delivered it */
        if (r < 0)
                return r;
        turn->intents->n_parked++;
        log_with((.message_id = MESSAGE_ID_INTENT_PARKED, .trace = &trace, .method = intent->method,
                         .error = error),
                LOG_WARNING, "%s refuses intent %" PRIu64 " of %s for good, it is parked: %s",
                intent->target, intent->number, intent->source, parked.reason);
        return 0;
}

static void keep_pending(Source *source, const Sc__Intent *intent) {
        source->n_remaining++;
        if (source->first_unsettled == 0)
                source->first_unsettled = intent->number;
}

static void mark_settled(Source *source, const Sc__Intent *intent) {
        if (source->first_unsettled == 0)
                source_settle(source, intent->number);
}

/* Negative: the turn ends here; nothing is known of this intent. */
static int deliver_one(Turn *turn, const Sc__Intent *intent) {
        Source *source = turn->source;
        DispatcherOutcome outcome = {};

        if (target_is_held(source, intent->target)) {
                keep_pending(source, intent);
                return 0;
        }
        int r = send_intent(turn, intent, &outcome);
        if (r < 0)
                return r;
        if (outcome.code == ERROR_NONE) {
                target_release(source, intent->target);
                turn->done[turn->n_done++] = intent;
                turn->intents->n_delivered++;
                mark_settled(source, intent);
                return 0;
        }
        if (is_permanent(intent, outcome.code)) {
                r = park(turn, intent, &outcome);
                if (r < 0)
                        return r;
                target_release(source, intent->target);
                source_set_pending(source, source->pending - MIN(source->pending, 1U));
                mark_settled(source, intent);
                return 0;
        }
        log_debug("Intent %" PRIu64 " of %s for %s is tried again: %s %s", intent->number, source->name,
                intent->target, schema_error(outcome.code)->name, outcome.detail);
        turn->intents->n_retried++;
        keep_pending(source, intent);
        return target_hold(source, intent->target);
}

static int deliver_page(Turn *turn) {
        Source *source = turn->source;

        for (size_t i = 0; i < turn->rows.n; i++) {
                const Sc__Intent *intent = (const Sc__Intent *) turn->rows.records[i];

                if (turn->intents->stopping)
                        return -ECANCELED;
                if (intent->number > source->counted) {
                        source->counted = intent->number;
                        source_set_pending(source, source->pending + !intent->parked);
                }
                if (!intent->parked) {
                        int r = deliver_one(turn, intent);
                        if (r < 0)
                                return r;
                } else
                        mark_settled(source, intent);
                source->cursor = intent->number;
        }
        return 0;
}

/* One write for all of the page: the first is the guard. If somebody else has deleted that one, none is
 * deleted, and all that are still there are delivered again, which does nothing. */
static int delete_done(Turn *turn) {
        Sc__Intent *keys;
        StoreItem *items;

        if (turn->n_done == 0)
                return 0;
        keys = arena_new(&turn->arena, Sc__Intent, turn->n_done);
        items = arena_new(&turn->arena, StoreItem, turn->n_done);
        if (!keys || !items)
                return -ENOMEM;
        for (size_t i = 0; i < turn->n_done; i++) {
                keys[i] = (Sc__Intent) SC__INTENT__INIT;
                keys[i].source = turn->source->name;
                keys[i].number = turn->done[i]->number;
                items[i] = (StoreItem){
                        .verb = STORE_DELETE, .info = &sc__intent__info, .record = &keys[i].base};
        }
        const StoreWrite write = {.partition = turn->source->name,
                .guard = items[0],
                .followers = items + 1,
                .n_followers = turn->n_done - 1};
        int r = store_write(turn->intents->store, &write, NULL);
        if (r < 0)
                return r;
        source_set_pending(turn->source, turn->source->pending - MIN(turn->source->pending, turn->n_done));
        return 0;
}

/* All of the source was read; `horizon` was counted when the last page was. */
static void end_pass(Source *source, uint64_t horizon) {
        uint64_t seen = MAX(horizon, source->cursor);

        source->in_pass = false;
        source->n_failures = 0;
        source->gone = source->first_unsettled > 0 ? source->first_unsettled - 1 : seen;
        source_set_pending(
                source, source->n_remaining + (source->counted > seen ? source->counted - seen : 0));
        source_settle(source, source->gone);
}

/* What becomes of the source after a pass. */
static void set_next_state(Source *source) {
        Intents *intents = source->intents;

        source->state = SOURCE_IDLE;
        if (source->again)
                source_wake(source);
        else if (source->n_remaining > 0)
                source_sleep(source, targets_delay(source));
        else if (source->n_looks > 0)
                source_sleep(source, intents_retry_delay(intents, INTENTS_LOOKS - source->n_looks--));
        else
                source_forget_if_done(source);
}

static int run_turn(Turn *turn, bool *ret_more) {
        Source *source = turn->source;

        if (!source->in_pass) {
                source->in_pass = true;
                source->pass++;
                source->cursor = source->gone;
                source->n_remaining = 0;
                source->first_unsettled = 0;
        }
        source->again = false;
        uint64_t horizon = source->counted;
        int r = turn_read(turn);
        if (r < 0)
                return r;
        r = deliver_page(turn);
        int q = delete_done(turn); /* also if the fiber was cancelled */
        if (r < 0 || q < 0)
                return r < 0 ? r : q;
        if (!turn->rows.more)
                end_pass(source, horizon);
        *ret_more = turn->rows.more;
        return 0;
}

void source_turn(Source *source) {
        Intents *intents = source->intents;
        Turn turn = {.intents = intents, .source = source};
        bool more = false;

        arena_init(&turn.arena, INTENTS_ARENA_MAX);
        int r = run_turn(&turn, &more);
        arena_done(&turn.arena);
        /* All fibers are cancelled when a role ends, perhaps before it says so here. */
        if (fiber_check_cancelled() < 0)
                intents->stopping = true;
        if (intents->stopping) {
                source->state = SOURCE_IDLE;
                return;
        }
        if (r < 0) {
                log_peer((.error_number = -r), LOG_WARNING,
                        "Failed to deliver the intents of %s, trying again: %s", source->name,
                        store_error_text(r));
                source->in_pass = false;
                source_sleep(source, intents_retry_delay(intents, source->n_failures++));
        } else if (more) {
                source->state = SOURCE_IDLE;
                source_wake(source);
        } else
                set_next_state(source);
}
