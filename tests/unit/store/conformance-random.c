/* SPDX-License-Identifier: Apache-2.0 */

/* Random operations by a seed, on the back end and on the model's disk, which must agree on every outcome and on
 * all that is stored. STONECHAT_TEST_SEED runs one seed again. */

#include <stdio.h>

#include "conformance-util.h"
#include "random.h"
#include "store-model.h"
#include "store/store-submit.h"

#define N_BATCHES 25U
#define MAX_BATCH 8U
#define MAX_ITEMS 5U

unsigned conformance_n_seeds = 20;

typedef union Record {
        ProtobufCMessage base;
        Sc__User user;
        Sc__Session session;
        Sc__Conversation conversation;
        Sc__ConversationHead head;
        Sc__Member member;
        Sc__InboxEntry inbox_entry;
} Record;

static const MessageInfo *const types[] = {
        &sc__user__info,
        &sc__session__info,
        &sc__conversation__info,
        &sc__conversation_head__info,
        &sc__member__info,
        &sc__inbox_entry__info,
};

static const char *const partitions[] = {"p", "#p", "q"};
static const char *const names[] = {"", "a", "A", "b", "\xc3\xa4", "it's"};

/* One item and what it points at. */
typedef struct Item {
        StoreItem item;
        Record record;
        StoreChange changes[8];
        unsigned equal[2];
        bool versioned; /* the version that is stored, else none or a wrong one */
} Item;

typedef struct Outcome {
        bool done;
        int r;
        uint64_t version_count, last_intent, last_seq;
        unsigned n_deleted;
} Outcome;

typedef enum Kind {
        WRITE,
        APPEND,
        DELETE_ENTRIES,
} Kind;

typedef struct RandomWrite {
        Kind kind;
        const char *partition;
        Item items[MAX_ITEMS]; /* the first is the guard, but of an append */
        size_t n_items, n_intents;
        uint64_t after_seq;
        Sc__Message messages[3];
        char ids[3][24];
        size_t n_messages;
        Outcome outcome[2];
} RandomWrite;

typedef struct Differential {
        Random random;
        Fixture *stores[2]; /* the back end's, and the reference */
        RandomWrite writes[MAX_BATCH];
        size_t n_writes, n_done;
        uint64_t last_seq[ELEMENTSOF(partitions)];
} Differential;

/* --- choosing --- */

static void choose_value(Random *random, const ProtobufCFieldDescriptor *field, ProtobufCMessage *record) {
        static uint8_t bytes[] = {0, 'x', 0, 0xff};
        void *member = (uint8_t *) record + field->offset;

        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING:
                *(char **) member = (char *) names[random_below(random, ELEMENTSOF(names))];
                break;
        case PROTOBUF_C_TYPE_BYTES:
                *(ProtobufCBinaryData *) member =
                        (ProtobufCBinaryData){random_below(random, sizeof(bytes) + 1), bytes};
                break;
        case PROTOBUF_C_TYPE_INT64:
                *(int64_t *) member = (int64_t) random_below(random, 7) - 3;
                break;
        case PROTOBUF_C_TYPE_UINT64:
                *(uint64_t *) member = random_below(random, 4);
                break;
        case PROTOBUF_C_TYPE_ENUM:
                *(uint32_t *) member = random_below(random, 4);
                break;
        default:
                fail_msg("field %s is of a type that the test does not know", field->name);
        }
}

static bool is_key(const RecordInfo *record, unsigned field) {
        FOREACH_ARRAY(key, record->key.fields, record->key.n_fields)
                if (*key == field)
                        return true;
        return false;
}

static bool has_unique_index(const MessageInfo *info) {
        FOREACH_ARRAY(index, info->record->indexes, info->record->n_indexes)
                if (index->unique)
                        return true;
        return false;
}

/* Any field of the type that may be changed, or must be equal. */
static unsigned choose_field(Random *random, const MessageInfo *info, bool guard) {
        for (;;) {
                unsigned field = random_below(random, info->descriptor->n_fields);
                if (is_key(info->record, field) || (int) field == info->record->version_field)
                        continue;
                if (guard || info != &sc__user__info ||
                        !streq(info->descriptor->fields[field].name, "username"))
                        return field;
        }
}

static void choose_changes(Random *random, Item *item, bool guard) {
        size_t n = 1 + random_below(random, 3);

        item->item.changes = item->changes;
        while (n-- > 0) {
                unsigned field = choose_field(random, item->item.info, guard);
                ProtobufCType type = item->item.info->descriptor->fields[field].type;
                bool integer = type == PROTOBUF_C_TYPE_INT64 || type == PROTOBUF_C_TYPE_UINT64,
                     twice = false;
                for (size_t i = 0; i < item->item.n_changes; i++)
                        twice |= item->changes[i].field == field;
                if (!twice)
                        item->changes[item->item.n_changes++] =
                                (StoreChange){field, integer ? random_below(random, 3) : STORE_SET};
        }
}

