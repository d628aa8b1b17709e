/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies as streams, both ways: far more than memory holds goes through, as fast as the slower side wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "stream-handlers.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#if defined(__SANITIZE_ADDRESS__)
#define SLOW true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLOW true
#endif
#endif
#ifndef SLOW
#define SLOW false
#endif
#define LARGE (SLOW || fixture_is_tls() ? 64ULL << 20 : 1ULL << 30)

/* The window, one piece, and that buffers grow by doubling. */
#define MEMORY_MAX (256U << 10)

static void begin_upload(int fd, const char *path, uint64_t size, const char *more) {
        char head[256];

        snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %llu\r\n%s\r\n", path,
                (unsigned long long) size, more);
        client_send_string(fd, head);
}

static void send_much(int fd, uint64_t size) {
        static uint8_t block[1 << 20];

        for (uint64_t n; size > 0; size -= n) {
                n = MIN(size, sizeof(block));
                client_send(fd, block, n);
        }
}

static void assert_taken(int fd, uint64_t size) {
        _cleanup_free_ char *body = NULL;
        char expected[32];

        assert_int_equal(client_response(fd, NULL, &body, false), 200);
        snprintf(expected, sizeof(expected), "%llu", (unsigned long long) size);
        assert_string_equal(body, expected);
}

static void assert_memory(Fixture *f) {
        Seen seen;

        fixture_seen(f, &seen);
        assert_in_range(seen.stream_memory, 1, MEMORY_MAX);
}

static void assert_goes_on(int fd) {
        client_send_string(fd, "GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
}

/* --- uploads --- */

static void test_upload(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);

        begin_upload(fd, "/stream/sink", LARGE, "");
        send_much(fd, LARGE);
        assert_taken(fd, LARGE);
        assert_memory(f);
        assert_goes_on(fd);
        begin_upload(fd, "/stream/sink", 0, "");
        assert_taken(fd, 0);
        assert_goes_on(fd);
        fixture_free(f);
}

static void test_upload_in_chunks(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        static char chunk[100000];
        uint64_t total = 0;

        client_send_string(
                fd, "POST /stream/sink HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (size_t size = 1; total < LARGE / 8; size = size * 7 % 99991) {
                char line[32];
                client_send(
                        fd, line, (size_t) snprintf(line, sizeof(line), "%zx;n=%zu\r\n", size, size % 9));
                memcpy(chunk + size, "\r\n", 2);
                client_send(fd, chunk, size + 2);
                chunk[size] = chunk[size + 1] = 0;
                total += size;
        }
        client_send_string(fd, "0\r\nX-Sum: 7\r\n\r\nGET /ahead HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_taken(fd, total);
        assert_int_equal(client_response(fd, NULL, NULL, false), 200);
        assert_memory(f);
        fixture_free(f);
}

/* Until the server takes no more: how much it was. */
static size_t fill(int fd) {
        static char block[65536];
        struct timeval tenth = {.tv_usec = 100000};
        size_t total = 0;
        ssize_t n;

        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tenth, sizeof(tenth));
        while ((n = send(fd, block, sizeof(block), MSG_NOSIGNAL)) > 0)
                total += (size_t) n;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){}, sizeof(struct timeval));
        return total;
}

static void test_upload_waits_for_the_handler(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f);
        Seen seen;

        begin_upload(fd, "/stream/hold", LARGE, "");
        size_t n = fill(fd);
        assert_true(n < LARGE); /* what the kernel holds */
        usleep(400000); /* that the handler takes nothing is not the client's fault */
        fixture_seen(f, &seen);
        assert_int_equal(seen.streamed, 0);
        fixture_call(f, streams_release, NULL);
        send_much(fd, LARGE - n);
        assert_taken(fd, LARGE);
        assert_memory(f);
        fixture_free(f);
}

static void test_upload_to_a_slow_handler(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f);

        begin_upload(fd, "/stream/slow", 5 * 16384, "");
        send_much(fd, 5 * 16384);
        assert_taken(fd, 5 * 16384);
        fixture_free(f);
}

static void assert_ended(Fixture *f, unsigned n, ssize_t result) {
        Seen seen;

        assert_int_equal(WAIT_SEEN(f, n_streams_ended, n), n);
        fixture_seen(f, &seen);
        assert_int_equal(seen.stream_result, result);
}

static void test_aborted_upload(void **state) {
        Fixture *f = fixture_start();
        int fd = client_connect(f);

        begin_upload(fd, "/stream/sink", LARGE, "");
        send_much(fd, 1 << 20);
        close(fd);
        assert_ended(f, 1, -ECONNRESET);
        /* While the handler waits for something else. */
        fd = client_connect(f);
        begin_upload(fd, "/stream/hold", LARGE, "");
        assert_int_equal(WAIT_SEEN(f, n_streams, 2), 2);
        close(fd);
        assert_ended(f, 2, -ECANCELED);
        assert_int_equal(WAIT_SEEN(f, n_aborts, 2), 2);
        fixture_free(f);
}

