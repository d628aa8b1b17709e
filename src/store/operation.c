/* SPDX-License-Identifier: Apache-2.0 */
#include "store/operation.h"

#include "schema-tables.h"
#include "store/operation-check.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* What a read may return when its max_bytes is 0. */
#define READ_MAX_BYTES_DEFAULT (1024U * 1024U)

/* --- the memory behind an operation --- */

/* How much of it: structs first, then values, numbers and the bytes of strings, each aligned as it needs. */
typedef struct Space {
        size_t head; /* bytes of structs, a multiple of their alignment */
        size_t n_values, n_numbers, n_bytes;
} Space;

/* Where the next of each goes. */
typedef struct Room {
        void *head;
        Value *values;
        unsigned *numbers;
        uint8_t *bytes;
} Room;

static_assert(alignof(StoreChange) == alignof(unsigned) && sizeof(StoreChange) % sizeof(unsigned) == 0,
        "changes are stored among the numbers");
#define NUMBERS_PER_CHANGE (sizeof(StoreChange) / sizeof(unsigned))

static Operation *operation_new(OperationKind kind, const Space *space, Room *ret_room) {
        Operation *operation = malloc(sizeof(Operation) + space->head + space->n_values * sizeof(Value) +
                                      space->n_numbers * sizeof(unsigned) + space->n_bytes);
        if (!operation)
                return NULL;
        *operation = (Operation){.kind = kind};
        arena_init(&operation->arena, SIZE_MAX);
        ret_room->head = operation + 1;
        ret_room->values = (Value *) ((uint8_t *) ret_room->head + space->head);
        ret_room->numbers = (unsigned *) (ret_room->values + space->n_values);
        ret_room->bytes = (uint8_t *) (ret_room->numbers + space->n_numbers);
        return operation;
}

static void add_record_space(Space *space, const MessageInfo *info, const ProtobufCMessage *record) {
        space->n_values += record_n_fields(info);
        space->n_bytes += record_data_size(info, record);
}

static Value *copy_record(Room *room, const MessageInfo *info, const ProtobufCMessage *record) {
        Value *values = room->values;

        room->values += record_n_fields(info);
        record_to_values(info, record, values, &room->bytes);
        return values;
}

static const char *copy_string(Room *room, const char *s) {
        size_t size = strlen(s) + 1;
        char *copy = memcpy(room->bytes, s, size);

        room->bytes += size;
        return copy;
}

static uint32_t new_name(void) {
        uint32_t name;

        unique_bytes(&name, sizeof(name));
        return name & OPERATION_NAME_MASK;
}

uint64_t store_version_next(uint64_t version) {
        return OPERATION_VERSION(version, new_name());
}

/* --- guards, followers, intents --- */

static void add_item_space(Space *space, const StoreItem *item) {
        add_record_space(space, item->info, item->record);
        space->n_numbers += item->n_changes * NUMBERS_PER_CHANGE + item->n_equal + 1;
}

/* With the version's field, if one must be stored. */
static void copy_conditions(Room *room, const StoreItem *item, bool guard, WriteItem *ret) {
        int version = item->info->record->version_field;
        bool conditional = guard && (item->verb == STORE_PATCH || item->verb == STORE_DELETE);

        ret->equal = room->numbers;
        FOREACH_ARRAY(field, item->equal, item->n_equal)
                *room->numbers++ = *field;
        if (conditional && version >= 0 && ret->values[version].integer != 0)
                *room->numbers++ = (unsigned) version;
        ret->n_equal = (size_t) (room->numbers - ret->equal);
}

static void copy_item(Room *room, const StoreItem *item, bool guard, uint32_t name, WriteItem *ret) {
        int version = item->info->record->version_field;

        *ret = (WriteItem){
                .verb = item->verb,
                .info = item->info,
                .values = copy_record(room, item->info, item->record),
                .changes = (StoreChange *) room->numbers,
                .n_changes = item->n_changes,
        };
        if (item->n_changes > 0)
                memcpy(room->numbers, item->changes, item->n_changes * sizeof(StoreChange));
        room->numbers += item->n_changes * NUMBERS_PER_CHANGE;
        copy_conditions(room, item, guard, ret);
        if (version >= 0 && (item->verb == STORE_INSERT || item->verb == STORE_PUT))
                ret->values[version] =
                        (Value){.type = VALUE_INTEGER, .integer = (int64_t) OPERATION_VERSION(0, name)};
}

/* All but the request, which is packed in its place later. */
static Sc__Intent intent_record(const StoreIntent *intent, const char *source) {
        Sc__Intent record = SC__INTENT__INIT;

        record.source = (char *) source;
        record.shard = shard_of(source, SHARDS_DEFAULT);
        record.target = (char *) intent->target;
        record.method = (char *) intent->method->name;
        record.created_at = unix_msec();
        if (intent->trace) {
                record.trace_id = (ProtobufCBinaryData){
                        .len = sizeof(intent->trace->id), .data = (uint8_t *) intent->trace->id};
                record.trace_parent = intent->trace->parent;
                record.trace_sampled = intent->trace->sampled;
        }
        return record;
}

