/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The order of one conversation's log, as pure logic: what waits to be appended, what to do next, and what a
 * result means for each of those who wait. No input or output: the owner does what sequence_next() says and
 * reports the outcome; then it takes the settled items and answers them.
 *
 * At most one append is in flight. After an unknown outcome (-EINPROGRESS) what stands behind the last known
 * seq is looked up before anything else is appended: an item that is found there is acknowledged, one that is
 * not stays in its place and is appended again, under the same id and, if it did not land meanwhile, with the
 * same seq. The unique keys of the log see to it that it is stored once, whichever attempt lands. The same
 * look-up finds what somebody else appended (-ESTALE): then those who wait are appended behind it.
 *
 * An append that is refused because ids of it are stored already (-EEXIST) settles those items, as duplicates
 * or as conflicts, and the others are appended again without them.
 *
 * Whenever an item fails because of the store, all behind it fail too: what one connection sends is stored in
 * the order in which it was sent, or not at all.
 *
 * An item belongs to its owner, who keeps it alive until it is settled. */

#include <stdbool.h>
#include <sys/queue.h>

#include "store/store.h"

#define SEQUENCE_MAX_BATCH STORE_MAX_APPEND /* entries of one append */
#define SEQUENCE_MAX_FOLLOWERS 64U /* of one append; an item has at most so many */
#define SEQUENCE_MAX_QUEUED 1024U /* entries waiting in one conversation; -ENOBUFS beyond */
#define SEQUENCE_MAX_STALE 8U /* appends in a row that find others before them, then all fail */
#define SEQUENCE_MAX_UNKNOWN 3U /* appends in a row whose outcome is unknown, then all fail */
#define SEQUENCE_LOOK_UP_LIMIT SEQUENCE_MAX_BATCH /* entries read by one look-up */

typedef struct SequenceItem SequenceItem;
struct SequenceItem {
        Sc__Message *message; /* its seq and count are the sequence's to set */
        const StoreItem *followers;
        size_t n_followers;

        /* The outcome, once settled. r: 0; or the negative errno that the store reported; -ESTALE: somebody
         * else appends all the time; -EINPROGRESS: it may be stored. */
        int r;
        uint64_t seq; /* 0 of a conflict */
        int64_t created_at; /* of the entry that is stored */
        bool duplicate; /* it was stored before */
        bool conflict; /* its id belongs to an entry with another content, or in another conversation */
        bool looked_up; /* found by a look-up: among the entries that it reported */

        bool in_doubt; /* an append of it had an unknown outcome: it may be stored, or still land */
        uint64_t name_hash; /* of sender and client_msg_id */
        STAILQ_ENTRY(SequenceItem) entry;
};

typedef enum SequenceState {
        SEQUENCE_READY, /* last_seq is known, nothing is in flight */
        SEQUENCE_APPENDING,
        SEQUENCE_DOUBTFUL, /* what stands behind last_seq must be looked up before the next append */
        SEQUENCE_LOOKING_UP,
} SequenceState;

typedef STAILQ_HEAD(SequenceQueue, SequenceItem) SequenceQueue;

typedef struct Sequence {
        SequenceState state;
        uint64_t last_seq; /* of the last entry known to be stored */
        uint64_t last_count; /* counting entries up to that one */
        SequenceQueue queue; /* in order; the first n_batch are those in flight or in doubt */
        SequenceQueue settled;
        unsigned n_queued, n_batch;
        unsigned n_stale, n_unknown; /* in a row */
} Sequence;

typedef enum SequenceAction {
        SEQUENCE_WAIT, /* nothing to do now */
        SEQUENCE_APPEND, /* the batch behind last_seq; then sequence_appended() */
        SEQUENCE_LOOK_UP, /* read up to SEQUENCE_LOOK_UP_LIMIT entries behind last_seq; then
                             sequence_looked_up() */
} SequenceAction;

/* An empty queue behind last_seq. */
void sequence_init(Sequence *sequence, uint64_t last_seq, uint64_t last_count);

/* Messages count, events do not. */
bool sequence_counts(const Sc__Message *entry);

/* -ENOBUFS when too many wait already. */
int sequence_enqueue(Sequence *sequence, SequenceItem *item);

/* What to do now. An action that it answers is begun: its outcome must be reported. */
SequenceAction sequence_next(Sequence *sequence);

/* The batch's entries in order, with their count, into `ret` with room for SEQUENCE_MAX_BATCH; answers their
 * number. */
size_t sequence_batch(const Sequence *sequence, Sc__Message **ret);
/* Its followers, into `ret` with room for SEQUENCE_MAX_FOLLOWERS. */
size_t sequence_batch_followers(const Sequence *sequence, StoreItem *ret);

/* The outcome of the append, as the store reports it. `appended` is NULL when it was not begun. */
void sequence_appended(Sequence *sequence, int r, const StoreAppended *appended);

/* The outcome of the look-up: the entries behind last_seq in order; `more`: there are further ones. */
void sequence_looked_up(Sequence *sequence, int r, Sc__Message *const *entries, size_t n, bool more);

/* The next one to answer, in the order of their seq where they have one; NULL when all are answered. */
SequenceItem *sequence_take_settled(Sequence *sequence);
