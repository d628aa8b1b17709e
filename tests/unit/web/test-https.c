/* SPDX-License-Identifier: Apache-2.0 */
/* What is special about connections under TLS; everything else is tested by the tests of HTTP and WebSocket, which run
 * over TLS, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "web-fixture.h"

/* A connection on which nobody has begun with TLS. */
static int connect_plain(Fixture *f) {
        int fd = client_socket();

        client_connect_socket(f, fd);
        return fd;
}

static void test_http_without_tls_is_told_so(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = connect_plain(f);
        _cleanup_free_ char *head = NULL, *body = NULL;

        client_send_string(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, &head, &body, false), 400);
        assert_string_equal(body, "tls_required");
        assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
        assert_true(client_closed(fd));
        while (fixture_connections(f) > 0)
                usleep(10000);
        fixture_free(f);
}

static void test_what_is_neither_is_closed(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = connect_plain(f), other = connect_plain(f);

        client_send_string(
                fd, "\x80\x2e\x01\x03\x01 this is no handshake of any version, however long it is");
        assert_int_equal(client_response(fd, NULL, NULL, false), 0);
        /* An alert instead of a handshake. */
        client_send(other, "\x15\x03\x01\x00\x02\x02\x28", 7);
        assert_true(client_closed(other));
        fixture_free(f);
}

static void test_a_handshake_has_the_time_of_a_request(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int silent = connect_plain(f), half = connect_plain(f);

        client_send(half, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
        assert_true(client_closed(silent));
        assert_true(client_closed(half));
        fixture_free(f);
}

static void test_handshakes_come_out_of_the_budget(void **state) {
        enum { N = 60 };
        WebLimits limits = fixture_limits;
        WebStatistics statistics;
        int fds[N];
        Fixture *f;

        limits.max_pending = 1 << 20;
        f = fixture_new(&limits);
        for (unsigned i = 0; i < N; i++) {
                fds[i] = connect_plain(f);
                client_send(fds[i], "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
                if (i % 10 == 0) { /* others get in */
                        _cleanup_close_ int good = client_connect(f);
                        client_send_string(good, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                        assert_int_equal(client_response(good, NULL, NULL, false), 200);
                }
        }
        web_server_get_statistics(fixture_server(f), &statistics);
        assert_true(statistics.pending <= limits.max_pending);
        assert_true(statistics.n_evicted >= N / 2);
        assert_true(client_closed(fds[0])); /* the oldest */
        for (unsigned i = 0; i < N; i++)
                close(fds[i]);
        while (fixture_connections(f) > 0)
                usleep(10000);
        web_server_get_statistics(fixture_server(f), &statistics);
        assert_int_equal(statistics.pending, 0);
        fixture_free(f);
}

static void test_a_new_certificate_is_for_new_connections(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int before = client_connect(f), after = -EBADF;

        client_send_string(before, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(before, NULL, NULL, false), 200);
        fixture_renew_certificate(f);
        after = client_connect(f);
        client_send_string(after, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(after, NULL, NULL, false), 200);
        client_send_string(before, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(before, NULL, NULL, false), 200);
        fixture_free(f);
}

static void take_certificate_away(Fixture *f, void *argument) {
        web_server_set_tls(fixture_server(f), NULL);
}

static void test_without_a_certificate_nobody_gets_in(void **state) {
        Fixture *f = fixture_start();

        fixture_call(f, take_certificate_away, NULL);
        _cleanup_close_ int fd = client_connect(f);
        assert_true(client_closed(fd));
        fixture_free(f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_http_without_tls_is_told_so),
                cmocka_unit_test(test_what_is_neither_is_closed),
                cmocka_unit_test(test_a_handshake_has_the_time_of_a_request),
                cmocka_unit_test(test_handshakes_come_out_of_the_budget),
                cmocka_unit_test(test_a_new_certificate_is_for_new_connections),
                cmocka_unit_test(test_without_a_certificate_nobody_gets_in),
        };

        setenv("STONECHAT_TEST_TLS", "1", 1);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