static void add_intent_space(Space *space, const StoreIntent *intent, const char *source) {
        const Sc__Intent record = intent_record(intent, source);

        add_record_space(space, &sc__intent__info, &record.base);
        space->n_bytes += protobuf_c_message_get_packed_size(intent->request);
}

static void copy_intent(Room *room, const StoreIntent *intent, const char *source) {
        const Sc__Intent record = intent_record(intent, source);
        Value *values = copy_record(room, &sc__intent__info, &record.base);
        Value *request = &values[store_field(&sc__intent__info, "request")];

        *request = (Value){.type = VALUE_BLOB, .blob = room->bytes};
        request->size = (uint32_t) protobuf_c_message_pack(intent->request, room->bytes);
        room->bytes += request->size;
}

static int add_extras_space(Space *space, const char *partition, const StoreItem *followers,
        size_t n_followers, const StoreIntent *intents, size_t n_intents) {
        size_t n_bytes = space->n_bytes;

        if (n_followers > STORE_MAX_FOLLOWERS || n_intents > STORE_MAX_FOLLOWERS - n_followers)
                return -EINVAL;
        space->head += n_followers * sizeof(WriteItem);
        FOREACH_ARRAY(follower, followers, n_followers) {
                int r = check_follower(follower, partition);
                if (r < 0)
                        return r;
                add_item_space(space, follower);
        }
        FOREACH_ARRAY(intent, intents, n_intents) {
                int r = check_intent(intent);
                if (r < 0)
                        return r;
                add_intent_space(space, intent, partition);
        }
        return space->n_bytes - n_bytes > STORE_MAX_WRITE_BYTES ? -EINVAL : 0;
}

static void copy_extras(Room *room, Operation *operation, const StoreItem *followers, size_t n_followers,
        const StoreIntent *intents, size_t n_intents, Extras *ret) {
        *ret = (Extras){
                .followers = room->head,
                .n_followers = n_followers,
                .n_intents = n_intents,
        };
        for (size_t i = 0; i < n_followers; i++)
                copy_item(room, &followers[i], false, operation->name, &ret->followers[i]);
        ret->intents = room->values;
        FOREACH_ARRAY(intent, intents, n_intents)
                copy_intent(room, intent, operation->partition);
}

void extras_number_intents(Extras *extras, uint64_t last) {
        unsigned number = store_field(&sc__intent__info, "number");

        for (size_t i = 0; i < extras->n_intents; i++)
                extras->intents[i * record_n_fields(&sc__intent__info) + number] =
                        (Value){.type = VALUE_INTEGER, .integer = (int64_t) ++last};
        extras->last_intent = last;
}

/* --- operations --- */

int operation_new_write(Operation **ret, const StoreWrite *write) {
        Space space = {};
        Room room;

        int r = check_guard(&write->guard, write->partition);
        if (r < 0)
                return r;
        add_item_space(&space, &write->guard);
        r = add_extras_space(&space, write->partition, write->followers, write->n_followers, write->intents,
                write->n_intents);
        if (r < 0)
                return r;
        if (space.n_bytes > STORE_MAX_WRITE_BYTES)
                return -EINVAL;
        space.n_bytes += strlen(write->partition) + 1;
        Operation *operation = operation_new(OPERATION_WRITE, &space, &room);
        if (!operation)
                return -ENOMEM;
        operation->name = new_name();
        operation->partition = copy_string(&room, write->partition);
        copy_item(&room, &write->guard, true, operation->name, &operation->write.guard);
        copy_extras(&room, operation, write->followers, write->n_followers, write->intents, write->n_intents,
                &operation->write.extras);
        *ret = operation;
        return 0;
}

static void copy_entries(Room *room, const MessageInfo *info, const StoreAppend *append) {
        unsigned seq = info->record->key.fields[1];

        for (size_t i = 0; i < append->n; i++)
                copy_record(room, info, &append->entries[i]->base)[seq] =
                        (Value){.type = VALUE_INTEGER, .integer = (int64_t) (append->after_seq + 1 + i)};
}

