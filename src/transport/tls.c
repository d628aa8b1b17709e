/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "transport/tls-context.h"
#include "util/string-util.h"

/* What one record holds at most. */
#define RECORD_SIZE ((size_t) 16384)

struct TlsSession {
        SSL *ssl;
        int socket_error; /* of the last recv() or send(), positive */
        uint32_t read_waits, write_waits; /* for this event */
        bool drained; /* the last read left at most a part of a record */
        char *peer_name; /* made when it is asked for */
};

/* --- the socket below TLS: like OpenSSL's own, without SIGPIPE --- */

static int bio_read(BIO *bio, char *data, int size) {
        Transport *transport = BIO_get_data(bio);

        BIO_clear_retry_flags(bio);
        ssize_t n = recv(transport->fd, data, (size_t) size, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                BIO_set_retry_read(bio);
        else if (n < 0)
                transport->session->socket_error = errno;
        else if (n == 0)
                BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        return (int) n;
}

static int bio_write(BIO *bio, const char *data, int size) {
        Transport *transport = BIO_get_data(bio);

        BIO_clear_retry_flags(bio);
        ssize_t n = send(transport->fd, data, (size_t) size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                BIO_set_retry_write(bio);
        else if (n < 0)
                transport->session->socket_error = errno == EPIPE ? ECONNRESET : errno;
        return (int) n;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
        switch (command) {
        case BIO_CTRL_FLUSH:
                return 1;
        case BIO_CTRL_EOF:
                return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
        default:
                return 0;
        }
}

/* Made once and kept. */
static const BIO_METHOD *bio_method(void) {
        static BIO_METHOD *method;

        if (method)
                return method;
        BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stonechat socket");
        if (!made)
                return NULL;
        if (BIO_meth_set_read(made, bio_read) != 1 || BIO_meth_set_write(made, bio_write) != 1 ||
                BIO_meth_set_ctrl(made, bio_control) != 1) {
                BIO_meth_free(made);
                return NULL;
        }
        return method = made;
}

/* --- sessions --- */

static TlsSession *session_free(TlsSession *session) {
        if (!session)
                return NULL;
        SSL_free(session->ssl);
        free(session->peer_name);
        return mfree(session);
}
DEFINE_CLEANUP(TlsSession *, session_free);

static bool is_address(const char *name) {
        struct in6_addr address;

        return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

static bool expect_peer(SSL *ssl, const TlsContext *context) {
        X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);

        if (!context->peer_name)
                return true;
        if (is_address(context->peer_name))
                return X509_VERIFY_PARAM_set1_ip_asc(wanted, context->peer_name) == 1;
        X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        return X509_VERIFY_PARAM_set1_host(wanted, context->peer_name, 0) == 1 &&
               (context->server || SSL_set_tlsext_host_name(ssl, context->peer_name) == 1);
}

static int session_new(TlsSession **ret, Transport *transport, TlsContext *context) {
        _cleanup_(session_freep) TlsSession *session = new0(TlsSession, 1);
        const BIO_METHOD *method = bio_method();

        if (!session || !method)
                return -ENOMEM;
        session->ssl = SSL_new(context->openssl);
        BIO *bio = session->ssl ? BIO_new(method) : NULL;
        if (!bio) {
                ERR_clear_error();
                return -ENOMEM;
        }
        BIO_set_data(bio, transport);
        BIO_set_init(bio, 1);
        SSL_set_bio(session->ssl, bio, bio);
        if (!expect_peer(session->ssl, context)) {
                ERR_clear_error();
                return -ENOMEM;
        }
        if (context->server)
                SSL_set_accept_state(session->ssl);
        else
                SSL_set_connect_state(session->ssl);
        session->read_waits = session->write_waits = context->server ? EPOLLIN : EPOLLOUT;
        *ret = TAKE_PTR(session);
        return 0;
}

static TlsContext *free_context(TlsContext *context) {
        SSL_CTX_free(context->openssl);
        free(context->peer_name);
        return mfree(context);
}

/* Why an operation did not succeed: -EAGAIN, 0 at the end, or what the transport fails with. `waits` is what the
 * operation waits for. */
static int not_done(Transport *transport, int result, uint32_t *waits) {
        TlsSession *session = transport->session;
        const char *text;

        switch (SSL_get_error(session->ssl, result)) {
        case SSL_ERROR_WANT_READ:
                *waits = EPOLLIN;
                return -EAGAIN;
        case SSL_ERROR_WANT_WRITE:
                *waits = EPOLLOUT;
                return -EAGAIN;
        case SSL_ERROR_ZERO_RETURN:
                return 0;
        case SSL_ERROR_SYSCALL:
                ERR_clear_error();
                return transport_fail(transport, -(session->socket_error ?: ECONNRESET), NULL);
        default:
                break;
        }
        int error = tls_error(session->ssl, &text);
        return transport_fail(transport, error, text);
}

static int handshake(Transport *transport) {
        TlsSession *session = transport->session;

        ERR_clear_error();
        int result = SSL_do_handshake(session->ssl);
        if (result != 1) {
                int r = not_done(transport, result, &session->read_waits);
                session->write_waits = session->read_waits;
                return r == 0 ? transport_fail(transport, -ECONNRESET, NULL) : r;
        }
        transport->established = true;
        session->read_waits = EPOLLIN;
        session->write_waits = EPOLLOUT;
        return 0;
}

static ssize_t tls_read(Transport *transport, void *buffer, size_t size) {
        TlsSession *session = transport->session;
        size_t done = 0, n;

        int r = transport_handshake(transport);
        if (r < 0)
                return r;
        /* One call of the library gives one record at most. */
        while (done < size) {
                ERR_clear_error();
                int result = SSL_read_ex(session->ssl, (uint8_t *) buffer + done, size - done, &n);
                if (result == 1) {
                        session->drained = false;
                        session->read_waits = EPOLLIN;
                        done += n;
                        continue;
                }
                r = not_done(transport, result, &session->read_waits);
                session->drained = true;
                if (done > 0)
                        break; /* the end or a failure is there for the next call */
                return r;
        }
        return (ssize_t) done;
}

/* Gathers the first bytes of many parts, so that small ones share a record. `copy` has room for a record. */
static const void *gather(const struct iovec *iov, size_t n, size_t skip, uint8_t *copy, size_t *ret_size) {
        size_t size = 0;

        for (; n > 0 && skip >= iov->iov_len; iov++, n--)
                skip -= iov->iov_len;
        if (n == 0) {
                *ret_size = 0;
                return NULL;
        }
        if (iov->iov_len - skip >= RECORD_SIZE || n == 1) {
                *ret_size = iov->iov_len - skip < RECORD_SIZE ? iov->iov_len - skip : RECORD_SIZE;
                return (const uint8_t *) iov->iov_base + skip;
        }
        for (; n > 0 && size < RECORD_SIZE; iov++, n--, skip = 0) {
                size_t part = iov->iov_len - skip;
                if (part > RECORD_SIZE - size)
                        part = RECORD_SIZE - size;
                memcpy(copy + size, (const uint8_t *) iov->iov_base + skip, part);
                size += part;
        }
        *ret_size = size;
        return copy;
}

static ssize_t tls_writev(Transport *transport, const struct iovec *iov, size_t n_iov) {
        TlsSession *session = transport->session;
        _cleanup_free_ uint8_t *copy = NULL;
        size_t done = 0, size, n;
        const void *data;

        int r = transport_handshake(transport);
        if (r < 0)
                return r;
        if (n_iov > 1 && !(copy = malloc(RECORD_SIZE)))
                return transport_fail(transport, -ENOMEM, NULL);
        while ((data = gather(iov, n_iov, done, copy, &size)) && size > 0) {
                ERR_clear_error();
                int result = SSL_write_ex(session->ssl, data, size, &n);
                if (result != 1) {
                        r = not_done(transport, result, &session->write_waits);
                        if (done > 0)
                                break;
                        return r == 0 ? transport_fail(transport, -ECONNRESET, NULL) : r;
                }
                session->write_waits = EPOLLOUT;
                done += n;
        }
        return (ssize_t) done;
}

static uint32_t events(const Transport *transport, bool reading, bool writing) {
        const TlsSession *session = transport->session;

        return (reading ? session->read_waits : 0) | (writing ? session->write_waits : 0);
}

static bool has_pending(const Transport *transport) {
        const TlsSession *session = transport->session;

        return !session->drained && SSL_has_pending(session->ssl);
}

static int tls_shutdown(Transport *transport) {
        TlsSession *session = transport->session;

        if (!transport->established || SSL_get_shutdown(session->ssl) & SSL_SENT_SHUTDOWN)
                return 0;
        ERR_clear_error();
        int result = SSL_shutdown(session->ssl);
        if (result >= 0)
                return 0;
        int r = not_done(transport, result, &session->write_waits);
        return r < 0 ? r : 0;
}

/* --- the peer's name --- */

/* A copy, if it is text without a NUL in it. */
static char *copy_name(const ASN1_STRING *name) {
        const char *data = (const char *) ASN1_STRING_get0_data(name);
        size_t size = (size_t) ASN1_STRING_length(name);

        return size > 0 && !memchr(data, 0, size) ? strndup(data, size) : NULL;
}

/* False: it has none. *ret NULL: it has some, and they cannot be read. */
static bool find_dns_name(const X509 *certificate, char **ret) {
        int critical;
        GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, NULL);
        bool found = !names && critical != -1; /* there are names: the common one must not stand for them */

        *ret = NULL;
        for (int i = 0; names && !found && i < sk_GENERAL_NAME_num(names); i++) {
                int type;
                const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
                if (type != GEN_DNS)
                        continue;
                found = true;
                *ret = copy_name(value);
        }
        GENERAL_NAMES_free(names);
        return found;
}

static char *common_name(const X509 *certificate) {
        const X509_NAME *subject = X509_get_subject_name(certificate);
        int i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
        unsigned char *text = NULL;

        if (i < 0)
                return NULL;
        int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)));
        char *found =
                size > 0 && !memchr(text, 0, (size_t) size) ? strndup((char *) text, (size_t) size) : NULL;
        OPENSSL_free(text);
        return found;
}

static const char *peer_name(Transport *transport) {
        TlsSession *session = transport->session;
        const X509 *certificate = SSL_get0_peer_certificate(session->ssl);

        if (session->peer_name || !certificate || !(SSL_get_verify_mode(session->ssl) & SSL_VERIFY_PEER) ||
                SSL_get_verify_result(session->ssl) != X509_V_OK)
                return session->peer_name;
        if (!find_dns_name(certificate, &session->peer_name))
                session->peer_name = common_name(certificate);
        ERR_clear_error();
        return session->peer_name;
}

const TlsOperations tls_operations = {
        .free_context = free_context,
        .session_new = session_new,
        .session_free = session_free,
        .handshake = handshake,
        .read = tls_read,
        .writev = tls_writev,
        .events = events,
        .has_pending = has_pending,
        .shutdown = tls_shutdown,
        .peer_name = peer_name,
};
