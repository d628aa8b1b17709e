/* SPDX-License-Identifier: Apache-2.0 */

/* Peers that TLS refuses, and how each refusal is named on both sides. */

#include "fixture.h"

typedef struct Refusal {
        TlsConfig client, server;
        int client_error, server_error;
        const char *client_text, *server_text; /* NULL: whatever it says */
} Refusal;

/* With TLS 1.3 a client has shaken hands before the server looks at its certificate: it hears of it when it
 * reads. */
static void read_refusal(Transport *transport, int *result) {
        char byte;

        if (*result == 0)
                *result = (int) transport_read(transport, &byte, 1);
}

static void expect_refusal(const Refusal *refusal) {
        _cleanup_(tls_context_unrefp) TlsContext *client = make_context(&refusal->client),
                                                 *server = make_context(&refusal->server);
        int client_result, server_result;
        Pair pair;

        pair_open(&pair, BETWEEN_HANDS, client, server);
        shake_hands(&pair, SIZE_MAX, &client_result, &server_result);
        while (carry(&pair, SIZE_MAX) > 0)
                ;
        read_refusal(pair.client, &client_result);
        read_refusal(pair.server, &server_result);
        assert_int_equal(client_result, refusal->client_error);
        assert_int_equal(server_result, refusal->server_error);
        if (refusal->client_text)
                assert_string_equal(transport_error_text(pair.client), refusal->client_text);
        if (refusal->server_text)
                assert_string_equal(transport_error_text(pair.server), refusal->server_text);
        pair_close(&pair);
}

/* As the contexts of the fixture are made. */
static Refusal good(void) {
        return (Refusal){
                .client = {.only_tls13 = true,
                        .certificate = certificates.client.certificate,
                        .key = certificates.client.key,
                        .ca = certificates.ca.certificate,
                        .peer_name = "server.test"},
                .server = {.server = true,
                        .only_tls13 = true,
                        .certificate = certificates.server.certificate,
                        .key = certificates.server.key,
                        .ca = certificates.ca.certificate},
        };
}

static void test_wrong_ca(void **state) {
        Refusal refusal = good();

        refusal.client.ca = certificates.other_ca.certificate;
        refusal.client_error = -EKEYREJECTED;
        refusal.client_text = "the peer's certificate is of another CA";
        refusal.server_error = -EKEYREJECTED;
        expect_refusal(&refusal);

        refusal = good();
        refusal.server.ca = certificates.other_ca.certificate;
        refusal.server_error = -EKEYREJECTED;
        refusal.server_text = "the peer's certificate is of another CA";
        refusal.client_error = -EKEYREJECTED;
        expect_refusal(&refusal);
}

/* A CA of the same name, and a certificate that nobody signed. */
static void test_self_signed(void **state) {
        Certificate own = certificate_make(&(CertificateWish){.name = "server.test", .dns = "server.test"});
        Refusal refusal = good();

        refusal.server.certificate = own.certificate;
        refusal.server.key = own.key;
        refusal.client_error = -EKEYREJECTED;
        refusal.client_text = "the peer's certificate is of another CA";
        refusal.server_error = -EKEYREJECTED;
        expect_refusal(&refusal);
        certificate_done(&own);
}

static void test_wrong_name(void **state) {
        static const char *const names[] = {"other.test", "a server", "127.0.0.2", "sub.server.test"};

        FOREACH_ARRAY(name, names, ELEMENTSOF(names)) {
                Refusal refusal = good();
                refusal.client.peer_name = *name;
                refusal.client_error = -EKEYREJECTED;
                refusal.client_text = "the peer's certificate has another name";
                refusal.server_error = -EKEYREJECTED;
                refusal.server_text = "the peer does not accept our certificate";
                expect_refusal(&refusal);
        }
        Refusal refusal = good();
        refusal.server.peer_name = "other.test";
        refusal.server_error = -EKEYREJECTED;
        refusal.server_text = "the peer's certificate has another name";
        refusal.client_error = -EKEYREJECTED;
        expect_refusal(&refusal);
}

static void test_expired(void **state) {
        Certificate expired = certificate_make(&(CertificateWish){.name = "server.test",
                .dns = "server.test",
                .issuer = &certificates.ca,
                .not_before = -7200,
                .not_after = -60});
        Certificate early = certificate_make(&(CertificateWish){.name = "client.test",
                .dns = "client.test",
                .issuer = &certificates.ca,
                .not_before = 1800});
        Refusal refusal = good();

        refusal.server.certificate = expired.certificate;
        refusal.server.key = expired.key;
        refusal.client_error = -EKEYEXPIRED;
        refusal.client_text = "the peer's certificate has expired";
        refusal.server_error = -EKEYEXPIRED;
        refusal.server_text = "the peer says that our certificate has expired";
        expect_refusal(&refusal);

        refusal = good();
        refusal.client.certificate = early.certificate;
        refusal.client.key = early.key;
        refusal.server_error = -EKEYEXPIRED;
        refusal.server_text = "the peer's certificate is not valid yet";
        refusal.client_error = -EKEYREJECTED;
        expect_refusal(&refusal);
        certificate_done(&expired);
        certificate_done(&early);
}

