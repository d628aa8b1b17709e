/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>

#include "util/time-util.h"

#define PATIENCE_USEC (20 * USEC_PER_SEC)

Certificates certificates;

int make_certificates(void **state) {
        certificates.ca = certificate_make(&(CertificateWish){.name = "ca", .ca = true});
        certificates.other_ca = certificate_make(&(CertificateWish){.name = "ca", .ca = true});
        certificates.server = certificate_make(&(CertificateWish){
                .name = "a server", .dns = "server.test", .ip = "127.0.0.1", .issuer = &certificates.ca});
        certificates.client = certificate_make(
                &(CertificateWish){.name = "a client", .dns = "client.test", .issuer = &certificates.ca});
        return 0;
}

int forget_certificates(void **state) {
        certificate_done(&certificates.ca);
        certificate_done(&certificates.other_ca);
        certificate_done(&certificates.server);
        certificate_done(&certificates.client);
        return 0;
}

TlsContext *make_context(const TlsConfig *config) {
        TlsContext *context = NULL;
        const char *problem = NULL;

        if (tls_context_new(&context, config, &problem) < 0)
                fail_msg("no context: %s", strempty(problem));
        return context;
}

TlsContext *server_context(void) {
        return make_context(&(TlsConfig){
                .server = true,
                .only_tls13 = true,
                .certificate = certificates.server.certificate,
                .key = certificates.server.key,
                .ca = certificates.ca.certificate,
        });
}

TlsContext *client_context(void) {
        return make_context(&(TlsConfig){
                .only_tls13 = true,
                .certificate = certificates.client.certificate,
                .key = certificates.client.key,
                .ca = certificates.ca.certificate,
                .peer_name = "server.test",
        });
}

void set_non_blocking(int fd) {
        assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void connect_over_loopback(int ret[static 2]) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);

        _cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener, (struct sockaddr *) &address, size), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &size), 0);
        ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(ret[0], (struct sockaddr *) &address, size), 0);
        ret[1] = accept(listener, NULL, NULL);
        assert_true(ret[1] >= 0);
}

void pair_open(Pair *pair, Between between, TlsContext *client, TlsContext *server) {
        int ends[2], others[2];

        *pair = (Pair){.hands = {-EBADF, -EBADF}};
        if (between == BETWEEN_TCP)
                connect_over_loopback(ends);
        else
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        if (between == BETWEEN_HANDS) {
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, others), 0);
                pair->hands[0] = ends[1];
                pair->hands[1] = others[1];
                ends[1] = others[0];
                set_non_blocking(pair->hands[0]);
                set_non_blocking(pair->hands[1]);
        }
        set_non_blocking(ends[0]);
        set_non_blocking(ends[1]);
        assert_int_equal(transport_new(&pair->client, ends[0], client), 0);
        assert_int_equal(transport_new(&pair->server, ends[1], server), 0);
}

void pair_close(Pair *pair) {
        pair->client = transport_free(pair->client);
        pair->server = transport_free(pair->server);
        pair->hands[0] = safe_close(pair->hands[0]);
        pair->hands[1] = safe_close(pair->hands[1]);
}

static size_t carry_from(int from, int to, size_t max) {
        uint8_t data[65536];

        ssize_t n = from < 0 ? -1 : recv(from, data, MIN(max, sizeof(data)), MSG_DONTWAIT | MSG_PEEK);
        if (n <= 0)
                return 0;
        n = send(to, data, (size_t) n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0) /* it is full */
                return 0;
        assert_int_equal(recv(from, data, (size_t) n, 0), n);
        return (size_t) n;
}

size_t carry(Pair *pair, size_t max) {
        size_t to_server = carry_from(pair->hands[0], pair->hands[1], max);
        size_t to_client = carry_from(pair->hands[1], pair->hands[0], max);

        pair->to_server += to_server;
        pair->to_client += to_client;
        return to_server + to_client;
}

void shake_hands(Pair *pair, size_t carry_at_once, int *ret_client, int *ret_server) {
        uint64_t end = boottime_usec() + PATIENCE_USEC;
        int client = -EAGAIN, server = -EAGAIN;

        while (client == -EAGAIN || server == -EAGAIN) {
                if (client == -EAGAIN)
                        client = transport_handshake(pair->client);
                (void) carry(pair, carry_at_once);
                if (server == -EAGAIN)
                        server = transport_handshake(pair->server);
                (void) carry(pair, carry_at_once);
                /* Who has failed says so and goes. */
                if ((client < 0 && client != -EAGAIN) || (server < 0 && server != -EAGAIN)) {
                        while (carry(pair, SIZE_MAX) > 0)
                                ;
                        (void) shutdown(
                                transport_fd(client < 0 && client != -EAGAIN ? pair->client : pair->server),
                                SHUT_RDWR);
                }
                assert_true(boottime_usec() < end);
        }
        *ret_client = client;
        *ret_server = server;
}

void exchange(
        Pair *pair, Transport *from, Transport *to, size_t carry_at_once, const void *data, size_t size) {
        uint64_t end = boottime_usec() + PATIENCE_USEC;
        size_t written = 0, done = 0;
        _cleanup_free_ uint8_t *got = malloc(size);

        assert_non_null(got);
        while (done < size) {
                if (written < size) {
                        ssize_t n = transport_write(from, (const uint8_t *) data + written, size - written);
                        assert_true(n > 0 || n == -EAGAIN);
                        written += n > 0 ? (size_t) n : 0;
                }
                (void) carry(pair, carry_at_once);
                ssize_t n = transport_read(to, got + done, size - done);
                assert_true(n > 0 || n == -EAGAIN);
                done += n > 0 ? (size_t) n : 0;
                assert_true(boottime_usec() < end);
        }
        assert_memory_equal(got, data, size);
}
