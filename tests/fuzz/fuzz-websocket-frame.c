/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a WebSocket, in one piece, byte by byte, and cut where the input says: the same must be told of them, and
 * no more than the limit. The first byte is the limit, the second the length of the pieces. */
#include <stdbool.h>
#include <stdio.h>

#include "util/bytes.h"
#include "util/string-util.h"
#include "web/websocket-frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was told, as a text without the cuts. */
typedef struct Story {
        Buffer out, message;
} Story;

static void tell_number(Buffer *out, const char *what, size_t number) {
        char text[64];

        snprintf(text, sizeof(text), "%s %zu\n", what, number);
        assert_se(buffer_append_string(out, text) >= 0);
}

static void tell(Story *story, const FrameReader *reader, const FrameEvent *event) {
        Buffer *message = &story->message;

        switch (event->kind) {
        case FRAME_EVENT_DATA:
                assert_se(buffer_append(message, event->data, event->size) >= 0);
                assert_se(message->size <= reader->max_message);
                if (!event->last)
                        break;
                /* Unlike there, NUL is a character here. */
                for (size_t i = 0; !event->binary && i < message->size; i++)
                        if (message->data[i] == 0)
                                message->data[i] = ' ';
                assert_se(event->binary || utf8_is_valid((const char *) message->data, message->size));
                tell_number(&story->out, event->binary ? "binary" : "text", message->size);
                assert_se(buffer_append(&story->out, message->data, message->size) >= 0);
                message->size = 0;
                break;
        case FRAME_EVENT_PING:
                assert_se(event->size <= FRAME_CONTROL_MAX);
                tell_number(&story->out, "ping", event->size);
                assert_se(buffer_append(&story->out, event->data, event->size) >= 0);
                break;
        case FRAME_EVENT_CLOSE:
                assert_se(event->code == CLOSE_NO_STATUS || close_code_is_valid(event->code));
                tell_number(&story->out, "close", event->code);
                break;
        case FRAME_EVENT_FAILED:
                assert_se(close_code_is_valid(event->code) && event->reason);
                tell_number(&story->out, event->reason, event->code);
                break;
        case FRAME_EVENT_NONE:
                break;
        }
}

static void read_in_pieces(
        Story *story, const uint8_t *input, size_t size, size_t max_message, size_t piece) {
        FrameReader reader = {.max_message = (uint32_t) max_message};

        for (size_t at = 0; at < size; at += piece) {
                size_t n = MIN(piece, size - at), consumed = 0;
                _cleanup_free_ uint8_t *copy = malloc(n);
                FrameEvent event;

                assert_se(copy);
                memcpy(copy, input + at, n);
                do {
                        size_t before = consumed;
                        consumed += frame_read(&reader, copy + consumed, n - consumed, &event);
                        assert_se(consumed <= n && (consumed > before || event.kind == FRAME_EVENT_NONE));
                        tell(story, &reader, &event);
                } while (event.kind != FRAME_EVENT_NONE);
                assert_se(consumed == n);
        }
        frame_reader_done(&reader);
}

static void story_done(Story *story) {
        buffer_done(&story->out);
        buffer_done(&story->message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size < 2)
                return 0;
        size_t max_message = (size_t) data[0] * 16, pieces[] = {size, 1, (size_t) data[1] % 64 + 1};
        _cleanup_(story_done) Story first = {};

        FOREACH_ARRAY(piece, pieces, ELEMENTSOF(pieces)) {
                _cleanup_(story_done) Story story = {};
                read_in_pieces(&story, data + 2, size - 2, max_message, *piece);
                if (piece == pieces)
                        first = TAKE_GENERIC(story, (Story){});
                else
                        assert_se(story.out.size == first.out.size &&
                                  (first.out.size == 0 ||
                                          memcmp(story.out.data, first.out.data, first.out.size) == 0));
        }
        return 0;
}
