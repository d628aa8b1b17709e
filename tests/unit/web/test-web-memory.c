/* SPDX-License-Identifier: Apache-2.0 */

/* A connection while the n-th allocation of the server fails, for every n: it is refused or closed, and the
 * server goes on. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "failing-allocations.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "web-fixture.h"

static void set_allocation_to_fail(Fixture *fixture, void *argument) {
        allocation_to_fail = *(unsigned *) argument;
}

static void get_allocation_to_fail(Fixture *fixture, void *argument) {
        *(unsigned *) argument = allocation_to_fail;
}

/* The status of the answer to one request; 0: none. */
static unsigned request(Fixture *f, char **ret_body) {
        int fd = client_connect(f);

        client_send_string(fd, "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        unsigned status = client_response(fd, NULL, ret_body, false);
        assert_true(client_closed(fd));
        close(fd);
        while (fixture_connections(f) > 0) /* the server learns of that */
                ;
        return status;
}

static void test_every_allocation_fails_once(void **state) {
        Fixture *f = fixture_start();
        unsigned n_refused = 0, left = 0;

        for (unsigned n = 1; left == 0; n++) {
                _cleanup_free_ char *body = NULL;

                fixture_call(f, set_allocation_to_fail, &n);
                unsigned status = request(f, &body);
                fixture_call(f, get_allocation_to_fail, &left);
                fixture_call(f, set_allocation_to_fail, &(unsigned){0});
                if (status == 503) {
                        assert_string_equal(body, "overloaded");
                        n_refused++;
                }
                assert_int_equal(request(f, NULL), 200);
        }
        /* The address, the table of addresses and its buckets. */
        assert_in_range(n_refused, 3, 10);
        fixture_free(f);
}

/* Everything that takes memory: a message in fragments, a ping in two pieces, an echo, the closing handshake. True
 * if the echo came. It ends in any case. */
static bool talk(Fixture *f) {
        _cleanup_close_ int fd = client_connect(f);
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        bool heard = false;

        client_send_string(fd,
                "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
        if (client_response(fd, NULL, NULL, true) != 101)
                return false;
        client_frame(fd, 0x01, "one ", 4, true);
        client_send(fd, "\x89\x84\0\0\0\0pi", 8);
        (void) fixture_connections(f); /* the loop has a turn between the two */
        client_send(fd, "ng", 2);
        client_frame(fd, 0x80, "two", 3, true);
        client_text(fd, "close");
        while (client_read_frame(fd, frame)) {
                heard |= frame->opcode == 1 && strcmp(frame->data, "one two") == 0;
                if (frame->opcode == 8)
                        client_frame(fd, 0x88, "\x0d\xad", 2, true);
        }
        return heard;
}

static void test_every_allocation_of_a_websocket_fails_once(void **state) {
        Fixture *f = fixture_start();
        unsigned left = 0, n_spoiled = 0;

        for (unsigned n = 1; left == 0; n++) {
                fixture_call(f, set_allocation_to_fail, &n);
                n_spoiled += !talk(f);
                fixture_call(f, get_allocation_to_fail, &left);
                fixture_call(f, set_allocation_to_fail, &(unsigned){0});
                assert_true(talk(f));
        }
        assert_true(n_spoiled > 5);
        fixture_free(f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_allocation_fails_once),
                cmocka_unit_test(test_every_allocation_of_a_websocket_fails_once),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
