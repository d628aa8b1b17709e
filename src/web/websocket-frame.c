/* SPDX-License-Identifier: Apache-2.0 */
#include "web/websocket-frame.h"

#include "util/string-util.h"

/* --- UTF-8 --- */

/* What may follow the first byte of a character: table 3-7 of the Unicode standard. */
static bool utf8_begin(Utf8Check *check, uint8_t first) {
        *check = (Utf8Check){.low = 0x80, .high = 0xbf};
        if (first < 0x80)
                return true;
        if (first < 0xc2 || first > 0xf4)
                return false;
        check->missing = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        if (first == 0xe0)
                check->low = 0xa0; /* no overlong forms */
        else if (first == 0xed)
                check->high = 0x9f; /* no surrogates */
        else if (first == 0xf0)
                check->low = 0x90;
        else if (first == 0xf4)
                check->high = 0x8f; /* nothing above U+10FFFF */
        return true;
}

bool utf8_check(Utf8Check *check, const uint8_t *data, size_t size) {
        const uint8_t *p = data, *end = data + size;

        while (p < end) {
                uint64_t word;

                if (check->missing > 0) {
                        if (*p < check->low || *p > check->high)
                                return false;
                        check->low = 0x80;
                        check->high = 0xbf;
                        check->missing--;
                        p++;
                        continue;
                }
                for (; end - p >= (ptrdiff_t) sizeof(word); p += sizeof(word)) {
                        memcpy(&word, p, sizeof(word));
                        if (word & 0x8080808080808080U)
                                break;
                }
                if (p < end && !utf8_begin(check, *p++))
                        return false;
        }
        return true;
}

/* --- headers --- */

