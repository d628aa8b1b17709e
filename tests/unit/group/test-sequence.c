/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "group/conversation/sequence.h"
#include "util/macro.h"
#include "util/string-util.h"

/* --- scripted --- */

typedef struct Item {
        SequenceItem item;
        Sc__Message message;
        char id[32];
} Item;

static void item_init(Item *item, unsigned number) {
        *item = (Item){.message = SC__MESSAGE__INIT};
        snprintf(item->id, sizeof(item->id), "m%u", number);
        item->message.conversation = (char *) "c";
        item->message.sender = (char *) "ada";
        item->message.client_msg_id = item->id;
        item->message.kind = (char *) "text";
        item->message.created_at = 10 * number;
        item->item.message = &item->message;
}

static void enqueue(Sequence *sequence, Item *items, size_t n) {
        for (size_t i = 0; i < n; i++) {
                item_init(&items[i], (unsigned) i);
                assert_int_equal(sequence_enqueue(sequence, &items[i].item), 0);
        }
}

static void assert_settled(Sequence *sequence, const Item *item, int r, uint64_t seq) {
        SequenceItem *settled = sequence_take_settled(sequence);

        assert_ptr_equal(settled, &item->item);
        assert_int_equal(settled->r, r);
        assert_int_equal(settled->seq, seq);
}

static void assert_none_settled(Sequence *sequence) {
        assert_null(sequence_take_settled(sequence));
}

static void appended(Sequence *sequence, int r, uint64_t last_seq) {
        sequence_appended(sequence, r, &(StoreAppended){.last_seq = last_seq});
}

static void test_batches(void **state) {
        static Item items[100];
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        Sequence sequence;

        sequence_init(&sequence, 7, 5);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_WAIT);
        enqueue(&sequence, items, 100);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_WAIT); /* one in flight */
        assert_int_equal(sequence_batch(&sequence, batch), SEQUENCE_MAX_BATCH);
        assert_ptr_equal(batch[0], &items[0].message);
        assert_ptr_equal(batch[63], &items[63].message);
        assert_int_equal(batch[63]->count, 69);
        appended(&sequence, 0, 71);
        for (unsigned i = 0; i < SEQUENCE_MAX_BATCH; i++)
                assert_settled(&sequence, &items[i], 0, 8 + i);
        assert_none_settled(&sequence);
        assert_int_equal(items[3].item.created_at, 30);
        assert_int_equal(sequence.last_seq, 71);
        assert_int_equal(sequence.last_count, 69);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_batch(&sequence, batch), 36);
        assert_ptr_equal(batch[0], &items[64].message);
}

/* Events have a seq, and no count of their own. */
static void test_counting(void **state) {
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        Sc__Event event = SC__EVENT__INIT;
        Sequence sequence;
        Item items[3];

        sequence_init(&sequence, 9, 4);
        enqueue(&sequence, items, 3);
        items[1].message.event = &event;
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_batch(&sequence, batch), 3);
        assert_int_equal(batch[0]->count, 5);
        assert_int_equal(batch[1]->count, 5);
        assert_int_equal(batch[2]->count, 6);
        appended(&sequence, 0, 12);
        assert_int_equal(sequence.last_count, 6);
}

/* The followers of a batch are together, and bounded. */
static void test_followers(void **state) {
        StoreItem followers[SEQUENCE_MAX_FOLLOWERS + 1] = {}, taken[SEQUENCE_MAX_FOLLOWERS];
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        Sequence sequence;
        Item items[4];

        sequence_init(&sequence, 0, 0);
        for (unsigned i = 0; i < 4; i++) {
                item_init(&items[i], i);
                items[i].item.followers = followers;
                items[i].item.n_followers = i == 1 ? 0 : 30;
                assert_int_equal(sequence_enqueue(&sequence, &items[i].item), 0);
        }
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_batch(&sequence, batch), 3);
        assert_int_equal(sequence_batch_followers(&sequence, taken), 60);
        appended(&sequence, 0, 3);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_batch_followers(&sequence, taken), 30);

        Item large;
        item_init(&large, 9);
        large.item.followers = followers;
        large.item.n_followers = SEQUENCE_MAX_FOLLOWERS + 1;
        assert_int_equal(sequence_enqueue(&sequence, &large.item), -EINVAL);
}

