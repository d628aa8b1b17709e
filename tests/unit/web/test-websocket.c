/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "web-fixture.h"

/* --- WebSocket --- */

static void test_messages(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        _cleanup_free_ char *large = malloc(fixture_limits.max_message);
        Seen seen;

        client_text(fd, "h\xc3\xa9llo");
        assert_true(client_read_frame(fd, frame));
        assert_int_equal(frame->opcode, 1);
        assert_true(frame->final);
        assert_string_equal(frame->data, "h\xc3\xa9llo");

        client_frame(fd, 0x82, "\xff\0\xfe", 3, true);
        assert_true(client_read_frame(fd, frame));
        assert_int_equal(frame->opcode, 2);
        assert_int_equal(frame->size, 3);
        assert_memory_equal(frame->data, "\xff\0\xfe", 3);
        fixture_seen(f, &seen);
        assert_true(seen.binary);

        client_text(fd, "");
        assert_true(client_read_frame(fd, frame));
        assert_int_equal(frame->size, 0);

        memset(large, 'l', fixture_limits.max_message);
        client_frame(fd, 0x81, large, fixture_limits.max_message, true);
        assert_true(client_read_frame(fd, frame));
        assert_int_equal(frame->size, fixture_limits.max_message);
        assert_memory_equal(frame->data, large, fixture_limits.max_message);

        fixture_seen(f, &seen);
        assert_int_equal(seen.n_messages, 4);
        assert_int_equal(WAIT_SEEN(f, n_drained, 4), 4);
        close(TAKE_FD(fd));
        assert_int_equal(WAIT_SEEN(f, n_closes, 1), 1);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_slow, 0);
        fixture_free(f);
}

static void test_many_messages_at_once(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        char text[32];

        for (unsigned i = 0; i < 500; i++) {
                snprintf(text, sizeof(text), "message %u", i);
                client_text(fd, text);
        }
        for (unsigned i = 0; i < 500; i++) {
                snprintf(text, sizeof(text), "message %u", i);
                assert_true(client_read_frame(fd, frame));
                assert_string_equal(frame->data, text);
        }
        fixture_free(f);
}

static void test_fragments(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        unsigned n_pongs = 0;
        char piece[3000];

        /* With a ping in between, and a character cut in two. */
        client_frame(fd, 0x01, "caf\xc3", 4, true);
        client_frame(fd, 0x89, "ping!", 5, true);
        client_frame(fd, 0x00, "", 0, true);
        client_frame(fd, 0x80, "\xa9!", 2, true);
        for (unsigned i = 0; i < 2; i++) { /* the pong may overtake the message, or not */
                assert_true(client_read_frame(fd, frame));
                assert_string_equal(frame->data, frame->opcode == 10 ? "ping!" : "caf\xc3\xa9!");
                n_pongs += frame->opcode == 10;
        }
        assert_int_equal(n_pongs, 1);

        memset(piece, 'p', sizeof(piece));
        client_frame(fd, 0x02, piece, sizeof(piece), true);
        client_frame(fd, 0x80, piece, sizeof(piece), true);
        assert_true(client_read_frame(fd, frame));
        assert_int_equal(frame->opcode, 2);
        assert_int_equal(frame->size, 2 * sizeof(piece));
        fixture_free(f);
}

static void test_ping(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        char payload[125];

        memset(payload, 'p', sizeof(payload));
        client_frame(fd, 0x89, payload, sizeof(payload), true);
        assert_true(client_read_frame(fd, frame));
        assert_int_equal(frame->opcode, 10);
        assert_int_equal(frame->size, sizeof(payload));
        /* Of several that are read together the latest is answered, and others may be. */
        _cleanup_buffer_ Buffer pings = {};
        for (char i = '0'; i <= '9'; i++)
                assert_int_equal(
                        buffer_append(&pings, (char[]){(char) 0x89, (char) 0x81, 0, 0, 0, 0, i}, 7), 0);
        client_send(fd, pings.data, pings.size);
        do
                assert_true(client_read_frame(fd, frame));
        while (frame->data[0] != '9');
        client_frame(fd, 0x8a, "unasked", 7, true); /* a pong nobody asked for is ignored */
        client_text(fd, "still here");
        assert_true(client_read_frame(fd, frame));
        assert_string_equal(frame->data, "still here");
        fixture_free(f);
}