static void test_stalled_upload(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f), dripping = -EBADF;
        _cleanup_free_ char *head = NULL;

        begin_upload(fd, "/stream/sink", LARGE, "");
        send_much(fd, 100);
        assert_int_equal(client_response(fd, &head, NULL, false), 408);
        assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
        assert_ended(f, 1, -ETIMEDOUT);
        /* A byte now and then is not enough. */
        dripping = client_connect(f);
        begin_upload(dripping, "/stream/sink", LARGE, "");
        assert_true(client_send_slowly(dripping,
                            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 20) < 59);
        assert_int_equal(client_response(dripping, NULL, NULL, false), 408);
        fixture_free(f);
}

static void test_refused_uploads(void **state) {
        Fixture *f = fixture_start();
        static const struct {
                const char *body;
                unsigned status;
        } bodies[] = {
                {"3\r\nabc\r\nx\r\n", 400},
                {"3e8\r\n", 0}, /* 1000 bytes are allowed */
                {"3e9\r\n", 413},
        };
        _cleanup_free_ char *head = NULL;
        int fd;

        FOREACH_ARRAY(body, bodies, ELEMENTSOF(bodies)) {
                if (body->status == 0)
                        continue;
                fd = client_connect(f);
                client_send_string(
                        fd, "POST /stream/small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
                client_send_string(fd, body->body);
                assert_int_equal(client_response(fd, NULL, NULL, false), body->status);
                close(fd);
        }
        fd = client_connect(f);
        begin_upload(fd, "/stream/small", 1001, "");
        assert_int_equal(
                client_response(fd, NULL, NULL, false), 413); /* by the head: the handler hears nothing */
        assert_int_equal(WAIT_SEEN(f, n_streams, 2), 2);
        close(fd);

        /* Who is refused without a look at the body is not asked for it. */
        fd = client_connect(f);
        begin_upload(fd, "/stream/refuse", LARGE, "Expect: 100-continue\r\n");
        assert_int_equal(client_response(fd, &head, NULL, false), 403);
        assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
        assert_true(client_closed(fd));
        close(fd);
        fd = client_connect(f);
        begin_upload(fd, "/stream/sink", 5, "Expect: 100-continue\r\n");
        assert_int_equal(client_response(fd, NULL, NULL, true), 100);
        client_send_string(fd, "hello");
        assert_taken(fd, 5);
        close(fd);
        fixture_free(f);
}

/* --- downloads --- */

typedef struct Download {
        FILE *from;
        uint64_t total;
        uint32_t sum;
} Download;

static void ask(int fd, const char *verb, const char *path, const char *version) {
        char request[256];

        snprintf(request, sizeof(request), "%s %s %s\r\nHost: h\r\n\r\n", verb, path, version);
        client_send_string(fd, request);
}

/* The head of the response, up to the empty line. */
static void read_head(Download *d, char head[static 4096]) {
        size_t n = 0;

        while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
                int c = getc(d->from);
                assert_true(c != EOF && n < 4095);
                head[n++] = (char) c;
        }
        head[n] = '\0';
}

/* Up to n bytes of the pattern; what came. */
static uint64_t read_bytes(Download *d, uint64_t n) {
        static uint8_t block[16384];
        uint64_t begin = d->total;

        while (n > 0) {
                size_t got = fread(block, 1, (size_t) MIN(n, sizeof(block)), d->from);
                if (got == 0)
                        break;
                assert_int_equal(block[0], stream_byte(d->total));
                assert_int_equal(block[got - 1], stream_byte(d->total + got - 1));
                d->total += got;
                n -= got;
        }
        return d->total - begin;
}

/* True if the last chunk came. */
static bool read_chunks(Download *d) {
        char line[64];

        while (fgets(line, sizeof(line), d->from)) {
                uint64_t n = strtoull(line, NULL, 16);
                if (n == 0)
                        return fgets(line, sizeof(line), d->from) && streq(line, "\r\n");
                if (read_bytes(d, n) < n)
                        return false;
                if (!fgets(line, sizeof(line), d->from) || !streq(line, "\r\n"))
                        return false;
        }
        return false;
}

static Download download(int fd, const char *path, char head[static 4096]) {
        Download d = {.from = fdopen(dup(fd), "r")};

        ask(fd, "GET", path, "HTTP/1.1");
        read_head(&d, head);
        assert_non_null(startswith(head, "HTTP/1.1 200 OK\r\n"));
        return d;
}

static void test_download(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        char head[4096], path[64], length[64];

        snprintf(path, sizeof(path), "/download/%llu", LARGE);
        snprintf(length, sizeof(length), "\r\nContent-Length: %llu\r\n", LARGE);
        Download d = download(fd, path, head);
        assert_non_null(strstr(head, length));
        assert_true(read_bytes(&d, LARGE) == LARGE);
        fclose(d.from);
        assert_memory(f);
        assert_goes_on(fd);

        snprintf(path, sizeof(path), "/download/%llu/chunked", LARGE / 8);
        d = download(fd, path, head);
        assert_non_null(strstr(head, "\r\nTransfer-Encoding: chunked\r\n"));
        assert_null(strstr(head, "Content-Length"));
        assert_true(read_chunks(&d));
        assert_true(d.total == LARGE / 8);
        fclose(d.from);
        assert_memory(f);
        assert_goes_on(fd);
        fixture_free(f);
}

