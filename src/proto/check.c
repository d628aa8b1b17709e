/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "proto/json-error.h"
#include "util/string-util.h"

static int check_size(
        const FieldInfo *info, const JsonPath *path, size_t size, const char *unit, JsonError *error) {
        if (size < info->min_size)
                return json_fail(error, path, "at least %" PRIu32 " %s", info->min_size, unit);
        if (info->max_size > 0 && size > info->max_size)
                return json_fail(error, path, "at most %" PRIu32 " %s", info->max_size, unit);
        return 0;
}

static int check_string(const FieldInfo *info, const JsonPath *path, const char *s, JsonError *error) {
        size_t size = strlen(s);

        if (!utf8_is_valid(s, size))
                return json_fail(error, path, "must be UTF-8");
        if (info->identifier && !identifier_is_valid(s, size))
                return json_fail(error, path, "only the characters A-Z a-z 0-9 - _ . : # @");
        return 0;
}

/* Clients of the binary protocol send raw JSON too, which is embedded as it is. */
static int check_raw_json(const JsonPath *path, const ProtobufCBinaryData *bytes, JsonError *error) {
        return bytes->len == 0 || json_is_valid(bytes->data, bytes->len)
                       ? 0
                       : json_fail(error, path, "must be JSON");
}

static int check_number(const FieldInfo *info, const JsonPath *path, uint64_t value, JsonError *error) {
        if (info->max > 0 && value > info->max)
                return json_fail(error, path, "at most %" PRIu64, info->max);
        return 0;
}

static int check_signed(const FieldInfo *info, const JsonPath *path, int64_t value, JsonError *error) {
        return value < 0 ? 0 : check_number(info, path, (uint64_t) value, error);
}

static int check_fields(
        const MessageInfo *info, const JsonPath *path, const ProtobufCMessage *message, JsonError *error);

/* One value, or one element of a list. */
static int check_value(const FieldInfo *info, const ProtobufCFieldDescriptor *field, const JsonPath *path,
        const void *member, JsonError *error) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING:
                return check_string(info, path, strempty(*(const char *const *) member), error);
        case PROTOBUF_C_TYPE_BYTES:
                return info->raw_json ? check_raw_json(path, member, error) : 0;
        case PROTOBUF_C_TYPE_MESSAGE:
                return check_fields(info->message, path, *(ProtobufCMessage *const *) member, error);
        case PROTOBUF_C_TYPE_ENUM:
                if (!protobuf_c_enum_descriptor_get_value(
                            info->enumeration->descriptor, *(const int *) member))
                        return json_fail(error, path, "no such value");
                return 0;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                return check_number(info, path, *(const uint32_t *) member, error);
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                return check_number(info, path, *(const uint64_t *) member, error);
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                return check_signed(info, path, *(const int64_t *) member, error);
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                return check_signed(info, path, *(const int32_t *) member, error);
        default:
                return 0;
        }
}

static const char *entry_key(const MessageInfo *info, const ProtobufCMessage *entry) {
        return strempty(
                *(const char *const *) ((const uint8_t *) entry + info->descriptor->fields[0].offset));
}

static int compare_keys(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* On the wire a map is a list, so a key may come twice; as a name in a JSON object it must not. */
static int check_keys(const MessageInfo *info, const JsonPath *path, ProtobufCMessage *const *entries,
        size_t n, JsonError *error) {
        _cleanup_free_ const char **keys = new0(const char *, n);

        if (!keys)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                keys[i] = entry_key(info, entries[i]);
                if (!utf8_is_valid(keys[i], strlen(keys[i])))
                        return json_fail(error, path, "keys must be UTF-8");
        }
        qsort(keys, n, sizeof(*keys), compare_keys);
        for (size_t i = 1; i < n; i++)
                if (streq(keys[i - 1], keys[i]))
                        return json_fail(error, path, "keys must differ");
        return 0;
}

