/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/codec.h"

#include <stdio.h>

#include "schema-tables.h"

/* --- JSON: a line a message --- */

static bool take_line(CodecReader *reader, const char **ret, size_t *ret_size) {
        while (reader->size > 0) {
                const char *line = reader->data;
                const char *end = memchr(line, '\n', reader->size);
                size_t size = end ? (size_t) (end - line) : reader->size;

                reader->data += end ? size + 1 : size;
                reader->size -= end ? size + 1 : size;
                while (size > 0 && memchr(" \t\r", line[size - 1], 3))
                        size--;
                if (size > 0) {
                        *ret = line;
                        *ret_size = size;
                        return true;
                }
        }
        return false;
}

/* The id of a command that cannot be read otherwise, so that its refusal finds the caller; 0: none. */
static uint32_t id_of(const json_t *object) {
        const json_t *id = json_object_get(object, "id");

        if (!json_is_integer(id) || json_integer_value(id) < 1 || json_integer_value(id) > UINT32_MAX)
                return 0;
        return (uint32_t) json_integer_value(id);
}

static int read_json(
        CodecReader *reader, Arena *arena, Client__Command **ret, uint32_t *ret_id, JsonError *error) {
        ProtobufCMessage *message = NULL;
        json_t *object;
        const char *line;
        size_t size;

        if (!take_line(reader, &line, &size))
                return 0;
        int r = json_parse(line, size, &object, error);
        if (r < 0)
                return r == -ENOMEM ? r : -EBADMSG;
        if (!json_is_object(object)) {
                json_decref(object);
                return -EBADMSG;
        }
        uint32_t id = id_of(object);
        r = json_read_message(arena, &client__command__info, object, &message, error);
        json_decref(object);
        if (r == -EINVAL && id == 0)
                return -EBADMSG;
        *ret_id = id;
        if (r < 0)
                return r;
        *ret = (Client__Command *) message;
        return 1;
}

/* --- protobuf: a length before each message --- */

/* Reads a varint of at most 32 bits. */
static int take_varint(CodecReader *reader, uint32_t *ret) {
        uint32_t value = 0;

        for (unsigned shift = 0; shift < 35 && reader->size > 0; shift += 7) {
                uint8_t byte = (uint8_t) *reader->data;

                reader->data++;
                reader->size--;
                if (shift == 28 && byte > 0x0f)
                        break;
                value |= (uint32_t) (byte & 0x7f) << shift;
                if (!(byte & 0x80)) {
                        *ret = value;
                        return 0;
                }
        }
        return -EBADMSG;
}

static int read_protobuf(CodecReader *reader, Arena *arena, Client__Command **ret, uint32_t *ret_id) {
        ProtobufCMessage *message;
        uint32_t size;

        if (reader->size == 0)
                return 0;
        if (take_varint(reader, &size) < 0 || size > reader->size)
                return -EBADMSG;
        int r = arena_unpack(arena, &client__command__descriptor, reader->data, size, &message);
        reader->data += size;
        reader->size -= size;
        if (r < 0)
                return r;
        *ret = (Client__Command *) message;
        *ret_id = (*ret)->id;
        return 1;
}

int codec_read(
        CodecReader *reader, Arena *arena, Client__Command **ret, uint32_t *ret_id, JsonError *error) {
        Client__Command *command;
        uint32_t id = 0;

        int r = reader->kind == CODEC_JSON ? read_json(reader, arena, &command, &id, error)
                                           : read_protobuf(reader, arena, &command, &id);
        if (r > 0) {
                r = message_check(&client__command__info, &command->base, error);
                if (r < 0 && id == 0)
                        return -EBADMSG;
                if (r >= 0) {
                        *ret = command;
                        r = 1;
                }
        }
        if (r == 1 || r == -EINVAL)
                *ret_id = id;
        return r;
}

/* --- replies --- */

static void append_varint(Buffer *out, size_t value) {
        uint8_t bytes[10];
        size_t n = 0;

        do {
                bytes[n] = (uint8_t) (value & 0x7f);
                value >>= 7;
                if (value > 0)
                        bytes[n] |= 0x80;
                n++;
        } while (value > 0);
        (void) buffer_append(out, bytes, n);
}

int codec_append(Buffer *out, CodecKind kind, const Client__Reply *reply) {
        if (kind == CODEC_JSON) {
                if (out->size > 0)
                        (void) buffer_append(out, "\n", 1);
                return json_write_message(out, &client__reply__info, &reply->base);
        }
        size_t size = client__reply__get_packed_size(reply);
        append_varint(out, size);
        uint8_t *place = buffer_reserve(out, size);
        if (!place)
                return out->error;
        client__reply__pack(reply, place);
        buffer_commit(out, size);
        return 0;
}

Bytes *codec_encode(CodecKind kind, const Client__Reply *reply) {
        _cleanup_buffer_ Buffer out = {};

        if (codec_append(&out, kind, reply) < 0)
                return NULL;
        return bytes_new_copy(out.data, out.size);
}
