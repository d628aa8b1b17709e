/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Records on durable storage, asynchronous on the event loop, on any back end.
 *
 * Records are protobuf messages whose .proto carries a `record` option: table, key, indexes, version field;
 * they become columns by their descriptors. The first field of every key is the record's partition: a user
 * or a conversation.
 *
 * What holds, on every back end, and no more (the conformance tests assert exactly this):
 *
 * - A write is one guard, which may be refused, and followers and intents, which cannot be: all of it in one
 *   partition. If the guard is refused nothing happens; once it is done all of it is done. It is complete
 * only when it is durable. Conditions stand only in the guard, so that many writes share one transaction; a
 *   write that is refused never fails its neighbours.
 * - Writes of one partition complete in the order of their submission, of different partitions in any order.
 * - Each read is consistent by itself, and sees every write that completed before it was submitted. Several
 *   reads of one submission cost as few round trips as the back end can make of them, and are no snapshot.
 * - An outcome can be unknown (-EINPROGRESS: a time-out, a lost connection, a failover, a failed fsync): the
 *   write may be done, may not be, or may still land. It can be told later by what its guard stores.
 *
 * Versions name writes. A record with a version field gets a new version with every write that touches it,
 * which the caller does not choose: the upper bits count, the lower 31 bits are random
 * (store_version_next()), so that after an unknown outcome the record tells whose write it was.
 *
 * Errors of a write, beyond those of its guard: -ENOSPC the disk is full; -EINPROGRESS the outcome is
 * unknown; -ENOTCONN the store cannot be reached, nothing was done; -ECANCELED the store was closed before;
 * -EIO, -ENOMEM: nothing was done. Errors of a read: -ENOTCONN, -EIO, -ECANCELED, -ENOMEM.
 *
 * A submission fails at once with -ENOMEM, -EBUSY when too many operations are queued, -ECANCELED when the
 * store is being closed, -EINVAL for what breaks the contract (another partition, no such field, too much).
 *
 * A unique index whose first field is a string has no entries for records in which that is empty: several of
 * them may exist, and reads by that index do not find them.
 *
 * Functions without a suffix wait, so they are called on a fiber; the ones named _start take a completion,
 * called from the loop exactly once, never from inside the call. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "log/trace.h"
#include "proto/arena.h"
#include "proto/schema.h"
#include "stonechat/v1/records.pb-c.h"

#define STORE_MAX_FOLLOWERS 256U /* followers and intents of one write */
#define STORE_MAX_WRITE_BYTES (256U << 10) /* of all records of one write; an append may have more */
#define STORE_MAX_APPEND 64U /* entries of one append */

typedef struct Store Store;

typedef struct StoreConfig {
        const char *kind; /* "sqlite", "postgresql": the module that is loaded */
        const char
                *name; /* "accounts" or "conversations": the file NAME.db, or the schema of the database */
        const char *directory; /* sqlite: where the file is */
        const char *uri; /* postgresql: where the server is, without a password */
        const char *password; /* postgresql: NULL if none; copied, and wiped with the store */
        const MessageInfo *const *records; /* the schema, NULL-terminated */
        unsigned n_readers; /* reader threads or connections, at least 1 */
        unsigned batch_operations; /* most writes of one transaction */
        unsigned max_queued; /* operations submitted and not completed, reads and writes together */
        uint64_t timeout_usec; /* postgresql: how long an operation may take; then its outcome is unknown */
} StoreConfig;

/* Opens, creates what is missing, and brings an older schema up to date. -EUCLEAN if the store is newer than
 * this program, -ENOTUNIQ if it is locked by another writer (sqlite), -ENOPKG if there is no module for the
 * kind, -EACCES if the server refuses the user or the password. May block: it is called before the loop
 * runs. */
int store_open(Store **ret, sd_event *event, const StoreConfig *config);
/* Writes what is queued, then closes. Completions of reads not begun get -ECANCELED; all of them are called
 * before this returns. Not from a completion. */
Store *store_close(Store *store);
DEFINE_CLEANUP(Store *, store_close);

/* False when a thread has been busy with one operation for longer: the watchdog is not fed then. */
bool store_is_alive(Store *store, uint64_t max_busy_usec);
/* False while the back end cannot reach its server. */
bool store_is_connected(Store *store);

typedef struct StoreStatistics {
        uint64_t reads, writes; /* operations submitted; an append is a write */
        uint64_t commits; /* transactions on disk */
        uint64_t queued; /* operations submitted and not completed */
        uint64_t commit_usec_last, commit_usec_max; /* of the commit alone: the time the disk takes */
} StoreStatistics;
void store_get_statistics(Store *store, StoreStatistics *ret);

/* --- writes --- */

typedef enum StoreVerb {
        STORE_INSERT, /* guard: -EEXIST if the key, or a unique index, is taken */
        STORE_PUT, /* follower: there is this record now, whatever was there. No unique index but the key */
        STORE_PATCH, /* changes fields. Guard: -ENOENT, -ESTALE if a condition does not hold, -EEXIST if a unique
                      * index is taken. Follower: if it is there; no field of a unique index */
        STORE_DELETE, /* guard: -ENOENT, -ESTALE; follower: it is not there now */
} StoreVerb;

typedef enum StoreChangeKind {
        STORE_SET,
        STORE_INCREMENT, /* by the record's value, which may be negative; integers */
        STORE_MAX, /* to the record's value if that is larger; integers */
} StoreChangeKind;

/* Fields are named by their numbers in descriptor->fields; store_field(info, "name") finds one. Each is changed
 * once; none of the key, and not the version; the members of a oneof all together. */
