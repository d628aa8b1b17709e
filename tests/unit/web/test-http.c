/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "web-fixture.h"

static void assert_seen(Fixture *f, const char *verb, const char *path, unsigned n_requests) {
        Seen seen;
        fixture_seen(f, &seen);
        assert_string_equal(seen.verb, verb);
        assert_string_equal(seen.path, path);
        assert_int_equal(seen.n_requests, n_requests);
}

/* --- HTTP --- */

static void test_request(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        _cleanup_free_ char *head = NULL, *body = NULL;
        Seen seen;

        client_send_string(fd, "\r\nGET /caf%C3%A9/a%2fb?x=1+2%263&&empty&y=%7a HTTP/1.1\r\nHOST: "
                               "h\r\nAuthorization:  Bearer "
                               "abc \t\r\ntraceparent:00-1-2-01\r\nX-Unknown: \x80 is fine\r\n\r\n");
        assert_int_equal(client_response(fd, &head, &body, false), 200);
        assert_string_equal(body, "/caf\xc3\xa9/a%2Fb");
        assert_non_null(strstr(head, "HTTP/1.1 200 OK\r\n"));
        assert_non_null(strstr(head, "\r\nDate: "));
        assert_non_null(strstr(head, "\r\nContent-Type: text/plain\r\n"));
        assert_non_null(strstr(head, "\r\nContent-Length: 12\r\n"));
        assert_non_null(strstr(head, "\r\nX-Test: yes\r\n"));
        assert_null(strstr(head, "Injected"));
        assert_null(strstr(head, "Connection: close"));

        assert_seen(f, "GET", "/caf\xc3\xa9/a%2Fb", 1);
        fixture_seen(f, &seen);
        assert_string_equal(seen.query, "[x=1 2&3][empty=][y=z]");
        assert_string_equal(seen.authorization, "Bearer abc");
        assert_string_equal(seen.traceparent, "00-1-2-01");
        assert_string_equal(seen.address, "127.0.0.1");
        assert_int_equal(seen.body_size, 0);
        fixture_free(f);
}

