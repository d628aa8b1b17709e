/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Messages of any type with random content that keeps to what JSON can carry; the same for the same seed. */

#include <stdio.h>

#include "proto/json.h"
#include "random.h"

static char *random_string(Random *random, Arena *arena) {
        static const char *const pieces[] = {"a", "Z", "0", " ", "\"", "\\", "/", "\n", "\t", "\x01", "\x1f",
                "\x7f", "é", "€", "🐦", "</"};
        char text[256] = "";
        size_t used = 0;

        for (uint64_t n = random_next(random) % 20; n > 0; n--)
                used += (size_t) snprintf(text + used, sizeof(text) - used, "%s",
                        pieces[random_next(random) % ELEMENTSOF(pieces)]);
        char *s = arena_strdup(arena, text);
        assert_se(s);
        return s;
}

static uint64_t random_number(Random *random) {
        static const uint64_t edges[] = {0, 1, INT32_MAX, (uint64_t) INT32_MAX + 1, UINT32_MAX, INT64_MAX,
                (uint64_t) INT64_MAX + 1, UINT64_MAX, UINT64_MAX - 1, 1ULL << 53, (1ULL << 53) + 1};
        uint64_t n = random_next(random);

        return n % 3 == 0 ? edges[n / 3 % ELEMENTSOF(edges)] : random_next(random) >> (n / 3 % 64);
}

static ProtobufCBinaryData random_bytes_field(Random *random, Arena *arena, bool raw_json) {
        static const char *const texts[] = {"{}", "[]", "1", "-1", "0.1", "\"a\\nb\"", "true",
                "{\"text\":\"é\",\"n\":[1,2.5,{\"x\":null}]}", "9223372036854775807"};
        uint8_t data[40];
        size_t size = random_next(random) % sizeof(data);
        const char *text = texts[random_next(random) % ELEMENTSOF(texts)];

        for (size_t i = 0; i < size; i++)
                data[i] = (uint8_t) random_next(random);
        size = raw_json ? strlen(text) : size;
        return (ProtobufCBinaryData){size, arena_memdup(arena, raw_json ? (const void *) text : data, size)};
}

static ProtobufCMessage *random_message(Random *random, Arena *arena, const MessageInfo *info);

static void random_value(Random *random, Arena *arena, const FieldInfo *info,
        const ProtobufCFieldDescriptor *field, void *member) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING:
                *(char **) member = random_string(random, arena);
                break;
        case PROTOBUF_C_TYPE_BYTES:
                *(ProtobufCBinaryData *) member = random_bytes_field(random, arena, info->raw_json);
                break;
        case PROTOBUF_C_TYPE_MESSAGE:
                *(ProtobufCMessage **) member = random_message(random, arena, info->message);
                break;
        case PROTOBUF_C_TYPE_ENUM: {
                const ProtobufCEnumDescriptor *descriptor = info->enumeration->descriptor;

                *(int *) member = descriptor->values[random_next(random) % descriptor->n_values].value;
                break;
        }
        case PROTOBUF_C_TYPE_BOOL:
                *(protobuf_c_boolean *) member = random_next(random) & 1;
                break;
        default:
                if (field_element_size(field) == sizeof(uint64_t))
                        *(uint64_t *) member = random_number(random);
                else
                        *(uint32_t *) member = (uint32_t) random_number(random);
        }
}

/* The keys of a map must differ, and a value that is missing is one with all defaults. */
static void complete_entry(Arena *arena, const MessageInfo *info, ProtobufCMessage *entry, size_t i) {
        const ProtobufCFieldDescriptor *fields = info->descriptor->fields; /* key, value */
        ProtobufCMessage **value = (ProtobufCMessage **) ((uint8_t *) entry + fields[1].offset);
        char *key = arena_printf(arena, "key \"%zu\"", i);

        assert_se(key);
        *(char **) ((uint8_t *) entry + fields[0].offset) = key;
        if (fields[1].type == PROTOBUF_C_TYPE_MESSAGE && !*value)
                assert_se(*value = arena_new_message(arena, info->fields[1].message->descriptor));
}

static void random_list(Random *random, Arena *arena, const FieldInfo *info,
        const ProtobufCFieldDescriptor *field, ProtobufCMessage *message) {
        size_t n = random_next(random) % 4, size = field_element_size(field);
        uint8_t *elements = arena_alloc0(arena, n * size);

        assert_se(elements);
        for (size_t i = 0; i < n; i++) {
                random_value(random, arena, info, field, elements + i * size);
                if (info->map)
                        complete_entry(
                                arena, info->message, *(ProtobufCMessage **) (elements + i * size), i);
        }
        *(size_t *) ((uint8_t *) message + field->quantifier_offset) = n;
        *(uint8_t **) ((uint8_t *) message + field->offset) = elements;
}

static ProtobufCMessage *random_message(Random *random, Arena *arena, const MessageInfo *info) {
        ProtobufCMessage *message = arena_new_message(arena, info->descriptor);

        assert_se(message);
        for (unsigned i = 0; i < info->descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &info->descriptor->fields[i];
                uint32_t *which = (uint32_t *) ((uint8_t *) message + field->quantifier_offset);
                bool oneof = field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;

                if (info->fields[i].private) /* JSON has none of it */
                        continue;
                if (random_next(random) % 3 == 0 || (oneof && *which != 0))
                        continue;
                if (field->label == PROTOBUF_C_LABEL_REPEATED) {
                        random_list(random, arena, &info->fields[i], field, message);
                        continue;
                }
                if (oneof)
                        *which = field->id;
                random_value(random, arena, &info->fields[i], field, (uint8_t *) message + field->offset);
        }
        return message;
}
