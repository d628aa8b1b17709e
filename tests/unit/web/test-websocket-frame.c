/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder of frames by itself. What it means for a connection is in test-websocket.c and, on the installed
 * package, in tests/integration/websocket.test.mjs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "util/bytes.h"
#include "util/string-util.h"
#include "web/websocket-frame.h"

#define MAX_MESSAGE 70000U

static size_t put_frame(Buffer *out, unsigned first, const void *payload, size_t size) {
        static const uint8_t mask[4] = {0xa1, 0x02, 0xf3, 0x04};
        uint8_t head[FRAME_HEAD_MAX];
        size_t n = frame_write_head(head, FRAME_TEXT, size);

        head[0] = (uint8_t) first;
        head[1] |= 0x80;
        assert_int_equal(buffer_append(out, head, n), 0);
        assert_int_equal(buffer_append(out, mask, sizeof(mask)), 0);
        uint8_t *masked = buffer_reserve(out, size ?: 1);
        assert_non_null(masked);
        for (size_t i = 0; i < size; i++)
                masked[i] = ((const uint8_t *) payload)[i] ^ mask[i & 3];
        buffer_commit(out, size);
        return n + sizeof(mask);
}

/* The code that the input ends with: 0 if it does not. */
static unsigned read_all(Buffer *input, size_t piece, Buffer *message) {
        FrameReader reader = {.max_message = MAX_MESSAGE};
        unsigned code = 0;

        for (size_t at = 0; at < input->size; at += piece) {
                size_t n = MIN(piece, input->size - at), consumed = 0;
                FrameEvent event;
                do {
                        consumed += frame_read(&reader, input->data + at + consumed, n - consumed, &event);
                        if (event.kind == FRAME_EVENT_DATA && message)
                                assert_int_equal(buffer_append(message, event.data, event.size), 0);
                        if (event.code != 0)
                                code = event.code;
                } while (event.kind != FRAME_EVENT_NONE);
        }
        frame_reader_done(&reader);
        return code;
}

static void test_lengths(void **state) {
        static const size_t sizes[] = {0, 1, 124, 125, 126, 127, 128, 65535, 65536, 65537, MAX_MESSAGE};
        static const size_t pieces[] = {1, 7, 4096, 1 << 20};
        _cleanup_free_ uint8_t *payload = malloc(MAX_MESSAGE);

        assert_non_null(payload);
        for (size_t i = 0; i < MAX_MESSAGE; i++)
                payload[i] = (uint8_t) (i * 31);
        FOREACH_ARRAY(size, sizes, ELEMENTSOF(sizes))
                FOREACH_ARRAY(piece, pieces, ELEMENTSOF(pieces)) {
                        _cleanup_buffer_ Buffer input = {}, message = {};
                        put_frame(&input, 0x82, payload, *size);
                        assert_int_equal(read_all(&input, *piece, &message), 0);
                        assert_int_equal(message.size, *size);
                        if (*size > 0)
                                assert_memory_equal(message.data, payload, *size);
                }
}

/* Refused with the first byte that shows it, whatever is missing behind. */
static void test_bad_headers(void **state) {
        static const struct {
                const char *bytes;
                size_t size;
                unsigned code;
        } cases[] = {
                {"\xc1", 1, CLOSE_PROTOCOL_ERROR}, /* reserved bits */
                {"\xa1", 1, CLOSE_PROTOCOL_ERROR},
                {"\x91", 1, CLOSE_PROTOCOL_ERROR},
                {"\x83", 1, CLOSE_PROTOCOL_ERROR}, /* reserved opcodes */
                {"\x87", 1, CLOSE_PROTOCOL_ERROR},
                {"\x8b", 1, CLOSE_PROTOCOL_ERROR},
                {"\x8f", 1, CLOSE_PROTOCOL_ERROR},
                {"\x08", 1, CLOSE_PROTOCOL_ERROR}, /* control frames in fragments */
                {"\x09", 1, CLOSE_PROTOCOL_ERROR},
                {"\x80", 1, CLOSE_PROTOCOL_ERROR}, /* continuation of nothing */
                {"\x81\x05", 2, CLOSE_PROTOCOL_ERROR}, /* no mask */
                {"\x89\xfe", 2, CLOSE_PROTOCOL_ERROR}, /* long control frames */
                {"\x88\xff", 2, CLOSE_PROTOCOL_ERROR},
                {"\x82\xfe\x00\x7d\x01\x02\x03\x04", 8, CLOSE_PROTOCOL_ERROR}, /* overlong lengths */
                {"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04", 14, CLOSE_PROTOCOL_ERROR},
                {"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04", 14, CLOSE_PROTOCOL_ERROR},
                {"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00\x01\x02\x03\x04", 14, CLOSE_TOO_BIG},
                {"\x82\xff\x00\x00\x00\x00\x00\x01\x11\x71\x01\x02\x03\x04", 14, CLOSE_TOO_BIG},
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_buffer_ Buffer input = {};
                assert_int_equal(buffer_append(&input, c->bytes, c->size), 0);
                assert_int_equal(read_all(&input, 1, NULL), c->code);
        }
}

