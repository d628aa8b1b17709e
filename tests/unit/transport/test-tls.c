/* SPDX-License-Identifier: Apache-2.0 */

/* TLS between two that accept each other. */

#include "fixture.h"

static void open_both(Pair *pair, Between between) {
        _cleanup_(tls_context_unrefp) TlsContext *client = client_context(), *server = server_context();

        pair_open(pair, between, client, server); /* the sessions outlive the contexts */
}

static void fill(uint8_t *data, size_t size) {
        for (size_t i = 0; i < size; i++)
                data[i] = (uint8_t) (i * 31 + i / 251);
}

static void test_exchange(void **state) {
        static uint8_t data[1 << 20];
        int client, server;
        Pair pair;

        fill(data, sizeof(data));
        for (Between between = BETWEEN_NOTHING; between <= BETWEEN_TCP; between++) {
                open_both(&pair, between);
                assert_true(transport_is_tls(pair.client));
                assert_false(transport_is_established(pair.client));
                assert_int_equal(transport_take_fd(pair.client), -EINVAL);
                shake_hands(&pair, 0, &client, &server);
                assert_int_equal(client, 0);
                assert_int_equal(server, 0);
                assert_true(transport_is_established(pair.client) && transport_is_established(pair.server));
                assert_string_equal(transport_peer_name(pair.client), "server.test");
                assert_string_equal(transport_peer_name(pair.server), "client.test");
                exchange(&pair, pair.client, pair.server, 0, data, sizeof(data));
                exchange(&pair, pair.server, pair.client, 0, data, sizeof(data));
                pair_close(&pair);
        }
}

/* The handshake needs no call of its own. */
static void test_without_handshake(void **state) {
        Pair pair;

        open_both(&pair, BETWEEN_NOTHING);
        char byte;
        ssize_t n = -EAGAIN;
        for (unsigned i = 0; i < 10 && n == -EAGAIN; i++) {
                n = transport_write(pair.client, "x", 1);
                (void) transport_read(pair.server, &byte, 0);
        }
        assert_int_equal(n, 1);
        n = -EAGAIN;
        for (unsigned i = 0; i < 10 && n == -EAGAIN; i++)
                n = transport_read(pair.server, &byte, 1);
        assert_int_equal(n, 1);
        pair_close(&pair);
}

/* The network may cut anything anywhere. */
static void test_byte_by_byte(void **state) {
        uint8_t data[3000];
        int client, server;
        Pair pair;

        fill(data, sizeof(data));
        open_both(&pair, BETWEEN_HANDS);
        shake_hands(&pair, 1, &client, &server);
        assert_int_equal(client, 0);
        assert_int_equal(server, 0);
        exchange(&pair, pair.client, pair.server, 1, data, sizeof(data));
        exchange(&pair, pair.server, pair.client, 1, data, sizeof(data));
        pair_close(&pair);
}

static void open_established(Pair *pair, Between between) {
        int client, server;

        open_both(pair, between);
        shake_hands(pair, SIZE_MAX, &client, &server);
        assert_int_equal(client, 0);
        assert_int_equal(server, 0);
}

/* Many small parts make few records, and arrive in order. */
static void test_parts(void **state) {
        struct iovec parts[100];
        uint8_t data[100][400], got[sizeof(data)];
        Pair pair;
        size_t done = 0;

        fill(data[0], sizeof(data));
        for (size_t i = 0; i < 100; i++)
                parts[i] = (struct iovec){data[i], sizeof(data[i])};
        parts[7].iov_len = 0;
        parts[8] = (struct iovec){data[7], 2 * sizeof(data[0])};
        open_established(&pair, BETWEEN_HANDS);
        size_t before = pair.to_server;
        assert_int_equal(transport_writev(pair.client, parts, 100), sizeof(data));
        while (carry(&pair, SIZE_MAX) > 0)
                ;
        assert_true(pair.to_server - before < sizeof(data) + 3 * 64);
        while (done < sizeof(got)) {
                ssize_t n = transport_read(pair.server, got + done, sizeof(got) - done);
                assert_true(n > 0);
                done += (size_t) n;
        }
        assert_memory_equal(got, data, sizeof(data));
        pair_close(&pair);
}

/* What came with what was read waits inside, and the descriptor says nothing of it. */
static void test_pending(void **state) {
        uint8_t data[100];
        Pair pair;

        open_established(&pair, BETWEEN_NOTHING);
        assert_int_equal(transport_write(pair.client, data, 100), 100);
        assert_int_equal(transport_write(pair.client, data, 100), 100);
        assert_int_equal(transport_read(pair.server, data, 10), 10);
        assert_true(transport_has_pending(pair.server));
        assert_int_equal(transport_read(pair.server, data, 90), 90);
        assert_true(transport_has_pending(pair.server)); /* the second record */
        assert_int_equal(transport_read(pair.server, data, 100), 100);
        assert_int_equal(transport_read(pair.server, data, 100), -EAGAIN);
        assert_false(transport_has_pending(pair.server));
        pair_close(&pair);
}

/* With half a record inside it waits for the descriptor. */
static void test_half_a_record(void **state) {
        uint8_t data[1000] = {};
        Pair pair;

        open_established(&pair, BETWEEN_HANDS);
        while (carry(&pair, SIZE_MAX) > 0)
                ;
        (void) transport_read(pair.client, data, 1);
        assert_int_equal(transport_write(pair.client, data, 1000), 1000);
        assert_int_equal(carry(&pair, 500), 500);
        assert_int_equal(transport_read(pair.server, data, 1000), -EAGAIN);
        assert_false(transport_has_pending(pair.server));
        assert_int_equal(transport_events(pair.server, true, false), EPOLLIN);
        (void) carry(&pair, SIZE_MAX);
        assert_int_equal(transport_read(pair.server, data, 1000), 1000);
        pair_close(&pair);
}