static Sc__Message stored(const Item *item, uint64_t seq) {
        Sc__Message message = item->message;

        message.seq = message.count = seq;
        message.created_at = (int64_t) seq * 10;
        return message;
}

static void taken(Sequence *sequence, Sc__Message *const *entries, size_t n) {
        sequence_appended(sequence, -EEXIST, &(StoreAppended){.taken = entries, .n_taken = n});
}

/* Those whose id is stored are settled, the others appended again without them. */
static void test_duplicates_and_conflicts(void **state) {
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        Sequence sequence;
        Item items[5];

        sequence_init(&sequence, 5, 5);
        enqueue(&sequence, items, 5);
        Sc__Message same = stored(&items[0], 3), another_text = stored(&items[2], 4),
                    elsewhere = stored(&items[3], 2), of_somebody_else = stored(&items[4], 1);
        another_text.body_case = SC__MESSAGE__BODY_TEXT;
        another_text.text = (char *) "another text";
        elsewhere.conversation = (char *) "d";
        of_somebody_else.sender = (char *) "bob";

        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        taken(&sequence, (Sc__Message *[]){&another_text, &same, &elsewhere, &of_somebody_else}, 4);
        assert_settled(&sequence, &items[2], 0, 0);
        assert_true(items[2].item.conflict);
        assert_settled(&sequence, &items[0], 0, 3);
        assert_true(items[0].item.duplicate);
        assert_int_equal(items[0].item.created_at, 30);
        assert_settled(&sequence, &items[3], 0, 0);
        assert_true(items[3].item.conflict);
        assert_none_settled(&sequence);

        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_batch(&sequence, batch), 2);
        assert_ptr_equal(batch[0], &items[1].message);
        assert_int_equal(batch[1]->count, 7);
        appended(&sequence, 0, 7);
        assert_settled(&sequence, &items[1], 0, 6);
        assert_settled(&sequence, &items[4], 0, 7);
        assert_false(items[4].item.duplicate || items[4].item.conflict);
}

/* What the sender decides is compared, and no more: a new field makes no conflicts. */
static void test_content(void **state) {
        Sc__Message now = SC__MESSAGE__INIT, before;
        Sequence sequence;
        Item item;

        for (unsigned i = 0; i < 6; i++) {
                sequence_init(&sequence, 5, 5);
                item_init(&item, 0);
                item.message.body_case = SC__MESSAGE__BODY_DATA;
                item.message.data = (ProtobufCBinaryData){2, (uint8_t *) "ab"};
                now = item.message;
                before = stored(&item, 3);
                switch (i) {
                case 0: /* place, time and count */
                        break;
                case 1:
                        before.kind = (char *) "image";
                        break;
                case 2:
                        before.data = (ProtobufCBinaryData){2, (uint8_t *) "ac"};
                        break;
                case 3:
                        before.data.len = 1;
                        break;
                case 4:
                        before.body_case = SC__MESSAGE__BODY_TEXT;
                        before.text = (char *) "ab";
                        break;
                case 5:
                        before.body_case = SC__MESSAGE__BODY__NOT_SET;
                }
                assert_int_equal(sequence_enqueue(&sequence, &item.item), 0);
                assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
                taken(&sequence, (Sc__Message *[]){&before}, 1);
                assert_ptr_equal(sequence_take_settled(&sequence), &item.item);
                assert_int_equal(item.item.duplicate, i == 0);
                assert_int_equal(item.item.conflict, i > 0);
        }
        assert_int_equal(now.seq, 0);
}

/* Of an id that comes twice the first is stored before the second is tried. */
static void test_repeats_in_the_queue(void **state) {
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        Sequence sequence;
        Item items[3];

        sequence_init(&sequence, 0, 0);
        for (unsigned i = 0; i < 3; i++) {
                item_init(&items[i], i == 2 ? 0 : i);
                assert_int_equal(sequence_enqueue(&sequence, &items[i].item), 0);
        }
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_batch(&sequence, batch), 2);
        appended(&sequence, 0, 2);
        assert_settled(&sequence, &items[0], 0, 1);
        assert_settled(&sequence, &items[1], 0, 2);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        Sc__Message first = items[0].message;
        taken(&sequence, (Sc__Message *[]){&first}, 1);
        assert_settled(&sequence, &items[2], 0, 1);
        assert_true(items[2].item.duplicate);
}

