/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "group/sequence.h"
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
        snprintf(item->id, sizeof item->id, "m%u", number);
        item->message.sender = (char *) "ada";
        item->message.client_msg_id = item->id;
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
        assert_int_equal(settled->appended.seq, seq);
}

static void assert_none_settled(Sequence *sequence) {
        assert_null(sequence_take_settled(sequence));
}

static void test_batches(void **state) {
        static Item items[100];
        StoreAppended results[SEQUENCE_MAX_BATCH];
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        Sequence sequence;

        sequence_init(&sequence, 7);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_WAIT);
        enqueue(&sequence, items, 100);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_WAIT); /* one in flight */
        assert_int_equal(sequence_batch(&sequence, batch), SEQUENCE_MAX_BATCH);
        assert_ptr_equal(batch[0], &items[0].message);
        assert_ptr_equal(batch[63], &items[63].message);
        for (unsigned i = 0; i < SEQUENCE_MAX_BATCH; i++)
                results[i] = (StoreAppended){.seq = 8 + i, .created_at = i};
        sequence_appended(&sequence, 0, results, SEQUENCE_MAX_BATCH, 71);
        for (unsigned i = 0; i < SEQUENCE_MAX_BATCH; i++)
                assert_settled(&sequence, &items[i], 0, 8 + i);
        assert_none_settled(&sequence);
        assert_int_equal(sequence.last_seq, 71);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence_batch(&sequence, batch), 36);
        assert_ptr_equal(batch[0], &items[64].message);
}

static void test_duplicates_and_conflicts(void **state) {
        const StoreAppended results[] = {
                {.seq = 3, .created_at = 30, .duplicate = true},
                {.seq = 6, .created_at = 60},
                {.conflict = true},
        };
        Sequence sequence;
        Item items[3];

        sequence_init(&sequence, 5);
        enqueue(&sequence, items, 3);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        sequence_appended(&sequence, 0, results, 3, 6);
        assert_settled(&sequence, &items[0], 0, 3);
        assert_true(items[0].item.appended.duplicate);
        assert_int_equal(items[0].item.appended.created_at, 30);
        assert_settled(&sequence, &items[1], 0, 6);
        assert_false(items[1].item.appended.duplicate);
        assert_settled(&sequence, &items[2], 0, 0);
        assert_true(items[2].item.appended.conflict);
}

static void test_queue_is_bounded(void **state) {
        static Item items[SEQUENCE_MAX_QUEUED + 1];
        Sequence sequence;

        sequence_init(&sequence, 0);
        enqueue(&sequence, items, SEQUENCE_MAX_QUEUED);
        item_init(&items[SEQUENCE_MAX_QUEUED], SEQUENCE_MAX_QUEUED);
        assert_int_equal(sequence_enqueue(&sequence, &items[SEQUENCE_MAX_QUEUED].item), -ENOBUFS);
}

static void test_refused(void **state) {
        static const int refusals[] = {-EBUSY, -ENOMEM, -ECANCELED};

        FOREACH_ARRAY(r, refusals, ELEMENTSOF(refusals)) {
                Sequence sequence;
                Item items[2];

                sequence_init(&sequence, 5);
                enqueue(&sequence, items, 2);
                assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
                sequence_appended(&sequence, *r, NULL, 0, 0);
                assert_settled(&sequence, &items[0], *r, 0);
                assert_settled(&sequence, &items[1], *r, 0);
                /* Nothing is in doubt. */
                assert_int_equal(sequence.last_seq, 5);
                enqueue(&sequence, items, 1);
                assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        }
}

static Sc__Message stored(const Item *item, uint64_t seq) {
        Sc__Message message = item->message;

        message.seq = seq;
        message.created_at = (int64_t) seq * 10;
        return message;
}

