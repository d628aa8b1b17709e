/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The hot conversations: what is known of each without asking the store again, and its sequence.
 *
 * One entry an id. conversations_get() finds or makes it and pins it; conversations_load() brings in what
 * the store knows; conversation_unpin() gives it back. Entries that nobody pins are forgotten, the least
 * recently used first, when there are more than the limit. An entry is never out of date: this process is
 * the only writer of the store, and whatever it commits it notes here. */

#include <sys/queue.h>
#include <uthash.h>

#include "group/sequence.h"
#include "util/id.h"

#define CONVERSATION_ID_SIZE 65 /* with the NUL; as the rules of the requests say */
#define CONVERSATION_MAX_MEMBERS                                                                            \
        256U /* verified members remembered of one conversation: those active last */
#define CONVERSATIONS_LOAD_CHUNK 64U /* conversations loaded by one read of the store */

typedef struct Conversation Conversation;
typedef struct Conversations Conversations;

/* A member, as stored: known to be one, for this process would know if it was removed. */
typedef struct Member {
        uint64_t read_seq, version;
        int64_t joined_at;
        UT_hash_handle hh;
        char user[];
} Member;

typedef enum ConversationState {
        CONVERSATION_UNKNOWN, /* not asked for yet; after a load that succeeded: there is none */
        CONVERSATION_LOADING,
        CONVERSATION_LOADED,
} ConversationState;

typedef struct LoadWaiter LoadWaiter;

struct Conversation {
        Conversations *table;
        void *role; /* whose it is: for completions that get only the conversation */
        ConversationState state;
        Sc__ConversationKind kind;
        char epoch[UUID_TEXT_SIZE];
        Sequence sequence; /* with last_seq */
        Member *members; /* a hash by user, the oldest first */
        unsigned n_pins;
        LIST_HEAD(, LoadWaiter) waiters;
        TAILQ_ENTRY(Conversation) used; /* while not pinned */
        UT_hash_handle hh;
        char id[CONVERSATION_ID_SIZE];
};

/* `limit` is read anew each time, so that a reload applies. The store must outlive the table. */
int conversations_new(Conversations **ret, Store *store, const uint64_t *limit, void *role);
/* When the store is closed: nothing is in flight any more. */
Conversations *conversations_free(Conversations *table);
DEFINE_CLEANUP(Conversations *, conversations_free);
size_t conversations_n(const Conversations *table);

/* The pinned entry; NULL when out of memory or the id is too long. */
Conversation *conversations_get(Conversations *table, const char *id);
Conversation *conversation_pin(Conversation *conversation);
/* Answers NULL. */
Conversation *conversation_unpin(Conversation *conversation);
DEFINE_CLEANUP(Conversation *, conversation_unpin);
#define _cleanup_conversation_ _cleanup_(conversation_unpinp)

/* Brings all of them to CONVERSATION_LOADED, those that exist. 1: they are already, and done is not called;
 * 0: done will be called, from the loop, with 0 or the store's error. They must stay pinned, the array too,
 * until then. */
typedef void (*ConversationsLoaded)(int r, void *userdata);
int conversations_load(Conversations *table, Conversation *const *items, size_t n, ConversationsLoaded done,
        void *userdata);

/* Notes a conversation that was just created in the store, empty. */
void conversation_set_created(Conversation *conversation, const Sc__Conversation *record);

/* NULL if the user is not known as a member: ask the store. */
Member *conversation_find_member(const Conversation *conversation, const char *user);
/* Notes what is stored; NULL when out of memory. Valid until the next one is noted. */
Member *conversation_note_member(Conversation *conversation, const Sc__Member *record);
void conversation_forget_member(Conversation *conversation, const char *user);

/* "#" and the user: the id of the user's personal conversation. */
void personal_conversation_id(const char *user, char ret[static CONVERSATION_ID_SIZE]);
static inline bool is_personal_id(const char *conversation) {
        return conversation[0] == '#';
}
