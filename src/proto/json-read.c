/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <sodium.h>

#include "proto/json-error.h"
#include "util/string-util.h"

/* Up to here every integer is a double. */
#define MAX_EXACT_REAL 9007199254740992.0

typedef struct Reader {
        Arena *arena;
        JsonError *error;
} Reader;

/* --- numbers: sign and magnitude, so that one function serves all widths --- */

typedef struct Number {
        bool negative;
        uint64_t magnitude;
} Number;

static int number_from_text(const char *s, Number *ret) {
        ret->negative = *s == '-';
        return parse_u64(s + ret->negative, UINT64_MAX, &ret->magnitude);
}

static int number_from_json(const json_t *value, Number *ret) {
        if (json_is_integer(value)) {
                json_int_t i = json_integer_value(value);

                *ret = (Number){i < 0, i < 0 ? -(uint64_t) i : (uint64_t) i};
                return 0;
        }
        if (json_is_real(value)) {
                double real = json_real_value(value), magnitude = real < 0 ? -real : real;

                if (magnitude > MAX_EXACT_REAL)
                        return -ERANGE;
                *ret = (Number){real < 0, (uint64_t) magnitude};
                return (double) ret->magnitude == magnitude ? 0 : -EINVAL;
        }
        if (json_is_string(value))
                return number_from_text(json_string_value(value), ret);
        return -EINVAL;
}

static int read_signed(
        Reader *reader, const JsonPath *path, const json_t *value, int64_t min, int64_t max, int64_t *ret) {
        Number number;

        int r = number_from_json(value, &number);
        if (r == -EINVAL)
                return json_fail(reader->error, path, "must be an integer");
        uint64_t limit = number.negative ? -(uint64_t) min : (uint64_t) max;
        if (r < 0 || number.magnitude > limit)
                return json_fail(
                        reader->error, path, "must be an integer from %" PRId64 " to %" PRId64, min, max);
        *ret = (int64_t) (number.negative ? -number.magnitude : number.magnitude);
        return 0;
}

static int read_unsigned(
        Reader *reader, const JsonPath *path, const json_t *value, uint64_t max, uint64_t *ret) {
        Number number;

        int r = number_from_json(value, &number);
        if (r == -EINVAL)
                return json_fail(reader->error, path, "must be an integer");
        if (r < 0 || number.magnitude > max || (number.negative && number.magnitude > 0))
                return json_fail(reader->error, path, "must be an integer from 0 to %" PRIu64, max);
        *ret = number.magnitude;
        return 0;
}

/* --- values: each writes one element of its field's type to `member` --- */

static int read_string(Reader *reader, const JsonPath *path, const json_t *value, char **member) {
        if (!json_is_string(value))
                return json_fail(reader->error, path, "must be a string");
        char *s = arena_strndup(reader->arena, json_string_value(value), json_string_length(value));
        if (!s)
                return -ENOMEM;
        *member = s;
        return 0;
}

static int read_base64(
        Reader *reader, const JsonPath *path, const json_t *value, ProtobufCBinaryData *member) {
        if (!json_is_string(value))
                return json_fail(reader->error, path, "must be a string with base64");
        size_t size = json_string_length(value);
        uint8_t *data = arena_alloc(reader->arena, size / 4 * 3);
        if (!data)
                return -ENOMEM;
        if (sodium_base642bin(data, size / 4 * 3, json_string_value(value), size, NULL, &size, NULL,
                    sodium_base64_VARIANT_ORIGINAL) < 0)
                return json_fail(reader->error, path, "must be base64 (standard alphabet, with padding)");
        *member = (ProtobufCBinaryData){size, data};
        return 0;
}

static int read_raw(Reader *reader, const json_t *value, ProtobufCBinaryData *member) {
        _cleanup_buffer_ Buffer text = {.limit = reader->arena->limit};

        if (json_write_value(&text, value) < 0)
                return -ENOMEM;
        uint8_t *data = arena_memdup(reader->arena, text.data, text.size);
        if (!data)
                return -ENOMEM;
        *member = (ProtobufCBinaryData){text.size, data};
        return 0;
}

static int read_enum(
        Reader *reader, const JsonPath *path, const EnumInfo *info, const json_t *value, int *member) {
        const ProtobufCEnumDescriptor *descriptor = info->descriptor;
        int64_t number;

        if (json_is_string(value)) {
                for (unsigned i = 0; i < descriptor->n_values; i++)
                        if (streq(info->names[i], json_string_value(value))) {
                                *member = descriptor->values[i].value;
                                return 0;
                        }
                return json_fail(reader->error, path, "no such value");
        }
        int r = read_signed(reader, path, value, INT32_MIN, INT32_MAX, &number);
        if (r < 0)
                return r;
        if (!protobuf_c_enum_descriptor_get_value(descriptor, (int) number))
                return json_fail(reader->error, path, "no such value");
        *member = (int) number;
        return 0;
}