static void test_downloads_of_other_kinds(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        char head[4096];
        _cleanup_free_ char *text = NULL;

        ask(fd, "HEAD", "/download/100000", "HTTP/1.1");
        assert_int_equal(client_response(fd, &text, NULL, true), 200);
        assert_non_null(strstr(text, "\r\nContent-Length: 100000\r\n"));
        ask(fd, "HEAD", "/download/100000/chunked", "HTTP/1.1");
        assert_int_equal(client_response(fd, NULL, NULL, true), 200);
        Download d = download(fd, "/download/0/chunked", head);
        assert_true(read_chunks(&d));
        fclose(d.from);
        d = download(fd, "/download/0", head);
        fclose(d.from);
        assert_goes_on(fd);

        /* HTTP/1.0 knows no chunks: the end of the connection is the end of the body. */
        d = (Download){.from = fdopen(dup(fd), "r")};
        ask(fd, "GET", "/download/100000/chunked", "HTTP/1.0");
        read_head(&d, head);
        assert_null(strstr(head, "Transfer-Encoding"));
        assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
        assert_true(read_bytes(&d, UINT64_MAX) == 100000);
        fclose(d.from);
        fixture_free(f);
}

static void test_download_waits_for_the_reader(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int fd = client_connect(f);
        char head[4096], path[64];
        uint64_t before;
        Seen seen;

        snprintf(path, sizeof(path), "/download/%llu/chunked", LARGE);
        Download d = download(fd, path, head);
        do { /* until no more is written: what the kernel holds */
                fixture_seen(f, &seen);
                before = seen.streamed;
                usleep(100000);
                fixture_seen(f, &seen);
        } while (seen.streamed > before);
        assert_true(seen.streamed < LARGE);
        assert_memory(f);
        assert_true(read_chunks(&d));
        assert_true(d.total == LARGE);
        fclose(d.from);
        fixture_free(f);
}

static void test_download_that_is_not_taken(void **state) {
        Fixture *f = fixture_start_impatient();
        _cleanup_close_ int fd = client_connect(f);

        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        ask(fd, "GET", "/download/1000000000", "HTTP/1.1");
        assert_int_equal(WAIT_SEEN(f, n_streams_ended, 1), 1);
        assert_int_equal(WAIT_SEEN(f, n_aborts, 1), 1);
        int gone = client_connect(f);
        ask(gone, "GET", "/download/1000000000/chunked", "HTTP/1.1");
        assert_int_equal(WAIT_SEEN(f, n_streams, 2), 2);
        close(gone);
        assert_int_equal(WAIT_SEEN(f, n_streams_ended, 2), 2);
        while (fixture_connections(f) > 0)
                usleep(20000);
        fixture_free(f);
}

static void test_incomplete_downloads(void **state) {
        Fixture *f = fixture_start();
        static const char *const paths[] = {"/download/100000/short", "/download/100000/abort"};
        char head[4096];

        FOREACH_ARRAY(path, paths, ELEMENTSOF(paths)) {
                _cleanup_close_ int fd = client_connect(f);
                Download d = download(fd, *path, head);
                assert_true(read_bytes(&d, 100000) < 100000);
                fclose(d.from);
        }
        _cleanup_close_ int fd = client_connect(f);
        Download d = download(fd, "/download/100000/chunked/abort", head);
        assert_false(read_chunks(&d));
        fclose(d.from);
        fixture_free(f);
}

static void test_streams_when_the_server_ends(void **state) {
        Fixture *f = fixture_start();
        _cleanup_close_ int up = client_connect(f), held = client_connect(f), down = client_connect(f);

        begin_upload(up, "/stream/sink", LARGE, "");
        begin_upload(held, "/stream/hold", LARGE, "");
        ask(down, "GET", "/download/1000000000", "HTTP/1.1");
        assert_int_equal(WAIT_SEEN(f, n_streams, 3), 3);
        fixture_free(f); /* looks whether every handler has ended */
        assert_true(client_closed(up));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_upload),
                cmocka_unit_test(test_upload_in_chunks),
                cmocka_unit_test(test_upload_waits_for_the_handler),
                cmocka_unit_test(test_upload_to_a_slow_handler),
                cmocka_unit_test(test_aborted_upload),
                cmocka_unit_test(test_stalled_upload),
                cmocka_unit_test(test_refused_uploads),
                cmocka_unit_test(test_download),
                cmocka_unit_test(test_downloads_of_other_kinds),
                cmocka_unit_test(test_download_waits_for_the_reader),
                cmocka_unit_test(test_download_that_is_not_taken),
                cmocka_unit_test(test_incomplete_downloads),
                cmocka_unit_test(test_streams_when_the_server_ends),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