typedef struct StoreChange {
        unsigned field;
        StoreChangeKind kind;
} StoreChange;

typedef struct StoreItem {
        StoreVerb verb;
        const MessageInfo *info;
        /* All of it for INSERT and PUT; the key and the values of `changes` for PATCH; the key for DELETE.
         * The version of a guard's PATCH or DELETE is the one that must be stored, 0: any. Copied. */
        const ProtobufCMessage *record;
        const StoreChange *changes; /* of a PATCH */
        size_t n_changes;
        const unsigned *equal; /* of a guard's PATCH or DELETE: fields that must have the record's values */
        size_t n_equal;
} StoreItem;

/* A durable call: stored with its cause, and delivered after the commit (service/intents.h). It gets the
 * next number of its source, the partition of the write. */
typedef struct StoreIntent {
        const char *target; /* the partition it is for: picks the shard */
        const MethodInfo *method;
        const ProtobufCMessage *request; /* copied */
        const Trace *trace; /* NULL: none */
} StoreIntent;

typedef struct StoreWrite {
        const char *partition;
        StoreItem guard;
        const StoreItem *followers;
        size_t n_followers;
        const StoreIntent *intents;
        size_t n_intents;
} StoreWrite;

typedef struct StoreWritten {
        uint64_t version; /* that the guard's record has now; 0 if its type has none */
        uint64_t last_intent; /* number of the last of the write's intents; 0 if it has none */
} StoreWritten;

/* Waits to the end, whatever cancels the fiber. An unknown outcome is looked up by what the guard stores,
 * for types with a version field; what stays unknown, or is not found then, is -EINPROGRESS. */
int store_write(Store *store, const StoreWrite *write, StoreWritten *ret);
/* One item by itself. */
int store_write_one(Store *store, const char *partition, const StoreItem *item, StoreWritten *ret);

typedef void (*StoreWriteDone)(int r, const StoreWritten *written, void *userdata);
int store_write_start(Store *store, const StoreWrite *write, StoreWriteDone done, void *userdata);

static inline uint64_t store_version_count(uint64_t version) {
        return version >> 31;
}
uint64_t store_version_next(uint64_t version);

/* The index of a field, which must be there. */
unsigned store_field(const MessageInfo *info, const char *name);
/* An index of the record by its name in records.proto, which must be there. */
const IndexInfo *store_index(const MessageInfo *info, const char *name);

/* --- appends: the guard of a conversation's log --- */

typedef struct StoreAppend {
        const char *conversation; /* the partition */
        uint64_t after_seq; /* where the conversation stands */
        /* They get after_seq + 1, + 2, …; their seq is ignored. No two of one sender with the same client_msg_id.
         * Copied. */
        Sc__Message *const *entries;
        size_t n;
        const StoreItem *followers; /* of all entries together */
        size_t n_followers;
        const StoreIntent *intents;
        size_t n_intents;
} StoreAppend;

/* r of an append:
 *   -ESTALE  the conversation is not at after_seq; last_seq says where it is
 *   -EEXIST  an entry's (conversation, sender, client_msg_id) is stored already: `taken` are those stored
 *            entries, at least one. A back end may see the same in another conversation, and refuses it too
 * Where both are true either may be told: after an unknown outcome that landed, the entries are stored behind
 * after_seq. */
typedef struct StoreAppended {
        uint64_t last_seq; /* of the conversation; 0 if not known */
        uint64_t last_intent;
        Sc__Message *const *taken;
        size_t n_taken;
} StoreAppended;

/* Valid during the call. */
typedef void (*StoreAppendDone)(int r, const StoreAppended *appended, void *userdata);
/* At most one append a conversation may be outstanding. */
int store_append_start(Store *store, const StoreAppend *append, StoreAppendDone done, void *userdata);

/* Deletes up to `limit` of the oldest entries of a conversation, those with a seq up to last_seq, but never
 * its last entry; for retention. *ret: how many there were. */
int store_delete_entries(
        Store *store, const char *conversation, uint64_t last_seq, unsigned limit, unsigned *ret);

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
} StoreRead;

typedef struct StoreRows {
        ProtobufCMessage **records; /* n of them, of the read's type */
        size_t n;
        bool more; /* the limit, or max_bytes, cut it off */
} StoreRows;

/* One StoreRows a read, in order; they and their records live in the arena. */
int store_read(Store *store, Arena *arena, const StoreRead *reads, size_t n, StoreRows **ret);
/* The one record with the key fields of `key`: 1, or 0 if there is none. */
int store_get(Store *store, Arena *arena, const MessageInfo *info, const ProtobufCMessage *key, void *ret);
/* The same by a unique index. */
int store_find(Store *store, Arena *arena, const MessageInfo *info, const char *index,
        const ProtobufCMessage *key, void *ret);

/* Rows are valid during the call, unless it takes them: arena_adopt(mine, arena). */
typedef void (*StoreReadDone)(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata);
int store_read_start(Store *store, const StoreRead *reads, size_t n, StoreReadDone done, void *userdata);

/* What one of these errors means, for the log: the errno's own words ("Operation now in progress") mislead. */
const char *store_error_text(int r);

/* --- upkeep --- */

typedef struct StoreCheck {
        const char *const *findings; /* NULL-terminated, empty if all is well; at most 100 */
        uint64_t pages;
} StoreCheck;
/* The engine's own integrity check, and a look for gaps in the sequence numbers of conversations. */
int store_check(Store *store, Arena *arena, StoreCheck *ret);