static void test_no_certificate(void **state) {
        Refusal refusal = good();

        refusal.client.certificate = refusal.client.key = NULL;
        refusal.server_error = -EKEYREJECTED;
        refusal.server_text = "the peer has no certificate";
        refusal.client_error = -EKEYREJECTED;
        refusal.client_text = "the peer wants a certificate of us";
        expect_refusal(&refusal);
}

static void test_other_protocol(void **state) {
        Refusal refusal = good();

        refusal.client.alpn = "h2";
        refusal.server.alpn = "http/1.1";
        refusal.client_error = refusal.server_error = -EPROTONOSUPPORT;
        refusal.client_text = refusal.server_text = "the peer wants another protocol above TLS";
        expect_refusal(&refusal);
}

/* --- peers that speak something else --- */

/* What a transport says to bytes of a peer; the peer's end stays open. */
static void expect_failure(
        TlsContext *context, const char *bytes, size_t size, int error, const char *text) {
        int ends[2], r;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        _cleanup_close_ int peer = ends[1];
        set_non_blocking(ends[0]);
        _cleanup_(transport_freep) Transport *transport = NULL;
        assert_int_equal(transport_new(&transport, ends[0], context), 0);
        assert_int_equal(transport_handshake(transport), -EAGAIN);
        assert_int_equal(write(peer, bytes, size), size);
        for (unsigned i = 0; i < 3 && (r = transport_handshake(transport)) == -EAGAIN; i++)
                ;
        assert_int_equal(r, error);
        assert_string_equal(transport_error_text(transport), text);
        assert_false(transport_has_pending(transport));
        assert_null(transport_peer_name(transport));
        assert_int_equal(transport_shutdown(transport), error);
}

static void test_plain_text(void **state) {
        static const char plain[] = "the peer speaks plain text, not TLS";
        static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                          frame[] = {0, 0, 0, 5, 8, 1, 16, 1, 24, 2};
        static const char json[] = "{\"connect\":{}}\n";
        _cleanup_(tls_context_unrefp) TlsContext *server = server_context();
        _cleanup_(tls_context_unrefp) TlsContext *client = client_context();

        expect_failure(server, get, sizeof(get) - 1, -EPROTOTYPE, plain);
        expect_failure(server, json, sizeof(json) - 1, -EPROTOTYPE, plain);
        expect_failure(server, frame, sizeof(frame), -EPROTOTYPE, plain);
        expect_failure(client, get, sizeof(get) - 1, -EPROTOTYPE, plain);
}

/* Who speaks HTTP to the port of HTTPS can be told so in his own way. */
static void test_http(void **state) {
        static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        _cleanup_(tls_context_unrefp) TlsContext *server = server_context();
        char heard[8] = "";
        Pair pair;

        pair_open(&pair, BETWEEN_NOTHING, NULL, server);
        assert_int_equal(transport_write(pair.client, get, sizeof(get) - 1), sizeof(get) - 1);
        assert_int_equal(transport_handshake(pair.server), -EPROTOTYPE);
        assert_int_equal(send(transport_fd(pair.server), "TLS!", 4, MSG_NOSIGNAL), 4);
        assert_int_equal(transport_read(pair.client, heard, sizeof(heard)), 4);
        assert_string_equal(heard, "TLS!");
        pair_close(&pair);
}

/* A client that speaks nothing newer than TLS 1.1: a hello as one would send it. */
static void test_old_version(void **state) {
        static const unsigned char hello[] = {
                22, 3, 1, 0, 47, /* a handshake record of TLS 1.0 */
                1, 0, 0, 43, 3, 2, /* client hello, TLS 1.1 */
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, /* random */
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, /**/
                0, /* no session */
                0, 4, 0xc0, 0x13, 0, 0x2f, /* two ciphers */
                1, 0 /* no compression */
        };
        _cleanup_(tls_context_unrefp) TlsContext *server = make_context(&(TlsConfig){.server = true,
                .certificate = certificates.server.certificate,
                .key = certificates.server.key});

        expect_failure(server, (const char *) hello, sizeof(hello), -EPROTONOSUPPORT,
                "the peer speaks another version of TLS");
}