static void test_close_handshake(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f), server_closes = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);

        /* By the client: its code comes back. */
        client_frame(fd, 0x88,
                "\x03\xe8"
                "bye",
                5, true);
        assert_true(client_read_frame(fd, frame));
        assert_int_equal(frame->opcode, 8);
        assert_memory_equal(frame->data, "\x03\xe8", 2);
        assert_true(client_closed(fd));
        assert_int_equal(WAIT_SEEN(f, n_closes, 1), 1);

        /* By the server: behind what is queued, nothing after it. */
        client_text(server_closes, "close");
        assert_true(client_read_frame(server_closes, frame));
        assert_string_equal(frame->data, "last words");
        assert_true(client_read_frame(server_closes, frame));
        assert_int_equal(frame->opcode, 8);
        assert_memory_equal(frame->data,
                "\x0d\xad"
                "bad request",
                13);
        client_text(server_closes, "ignored");
        client_frame(server_closes, 0x88, "\x0d\xad", 2, true);
        assert_true(client_closed(server_closes));
        assert_int_equal(WAIT_SEEN(f, n_closes, 2), 2);
        fixture_free(f);
}

/* A peer that neither reads nor answers the close frame does not keep the connection. */
static void test_close_that_is_not_answered(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);

        client_text(fd, "close");
        assert_int_equal(client_close_code(fd), 3501);
        assert_int_equal(WAIT_SEEN(f, n_closes, 1), 1);
        fixture_free(f);
}

/* Nor does one that never reads what is queued before it. */
static void test_close_behind_a_stalled_queue(void **state) {
        WebLimits roomy = fixture_limits;
        Fixture *f;
        _cleanup_close_ int fd = -EBADF;
        Seen seen;

        roomy.max_queue = 32 * 1024 * 1024; /* more than the kernel's buffers take */
        f = fixture_new(&roomy);
        fd = client_websocket(f);
        client_text(fd, "stall");
        assert_int_equal(WAIT_SEEN(f, n_closes, 1), 1);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_slow, 0);
        fixture_free(f);
}

static void test_slow_reader(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f), other = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        Seen seen;

        client_text(fd, "flood"); /* and never reads */
        assert_int_equal(WAIT_SEEN(f, n_closes, 1), 1);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_slow, 1);
        client_text(other, "unharmed");
        assert_true(client_read_frame(other, frame));
        assert_string_equal(frame->data, "unharmed");
        fixture_free(f);
}

/* What the client has asked for may be longer than max_queue, and keeps its order with what is pushed meanwhile. */
static void test_replies_are_not_slowness(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        Seen seen;

        client_text(fd, "replies");
        assert_int_equal(WAIT_SEEN(f, n_messages, 1), 1);
        /* Nothing is read meanwhile: this is taken when all replies are gone. */
        client_text(fd, "drained?");
        for (unsigned i = 0; i < FIXTURE_REPLIES; i++) {
                assert_true(client_read_frame(fd, frame));
                assert_int_equal(frame->size, FIXTURE_REPLY_SIZE);
        }
        assert_true(client_read_frame(fd, frame));
        assert_string_equal(frame->data, "yes");
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_closes, 0);
        assert_int_equal(seen.n_drained, 1);
        fixture_free(f);
}

/* Who takes nothing is closed, long before his queue is full; who takes a little is not. */
static void test_stalled_reader(void **state) {
        WebLimits limits = fixture_limits;
        _cleanup_close_ int stalled = -EBADF, paused = -EBADF, other = -EBADF;
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        Fixture *f;
        Seen seen;

        limits.max_queue = 32 * 1024 * 1024;
        limits.stall_timeout_usec = 500 * USEC_PER_MSEC;
        f = fixture_new(&limits);
        stalled = client_websocket(f);
        paused = client_websocket(f);
        other = client_websocket(f);
        client_text(stalled, "hold");
        client_text(paused, "replies"); /* and its reading is paused */
        client_text(other, "hold");
        for (;;) {
                fixture_seen(f, &seen);
                if (seen.n_closes >= 2)
                        break;
                for (unsigned i = 0; i < 25; i++)
                        assert_true(client_read_frame(other, frame));
                usleep(2000);
        }
        assert_int_equal(seen.n_closes, 2);
        assert_int_equal(seen.n_slow, 2);
        client_text(other, "unharmed");
        do
                assert_true(client_read_frame(other, frame));
        while (*frame->data == 'f');
        assert_string_equal(frame->data, "unharmed");
        fixture_free(f);
}

