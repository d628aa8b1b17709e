/* SPDX-License-Identifier: Apache-2.0 */
#include "group/sequence.h"

#include "util/string-util.h"

void sequence_init(Sequence *sequence, uint64_t last_seq) {
        *sequence = (Sequence){.last_seq = last_seq};
        STAILQ_INIT(&sequence->queue);
        STAILQ_INIT(&sequence->settled);
}

int sequence_enqueue(Sequence *sequence, SequenceItem *item) {
        if (sequence->n_queued >= SEQUENCE_MAX_QUEUED)
                return -ENOBUFS;

        STAILQ_INSERT_TAIL(&sequence->queue, item, entry);
        sequence->n_queued++;
        return 0;
}

SequenceAction sequence_next(Sequence *sequence) {
        if (sequence->n_queued == 0)
                return SEQUENCE_WAIT;

        switch (sequence->state) {
        case SEQUENCE_READY:
                sequence->n_batch = MIN(sequence->n_queued, SEQUENCE_MAX_BATCH);
                sequence->state = SEQUENCE_APPENDING;
                return SEQUENCE_APPEND;
        case SEQUENCE_DOUBTFUL:
                /* Without a batch in doubt the look-up is for those who came later: if it fails, they do. */
                if (sequence->n_batch == 0)
                        sequence->n_batch = MIN(sequence->n_queued, SEQUENCE_MAX_BATCH);
                sequence->state = SEQUENCE_LOOKING_UP;
                return SEQUENCE_LOOK_UP;
        default:
                return SEQUENCE_WAIT;
        }
}

size_t sequence_batch(const Sequence *sequence, Sc__Message **ret) {
        size_t n = 0;
        SequenceItem *item;

        STAILQ_FOREACH(item, &sequence->queue, entry) {
                if (n == sequence->n_batch)
                        break;
                ret[n++] = item->message;
        }
        return n;
}

static void settle(Sequence *sequence, SequenceItem *item, int r, const StoreAppended *appended) {
        item->r = r;
        item->appended = appended ? *appended : (StoreAppended){};

        STAILQ_REMOVE(&sequence->queue, item, SequenceItem, entry);
        STAILQ_INSERT_TAIL(&sequence->settled, item, entry);
        sequence->n_queued--;
        sequence->n_batch--;
}

static void settle_batch(Sequence *sequence, int r) {
        while (sequence->n_batch > 0)
                settle(sequence, STAILQ_FIRST(&sequence->queue), r, NULL);
}

static void append_succeeded(Sequence *sequence, const StoreAppended *results, size_t n, uint64_t last_seq) {
        sequence->state = SEQUENCE_READY;
        sequence->last_seq = last_seq;
        sequence->n_stale = 0;
        for (size_t i = 0; i < n && sequence->n_batch > 0; i++)
                settle(sequence, STAILQ_FIRST(&sequence->queue), 0, &results[i]);

        /* A store that answers for fewer than it was given: nobody may wait for ever. */
        settle_batch(sequence, -EIO);
}

/* Somebody else appended, or what we know as last is not there any more. */
static void append_was_stale(Sequence *sequence, uint64_t last_seq) {
        sequence->n_stale++;
        sequence->failure = sequence->n_stale > SEQUENCE_MAX_STALE ? -ESTALE : 0;

        if (last_seq > sequence->last_seq || sequence->failure < 0) {
                sequence->state = SEQUENCE_DOUBTFUL;
                return;
        }
        sequence->state = SEQUENCE_READY;
        sequence->last_seq = last_seq;
        sequence->n_batch = 0;
}

void sequence_appended(
        Sequence *sequence, int r, const StoreAppended *results, size_t n, uint64_t last_seq) {
        assert_se(sequence->state == SEQUENCE_APPENDING);

        switch (r) {
        case 0:
                append_succeeded(sequence, results, n, last_seq);
                break;
        case -ESTALE:
                append_was_stale(sequence, last_seq);
                break;
        case -EBUSY:
        case -ENOMEM:
        case -ECANCELED:
                sequence->state = SEQUENCE_READY;
                settle_batch(sequence, r);
                break;
        default:
                sequence->state = SEQUENCE_DOUBTFUL;
                sequence->failure = r;
                break;
        }
}

/* Acknowledges the first of the batch that this message is. */
static void settle_found(Sequence *sequence, const Sc__Message *message) {
        SequenceItem *item = STAILQ_FIRST(&sequence->queue);

        for (unsigned i = 0; i < sequence->n_batch; i++, item = STAILQ_NEXT(item, entry))
                if (streq(item->message->client_msg_id, message->client_msg_id) &&
                        streq(item->message->sender, message->sender)) {
                        item->looked_up = true;
                        settle(sequence, item, 0,
                                &(StoreAppended){.seq = message->seq, .created_at = message->created_at});
                        return;
                }
}

void sequence_looked_up(Sequence *sequence, int r, Sc__Message *const *messages, size_t n, bool more) {
        assert_se(sequence->state == SEQUENCE_LOOKING_UP);

        if (r < 0) {
                /* Still in doubt, for whoever comes next. */
                sequence->state = SEQUENCE_DOUBTFUL;
                settle_batch(sequence, sequence->failure < 0 ? sequence->failure : r);
                sequence->failure = 0;
                return;
        }

        for (size_t i = 0; i < n; i++) {
                sequence->last_seq = messages[i]->seq;
                if (sequence->failure < 0)
                        settle_found(sequence, messages[i]);
        }

        if (more) {
                sequence->state = SEQUENCE_DOUBTFUL;
                return;
        }

        sequence->state = SEQUENCE_READY;
        if (sequence->failure < 0) {
                settle_batch(sequence, sequence->failure);
                sequence->n_stale = 0;
        }
        sequence->n_batch = 0;
        sequence->failure = 0;
}

SequenceItem *sequence_take_settled(Sequence *sequence) {
        SequenceItem *item = STAILQ_FIRST(&sequence->settled);

        if (item)
                STAILQ_REMOVE_HEAD(&sequence->settled, entry);
        return item;
}