/* Between hosts TLS 1.2 is old, too: a hello of 1.2 without the extension that offers 1.3. */
static void test_tls12_between_hosts(void **state) {
        static const unsigned char hello[] = {
                22, 3, 1, 0, 47, /**/
                1, 0, 0, 43, 3, 3, /* TLS 1.2 */
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, /**/
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, /**/
                0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0 /**/
        };
        _cleanup_(tls_context_unrefp) TlsContext *server = server_context();

        expect_failure(server, (const char *) hello, sizeof(hello), -EPROTONOSUPPORT,
                "the peer speaks another version of TLS");
}

/* The peer goes away after every number of bytes of its handshake. */
static void test_truncated_handshake(void **state) {
        _cleanup_(tls_context_unrefp) TlsContext *client_tls = client_context(),
                                                 *server_tls = server_context();
        int client, server;
        Pair pair;

        pair_open(&pair, BETWEEN_HANDS, client_tls, server_tls);
        shake_hands(&pair, 1, &client, &server);
        assert_int_equal(server, 0);
        size_t total = pair.to_server - 8; /* signatures differ by some bytes */
        pair_close(&pair);
        assert_true(total > 100);
        for (size_t end = 0; end < total; end += end < 16 || end + 16 > total ? 1 : 37) {
                pair_open(&pair, BETWEEN_HANDS, client_tls, server_tls);
                for (size_t idle = 0; pair.to_server < end && idle < 8; idle++) {
                        size_t before = pair.to_server + pair.to_client;
                        (void) transport_handshake(pair.client);
                        (void) carry(&pair, MIN((size_t) 64, end - pair.to_server));
                        (void) transport_handshake(pair.server);
                        (void) carry(&pair, MIN((size_t) 64, end - pair.to_server));
                        if (pair.to_server + pair.to_client > before)
                                idle = 0;
                }
                pair.hands[1] = safe_close(pair.hands[1]);
                for (unsigned i = 0; i < 8 && (server = transport_handshake(pair.server)) == -EAGAIN; i++)
                        ;
                assert_int_equal(server, -ECONNRESET);
                pair_close(&pair);
        }
}

/* --- contexts --- */

static void expect_problem(const TlsConfig *config, const char *expected) {
        TlsContext *context = NULL;
        const char *problem = NULL;

        assert_int_equal(tls_context_new(&context, config, &problem), -EINVAL);
        assert_null(context);
        assert_string_equal(problem, expected);
        assert_int_equal(tls_context_new(&context, config, NULL), -EINVAL);
}

static void test_contexts(void **state) {
        const char *certificate = certificates.server.certificate, *key = certificates.server.key;
        _cleanup_free_ char *half = strndup(certificate, strlen(certificate) / 2);
        _cleanup_free_ char *chain = format_string("%s%s", certificate, half);
        _cleanup_free_ char *whole =
                format_string("%s%s\n# a comment\n", certificate, certificates.ca.certificate);

        expect_problem(&(TlsConfig){.server = true}, "a server needs a certificate");
        expect_problem(&(TlsConfig){.server = true, .certificate = certificate},
                "a certificate and its key go together");
        expect_problem(&(TlsConfig){.ca = certificates.ca.certificate},
                "a client has to know the name of its server");
        expect_problem(&(TlsConfig){.server = true, .certificate = "x", .key = key},
                "the certificate is not valid PEM");
        expect_problem(&(TlsConfig){.server = true, .certificate = half, .key = key},
                "the certificate is not valid PEM");
        expect_problem(&(TlsConfig){.server = true, .certificate = chain, .key = key},
                "the certificate's chain is not valid PEM");
        expect_problem(&(TlsConfig){.server = true, .certificate = certificate, .key = "x"},
                "the key is not valid PEM without a password");
        expect_problem(
                &(TlsConfig){.server = true, .certificate = certificate, .key = certificates.client.key},
                "the key does not belong to the certificate");
        expect_problem(&(TlsConfig){.server = true, .certificate = certificate, .key = key, .ca = "x"},
                "the CA's certificate is not valid PEM");
        tls_context_unref(
                make_context(&(TlsConfig){.server = true, .certificate = whole, .key = key, .ca = whole}));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_wrong_ca),
                cmocka_unit_test(test_self_signed),
                cmocka_unit_test(test_wrong_name),
                cmocka_unit_test(test_expired),
                cmocka_unit_test(test_no_certificate),
                cmocka_unit_test(test_other_protocol),
                cmocka_unit_test(test_plain_text),
                cmocka_unit_test(test_http),
                cmocka_unit_test(test_old_version),
                cmocka_unit_test(test_tls12_between_hosts),
                cmocka_unit_test(test_truncated_handshake),
                cmocka_unit_test(test_contexts),
        };
        return cmocka_run_group_tests(tests, make_certificates, forget_certificates);
}