static void test_upgrade_refused(void **state) {
        Fixture *f = fixture_start();
        static const struct {
                const char *name, *headers, *behind;
                unsigned status;
        } cases[] = {
                {"foreign origin",
                        "Origin: https://evil.example\r\nSec-WebSocket-Key: "
                        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
                        "", 403},
                {"own origin",
                        "Origin: https://chat.example\r\nSec-WebSocket-Key: "
                        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
                        "", 101},
                {"no key", "Sec-WebSocket-Version: 13\r\n", "", 400},
                {"short key", "Sec-WebSocket-Key: abc\r\nSec-WebSocket-Version: 13\r\n", "", 400},
                {"two keys",
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: "
                        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
                        "", 400},
                {"no version", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 426},
                {"old version",
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n", "",
                        426},
                {"with body",
                        "Content-Length: 2\r\nSec-WebSocket-Key: "
                        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
                        "ab", 400},
                {"data ahead",
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
                        "\x81\x80zzzz", 400},
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_close_ int fd = client_connect(f);
                char request[512];
                unsigned status;
                snprintf(request, sizeof(request),
                        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: "
                        "upgrade\r\n%s\r\n%s",
                        c->headers, c->behind);
                client_send_string(fd, request);
                status = client_response(fd, NULL, NULL, true);
                if (status != c->status)
                        fail_msg("%s: %u", c->name, status);
        }
        /* Elsewhere, or without the two headers, it is an ordinary request. */
        _cleanup_close_ int fd = client_connect(f);
        client_send_string(
                fd, "GET /other HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        client_send_string(fd, "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        assert_int_equal(WAIT_SEEN(f, n_closes, 1), 1);
        fixture_free(f);
}

static void test_subprotocol(void **state) {
        Fixture *f = fixture_start();
        static const struct {
                const char *offered;
                bool accepted;
        } cases[] = {
                {"", false},
                {"Sec-WebSocket-Protocol: pebbles\r\n", true},
                {"Sec-WebSocket-Protocol: sand,\tpebbles , rocks\r\n", true},
                {"Sec-WebSocket-Protocol: sand, pebbles2, peb\r\n", false},
                {"Sec-WebSocket-Protocol: , ,\r\n", false},
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_close_ int fd = client_connect(f);
                _cleanup_free_ char *head = NULL;
                char request[512];
                snprintf(request, sizeof(request),
                        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                        c->offered);
                client_send_string(fd, request);
                assert_int_equal(client_response(fd, &head, NULL, true), 101);
                if (c->accepted)
                        assert_non_null(strcasestr(head, "\r\nsec-websocket-protocol: pebbles\r\n"));
                else
                        assert_null(strcasestr(head, "sec-websocket-protocol"));
        }
        fixture_free(f);
}

static void test_slow_handshake(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f);

        client_send_string(fd, "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgr");
        assert_int_equal(client_response(fd, NULL, NULL, false), 408);
        /* An established one has no such deadline. */
        _cleanup_close_ int open = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        usleep(600000);
        client_text(open, "still here");
        assert_true(client_read_frame(open, frame));
        fixture_free(f);
}

/* --- attacks on WebSocket --- */

static void assert_closed_with(Fixture *f, const char *name, int fd, unsigned code) {
        unsigned is = client_close_code(fd);
        if (is != code)
                fail_msg("%s: closed with %u", name, is);
        client_frame(fd, 0x88, "\x03\xe8", 2, true);
        assert_true(client_closed(fd));
        close(fd);
}

static void test_oversized_message(void **state) {
        Fixture *f = fixture_start();
        _cleanup_free_ char *large = malloc(fixture_limits.max_message + 1);
        Seen seen;
        int fd;

        memset(large, 'l', fixture_limits.max_message + 1);
        fd = client_websocket(f);
        client_frame(fd, 0x82, large, fixture_limits.max_message + 1, true);
        assert_closed_with(f, "one frame", fd, 1009);

        /* The rest comes after the refusal, and is not answered with a reset. */
        _cleanup_free_ char *huge = calloc(64, fixture_limits.max_message);
        assert_non_null(huge);
        fd = client_websocket(f);
        client_frame(fd, 0x82, huge, 64 * fixture_limits.max_message, true);
        assert_closed_with(f, "much more", fd, 1009);

        /* By the announced length alone. */
        fd = client_websocket(f);
        client_send(fd,
                "\x82\xff\x00\x00\x00\x7f\xff\xff\xff\xff\x00\x00\x00\x00"
                "abcd",
                18);
        assert_closed_with(f, "announced", fd, 1009);

        fd = client_websocket(f);
        client_frame(fd, 0x02, large, fixture_limits.max_message, true);
        client_frame(fd, 0x80, large, 1, true);
        assert_closed_with(f, "fragments", fd, 1009);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_messages, 0);
        fixture_free(f);
}

