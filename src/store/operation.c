/* SPDX-License-Identifier: Apache-2.0 */
#include "store/operation.h"

#include "util/string-util.h"

/* What a read may return when its max_bytes is 0. */
#define READ_MAX_BYTES_DEFAULT (1024U * 1024U)

/* An operation with size bytes behind it, which *ret_memory points at. */
static Operation *operation_new(OperationKind kind, size_t size, uint8_t **ret_memory) {
        Operation *operation = malloc(sizeof(Operation) + size);
        if (!operation)
                return NULL;
        *operation = (Operation){.kind = kind};
        *ret_memory = (uint8_t *) (operation + 1);
        return operation;
}

/* Carves n objects off *memory. Everything that needs alignment comes before the data of strings. */
#define TAKE_ARRAY(memory, type, n)                                                                         \
        ({                                                                                                  \
                type *_array = (type *) *(memory);                                                          \
                *(memory) += sizeof(type) * (n);                                                            \
                _array;                                                                                     \
        })

static Value *take_values(uint8_t **memory, const MessageInfo *info) {
        return TAKE_ARRAY(memory, Value, record_n_fields(info));
}

int operation_new_write(Operation **ret, const StoreWrite *writes, size_t n) {
        size_t size = n * sizeof(WriteItem);
        uint8_t *memory;

        if (n == 0)
                return -EINVAL;
        FOREACH_ARRAY(write, writes, n)
                size += record_n_fields(write->info) * sizeof(Value) +
                        record_data_size(write->info, write->record);
        Operation *operation = operation_new(OPERATION_WRITE, size, &memory);
        if (!operation)
                return -ENOMEM;
        operation->write.n = n;
        operation->write.items = TAKE_ARRAY(&memory, WriteItem, n);
        for (size_t i = 0; i < n; i++)
                operation->write.items[i] = (WriteItem){
                        .verb = writes[i].verb,
                        .info = writes[i].info,
                        .values = take_values(&memory, writes[i].info),
                };
        for (size_t i = 0; i < n; i++)
                record_to_values(
                        writes[i].info, writes[i].record, operation->write.items[i].values, &memory);
        *ret = operation;
        return 0;
}

int operation_new_append(Operation **ret, const MessageInfo *info, const char *conversation,
        uint64_t after_seq, Sc__Message *const *messages, size_t n) {
        size_t n_fields = record_n_fields(info), conversation_size = strlen(conversation) + 1;
        size_t size = n * (sizeof(StoreAppended) + n_fields * sizeof(Value)) + conversation_size;
        uint8_t *memory;

        if (n == 0)
                return -EINVAL;
        FOREACH_ARRAY(message, messages, n) {
                if (!streq((*message)->conversation, conversation))
                        return -EINVAL;
                size += record_data_size(info, &(*message)->base);
        }
        Operation *operation = operation_new(OPERATION_APPEND, size, &memory);
        if (!operation)
                return -ENOMEM;
        operation->append.info = info;
        operation->append.after_seq = after_seq;
        operation->append.n = n;
        operation->append.results = TAKE_ARRAY(&memory, StoreAppended, n);
        operation->append.values = TAKE_ARRAY(&memory, Value, n * n_fields);
        operation->append.conversation = memcpy(memory, conversation, conversation_size);
        memory += conversation_size;
        for (size_t i = 0; i < n; i++)
                record_to_values(info, &messages[i]->base, operation->append.values + i * n_fields, &memory);
        *ret = operation;
        return 0;
}

