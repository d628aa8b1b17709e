/* SPDX-License-Identifier: Apache-2.0 */

/* conversation.mark_read. */

#include "group/conversation/access.h"
#include "group/conversation/cursor.h"
#include "group/delivery/fanout.h"
#include "service-handlers.h"

/* The number of counting entries up to this one, which is not beyond the last. It may have been deleted; the
 * next one that is there tells as well. May suspend. */
static int read_count(Call *call, const Conversation *conversation, uint64_t seq, uint64_t *ret) {
        GroupRole *role = call->role;
        Sc__Message from = SC__MESSAGE__INIT;
        StoreRows *rows;

        if (seq == conversation->sequence.last_seq) {
                *ret = conversation->sequence.last_count;
                return 0;
        }
        from.conversation = (char *) conversation->id;
        from.seq = seq - 1;
        int r = store_read(role->store, &call->arena,
                &(StoreRead){.info = &sc__message__info, .from = &from.base, .n_prefix = 1, .after = true},
                1, &rows);
        if (r < 0)
                return r;
        if (rows->n == 0)
                return -EIO; /* The last entry is never deleted. */
        const Sc__Message *entry = (const Sc__Message *) rows->records[0];
        *ret = entry->count - (entry->seq > seq && sequence_counts(entry));
        return 0;
}

/* May suspend. */
static int write_cursor(Call *call, Conversation *conversation, uint64_t seq, uint64_t count) {
        GroupRole *role = call->role;
        Sc__Member record = SC__MEMBER__INIT;

        record.conversation = conversation->id;
        record.user = call->caller.user;
        record.read_seq = seq;
        record.read_count = count;
        StoreItem patch = cursor_patch(&record);
        int r = store_write_one(role->store, conversation->id, &patch, NULL);
        group_role_note_write(role, r);
        if (r == -ENOENT) {
                conversation_forget_member(conversation, call->caller.user);
                return call_refuse(call, ERROR_NOT_A_MEMBER, "conversation");
        }
        if (r < 0)
                return r;
        return conversation_move_cursor(conversation, call->caller.user, seq, count, true);
}

int handle_conversation_mark_read(
        Call *call, const Sc__MarkReadRequest *request, Sc__MarkReadResponse *response) {
        _cleanup_conversation_ Conversation *conversation = NULL;
        const char *user = call->caller.user;
        uint64_t count = 0, known_count = 0;
        int r;

        r = access_conversation(call, request->conversation, &conversation);
        if (r < 0)
                return r;
        uint64_t seq = MIN(request->seq, conversation->sequence.last_seq);
        conversation_merge_cursor(conversation, user, &response->read_seq, &known_count);
        if (seq <= response->read_seq)
                return 0;

        r = read_count(call, conversation, seq, &count);
        if (r < 0)
                return r;
        r = write_cursor(call, conversation, seq, count);
        if (r < 0)
                return r;
        conversation_merge_cursor(conversation, user, &response->read_seq, &known_count);
        fanout_receipt(call->role, conversation->id, user, seq, &call->trace);
        return 0;
}