static int read_integer(
        Reader *reader, const JsonPath *path, ProtobufCType type, const json_t *value, void *member) {
        uint64_t number;
        int64_t signed_number;
        int r;

        switch (type) {
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                r = read_unsigned(reader, path, value, UINT32_MAX, &number);
                if (r >= 0)
                        *(uint32_t *) member = (uint32_t) number;
                return r;
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                return read_unsigned(reader, path, value, UINT64_MAX, member);
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                return read_signed(reader, path, value, INT64_MIN, INT64_MAX, member);
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                r = read_signed(reader, path, value, INT32_MIN, INT32_MAX, &signed_number);
                if (r >= 0)
                        *(int32_t *) member = (int32_t) signed_number;
                return r;
        default: /* the generator refuses floating-point fields */
                assert_se(false);
        }
}

static int read_fields(Reader *reader, const JsonPath *path, const MessageInfo *info, const json_t *object,
        ProtobufCMessage *message, bool merge);

static int read_submessage(Reader *reader, const JsonPath *path, const MessageInfo *info,
        const json_t *value, ProtobufCMessage **member) {
        ProtobufCMessage *message = arena_new_message(reader->arena, info->descriptor);

        if (!message)
                return -ENOMEM;
        int r = read_fields(reader, path, info, value, message, false);
        if (r < 0)
                return r;
        *member = message;
        return 0;
}

static int read_value(Reader *reader, const JsonPath *path, const FieldInfo *info, ProtobufCType type,
        const json_t *value, void *member) {
        switch (type) {
        case PROTOBUF_C_TYPE_STRING:
                return read_string(reader, path, value, member);
        case PROTOBUF_C_TYPE_BYTES:
                return info->raw_json ? read_raw(reader, value, member)
                                      : read_base64(reader, path, value, member);
        case PROTOBUF_C_TYPE_MESSAGE:
                return read_submessage(reader, path, info->message, value, member);
        case PROTOBUF_C_TYPE_ENUM:
                return read_enum(reader, path, info->enumeration, value, member);
        case PROTOBUF_C_TYPE_BOOL:
                if (!json_is_boolean(value))
                        return json_fail(reader->error, path, "must be true or false");
                *(protobuf_c_boolean *) member = json_is_true(value);
                return 0;
        default:
                return read_integer(reader, path, type, value, member);
        }
}

/* --- fields --- */

static int read_list(Reader *reader, const JsonPath *path, const FieldInfo *info,
        const ProtobufCFieldDescriptor *field, const json_t *value, void *base) {
        size_t n = json_array_size(value), element_size = field_element_size(field);

        if (!json_is_array(value))
                return json_fail(reader->error, path, "must be a list");
        if (n == 0)
                return 0;
        uint8_t *elements = arena_alloc0(reader->arena, n * element_size);
        if (!elements)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const JsonPath step = {path, JSON_STEP_INDEX, NULL, i};
                int r = read_value(reader, &step, info, field->type, json_array_get(value, i),
                        elements + i * element_size);
                if (r < 0)
                        return r;
        }
        *(uint8_t **) ((uint8_t *) base + field->offset) = elements;
        *(size_t *) ((uint8_t *) base + field->quantifier_offset) = n;
        return 0;
}

static int read_entry(Reader *reader, const JsonPath *path, const MessageInfo *info, const char *name,
        const json_t *value, ProtobufCMessage **ret) {
        const ProtobufCFieldDescriptor *fields = info->descriptor->fields; /* key, value */
        ProtobufCMessage *entry = arena_new_message(reader->arena, info->descriptor);

        if (!entry)
                return -ENOMEM;
        char *key = arena_strdup(reader->arena, name);
        if (!key)
                return -ENOMEM;
        *(char **) ((uint8_t *) entry + fields[0].offset) = key;
        int r = read_value(
                reader, path, &info->fields[1], fields[1].type, value, (uint8_t *) entry + fields[1].offset);
        if (r < 0)
                return r;
        *ret = entry;
        return 0;
}

static int read_map(Reader *reader, const JsonPath *path, const FieldInfo *info,
        const ProtobufCFieldDescriptor *field, const json_t *value, void *base) {
        size_t n = json_object_size(value), i = 0;
        const char *name;
        json_t *member;

        if (!json_is_object(value))
                return json_fail(reader->error, path, "must be an object");
        if (n == 0)
                return 0;
        ProtobufCMessage **entries = arena_new(reader->arena, ProtobufCMessage *, n);
        if (!entries)
                return -ENOMEM;
        json_object_foreach((json_t *) value, name, member) {
                const JsonPath step = {path, JSON_STEP_KEY, name, 0};
                int r = read_entry(reader, &step, info->message, name, member, &entries[i++]);
                if (r < 0)
                        return r;
        }
        *(ProtobufCMessage ***) ((uint8_t *) base + field->offset) = entries;
        *(size_t *) ((uint8_t *) base + field->quantifier_offset) = n;
        return 0;
}