/* A store that refuses and cannot say why is not asked for ever. */
static void test_taken_by_nobody(void **state) {
        Sequence sequence;
        Item items[2];

        sequence_init(&sequence, 0, 0);
        enqueue(&sequence, items, 2);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        taken(&sequence, NULL, 0);
        assert_settled(&sequence, &items[0], -EIO, 0);
        assert_settled(&sequence, &items[1], -EIO, 0);
}

static void test_queue_is_bounded(void **state) {
        static Item items[SEQUENCE_MAX_QUEUED + 1];
        Sequence sequence;

        sequence_init(&sequence, 0, 0);
        enqueue(&sequence, items, SEQUENCE_MAX_QUEUED);
        item_init(&items[SEQUENCE_MAX_QUEUED], SEQUENCE_MAX_QUEUED);
        assert_int_equal(sequence_enqueue(&sequence, &items[SEQUENCE_MAX_QUEUED].item), -ENOBUFS);
}

/* Whoever fails, all behind fail: also those that were not in the batch. */
static void test_refused(void **state) {
        static const int refusals[] = {-EBUSY, -ENOMEM, -ECANCELED, -ENOSPC, -EIO, -ENOTCONN};
        static Item items[70];

        FOREACH_ARRAY(r, refusals, ELEMENTSOF(refusals)) {
                Sequence sequence;

                sequence_init(&sequence, 5, 5);
                enqueue(&sequence, items, 70);
                assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
                sequence_appended(&sequence, *r, NULL);
                for (unsigned i = 0; i < 70; i++)
                        assert_settled(&sequence, &items[i], *r, 0);
                /* Nothing is in doubt. */
                assert_int_equal(sequence.last_seq, 5);
                enqueue(&sequence, items, 1);
                assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        }
}

/* An unknown outcome: nobody hears anything before it was looked up. Who is found is acknowledged; who is not
 * is appended again in his place, before those that came later. */
static void test_unknown_outcome(void **state) {
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        Item items[3], later;
        Sequence sequence;

        sequence_init(&sequence, 5, 5);
        enqueue(&sequence, items, 3);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        item_init(&later, 9);
        assert_int_equal(sequence_enqueue(&sequence, &later.item), 0);
        sequence_appended(&sequence, -EINPROGRESS, NULL);
        assert_none_settled(&sequence);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_WAIT);

        Sc__Message found[] = {stored(&items[0], 6), stored(&items[1], 7)};
        sequence_looked_up(&sequence, 0, (Sc__Message *[]){&found[0], &found[1]}, 2, false);
        assert_settled(&sequence, &items[0], 0, 6);
        assert_true(items[0].item.looked_up);
        assert_false(items[0].item.duplicate);
        assert_int_equal(items[0].item.created_at, 60);
        assert_settled(&sequence, &items[1], 0, 7);
        assert_none_settled(&sequence);

        assert_int_equal(sequence.last_seq, 7);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_batch(&sequence, batch), 2);
        assert_ptr_equal(batch[0], &items[2].message);
        assert_ptr_equal(batch[1], &later.message);
        assert_int_equal(batch[0]->count, 8);
        appended(&sequence, 0, 9);
        assert_settled(&sequence, &items[2], 0, 8);
        assert_settled(&sequence, &later, 0, 9);
}