static void test_bad_utf8(void **state) {
        Fixture *f = fixture_start();
        static const char *const texts[] = {
                "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "cut \xe2\x82", "\x80"};
        Seen seen;
        int fd;

        FOREACH_ARRAY(text, texts, ELEMENTSOF(texts)) {
                fd = client_websocket(f);
                client_text(fd, *text);
                assert_closed_with(f, "text", fd, 1007);
        }
        /* Cut off, and then ended by an empty fragment. */
        fd = client_websocket(f);
        client_frame(fd, 0x01, "\xe2\x82", 2, true);
        client_frame(fd, 0x80, "", 0, true);
        assert_closed_with(f, "empty last fragment", fd, 1007);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_messages, 0);
        fixture_free(f);
}

static void test_bad_frames(void **state) {
        Fixture *f = fixture_start();
        char ping[126] = "";
        static const struct {
                const char *name;
                unsigned first, second;
        } cases[] = {
                {"reserved bit 1", 0xc1, 0},
                {"reserved bit 2", 0xa1, 0},
                {"reserved bit 3", 0x91, 0},
                {"reserved opcode", 0x83, 0},
                {"reserved control opcode", 0x8b, 0},
                {"fragmented ping", 0x09, 0},
                {"fragmented close", 0x08, 0},
                {"continuation of nothing", 0x80, 0},
                {"message within a message", 0x01, 0x81},
        };
        Seen seen;
        int fd;

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                fd = client_websocket(f);
                client_frame(fd, c->first, "abc", 3, true);
                if (c->second)
                        client_frame(fd, c->second, "def", 3, true);
                assert_closed_with(f, c->name, fd, 1002);
        }
        fd = client_websocket(f);
        client_frame(fd, 0x89, ping, sizeof(ping), true);
        assert_closed_with(f, "ping of 126 bytes", fd, 1002);
        fd = client_websocket(f);
        client_send(fd, "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14);
        assert_closed_with(f, "length beyond 2^63", fd, 1002);
        fd = client_websocket(f);
        client_frame(fd, 0x81, "naked", 5, false);
        assert_closed_with(f, "no mask", fd, 1002);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_messages, 0);
        fixture_free(f);
}

/* Frames behind a close frame are not taken, and the answer to it arrives all the same. */
static void test_data_behind_close(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ char *data = calloc(1, 1 << 20);
        Seen seen;

        client_frame(fd, 0x88, "\x03\xe9", 2, true);
        client_text(fd, "too late");
        client_frame(fd, 0x82, data, 1 << 20, true);
        assert_int_equal(client_close_code(fd), 1001);
        assert_true(client_closed(fd));
        close(TAKE_FD(fd));
        assert_int_equal(WAIT_SEEN(f, n_closes, 1), 1);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_messages, 0);
        fixture_free(f);
}

static void test_close_payloads(void **state) {
        Fixture *f = fixture_start();
        static const struct {
                const char *name, *payload;
                size_t size;
                unsigned code;
        } cases[] = {
                {"empty", "", 0, 1005},
                {"one byte", "\x03", 1, 1002},
                {"5000", "\x13\x88", 2, 1002},
                {"65535", "\xff\xff", 2, 1002},
                {"1005", "\x03\xed", 2, 1002},
                {"reason not UTF-8", "\x03\xe8\xff", 3, 1007},
                {"4999", "\x13\x87", 2, 4999},
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                int fd = client_websocket(f);
                client_frame(fd, 0x88, c->payload, c->size, true);
                assert_closed_with(f, c->name, fd, c->code);
        }
        fixture_free(f);
}

/* After a sleep of the loop too, or timers that are set by a handler would run out early. */
static void test_clock_is_fresh(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        uint64_t before, now;

        usleep(200000);
        before = boottime_usec();
        client_text(fd, "clock");
        assert_true(client_read_frame(fd, frame));
        assert_int_equal(parse_u64(frame->data, UINT64_MAX, &now), 0);
        assert_true(now >= before);
        fixture_free(f);
}