static void test_verbs(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        _cleanup_free_ char *head = NULL, *body = NULL;

        client_send_string(fd, "HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, &head, NULL, true), 200);
        assert_non_null(strstr(head, "\r\nContent-Length: 4\r\n"));
        /* Nothing of a body came: the next response begins at once. */
        client_send_string(fd, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, &body, false), 200);
        assert_string_equal(body, "*");
        assert_seen(f, "OPTIONS", "*", 2);
        head = mfree(head);
        client_send_string(fd, "DELETE /empty HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, &head, NULL, false), 204);
        assert_null(strstr(head, "Content-Length"));
        assert_seen(f, "DELETE", "/empty", 3);
        fixture_free(f);
}

static void test_body(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        _cleanup_free_ char *large = malloc(fixture_limits.max_body);
        char head[128];
        Seen seen;

        client_send_string(fd, "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe");
        client_send_string(fd, "llo");
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        fixture_seen(f, &seen);
        assert_string_equal(seen.body, "hello");

        memset(large, 'b', fixture_limits.max_body);
        snprintf(head, sizeof(head), "PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n",
                fixture_limits.max_body);
        client_send_string(fd, head);
        client_send(fd, large, fixture_limits.max_body);
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        fixture_seen(f, &seen);
        assert_int_equal(seen.body_size, fixture_limits.max_body);

        /* A body that waits for leave gets it. */
        client_send_string(
                fd, "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, NULL, true), 100);
        client_send_string(fd, "ok");
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        fixture_free(f);
}

static void test_large_response(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        _cleanup_free_ char *body = NULL;

        client_send_string(fd, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, &body, false), 200);
        assert_int_equal(strspn(body, "x"), 8 * 1024 * 1024);
        client_send_string(fd, "GET /after HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        fixture_free(f);
}

static void test_connection_close(void **state) {
        Fixture *f = fixture_start();
        static const char *const requests[] = {
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n",
                "GET / HTTP/1.0\r\n\r\n",
                "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        };

        FOREACH_ARRAY(request, requests, ELEMENTSOF(requests)) {
                _cleanup_close_ int fd = client_connect(f);
                _cleanup_free_ char *head = NULL;
                client_send_string(fd, *request);
                assert_int_equal(client_response(fd, &head, NULL, false), 200);
                assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
                assert_true(client_closed(fd));
        }
        assert_int_equal(fixture_connections(f), 0);
        fixture_free(f);
}

static void test_pipelined_requests(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f), other = client_connect(f);
        char path[16];

        /* More than one turn's share, with bodies, in one packet. */
        for (unsigned i = 0; i < 40; i++) {
                char request[128];
                snprintf(request, sizeof(request),
                        "POST /%u HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", i);
                client_send_string(fd, request);
        }
        for (unsigned i = 0; i < 40; i++) {
                _cleanup_free_ char *body = NULL;
                assert_int_equal(client_response(fd, NULL, &body, false), 200);
                snprintf(path, sizeof(path), "/%u", i);
                assert_string_equal(body, path);
        }

        /* Answers keep the order, also when the first one takes long. */
        client_send_string(
                fd, "GET /later HTTP/1.1\r\nHost: h\r\n\r\nGET /second HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(WAIT_SEEN(f, n_requests, 41), 41);
        client_send_string(other, "GET /release HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(other, NULL, NULL, false), 200);
        FOREACH_ARRAY(expected, ((const char *const[]){"at last", "/second"}), 2) {
                _cleanup_free_ char *body = NULL;
                assert_int_equal(client_response(fd, NULL, &body, false), 200);
                assert_string_equal(body, *expected);
        }
        fixture_free(f);
}

static void test_what_was_sent_ahead_is_dropped(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f), other = client_connect(f);
        _cleanup_free_ char *head = NULL, *last_head = NULL;

        /* It may still be on its way. */
        client_send_string(other, "POST /busy HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        assert_int_equal(client_response(other, &head, NULL, false), 503);
        assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
        client_send_string(other, "POST /ahead HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        assert_true(client_closed(other));
        client_send_string(fd, "POST /busy HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                               "POST /ahead HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        assert_int_equal(client_response(fd, &last_head, NULL, false), 503);
        assert_non_null(strstr(last_head, "\r\nConnection: close\r\n"));
        assert_true(client_closed(fd));
        assert_seen(f, "POST", "/busy", 2);
        fixture_free(f);
}

static void test_abort_during_pending_response(void **state) {
        Fixture *f = fixture_start();
        int fd = client_connect(f);

        client_send_string(fd, "GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(WAIT_SEEN(f, n_requests, 1), 1);
        close(fd);
        assert_int_equal(WAIT_SEEN(f, n_aborts, 1), 1);

        fd = client_connect(f);
        client_send_string(fd, "GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(WAIT_SEEN(f, n_requests, 2), 2);
        shutdown(fd, SHUT_WR); /* half-open */
        assert_int_equal(WAIT_SEEN(f, n_aborts, 2), 2);
        close(fd);

        /* And when the server ends. */
        fd = client_connect(f);
        client_send_string(fd, "GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(WAIT_SEEN(f, n_requests, 3), 3);
        fixture_free(f);
        assert_true(client_closed(fd));
        close(fd);
}

/* --- attacks on HTTP --- */

static void assert_refused(
        Fixture *f, const char *name, const char *request, size_t size, Sc__ErrorCode code) {
        _cleanup_close_ int fd = client_connect(f);
        _cleanup_free_ char *head = NULL, *body = NULL;
        unsigned status;

        client_send(fd, request, size);
        status = client_response(fd, &head, &body, startswith(request, "HEAD "));
        if (status != schema_error(code)->http)
                fail_msg("%s: answered %u", name, status);
        assert_non_null(strstr(head, "\r\nContent-Type: application/problem+json\r\n"));
        assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
        assert_string_equal(body, schema_error(code)->name);
        assert_true(client_closed(fd));
}

static void test_smuggling_is_refused(void **state) {
        Fixture *f = fixture_start();
        static const struct {
                const char *name, *request;
        } attacks[] = {
                {"CL and TE", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: "
                              "chunked\r\n\r\n0\r\n\r\n"},
                {"TE and CL", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\nContent-Length: "
                              "4\r\n\r\n0\r\n\r\n"},
                {"duplicate CL",
                        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"},
                {"equal CL twice",
                        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"},
                {"CL list", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4, 4\r\n\r\nabcd"},
                {"CL sign", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n\r\nabcd"},
                {"CL negative", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\nabcd"},
                {"CL hexadecimal", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x4\r\n\r\nabcd"},
                {"CL empty", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\nabcd"},
                {"CL overflow",
                        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551620\r\n\r\nabcd"},
                {"bare LF", "GET / HTTP/1.1\nHost: h\n\n"},
                {"bare LF in headers", "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"},
                {"bare LF at the end", "GET / HTTP/1.1\r\nHost: h\r\n\nGET"},
                {"bare CR", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 5\r\n\r\n"},
                {"CR CR LF", "GET / HTTP/1.1\r\nHost: h\r\r\n\r\n"},
                {"folded header", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n"},
                {"folded by tab", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb: c\r\n\r\n"},
                {"space before colon", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 4\r\n\r\nabcd"},
                {"space before the first header", "GET / HTTP/1.1\r\n Host: h\r\n\r\n"},
                {"no colon", "GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n"},
                {"empty name", "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n"},
                {"control character in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x01\r\n\r\n"},
                {"DEL in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x7f\r\n\r\n"},
                {"no host", "GET / HTTP/1.1\r\n\r\n"},
                {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
                {"host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
                {"host with user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"},
                {"two authorizations",
                        "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nauthorization: b\r\n\r\n"},
                {"HTTP/0.9", "GET /\r\n\r\n"},
                {"HTTP/1.10", "GET / HTTP/1.10\r\nHost: h\r\n\r\n"},
                {"http/1.1", "GET / http/1.1\r\nHost: h\r\n\r\n"},
                {"host with a bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"},
                {"host with an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"},
                {"two spaces", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"trailing space", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n"},
                {"tab in the request line", "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"bad method", "G(T / HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"absolute target, no host header", "GET http://other/ HTTP/1.1\r\n\r\n"},
                {"absolute target, no host", "GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"absolute target, a user", "GET http://a@b/x HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"absolute target, another scheme", "GET ftp://a/x HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"authority target", "GET other:443 HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"backslash", "GET /a\\b HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"chunked and HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
                {"chunked twice",
                        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"},
                {"chunked in two headers", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
                                           "chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
                {"chunked not last",
                        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"},
                {"identity", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n"},
                {"asterisk without OPTIONS", "GET * HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"bad escape", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"cut escape", "GET /% HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"NUL escape", "GET /a%00b HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"line break escape", "GET /a%0d%0ab HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"path not UTF-8", "GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"raw byte in the target", "GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"dots", "GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"escaped dots", "GET /a/%2e%2E HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"escaped slash and dots", "GET /a%2f..%2fb HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"single dot", "GET /. HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"fragment", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n"},
                {"TLS hello", "\x16\x03\x01\x02\x01\r\n\r\n"},
        };
        static const char nul_in_name[] = "GET / HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n",
                          nul_in_value[] = "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
                          nul_in_line[] = "GET /\0a HTTP/1.1\r\nHost: h\r\n\r\n";
        Seen seen;

        FOREACH_ARRAY(a, attacks, ELEMENTSOF(attacks))
                assert_refused(
                        f, a->name, a->request, strlen(a->request), SC__ERROR_CODE__ERROR_MALFORMED_REQUEST);
        assert_refused(f, "NUL in name", nul_in_name, sizeof(nul_in_name) - 1,
                SC__ERROR_CODE__ERROR_MALFORMED_REQUEST);
        assert_refused(f, "NUL in value", nul_in_value, sizeof(nul_in_value) - 1,
                SC__ERROR_CODE__ERROR_MALFORMED_REQUEST);
        assert_refused(f, "NUL in line", nul_in_line, sizeof(nul_in_line) - 1,
                SC__ERROR_CODE__ERROR_MALFORMED_REQUEST);
        static const struct {
                const char *name, *request;
                Sc__ErrorCode code;
        } named[] = {
                {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                        SC__ERROR_CODE__ERROR_HTTP_VERSION_NOT_SUPPORTED},
                {"CONNECT", "CONNECT other:443 HTTP/1.1\r\nHost: h\r\n\r\n",
                        SC__ERROR_CODE__ERROR_NOT_IMPLEMENTED},
                {"unknown method", "BREW / HTTP/1.1\r\nHost: h\r\n\r\n",
                        SC__ERROR_CODE__ERROR_NOT_IMPLEMENTED},
                {"unknown coding", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                        SC__ERROR_CODE__ERROR_NOT_IMPLEMENTED},
                {"unknown expectation", "GET / HTTP/1.1\r\nHost: h\r\nExpect: cake\r\n\r\n",
                        SC__ERROR_CODE__ERROR_EXPECTATION_FAILED},
        };
        FOREACH_ARRAY(a, named, ELEMENTSOF(named))
                assert_refused(f, a->name, a->request, strlen(a->request), a->code);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_requests, 0);
        fixture_free(f);
}

/* The same tricks in a later request of the connection, where another parser might have kept state. */
static void test_later_requests_are_checked_too(void **state) {
        Fixture *f = fixture_start();
        static const char *const seconds[] = {
                "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: nonsense\r\nX: a\n\r\n",
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        };

        FOREACH_ARRAY(second, seconds, ELEMENTSOF(seconds)) {
                _cleanup_close_ int fd = client_connect(f);
                client_send_string(fd, "GET /first HTTP/1.1\r\nHost: h\r\n\r\n");
                client_send_string(fd, *second);
                assert_int_equal(client_response(fd, NULL, NULL, false), 200);
                assert_int_equal(client_response(fd, NULL, NULL, false), 400);
                assert_true(client_closed(fd));
        }
        /* An upgrade nobody offers is no error: the request is served as it is (RFC 9110 section 7.8). */
        _cleanup_close_ int fd = client_connect(f);
        for (unsigned i = 0; i < 3; i++) {
                client_send_string(
                        fd, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
                assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        }
        fixture_free(f);
}

static void assert_chunked(Fixture *f, const char *coding, unsigned status, const char *expected) {
        _cleanup_close_ int fd = client_connect(f);
        Seen seen;

        client_send_string(fd, "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        client_send_string(fd, coding);
        unsigned answered = client_response(fd, NULL, NULL, false);
        if (answered != status)
                fail_msg("%s: answered %u", coding, answered);
        if (status != 200)
                return;
        fixture_seen(f, &seen);
        assert_string_equal(seen.body, expected);
        assert_int_equal(seen.body_size, strlen(expected));
        /* What comes behind it is the next request. */
        client_send_string(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
}

static void test_chunked_body(void **state) {
        Fixture *f = fixture_start();
        static const struct {
                const char *coding, *body;
        } good[] = {
                {"0\r\n\r\n", ""},
                {"5\r\nhello\r\n0\r\n\r\n", "hello"},
                {"1\r\nh\r\n00004\r\nello\r\n000\r\n\r\n", "hello"},
                {"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"},
                {"5;a;b=c;d=\"e\\\"\xff\"\r\nhello\r\n0 ; x = y\r\n\r\n", "hello"},
                {"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", "hello"},
        };
        static const char *const bad[] = {"\r\n", "x\r\n", "-1\r\n", "0x5\r\nhello\r\n", "5\nhello\r\n",
                "5\r\nhello0\r\n\r\n", "5\r\nhello\n", "5 \r\nhello\r\n", " 5\r\nhello\r\n",
                "5;\r\nhello\r\n", "5;a=\r\nhello\r\n", "5;a=\"b\r\nhello\r\n", "5;a b\r\nhello\r\n",
                "fffffffffffffffff\r\n", "5\r\nhello\r\n0\r\nX : y\r\n\r\n", "5\r\nhello\r\n0\r\n x\r\n\r\n",
                "5\r\nhello\r\n0\r\n\n", "5;a=b\n\r\n"};
        Seen before, seen;
        char *large;

        FOREACH_ARRAY(c, good, ELEMENTSOF(good))
                assert_chunked(f, c->coding, 200, c->body);
        fixture_seen(f, &before);
        FOREACH_ARRAY(c, bad, ELEMENTSOF(bad))
                assert_chunked(f, *c, 400, NULL);
        fixture_seen(f, &seen);
        assert_int_equal(seen.n_requests, before.n_requests);

        /* Announced, and as the sum of chunks: to the limit, and one beyond. */
        assert_chunked(f, "186a1\r\n", 413, NULL);
        assert_chunked(f, "1\r\na\r\n186a0\r\n", 413, NULL);
        large = malloc(200000);
        size_t n = (size_t) sprintf(
                large, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n");
        memset(large + n, 'b', 100000);
        strcpy(large + n + 100000, "\r\n0\r\n\r\n");
        _cleanup_close_ int fd = client_connect(f);
        client_send_string(fd, large);
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        fixture_seen(f, &seen);
        assert_int_equal(seen.body_size, 100000);

        /* Extensions and trailers without end. */
        n = (size_t) sprintf(large, "1;a=");
        memset(large + n, 'b', 5000);
        strcpy(large + n + 5000, "\r\nx\r\n0\r\n\r\n");
        assert_chunked(f, large, 400, NULL);
        n = (size_t) sprintf(large, "0\r\nX: ");
        memset(large + n, 'b', 5000);
        strcpy(large + n + 5000, "\r\n\r\n");
        assert_chunked(f, large, 400, NULL);
        free(large);
        fixture_free(f);
}

static void test_targets(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        static const struct {
                const char *line, *path, *query;
        } targets[] = {
                {"GET http://other:80/a%41?x=1", "/aA", "[x=1]"},
                {"GET HTTPS://[::1]/", "/", ""},
                {"GET http://other", "/", ""},
                {"GET http://other?x=/", "/", "[x=/]"},
                {"OPTIONS http://other", "*", ""},
                {"OPTIONS http://other?a=b", "/", "[a=b]"},
                {"GET /a%25b%2fc", "/a%25b%2Fc", ""},
                {"GET /%7e...x/.a", "/~...x/.a", ""},
                {"GET //", "//", ""},
        };

        FOREACH_ARRAY(t, targets, ELEMENTSOF(targets)) {
                char request[256];
                Seen seen;
                snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: h\r\n\r\n", t->line);
                client_send_string(fd, request);
                assert_int_equal(client_response(fd, NULL, NULL, false), 200);
                fixture_seen(f, &seen);
                assert_string_equal(seen.path, t->path);
                assert_string_equal(seen.query, t->query);
                assert_string_equal(seen.host, strstr(t->line, "other:80") ? "other:80"
                                               : strstr(t->line, "[::1]")  ? "[::1]"
                                               : strstr(t->line, "other")  ? "other"
                                                                           : "h");
        }
        fixture_free(f);
}

static void test_oversized_body(void **state) {
        Fixture *f = fixture_start();
        static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n",
                          expecting[] =
                                  "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999999999\r\n"
                                  "Expect: 100-continue\r\n\r\n";
        _cleanup_close_ int fd = client_connect(f);
        _cleanup_free_ char *body = calloc(1, 100001);

        /* Refused by the head alone. */
        assert_refused(f, "head", head, sizeof(head) - 1, SC__ERROR_CODE__ERROR_BODY_TOO_LARGE);
        assert_refused(
                f, "expecting", expecting, sizeof(expecting) - 1, SC__ERROR_CODE__ERROR_BODY_TOO_LARGE);
        /* Also a client that sends its body before it reads gets to read why. */
        client_send(fd, head, sizeof(head) - 1);
        client_send(fd, body, 100001);
        assert_int_equal(client_response(fd, NULL, NULL, false), 413);
        fixture_free(f);
}

static void test_oversized_headers(void **state) {
        Fixture *f = fixture_start();
        char request[20000];
        size_t n;

        n = (size_t) snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: h\r\nX: ");
        memset(request + n, 'x', sizeof(request) - n);
        assert_refused(f, "endless header", request, 10000, SC__ERROR_CODE__ERROR_HEADERS_TOO_LARGE);
        memcpy(request + 8189, "\r\n\r\n", 4); /* complete, but 8193 bytes */
        assert_refused(f, "large headers", request, 8193, SC__ERROR_CODE__ERROR_HEADERS_TOO_LARGE);

        n = (size_t) snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: h\r\n");
        for (unsigned i = 0; i < 100; i++)
                n += (size_t) snprintf(request + n, sizeof(request) - n, "X: y\r\n");
        assert_refused(f, "too many headers", request, n, SC__ERROR_CODE__ERROR_HEADERS_TOO_LARGE);

        memset(request, 'a', sizeof(request));
        memcpy(request, "GET /", 5);
        assert_refused(f, "endless target", request, 5000, SC__ERROR_CODE__ERROR_URI_TOO_LONG);
        memcpy(request + 4 + 4097, " HTTP/1.1\r\nHost: h\r\n\r\n", 22);
        assert_refused(f, "long target", request, 4 + 4097 + 22, SC__ERROR_CODE__ERROR_URI_TOO_LONG);
        memset(request, '\n', sizeof(request));
        for (unsigned i = 0; i < 10000; i += 2)
                request[i] = '\r';
        assert_refused(f, "only empty lines", request, 10000, SC__ERROR_CODE__ERROR_HEADERS_TOO_LARGE);
        fixture_free(f);
}

static void test_largest_headers_pass(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        char request[8192];
        size_t n;

        n = (size_t) snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: h\r\nX: ");
        memset(request + n, 'x', sizeof(request) - n);
        memcpy(request + 8188, "\r\n\r\n", 4);
        client_send(fd, request, sizeof(request));
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        fixture_free(f);
}

static void test_slow_header(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f), silent = client_connect(f), idle = client_connect(f);
        static const char endless[] =
                "GET / HTTP/1.1\r\nHost: h\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

        /* The deadline is for the whole request: a byte now and then does not move it. */
        assert_true(client_send_slowly(fd, endless, 20) < sizeof(endless) - 1);
        assert_int_equal(client_response(fd, NULL, NULL, false), 408);
        assert_true(client_closed(fd));
        /* Who sends nothing is closed without a word, also after a response. */
        assert_int_equal(client_response(silent, NULL, NULL, false), 0);
        close(idle);
        idle = client_connect(f);
        client_send_string(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(idle, NULL, NULL, false), 200);
        assert_int_equal(client_response(idle, NULL, NULL, false), 0);
        fixture_free(f);
}

static void test_slow_body(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f);
        Seen seen;

        client_send_string(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
        assert_true(client_send_slowly(fd,
                            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                            20) < 130);
        assert_int_equal(client_response(fd, NULL, NULL, false), 408);
        fixture_seen(f, &seen);
        assert_int_equal(seen.refused, SC__ERROR_CODE__ERROR_REQUEST_TIMEOUT);
        assert_int_equal(seen.n_requests, 0);
        fixture_free(f);
}

static void test_response_that_is_not_taken(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f);

        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        client_send_string(fd, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(WAIT_SEEN(f, n_requests, 1), 1);
        while (fixture_connections(f) > 0)
                usleep(20000);
        fixture_free(f);
}

static void test_pending_request_has_time(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f), other = -EBADF;

        /* The request is there in time; how long the answer takes is not the client's fault. */
        client_send_string(fd, "GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(WAIT_SEEN(f, n_requests, 1), 1);
        usleep(500000);
        other = client_connect(f);
        client_send_string(other, "GET /release HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        fixture_free(f);
}

static void test_unfinished_requests_share_a_budget(void **state) {
        WebLimits limits = fixture_limits;
        enum { N = 60, SIZE = 60000 };
        _cleanup_free_ char *body = calloc(1, SIZE);
        unsigned n_refused = 0;
        WebStatistics statistics;
        int fds[N];
        Fixture *f;

        limits.max_pending = 1 << 20;
        f = fixture_new(&limits);
        for (unsigned i = 0; i < N; i++) { /* 3.6 MB together */
                fds[i] = client_connect(f);
                client_send_string(fds[i], "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 60001\r\n\r\n");
                client_send(fds[i], body, SIZE);
                /* In between everybody else is served. */
                _cleanup_close_ int good = client_connect(f);
                client_send_string(good, "POST /y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n");
                client_send_string(good, "abc");
                assert_int_equal(client_response(good, NULL, NULL, false), 200);
        }
        web_server_get_statistics(fixture_server(f), &statistics);
        assert_true(statistics.pending <= limits.max_pending);
        assert_true(statistics.n_evicted >= 40);
        /* The first were told; the last may go on. */
        for (unsigned i = 0; i < N; i++) {
                _cleanup_free_ char *head = NULL;
                if (i >= statistics.n_evicted)
                        client_send(fds[i], body, 1);
                unsigned status = client_response(fds[i], &head, NULL, false);
                assert_int_equal(status, i < statistics.n_evicted ? 503 : 200);
                if (status == 503)
                        assert_non_null(strstr(head, "\r\nRetry-After: 1\r\n"));
                n_refused += status == 503;
                close(fds[i]);
        }
        assert_int_equal(n_refused, statistics.n_evicted);
        while (fixture_connections(f) > 0)
                usleep(10000);
        web_server_get_statistics(fixture_server(f), &statistics);
        assert_int_equal(statistics.pending, 0);

        /* One that alone is too much. */
        limits.max_pending = 65536;
        fixture_free(f);
        f = fixture_new(&limits);
        _cleanup_close_ int fd = client_connect(f);
        client_send_string(fd, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n");
        for (unsigned i = 0; i < 9; i++)
                client_send(fd, body, 10000);
        assert_int_equal(client_response(fd, NULL, NULL, false), 503);
        fixture_free(f);
}

static void on_drained(void *userdata) {
        *(bool *) userdata = true;
}

static void drain(Fixture *f, void *argument) {
        web_server_drain(fixture_server(f), on_drained, argument);
}

static void look_drained(Fixture *f, void *argument) {
        bool **drained = argument;

        *drained[1] = *drained[0];
}

/* What was taken is answered, what was begun may come to its end, who only waits is closed. */
static void test_drain(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int idle = client_connect(f), begun = client_connect(f), taken = client_connect(f),
                            writing = client_connect(f), never = client_connect(f);
        _cleanup_free_ char *head = NULL, *other = NULL, *big = NULL;
        bool drained = false, seen = false;

        client_send_string(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(idle, NULL, NULL, false), 200);
        client_send_string(begun, "POST /release HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel");
        client_send_string(never, "GET / HTTP/1.1\r\n");
        client_send_string(writing, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
        client_send_string(taken, "GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(WAIT_SEEN(f, n_requests, 3), 3);
        fixture_call(f, drain, &drained);

        client_send_string(begun, "lo");
        assert_int_equal(client_response(begun, &head, NULL, false), 200);
        assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
        assert_true(client_closed(begun));
        assert_true(client_closed(idle));
        assert_int_equal(client_response(taken, &other, NULL, false), 200);
        assert_non_null(strstr(other, "\r\nConnection: close\r\n"));
        assert_true(client_closed(taken));
        assert_int_equal(client_response(writing, NULL, &big, false), 200);
        assert_int_equal(strspn(big, "x"), 8 * 1024 * 1024);
        assert_true(client_closed(writing));
        assert_int_equal(client_response(never, NULL, NULL, false), 503);
        close(TAKE_FD(never));
        while (!seen)
                fixture_call(f, look_drained, (bool *[]){&drained, &seen});
        assert_int_equal(fixture_connections(f), 0);
        fixture_free(f);
}

static void test_many_connections_from_one_address(void **state) {
        WebLimits few = fixture_limits;
        Fixture *f;
        int fds[3], fd;
        _cleanup_free_ char *body = NULL;

        few.max_connections_per_address = 3;
        f = fixture_new(&few);
        FOREACH_ARRAY(i, fds, 3) {
                *i = client_websocket(f);
        }
        fd = client_connect(f);
        if (!fixture_is_tls()) { /* there it would cost a handshake to say so */
                assert_int_equal(client_response(fd, NULL, &body, false), 429);
                assert_string_equal(body, "rate_limited");
        }
        assert_true(client_closed(fd));
        close(fd);
        assert_int_equal(fixture_connections(f), 3);

        close(fds[0]);
        assert_int_equal(WAIT_SEEN(f, n_closes, 1), 1);
        fds[0] = client_websocket(f);
        FOREACH_ARRAY(i, fds, 3)
                close(*i);
        fixture_free(f);
}

static void test_many_connections(void **state) {
        WebLimits few = fixture_limits;
        Fixture *f;
        int fds[2], fd;

        few.max_connections = 2;
        f = fixture_new(&few);
        fds[0] = client_connect(f);
        fds[1] = client_connect(f);
        fd = client_connect(f);
        assert_int_equal(client_response(fd, NULL, NULL, false), fixture_is_tls() ? 0 : 503);
        close(fd);
        close(fds[0]);
        close(fds[1]);
        fixture_free(f);
}

/* Without file descriptors connections wait in the backlog, and are taken when there are some again. */
static void test_out_of_file_descriptors(void **state) {
        if (fixture_is_tls()) /* its clients need descriptors in between */
                skip();
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_socket();
        struct rlimit limit, none;
        int lowest;

        assert_int_equal(fixture_connections(f), 0); /* the server's thread has opened what it needs */
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        lowest = dup(fd);
        close(lowest);
        none = limit;
        none.rlim_cur = (rlim_t) lowest;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        client_connect_socket(f, fd);
        client_send_string(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        usleep(100000);
        assert_int_equal(fixture_connections(f), 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        fixture_free(f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_request),
                cmocka_unit_test(test_verbs),
                cmocka_unit_test(test_body),
                cmocka_unit_test(test_large_response),
                cmocka_unit_test(test_connection_close),
                cmocka_unit_test(test_pipelined_requests),
                cmocka_unit_test(test_what_was_sent_ahead_is_dropped),
                cmocka_unit_test(test_abort_during_pending_response),
                cmocka_unit_test(test_smuggling_is_refused),
                cmocka_unit_test(test_later_requests_are_checked_too),
                cmocka_unit_test(test_chunked_body),
                cmocka_unit_test(test_targets),
                cmocka_unit_test(test_oversized_body),
                cmocka_unit_test(test_oversized_headers),
                cmocka_unit_test(test_largest_headers_pass),
                cmocka_unit_test(test_slow_header),
                cmocka_unit_test(test_slow_body),
                cmocka_unit_test(test_response_that_is_not_taken),
                cmocka_unit_test(test_pending_request_has_time),
                cmocka_unit_test(test_unfinished_requests_share_a_budget),
                cmocka_unit_test(test_drain),
                cmocka_unit_test(test_many_connections_from_one_address),
                cmocka_unit_test(test_many_connections),
                cmocka_unit_test(test_out_of_file_descriptors),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
