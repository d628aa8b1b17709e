/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The order of one conversation, as pure logic: what waits to be appended, what to do next, and what a
 * result means for each of those who wait. No input or output: the owner does what sequence_next() says and
 * reports the outcome; then it takes the settled items and answers them.
 *
 * At most one append is in flight. An append that fails in a way that leaves open whether it was stored is
 * never answered by guess: what stands behind the last known seq is looked up first. Who is found there is
 * acknowledged after all, the others fail, and only then is more appended. The same look-up finds what
 * somebody else appended, should that ever happen (-ESTALE): then those who wait are appended behind it.
 *
 * An item belongs to its owner, who keeps it alive until it is settled. */

#include <stdbool.h>
#include <sys/queue.h>

#include "store/store.h"

#define SEQUENCE_MAX_BATCH 64U /* messages of one append */
#define SEQUENCE_MAX_QUEUED 1024U /* messages waiting in one conversation; -ENOBUFS beyond */
#define SEQUENCE_MAX_STALE 8U /* times in a row that an append finds others before it, then it fails */
#define SEQUENCE_LOOK_UP_LIMIT SEQUENCE_MAX_BATCH /* messages read by one look-up */

typedef struct SequenceItem SequenceItem;
struct SequenceItem {
        Sc__Message *message;

        /* The outcome, once settled: r is 0, or the negative errno that the store reported, or -ESTALE. */
        int r;
        StoreAppended appended;
        bool looked_up; /* found by a look-up: among the messages that it answered */

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
        uint64_t last_seq; /* of the last message known to be stored */
        SequenceQueue queue; /* in order; the first n_batch are those in flight or in doubt */
        SequenceQueue settled;
        unsigned n_queued, n_batch;
        unsigned n_stale;
        int failure; /* of the append in doubt: what to tell those who are not found */
} Sequence;

typedef enum SequenceAction {
        SEQUENCE_WAIT, /* nothing to do now */
        SEQUENCE_APPEND, /* the first n_batch of the queue behind last_seq; then sequence_appended() */
        SEQUENCE_LOOK_UP, /* read up to SEQUENCE_LOOK_UP_LIMIT messages behind last_seq; then
                             sequence_looked_up() */
} SequenceAction;

/* An empty queue behind last_seq. */
void sequence_init(Sequence *sequence, uint64_t last_seq);

/* -ENOBUFS when too many wait already. */
int sequence_enqueue(Sequence *sequence, SequenceItem *item);

/* What to do now. An action that it answers is begun: its outcome must be reported. */
SequenceAction sequence_next(Sequence *sequence);

/* The batch's messages in order, into `ret` with room for SEQUENCE_MAX_BATCH; answers their number. */
size_t sequence_batch(const Sequence *sequence, Sc__Message **ret);

/* The outcome of the append, as the store reports it. -EBUSY, -ENOMEM and -ECANCELED mean that it was not
 * begun. */
void sequence_appended(Sequence *sequence, int r, const StoreAppended *results, size_t n, uint64_t last_seq);

/* The outcome of the look-up: the messages behind last_seq in order; `more`: there are further ones. */
void sequence_looked_up(Sequence *sequence, int r, Sc__Message *const *messages, size_t n, bool more);

/* The next one to answer, in the order of their seq where they have one; NULL when all are answered. */
SequenceItem *sequence_take_settled(Sequence *sequence);
