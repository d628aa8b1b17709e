/* SPDX-License-Identifier: Apache-2.0 */
#include "group/conversation/sequence.h"

#include "util/string-util.h"

void sequence_init(Sequence *sequence, uint64_t last_seq, uint64_t last_count) {
        *sequence = (Sequence){.last_seq = last_seq, .last_count = last_count};
        STAILQ_INIT(&sequence->queue);
        STAILQ_INIT(&sequence->settled);
}

bool sequence_counts(const Sc__Message *entry) {
        return !entry->event;
}

/* --- what identifies an entry, and what it says --- */

/* FNV-1a (64 bits) over both strings with their NULs. Only to tell names apart quickly. */
static uint64_t hash_name(const Sc__Message *entry) {
        uint64_t hash = 14695981039346656037ULL;

        for (const char *c = entry->client_msg_id;; c++) {
                hash = (hash ^ (uint8_t) *c) * 1099511628211ULL;
                if (!*c)
                        break;
        }
        for (const char *c = entry->sender; *c; c++)
                hash = (hash ^ (uint8_t) *c) * 1099511628211ULL;
        return hash;
}

static bool has_same_name(const Sc__Message *a, const Sc__Message *b) {
        return !isempty(a->client_msg_id) && streq(a->client_msg_id, b->client_msg_id) &&
               streq(a->sender, b->sender);
}

/* All that the sender decides. */
static bool has_same_content(const Sc__Message *a, const Sc__Message *b) {
        if (!streq(a->kind, b->kind) || a->body_case != b->body_case)
                return false;
        switch (a->body_case) {
        case SC__MESSAGE__BODY_TEXT:
                return streq(a->text, b->text);
        case SC__MESSAGE__BODY_DATA:
                return a->data.len == b->data.len &&
                       (a->data.len == 0 || memcmp(a->data.data, b->data.data, a->data.len) == 0);
        default:
                return true;
        }
}

/* --- the queue --- */

int sequence_enqueue(Sequence *sequence, SequenceItem *item) {
        if (sequence->n_queued >= SEQUENCE_MAX_QUEUED)
                return -ENOBUFS;
        if (item->n_followers > SEQUENCE_MAX_FOLLOWERS)
                return -EINVAL;

        item->name_hash = hash_name(item->message);
        STAILQ_INSERT_TAIL(&sequence->queue, item, entry);
        sequence->n_queued++;
        return 0;
}

/* How many from the head fit into one append. It ends before an id that it has already: of those the first
 * must be stored before the store can tell the second. */
static unsigned count_batch(const Sequence *sequence) {
        uint64_t hashes[SEQUENCE_MAX_BATCH];
        size_t n_followers = 0;
        const SequenceItem *item;
        unsigned n = 0;

        STAILQ_FOREACH(item, &sequence->queue, entry) {
                n_followers += item->n_followers;
                if (n == SEQUENCE_MAX_BATCH || n_followers > SEQUENCE_MAX_FOLLOWERS)
                        break;
                for (unsigned i = 0; i < n; i++)
                        if (hashes[i] == item->name_hash)
                                return n;
                hashes[n++] = item->name_hash;
        }
        return n;
}

SequenceAction sequence_next(Sequence *sequence) {
        if (sequence->n_queued == 0)
                return SEQUENCE_WAIT;

        switch (sequence->state) {
        case SEQUENCE_READY:
                sequence->n_batch = count_batch(sequence);
                sequence->state = SEQUENCE_APPENDING;
                return SEQUENCE_APPEND;
        case SEQUENCE_DOUBTFUL:
                sequence->state = SEQUENCE_LOOKING_UP;
                return SEQUENCE_LOOK_UP;
        default:
                return SEQUENCE_WAIT;
        }
}

size_t sequence_batch(const Sequence *sequence, Sc__Message **ret) {
        uint64_t count = sequence->last_count;
        const SequenceItem *item = STAILQ_FIRST(&sequence->queue);

        for (unsigned i = 0; i < sequence->n_batch; i++, item = STAILQ_NEXT(item, entry)) {
                count += sequence_counts(item->message);
                item->message->count = count;
                ret[i] = item->message;
        }
        return sequence->n_batch;
}

size_t sequence_batch_followers(const Sequence *sequence, StoreItem *ret) {
        const SequenceItem *item = STAILQ_FIRST(&sequence->queue);
        size_t n = 0;

        for (unsigned i = 0; i < sequence->n_batch; i++, item = STAILQ_NEXT(item, entry))
                for (size_t k = 0; k < item->n_followers; k++)
                        ret[n++] = item->followers[k];
        return n;
}

/* --- outcomes --- */

/* One of the batch. */
static void settle(Sequence *sequence, SequenceItem *item, int r) {
        item->r = r;
        STAILQ_REMOVE(&sequence->queue, item, SequenceItem, entry);
        STAILQ_INSERT_TAIL(&sequence->settled, item, entry);
        sequence->n_queued--;
        sequence->n_batch--;
}

/* What r says of the last attempt does not hold for an attempt before it that may still land. */
static void fail_all(Sequence *sequence, int r) {
        SequenceItem *item;

        sequence->n_batch = sequence->n_queued;
        while ((item = STAILQ_FIRST(&sequence->queue)))
                settle(sequence, item, item->in_doubt ? -EINPROGRESS : r);
        sequence->n_stale = sequence->n_unknown = 0;
}

