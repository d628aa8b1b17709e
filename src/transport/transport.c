/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/transport.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "transport/transport-internal.h"
#include "util/fd-util.h"

/* Parts that one call writes; the caller comes again for the rest. */
#define IOV_MAX_WRITTEN 64U

TlsContext *tls_context_ref(TlsContext *context) {
        if (context)
                ((TlsContextBase *) context)->n_ref++;
        return context;
}

TlsContext *tls_context_unref(TlsContext *context) {
        TlsContextBase *base = (TlsContextBase *) context;

        return base && --base->n_ref == 0 ? base->operations->free_context(context) : NULL;
}

int transport_new(Transport **ret, int fd, TlsContext *tls) {
        Transport *transport = new0(Transport, 1);
        if (!transport)
                return -ENOMEM;
        transport->fd = -EBADF;
        transport->established = !tls;
        if (tls) {
                transport->tls = ((TlsContextBase *) tls)->operations;
                int r = transport->tls->session_new(&transport->session, transport, tls);
                if (r < 0) {
                        free(transport);
                        return r;
                }
        }
        transport->fd = fd;
        *ret = transport;
        return 0;
}

Transport *transport_free(Transport *transport) {
        if (!transport)
                return NULL;
        if (transport->session)
                transport->tls->session_free(transport->session);
        safe_close(transport->fd);
        return mfree(transport);
}

int transport_fd(const Transport *transport) {
        return transport->fd;
}

int transport_take_fd(Transport *transport) {
        return transport->tls ? -EINVAL : TAKE_FD(transport->fd);
}

bool transport_is_tls(const Transport *transport) {
        return transport->tls;
}

bool transport_is_established(const Transport *transport) {
        return transport->established;
}

int transport_fail(Transport *transport, int error, const char *text) {
        if (transport->error == 0) {
                transport->error = error;
                transport->error_text = text;
        }
        return transport->error;
}

ssize_t transport_read(Transport *transport, void *buffer, size_t size) {
        if (transport->error < 0)
                return transport->error;
        if (transport->tls)
                return transport->tls->read(transport, buffer, size);
        for (;;) {
                ssize_t n = recv(transport->fd, buffer, size, MSG_DONTWAIT);
                if (n >= 0)
                        return n;
                if (errno == EAGAIN)
                        return -EAGAIN;
                if (errno != EINTR)
                        return transport_fail(transport, -errno, NULL);
        }
}

ssize_t transport_writev(Transport *transport, const struct iovec *iov, size_t n) {
        if (transport->error < 0)
                return transport->error;
        if (transport->tls)
                return transport->tls->writev(transport, iov, n);
        const struct msghdr message = {
                .msg_iov = (struct iovec *) iov, .msg_iovlen = n < IOV_MAX_WRITTEN ? n : IOV_MAX_WRITTEN};
        for (;;) {
                /* send() is the cheaper one of the two. */
                ssize_t written = n == 1 ? send(transport->fd, iov->iov_base, iov->iov_len,
                                                   MSG_NOSIGNAL | MSG_DONTWAIT)
                                         : sendmsg(transport->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (written >= 0)
                        return written;
                if (errno == EAGAIN)
                        return -EAGAIN;
                if (errno != EINTR)
                        return transport_fail(transport, errno == EPIPE ? -ECONNRESET : -errno, NULL);
        }
}

ssize_t transport_write(Transport *transport, const void *data, size_t size) {
        return transport_writev(transport, &(struct iovec){.iov_base = (void *) data, .iov_len = size}, 1);
}

int transport_handshake(Transport *transport) {
        if (transport->error < 0)
                return transport->error;
        return transport->established ? 0 : transport->tls->handshake(transport);
}

uint32_t transport_events(const Transport *transport, bool reading, bool writing) {
        if (transport->tls)
                return transport->tls->events(transport, reading, writing);
        return (reading ? EPOLLIN : 0) | (writing ? EPOLLOUT : 0);
}

bool transport_has_pending(const Transport *transport) {
        return transport->tls && transport->error == 0 && transport->tls->has_pending(transport);
}

int transport_shutdown(Transport *transport) {
        if (transport->error < 0)
                return transport->error;
        int r = transport->tls ? transport->tls->shutdown(transport) : 0;
        if (r < 0)
                return r;
        if (shutdown(transport->fd, SHUT_WR) < 0)
                return transport_fail(transport, errno == ENOTCONN ? -ECONNRESET : -errno, NULL);
        return 0;
}

const char *transport_error_text(const Transport *transport) {
        return transport->error_text ?: strerrordesc_np(-transport->error) ?: "unknown error";
}

int transport_peer_uid(const Transport *transport, uid_t *ret) {
        struct ucred peer;
        socklen_t size = sizeof(peer), domain_size = sizeof(int);
        int domain;

        if (getsockopt(transport->fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) < 0)
                return -errno;
        if (domain != AF_UNIX)
                return -EOPNOTSUPP;
        if (getsockopt(transport->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return -errno;
        *ret = peer.uid;
        return 0;
}

const char *transport_peer_name(Transport *transport) {
        return transport->tls && transport->established ? transport->tls->peer_name(transport) : NULL;
}
