/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One submitted operation: a copy of what was asked, and later its outcome. It is made and completed on the
 * loop thread and belongs to the back end in between, one thread at a time. What was asked lies behind the
 * struct in the same allocation; what was found lies in its arena. */

#include <sys/queue.h>

#include "store/record.h"
#include "store/store.h"
#include "util/work-queue.h"

/* As those of store.h: from the loop, the arguments are valid during the call. */
typedef void (*StoreDeleteEntriesDone)(int r, unsigned n, void *userdata);
typedef void (*StoreCheckDone)(int r, const StoreCheck *check, Arena *arena, void *userdata);

typedef enum OperationKind {
        OPERATION_WRITE,
        OPERATION_APPEND,
        OPERATION_DELETE_ENTRIES,
        OPERATION_READ,
        OPERATION_CHECK,
} OperationKind;

/* A guard or follower. Fields that do not matter (of a PATCH: neither key nor changed; of a DELETE: not key)
 * have values all the same. */
typedef struct WriteItem {
        StoreVerb verb;
        const MessageInfo *info;
        Value *values; /* of all fields */
        const StoreChange *changes;
        size_t n_changes;
        const unsigned *equal; /* with the expected version's field, if one was given */
        size_t n_equal;
} WriteItem;

/* What a write or an append carries beside its guard. */
typedef struct Extras {
        WriteItem *followers;
        size_t n_followers;
        /* Records of type Intent, one behind the other, all of the operation's partition; their number is
         * the back end's to set: IntentCounter + 1, + 2, … which it raises to the last of them
         * (extras_number_intents()). */
        Value *intents;
        size_t n_intents;
        uint64_t last_intent; /* outcome */
} Extras;

/* Numbers the intents `last` + 1, + 2, … and sets last_intent. */
void extras_number_intents(Extras *extras, uint64_t last);

typedef struct ReadItem {
        const MessageInfo *info;
        const IndexInfo *index; /* never NULL */
        Value *from, *to; /* NULL if not given */
        unsigned n_prefix;
        bool after, before, descending;
        unsigned limit;
        size_t max_bytes;
} ReadItem;

typedef struct Operation Operation;
typedef TAILQ_HEAD(OperationList, Operation) OperationList;

struct Operation {
        TAILQ_ENTRY(Operation) link;
        WorkItem work; /* for queues of threads */
        OperationKind kind;
        int r;
        void *userdata;
        const char *partition; /* of a write of any kind; those of one partition complete in order */
        /* 31 random bits: whatever record with a version field the operation inserts, puts or patches, its
         * version becomes OPERATION_VERSION(stored version or 0, name). */
        uint32_t name;
        uint64_t deadline_usec; /* the back end's, if it has one */
        Arena arena; /* of what is read, `rows` included */
        union {
                struct {
                        WriteItem guard;
                        Extras extras;
                        uint64_t version; /* outcome: the guard's record's, now */
                        StoreWriteDone done;
                } write;
                struct {
                        uint64_t after_seq;
                        const MessageInfo *info;
                        Value *values; /* of all entries, one behind the other, with their seq */
                        size_t n;
                        Extras extras;
                        uint64_t last_seq; /* outcome */
                        Sc__Message **taken; /* outcome of -EEXIST, in the arena */
                        size_t n_taken;
                        StoreAppendDone done;
                } append;
                struct {
                        const MessageInfo *info;
                        uint64_t last_seq;
                        unsigned limit;
                        unsigned n_deleted; /* outcome */
                        StoreDeleteEntriesDone done;
                } delete_entries;
                struct {
                        ReadItem *items;
                        StoreRows *rows;
                        size_t n;
                        StoreReadDone done;
                } read;
                struct {
                        const char **findings; /* NULL-terminated; NULL if there are none */
                        uint64_t pages;
                        StoreCheckDone done;
                } check;
        };
};

#define OPERATION_NAME_BITS 31
#define OPERATION_NAME_MASK ((1U << OPERATION_NAME_BITS) - 1)
#define OPERATION_VERSION(version, name)                                                                    \
        ((((uint64_t) (version) >> OPERATION_NAME_BITS) + 1) << OPERATION_NAME_BITS | (name))

/* -EINVAL for what breaks the contract of store.h. */
int operation_new_write(Operation **ret, const StoreWrite *write);
int operation_new_append(Operation **ret, const MessageInfo *info, const StoreAppend *append);
int operation_new_delete_entries(Operation **ret, const MessageInfo *info, const char *conversation,
        uint64_t last_seq, unsigned limit);
int operation_new_read(Operation **ret, const StoreRead *reads, size_t n);
int operation_new_check(Operation **ret);

/* Calls the completion. */
void operation_complete(Operation *operation);
Operation *operation_free(Operation *operation);
DEFINE_CLEANUP(Operation *, operation_free);