/* It was not found, and lands when the same entries are appended again: they are found then. */
static void test_late_landing(void **state) {
        Item items[2], later;
        Sequence sequence;

        sequence_init(&sequence, 5, 5);
        enqueue(&sequence, items, 2);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        sequence_appended(&sequence, -EINPROGRESS, NULL);
        item_init(&later, 9);
        assert_int_equal(sequence_enqueue(&sequence, &later.item), 0);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        sequence_looked_up(&sequence, 0, NULL, 0, false);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        appended(&sequence, -ESTALE, 7);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        Sc__Message found[] = {stored(&items[0], 6), stored(&items[1], 7)};
        sequence_looked_up(&sequence, 0, (Sc__Message *[]){&found[0], &found[1]}, 2, false);
        assert_settled(&sequence, &items[0], 0, 6);
        assert_settled(&sequence, &items[1], 0, 7);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        appended(&sequence, 0, 8);
        assert_settled(&sequence, &later, 0, 8);
}

/* The same, and the store tells the taken ids instead of where the conversation is: nobody was told of those
 * entries, so they are looked up, whichever of them it names. */
static void test_late_landing_taken(void **state) {
        Sequence sequence;
        Item items[2];

        sequence_init(&sequence, 5, 5);
        enqueue(&sequence, items, 2);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        sequence_appended(&sequence, -EINPROGRESS, NULL);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        sequence_looked_up(&sequence, 0, NULL, 0, false);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        Sc__Message found[] = {stored(&items[0], 6), stored(&items[1], 7)};
        taken(&sequence, (Sc__Message *[]){&found[1]}, 1);
        assert_none_settled(&sequence);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        sequence_looked_up(&sequence, 0, (Sc__Message *[]){&found[0], &found[1]}, 2, false);
        assert_settled(&sequence, &items[0], 0, 6);
        assert_settled(&sequence, &items[1], 0, 7);
        assert_true(items[0].item.looked_up && items[1].item.looked_up);
        assert_int_equal(sequence.last_seq, 7);
}

/* Unknown for ever ends in an error for all, not in a loop. */
static void test_unknown_for_ever(void **state) {
        static Item items[70];
        Sequence sequence;
        unsigned n = 0;

        sequence_init(&sequence, 5, 5);
        enqueue(&sequence, items, 70);
        for (;;) {
                SequenceAction action = sequence_next(&sequence);
                assert_true(++n < 100);
                if (action == SEQUENCE_WAIT)
                        break;
                if (action == SEQUENCE_APPEND)
                        sequence_appended(&sequence, -EINPROGRESS, NULL);
                else
                        sequence_looked_up(&sequence, 0, NULL, 0, false);
        }
        for (unsigned i = 0; i < 70; i++)
                assert_settled(&sequence, &items[i], -EINPROGRESS, 0);
}

/* It was not found, and the second attempt is refused: the first one may still land, so nobody is told that it
 * did not happen. Those who were not in the first attempt are told what there is. */
static void test_refused_after_unknown(void **state) {
        static const int refusals[] = {-ENOTCONN, -ENOSPC, -EBUSY, -ECANCELED};

        FOREACH_ARRAY(r, refusals, ELEMENTSOF(refusals)) {
                Item items[2], later;
                Sequence sequence;

                sequence_init(&sequence, 5, 5);
                enqueue(&sequence, items, 2);
                assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
                sequence_appended(&sequence, -EINPROGRESS, NULL);
                item_init(&later, 9);
                assert_int_equal(sequence_enqueue(&sequence, &later.item), 0);
                assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
                sequence_looked_up(&sequence, 0, NULL, 0, false);
                assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
                sequence_appended(&sequence, *r, NULL);
                assert_settled(&sequence, &items[0], -EINPROGRESS, 0);
                assert_settled(&sequence, &items[1], -EINPROGRESS, 0);
                assert_settled(&sequence, &later, *r, 0);
        }
}

/* The look-up fails too: all who wait fail, and the doubt stays for whoever comes next. */
static void test_look_up_fails(void **state) {
        Item items[2], later;
        Sequence sequence;

        sequence_init(&sequence, 5, 5);
        enqueue(&sequence, items, 2);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        sequence_appended(&sequence, -EINPROGRESS, NULL);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        sequence_looked_up(&sequence, -EIO, NULL, 0, false);
        assert_settled(&sequence, &items[0], -EINPROGRESS, 0);
        assert_settled(&sequence, &items[1], -EINPROGRESS, 0);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_WAIT);

        item_init(&later, 9);
        assert_int_equal(sequence_enqueue(&sequence, &later.item), 0);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        sequence_looked_up(&sequence, -EIO, NULL, 0, false);
        assert_settled(&sequence, &later, -EIO, 0);

        item_init(&later, 9);
        assert_int_equal(sequence_enqueue(&sequence, &later.item), 0);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        Sc__Message found = stored(&items[0], 6);
        sequence_looked_up(&sequence, 0, (Sc__Message *[]){&found}, 1, false);
        assert_none_settled(&sequence);
        assert_int_equal(sequence.last_seq, 6);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
}

