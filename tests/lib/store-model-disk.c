/* SPDX-License-Identifier: Apache-2.0 */
#include "store-model-disk.h"

#include "schema-tables.h"
#include "util/string-util.h"

#define MAX_TABLES 32U
#define MAX_FINDINGS 100U

/* A row is one allocation: the values, and behind them their data. */
typedef struct Table {
        const MessageInfo *info;
        Value **rows; /* by key */
        size_t n, allocated;
} Table;

struct Disk {
        bool sees_other_conversations, prefers_taken;
        Table tables[MAX_TABLES];
        size_t n_tables;
};

Disk *disk_new(bool sees_other_conversations, bool prefers_taken) {
        Disk *disk = new0(Disk, 1);

        assert_se(disk);
        disk->sees_other_conversations = sees_other_conversations;
        disk->prefers_taken = prefers_taken;
        return disk;
}

Disk *disk_free(Disk *disk) {
        if (!disk)
                return NULL;
        FOREACH_ARRAY(table, disk->tables, disk->n_tables) {
                FOREACH_ARRAY(row, table->rows, table->n)
                        free(*row);
                free(table->rows);
        }
        free(disk);
        return NULL;
}

static Table *get_table(Disk *disk, const MessageInfo *info) {
        FOREACH_ARRAY(table, disk->tables, disk->n_tables)
                if (table->info == info)
                        return table;
        assert_se(disk->n_tables < MAX_TABLES);
        Table *table = &disk->tables[disk->n_tables++];
        table->info = info;
        return table;
}

static int compare_bytes(const Value *a, const Value *b) {
        size_t n = MIN(a->size, b->size);
        int r = n > 0 ? memcmp(a->blob, b->blob, n) : 0;

        return r != 0 ? r : (a->size > b->size) - (a->size < b->size);
}

static int compare_values(const Value *a, const Value *b) {
        if (a->type != b->type)
                return (int) a->type - (int) b->type;
        switch (a->type) {
        case VALUE_NULL:
                return 0;
        case VALUE_INTEGER:
                return (a->integer > b->integer) - (a->integer < b->integer);
        case VALUE_REAL:
                return (a->real > b->real) - (a->real < b->real);
        case VALUE_TEXT:
        case VALUE_BLOB:
                return compare_bytes(a, b);
        }
        return 0;
}

static int compare_fields(const unsigned *fields, unsigned n, const Value *a, const Value *b) {
        for (unsigned i = 0; i < n; i++) {
                int r = compare_values(&a[fields[i]], &b[fields[i]]);
                if (r != 0)
                        return r;
        }
        return 0;
}

static size_t data_size(const Value *value) {
        return value->type == VALUE_TEXT ? value->size + 1U : value->type == VALUE_BLOB ? value->size : 0;
}

static Value *copy_row(const MessageInfo *info, const Value *values) {
        size_t n = record_n_fields(info), size = n * sizeof(Value);

        for (size_t i = 0; i < n; i++)
                size += data_size(&values[i]);
        Value *row = malloc(size);
        assert_se(row);
        uint8_t *data = (uint8_t *) (row + n);
        for (size_t i = 0; i < n; i++) {
                row[i] = values[i];
                if (data_size(&values[i]) > 0)
                        row[i].blob = memcpy(data, values[i].blob, data_size(&values[i]));
                data += data_size(&values[i]);
        }
        return row;
}