static int read_item_init(ReadItem *item, const StoreRead *read) {
        bool bounded = read->after || read->before;

        *item = (ReadItem){
                .info = read->info,
                .index = read->index ?: &read->info->record->key,
                .n_prefix = read->n_prefix,
                .after = read->after,
                .before = read->before,
                .descending = read->descending,
                .count_only = read->count_only,
                .exclude_field = -1,
                .limit = MAX(read->limit, 1U),
                .max_bytes = read->max_bytes > 0 ? read->max_bytes : READ_MAX_BYTES_DEFAULT,
        };
        if (read->n_prefix + bounded > item->index->n_fields || (read->before && !read->to) ||
                (!read->from && (read->n_prefix > 0 || read->after || read->exclude_field)))
                return -EINVAL;
        if (read->exclude_field) {
                item->exclude_field = record_find_field(read->info, read->exclude_field);
                if (item->exclude_field < 0)
                        return -EINVAL;
        }
        return 0;
}

static size_t read_size(const StoreRead *read) {
        size_t size = sizeof(ReadItem) + sizeof(StoreRows);

        if (read->from)
                size += record_n_fields(read->info) * sizeof(Value) +
                        record_data_size(read->info, read->from);
        if (read->to)
                size += record_n_fields(read->info) * sizeof(Value) + record_data_size(read->info, read->to);
        return size;
}

int operation_new_read(Operation **ret, const StoreRead *reads, size_t n) {
        _cleanup_(operation_freep) Operation *operation = NULL;
        size_t size = 0;
        uint8_t *memory;

        if (n == 0)
                return -EINVAL;
        FOREACH_ARRAY(read, reads, n)
                size += read_size(read);
        operation = operation_new(OPERATION_READ, size, &memory);
        if (!operation)
                return -ENOMEM;
        /* Each read has its own max_bytes, so the arena needs no other limit. */
        arena_init(&operation->read.arena, SIZE_MAX);
        operation->read.n = n;
        operation->read.items = TAKE_ARRAY(&memory, ReadItem, n);
        operation->read.rows = TAKE_ARRAY(&memory, StoreRows, n);
        for (size_t i = 0; i < n; i++) {
                ReadItem *item = &operation->read.items[i];
                operation->read.rows[i] = (StoreRows){};
                int r = read_item_init(item, &reads[i]);
                if (r < 0)
                        return r;
                item->from = reads[i].from ? take_values(&memory, item->info) : NULL;
                item->to = reads[i].to ? take_values(&memory, item->info) : NULL;
        }
        for (size_t i = 0; i < n; i++) {
                ReadItem *item = &operation->read.items[i];
                if (item->from)
                        record_to_values(item->info, reads[i].from, item->from, &memory);
                if (item->to)
                        record_to_values(item->info, reads[i].to, item->to, &memory);
        }
        *ret = TAKE_PTR(operation);
        return 0;
}

int operation_new_check(Operation **ret) {
        uint8_t *memory;
        Operation *operation = operation_new(OPERATION_CHECK, 0, &memory);
        if (!operation)
                return -ENOMEM;
        arena_init(&operation->check.arena, SIZE_MAX);
        *ret = operation;
        return 0;
}

void operation_complete(Operation *o) {
        static const char *const no_findings[] = {NULL};
        int r = o->r;

        switch (o->kind) {
        case OPERATION_WRITE:
                if (o->write.done)
                        o->write.done(r, o->write.failed, o->userdata);
                break;
        case OPERATION_APPEND:
                o->append.done(r, r < 0 ? NULL : o->append.results, r < 0 ? 0 : o->append.n,
                        o->append.last_seq, o->userdata);
                break;
        case OPERATION_READ:
                o->read.done(r, r < 0 ? NULL : o->read.rows, r < 0 ? 0 : o->read.n, o->userdata);
                break;
        case OPERATION_CHECK:
                o->check.done(r, o->check.findings ?: no_findings, o->check.pages, o->userdata);
                break;
        }
}

Operation *operation_free(Operation *operation) {
        if (!operation)
                return NULL;
        if (operation->kind == OPERATION_READ)
                arena_done(&operation->read.arena);
        else if (operation->kind == OPERATION_CHECK)
                arena_done(&operation->check.arena);
        free(operation);
        return NULL;
}
