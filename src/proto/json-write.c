/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>

#include "proto/json.h"
#include "util/string-util.h"

#define MAX_U64_DIGITS 20

/* What a byte of a string is written as: itself, by an escape, or as part of a sequence to be checked. */
typedef enum ByteKind {
        BYTE_PLAIN,
        BYTE_ESCAPED,
        BYTE_HIGH,
} ByteKind;

static const uint8_t byte_kinds[256] = {
        [0 ... 0x1f] = BYTE_ESCAPED,
        ['"'] = BYTE_ESCAPED,
        ['\\'] = BYTE_ESCAPED,
        [0x80 ... 0xff] = BYTE_HIGH,
};

static void write_escape(Buffer *out, uint8_t c) {
        static const char letters[] = {['\b'] = 'b',
                ['\t'] = 't',
                ['\n'] = 'n',
                ['\f'] = 'f',
                ['\r'] = 'r',
                ['"'] = '"',
                ['\\'] = '\\'};
        char text[7] = {'\\'};

        if (letters[c])
                text[1] = letters[c];
        else
                snprintf(text + 1, sizeof(text) - 1, "u%04x", c);
        buffer_append_string(out, text);
}

int json_write_string(Buffer *out, const char *s, size_t size) {
        const uint8_t *p = (const uint8_t *) s, *end = p + size, *written = p;

        buffer_append(out, "\"", 1);
        while (p < end) {
                if (byte_kinds[*p] == BYTE_PLAIN) {
                        p++;
                        continue;
                }
                size_t n = byte_kinds[*p] == BYTE_HIGH ? utf8_sequence(p, end - p) : 0;
                if (n > 0) {
                        p += n;
                        continue;
                }
                buffer_append(out, written, p - written);
                if (byte_kinds[*p] == BYTE_HIGH)
                        buffer_append_string(out, "\\ufffd"); /* the replacement character */
                else
                        write_escape(out, *p);
                written = ++p;
        }
        buffer_append(out, written, p - written);
        return buffer_append(out, "\"", 1);
}

static void write_unsigned(Buffer *out, uint64_t value, bool negative) {
        char text[MAX_U64_DIGITS + 1], *p = text + sizeof(text);

        do
                *--p = (char) ('0' + value % 10);
        while ((value /= 10) > 0);
        if (negative)
                *--p = '-';
        buffer_append(out, p, text + sizeof(text) - p);
}

static void write_signed(Buffer *out, int64_t value) {
        write_unsigned(out, value < 0 ? -(uint64_t) value : (uint64_t) value, value < 0);
}

/* Many parsers, jansson among them, do not read numbers beyond a signed 64-bit one. These are written as
 * strings. */
static void write_u64(Buffer *out, uint64_t value) {
        bool quoted = value > INT64_MAX;

        if (quoted)
                buffer_append(out, "\"", 1);
        write_unsigned(out, value, false);
        if (quoted)
                buffer_append(out, "\"", 1);
}

static void write_base64(Buffer *out, const ProtobufCBinaryData *bytes) {
        size_t size = sodium_base64_encoded_len(bytes->len, sodium_base64_VARIANT_ORIGINAL); /* with NUL */
        uint8_t *p = buffer_reserve(out, size + 1);

        if (!p)
                return;
        p[0] = '"';
        sodium_bin2base64((char *) p + 1, size, bytes->data, bytes->len, sodium_base64_VARIANT_ORIGINAL);
        p[size] = '"';
        buffer_commit(out, size + 1);
}

/* As it is, but on one line, because frames are lines. A line break in JSON can only be white space. */
static void write_raw(Buffer *out, const ProtobufCBinaryData *bytes) {
        if (bytes->len == 0) {
                buffer_append_string(out, "null");
                return;
        }
        uint8_t *p = buffer_reserve(out, bytes->len);
        if (!p)
                return;
        memcpy(p, bytes->data, bytes->len);
        for (uint8_t *q = p, *end = p + bytes->len; (q = memchr(q, '\n', end - q)); q++)
                *q = ' ';
        for (uint8_t *q = p, *end = p + bytes->len; (q = memchr(q, '\r', end - q)); q++)
                *q = ' ';
        buffer_commit(out, bytes->len);
}

static void write_enum(Buffer *out, const EnumInfo *info, int value) {
        const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(info->descriptor, value);

        if (!known)
                return write_signed(out, value);
        const char *name = info->names[known - info->descriptor->values];
        json_write_string(out, name, strlen(name));
}

static void write_message(Buffer *out, const MessageInfo *info, const ProtobufCMessage *message);