/* Where the first row is whose leading n fields of the key are not less than these. */
static size_t lower_bound(const Table *table, const Value *values, unsigned n) {
        const unsigned *fields = table->info->record->key.fields;
        size_t low = 0, high = table->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (compare_fields(fields, n, table->rows[middle], values) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static Value **find_row(const Table *table, const Value *values) {
        const IndexInfo *key = &table->info->record->key;
        size_t at = lower_bound(table, values, key->n_fields);

        if (at == table->n || compare_fields(key->fields, key->n_fields, table->rows[at], values) != 0)
                return NULL;
        return &table->rows[at];
}

static void replace_row(const Table *table, Value **row, const Value *values) {
        Value *copy = copy_row(table->info, values);

        free(*row);
        *row = copy;
}

static void add_row(Table *table, const Value *values) {
        size_t at = lower_bound(table, values, table->info->record->key.n_fields);

        if (table->n == table->allocated) {
                table->allocated = MAX(table->allocated * 2, 16U);
                table->rows = realloc(table->rows, table->allocated * sizeof(Value *));
                assert_se(table->rows);
        }
        memmove(table->rows + at + 1, table->rows + at, (table->n++ - at) * sizeof(Value *));
        table->rows[at] = copy_row(table->info, values);
}

static void remove_row(Table *table, Value **row) {
        size_t at = (size_t) (row - table->rows);

        free(*row);
        memmove(row, row + 1, (--table->n - at) * sizeof(Value *));
}

static bool is_outside(const MessageInfo *info, const IndexInfo *index, const Value *values) {
        return record_index_is_partial(info, index) && values[index->fields[0]].size == 0;
}

/* Does another row than `except` have these values in a unique index? */
static bool is_taken(const Table *table, const Value *values, const Value *except) {
        FOREACH_ARRAY(index, table->info->record->indexes, table->info->record->n_indexes) {
                if (!index->unique || is_outside(table->info, index, values))
                        continue;
                FOREACH_ARRAY(row, table->rows, table->n)
                        if (*row != except &&
                                compare_fields(index->fields, index->n_fields, *row, values) == 0)
                                return true;
        }
        return false;
}

/* --- writes --- */

/* The values become those of a write of this name, on top of the stored ones, which may be NULL. */
static uint64_t set_version(const MessageInfo *info, Value *values, const Value *stored, uint32_t name) {
        int field = info->record->version_field;

        if (field < 0)
                return 0;
        uint64_t version = OPERATION_VERSION(stored ? stored[field].integer : 0, name);
        values[field] = (Value){.type = VALUE_INTEGER, .integer = (int64_t) version};
        return version;
}

static void change_field(Value *value, StoreChangeKind kind, const Value *by) {
        if (kind == STORE_SET)
                *value = *by;
        else if (kind == STORE_INCREMENT)
                value->integer = (int64_t) ((uint64_t) value->integer + (uint64_t) by->integer);
        else
                value->integer = MAX(value->integer, by->integer);
}

/* A copy of the stored row with the changes; the data is still the row's or the item's. */
static Value *patched(const WriteItem *item, const Value *row, uint32_t name, uint64_t *ret_version) {
        size_t n = record_n_fields(item->info);
        Value *values = new0(Value, n);

        assert_se(values);
        memcpy(values, row, n * sizeof(Value));
        FOREACH_ARRAY(change, item->changes, item->n_changes)
                change_field(&values[change->field], change->kind, &item->values[change->field]);
        *ret_version = set_version(item->info, values, row, name);
        return values;
}

static int patch_row(
        Table *table, const WriteItem *item, Value **row, uint32_t name, uint64_t *ret_version) {
        _cleanup_free_ Value *values = patched(item, *row, name, ret_version);

        if (is_taken(table, values, *row))
                return -EEXIST;
        replace_row(table, row, values);
        return 0;
}

static uint64_t put_row(Table *table, const WriteItem *item, Value **row, uint32_t name) {
        uint64_t version = set_version(item->info, item->values, row ? *row : NULL, name);

        if (row)
                replace_row(table, row, item->values);
        else
                add_row(table, item->values);
        return version;
}

static bool conditions_hold(const WriteItem *item, const Value *row) {
        FOREACH_ARRAY(field, item->equal, item->n_equal)
                if (compare_values(&item->values[*field], &row[*field]) != 0)
                        return false;
        return true;
}

static int write_guard(Disk *disk, const WriteItem *item, uint32_t name, uint64_t *ret_version) {
        Table *table = get_table(disk, item->info);
        Value **row = find_row(table, item->values);

        *ret_version = 0;
        if (item->verb == STORE_INSERT && (row || is_taken(table, item->values, NULL)))
                return -EEXIST;
        if (item->verb == STORE_INSERT || item->verb == STORE_PUT) {
                *ret_version = put_row(table, item, row, name);
                return 0;
        }
        if (!row)
                return -ENOENT;
        if (!conditions_hold(item, *row))
                return -ESTALE;
        if (item->verb == STORE_PATCH)
                return patch_row(table, item, row, name, ret_version);
        remove_row(table, row);
        return 0;
}

static void write_follower(Disk *disk, const WriteItem *item, uint32_t name) {
        Table *table = get_table(disk, item->info);
        Value **row = find_row(table, item->values);
        uint64_t version;

        if (item->verb == STORE_PUT)
                put_row(table, item, row, name);
        else if (row && item->verb == STORE_PATCH)
                assert_se(patch_row(table, item, row, name, &version) == 0);
        else if (row)
                remove_row(table, row);
}

static Value integer(uint64_t n) {
        return (Value){.type = VALUE_INTEGER, .integer = (int64_t) n};
}

static void write_intents(Disk *disk, Extras *extras) {
        static const MessageInfo *const counter_info = &sc__intent_counter__info, *const info =
                                                                                          &sc__intent__info;
        unsigned counter_source = store_field(counter_info, "source"),
                 counter_number = store_field(counter_info, "number"), source = store_field(info, "source"),
                 number = store_field(info, "number");
        Value counter[8] = {};

        if (extras->n_intents == 0)
                return;
        counter[counter_source] = extras->intents[source];
        Table *counters = get_table(disk, counter_info);
        Value **row = find_row(counters, counter);
        uint64_t last = row ? (uint64_t) (*row)[counter_number].integer : 0;
        for (size_t i = 0; i < extras->n_intents; i++) {
                Value *values = extras->intents + i * record_n_fields(info);
                values[number] = integer(++last);
                add_row(get_table(disk, info), values);
        }
        counter[counter_number] = integer(last);
        if (row)
                replace_row(counters, row, counter);
        else
                add_row(counters, counter);
        extras->last_intent = last;
}

static void write_extras(Disk *disk, Extras *extras, uint32_t name) {
        FOREACH_ARRAY(item, extras->followers, extras->n_followers)
                write_follower(disk, item, name);
        write_intents(disk, extras);
}

/* --- the log of a conversation --- */

/* The rows of a conversation are one range of the table; *ret_end is behind it. */
static size_t find_entries(const Table *table, const char *conversation, size_t *ret_end) {
        unsigned field = table->info->record->key.fields[0];
        Value *values = new0(Value, record_n_fields(table->info));

        assert_se(values);
        values[field] =
                (Value){.type = VALUE_TEXT, .size = (uint32_t) strlen(conversation), .text = conversation};
        size_t begin = lower_bound(table, values, 1), end = begin;
        while (end < table->n && compare_values(&table->rows[end][field], &values[field]) == 0)
                end++;
        free(values);
        *ret_end = end;
        return begin;
}

static uint64_t entry_seq(const Table *table, size_t at) {
        return (uint64_t) table->rows[at][table->info->record->key.fields[1]].integer;
}

static uint64_t find_last_seq(const Table *table, const char *conversation) {
        size_t end, begin = find_entries(table, conversation, &end);

        return begin == end ? 0 : entry_seq(table, end - 1);
}

static bool has_same_id(const Disk *disk, const MessageInfo *info, const Value *a, const Value *b) {
        const unsigned fields[] = {store_field(info, "client_msg_id"), store_field(info, "sender"),
                store_field(info, "conversation")};

        return a[fields[0]].size > 0 &&
               compare_fields(fields, disk->sees_other_conversations ? 2 : 3, a, b) == 0;
}

/* How many stored entries have the id of one that is to be appended; they are the outcome. */
static size_t find_taken(Disk *disk, const Table *table, Operation *o) {
        size_t n_fields = record_n_fields(table->info);

        o->append.taken = arena_new(&o->arena, Sc__Message *, o->append.n);
        assert_se(o->append.taken);
        for (size_t i = 0; i < o->append.n; i++)
                FOREACH_ARRAY(row, table->rows, table->n) {
                        ProtobufCMessage *message;
                        if (!has_same_id(disk, table->info, o->append.values + i * n_fields, *row))
                                continue;
                        assert_se(record_from_values(table->info, *row, &o->arena, &message) == 0);
                        o->append.taken[o->append.n_taken++] = (Sc__Message *) message;
                        break;
                }
        return o->append.n_taken;
}

static int append_entries(Disk *disk, Operation *o) {
        Table *table = get_table(disk, o->append.info);

        o->append.last_seq = find_last_seq(table, o->partition);
        bool stale = o->append.last_seq != o->append.after_seq;
        if ((!stale || disk->prefers_taken) && find_taken(disk, table, o) > 0)
                return -EEXIST;
        if (stale)
                return -ESTALE;
        for (size_t i = 0; i < o->append.n; i++) {
                Value *values = o->append.values + i * record_n_fields(table->info);
                set_version(table->info, values, NULL, o->name);
                add_row(table, values);
        }
        o->append.last_seq += o->append.n;
        write_extras(disk, &o->append.extras, o->name);
        return 0;
}

static void delete_entries(Disk *disk, Operation *o) {
        Table *table = get_table(disk, o->delete_entries.info);
        size_t end, begin = find_entries(table, o->partition, &end);

        for (; begin + 1 < end && o->delete_entries.n_deleted < o->delete_entries.limit &&
                entry_seq(table, begin) <= o->delete_entries.last_seq;
                end--) {
                remove_row(table, &table->rows[begin]);
                o->delete_entries.n_deleted++;
        }
}

void disk_write(Disk *disk, Operation *o) {
        if (o->kind == OPERATION_APPEND)
                o->r = append_entries(disk, o);
        else if (o->kind == OPERATION_DELETE_ENTRIES)
                delete_entries(disk, o);
        else {
                o->r = write_guard(disk, &o->write.guard, o->name, &o->write.version);
                if (o->r == 0)
                        write_extras(disk, &o->write.extras, o->name);
        }
}

/* --- reads --- */

typedef struct Found {
        const Value *row;
        uint64_t tie;
} Found;

static int compare_found(const void *a, const void *b, void *userdata) {
        const ReadItem *item = userdata;
        const Found *x = a, *y = b;
        int r = compare_fields(item->index->fields, item->index->n_fields, x->row, y->row);

        if (r != 0)
                return item->descending ? -r : r;
        return (x->tie > y->tie) - (x->tie < y->tie);
}

static bool is_wanted(const ReadItem *item, const Value *row) {
        const unsigned *fields = item->index->fields;

        if (item->index->name && is_outside(item->info, item->index, row))
                return false;
        if (item->n_prefix > 0 && compare_fields(fields, item->n_prefix, row, item->from) != 0)
                return false;
        if (item->after && compare_fields(fields + item->n_prefix, 1, row, item->from) <= 0)
                return false;
        return !item->before || compare_fields(fields + item->n_prefix, 1, row, item->to) < 0;
}

static size_t row_size(const MessageInfo *info, const Value *row) {
        size_t size = info->descriptor->sizeof_message;

        for (size_t i = 0; i < record_n_fields(info); i++)
                size += data_size(&row[i]);
        return size;
}

static int take_rows(const ReadItem *item, const Found *found, size_t n, Arena *arena, StoreRows *ret) {
        size_t size = 0;

        *ret = (StoreRows){.records = arena_new(arena, ProtobufCMessage *, n + 1)};
        if (!ret->records)
                return -ENOMEM;
        FOREACH_ARRAY(f, found, n) {
                size += row_size(item->info, f->row);
                if (ret->n == item->limit || (ret->n > 0 && size > item->max_bytes)) {
                        ret->more = true;
                        return 0;
                }
                int r = record_from_values(item->info, f->row, arena, &ret->records[ret->n++]);
                if (r < 0)
                        return r;
        }
        return 0;
}

int disk_read(Disk *disk, const ReadItem *item, Random *random, Arena *arena, StoreRows *ret) {
        const Table *table = get_table(disk, item->info);
        _cleanup_free_ Found *found = new0(Found, table->n + 1);
        size_t n = 0;

        assert_se(found);
        FOREACH_ARRAY(row, table->rows, table->n)
                if (is_wanted(item, *row))
                        found[n++] = (Found){*row, random_next(random)};
        qsort_r(found, n, sizeof(Found), compare_found, (void *) item);
        return take_rows(item, found, n, arena, ret);
}

void disk_check(Disk *disk, Operation *o) {
        const Table *table = get_table(disk, &sc__message__info);
        const unsigned *fields = table->info->record->key.fields;
        size_t n = 0;

        o->check.pages = disk->n_tables;
        o->check.findings = arena_new(&o->arena, const char *, MAX_FINDINGS + 1);
        assert_se(o->check.findings);
        for (size_t i = 1; i < table->n && n < MAX_FINDINGS; i++) {
                if (compare_fields(fields, 1, table->rows[i - 1], table->rows[i]) != 0 ||
                        entry_seq(table, i - 1) + 1 == entry_seq(table, i))
                        continue;
                o->check.findings[n] = arena_printf(&o->arena, "conversation %s has a gap behind %lu",
                        table->rows[i][fields[0]].text, (unsigned long) entry_seq(table, i - 1));
                assert_se(o->check.findings[n++]);
        }
}
