/* SPDX-License-Identifier: Apache-2.0 */

/* The same server and client over TCP and TLS, as between hosts, and over plain TCP. */

#include "fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "certificates.h"

static Certificate ca, other_ca, server_certificate, client_certificate, renewed_certificate;

static int make_certificates(void **state) {
        ca = certificate_make(&(CertificateWish){.name = "cluster", .ca = true});
        other_ca = certificate_make(&(CertificateWish){.name = "others", .ca = true});
        server_certificate = certificate_make(
                &(CertificateWish){.name = "host-1", .dns = "host-1", .ip = "127.0.0.1", .issuer = &ca});
        client_certificate =
                certificate_make(&(CertificateWish){.name = "host-2", .dns = "host-2", .issuer = &ca});
        renewed_certificate =
                certificate_make(&(CertificateWish){.name = "host-3", .dns = "host-3", .issuer = &other_ca});
        return 0;
}

static int forget_certificates(void **state) {
        certificate_done(&ca);
        certificate_done(&other_ca);
        certificate_done(&server_certificate);
        certificate_done(&client_certificate);
        certificate_done(&renewed_certificate);
        return 0;
}

static TlsContext *make_context(
        bool server, const Certificate *own, const Certificate *trusted, const char *peer) {
        TlsContext *context = NULL;

        assert_int_equal(tls_context_new(&context,
                                 &(TlsConfig){
                                         .server = server,
                                         .only_tls13 = true,
                                         .certificate = own->certificate,
                                         .key = own->key,
                                         .ca = trusted->certificate,
                                         .peer_name = peer,
                                 },
                                 NULL),
                0);
        return context;
}

static char identified[64];

static int identify_by_name(const RpcIdentity *identity, Role *ret, void *userdata) {
        assert_true(identity->uid == (uid_t) -1);
        snprintf(identified, sizeof(identified), "%s", identity->certificate_name ?: "(none)");
        *ret = ROLE_NONE;
        return 0;
}

/* Listens on loopback; *ret is "HOST:PORT". */
static void listen_on_loopback(Fixture *f, const char *host, char *ret, size_t size) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (struct sockaddr *) &address, length), 0);
        assert_int_equal(listen(fd, 8), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &length), 0);
        snprintf(ret, size, "%s:%u", host, ntohs(address.sin_port));
        start_server_on(f, fd);
}

static void connect_client(Fixture *f, const char *address, TlsContext *tls) {
        start_client_to(f, &(RpcClientConfig){.address = address,
                                   .tls = tls,
                                   .timeout_usec = LONG_TIMEOUT_USEC,
                                   .role = ROLE_GROUP});
}

static void expect_answer(Fixture *f) {
        _cleanup_free_ char *large = malloc(1 << 20);
        Outcome outcome = {}, many[200] = {};

        assert_int_equal(call(f, &method_once, "hello", 0, &outcome), 0);
        run_until(f, &outcome.n_replies, 1);
        assert_string_equal(outcome.text, "hello");
        memset(large, 'x', 1 << 20);
        const RpcMessage message = {.payload = large, .payload_size = 1 << 20};
        assert_int_equal(rpc_client_call(f->client, &method_again, &message, on_reply, &outcome), 0);
        for (size_t i = 0; i < ELEMENTSOF(many); i++)
                assert_int_equal(call(f, &method_again, "x", 0, &many[i]), 0);
        run_until(f, &many[ELEMENTSOF(many) - 1].n_replies, 1);
        run_until(f, &outcome.n_replies, 2);
        assert_int_equal(outcome.size, 1 << 20);
}

static void test_mutual(void **state) {
        _cleanup_(tls_context_unrefp) TlsContext *server =
                make_context(true, &server_certificate, &ca, NULL);
        _cleanup_(tls_context_unrefp) TlsContext *client =
                make_context(false, &client_certificate, &ca, "host-1");
        static const char *const hosts[] = {"127.0.0.1", "localhost"};
        Fixture *f = *state;
        char address[64];

        for (size_t i = 0; i < ELEMENTSOF(hosts); i++) {
                f->identify = identify_by_name;
                identified[0] = 0;
                listen_on_loopback(f, hosts[i], address, sizeof(address));
                rpc_server_set_tls(f->server, server);
                connect_client(f, address, client);
                expect_answer(f);
                assert_string_equal(identified, "host-2");
                assert_int_equal(rpc_connection_role(f->last_connection), ROLE_GROUP);
                /* The server ends, and comes back. */
                f->client = rpc_client_free(f->client);
                f->server = rpc_server_free(f->server);
        }
}