int operation_new_append(Operation **ret, const MessageInfo *info, const StoreAppend *append) {
        Space space = {};
        Room room;

        int r = check_entries(append->entries, append->n, append->conversation);
        if (r < 0)
                return r;
        FOREACH_ARRAY(entry, append->entries, append->n)
                add_record_space(&space, info, &(*entry)->base);
        r = add_extras_space(&space, append->conversation, append->followers, append->n_followers,
                append->intents, append->n_intents);
        if (r < 0)
                return r;
        space.n_bytes += strlen(append->conversation) + 1;
        Operation *operation = operation_new(OPERATION_APPEND, &space, &room);
        if (!operation)
                return -ENOMEM;
        if (append->n_followers > 0)
                operation->name = new_name();
        operation->partition = copy_string(&room, append->conversation);
        operation->append.info = info;
        operation->append.after_seq = append->after_seq;
        operation->append.values = room.values;
        operation->append.n = append->n;
        copy_entries(&room, info, append);
        copy_extras(&room, operation, append->followers, append->n_followers, append->intents,
                append->n_intents, &operation->append.extras);
        *ret = operation;
        return 0;
}

int operation_new_delete_entries(Operation **ret, const MessageInfo *info, const char *conversation,
        uint64_t last_seq, unsigned limit) {
        Room room;

        if (isempty(conversation) || limit == 0)
                return -EINVAL;
        const Space space = {.n_bytes = strlen(conversation) + 1};
        Operation *operation = operation_new(OPERATION_DELETE_ENTRIES, &space, &room);
        if (!operation)
                return -ENOMEM;
        operation->partition = copy_string(&room, conversation);
        operation->delete_entries.info = info;
        operation->delete_entries.last_seq = last_seq;
        operation->delete_entries.limit = limit;
        *ret = operation;
        return 0;
}

static void copy_read(Room *room, const StoreRead *read, ReadItem *ret) {
        *ret = (ReadItem){
                .info = read->info,
                .index = read->index ?: &read->info->record->key,
                .from = read->from ? copy_record(room, read->info, read->from) : NULL,
                .to = read->to ? copy_record(room, read->info, read->to) : NULL,
                .n_prefix = read->n_prefix,
                .after = read->after,
                .before = read->before,
                .descending = read->descending,
                .limit = MAX(read->limit, 1U),
                .max_bytes = read->max_bytes > 0 ? read->max_bytes : READ_MAX_BYTES_DEFAULT,
        };
}

int operation_new_read(Operation **ret, const StoreRead *reads, size_t n) {
        _cleanup_(operation_freep) Operation *operation = NULL;
        Space space = {.head = n * sizeof(ReadItem)};
        Room room;

        if (n == 0)
                return -EINVAL;
        FOREACH_ARRAY(read, reads, n) {
                int r = check_read(read);
                if (r < 0)
                        return r;
                if (read->from)
                        add_record_space(&space, read->info, read->from);
                if (read->to)
                        add_record_space(&space, read->info, read->to);
        }
        operation = operation_new(OPERATION_READ, &space, &room);
        if (!operation)
                return -ENOMEM;
        operation->read.items = room.head;
        operation->read.n = n;
        operation->read.rows = arena_new(&operation->arena, StoreRows, n);
        if (!operation->read.rows)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                copy_read(&room, &reads[i], &operation->read.items[i]);
        *ret = TAKE_PTR(operation);
        return 0;
}

int operation_new_check(Operation **ret) {
        Room room;
        Operation *operation = operation_new(OPERATION_CHECK, &(Space){}, &room);
        if (!operation)
                return -ENOMEM;
        *ret = operation;
        return 0;
}

static void complete_append(const Operation *o) {
        const StoreAppended appended = {
                .last_seq = o->append.last_seq,
                .last_intent = o->r < 0 ? 0 : o->append.extras.last_intent,
                .taken = o->append.taken,
                .n_taken = o->r == -EEXIST ? o->append.n_taken : 0,
        };

        o->append.done(o->r, &appended, o->userdata);
}

void operation_complete(Operation *o) {
        static const char *const no_findings[] = {NULL};
        int r = o->r;

        switch (o->kind) {
        case OPERATION_WRITE: {
                const StoreWritten written = {
                        .version = r < 0 ? 0 : o->write.version,
                        .last_intent = r < 0 ? 0 : o->write.extras.last_intent,
                };
                if (o->write.done)
                        o->write.done(r, &written, o->userdata);
                break;
        }
        case OPERATION_APPEND:
                complete_append(o);
                break;
        case OPERATION_DELETE_ENTRIES:
                o->delete_entries.done(r, r < 0 ? 0 : o->delete_entries.n_deleted, o->userdata);
                break;
        case OPERATION_READ:
                o->read.done(r, r < 0 ? NULL : o->read.rows, r < 0 ? 0 : o->read.n, &o->arena, o->userdata);
                break;
        case OPERATION_CHECK: {
                const StoreCheck check = {
                        .findings = r < 0 || !o->check.findings ? no_findings : o->check.findings,
                        .pages = o->check.pages,
                };
                o->check.done(r, &check, &o->arena, o->userdata);
                break;
        }
        }
}

Operation *operation_free(Operation *operation) {
        if (!operation)
                return NULL;
        arena_done(&operation->arena);
        free(operation);
        return NULL;
}
