/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One submitted operation: a copy of what was asked, and later its outcome. It is made and completed on the
 * loop thread and belongs to the back end in between, one thread at a time. What was asked lies behind the
 * struct in the same allocation. */

#include <sys/queue.h>

#include "store/record.h"
#include "store/store.h"

typedef enum OperationKind {
        OPERATION_WRITE,
        OPERATION_APPEND,
        OPERATION_READ,
        OPERATION_CHECK,
} OperationKind;

typedef struct WriteItem {
        StoreVerb verb;
        const MessageInfo *info;
        Value *values;
} WriteItem;

typedef struct ReadItem {
        const MessageInfo *info;
        const IndexInfo *index; /* never NULL */
        Value *from, *to; /* NULL if not given */
        unsigned n_prefix;
        bool after, before, descending, count_only;
        int exclude_field; /* or -1 */
        unsigned limit;
        size_t max_bytes;
} ReadItem;

typedef struct Operation Operation;
typedef TAILQ_HEAD(OperationList, Operation) OperationList;

struct Operation {
        TAILQ_ENTRY(Operation) link;
        OperationKind kind;
        int r;
        void *userdata;
        union {
                struct {
                        WriteItem *items;
                        size_t n;
                        size_t failed;
                        StoreWriteDone done;
                } write;
                struct {
                        const char *conversation;
                        uint64_t after_seq;
                        const MessageInfo *info;
                        Value *values; /* of all messages, one behind the other; seq is the back end's to set
                                        */
                        size_t n;
                        StoreAppended *results;
                        uint64_t last_seq;
                        StoreAppendDone done;
                } append;
                struct {
                        ReadItem *items;
                        StoreRows *rows;
                        size_t n;
                        Arena arena; /* holds the records */
                        StoreReadDone done;
                } read;
                struct {
                        Arena arena; /* holds the findings */
                        const char **findings; /* NULL-terminated; NULL if there are none */
                        uint64_t pages;
                        StoreCheckDone done;
                } check;
        };
};

int operation_new_write(Operation **ret, const StoreWrite *writes, size_t n);
int operation_new_append(Operation **ret, const MessageInfo *info, const char *conversation,
        uint64_t after_seq, Sc__Message *const *messages, size_t n);
/* -EINVAL if a read does not make sense. */
int operation_new_read(Operation **ret, const StoreRead *reads, size_t n);
int operation_new_check(Operation **ret);

/* Calls the completion. */
void operation_complete(Operation *operation);
Operation *operation_free(Operation *operation);
DEFINE_CLEANUP(Operation *, operation_free);