/* A peer that does not read: nothing is lost, and the bytes may have moved when they are written again. */
static void test_full(void **state) {
        const size_t size = 4 << 20;
        _cleanup_free_ uint8_t *data = malloc(size), *copy = malloc(size), *got = malloc(size);
        size_t written = 0, done = 0;
        ssize_t n;
        Pair pair;

        fill(data, size);
        memcpy(copy, data, size);
        open_established(&pair, BETWEEN_NOTHING);
        while (written < size) {
                while (written < size &&
                        (n = transport_write(pair.client, data + written, size - written)) > 0)
                        written += (size_t) n;
                if (written < size) {
                        assert_int_equal(n, -EAGAIN);
                        assert_true(transport_events(pair.client, false, true) & EPOLLOUT);
                        uint8_t *other = data;
                        data = copy;
                        copy = other;
                }
                while ((n = transport_read(pair.server, got + done, size - done)) > 0)
                        done += (size_t) n;
        }
        while (done < size && (n = transport_read(pair.server, got + done, size - done)) > 0)
                done += (size_t) n;
        assert_int_equal(done, size);
        assert_memory_equal(got, data, size);
        pair_close(&pair);
}

static void test_half_close(void **state) {
        Pair pair;
        char byte;

        open_established(&pair, BETWEEN_NOTHING);
        assert_int_equal(transport_write(pair.client, "x", 1), 1);
        assert_int_equal(transport_shutdown(pair.client), 0);
        assert_int_equal(transport_read(pair.server, &byte, 1), 1);
        assert_int_equal(transport_read(pair.server, &byte, 1), 0);
        assert_int_equal(transport_read(pair.server, &byte, 1), 0);
        assert_int_equal(transport_write(pair.server, "y", 1), 1);
        assert_int_equal(transport_read(pair.client, &byte, 1), 1);
        assert_int_equal(byte, 'y');
        assert_int_equal(transport_shutdown(pair.server), 0);
        assert_int_equal(transport_read(pair.client, &byte, 1), 0);
        pair_close(&pair);
}

/* An end that TLS does not confirm is none: somebody may have cut the text short. */
static void test_cut_off(void **state) {
        Pair pair;
        char data[8];

        open_established(&pair, BETWEEN_NOTHING);
        assert_int_equal(transport_write(pair.client, "whole", 5), 5);
        /* With something unread the kernel would call it a reset. */
        assert_int_equal(transport_read(pair.client, data, sizeof(data)), -EAGAIN);
        pair.client = transport_free(pair.client);
        assert_int_equal(transport_read(pair.server, data, sizeof(data)), 5);
        assert_int_equal(transport_read(pair.server, data, sizeof(data)), -ECONNRESET);
        assert_string_equal(transport_error_text(pair.server), "the connection was cut off");
        assert_int_equal(transport_write(pair.server, "x", 1), -ECONNRESET);
        pair_close(&pair);
}

/* Both sides for clients outside: TLS 1.2 will do, and clients have no certificate. */
static void test_without_client_certificate(void **state) {
        _cleanup_(tls_context_unrefp) TlsContext *server = make_context(&(TlsConfig){.server = true,
                .certificate = certificates.server.certificate,
                .key = certificates.server.key,
                .alpn = "http/1.1"});
        _cleanup_(tls_context_unrefp) TlsContext *by_name =
                make_context(&(TlsConfig){.ca = certificates.ca.certificate, .peer_name = "server.test"});
        _cleanup_(tls_context_unrefp) TlsContext *by_address = make_context(&(TlsConfig){
                .ca = certificates.ca.certificate, .peer_name = "127.0.0.1", .alpn = "http/1.1"});
        TlsContext *clients[] = {by_name, by_address};
        int client_result, server_result;
        Pair pair;

        FOREACH_ARRAY(client, clients, ELEMENTSOF(clients)) {
                pair_open(&pair, BETWEEN_TCP, *client, server);
                shake_hands(&pair, 0, &client_result, &server_result);
                assert_int_equal(client_result, 0);
                assert_int_equal(server_result, 0);
                assert_null(transport_peer_name(pair.server));
                exchange(&pair, pair.server, pair.client, 0, "hello", 5);
                pair_close(&pair);
        }
}

/* Of a certificate without alternative names the common name counts, for identifying a peer. */
static void test_common_name(void **state) {
        Certificate old = certificate_make(&(CertificateWish){.name = "host-1", .issuer = &certificates.ca});
        _cleanup_(tls_context_unrefp) TlsContext *server = server_context();
        _cleanup_(tls_context_unrefp) TlsContext *client = make_context(&(TlsConfig){
                .certificate = old.certificate,
                .key = old.key,
                .ca = certificates.ca.certificate,
                .peer_name = "server.test",
        });
        int client_result, server_result;
        Pair pair;

        pair_open(&pair, BETWEEN_NOTHING, client, server);
        shake_hands(&pair, 0, &client_result, &server_result);
        assert_int_equal(server_result, 0);
        assert_string_equal(transport_peer_name(pair.server), "host-1");
        pair_close(&pair);
        certificate_done(&old);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_exchange),
                cmocka_unit_test(test_without_handshake),
                cmocka_unit_test(test_byte_by_byte),
                cmocka_unit_test(test_parts),
                cmocka_unit_test(test_pending),
                cmocka_unit_test(test_half_a_record),
                cmocka_unit_test(test_full),
                cmocka_unit_test(test_half_close),
                cmocka_unit_test(test_cut_off),
                cmocka_unit_test(test_without_client_certificate),
                cmocka_unit_test(test_common_name),
        };
        return cmocka_run_group_tests(tests, make_certificates, forget_certificates);
}