/* Marks a member of a oneof as the one that is set; another one must not be. */
static int claim_oneof(Reader *reader, const JsonPath *path, const MessageInfo *info,
        const ProtobufCFieldDescriptor *field, void *base) {
        uint32_t *which = (uint32_t *) ((uint8_t *) base + field->quantifier_offset);

        if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
                return 0;
        if (*which != 0 && *which != field->id) {
                const ProtobufCFieldDescriptor *other =
                        protobuf_c_message_descriptor_get_field(info->descriptor, *which);
                return json_fail(reader->error, path, "cannot be given together with %s",
                        other ? other->name : "another");
        }
        *which = field->id;
        return 0;
}

/* A field that the URL has set already may be repeated in the body, with the same value. */
static bool same_scalar(const ProtobufCFieldDescriptor *field, const void *a, const void *b) {
        if (field->type == PROTOBUF_C_TYPE_STRING)
                return streq(*(const char *const *) a, *(const char *const *) b);
        if (field->type == PROTOBUF_C_TYPE_BYTES || field->type == PROTOBUF_C_TYPE_MESSAGE)
                return false;
        return memcmp(a, b, field_element_size(field)) == 0;
}

static int read_field(Reader *reader, const JsonPath *path, const MessageInfo *info,
        const ProtobufCFieldDescriptor *field, const json_t *value, ProtobufCMessage *message, bool merge) {
        const FieldInfo *field_info = &info->fields[field - info->descriptor->fields];
        void *member = (uint8_t *) message + field->offset;
        bool was_set = merge && field_is_set(field, message);
        union {
                ProtobufCBinaryData bytes; /* the largest */
                uint8_t raw[sizeof(ProtobufCBinaryData)];
        } element = {};

        if (was_set && field->label == PROTOBUF_C_LABEL_REPEATED)
                return json_fail(reader->error, path, "is given twice");
        if (field_info->map)
                return read_map(reader, path, field_info, field, value, message);
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
                return read_list(reader, path, field_info, field, value, message);
        int r = claim_oneof(reader, path, info, field, message);
        if (r < 0)
                return r;
        r = read_value(reader, path, field_info, field->type, value, element.raw);
        if (r < 0)
                return r;
        if (was_set && !same_scalar(field, member, element.raw))
                return json_fail(reader->error, path, "is given twice, with different values");
        memcpy(member, element.raw, field_element_size(field));
        return 0;
}

/* NULL: unknown, as a private field is to whoever sends JSON. */
static const ProtobufCFieldDescriptor *find_field(const MessageInfo *info, const char *name) {
        const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field_by_name(info->descriptor, name);

        return field && !info->fields[field - info->descriptor->fields].private ? field : NULL;
}

static int read_fields(Reader *reader, const JsonPath *path, const MessageInfo *info, const json_t *object,
        ProtobufCMessage *message, bool merge) {
        const char *name;
        json_t *value;

        if (!json_is_object(object))
                return json_fail(reader->error, path, "must be an object");
        json_object_foreach((json_t *) object, name, value) {
                const ProtobufCFieldDescriptor *field = find_field(info, name);
                if (!field || json_is_null(value))
                        continue;
                const JsonPath step = {path, JSON_STEP_FIELD, field->name, 0};
                int r = read_field(reader, &step, info, field, value, message, merge);
                if (r < 0)
                        return r;
        }
        return 0;
}

int json_read_message(Arena *arena, const MessageInfo *info, const json_t *object,
        ProtobufCMessage **message, JsonError *error) {
        Reader reader = {arena, error};
        bool merge = *message;

        if (!*message)
                *message = arena_new_message(arena, info->descriptor);
        if (!*message)
                return -ENOMEM;
        return read_fields(&reader, NULL, info, object, *message, merge);
}

/* --- parameters --- */

static json_t *parameter_value(ProtobufCType type, const char *value) {
        if (type == PROTOBUF_C_TYPE_BOOL && streq(value, "true"))
                return json_true();
        if (type == PROTOBUF_C_TYPE_BOOL && streq(value, "false"))
                return json_false();
        return json_string_nocheck(value);
}

int json_read_parameter(Arena *arena, const MessageInfo *info, ProtobufCMessage *message, const char *name,
        const char *value, JsonError *error) {
        Reader reader = {arena, error};
        const ProtobufCFieldDescriptor *field = find_field(info, name);

        if (!field || field->label == PROTOBUF_C_LABEL_REPEATED || field->type == PROTOBUF_C_TYPE_MESSAGE)
                return -ENOENT;
        const JsonPath path = {NULL, JSON_STEP_FIELD, field->name, 0};
        if (field_is_set(field, message))
                return json_fail(error, &path, "is given twice");
        if (!utf8_is_valid(value, strlen(value)))
                return json_fail(error, &path, "must be UTF-8");
        _cleanup_json_ json_t *json = parameter_value(field->type, value);
        if (!json)
                return -ENOMEM;
        return read_field(&reader, &path, info, field, json, message, false);
}