static void test_limit_counts_fragments(void **state) {
        static const uint8_t payload[MAX_MESSAGE];

        for (unsigned more = 0; more < 2; more++) {
                _cleanup_buffer_ Buffer input = {};
                put_frame(&input, 0x02, payload, MAX_MESSAGE - 1);
                put_frame(&input, 0x89, "ping", 4);
                put_frame(&input, 0x00, payload, 0);
                put_frame(&input, 0x80, payload, 1 + more);
                assert_int_equal(read_all(&input, 4096, NULL), more ? CLOSE_TOO_BIG : 0);
        }
}

static void test_close_codes(void **state) {
        for (unsigned code = 0; code < 65536; code++) {
                const uint8_t payload[] = {(uint8_t) (code >> 8), (uint8_t) code};
                _cleanup_buffer_ Buffer input = {};
                bool allowed = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                               (code >= 3000 && code <= 4999);
                put_frame(&input, 0x88, payload, 2);
                assert_int_equal(read_all(&input, 64, NULL), allowed ? code : CLOSE_PROTOCOL_ERROR);
        }
}

static void test_close_payloads(void **state) {
        static const struct {
                const char *payload;
                size_t size;
                unsigned code;
        } cases[] = {
                {"", 0, CLOSE_NO_STATUS},
                {"\x03", 1, CLOSE_PROTOCOL_ERROR},
                {"\x03\xe8"
                 "bye \xe2\x98\xba",
                        9, CLOSE_NORMAL},
                {"\x03\xe8\xc3", 3, CLOSE_BAD_DATA},
                {"\x03\xe8\xff", 3, CLOSE_BAD_DATA},
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases))
                for (size_t piece = 1; piece < 20; piece++) {
                        _cleanup_buffer_ Buffer input = {};
                        put_frame(&input, 0x88, c->payload, c->size);
                        put_frame(&input, 0xff, "nothing behind it counts", 24);
                        assert_int_equal(read_all(&input, piece, NULL), c->code);
                }
}

/* Every way to cut a text must come to what the whole comes to, and a bad byte is noticed when it comes. */
static void test_utf8_in_pieces(void **state) {
        static const struct {
                const char *text;
                size_t bad; /* the byte at which it is seen; SIZE_MAX: none, or only the end is missing */
                bool whole;
        } cases[] = {
                {"plain ASCII, longer than a word", SIZE_MAX, true},
                {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", SIZE_MAX, true},
                {"\xf4\x8f\xbf\xbf \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf \xc2\x80 \xe0\xa0\x80 "
                 "\xf0\x90\x80\x80",
                        SIZE_MAX, true},
                {"12345678\xe2\x98", SIZE_MAX, false},
                {"abc\xff", 3, false},
                {"\x80", 0, false},
                {"\xc0\xaf", 0, false},
                {"\xe0\x80\xaf", 1, false},
                {"\xf0\x80\x80\xaf", 1, false},
                {"12345678\xed\xa0\x80", 9, false},
                {"\xf4\x90\x80\x80", 1, false},
                {"\xf5\x80", 0, false},
                {"\xe2\x28\xa1", 1, false},
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                size_t size = strlen(c->text);
                const uint8_t *text = (const uint8_t *) c->text;

                assert_int_equal(utf8_is_valid(c->text, size), c->whole);
                for (size_t cut = 0; cut <= size; cut++) {
                        Utf8Check check = {};
                        bool valid = utf8_check(&check, text, cut);
                        if (cut > c->bad)
                                assert_false(valid);
                        else
                                assert_true(valid);
                        if (!valid)
                                continue;
                        valid = utf8_check(&check, text + cut, size - cut);
                        assert_int_equal(valid, c->bad == SIZE_MAX);
                        assert_int_equal(valid && check.missing == 0, c->whole);
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lengths),
                cmocka_unit_test(test_bad_headers),
                cmocka_unit_test(test_limit_counts_fragments),
                cmocka_unit_test(test_close_codes),
                cmocka_unit_test(test_close_payloads),
                cmocka_unit_test(test_utf8_in_pieces),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