/* A failure leaves open what was stored: nobody hears anything before it was looked up. */
static void test_unknown_outcome(void **state) {
        Item items[3], later;
        Sequence sequence;

        sequence_init(&sequence, 5);
        enqueue(&sequence, items, 3);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        item_init(&later, 9);
        assert_int_equal(sequence_enqueue(&sequence, &later.item), 0);
        sequence_appended(&sequence, -EIO, NULL, 0, 0);
        assert_none_settled(&sequence);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_WAIT);

        Sc__Message found[] = {stored(&items[0], 6), stored(&items[1], 7)};
        sequence_looked_up(&sequence, 0, (Sc__Message *[]){&found[0], &found[1]}, 2, false);
        assert_settled(&sequence, &items[0], 0, 6);
        assert_true(items[0].item.looked_up);
        assert_int_equal(items[0].item.appended.created_at, 60);
        assert_settled(&sequence, &items[1], 0, 7);
        assert_settled(&sequence, &items[2], -EIO, 0);
        assert_none_settled(&sequence);

        assert_int_equal(sequence.last_seq, 7);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        sequence_appended(&sequence, 0, &(StoreAppended){.seq = 8}, 1, 8);
        assert_settled(&sequence, &later, 0, 8);
}

/* The look-up fails too: those who wait fail, and the doubt stays for whoever comes next. */
static void test_look_up_fails(void **state) {
        Item items[2], later;
        Sequence sequence;

        sequence_init(&sequence, 5);
        enqueue(&sequence, items, 2);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        sequence_appended(&sequence, -ENOSPC, NULL, 0, 0);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        sequence_looked_up(&sequence, -EIO, NULL, 0, false);
        assert_settled(&sequence, &items[0], -ENOSPC, 0);
        assert_settled(&sequence, &items[1], -ENOSPC, 0);
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

        sequence_init(&sequence, 5);
        enqueue(&sequence, items, 2);
        item_init(&other, 77);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        sequence_appended(&sequence, -ESTALE, NULL, 0, 6);
        assert_none_settled(&sequence);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_LOOK_UP);
        Sc__Message found = stored(&other, 6);
        sequence_looked_up(&sequence, 0, (Sc__Message *[]){&found}, 1, false);
        assert_none_settled(&sequence);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        assert_int_equal(sequence.last_seq, 6);
        sequence_appended(&sequence, 0, (StoreAppended[]){{.seq = 7}, {.seq = 8}}, 2, 8);
        assert_settled(&sequence, &items[0], 0, 7);
        assert_settled(&sequence, &items[1], 0, 8);
}

/* A store that answers -ESTALE for ever ends in an error, not in a loop. */
static void test_stale_for_ever(void **state) {
        Sequence sequence;
        unsigned n = 0;
        Item item;

        sequence_init(&sequence, 5);
        enqueue(&sequence, &item, 1);
        for (;;) {
                SequenceAction action = sequence_next(&sequence);
                assert_true(++n < 100);
                if (action == SEQUENCE_WAIT)
                        break;
                if (action == SEQUENCE_APPEND)
                        sequence_appended(&sequence, -ESTALE, NULL, 0, 4 + n % 2);
                else
                        sequence_looked_up(&sequence, 0, NULL, 0, false);
        }
        assert_settled(&sequence, &item, -ESTALE, 0);
}

static void test_too_few_results(void **state) {
        Sequence sequence;
        Item items[2];

        sequence_init(&sequence, 0);
        enqueue(&sequence, items, 2);
        assert_int_equal(sequence_next(&sequence), SEQUENCE_APPEND);
        sequence_appended(&sequence, 0, &(StoreAppended){.seq = 1}, 1, 1);
        assert_settled(&sequence, &items[0], 0, 1);
        assert_settled(&sequence, &items[1], -EIO, 0);
}

/* --- randomised against a model of the store --- */

#define MODEL_MESSAGES 4000U
#define MODEL_IDS 3000U

/* What is stored: of each seq the id. It fails now and then, before or after it has stored, and sometimes
 * somebody else stores beside us. */
