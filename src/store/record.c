/* SPDX-License-Identifier: Apache-2.0 */
#include "store/record.h"

#include "util/string-util.h"

#define MEMBER(type, message, offset) ((type *) ((uint8_t *) (message) + (offset)))
#define CONST_MEMBER(type, message, offset) ((const type *) ((const uint8_t *) (message) + (offset)))

bool value_equal(const Value *a, const Value *b) {
        if (a->type != b->type)
                return false;
        switch (a->type) {
        case VALUE_NULL:
                return true;
        case VALUE_INTEGER:
                return a->integer == b->integer;
        case VALUE_REAL:
                return a->real == b->real;
        case VALUE_TEXT:
        case VALUE_BLOB:
                return a->size == b->size && memcmp(a->blob, b->blob, a->size) == 0;
        }
        return false;
}

int record_check(const MessageInfo *info) {
        if (!info->record || info->record->key.n_fields == 0 ||
                info->descriptor->fields[info->record->key.fields[0]].type != PROTOBUF_C_TYPE_STRING)
                return -EOPNOTSUPP;
        for (unsigned i = 0; i < info->descriptor->n_fields; i++)
                if (info->descriptor->fields[i].label == PROTOBUF_C_LABEL_REPEATED)
                        return -EOPNOTSUPP;
        return 0;
}

ValueType record_field_type(const ProtobufCFieldDescriptor *field) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING:
                return VALUE_TEXT;
        case PROTOBUF_C_TYPE_BYTES:
        case PROTOBUF_C_TYPE_MESSAGE:
                return VALUE_BLOB;
        case PROTOBUF_C_TYPE_FLOAT:
        case PROTOBUF_C_TYPE_DOUBLE:
                return VALUE_REAL;
        default:
                return VALUE_INTEGER;
        }
}

static bool field_is_in_oneof(const ProtobufCFieldDescriptor *field) {
        return field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
}

bool record_field_is_nullable(const ProtobufCFieldDescriptor *field) {
        return field_is_in_oneof(field) || field->label == PROTOBUF_C_LABEL_OPTIONAL ||
               field->type == PROTOBUF_C_TYPE_MESSAGE;
}

int record_find_field(const MessageInfo *info, const char *name) {
        for (unsigned i = 0; i < info->descriptor->n_fields; i++)
                if (streq(info->descriptor->fields[i].name, name))
                        return (int) i;
        return -ENOENT;
}

bool record_field_is_key(const MessageInfo *info, unsigned field) {
        FOREACH_ARRAY(f, info->record->key.fields, info->record->key.n_fields)
                if (*f == field)
                        return true;
        return false;
}

const char *record_partition(const MessageInfo *info, const ProtobufCMessage *record) {
        const ProtobufCFieldDescriptor *field = &info->descriptor->fields[info->record->key.fields[0]];

        if (field->type != PROTOBUF_C_TYPE_STRING)
                return NULL;
        return strempty(*CONST_MEMBER(char *, record, field->offset));
}

uint64_t record_version(const MessageInfo *info, const ProtobufCMessage *record) {
        return *CONST_MEMBER(uint64_t, record, info->descriptor->fields[info->record->version_field].offset);
}

bool record_index_is_partial(const MessageInfo *info, const IndexInfo *index) {
        return index->unique && index->n_fields > 0 &&
               info->descriptor->fields[index->fields[0]].type == PROTOBUF_C_TYPE_STRING;
}

/* Is there a value to store? Pointers are checked apart. */
static bool field_is_present(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *record) {
        if (field_is_in_oneof(field))
                return *CONST_MEMBER(uint32_t, record, field->quantifier_offset) == field->id;
        if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset > 0)
                return *CONST_MEMBER(protobuf_c_boolean, record, field->quantifier_offset);
        return true;
}

size_t record_data_size(const MessageInfo *info, const ProtobufCMessage *record) {
        size_t size = 0;

        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields) {
                if (record_field_type(field) < VALUE_TEXT || !field_is_present(field, record))
                        continue;
                const void *member = CONST_MEMBER(void, record, field->offset);
                if (field->type == PROTOBUF_C_TYPE_STRING)
                        size += strlen(strempty(*(char *const *) member)) + 1;
                else if (field->type == PROTOBUF_C_TYPE_BYTES)
                        size += ((const ProtobufCBinaryData *) member)->len;
                else if (*(ProtobufCMessage *const *) member)
                        size += protobuf_c_message_get_packed_size(*(ProtobufCMessage *const *) member);
        }
        return size;
}

