/* SPDX-License-Identifier: Apache-2.0 */
#include "group/conversation/flush.h"

#include "group/conversation/cursor.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

struct CursorFlush {
        GroupRole *role;
        sd_event_source *timer; /* at the time the first is due; off when there is none */
        TAILQ_HEAD(FlushQueue, Conversation) queue; /* pinned; the one due first comes first */
};

static int on_due(sd_event_source *source, uint64_t usec, void *userdata);

int cursor_flush_new(CursorFlush **ret, GroupRole *role) {
        _cleanup_(cursor_flush_freep) CursorFlush *flush = new0(CursorFlush, 1);
        int r;

        if (!flush)
                return -ENOMEM;
        flush->role = role;
        TAILQ_INIT(&flush->queue);
        r = sd_event_add_time(role->event, &flush->timer, CLOCK_BOOTTIME, 0, 0, on_due, flush);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(flush->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(flush);
        return 0;
}

CursorFlush *cursor_flush_free(CursorFlush *flush) {
        Conversation *conversation;

        if (!flush)
                return NULL;
        while ((conversation = TAILQ_FIRST(&flush->queue))) {
                TAILQ_REMOVE(&flush->queue, conversation, to_flush);
                conversation->flush_queued = false;
                conversation_unpin(conversation);
        }
        sd_event_source_disable_unref(flush->timer);
        return mfree(flush);
}

static void arm_timer(CursorFlush *flush) {
        const Conversation *first = TAILQ_FIRST(&flush->queue);
        int r;

        if (!first)
                return;
        r = sd_event_source_set_time(flush->timer, first->flush_usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(flush->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                log_warning_errno(r, "Failed to arm the timer that stores read cursors: %m");
}

/* One that is being written is queued again when that is done. */
void conversation_flush_later(Conversation *conversation) {
        CursorFlush *flush = conversation->role->flush;

        if (conversation->flush_queued || conversation->flushing)
                return;
        conversation_pin(conversation);
        conversation->flush_queued = true;
        conversation->flush_usec = boottime_usec() + FLUSH_INTERVAL_USEC;
        bool first = TAILQ_EMPTY(&flush->queue);
        TAILQ_INSERT_TAIL(&flush->queue, conversation, to_flush);
        if (first)
                arm_timer(flush);
}

void conversation_note_sender(Conversation *conversation, const Sc__Message *entry) {
        if (isempty(entry->sender))
                return;
        /* If there is no memory the cursor stays behind what the user sent. */
        if (conversation_move_cursor(conversation, entry->sender, entry->seq, entry->count, false) < 0)
                log_oom();
}

void conversation_note_entry(Conversation *conversation, const Sc__Message *entry) {
        if (is_personal_id(conversation->id))
                return;
        conversation->last_at = MAX(conversation->last_at, entry->created_at);
        conversation_note_sender(conversation, entry);
        conversation_flush_later(conversation);
}

size_t conversation_activity_follower(
        Conversation *conversation, const Sc__Message *entry, Sc__ConversationHead *head, StoreItem *ret) {
        static StoreChange change = {.kind = STORE_MAX};
        uint64_t now = boottime_usec();

        if (!conversation->has_head || now < conversation->activity_stored_usec + FLUSH_INTERVAL_USEC)
                return 0;
        conversation->activity_stored_usec = now;
        change.field = store_field(&sc__conversation_head__info, "last_at");
        *head = (Sc__ConversationHead) SC__CONVERSATION_HEAD__INIT;
        head->conversation = conversation->id;
        head->last_at = entry->created_at;
        *ret = (StoreItem){.verb = STORE_PATCH,
                .info = &sc__conversation_head__info,
                .record = &head->base,
                .changes = &change,
                .n_changes = 1};
        return 1;
}

/* --- the write --- */

static bool needs_flush(const Member *member) {
        return member->read_seq > member->stored_seq || member->has_written != member->stored_written;
}

static bool is_flushed(const Conversation *conversation) {
        const Member *member;

        if (conversation->stored_head_seq < conversation->sequence.last_seq)
                return false;
        for (member = conversation->members; member; member = member->hh.next)
                if (needs_flush(member))
                        return false;
        return true;
}

/* What one write is made of; only while it is submitted, which copies it. */
typedef struct HeadWrite {
        Sc__ConversationHead head;
        StoreChange changes[3];
        Sc__Member members[FLUSH_MAX_MEMBERS];
        StoreItem followers[FLUSH_MAX_MEMBERS];
        size_t n_members;
} HeadWrite;

/* False: there are more of them. */
static bool add_cursors(HeadWrite *write, Conversation *conversation) {
        for (Member *member = conversation->members; member; member = member->hh.next) {
                if (!needs_flush(member))
                        continue;
                if (write->n_members == FLUSH_MAX_MEMBERS)
                        return false;
                Sc__Member *record = &write->members[write->n_members];
                *record = (Sc__Member) SC__MEMBER__INIT;
                record->conversation = conversation->id;
                record->user = member->user;
                record->read_seq = member->read_seq;
                record->read_count = member->read_count;
                record->has_written = member->flushing_written = member->has_written;
                member->flushing_seq = member->read_seq;
                write->followers[write->n_members++] = cursor_patch(record);
        }
        return true;
}

/* Only with the last cursors the head moves: whoever loads the conversation after a crash looks for cursors
 * behind it. */
static StoreItem head_guard(HeadWrite *write, const Conversation *conversation, bool move) {
        write->head = (Sc__ConversationHead) SC__CONVERSATION_HEAD__INIT;
        write->head.conversation = (char *) conversation->id;
        if (move) {
                write->head.last_seq = conversation->sequence.last_seq;
                write->head.last_count = conversation->sequence.last_count;
        }
        write->head.last_at = conversation->last_at;
        if (!conversation->has_head)
                return (StoreItem){STORE_INSERT, &sc__conversation_head__info, &write->head.base};

        write->changes[0] = (StoreChange){store_field(&sc__conversation_head__info, "last_seq"), STORE_MAX};
        write->changes[1] =
                (StoreChange){store_field(&sc__conversation_head__info, "last_count"), STORE_MAX};
        write->changes[2] = (StoreChange){store_field(&sc__conversation_head__info, "last_at"), STORE_MAX};
        return (StoreItem){.verb = STORE_PATCH,
                .info = &sc__conversation_head__info,
                .record = &write->head.base,
                .changes = write->changes,
                .n_changes = ELEMENTSOF(write->changes)};
}

typedef struct FlushUnderWay {
        Conversation *conversation; /* pinned */
        uint64_t head_seq;
} FlushUnderWay;

static void note_stored(Conversation *conversation, uint64_t head_seq) {
        conversation->has_head = true;
        conversation->stored_head_seq = MAX(conversation->stored_head_seq, head_seq);
        for (Member *member = conversation->members; member; member = member->hh.next) {
                member->stored_seq = MAX(member->stored_seq, member->flushing_seq);
                member->stored_written |= member->flushing_written;
        }
}

static void end_flush(Conversation *conversation) {
        for (Member *member = conversation->members; member; member = member->hh.next) {
                member->flushing_seq = 0;
                member->flushing_written = false;
        }
        conversation->flushing = false;
}

static void on_written(int r, const StoreWritten *written, void *userdata) {
        _cleanup_free_ FlushUnderWay *under_way = userdata;
        _cleanup_conversation_ Conversation *conversation = under_way->conversation;

        group_role_note_write(conversation->role, r);
        if (r >= 0)
                note_stored(conversation, under_way->head_seq);
        end_flush(conversation);
        if (r == -ECANCELED)
                return; /* The store is closed; the log has it all. */
        if (r == -ENOENT || r == -EEXIST)
                conversation->has_head = r == -EEXIST;
        else if (r < 0)
                log_peer((.conversation = conversation->id, .error_number = -r), LOG_WARNING,
                        "Failed to store how far a conversation is, trying again: %s", store_error_text(r));
        if (!is_flushed(conversation))
                conversation_flush_later(conversation);
}

static int submit(Conversation *conversation) {
        _cleanup_free_ FlushUnderWay *under_way = new0(FlushUnderWay, 1);
        _cleanup_free_ HeadWrite *write = new0(HeadWrite, 1);
        int r;

        if (!under_way || !write)
                return -ENOMEM;
        bool move = add_cursors(write, conversation);
        *under_way = (FlushUnderWay){conversation, move ? conversation->sequence.last_seq : 0};
        r = store_write_start(conversation->role->store,
                &(StoreWrite){
                        .partition = conversation->id,
                        .guard = head_guard(write, conversation, move),
                        .followers = write->followers,
                        .n_followers = write->n_members,
                },
                on_written, under_way);
        if (r < 0)
                return r;
        TAKE_PTR(under_way);
        conversation->flushing = true;
        return 0;
}

/* Takes the first of the queue, with its pin. */
static int flush_first(CursorFlush *flush) {
        Conversation *conversation = TAILQ_FIRST(&flush->queue);
        int r;

        TAILQ_REMOVE(&flush->queue, conversation, to_flush);
        conversation->flush_queued = false;
        r = submit(conversation);
        if (r >= 0)
                return 0;
        end_flush(conversation);
        if (r != -ECANCELED)
                conversation_flush_later(conversation);
        conversation_unpin(conversation);
        return r;
}

static int on_due(sd_event_source *source, uint64_t usec, void *userdata) {
        uint64_t now = boottime_usec();
        CursorFlush *flush = userdata;

        while (!TAILQ_EMPTY(&flush->queue) && TAILQ_FIRST(&flush->queue)->flush_usec <= now)
                (void) flush_first(flush);
        arm_timer(flush);
        return 0;
}

void cursor_flush_all(CursorFlush *flush) {
        Conversation *last = TAILQ_LAST(&flush->queue, FlushQueue);

        /* What fails is queued again, behind the last. */
        while (last && !TAILQ_EMPTY(&flush->queue)) {
                bool is_last = TAILQ_FIRST(&flush->queue) == last;

                (void) flush_first(flush);
                if (is_last)
                        return;
        }
}
