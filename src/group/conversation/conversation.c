/* SPDX-License-Identifier: Apache-2.0 */
#include "group/conversation/conversation.h"

#include <stdio.h>

#include "util/string-util.h"

struct Conversations {
        GroupRole *role;
        Conversation *entries; /* a hash by id */
        TAILQ_HEAD(UnpinnedQueue, Conversation) unpinned; /* the least recently used first */
};

/* --- entries --- */

int conversations_new(Conversations **ret, GroupRole *role) {
        Conversations *table = new0(Conversations, 1);

        if (!table)
                return -ENOMEM;
        table->role = role;
        TAILQ_INIT(&table->unpinned);
        *ret = table;
        return 0;
}

static void free_members(Conversation *conversation) {
        Member *member, *next;

        HASH_ITER(hh, conversation->members, member, next) {
                HASH_DEL(conversation->members, member);
                free(member);
        }
}

static void forget(Conversations *table, Conversation *conversation) {
        free_members(conversation);
        HASH_DEL(table->entries, conversation);
        free(conversation);
}

Conversations *conversations_free(Conversations *table) {
        Conversation *conversation, *next;

        if (!table)
                return NULL;
        HASH_ITER(hh, table->entries, conversation, next)
                forget(table, conversation);
        return mfree(table);
}

size_t conversations_n(const Conversations *table) {
        return HASH_COUNT(table->entries);
}

static Conversation *add(Conversations *table, const char *id, size_t size) {
        Conversation *conversation = new0(Conversation, 1);

        if (!conversation)
                return NULL;
        conversation->role = table->role;
        sequence_init(&conversation->sequence, 0, 0);
        LIST_INIT(&conversation->admissions);
        memcpy(conversation->id, id, size);
        HASH_ADD_STR(table->entries, id, conversation);
        if (!HASH_WAS_ADDED(conversation))
                return mfree(conversation);
        conversation->n_pins = 1;
        return conversation;
}

static Conversation *find(const Conversations *table, const char *id, size_t length) {
        Conversation *conversation;

        HASH_FIND(hh, table->entries, id, length, conversation);
        return conversation;
}

Conversation *conversations_get(Conversations *table, const char *id) {
        size_t length = strlen(id);
        Conversation *conversation = find(table, id, length);

        if (conversation)
                return conversation_pin(conversation);
        return length < CONVERSATION_ID_SIZE ? add(table, id, length + 1) : NULL;
}

Conversation *conversations_find_loaded(Conversations *table, const char *id) {
        Conversation *conversation = find(table, id, strlen(id));

        return conversation && conversation->state == CONVERSATION_LOADED ? conversation : NULL;
}

Conversation *conversation_pin(Conversation *conversation) {
        if (conversation->n_pins++ == 0)
                TAILQ_REMOVE(&conversation->role->conversations->unpinned, conversation, unpinned);
        return conversation;
}

Conversation *conversation_unpin(Conversation *conversation) {
        if (!conversation || --conversation->n_pins > 0)
                return NULL;

        Conversations *table = conversation->role->conversations;
        /* Nobody needs a personal one but to attach, or when its user's inbox changes; there are as many as
         * users online. */
        if (conversation->state != CONVERSATION_LOADED || is_personal_id(conversation->id)) {
                forget(table, conversation);
                return NULL;
        }
        TAILQ_INSERT_TAIL(&table->unpinned, conversation, unpinned);
        while (HASH_COUNT(table->entries) > table->role->conf->group_cache_conversations &&
                !TAILQ_EMPTY(&table->unpinned)) {
                Conversation *oldest = TAILQ_FIRST(&table->unpinned);
                TAILQ_REMOVE(&table->unpinned, oldest, unpinned);
                forget(table, oldest);
        }
        return NULL;
}

void conversation_set_created(Conversation *conversation, const Sc__Conversation *record) {
        if (conversation->state == CONVERSATION_LOADED)
                return;
        /* A load under way began before the commit and may find nothing: it will see that this is loaded. */
        conversation->state = CONVERSATION_LOADED;
        conversation->kind = record->kind;
        snprintf(conversation->epoch, sizeof(conversation->epoch), "%s", record->epoch);
        conversation->last_at = record->created_at;
        conversation->has_head = !is_personal_id(conversation->id);
}

/* --- members --- */

static Member *find_entry(const Conversation *conversation, const char *user) {
        Member *member;

        HASH_FIND_STR(conversation->members, user, member);
        return member;
}

static bool is_flushed(const Member *member) {
        return member->read_seq <= member->stored_seq && member->has_written == member->stored_written;
}

/* Forgets the ones noted first, of those whose cursor the store has, until there are no more than the limit. */
static void forget_oldest(Conversation *conversation, const Member *spared) {
        Member *member, *next;

        HASH_ITER(hh, conversation->members, member, next) {
                if (HASH_COUNT(conversation->members) <= CONVERSATION_MAX_MEMBERS)
                        return;
                if (member == spared || !is_flushed(member))
                        continue;
                HASH_DEL(conversation->members, member);
                free(member);
        }
}

static Member *get_entry(Conversation *conversation, const char *user) {
        size_t size = strlen(user) + 1;
        Member *member = find_entry(conversation, user);

        if (member)
                return member;
        member = calloc(1, sizeof(*member) + size);
        if (!member)
                return NULL;
        memcpy(member->user, user, size);
        HASH_ADD_STR(conversation->members, user, member);
        if (!HASH_WAS_ADDED(member))
                return mfree(member);
        /* uthash keeps them in the order of their coming. */
        if (HASH_COUNT(conversation->members) > CONVERSATION_MAX_MEMBERS)
                forget_oldest(conversation, member);
        return member;
}

const Member *conversation_find_member(const Conversation *conversation, const char *user) {
        const Member *member = find_entry(conversation, user);
        return member && member->verified ? member : NULL;
}

void conversation_forget_member(Conversation *conversation, const char *user) {
        Member *member = find_entry(conversation, user);

        if (member)
                member->verified = false;
}

static void raise_cursor(Member *member, uint64_t seq, uint64_t count, bool stored) {
        member->read_seq = MAX(member->read_seq, seq);
        member->read_count = MAX(member->read_count, count);
        if (stored)
                member->stored_seq = MAX(member->stored_seq, seq);
}

const Member *conversation_note_member(Conversation *conversation, const Sc__Member *record) {
        Member *member = get_entry(conversation, record->user);

        if (!member)
                return NULL;
        member->verified = true;
        raise_cursor(member, record->read_seq, record->read_count, true);
        if (record->has_written)
                member->has_written = member->stored_written = true;
        return member;
}

int conversation_move_cursor(
        Conversation *conversation, const char *user, uint64_t seq, uint64_t count, bool stored) {
        Member *member = get_entry(conversation, user);

        if (!member)
                return -ENOMEM;
        raise_cursor(member, seq, count, stored);
        member->has_written |= !stored;
        return 0;
}

bool conversation_has_written(const Conversation *conversation, const char *user) {
        const Member *member = find_entry(conversation, user);
        return member && member->has_written;
}

void conversation_merge_cursor(
        const Conversation *conversation, const char *user, uint64_t *seq, uint64_t *count) {
        const Member *member = find_entry(conversation, user);

        if (!member)
                return;
        *seq = MAX(*seq, member->read_seq);
        *count = MAX(*count, member->read_count);
}

void personal_conversation_id(const char *user, char ret[static CONVERSATION_ID_SIZE]) {
        snprintf(ret, CONVERSATION_ID_SIZE, "#%s", user);
}
