/* SPDX-License-Identifier: Apache-2.0 */
#include "conformance-util.h"

#include <stdio.h>

Sc__User make_user(const char *id, const char *username) {
        Sc__User user = SC__USER__INIT;

        user.id = (char *) id;
        user.username = (char *) username;
        user.display_name = (char *) "A name";
        user.created_at = 17;
        return user;
}

Sc__Session make_session(const char *user, const char *id, int64_t expires_at) {
        Sc__Session session = SC__SESSION__INIT;

        session.user = (char *) user;
        session.id = (char *) id;
        session.expires_at = expires_at;
        return session;
}

Sc__Conversation make_conversation(const char *id, const char *title) {
        Sc__Conversation conversation = SC__CONVERSATION__INIT;

        conversation.id = (char *) id;
        conversation.title = (char *) title;
        conversation.kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_GROUP;
        conversation.created_at = 18;
        return conversation;
}

Sc__ConversationHead make_head(const char *conversation, uint64_t last_seq) {
        Sc__ConversationHead head = SC__CONVERSATION_HEAD__INIT;

        head.conversation = (char *) conversation;
        head.last_seq = last_seq;
        return head;
}

Sc__Member make_member(const char *conversation, const char *user, uint64_t read_seq) {
        Sc__Member member = SC__MEMBER__INIT;

        member.conversation = (char *) conversation;
        member.user = (char *) user;
        member.read_seq = read_seq;
        member.joined_at = 19;
        return member;
}

Sc__InboxEntry make_inbox_entry(const char *inbox, const char *conversation) {
        Sc__InboxEntry entry = SC__INBOX_ENTRY__INIT;

        entry.inbox = (char *) inbox;
        entry.conversation = (char *) conversation;
        return entry;
}

StoreIntent make_intent(const char *target, const Sc__UserGetRequest *request) {
        return (StoreIntent){.target = target, .method = &method_user_get, .request = &request->base};
}

int guard_alone(Fixture *f, const char *partition, StoreItem guard) {
        return fixture_write(f, &(StoreWrite){.partition = partition, .guard = guard}, NULL);
}

int guard_with(Fixture *f, const char *partition, StoreItem guard, const StoreItem *followers, size_t n) {
        const StoreWrite write = {
                .partition = partition, .guard = guard, .followers = followers, .n_followers = n};
        return fixture_write(f, &write, NULL);
}

int follow_all(Fixture *f, const char *partition, const StoreItem *followers, size_t n) {
        static unsigned n_guards;
        char id[16];

        snprintf(id, sizeof(id), "guard-%u", ++n_guards);
        const Sc__InboxEntry guard = make_inbox_entry(partition, id);
        int r = guard_with(f, partition, INSERT(inbox_entry, &guard), followers, n);
        if (r == 0)
                assert_int_equal(guard_alone(f, partition, DELETE(inbox_entry, &guard)), 0);
        return r;
}

StoreItem with_equal(StoreItem item, const unsigned *equal, size_t n) {
        item.equal = equal;
        item.n_equal = n;
        return item;
}

typedef struct Reading {
        Fixture *f;
        bool done;
        int r;
        const StoreRows *rows;
} Reading;

static void on_read(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        Reading *reading = userdata;

        reading->r = r;
        reading->rows = rows;
        reading->done = true;
        arena_adopt(&reading->f->arena, arena);
}

int try_read(Fixture *f, const StoreRead *reads, size_t n, const StoreRows **ret) {
        Reading reading = {.f = f};

        int r = store_read_start(f->store, reads, n, on_read, &reading);
        if (r < 0)
                return r;
        fixture_wait(f, &reading.done);
        *ret = reading.rows;
        return reading.r;
}

const StoreRows *read_rows(Fixture *f, const StoreRead *read) {
        const StoreRows *rows = NULL;

        assert_int_equal(try_read(f, read, 1, &rows), 0);
        return rows;
}

static void *read_single(Fixture *f, const StoreRead *read) {
        const StoreRows *rows = read_rows(f, read);

        assert_true(rows->n <= 1 && !rows->more);
        return rows->n > 0 ? rows->records[0] : NULL;
}

void *get(Fixture *f, const MessageInfo *info, const void *key) {
        const StoreRead read = {.info = info, .from = key, .n_prefix = info->record->key.n_fields};
        return read_single(f, &read);
}

void *find(Fixture *f, const MessageInfo *info, const char *index, const void *key) {
        const IndexInfo *by = store_index(info, index);
        const StoreRead read = {.info = info, .index = by, .from = key, .n_prefix = by->n_fields};
        return read_single(f, &read);
}

/* --- everything that is stored --- */

static const MessageInfo *const common_records[] = {
        &sc__intent__info, &sc__intent_counter__info, &sc__received__info, NULL};

static void dump_rows(Buffer *buffer, const StoreRows *rows) {
        assert_false(rows->more);
        FOREACH_ARRAY(record, rows->records, rows->n) {
                size_t size = protobuf_c_message_get_packed_size(*record);
                buffer_append(buffer, &size, sizeof(size));
                uint8_t *place = buffer_reserve(buffer, size + 1);
                assert_non_null(place);
                buffer_commit(buffer, protobuf_c_message_pack(*record, place));
        }
        buffer_append_string(buffer, "\nnext table\n");
}

static void dump_tables(Fixture *f, const MessageInfo *const *infos, Buffer *buffer) {
        for (; *infos; infos++)
                dump_rows(buffer,
                        read_rows(
                                f, &(StoreRead){.info = *infos, .limit = 100000, .max_bytes = 100U << 20}));
}

Buffer dump(Fixture *f) {
        Buffer buffer = {};

        dump_tables(f, fixture_records, &buffer);
        dump_tables(f, common_records, &buffer);
        assert_int_equal(buffer.error, 0);
        return buffer;
}

void assert_unchanged(Fixture *f, Buffer *before) {
        _cleanup_buffer_ Buffer now = dump(f);

        assert_int_equal(now.size, before->size);
        assert_memory_equal(now.data, before->data, now.size);
        buffer_done(before);
}
