/* SPDX-License-Identifier: Apache-2.0 */
#include "store/operation-check.h"

#include "store/record.h"
#include "util/string-util.h"

static bool has_unique_index(const MessageInfo *info) {
        FOREACH_ARRAY(index, info->record->indexes, info->record->n_indexes)
                if (index->unique)
                        return true;
        return false;
}

static bool is_in_unique_index(const MessageInfo *info, unsigned field) {
        FOREACH_ARRAY(index, info->record->indexes, info->record->n_indexes)
                for (unsigned i = 0; index->unique && i < index->n_fields; i++)
                        if (index->fields[i] == field)
                                return true;
        return false;
}

static bool changes_field(const StoreItem *item, unsigned field) {
        FOREACH_ARRAY(change, item->changes, item->n_changes)
                if (change->field == field)
                        return true;
        return false;
}

/* All members of a oneof change together: one is set, the others become absent. */
static bool changes_whole_oneof(const StoreItem *item, const ProtobufCFieldDescriptor *member) {
        const ProtobufCMessageDescriptor *descriptor = item->info->descriptor;

        for (unsigned i = 0; i < descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
                if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                        field->quantifier_offset == member->quantifier_offset && !changes_field(item, i))
                        return false;
        }
        return true;
}

static int check_change(const StoreItem *item, const StoreChange *change, bool guard) {
        const MessageInfo *info = item->info;

        if (change->field >= record_n_fields(info) || record_field_is_key(info, change->field) ||
                (int) change->field == info->record->version_field)
                return -EINVAL;
        /* A follower cannot be refused, not even by an index. */
        if (!guard && is_in_unique_index(info, change->field))
                return -EINVAL;
        const ProtobufCFieldDescriptor *field = &info->descriptor->fields[change->field];
        if (change->kind != STORE_SET &&
                (record_field_type(field) != VALUE_INTEGER || record_field_is_nullable(field)))
                return -EINVAL;
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && !changes_whole_oneof(item, field))
                return -EINVAL;
        return 0;
}

static int check_changes(const StoreItem *item, bool guard) {
        if ((item->verb == STORE_PATCH) != (item->n_changes > 0) ||
                item->n_changes > record_n_fields(item->info))
                return -EINVAL;
        for (size_t i = 0; i < item->n_changes; i++) {
                int r = check_change(item, &item->changes[i], guard);
                if (r < 0)
                        return r;
                for (size_t k = 0; k < i; k++)
                        if (item->changes[k].field == item->changes[i].field)
                                return -EINVAL;
        }
        return 0;
}

static int check_conditions(const StoreItem *item, bool guard) {
        if (item->n_equal == 0)
                return 0;
        if (!guard || (item->verb != STORE_PATCH && item->verb != STORE_DELETE) ||
                item->n_equal > record_n_fields(item->info))
                return -EINVAL;
        FOREACH_ARRAY(field, item->equal, item->n_equal)
                if (*field >= record_n_fields(item->info))
                        return -EINVAL;
        return 0;
}

static int check_item(const StoreItem *item, const char *partition, bool guard) {
        if (!item->info || !item->info->record || !item->record)
                return -EINVAL;
        const char *own = record_partition(item->info, item->record);
        if (!own || isempty(partition) || !streq(own, partition))
                return -EINVAL;
        int r = check_changes(item, guard);
        if (r < 0)
                return r;
        return check_conditions(item, guard);
}

int check_guard(const StoreItem *item, const char *partition) {
        if (item->verb == STORE_PUT)
                return -EINVAL;
        return check_item(item, partition, true);
}

int check_follower(const StoreItem *item, const char *partition) {
        int r = check_item(item, partition, false);
        if (r < 0)
                return r;
        if (item->verb == STORE_INSERT || (item->verb == STORE_PUT && has_unique_index(item->info)))
                return -EINVAL;
        return 0;
}

int check_intent(const StoreIntent *intent) {
        return isempty(intent->target) || !intent->method || !intent->request ? -EINVAL : 0;
}

static bool have_same_name(const Sc__Message *a, const Sc__Message *b) {
        return !isempty(a->client_msg_id) && streq(a->client_msg_id, strempty(b->client_msg_id)) &&
               streq(strempty(a->sender), strempty(b->sender));
}

int check_entries(Sc__Message *const *entries, size_t n, const char *conversation) {
        if (n == 0 || n > STORE_MAX_APPEND || isempty(conversation))
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                if (!streq(strempty(entries[i]->conversation), conversation))
                        return -EINVAL;
                for (size_t k = 0; k < i; k++)
                        if (have_same_name(entries[k], entries[i]))
                                return -EINVAL;
        }
        return 0;
}

int check_read(const StoreRead *read) {
        bool bounded = read->after || read->before;

        if (!read->info || !read->info->record)
                return -EINVAL;
        const IndexInfo *index = read->index ?: &read->info->record->key;
        if (read->n_prefix + bounded > index->n_fields)
                return -EINVAL;
        if ((read->before && !read->to) || ((read->n_prefix > 0 || read->after) && !read->from))
                return -EINVAL;
        return 0;
}
