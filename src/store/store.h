/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Records on durable storage: few verbs, asynchronous on the event loop, any back end.
 *
 * Records are protobuf messages whose .proto carries a `record` option: table, key, indexes, version field;
 * they become columns by their descriptors. "sqlite" is the back end of one host: WAL, synchronous=FULL; one
 * writer thread drains what is queued into one transaction (group commit); reads run on threads and
 * connections of their own.
 *
 * A write is complete only after its commit is on disk; completions come on the loop, writes in the order
 * they were submitted. Reads see every write that completed before they were submitted. Results live until
 * the completion returns.
 *
 * r of a completion: 0, or
 *   -EEXIST     insert, update: key or unique index taken -ENOENT  update, delete: no such record
 *   -ESTALE     update, delete: another version; append: the conversation is not at `after_seq`
 *   -ENOSPC     the disk is full                          -EIO     anything else the engine reports
 *   -ECANCELED  the store was closed before               -ENOMEM
 * After -EEXIST, -ENOENT and -ESTALE nothing was changed. After the others a write may have happened, or may
 * even be found to have happened after a crash: it can be run again, since keys, versions and
 * (sender, client_msg_id) tell then. Only an append of messages without client_msg_id has to be looked up.
 *
 * A submission fails at once with -ENOMEM, -EBUSY when too many operations are queued, -ECANCELED when the
 * store is being closed, -EINVAL for what makes no sense (no items, bounds that the index does not have).
 *
 * A unique index whose first field is a string has no entries for records in which that is empty: several of
 * them may exist, and reads by that index do not find them. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "proto/arena.h"
#include "proto/schema.h"
#include "stonechat/v1/records.pb-c.h"

typedef struct Store Store;

typedef struct StoreConfig {
        const char *kind; /* "sqlite" */
        const char *path; /* of the database file */
        const MessageInfo *const *records; /* the schema, NULL-terminated */
        unsigned n_readers; /* reader threads, at least 1 */
        unsigned batch_operations; /* most operations of one commit */
        unsigned max_queued; /* operations submitted and not completed, reads and writes together */
} StoreConfig;

/* Opens, creates what is missing, and checks the schema version (PRAGMA user_version): -EUCLEAN if the store
 * is newer than this program, -ENOTUNIQ if it is locked by another writer. */
int store_open(Store **ret, sd_event *event, const StoreConfig *config);
/* Commits what is queued, then closes. Completions of reads not begun get -ECANCELED; all of them are called
 * before this returns. Not from a completion. */
Store *store_close(Store *store);
DEFINE_CLEANUP(Store *, store_close);

/* False when a thread has been busy with one operation for longer: the watchdog is not fed then. */
bool store_is_alive(Store *store, uint64_t max_busy_usec);

typedef struct StoreStatistics {
        uint64_t reads, writes; /* operations submitted; an append is a write */
        uint64_t commits; /* transactions on disk */
        uint64_t queued; /* operations submitted and not completed */
        uint64_t commit_usec_last, commit_usec_max; /* of the commit alone: the time the disk takes */
} StoreStatistics;
void store_get_statistics(Store *store, StoreStatistics *ret);

/* --- writes --- */

typedef enum StoreVerb {
        STORE_INSERT, /* -EEXIST if the key, or a unique index, is taken */
        STORE_UPDATE, /* the whole record; where the stored version is record's; stored with version + 1 */
        STORE_DELETE, /* only the key fields matter, and the version unless it is 0 */
} StoreVerb;

typedef struct StoreWrite {
        StoreVerb verb;
        const MessageInfo *info;
        const ProtobufCMessage *record; /* copied on submission */
} StoreWrite;

/* failed: the index of the write that failed, when r < 0. */
typedef void (*StoreWriteDone)(int r, size_t failed, void *userdata);

/* One or several writes: all or none on SQLite. A back end without multi-document transactions does them in
 * order and stops at the first failure; callers order them so that running the lot again repairs a break. */
int store_write(Store *store, const StoreWrite *writes, size_t n, StoreWriteDone done, void *userdata);

/* Appends to a conversation that stands at after_seq. Messages get after_seq + 1, + 2, … in order; one whose
 * (sender, client_msg_id) is stored already gets no place: its first one is found instead. */
typedef struct StoreAppended {
        uint64_t seq; /* its place, now or before; 0 if conflict in another conversation */
        int64_t created_at; /* of the stored message */
        bool duplicate; /* was stored before, with the same content, in the same conversation */
        bool conflict; /* the client_msg_id stands for another content or conversation */
} StoreAppended;
typedef void (*StoreAppendDone)(
        int r, const StoreAppended *results, size_t n, uint64_t last_seq, void *userdata);

/* The messages' seq is ignored; all must name `conversation`. Copied on submission. At most one append a
 * conversation may be outstanding. -ESTALE: last_seq says where the conversation stands. When r < 0 there
 * are no results (n is 0). The content of a message is all that its sender decides: everything but seq and
 * created_at. */
int store_append(Store *store, const char *conversation, uint64_t after_seq, Sc__Message *const *messages,
        size_t n, StoreAppendDone done, void *userdata);

/* --- reads --- */

typedef struct StoreRead {
        const MessageInfo *info;
        const IndexInfo *index; /* NULL: the key. Members of info->record */
        const ProtobufCMessage
                *from; /* a record of the type holding the prefix (and start) values; copied */
        unsigned n_prefix; /* this many leading fields of the index must equal those of `from` */
        /* The next field of the index, if it is an integer or string, may be bounded (exclusive, taken from
         * `from` / `to`): */
        bool after; /* field > from's value */
        bool before; /* field < to's value */
        const ProtobufCMessage *to; /* needed for `before` */
        bool descending;
        unsigned limit; /* most records; 0 means 1 */
        size_t max_bytes; /* stop before records (but the first) exceed so many bytes; 0: 1 MiB */
        bool count_only; /* only count, up to limit */
        const char *exclude_field; /* skip records in which this string field equals from's */
} StoreRead;

typedef struct StoreRows {
        ProtobufCMessage **records; /* n of them, of the read's type; NULL if it only counts */
        size_t n;
        bool more; /* the limit, or max_bytes, cut it off */
} StoreRows;

/* One StoreRows a read, in order, all from one snapshot. */
typedef void (*StoreReadDone)(int r, const StoreRows *rows, size_t n, void *userdata);
int store_read(Store *store, const StoreRead *reads, size_t n, StoreReadDone done, void *userdata);

/* Convenience: the one record with the key fields of `key`; rows[0].n is 0 or 1. */
int store_get(Store *store, const MessageInfo *info, const ProtobufCMessage *key, StoreReadDone done,
        void *userdata);

/* --- upkeep --- */

/* The engine's own integrity check, on a thread of its own, and a look for gaps in the sequence numbers of
 * conversations: findings is NULL-terminated and empty if all is well; it has at most 100. */
typedef void (*StoreCheckDone)(int r, const char *const *findings, uint64_t pages, void *userdata);
int store_check(Store *store, StoreCheckDone done, void *userdata);