/* The value of a map's entry: named by its key. */
static int check_entry(
        const MessageInfo *info, const JsonPath *path, const ProtobufCMessage *entry, JsonError *error) {
        const ProtobufCFieldDescriptor *fields = info->descriptor->fields; /* key, value */
        const JsonPath step = {path, JSON_STEP_KEY, entry_key(info, entry), 0};

        return check_value(
                &info->fields[1], &fields[1], &step, (const uint8_t *) entry + fields[1].offset, error);
}

static int check_repeated(const FieldInfo *info, const ProtobufCFieldDescriptor *field, const JsonPath *path,
        const void *base, JsonError *error) {
        size_t n = *(const size_t *) ((const uint8_t *) base + field->quantifier_offset);
        size_t element_size = field_element_size(field);
        const uint8_t *elements = *(const uint8_t *const *) ((const uint8_t *) base + field->offset);

        int r = check_size(info, path, n, "elements", error);
        if (r >= 0 && info->map)
                r = check_keys(info->message, path, (ProtobufCMessage *const *) elements, n, error);
        for (size_t i = 0; r >= 0 && i < n; i++, elements += element_size) {
                const JsonPath step = {path, JSON_STEP_INDEX, NULL, i};

                r = info->map
                            ? check_entry(info->message, path, *(ProtobufCMessage *const *) elements, error)
                            : check_value(info, field, &step, elements, error);
        }
        return r;
}

static int check_field(const FieldInfo *info, const ProtobufCFieldDescriptor *field, const JsonPath *path,
        const ProtobufCMessage *message, JsonError *error) {
        const void *member = (const uint8_t *) message + field->offset;
        int r = 0;

        if (!field_is_set(field, message))
                return info->required ? json_fail(error, path, "is required") : 0;
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
                return check_repeated(info, field, path, message, error);
        if (field->type == PROTOBUF_C_TYPE_STRING)
                r = check_size(info, path, strlen(*(const char *const *) member), "bytes", error);
        else if (field->type == PROTOBUF_C_TYPE_BYTES)
                r = check_size(info, path, ((const ProtobufCBinaryData *) member)->len, "bytes", error);
        return r < 0 ? r : check_value(info, field, path, member, error);
}

/* An empty string or no bytes are none, also where they are set, in a oneof. */
static bool has_value(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *message) {
        const void *member = (const uint8_t *) message + field->offset;

        if (!field_is_set(field, message))
                return false;
        if (field->type == PROTOBUF_C_TYPE_STRING)
                return !isempty(*(const char *const *) member);
        return field->type != PROTOBUF_C_TYPE_BYTES || ((const ProtobufCBinaryData *) member)->len > 0;
}

static int check_group(const MessageInfo *info, const FieldGroup *group, const JsonPath *path,
        const ProtobufCMessage *message, JsonError *error) {
        const ProtobufCFieldDescriptor *fields = info->descriptor->fields, *given = NULL;
        const JsonPath first = {path, JSON_STEP_FIELD, fields[group->fields[0]].name, 0};

        FOREACH_ARRAY(index, group->fields, group->n_fields) {
                const JsonPath step = {path, JSON_STEP_FIELD, fields[*index].name, 0};

                if (!has_value(&fields[*index], message))
                        continue;
                if (given)
                        return json_fail(error, &step, "cannot be given together with %s", given->name);
                given = &fields[*index];
        }
        if (given || !group->required)
                return 0;
        return json_fail(error, &first, "this or %s is required", fields[group->fields[1]].name);
}

static int check_fields(
        const MessageInfo *info, const JsonPath *path, const ProtobufCMessage *message, JsonError *error) {
        if (!message) /* a map's entry without a value */
                return 0;
        for (unsigned i = 0; i < info->descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &info->descriptor->fields[i];
                const JsonPath step = {path, JSON_STEP_FIELD, field->name, 0};
                int r = check_field(&info->fields[i], field, &step, message, error);
                if (r < 0)
                        return r;
        }
        FOREACH_ARRAY(group, info->groups, info->n_groups) {
                int r = check_group(info, group, path, message, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

int message_check(const MessageInfo *info, const ProtobufCMessage *message, JsonError *error) {
        return check_fields(info, NULL, message, error);
}
