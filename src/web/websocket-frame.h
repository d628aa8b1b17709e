/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Decodes the frames that a client sends (RFC 6455 section 5), as they arrive: in any pieces, nothing is copied but
 * control frames that come in several. Everything that the RFC lets a server check is checked, at the first byte
 * that shows it. */

#include <stdbool.h>

#include "util/macro.h"

/* The longest header of a frame: two bytes, the long length, the mask. */
#define FRAME_HEAD_MAX 14U
/* The longest payload of a control frame. */
#define FRAME_CONTROL_MAX 125U

typedef enum FrameOpcode {
        FRAME_CONTINUATION = 0,
        FRAME_TEXT = 1,
        FRAME_BINARY = 2,
        FRAME_CLOSE = 8,
        FRAME_PING = 9,
        FRAME_PONG = 10,
} FrameOpcode;

/* Codes of a close frame that this layer uses (RFC 6455 section 7.4.1). */
typedef enum CloseCode {
        CLOSE_NORMAL = 1000,
        CLOSE_PROTOCOL_ERROR = 1002,
        CLOSE_NO_STATUS = 1005, /* stands in no frame: there was no code */
        CLOSE_BAD_DATA = 1007,
        CLOSE_TOO_BIG = 1009,
        CLOSE_INTERNAL_ERROR = 1011,
        CLOSE_TRY_AGAIN_LATER = 1013, /* IANA's registry */
} CloseCode;

/* UTF-8 that comes in pieces: zero-initialise it. */
typedef struct Utf8Check {
        uint8_t missing; /* bytes that the character under way still wants */
        uint8_t low, high; /* the next of them lies between, both included */
} Utf8Check;

/* False: the text is no UTF-8 (RFC 3629), whatever follows. NUL is a character as others are. */
bool utf8_check(Utf8Check *check, const uint8_t *data, size_t size);

/* Zero-initialise it, and set max_message; it may change between messages. */
typedef struct FrameReader {
        uint32_t max_message; /* bytes */
        uint32_t message; /* bytes of the message under way, with all of its present frame */
        uint32_t left; /* bytes of the frame's payload still to come */
        uint8_t *control; /* of a control frame that came in pieces: FRAME_CONTROL_MAX */
        uint8_t head[FRAME_HEAD_MAX];
        uint8_t n_head, n_control;
        uint8_t mask[4];
        Utf8Check text;
        uint8_t mask_at : 2;
        bool in_payload : 1;
        bool in_message : 1;
        bool binary : 1; /* the message */
        bool final : 1; /* the frame */
        bool ended : 1; /* by a close frame or a failure: nothing more is read */
        uint8_t opcode; /* of the frame */
} FrameReader;

typedef enum FrameEventKind {
        FRAME_EVENT_NONE, /* all was consumed, more must come */
        FRAME_EVENT_DATA, /* a piece of a message, perhaps empty, or all of it */
        FRAME_EVENT_PING,
        FRAME_EVENT_CLOSE, /* code: that of the peer, or CLOSE_NO_STATUS */
        FRAME_EVENT_FAILED, /* code and reason: what the connection is to be closed with */
} FrameEventKind;

typedef struct FrameEvent {
        FrameEventKind kind;
        uint8_t *data; /* in the buffer that was read, or the reader's until the next call */
        size_t size;
        bool binary, last; /* of a message: this was its last piece */
        unsigned code;
        const char *reason;
} FrameEvent;

/* Takes the next event out of `data`, which it unmasks in place; how many bytes it consumed: go on behind them,
 * until FRAME_EVENT_NONE. After FAILED and CLOSE it consumes everything and tells nothing. */
size_t frame_read(FrameReader *reader, uint8_t *data, size_t size, FrameEvent *ret);
void frame_reader_done(FrameReader *reader);

/* May the code stand in a close frame? */
bool close_code_is_valid(unsigned code);

/* Writes the header of a whole, unmasked frame; its size, at most 10. */
size_t frame_write_head(uint8_t out[static FRAME_HEAD_MAX], FrameOpcode opcode, uint64_t size);