/* Somebody else appended: what they stored is found, then ours goes behind it. */
static void test_stale(void **state) {
        Item items[2], other;
        Sequence sequence;

        sequence_init(&sequence, 5, 5);
        enqueue(&sequence, items, 2);
        item_init(&other, 77);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        appended(&sequence, -ESTALE, 6);
        assert_none_settled(&sequence);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        Sc__Message found = stored(&other, 6);
        sequence_looked_up(&sequence, 0, (Sc__Message *[]){&found}, 1, false);
        assert_none_settled(&sequence);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence.last_seq, 6);
        appended(&sequence, 0, 8);
        assert_settled(&sequence, &items[0], 0, 7);
        assert_settled(&sequence, &items[1], 0, 8);
}

/* The log is shorter than was known, as after an older copy was put in place: its last entry is read again. */
static void test_shorter_log(void **state) {
        Sequence sequence;
        Item item, last;

        sequence_init(&sequence, 9, 9);
        enqueue(&sequence, &item, 1);
        item_init(&last, 77);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        appended(&sequence, -ESTALE, 4);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        assert_int_equal(sequence.last_seq, 3);
        Sc__Message found = stored(&last, 4);
        sequence_looked_up(&sequence, 0, (Sc__Message *[]){&found}, 1, false);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        appended(&sequence, 0, 5);
        assert_settled(&sequence, &item, 0, 5);
}

/* A store that answers -ESTALE for ever ends in an error, not in a loop. */
static void test_stale_for_ever(void **state) {
        Sequence sequence;
        unsigned n = 0;
        Item item;

        sequence_init(&sequence, 5, 5);
        enqueue(&sequence, &item, 1);
        for (;;) {
                SequenceAction action = sequence_next(&sequence);
                assert_true(++n < 100);
                if (action == SEQUENCE_WAIT)
                        break;
                if (action == SEQUENCE_APPEND)
                        appended(&sequence, -ESTALE, 4 + n % 2);
                else
                        sequence_looked_up(&sequence, 0, NULL, 0, false);
        }
        assert_settled(&sequence, &item, -ESTALE, 0);
}

/* --- randomised against a model of the store --- */

#define MODEL_MESSAGES 4000U
#define MODEL_IDS 3000U

/* What is stored: of each seq the id. It fails now and then, before or after it has stored or to do it later,
 * and sometimes somebody else stores an event beside us. */
typedef struct Model {
        char ids[MODEL_MESSAGES * 4][32];
        uint64_t counts[MODEL_MESSAGES * 4];
        uint64_t last_seq;
        unsigned n_foreign;
        uint64_t random;

        /* An append that may still land. */
        char late_ids[SEQUENCE_MAX_BATCH][32];
        uint64_t late_after_seq;
        size_t n_late;
} Model;

static unsigned model_random(Model *model, unsigned n) {
        model->random = model->random * 6364136223846793005ULL + 1442695040888963407ULL;
        return (unsigned) (model->random >> 33) % n;
}

static uint64_t model_find(const Model *model, const char *id) {
        for (uint64_t seq = 1; seq <= model->last_seq; seq++)
                if (streq(model->ids[seq], id))
                        return seq;
        return 0;
}

static void model_add(Model *model, const char *id, bool counts) {
        uint64_t seq = ++model->last_seq;

        assert_true(seq < ELEMENTSOF(model->ids));
        snprintf(model->ids[seq], sizeof(model->ids[0]), "%s", id);
        model->counts[seq] = model->counts[seq - 1] + counts;
}