static void choose_conditions(Random *random, Item *item) {
        int version = item->item.info->record->version_field;

        if (random_percent(random, 20)) {
                item->equal[item->item.n_equal++] = choose_field(random, item->item.info, true);
                item->item.equal = item->equal;
        }
        if (version >= 0)
                item->versioned = random_percent(random, 30);
}

static void choose_item(Random *random, const char *partition, bool guard, Item *ret) {
        static const StoreVerb guards[] = {STORE_INSERT, STORE_INSERT, STORE_PATCH, STORE_DELETE},
                               followers[] = {STORE_PUT, STORE_PATCH, STORE_DELETE};
        const MessageInfo *info = types[random_below(random, ELEMENTSOF(types))];
        const RecordInfo *record = info->record;

        *ret = (Item){.item = {.info = info}};
        ret->item.record = &ret->record.base;
        protobuf_c_message_init(info->descriptor, &ret->record);
        for (unsigned i = 0; i < info->descriptor->n_fields; i++)
                if ((int) i != record->version_field)
                        choose_value(random, &info->descriptor->fields[i], &ret->record.base);
        *(const char **) ((uint8_t *) &ret->record +
                          info->descriptor->fields[record->key.fields[0]].offset) = partition;
        ret->item.verb = guard ? guards[random_below(random, ELEMENTSOF(guards))]
                               : followers[random_below(random, ELEMENTSOF(followers))];
        if (ret->item.verb == STORE_PUT && has_unique_index(info))
                ret->item.verb = STORE_DELETE;
        if (ret->item.verb == STORE_PATCH)
                choose_changes(random, ret, guard);
        if (guard && ret->item.verb != STORE_INSERT)
                choose_conditions(random, ret);
}

static bool is_same_record(const Item *a, const Item *b) {
        if (a->item.info != b->item.info)
                return false;
        FOREACH_ARRAY(key, a->item.info->record->key.fields, a->item.info->record->key.n_fields) {
                unsigned offset = a->item.info->descriptor->fields[*key].offset;
                if (!streq(*(char *const *) ((const uint8_t *) &a->record + offset),
                            *(char *const *) ((const uint8_t *) &b->record + offset)))
                        return false;
        }
        return true;
}

/* Each record once: the order of followers is nothing that is promised. */
static void choose_items(Random *random, RandomWrite *w, bool guard) {
        size_t n = guard + random_below(random, MAX_ITEMS - guard);

        while (w->n_items < n) {
                Item *item = &w->items[w->n_items];
                bool twice = false;
                choose_item(random, w->partition, guard && w->n_items == 0, item);
                for (size_t i = 0; i < w->n_items; i++)
                        twice |= is_same_record(&w->items[i], item);
                w->n_items += !twice;
        }
}

/* Ids come again now and then, but not in another conversation. */
static void choose_messages(Differential *d, RandomWrite *w, unsigned partition) {
        unsigned first = random_below(&d->random, 40);

        w->after_seq = d->last_seq[partition];
        if (random_percent(&d->random, 15))
                w->after_seq += random_below(&d->random, 3) - 1U;
        if (w->after_seq == UINT64_MAX)
                w->after_seq = 1;
        w->n_messages = 1 + random_below(&d->random, ELEMENTSOF(w->messages));
        for (size_t i = 0; i < w->n_messages; i++) {
                snprintf(w->ids[i], sizeof(w->ids[i]), "%s-%zu", w->partition, first + i);
                bool without = random_percent(&d->random, 10);
                w->messages[i] = fixture_message(w->partition, "a", without ? "" : w->ids[i], w->ids[i]);
        }
}

static void choose_batch(Differential *d) {
        unsigned partition = random_below(&d->random, ELEMENTSOF(partitions));
        bool appended = false;

        d->n_writes = 1 + random_below(&d->random, MAX_BATCH);
        FOREACH_ARRAY(w, d->writes, d->n_writes) {
                unsigned choice = random_below(&d->random, 10);
                *w = (RandomWrite){.partition = partitions[partition]};
                w->kind = choice == 0 ? DELETE_ENTRIES : choice <= 3 && !appended ? APPEND : WRITE;
                appended |= w->kind == APPEND;
                w->n_intents = random_percent(&d->random, 30) ? 1 + random_below(&d->random, 3) : 0;
                if (w->kind != DELETE_ENTRIES)
                        choose_items(&d->random, w, w->kind == WRITE);
                if (w->kind == APPEND)
                        choose_messages(d, w, partition);
        }
}