static void append_succeeded(Sequence *sequence) {
        sequence->state = SEQUENCE_READY;
        sequence->n_stale = sequence->n_unknown = 0;
        while (sequence->n_batch > 0) {
                SequenceItem *item = STAILQ_FIRST(&sequence->queue);

                item->seq = item->message->seq = ++sequence->last_seq;
                item->created_at = item->message->created_at;
                sequence->last_count = item->message->count;
                settle(sequence, item, 0);
        }
}

/* Somebody else appended, or what we know as last is not there any more. */
static void append_was_stale(Sequence *sequence, uint64_t last_seq) {
        sequence->state = SEQUENCE_DOUBTFUL;
        /* What the last entry of a log that has become shorter says is read again, with its count. */
        if (last_seq > 0 && last_seq < sequence->last_seq) {
                sequence->last_seq = last_seq - 1;
                sequence->last_count = 0;
        }
        if (++sequence->n_stale > SEQUENCE_MAX_STALE)
                fail_all(sequence, -ESTALE);
}

/* This entry is stored: settles the one of the batch that has its name, if there is one. */
static bool settle_stored(Sequence *sequence, const Sc__Message *entry, bool looked_up) {
        SequenceItem *item = STAILQ_FIRST(&sequence->queue);
        uint64_t hash = hash_name(entry);

        for (unsigned i = 0; i < sequence->n_batch; i++, item = STAILQ_NEXT(item, entry)) {
                if (item->name_hash != hash || !has_same_name(item->message, entry))
                        continue;
                if (streq(item->message->conversation, entry->conversation) &&
                        has_same_content(item->message, entry)) {
                        item->seq = entry->seq;
                        item->created_at = entry->created_at;
                        item->duplicate = !looked_up;
                        item->looked_up = looked_up;
                } else
                        item->conflict = true;
                settle(sequence, item, 0);
                return true;
        }
        return false;
}

/* Is one of them stored behind the last entry that is known? */
static bool is_behind(const Sequence *sequence, const StoreAppended *appended) {
        const SequenceItem *item = STAILQ_FIRST(&sequence->queue);

        for (size_t i = 0; i < appended->n_taken; i++)
                if (appended->taken[i]->seq > sequence->last_seq &&
                        streq(appended->taken[i]->conversation, item->message->conversation))
                        return true;
        return false;
}

static void append_was_taken(Sequence *sequence, const StoreAppended *appended) {
        bool settled = false;

        /* An append that was given up has landed: a store may name its entries, or say -ESTALE. Nobody was told of
         * them yet, so they are looked up. */
        if (is_behind(sequence, appended))
                return append_was_stale(sequence, 0);
        sequence->state = SEQUENCE_READY;
        for (size_t i = 0; i < appended->n_taken; i++)
                settled = settle_stored(sequence, appended->taken[i], false) || settled;
        sequence->n_batch = 0;
        /* A store that refuses an append and cannot say why would be asked for ever. */
        if (!settled)
                fail_all(sequence, -EIO);
}

static void append_is_unknown(Sequence *sequence) {
        SequenceItem *item = STAILQ_FIRST(&sequence->queue);

        for (unsigned i = 0; i < sequence->n_batch; i++, item = STAILQ_NEXT(item, entry))
                item->in_doubt = true;
        sequence->state = SEQUENCE_DOUBTFUL;
        sequence->n_unknown++;
}

void sequence_appended(Sequence *sequence, int r, const StoreAppended *appended) {
        assert_se(sequence->state == SEQUENCE_APPENDING);

        switch (r) {
        case 0:
                return append_succeeded(sequence);
        case -ESTALE:
                return append_was_stale(sequence, appended ? appended->last_seq : 0);
        case -EEXIST:
                return append_was_taken(sequence, appended ?: &(StoreAppended){});
        case -EINPROGRESS:
                return append_is_unknown(sequence);
        default:
                sequence->state = SEQUENCE_READY;
                return fail_all(sequence, r);
        }
}

void sequence_looked_up(Sequence *sequence, int r, Sc__Message *const *entries, size_t n, bool more) {
        assert_se(sequence->state == SEQUENCE_LOOKING_UP);

        if (r < 0) {
                /* Still in doubt, for whoever comes next. */
                sequence->state = SEQUENCE_DOUBTFUL;
                return fail_all(sequence, r);
        }
        for (size_t i = 0; i < n; i++) {
                sequence->last_seq = entries[i]->seq;
                sequence->last_count = entries[i]->count;
                (void) settle_stored(sequence, entries[i], true);
        }
        sequence->state = more ? SEQUENCE_DOUBTFUL : SEQUENCE_READY;
        if (more)
                return;
        sequence->n_batch = 0;
        if (sequence->n_unknown >= SEQUENCE_MAX_UNKNOWN)
                fail_all(sequence, -EINPROGRESS);
}

SequenceItem *sequence_take_settled(Sequence *sequence) {
        SequenceItem *item = STAILQ_FIRST(&sequence->settled);

        if (item)
                STAILQ_REMOVE_HEAD(&sequence->settled, entry);
        return item;
}
