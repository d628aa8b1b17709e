/* SPDX-License-Identifier: Apache-2.0 */

/* Contexts, handshakes and an exchange, again and again, each time with another allocation that fails, be it ours
 * or the library's: each ends in an error, or in what was asked for. */

#include "fixture.h"

#include <unistd.h>

/* Sanitizers have an allocator of their own. */
#if defined(__SANITIZE_ADDRESS__)
#define CAN_FAIL 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAN_FAIL 0
#else
#define CAN_FAIL 1
#endif
#else
#define CAN_FAIL 1
#endif

static unsigned n_allocations, fail_at; /* 0: never */

#if CAN_FAIL
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static bool fails(void) {
        return fail_at > 0 && ++n_allocations == fail_at;
}

__attribute__((visibility("default"))) void *malloc(size_t size) {
        return fails() ? NULL : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size) {
        return fails() ? NULL : __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size) {
        return fails() ? NULL : __libc_realloc(p, size);
}
#endif

/* 0: all went well. */
static int converse(Transport *client, Transport *server) {
        static const struct iovec parts[] = {{(char *) "he", 2}, {(char *) "llo", 3}};
        char got[8] = "";
        ssize_t n = -EAGAIN;
        int r = -EAGAIN;

        for (unsigned i = 0; i < 16 && r == -EAGAIN; i++) {
                r = transport_handshake(client);
                if (r < 0 && r != -EAGAIN)
                        return r;
                int other = transport_handshake(server);
                if (other < 0 && other != -EAGAIN)
                        return other;
        }
        if (r < 0)
                return r;
        n = transport_writev(client, parts, 2);
        if (n < 0)
                return (int) n;
        n = -EAGAIN;
        for (unsigned i = 0; i < 4 && n == -EAGAIN; i++)
                n = transport_read(server, got, sizeof(got));
        if (n < 0)
                return (int) n;
        assert_int_equal(n, 5);
        assert_string_equal(got, "hello");
        const char *name = transport_peer_name(server);
        if (!name)
                return -ENOMEM;
        assert_string_equal(name, "client.test");
        return transport_shutdown(client);
}

static const TlsConfig *client_config(void) {
        static TlsConfig config;

        config = (TlsConfig){.only_tls13 = true,
                .certificate = certificates.client.certificate,
                .key = certificates.client.key,
                .ca = certificates.ca.certificate,
                .peer_name = "server.test"};
        return &config;
}

/* With one more allocation that fails. */
static int run_context(unsigned n) {
        _cleanup_(tls_context_unrefp) TlsContext *context = NULL;

        n_allocations = 0;
        fail_at = n;
        int r = tls_context_new(&context, client_config(), NULL);
        fail_at = 0;
        assert_true((r < 0) == !context);
        return r;
}

static int run_session(TlsContext *client_tls, TlsContext *server_tls, unsigned n) {
        _cleanup_(transport_freep) Transport *client = NULL, *server = NULL;
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        n_allocations = 0;
        fail_at = n;
        int r = transport_new(&client, ends[0], client_tls);
        if (r >= 0)
                ends[0] = -EBADF;
        if (r >= 0 && (r = transport_new(&server, ends[1], server_tls)) >= 0)
                ends[1] = -EBADF;
        if (r >= 0)
                r = converse(client, server);
        fail_at = 0;
        safe_close(ends[0]);
        safe_close(ends[1]);
        return r;
}

/* The library allocates thousands of times, so only some of those fail. */
static void test_contexts(void **state) {
        unsigned n_failed = 0, n_tried = 0;

        assert_int_equal(run_context(UINT32_MAX), 0); /* what is made once is made */
        assert_int_equal(run_context(UINT32_MAX), 0);
        unsigned n_total = n_allocations;
        for (unsigned n = 1; n <= n_total; n += n < 100 ? 1 : n_total / 100 + 1, n_tried++)
                n_failed += run_context(n) < 0;
        printf("%u of %u allocations failed in turn, %u were missed\n", n_tried, n_total, n_failed);
        assert_true(!CAN_FAIL || n_failed > 20);
        assert_int_equal(run_context(UINT32_MAX), 0);
}

static void test_sessions(void **state) {
        _cleanup_(tls_context_unrefp) TlsContext *client = client_context(), *server = server_context();
        unsigned n_failed = 0, n_tried = 0;

        assert_int_equal(run_session(client, server, UINT32_MAX), 0);
        assert_int_equal(run_session(client, server, UINT32_MAX), 0);
        unsigned n_total = n_allocations;
        assert_true(!CAN_FAIL || n_total > 100);
        for (unsigned n = 1; n <= n_total; n += n < 100 ? 1 : n_total / 1000 + 1, n_tried++)
                n_failed += run_session(client, server, n) < 0;
        printf("%u of %u allocations failed in turn, %u were missed\n", n_tried, n_total, n_failed);
        assert_true(!CAN_FAIL || n_failed > 100);
        assert_int_equal(run_session(client, server, UINT32_MAX), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_contexts),
                cmocka_unit_test(test_sessions),
        };
        return cmocka_run_group_tests(tests, make_certificates, forget_certificates);
}