static void model_foreign(Model *model) {
        char id[32];

        snprintf(id, sizeof(id), "foreign%u", model->n_foreign++);
        model_add(model, id, false);
}

static void model_store(Model *model, Sc__Message *const *batch, size_t n) {
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(model_find(model, batch[i]->client_msg_id), 0);
                model_add(model, batch[i]->client_msg_id, true);
                assert_int_equal(batch[i]->count, model->counts[model->last_seq]);
        }
}

static void model_land(Model *model) {
        bool fits = model->late_after_seq == model->last_seq;

        for (size_t i = 0; i < model->n_late && fits; i++)
                fits = model_find(model, model->late_ids[i]) == 0;
        for (size_t i = 0; i < model->n_late && fits; i++)
                model_add(model, model->late_ids[i], true);
        model->n_late = 0;
}

static void model_postpone(Model *model, uint64_t after_seq, Sc__Message *const *batch, size_t n) {
        model->late_after_seq = after_seq;
        model->n_late = n;
        for (size_t i = 0; i < n; i++)
                snprintf(model->late_ids[i], sizeof(model->late_ids[0]), "%s", batch[i]->client_msg_id);
}

/* Those of the batch that are stored. */
static size_t model_taken(
        const Model *model, Sc__Message *const *batch, size_t n, Sc__Message *entries, Sc__Message **ret) {
        size_t n_taken = 0;

        for (size_t i = 0; i < n; i++) {
                uint64_t seq = model_find(model, batch[i]->client_msg_id);

                if (seq == 0)
                        continue;
                entries[n_taken] = *batch[i];
                entries[n_taken].seq = seq;
                ret[n_taken] = &entries[n_taken];
                n_taken++;
        }
        return n_taken;
}

static void model_append(Model *model, Sequence *sequence) {
        Sc__Message *batch[SEQUENCE_MAX_BATCH], entries[SEQUENCE_MAX_BATCH],
                *stored_ones[SEQUENCE_MAX_BATCH];
        size_t n = sequence_batch(sequence, batch), n_taken;

        if (model_random(model, 20) == 0)
                model_foreign(model);
        if (model_random(model, 2) == 0)
                model_land(model);
        bool stale = sequence->last_seq != model->last_seq;
        n_taken = model_taken(model, batch, n, entries, stored_ones);
        /* Of two reasons a store may tell either. */
        if (stale && (n_taken == 0 || model_random(model, 2))) {
                appended(sequence, -ESTALE, model_random(model, 2) ? model->last_seq : 0);
                return;
        }
        if (n_taken > 0) {
                taken(sequence, stored_ones, 1 + model_random(model, (unsigned) n_taken));
                return;
        }
        switch (model_random(model, 40)) {
        case 0: /* failed, nothing stored */
                sequence_appended(sequence, -ENOSPC, NULL);
                break;
        case 1: /* unknown, and stored */
                model_store(model, batch, n);
                sequence_appended(sequence, -EINPROGRESS, NULL);
                break;
        case 2: /* unknown, and not stored */
                sequence_appended(sequence, -EINPROGRESS, NULL);
                break;
        case 3: /* unknown, and stored later or never */
                model_postpone(model, sequence->last_seq, batch, n);
                sequence_appended(sequence, -EINPROGRESS, NULL);
                break;
        case 4:
                sequence_appended(sequence, -EBUSY, NULL);
                break;
        default:
                model_store(model, batch, n);
                appended(sequence, 0, model->last_seq);
        }
}

static void model_look_up(Model *model, Sequence *sequence) {
        Sc__Message found[SEQUENCE_LOOK_UP_LIMIT], *pointers[SEQUENCE_LOOK_UP_LIMIT];
        uint64_t first = sequence->last_seq + 1;
        size_t n = 0;

        if (model_random(model, 20) == 0) {
                sequence_looked_up(sequence, -EIO, NULL, 0, false);
                return;
        }
        if (model_random(model, 4) == 0)
                model_land(model);
        /* Pages may be cut short anywhere. */
        size_t limit = 1 + model_random(model, SEQUENCE_LOOK_UP_LIMIT);
        for (; n < limit && first + n <= model->last_seq; n++) {
                found[n] = (Sc__Message) SC__MESSAGE__INIT;
                found[n].conversation = (char *) "c";
                found[n].seq = first + n;
                found[n].count = model->counts[first + n];
                found[n].kind = (char *) "text";
                found[n].client_msg_id = model->ids[first + n];
                found[n].sender = (char *) (startswith(found[n].client_msg_id, "foreign") ? "" : "ada");
                pointers[n] = &found[n];
        }
        sequence_looked_up(sequence, 0, pointers, n, first + n <= model->last_seq);
}