/* --- doing --- */

static void done(Outcome *outcome, int r) {
        outcome->r = r;
        outcome->done = true;
}

static void on_write(int r, const StoreWritten *written, void *userdata) {
        Outcome *outcome = userdata;

        done(outcome, r);
        outcome->version_count = store_version_count(written->version);
        outcome->last_intent = written->last_intent;
}

static void on_append(int r, const StoreAppended *appended, void *userdata) {
        Outcome *outcome = userdata;

        done(outcome, r);
        outcome->last_seq = r == -EEXIST ? 0 : appended->last_seq;
        outcome->last_intent = appended->last_intent;
        assert_true((r == -EEXIST) == (appended->n_taken > 0));
}

static void on_deleted(int r, unsigned n, void *userdata) {
        Outcome *outcome = userdata;

        done(outcome, r);
        outcome->n_deleted = n;
}

/* The guard's version is what this store has, or a wrong one. */
static void set_version(Fixture *f, Item *guard) {
        int field = guard->item.info->record->version_field;

        if (field < 0)
                return;
        uint64_t *version = (uint64_t *) ((uint8_t *) &guard->record +
                                          guard->item.info->descriptor->fields[field].offset);
        *version = 0;
        const ProtobufCMessage *stored = guard->versioned ? get(f, guard->item.info, &guard->record) : NULL;
        if (stored)
                *version = *(const uint64_t *) ((const uint8_t *) stored +
                                                guard->item.info->descriptor->fields[field].offset);
        else if (guard->versioned)
                *version = 4711;
}

static void submit(Fixture *f, RandomWrite *w, Outcome *outcome) {
        const Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        const StoreIntent intents[] = {
                make_intent("x", &request), make_intent("y", &request), make_intent("z", &request)};
        StoreItem items[MAX_ITEMS];
        Sc__Message *messages[ELEMENTSOF(w->messages)];
        int r;

        for (size_t i = 0; i < w->n_items; i++)
                items[i] = w->items[i].item;
        for (size_t i = 0; i < w->n_messages; i++)
                messages[i] = &w->messages[i];
        if (w->kind == WRITE)
                r = store_write_start(f->store,
                        &(StoreWrite){.partition = w->partition,
                                .guard = items[0],
                                .followers = items + 1,
                                .n_followers = w->n_items - 1,
                                .intents = intents,
                                .n_intents = w->n_intents},
                        on_write, outcome);
        else if (w->kind == APPEND)
                r = store_append_start(f->store,
                        &(StoreAppend){.conversation = w->partition,
                                .after_seq = w->after_seq,
                                .entries = messages,
                                .n = w->n_messages,
                                .followers = items,
                                .n_followers = w->n_items,
                                .intents = intents,
                                .n_intents = w->n_intents},
                        on_append, outcome);
        else
                r = store_submit_delete_entries(f->store, w->partition, 3, 2, on_deleted, outcome);
        assert_int_equal(r, 0);
}

static void run_batch(Differential *d, unsigned which) {
        Fixture *f = d->stores[which];

        FOREACH_ARRAY(w, d->writes, d->n_writes)
                if (w->kind == WRITE)
                        set_version(f, &w->items[0]);
        FOREACH_ARRAY(w, d->writes, d->n_writes)
                submit(f, w, &w->outcome[which]);
        FOREACH_ARRAY(w, d->writes, d->n_writes)
                fixture_wait(f, &w->outcome[which].done);
}

static bool is_stale_or_taken(int r) {
        return r == -ESTALE || r == -EEXIST;
}

static void compare_outcomes(Differential *d) {
        FOREACH_ARRAY(w, d->writes, d->n_writes) {
                const Outcome *a = &w->outcome[0], *b = &w->outcome[1];
                if (is_stale_or_taken(a->r) && is_stale_or_taken(b->r) && w->kind == APPEND)
                        continue; /* an append can be both */
                assert_int_equal(a->r, b->r);
                /* What was deleted has none. */
                if (w->kind == WRITE && w->items[0].item.verb != STORE_DELETE)
                        assert_int_equal(a->version_count, b->version_count);
                assert_int_equal(a->last_intent, b->last_intent);
                assert_int_equal(a->last_seq, b->last_seq);
                assert_int_equal(a->n_deleted, b->n_deleted);
                for (unsigned i = 0; w->kind == APPEND && b->r == 0 && i < ELEMENTSOF(partitions); i++)
                        if (partitions[i] == w->partition)
                                d->last_seq[i] = b->last_seq;
        }
}

/* --- looking --- */

