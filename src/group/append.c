/* SPDX-License-Identifier: Apache-2.0 */
#include "group/append.h"

#include "group/fanout.h"
#include "schema-tables.h"

static void proceed(Conversation *conversation);

static void answer(Append *append) {
        GroupRole *role = append->conversation->role;
        /* All that is needed after settled(), which may free the append and the message in it. */
        _cleanup_conversation_ Conversation *conversation = append->conversation;
        const StoreAppended *appended = &append->item.appended;
        Trace trace = append->trace;
        bool fresh = append->item.r >= 0 && !appended->duplicate && !appended->conflict, packed = false;

        role->pending_bytes -= append->size;
        if (fresh) {
                append->item.message->seq = appended->seq;
                append->item.message->created_at = appended->created_at;
                role->n_appended++;
                log_trace(
                        &trace, (.conversation = conversation->id), "Stored as seq %" PRIu64, appended->seq);
                packed = !append->item.looked_up && fanout_pack_message(role, append->item.message) >= 0;
        }
        append->settled(append, append->item.r);
        if (packed)
                fanout_push_packed(role, conversation->id, &trace);
}

static void answer_settled(Conversation *conversation) {
        SequenceItem *item;

        while ((item = sequence_take_settled(&conversation->sequence)))
                answer(CONTAINER_OF(item, Append, item));
}

static void on_appended(int r, const StoreAppended *results, size_t n, uint64_t last_seq, void *userdata) {
        _cleanup_conversation_ Conversation *conversation = conversation_pin(userdata);

        group_role_note_write(conversation->role, r);
        if (r < 0 && r != -ENOSPC && r != -ECANCELED)
                log_peer((.conversation = conversation->id, .error_number = -r), LOG_ERR,
                        "Failed to append messages: %m");
        sequence_appended(&conversation->sequence, r, results, n, last_seq);
        answer_settled(conversation);
        proceed(conversation);
}

static void on_looked_up(int r, const StoreRows *rows, size_t n, void *userdata) {
        _cleanup_conversation_ Conversation *conversation = conversation_pin(userdata);
        GroupRole *role = conversation->role;
        Sc__Message *found[SEQUENCE_LOOK_UP_LIMIT];
        size_t n_found = 0;

        if (r < 0)
                log_peer((.conversation = conversation->id, .error_number = -r), LOG_ERR,
                        "Failed to look up what was stored: %m");
        else
                for (; n_found < MIN(rows[0].n, SEQUENCE_LOOK_UP_LIMIT); n_found++)
                        found[n_found] = (Sc__Message *) rows[0].records[n_found];

        sequence_looked_up(&conversation->sequence, r, found, n_found, r >= 0 && rows[0].more);
        /* To the members all of them are new, whoever waits for one of them. */
        for (size_t i = 0; i < n_found; i++)
                fanout_message(role, found[i], NULL);
        answer_settled(conversation);
        proceed(conversation);
}

static int submit_append(Conversation *conversation) {
        GroupRole *role = conversation->role;
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        size_t n = sequence_batch(&conversation->sequence, batch);

        return store_append(role->store, conversation->id, conversation->sequence.last_seq, batch, n,
                on_appended, conversation);
}

static int submit_look_up(Conversation *conversation) {
        GroupRole *role = conversation->role;
        Sc__Message from = SC__MESSAGE__INIT;

        from.conversation = conversation->id;
        from.seq = conversation->sequence.last_seq;
        return store_read(role->store,
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
                        sequence_appended(&conversation->sequence, r, NULL, 0, 0);
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