static void write_value(
        Buffer *out, const FieldInfo *info, const ProtobufCFieldDescriptor *field, const void *member) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING: {
                const char *s = strempty(*(const char *const *) member);

                json_write_string(out, s, strlen(s));
                break;
        }
        case PROTOBUF_C_TYPE_BYTES:
                (info->raw_json ? write_raw : write_base64)(out, member);
                break;
        case PROTOBUF_C_TYPE_MESSAGE:
                write_message(out, info->message, *(ProtobufCMessage *const *) member);
                break;
        case PROTOBUF_C_TYPE_BOOL:
                buffer_append_string(out, *(const protobuf_c_boolean *) member ? "true" : "false");
                break;
        case PROTOBUF_C_TYPE_ENUM:
                write_enum(out, info->enumeration, *(const int *) member);
                break;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                write_unsigned(out, *(const uint32_t *) member, false);
                break;
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                write_u64(out, *(const uint64_t *) member);
                break;
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                write_signed(out, *(const int64_t *) member);
                break;
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                write_signed(out, *(const int32_t *) member);
                break;
        default: /* the generator refuses floating-point fields */
                assert_se(false);
        }
}

/* One member of an object that stands for a map. */
static void write_entry(Buffer *out, const MessageInfo *info, const ProtobufCMessage *entry) {
        const ProtobufCFieldDescriptor *key = &info->descriptor->fields[0], *value = key + 1;
        const uint8_t *base = (const uint8_t *) entry;

        write_value(out, &info->fields[0], key, base + key->offset);
        buffer_append(out, ":", 1);
        write_value(out, &info->fields[1], value, base + value->offset);
}

static void write_repeated(
        Buffer *out, const FieldInfo *info, const ProtobufCFieldDescriptor *field, const void *base) {
        size_t n = *(const size_t *) ((const uint8_t *) base + field->quantifier_offset);
        size_t element_size = field_element_size(field);
        const uint8_t *elements = *(const uint8_t *const *) ((const uint8_t *) base + field->offset);

        buffer_append(out, info->map ? "{" : "[", 1);
        for (size_t i = 0; i < n; i++, elements += element_size) {
                if (i > 0)
                        buffer_append(out, ",", 1);
                if (info->map)
                        write_entry(out, info->message, *(ProtobufCMessage *const *) elements);
                else
                        write_value(out, info, field, elements);
        }
        buffer_append(out, info->map ? "}" : "]", 1);
}

static void write_message(Buffer *out, const MessageInfo *info, const ProtobufCMessage *message) {
        const ProtobufCMessageDescriptor *descriptor = info->descriptor;
        unsigned skip = 1; /* the first key goes without its comma */

        buffer_append(out, "{", 1);
        for (unsigned i = 0; message && i < descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
                const FieldInfo *field_info = &info->fields[i];

                if (field_info->private || !field_is_set(field, message))
                        continue;
                buffer_append(out, field_info->json_key + skip, field_info->json_key_size - skip);
                skip = 0;
                if (field->label == PROTOBUF_C_LABEL_REPEATED)
                        write_repeated(out, field_info, field, message);
                else
                        write_value(out, field_info, field, (const uint8_t *) message + field->offset);
        }
        buffer_append(out, "}", 1);
}

int json_write_message(Buffer *out, const MessageInfo *info, const ProtobufCMessage *message) {
        write_message(out, info, message);
        return out->error;
}

/* The shortest text that reads as the same number, and not as an integer. */
static void write_real(Buffer *out, double value) {
        char text[32];

        for (int precision = 15; precision <= 17; precision++) {
                snprintf(text, sizeof(text), "%.*g", precision, value);
                char *comma = strchr(text, ','); /* of the locale */
                if (strtod(text, NULL) == value)
                        precision = 17;
                if (comma)
                        *comma = '.';
        }
        buffer_append_string(out, text);
        if (!strpbrk(text, ".e"))
                buffer_append_string(out, ".0");
}

static void write_container(Buffer *out, const json_t *value) {
        bool first = true;
        const char *name;
        json_t *member;
        size_t i;

        if (json_is_array(value)) {
                buffer_append(out, "[", 1);
                json_array_foreach(value, i, member) {
                        if (i > 0)
                                buffer_append(out, ",", 1);
                        json_write_value(out, member);
                }
                buffer_append(out, "]", 1);
                return;
        }
        buffer_append(out, "{", 1);
        json_object_foreach((json_t *) value, name, member) {
                if (!first)
                        buffer_append(out, ",", 1);
                first = false;
                json_write_string(out, name, strlen(name));
                buffer_append(out, ":", 1);
                json_write_value(out, member);
        }
        buffer_append(out, "}", 1);
}

int json_write_value(Buffer *out, const json_t *value) {
        switch (json_typeof(value)) {
        case JSON_OBJECT:
        case JSON_ARRAY:
                write_container(out, value);
                break;
        case JSON_STRING:
                json_write_string(out, json_string_value(value), json_string_length(value));
                break;
        case JSON_INTEGER:
                write_signed(out, json_integer_value(value));
                break;
        case JSON_REAL:
                write_real(out, json_real_value(value));
                break;
        case JSON_TRUE:
                buffer_append_string(out, "true");
                break;
        case JSON_FALSE:
                buffer_append_string(out, "false");
                break;
        case JSON_NULL:
                buffer_append_string(out, "null");
                break;
        }
        return out->error;
}
