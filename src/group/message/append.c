/* SPDX-License-Identifier: Apache-2.0 */
#include "group/message/append.h"

#include <inttypes.h>

#include "group/conversation/flush.h"
#include "group/delivery/fanout.h"
#include "schema-tables.h"

static void proceed(Conversation *conversation);

static bool is_fresh(const SequenceItem *item) {
        return item->r >= 0 && !item->duplicate && !item->conflict;
}

static void answer(Append *append) {
        _cleanup_conversation_ Conversation *conversation = append->conversation;
        GroupRole *role = conversation->role;

        role->pending_bytes -= append->size;
        if (is_fresh(&append->item)) {
                role->n_appended++;
                log_trace(&append->trace, (.conversation = conversation->id), "Stored as seq %" PRIu64,
                        append->item.seq);
                /* What a look-up found, it delivered. */
                if (!append->item.looked_up) {
                        conversation_note_entry(conversation, append->item.message);
                        fanout_message(role, append->item.message, &append->trace);
                }
        }
        append->settled(append, append->item.r);
}

static void answer_settled(Conversation *conversation) {
        SequenceItem *item;

        while ((item = sequence_take_settled(&conversation->sequence)))
                answer(CONTAINER_OF(item, Append, item));
}

static void on_appended(int r, const StoreAppended *appended, void *userdata) {
        _cleanup_conversation_ Conversation *conversation = conversation_pin(userdata);

        group_role_note_write(conversation->role, r);
        if (r == -EINPROGRESS)
                log_peer((.conversation = conversation->id), LOG_WARNING,
                        "Whether messages were stored is not known, looking for them.");
        else if (r < 0 && r != -ENOSPC && r != -ECANCELED && r != -EEXIST)
                log_peer((.conversation = conversation->id, .error_number = -r), LOG_ERR,
                        "Failed to append messages: %s", store_error_text(r));
        if (r < 0)
                conversation->activity_stored_usec = 0;
        sequence_appended(&conversation->sequence, r, appended);
        answer_settled(conversation);
        proceed(conversation);
}

static void on_looked_up(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        _cleanup_conversation_ Conversation *conversation = conversation_pin(userdata);
        Sc__Message **found = r >= 0 ? (Sc__Message **) rows[0].records : NULL;
        size_t n_found = r >= 0 ? rows[0].n : 0;

        if (r < 0)
                log_peer((.conversation = conversation->id, .error_number = -r), LOG_ERR,
                        "Failed to look up what was stored: %s", store_error_text(r));
        sequence_looked_up(&conversation->sequence, r, found, n_found, r >= 0 && rows[0].more);
        /* To the members all of them are new, whoever waits for one of them. */
        for (size_t i = 0; i < n_found; i++) {
                conversation_note_entry(conversation, found[i]);
                fanout_message(conversation->role, found[i], NULL);
        }
        answer_settled(conversation);
        proceed(conversation);
}

static int submit_append(Conversation *conversation) {
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        StoreItem followers[SEQUENCE_MAX_FOLLOWERS + 1];
        Sc__ConversationHead head;
        size_t n = sequence_batch(&conversation->sequence, batch);
        size_t n_followers = sequence_batch_followers(&conversation->sequence, followers);

        n_followers +=
                conversation_activity_follower(conversation, batch[n - 1], &head, &followers[n_followers]);
        return store_append_start(conversation->role->store,
                &(StoreAppend){
                        .conversation = conversation->id,
                        .after_seq = conversation->sequence.last_seq,
                        .entries = batch,
                        .n = n,
                        .followers = followers,
                        .n_followers = n_followers,
                },
                on_appended, conversation);
}

static int submit_look_up(Conversation *conversation) {
        Sc__Message from = SC__MESSAGE__INIT;

        from.conversation = conversation->id;
        from.seq = conversation->sequence.last_seq;
        return store_read_start(conversation->role->store,
                &(StoreRead){.info = &sc__message__info,
                        .from = &from.base,
                        .n_prefix = 1,
                        .after = true,
                        .limit = SEQUENCE_LOOK_UP_LIMIT,
                        .max_bytes = SEQUENCE_LOOK_UP_LIMIT * 2 * 65536},
                1, on_looked_up, conversation);
}

/* Does what the sequence wants next. Whoever waits pins the conversation, so it stays while something is in
 * flight. */
static void proceed(Conversation *conversation) {
        for (;;) {
                int r;

                switch (sequence_next(&conversation->sequence)) {
                case SEQUENCE_WAIT:
                        return;
                case SEQUENCE_APPEND:
                        r = submit_append(conversation);
                        if (r >= 0)
                                return;
                        conversation->activity_stored_usec = 0;
                        sequence_appended(&conversation->sequence, r, NULL);
                        break;
                case SEQUENCE_LOOK_UP:
                        r = submit_look_up(conversation);
                        if (r >= 0)
                                return;
                        sequence_looked_up(&conversation->sequence, r, NULL, 0, false);
                        break;
                }
                answer_settled(conversation);
        }
}

void append_submit(Append *append, Conversation *conversation) {
        GroupRole *role = conversation->role;
        int r = role->pending_bytes + append->size > GROUP_MAX_PENDING_BYTES ? -ENOBUFS : 0;

        if (r >= 0)
                r = sequence_enqueue(&conversation->sequence, &append->item);
        if (r < 0) {
                append->settled(append, r);
                return;
        }
        append->conversation = conversation_pin(conversation);
        role->pending_bytes += append->size;
        log_trace(&append->trace, (.conversation = conversation->id), "Queued");
        proceed(conversation);
}

/* --- on a fiber, whose stack holds it --- */

typedef struct AppendOutcome {
        Future future;
        int r;
} AppendOutcome;

static void outcome_destroy(Future *future) {
}

static void on_settled(Append *append, int r) {
        AppendOutcome *outcome = append->userdata;

        outcome->r = r;
        future_fulfil(&outcome->future);
}

int append_wait(Append *append, Conversation *conversation) {
        AppendOutcome outcome = {};

        future_init(&outcome.future, outcome_destroy);
        append->settled = on_settled;
        append->userdata = &outcome;
        future_ref(&outcome.future);
        append_submit(append, conversation);
        future_await_fully(&outcome.future);
        future_unref(&outcome.future);
        return outcome.r;
}