static void test_server_ends_with_connections(void **state) {
        Fixture *f = fixture_start();
        int fds[20];

        FOREACH_ARRAY(fd, fds, ELEMENTSOF(fds))
                *fd = client_websocket(f);
        assert_int_equal(fixture_connections(f), ELEMENTSOF(fds));
        fixture_free(f); /* asserts that on_close came for each */
        FOREACH_ARRAY(fd, fds, ELEMENTSOF(fds)) {
                assert_true(client_closed(*fd));
                close(*fd);
        }
}

static int on_defer(sd_event_source *source, void *userdata) {
        return 0;
}

static void add_busy_source(Fixture *f, void *argument) {
        sd_event_source **source = argument;
        assert_true(sd_event_add_defer(fixture_event(f), source, on_defer, NULL) >= 0);
        assert_true(sd_event_source_set_priority(*source, SD_EVENT_PRIORITY_IDLE) >= 0);
        assert_true(sd_event_source_set_enabled(*source, SD_EVENT_ON) >= 0);
}

static void remove_source(Fixture *f, void *argument) {
        sd_event_source **source = argument;
        *source = sd_event_source_disable_unref(*source);
}

/* sd-event that always has something to do leaves libuv its turns, and sleeps again afterwards. */
static void test_busy_loop_is_fair(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        sd_event_source *source;

        fixture_call(f, add_busy_source, &source);
        for (unsigned i = 0; i < 20; i++) {
                client_text(fd, "busy");
                assert_true(client_read_frame(fd, frame));
        }
        fixture_call(f, remove_source, &source);
        client_text(fd, "idle");
        assert_true(client_read_frame(fd, frame));
        assert_string_equal(frame->data, "idle");
        fixture_free(f);
}

static void stop_accepting(Fixture *f, void *argument) {
        web_server_stop_accepting(fixture_server(f));
}

static void test_stop_accepting(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);

        fixture_call(f, stop_accepting, NULL);
        client_text(fd, "goes on");
        assert_true(client_read_frame(fd, frame));
        fixture_free(f);
}

static void set_limits(Fixture *f, void *argument) {
        web_server_set_limits(fixture_server(f), argument);
}

/* Messages that wait together become one frame, as far as they fit and are of one kind. */
static void test_coalescing(void **state) {
        static const struct {
                unsigned opcode;
                const char *data;
        } frames[] = {{1, "one\ntwo"}, {1, "six"}, {2, "\1\2"}, {1, "too long"}};
        WebLimits coalesce = fixture_limits;
        coalesce.max_coalesced = strlen("one\ntwo");
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_websocket(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);

        fixture_call(f, set_limits, &coalesce);
        client_text(fd, "several");
        for (unsigned i = 0; i < ELEMENTSOF(frames); i++) {
                assert_true(client_read_frame(fd, frame));
                assert_int_equal(frame->opcode, frames[i].opcode);
                assert_int_equal(frame->size, strlen(frames[i].data));
                assert_memory_equal(frame->data, frames[i].data, frame->size);
        }
        assert_int_equal(WAIT_SEEN(f, n_drained, 1), 1);
        fixture_free(f);
}

static void test_new_limits(void **state) {
        Fixture *f = fixture_start();
        WebLimits smaller = fixture_limits;
        int fd = client_websocket(f);

        smaller.max_message = 3;
        fixture_call(f, set_limits, &smaller);
        client_text(fd, "four");
        assert_closed_with(f, "four", fd, 1009);
        fixture_free(f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_messages),
                cmocka_unit_test(test_many_messages_at_once),
                cmocka_unit_test(test_fragments),
                cmocka_unit_test(test_ping),
                cmocka_unit_test(test_close_handshake),
                cmocka_unit_test(test_close_that_is_not_answered),
                cmocka_unit_test(test_close_behind_a_stalled_queue),
                cmocka_unit_test(test_slow_reader),
                cmocka_unit_test(test_replies_are_not_slowness),
                cmocka_unit_test(test_stalled_reader),
                cmocka_unit_test(test_upgrade_refused),
                cmocka_unit_test(test_subprotocol),
                cmocka_unit_test(test_slow_handshake),
                cmocka_unit_test(test_oversized_message),
                cmocka_unit_test(test_bad_utf8),
                cmocka_unit_test(test_bad_frames),
                cmocka_unit_test(test_data_behind_close),
                cmocka_unit_test(test_close_payloads),
                cmocka_unit_test(test_clock_is_fresh),
                cmocka_unit_test(test_server_ends_with_connections),
                cmocka_unit_test(test_busy_loop_is_fair),
                cmocka_unit_test(test_stop_accepting),
                cmocka_unit_test(test_coalescing),
                cmocka_unit_test(test_new_limits),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