bool close_code_is_valid(unsigned code) {
        /* RFC 6455 section 7.4 and IANA's registry: 1004 to 1006 and 1015 never stand in a frame, 1016 to 2999 are
         * not given out. */
        return (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
               (code >= 3000 && code <= 4999);
}

static size_t frame_failed(
        FrameReader *reader, FrameEvent *ret, size_t consumed, unsigned code, const char *reason) {
        reader->ended = true;
        *ret = (FrameEvent){.kind = FRAME_EVENT_FAILED, .code = code, .reason = reason};
        return consumed;
}

static bool is_control(uint8_t opcode) {
        return opcode & 8;
}

/* NULL, or what is wrong with the first two bytes. */
static const char *check_beginning(const FrameReader *reader) {
        uint8_t opcode = reader->head[0] & 0xf, length = reader->head[1] & 0x7f;
        bool final = reader->head[0] & 0x80;

        if (reader->head[0] & 0x70)
                return "reserved bit set";
        if (opcode > FRAME_PONG || (opcode > FRAME_BINARY && opcode < FRAME_CLOSE))
                return "reserved opcode";
        if (is_control(opcode) && !final)
                return "control frame in fragments";
        if (opcode == FRAME_CONTINUATION && !reader->in_message)
                return "continuation of nothing";
        if ((opcode == FRAME_TEXT || opcode == FRAME_BINARY) && reader->in_message)
                return "message within a message";
        if (reader->n_head < 2)
                return NULL;
        if (!(reader->head[1] & 0x80))
                return "frame without mask";
        if (is_control(opcode) && length > FRAME_CONTROL_MAX)
                return "control frame too long";
        return NULL;
}

static size_t length_size(uint8_t length) {
        return length == 127 ? 8 : length == 126 ? 2 : 0;
}

static size_t head_size(const FrameReader *reader) {
        return reader->n_head < 2 ? 2 : 2 + length_size(reader->head[1] & 0x7f) + sizeof(reader->mask);
}

/* -EPROTO: not in the shortest form, or with the highest bit. */
static int frame_length(const FrameReader *reader, uint64_t *ret) {
        uint8_t length = reader->head[1] & 0x7f;
        size_t n = length_size(length);
        uint64_t value = 0;

        if (n == 0) {
                *ret = length;
                return 0;
        }
        for (size_t i = 0; i < n; i++)
                value = value << 8 | reader->head[2 + i];
        if (value < 126 || (n == 8 && value <= UINT16_MAX) || value > INT64_MAX)
                return -EPROTO;
        *ret = value;
        return 0;
}

/* The header is complete. False: *ret says why the connection fails. */
static bool begin_payload(FrameReader *reader, FrameEvent *ret) {
        uint64_t length;

        if (frame_length(reader, &length) < 0) {
                frame_failed(reader, ret, 0, CLOSE_PROTOCOL_ERROR, "length not in its shortest form");
                return false;
        }
        reader->opcode = reader->head[0] & 0xf;
        reader->final = reader->head[0] & 0x80;
        if (!is_control(reader->opcode)) {
                if (reader->opcode != FRAME_CONTINUATION) {
                        reader->binary = reader->opcode == FRAME_BINARY;
                        reader->in_message = true;
                        reader->message = 0;
                        reader->text = (Utf8Check){};
                }
                if (reader->message > reader->max_message ||
                        length > reader->max_message - reader->message) {
                        frame_failed(reader, ret, 0, CLOSE_TOO_BIG, "message too large");
                        return false;
                }
                reader->message += (uint32_t) length;
        }
        memcpy(reader->mask, reader->head + reader->n_head - sizeof(reader->mask), sizeof(reader->mask));
        reader->left = (uint32_t) length;
        reader->mask_at = 0;
        reader->n_control = 0;
        reader->in_payload = true;
        reader->n_head = 0;
        return true;
}

/* Consumes bytes of the header, as far as they are there. */
static size_t read_head(FrameReader *reader, const uint8_t *data, size_t size, FrameEvent *ret) {
        size_t consumed = 0;

        while (consumed < size && reader->n_head < head_size(reader)) {
                reader->head[reader->n_head++] = data[consumed++];
                const char *problem = reader->n_head <= 2 ? check_beginning(reader) : NULL;
                if (problem)
                        return frame_failed(reader, ret, consumed, CLOSE_PROTOCOL_ERROR, problem);
        }
        if (reader->n_head >= 2 && reader->n_head == head_size(reader))
                (void) begin_payload(reader, ret);
        return consumed;
}

/* --- payloads --- */

static void unmask(FrameReader *reader, uint8_t *data, size_t size) {
        uint8_t mask[8];
        uint64_t mask_word, word;
        size_t i = 0;

        for (size_t j = 0; j < sizeof(mask); j++)
                mask[j] = reader->mask[(reader->mask_at + j) & 3];
        memcpy(&mask_word, mask, sizeof(mask_word));
        for (; size - i >= sizeof(word); i += sizeof(word)) {
                memcpy(&word, data + i, sizeof(word));
                word ^= mask_word;
                memcpy(data + i, &word, sizeof(word));
        }
        for (; i < size; i++)
                data[i] ^= mask[i & 7];
        reader->mask_at = (reader->mask_at + size) & 3;
}

static size_t read_data(FrameReader *reader, uint8_t *data, size_t size, FrameEvent *ret) {
        size_t n = MIN((size_t) reader->left, size);

        if (n == 0 && reader->left > 0)
                return 0;
        unmask(reader, data, n);
        reader->left -= (uint32_t) n;
        reader->in_payload = reader->left > 0;
        bool last = reader->left == 0 && reader->final;
        if (!reader->binary && (!utf8_check(&reader->text, data, n) || (last && reader->text.missing > 0)))
                return frame_failed(reader, ret, n, CLOSE_BAD_DATA, "text is not UTF-8");
        if (last)
                reader->in_message = false;
        *ret = (FrameEvent){
                .kind = FRAME_EVENT_DATA, .data = data, .size = n, .binary = reader->binary, .last = last};
        return n;
}

static void read_close(FrameReader *reader, uint8_t *data, size_t size, FrameEvent *ret) {
        Utf8Check reason = {};
        unsigned code = CLOSE_NO_STATUS;

        if (size == 1) {
                frame_failed(reader, ret, 0, CLOSE_PROTOCOL_ERROR, "close code cut off");
                return;
        }
        if (size >= 2) {
                code = (unsigned) data[0] << 8 | data[1];
                if (!close_code_is_valid(code)) {
                        frame_failed(reader, ret, 0, CLOSE_PROTOCOL_ERROR, "close code not allowed");
                        return;
                }
                if (!utf8_check(&reason, data + 2, size - 2) || reason.missing > 0) {
                        frame_failed(reader, ret, 0, CLOSE_BAD_DATA, "close reason is not UTF-8");
                        return;
                }
        }
        reader->ended = true;
        *ret = (FrameEvent){.kind = FRAME_EVENT_CLOSE, .code = code};
}

/* A control frame is told of when it is complete. */
static size_t read_control(FrameReader *reader, uint8_t *data, size_t size, FrameEvent *ret) {
        size_t n = MIN((size_t) reader->left, size);
        uint8_t *payload = data;

        unmask(reader, data, n);
        if (reader->n_control > 0 || n < reader->left) {
                if (n == 0)
                        return 0;
                if (!reader->control)
                        reader->control = malloc(FRAME_CONTROL_MAX);
                if (!reader->control)
                        return frame_failed(reader, ret, n, CLOSE_INTERNAL_ERROR, "out of memory");
                memcpy(reader->control + reader->n_control, data, n);
                payload = reader->control;
        }
        reader->n_control += (uint8_t) n;
        reader->left -= (uint32_t) n;
        if (reader->left > 0)
                return n;
        reader->in_payload = false;
        if (reader->opcode == FRAME_CLOSE)
                read_close(reader, payload, reader->n_control, ret);
        else if (reader->opcode == FRAME_PING)
                *ret = (FrameEvent){.kind = FRAME_EVENT_PING, .data = payload, .size = reader->n_control};
        return n;
}

size_t frame_read(FrameReader *reader, uint8_t *data, size_t size, FrameEvent *ret) {
        size_t consumed = 0;

        *ret = (FrameEvent){};
        if (reader->ended)
                return size;
        do {
                if (!reader->in_payload)
                        consumed += read_head(reader, data + consumed, size - consumed, ret);
                if (ret->kind != FRAME_EVENT_NONE || !reader->in_payload)
                        return consumed;
                uint8_t *rest = data + consumed;
                consumed += is_control(reader->opcode) ? read_control(reader, rest, size - consumed, ret)
                                                       : read_data(reader, rest, size - consumed, ret);
        } while (ret->kind == FRAME_EVENT_NONE && consumed < size);
        return consumed;
}

void frame_reader_done(FrameReader *reader) {
        reader->control = mfree(reader->control);
}

/* --- what we send --- */

size_t frame_write_head(uint8_t out[static FRAME_HEAD_MAX], FrameOpcode opcode, uint64_t size) {
        size_t n = size > UINT16_MAX ? 8 : size > 125 ? 2 : 0;

        out[0] = (uint8_t) (0x80 | opcode);
        out[1] = n == 8 ? 127 : n == 2 ? 126 : (uint8_t) size;
        for (size_t i = 0; i < n; i++)
                out[2 + i] = (uint8_t) (size >> (8 * (n - 1 - i)));
        return 2 + n;
}