/* Names of versions differ, and so do the times at which intents were stored. */
static void normalize(const MessageInfo *info, ProtobufCMessage *record) {
        int field = info->record->version_field;

        if (field >= 0) {
                uint64_t *version =
                        (uint64_t *) ((uint8_t *) record + info->descriptor->fields[field].offset);
                *version = store_version_count(*version);
        }
        if (info == &sc__intent__info)
                ((Sc__Intent *) record)->created_at = 0;
}

static void compare_records(const MessageInfo *info, ProtobufCMessage *a, ProtobufCMessage *b) {
        uint8_t packed_a[2048], packed_b[2048];

        normalize(info, a);
        normalize(info, b);
        size_t size = protobuf_c_message_get_packed_size(a);
        assert_int_equal(size, protobuf_c_message_get_packed_size(b));
        assert_true(size <= sizeof(packed_a));
        protobuf_c_message_pack(a, packed_a);
        protobuf_c_message_pack(b, packed_b);
        assert_memory_equal(packed_a, packed_b, size);
}

static void compare_read(Differential *d, const StoreRead *read) {
        const StoreRows *a = read_rows(d->stores[0], read), *b = read_rows(d->stores[1], read);

        assert_int_equal(a->n, b->n);
        assert_int_equal(a->more, b->more);
        for (size_t i = 0; i < a->n; i++)
                compare_records(read->info, a->records[i], b->records[i]);
}

static void compare_tables(Differential *d) {
        static const MessageInfo *const others[] = {
                &sc__message__info, &sc__intent__info, &sc__intent_counter__info};

        FOREACH_ARRAY(info, types, ELEMENTSOF(types))
                compare_read(d, &(StoreRead){.info = *info, .limit = 10000});
        FOREACH_ARRAY(info, others, ELEMENTSOF(others))
                compare_read(d, &(StoreRead){.info = *info, .limit = 10000});
}

/* By a key, or an index that has no ties. */
static void compare_random_read(Differential *d) {
        Random *random = &d->random;
        Item from, to;

        choose_item(random, partitions[random_below(random, ELEMENTSOF(partitions))], true, &from);
        do
                choose_item(random, partitions[random_below(random, ELEMENTSOF(partitions))], true, &to);
        while (to.item.info != from.item.info);
        const MessageInfo *info = from.item.info;
        const IndexInfo *index = &info->record->key;
        if (info->record->n_indexes > 0 && info->record->indexes[0].unique && random_percent(random, 50))
                index = &info->record->indexes[0];
        unsigned n_prefix = random_below(random, index->n_fields + 1);
        bool bounded = n_prefix < index->n_fields;
        const StoreRead read = {
                .info = info,
                .index = index,
                .from = &from.record.base,
                .to = &to.record.base,
                .n_prefix = n_prefix,
                .after = bounded && random_percent(random, 50),
                .before = bounded && random_percent(random, 50),
                .descending = random_percent(random, 50),
                .limit = random_below(random, 6),
        };
        compare_read(d, &read);
}

/* --- seeds --- */

static void run_seed(uint64_t seed, Fixture *f) {
        _cleanup_(model_freep) Model *model = model_new(seed);
        const FixtureConfig config = fixture_config;
        Fixture reference = {.event = f->event};
        Differential d = {.random = {seed}, .stores = {f, &reference}};
        StoreConfig reference_config = config(f);

        model_use(model, "reference");
        reference_config.kind = "reference";
        arena_init(&reference.arena, SIZE_MAX);
        assert_int_equal(store_open(&reference.store, f->event, &reference_config), 0);
        for (unsigned i = 0; i < N_BATCHES; i++) {
                choose_batch(&d);
                run_batch(&d, 0);
                run_batch(&d, 1);
                compare_outcomes(&d);
                compare_tables(&d);
                for (unsigned k = 0; k < 10; k++)
                        compare_random_read(&d);
                if (random_percent(&d.random, 5)) {
                        fixture_close(f);
                        assert_int_equal(fixture_open(f, NULL), 0);
                }
        }
        store_close(reference.store);
        arena_done(&reference.arena);
}

static uint64_t current_seed;

static int tell_seed(void **state) {
        if (current_seed > 0)
                print_message(
                        "STONECHAT_TEST_SEED=%lu runs the last seed again\n", (unsigned long) current_seed);
        return 0;
}

static void test_random_operations(void **state) {
        uint64_t end;

        random_seeds("STONECHAT_TEST_SEED", conformance_n_seeds, &current_seed, &end);
        for (; current_seed < end; current_seed++) {
                Fixture f;
                fixture_new(&f);
                assert_int_equal(fixture_open(&f, NULL), 0);
                run_seed(current_seed, &f);
                fixture_done(&f);
        }
        current_seed = 0;
}

int conformance_run_random(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_random_operations, tell_seed),
        };
        return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
