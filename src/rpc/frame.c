/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/frame.h"

#include "util/string-util.h"

int frame_find(const uint8_t *data, size_t size, const uint8_t **ret_envelope, size_t *ret_size) {
        if (size < FRAME_HEADER_SIZE)
                return 0;

        uint32_t length = (uint32_t) data[0] << 24 | (uint32_t) data[1] << 16 | (uint32_t) data[2] << 8 |
                          (uint32_t) data[3];
        if (length == 0)
                return -EBADMSG;
        if (length > RPC_MAX_FRAME)
                return -EMSGSIZE;
        if (size - FRAME_HEADER_SIZE < length)
                return 0;
        *ret_envelope = data + FRAME_HEADER_SIZE;
        *ret_size = length;
        return 1;
}

int frame_append(Buffer *out, const Sc__Envelope *envelope) {
        size_t size = sc__envelope__get_packed_size(envelope);
        if (size == 0)
                return -EBADMSG;
        if (size > RPC_MAX_FRAME)
                return -EMSGSIZE;

        uint8_t *p = buffer_reserve(out, FRAME_HEADER_SIZE + size);
        if (!p)
                return out->error;
        p[0] = size >> 24;
        p[1] = size >> 16;
        p[2] = size >> 8;
        p[3] = size;
        sc__envelope__pack(envelope, p + FRAME_HEADER_SIZE);
        buffer_commit(out, FRAME_HEADER_SIZE + size);
        return 0;
}

static bool method_is_valid(const char *method) {
        size_t size = strnlen(method, FRAME_MAX_METHOD + 1);
        return size > 0 && size <= FRAME_MAX_METHOD && identifier_is_valid(method, size);
}

static bool envelope_is_valid(const Sc__Envelope *envelope) {
        if (envelope->trace && envelope->trace->id.len != sizeof((Trace){}.id))
                return false;

        switch (envelope->kind) {
        case SC__ENVELOPE__KIND__REQUEST:
                return envelope->id != 0 && method_is_valid(envelope->method);
        case SC__ENVELOPE__KIND__RESPONSE:
                return envelope->id != 0;
        case SC__ENVELOPE__KIND__PUSH:
                return envelope->id == 0 && method_is_valid(envelope->method);
        case SC__ENVELOPE__KIND__HELLO:
                return envelope->id == 0 && envelope->hello;
        case SC__ENVELOPE__KIND__PING:
        case SC__ENVELOPE__KIND__PONG:
                return envelope->id == 0;
        case SC__ENVELOPE__KIND__CANCEL:
                return envelope->id != 0;
        default:
                return false;
        }
}

int frame_unpack(Arena *arena, const uint8_t *data, size_t size, Sc__Envelope **ret) {
        ProtobufCMessage *message;

        int r = arena_unpack(arena, &sc__envelope__descriptor, data, size, &message);
        if (r < 0)
                return r;
        Sc__Envelope *envelope = (Sc__Envelope *) message;
        if (!envelope_is_valid(envelope))
                return -EBADMSG;
        *ret = envelope;
        return 0;
}