static Value number_to_value(const ProtobufCFieldDescriptor *field, const void *member) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                return (Value){.type = VALUE_INTEGER, .integer = *(const int64_t *) member};
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                return (Value){.type = VALUE_INTEGER, .integer = *(const uint32_t *) member};
        case PROTOBUF_C_TYPE_FLOAT:
                return (Value){.type = VALUE_REAL, .real = (double) *(const float *) member};
        case PROTOBUF_C_TYPE_DOUBLE:
                return (Value){.type = VALUE_REAL, .real = *(const double *) member};
        default: /* int32 of all kinds, bool, enum: they have the size of an int */
                return (Value){.type = VALUE_INTEGER, .integer = *(const int32_t *) member};
        }
}

static Value string_to_value(const char *s, uint8_t **data) {
        size_t size = strlen(s);
        Value value = {.type = VALUE_TEXT, .size = (uint32_t) size, .text = memcpy(*data, s, size + 1)};
        *data += size + 1;
        return value;
}

static Value bytes_to_value(const ProtobufCBinaryData *bytes, uint8_t **data) {
        Value value = {.type = VALUE_BLOB, .size = (uint32_t) bytes->len, .blob = *data};
        if (bytes->len > 0)
                memcpy(*data, bytes->data, bytes->len);
        *data += bytes->len;
        return value;
}

static Value message_to_value(const ProtobufCMessage *message, uint8_t **data) {
        if (!message)
                return (Value){.type = VALUE_NULL};
        Value value = {.type = VALUE_BLOB, .blob = *data};
        value.size = (uint32_t) protobuf_c_message_pack(message, *data);
        *data += value.size;
        return value;
}

void record_to_values(
        const MessageInfo *info, const ProtobufCMessage *record, Value *values, uint8_t **data) {
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields) {
                const void *member = CONST_MEMBER(void, record, field->offset);
                Value *value = values++;
                if (!field_is_present(field, record))
                        *value = (Value){.type = VALUE_NULL};
                else if (field->type == PROTOBUF_C_TYPE_STRING)
                        *value = string_to_value(strempty(*(char *const *) member), data);
                else if (field->type == PROTOBUF_C_TYPE_BYTES)
                        *value = bytes_to_value(member, data);
                else if (field->type == PROTOBUF_C_TYPE_MESSAGE)
                        *value = message_to_value(*(ProtobufCMessage *const *) member, data);
                else
                        *value = number_to_value(field, member);
        }
}

static void value_to_number(const ProtobufCFieldDescriptor *field, const Value *value, void *member) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                *(int64_t *) member = value->integer;
                break;
        case PROTOBUF_C_TYPE_FLOAT:
                *(float *) member = (float) value->real;
                break;
        case PROTOBUF_C_TYPE_DOUBLE:
                *(double *) member = value->real;
                break;
        default:
                *(int32_t *) member = (int32_t) value->integer;
                break;
        }
}

static int value_to_field(
        const ProtobufCFieldDescriptor *field, const Value *value, Arena *arena, void *member) {
        if (field->type == PROTOBUF_C_TYPE_STRING) {
                char *s = arena_strndup(arena, value->text, value->size);
                if (!s)
                        return -ENOMEM;
                *(char **) member = s;
        } else if (field->type == PROTOBUF_C_TYPE_BYTES) {
                uint8_t *bytes = arena_alloc(arena, MAX(value->size, 1U));
                if (!bytes)
                        return -ENOMEM;
                if (value->size > 0)
                        memcpy(bytes, value->blob, value->size);
                *(ProtobufCBinaryData *) member = (ProtobufCBinaryData){.len = value->size, .data = bytes};
        } else if (field->type == PROTOBUF_C_TYPE_MESSAGE)
                return arena_unpack(arena, field->descriptor, value->blob, value->size, member);
        else
                value_to_number(field, value, member);
        return 0;
}

int record_from_values(const MessageInfo *info, const Value *values, Arena *arena, ProtobufCMessage **ret) {
        ProtobufCMessage *record = arena_alloc(arena, info->descriptor->sizeof_message);
        if (!record)
                return -ENOMEM;
        protobuf_c_message_init(info->descriptor, record);
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields) {
                const Value *value = values++;
                if (value->type != record_field_type(field))
                        continue; /* absent */
                int r = value_to_field(field, value, arena, MEMBER(void, record, field->offset));
                if (r < 0)
                        return r;
                if (field_is_in_oneof(field))
                        *MEMBER(uint32_t, record, field->quantifier_offset) = field->id;
                else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset > 0)
                        *MEMBER(protobuf_c_boolean, record, field->quantifier_offset) = true;
        }
        *ret = record;
        return 0;
}