/* Everybody is answered once; who is acknowledged is stored at that place; who is told of a new message is
 * told once; new ones are stored in the order of their coming; and nothing that was stored has a gap, as the
 * model would have answered -ESTALE. */
static void run_model(uint64_t seed) {
        static Model model;
        static Item items[MODEL_MESSAGES];
        static bool answered[MODEL_MESSAGES], announced[MODEL_MESSAGES * 4];
        unsigned n_sent = 0, n_answered = 0, n_acknowledged = 0;
        uint64_t last_fresh = 0;
        Sequence sequence;

        model = (Model){.random = seed};
        memset(answered, 0, sizeof(answered));
        memset(announced, 0, sizeof(announced));
        sequence_init(&sequence, 0, 0);
        while (n_answered < MODEL_MESSAGES) {
                SequenceItem *settled;

                for (unsigned i = model_random(&model, 40); i > 0 && n_sent < MODEL_MESSAGES;
                        i--, n_sent++) {
                        /* Some ids come again: retries. */
                        item_init(&items[n_sent], model_random(&model, MODEL_IDS));
                        if (sequence_enqueue(&sequence, &items[n_sent].item) < 0)
                                break;
                }
                switch (sequence_next(&sequence)) {
                case SEQUENCE_APPEND:
                        model_append(&model, &sequence);
                        break;
                case SEQUENCE_LOOK_UP:
                        model_look_up(&model, &sequence);
                        break;
                case SEQUENCE_WAIT:
                        assert_int_equal(sequence.n_queued, 0);
                }
                while ((settled = sequence_take_settled(&sequence))) {
                        Item *item = CONTAINER_OF(settled, Item, item);
                        size_t number = (size_t) (item - items);

                        assert_false(answered[number]);
                        answered[number] = true;
                        n_answered++;
                        assert_false(settled->conflict);
                        if (settled->r < 0)
                                continue;
                        n_acknowledged++;
                        assert_string_equal(model.ids[settled->seq], item->id);
                        if (settled->duplicate)
                                continue;
                        assert_false(announced[settled->seq]);
                        announced[settled->seq] = true;
                        assert_true(settled->seq > last_fresh);
                        last_fresh = settled->seq;
                }
        }
        assert_true(n_acknowledged > MODEL_MESSAGES / 2);
        assert_int_equal(sequence.last_count, model.counts[sequence.last_seq]);
        for (uint64_t seq = 1; seq <= model.last_seq; seq++)
                for (uint64_t other = seq + 1; other <= MIN(model.last_seq, seq + 200); other++)
                        assert_string_not_equal(model.ids[seq], model.ids[other]);
}

static void test_model(void **state) {
        for (uint64_t seed = 1; seed <= 10; seed++)
                run_model(seed);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_batches),
                cmocka_unit_test(test_counting),
                cmocka_unit_test(test_followers),
                cmocka_unit_test(test_duplicates_and_conflicts),
                cmocka_unit_test(test_content),
                cmocka_unit_test(test_repeats_in_the_queue),
                cmocka_unit_test(test_taken_by_nobody),
                cmocka_unit_test(test_queue_is_bounded),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_unknown_outcome),
                cmocka_unit_test(test_late_landing),
                cmocka_unit_test(test_late_landing_taken),
                cmocka_unit_test(test_unknown_for_ever),
                cmocka_unit_test(test_refused_after_unknown),
                cmocka_unit_test(test_look_up_fails),
                cmocka_unit_test(test_stale),
                cmocka_unit_test(test_shorter_log),
                cmocka_unit_test(test_stale_for_ever),
                cmocka_unit_test(test_model),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