/* By default whoever has a certificate of our CA is a role, and who has none is nobody. */
static void test_default_identity(void **state) {
        _cleanup_(tls_context_unrefp) TlsContext *server =
                make_context(true, &server_certificate, &ca, NULL);
        _cleanup_(tls_context_unrefp) TlsContext *client =
                make_context(false, &client_certificate, &ca, "host-1");
        Fixture *f = *state;
        char address[64];

        listen_on_loopback(f, "127.0.0.1", address, sizeof(address));
        rpc_server_set_tls(f->server, server);
        connect_client(f, address, client);
        expect_answer(f);
        f->client = rpc_client_free(f->client);
        run_until(f, &f->n_gone, 1);

        rpc_server_set_tls(f->server, NULL); /* plain: nobody knows who it is */
        connect_client(f, address, NULL);
        run_until(f, &f->n_gone, 2);
        assert_int_equal(f->n_requests, 202);
}

/* Plain TCP, for who knows his network: identify() says yes. */
static void test_plain(void **state) {
        Fixture *f = *state;
        char address[64];

        f->identify = identify_by_name;
        listen_on_loopback(f, "127.0.0.1", address, sizeof(address));
        connect_client(f, address, NULL);
        expect_answer(f);
        assert_string_equal(identified, "(none)");
}

/* Neither side accepts the other; once the certificates are right the calls that wait go out. */
static void test_renewal(void **state) {
        _cleanup_(tls_context_unrefp) TlsContext *server =
                make_context(true, &server_certificate, &ca, NULL);
        _cleanup_(tls_context_unrefp) TlsContext *stranger =
                make_context(false, &renewed_certificate, &ca, "host-1");
        _cleanup_(tls_context_unrefp) TlsContext *mistrusting =
                make_context(false, &client_certificate, &other_ca, "host-1");
        _cleanup_(tls_context_unrefp) TlsContext *other_name =
                make_context(false, &client_certificate, &ca, "host-9");
        _cleanup_(tls_context_unrefp) TlsContext *good =
                make_context(false, &client_certificate, &ca, "host-1");
        TlsContext *const bad[] = {stranger, mistrusting, other_name, NULL};
        Fixture *f = *state;
        Outcome outcome = {};
        char address[64];

        f->identify = identify_by_name;
        listen_on_loopback(f, "127.0.0.1", address, sizeof(address));
        rpc_server_set_tls(f->server, server);
        connect_client(f, address, bad[0]);
        assert_int_equal(call(f, &method_once, "waiting", 0, &outcome), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                rpc_client_set_tls(f->client, bad[i]);
                run_until(f, &f->n_gone, f->n_gone + 2); /* one may be of before */
        }
        assert_int_equal(f->n_connects, 0);
        assert_int_equal(f->n_requests, 0);
        rpc_client_set_tls(f->client, good);
        run_until(f, &outcome.n_replies, 1);
        assert_string_equal(outcome.text, "waiting");
}

static void test_addresses(void **state) {
        static const char *const bad[] = {
                "host", "host:", ":1", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:65536"};
        Fixture *f = *state;
        Outcome outcome = {};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                RpcClient *client = NULL;
                assert_int_equal(
                        rpc_client_new(&client, f->event, &(RpcClientConfig){.address = bad[i]}, NULL, NULL),
                        -EINVAL);
        }
        /* Nobody of that name, and nobody listens: calls wait until their time is over. */
        static const char *const nobody[] = {"nobody.invalid:1", "127.0.0.1:1", "[::1]:1"};
        for (size_t i = 0; i < ELEMENTSOF(nobody); i++) {
                connect_client(f, nobody[i], NULL);
                assert_int_equal(call(f, &method_once, "x", 50 * USEC_PER_MSEC, &outcome), 0);
                run_until(f, &outcome.n_replies, (unsigned) i + 1);
                assert_int_equal(outcome.code, ERROR_UNAVAILABLE);
                f->client = rpc_client_free(f->client); /* perhaps while the name is being resolved */
        }
        assert_int_equal(f->n_connects, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_mutual),
                TEST(test_default_identity),
                TEST(test_plain),
                TEST(test_renewal),
                TEST(test_addresses),
        };
        return cmocka_run_group_tests(tests, make_certificates, forget_certificates);
}
