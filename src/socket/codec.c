/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/codec.h"

#include <stdio.h>

#include "schema-tables.h"

/* The rule of `data` in client.proto. */
#define DATA_MAX_SIZE (1U << 20)

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

/* The same of a line that is no JSON: commands of the SDKs begin or end with it. One bad text, such as the half
 * of an emoji that an application cut off, must not end the connection of a client that has nothing else to
 * say wrong; where the next command begins is known by the newline all the same. */
static uint32_t outer_id(const char *line, size_t size) {
        static const char member[] = "\"id\":";
        const size_t length = sizeof(member) - 1;
        size_t i = 0, begin;
        uint64_t id = 0;

        if (size <= length + 2 || line[0] != '{')
                return 0;
        if (memcmp(line + 1, member, length) == 0)
                i = 1 + length + (line[1 + length] == ' ');
        else if (line[size - 1] == '}') {
                for (i = size - 1; line[i - 1] >= '0' && line[i - 1] <= '9';)
                        i--;
                begin = i - (line[i - 1] == ' ');
                if (begin <= length || memcmp(line + begin - length, member, length) != 0)
                        return 0;
        }
        for (; i > 0 && i < size && line[i] >= '0' && line[i] <= '9' && id <= UINT32_MAX; i++)
                id = id * 10 + (uint64_t) (line[i] - '0');
        return i < size && memchr(",}", line[i], 2) && id <= UINT32_MAX ? (uint32_t) id : 0;
}

/* Takes the data out of a command, see codec_read(). NULL where there is none, or may be more of it than the
 * rules of the command allow: then that shall be found out in the ordinary way. */
static json_t *take_data(json_t *command, size_t size) {
        static const char *const methods[] = {"rpc", "publish"};

        if (size > DATA_MAX_SIZE)
                return NULL;
        FOREACH_ARRAY(method, methods, ELEMENTSOF(methods)) {
                json_t *request = json_object_get(command, *method);
                json_t *data = json_object_get(request, "data");

                if (!json_is_object(data))
                        continue;
                json_incref(data);
                if (json_object_set_new(request, "data", json_object()) >= 0)
                        return data;
                json_decref(data);
        }
        return NULL;
}

static int read_json(CodecReader *reader, Arena *arena, Client__Command **ret, json_t **ret_data,
        uint32_t *ret_id, JsonError *error) {
        ProtobufCMessage *message = NULL;
        _cleanup_json_ json_t *object = NULL, *data = NULL;
        const char *line;
        size_t size;

        if (!take_line(reader, &line, &size))
                return 0;
        int r = json_parse(line, size, &object, error);
        if (r == -ENOMEM)
                return r;
        uint32_t id = r < 0 ? outer_id(line, size) : id_of(object);
        if (r < 0 && id > 0) {
                *ret_id = id;
                return -EINVAL;
        }
        if (r < 0 || !json_is_object(object))
                return -EBADMSG;
        data = take_data(object, size);
        r = json_read_message(arena, &client__command__info, object, &message, error);
        if (r == -EINVAL && id == 0)
                return -EBADMSG;
        *ret_id = id;
        if (r < 0)
                return r;
        *ret = (Client__Command *) message;
        *ret_data = TAKE_PTR(data);
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

int codec_read(CodecReader *reader, Arena *arena, Client__Command **ret, json_t **ret_data, uint32_t *ret_id,
        JsonError *error) {
        _cleanup_json_ json_t *data = NULL;
        Client__Command *command = NULL;
        uint32_t id = 0;

        int r = reader->kind == CODEC_JSON ? read_json(reader, arena, &command, &data, &id, error)
                                           : read_protobuf(reader, arena, &command, &id);
        if (r > 0) {
                r = message_check(&client__command__info, &command->base, error);
                if (r < 0 && id == 0)
                        return -EBADMSG;
                if (r >= 0) {
                        *ret = command;
                        *ret_data = TAKE_PTR(data);
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
