/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The conversations in memory: what is known of each without asking the store again, its sequence, and the
 * read cursors that are ahead of the store.
 *
 * One entry an id. conversations_get() finds or makes it and pins it; conversation_load() (load.h) brings in
 * what the store knows; conversation_unpin() gives it back. Entries that nobody pins are forgotten, the least
 * recently used first, when there are more than the limit. What is loaded is never out of date: this process
 * is the only writer of the conversation, and whatever it commits it notes here. */

#include <sys/queue.h>

#include "group/conversation/sequence.h"
#include "group/role-state.h"
#include "util/hash.h"
#include "util/id.h"

#define CONVERSATION_ID_SIZE 65 /* with the NUL; as the rules of the requests say */
#define CONVERSATION_MAX_MEMBERS 256U /* remembered of one conversation, beside those not yet flushed */

typedef struct Conversation Conversation;

/* A user's place in a conversation. Cursors only grow, so what is read, written and found in the log is merged
 * by maximum, in any order. */
typedef struct Member {
        bool verified; /* is a member: read from the store, and not removed since */
        bool has_written, stored_written; /* an entry is the user's; the store knows it */
        bool flushing_written; /* in the write under way */
        uint64_t read_seq, read_count; /* at least; exact when verified */
        uint64_t
                stored_seq; /* read_seq as it is stored, at least: behind read_seq the rest is to be flushed */
        uint64_t flushing_seq; /* in the write under way; 0: none */
        UT_hash_handle hh;
        char user[];
} Member;

typedef enum ConversationState {
        CONVERSATION_UNKNOWN, /* not asked for yet, or there is none */
        CONVERSATION_LOADING,
        CONVERSATION_LOADED,
} ConversationState;

struct Conversation {
        GroupRole *role;
        ConversationState state;
        int load_result; /* of the last load, for those who waited for it: see load.c */
        FiberQueue load_waiters;

        /* Once loaded: */
        Sc__ConversationKind kind;
        char epoch[UUID_TEXT_SIZE];
        Sequence sequence; /* with last_seq and last_count */
        int64_t last_at; /* of the last entry, or of the creation */
        Member *members; /* a hash by user, the oldest first */
        LIST_HEAD(, Admission) admissions; /* of message/send.c */

        /* Of flush.c: */
        uint64_t stored_head_seq; /* last_seq of the head record as it is stored */
        bool has_head; /* there is such a record */
        bool flushing, flush_queued; /* pinned meanwhile */
        uint64_t flush_usec; /* when it is due */
        uint64_t activity_stored_usec; /* when an append stored last_at with it; 0: it was not stored */
        TAILQ_ENTRY(Conversation) to_flush;

        uint32_t attach_mark, attach_place; /* of gateway/attach-batch.c */
        unsigned n_pins;
        TAILQ_ENTRY(Conversation) unpinned;
        UT_hash_handle hh;
        char id[CONVERSATION_ID_SIZE];
};

int conversations_new(Conversations **ret, GroupRole *role);
/* When the store is closed: nothing is in flight any more. */
Conversations *conversations_free(Conversations *table);
DEFINE_CLEANUP(Conversations *, conversations_free);
size_t conversations_n(const Conversations *table);

/* The pinned entry; NULL when out of memory or the id is too long. */
Conversation *conversations_get(Conversations *table, const char *id);
/* The same, not pinned and only if it is loaded; NULL otherwise. Valid until the caller suspends. */
Conversation *conversations_find_loaded(Conversations *table, const char *id);
Conversation *conversation_pin(Conversation *conversation);
/* Answers NULL. */
Conversation *conversation_unpin(Conversation *conversation);
DEFINE_CLEANUP(Conversation *, conversation_unpin);
#define _cleanup_conversation_ _cleanup_(conversation_unpinp)

/* Notes a conversation that was just created in the store, empty. */
void conversation_set_created(Conversation *conversation, const Sc__Conversation *record);

/* --- members: pointers are valid until the next one is noted, so until the caller suspends --- */

/* NULL if the user is not known as a member: ask the store. */
const Member *conversation_find_member(const Conversation *conversation, const char *user);
/* Notes a member as read from the store; NULL when out of memory. */
const Member *conversation_note_member(Conversation *conversation, const Sc__Member *record);
void conversation_forget_member(Conversation *conversation, const char *user);

/* Raises the cursor to this entry. `stored`: it is in the store already; else the entry is the user's own.
 * -ENOMEM. */
int conversation_move_cursor(
        Conversation *conversation, const char *user, uint64_t seq, uint64_t count, bool stored);
/* Is one of the entries the user's? As far as is known here, so false says nothing. */
bool conversation_has_written(const Conversation *conversation, const char *user);
/* As far as is known here, whether the user is known as a member or not: raises both, or leaves them. */
void conversation_merge_cursor(
        const Conversation *conversation, const char *user, uint64_t *seq, uint64_t *count);

/* "#" and the user: the id of the user's inbox, and of its log. */
void personal_conversation_id(const char *user, char ret[static CONVERSATION_ID_SIZE]);
static inline bool is_personal_id(const char *conversation) {
        return conversation[0] == '#';
}