typedef struct Model {
        char ids[MODEL_MESSAGES * 4][32];
        uint64_t last_seq;
        unsigned n_foreign;
        uint64_t random;
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

static void model_foreign(Model *model) {
        model->last_seq++;
        snprintf(model->ids[model->last_seq], sizeof model->ids[0], "foreign%u", model->n_foreign++);
}

static size_t model_store(Model *model, Sc__Message *const *batch, size_t n, StoreAppended *results) {
        for (size_t i = 0; i < n; i++) {
                uint64_t seq = model_find(model, batch[i]->client_msg_id);

                results[i] = (StoreAppended){.seq = seq, .duplicate = seq > 0};
                if (seq == 0) {
                        results[i].seq = ++model->last_seq;
                        snprintf(model->ids[model->last_seq], sizeof model->ids[0], "%s",
                                batch[i]->client_msg_id);
                }
        }
        return n;
}

static void model_append(Model *model, Sequence *sequence) {
        StoreAppended results[SEQUENCE_MAX_BATCH];
        Sc__Message *batch[SEQUENCE_MAX_BATCH];
        size_t n = sequence_batch(sequence, batch);

        if (model_random(model, 20) == 0)
                model_foreign(model);
        if (sequence->last_seq != model->last_seq) {
                sequence_appended(sequence, -ESTALE, NULL, 0, model->last_seq);
                return;
        }
        switch (model_random(model, 12)) {
        case 0: /* failed, nothing stored */
                sequence_appended(sequence, -ENOSPC, NULL, 0, 0);
                break;
        case 1: /* failed, yet stored */
                model_store(model, batch, n, results);
                sequence_appended(sequence, -EIO, NULL, 0, 0);
                break;
        case 2:
                sequence_appended(sequence, -EBUSY, NULL, 0, 0);
                break;
        default:
                model_store(model, batch, n, results);
                sequence_appended(sequence, 0, results, n, model->last_seq);
        }
}

static void model_look_up(Model *model, Sequence *sequence) {
        Sc__Message found[SEQUENCE_LOOK_UP_LIMIT], *pointers[SEQUENCE_LOOK_UP_LIMIT];
        uint64_t first = sequence->last_seq + 1;
        size_t n = 0;

        if (model_random(model, 5) == 0) {
                sequence_looked_up(sequence, -EIO, NULL, 0, false);
                return;
        }
        /* Pages may be cut short anywhere. */
        size_t limit = 1 + model_random(model, SEQUENCE_LOOK_UP_LIMIT);
        for (; n < limit && first + n <= model->last_seq; n++) {
                found[n] = (Sc__Message) SC__MESSAGE__INIT;
                found[n].seq = first + n;
                found[n].client_msg_id = model->ids[first + n];
                found[n].sender = (char *) (startswith(found[n].client_msg_id, "foreign") ? "eve" : "ada");
                pointers[n] = &found[n];
        }
        sequence_looked_up(sequence, 0, pointers, n, first + n <= model->last_seq);
}

/* Everybody is answered once; who is acknowledged is stored at that place; who is told of a new message is
 * told once; and nothing that was stored has a gap, as the model would have answered -ESTALE. */
static void run_model(uint64_t seed) {
        static Model model;
        static Item items[MODEL_MESSAGES];
        static bool answered[MODEL_MESSAGES], announced[MODEL_MESSAGES * 4];
        unsigned n_sent = 0, n_answered = 0;
        Sequence sequence;

        model = (Model){.random = seed};
        memset(answered, 0, sizeof answered);
        memset(announced, 0, sizeof announced);
        sequence_init(&sequence, 0);
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
                        if (settled->r < 0)
                                continue;
                        assert_string_equal(model.ids[settled->appended.seq], item->id);
                        if (!settled->appended.duplicate) {
                                assert_false(announced[settled->appended.seq]);
                                announced[settled->appended.seq] = true;
                        }
                }
        }
        for (uint64_t seq = 1; seq <= model.last_seq; seq++)
                for (uint64_t other = seq + 1; other <= MIN(model.last_seq, seq + 200); other++)
                        assert_string_not_equal(model.ids[seq], model.ids[other]);
}

static void test_model(void **state) {
        for (uint64_t seed = 1; seed <= 5; seed++)
                run_model(seed);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_batches),
                cmocka_unit_test(test_duplicates_and_conflicts),
                cmocka_unit_test(test_queue_is_bounded),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_unknown_outcome),
                cmocka_unit_test(test_look_up_fails),
                cmocka_unit_test(test_stale),
                cmocka_unit_test(test_stale_for_ever),
                cmocka_unit_test(test_too_few_results),
                cmocka_unit_test(test_model),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
