/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A connected stream socket, plain or under TLS (OpenSSL), AF_UNIX or TCP. What is above reads and writes bytes
 * and need not know which of them it is.
 *
 * There is no event loop in here: nothing blocks, and whoever owns the transport watches its descriptor for
 * what transport_events() names. The TLS handshake runs inside of the first reads and writes.
 *
 *      ssize_t n = transport_read(t, buffer, size);
 *      if (n == -EAGAIN)
 *              watch transport_fd(t) for transport_events(t, true, something is queued);
 *
 * Under TLS bytes may wait inside of the transport while the descriptor is silent: read until -EAGAIN, or ask
 * transport_has_pending() before going back to the loop. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "util/macro.h"

typedef struct Transport Transport;
typedef struct TlsContext TlsContext; /* reference-counted; certificates are renewed by making a new one */

typedef struct TlsConfig {
        bool server;
        /* No TLS 1.2: between hosts, where both sides are ours. */
        bool only_tls13;
        const char
                *certificate; /* PEM: ours, and those between it and its CA; NULL: none (only as a client) */
        const char *key; /* PEM, without a password */
        /* PEM: who must have signed the peer's certificate. NULL: as a server, clients need no certificate; as
         * a client, the system's CAs. The peer of a client is always verified. */
        const char *ca;
        /* DNS name or address that must stand in the peer's certificate. NULL: any name will do for a server;
         * a client needs it. */
        const char *peer_name;
        /* The protocol above, as ALPN names it ("http/1.1"): offered by a client; chosen by a server when it is
         * offered, and a client that offers others only is refused. NULL: nothing is said. */
        const char *alpn;
} TlsConfig;

/* -EINVAL and *ret_problem, a sentence without a full stop (may be NULL): what is wrong with the PEM texts;
 * -ENOMEM. The texts are copied. */
int tls_context_new(TlsContext **ret, const TlsConfig *config, const char **ret_problem);
TlsContext *tls_context_ref(TlsContext *context);
TlsContext *tls_context_unref(TlsContext *context);
DEFINE_CLEANUP(TlsContext *, tls_context_unref);

/* Takes the connected, or connecting, non-blocking fd, on success only. `tls` NULL: plain. -ENOMEM. */
int transport_new(Transport **ret, int fd, TlsContext *tls);
/* Closes the descriptor, without a word. */
Transport *transport_free(Transport *transport);
DEFINE_CLEANUP(Transport *, transport_free);

int transport_fd(const Transport *transport);
/* Gives the descriptor of a plain one away; -EINVAL under TLS. The transport is then good for nothing but
 * transport_free(). */
int transport_take_fd(Transport *transport);
bool transport_is_tls(const Transport *transport);
/* The handshake is over; always true of a plain one. */
bool transport_is_established(const Transport *transport);

/* Bytes read, 0 at the peer's end (under TLS: its close_notify), -EAGAIN, or what the transport failed with:
 *
 *      -ECONNRESET       the peer went away without an end; under TLS also a connection cut off
 *      -EKEYREJECTED     a certificate that is not accepted, ours or the peer's: wrong CA, wrong name, none
 *      -EKEYEXPIRED      a certificate that has expired, or is not valid yet
 *      -EPROTONOSUPPORT  no TLS version, cipher or protocol above in common
 *      -EPROTOTYPE       the peer speaks plain text. A client that speaks HTTP has been sent nothing, so the
 *                        descriptor is good for a send() of an answer that it understands
 *      -EPROTO           the peer does not speak TLS correctly
 *
 * and other errors of sockets. All later calls return the same. */
ssize_t transport_read(Transport *transport, void *buffer, size_t size);
/* Bytes written, at least one of several if not all, or as above; with -EAGAIN nothing was written. What is
 * written after -EAGAIN has to begin with the same bytes, wherever they lie then. Never raises SIGPIPE. */
ssize_t transport_writev(Transport *transport, const struct iovec *iov, size_t n);
ssize_t transport_write(Transport *transport, const void *data, size_t size);
/* Runs the handshake alone: 0 when it is over, or as above. For who must know the peer before reading. */
int transport_handshake(Transport *transport);

/* EPOLLIN and EPOLLOUT to wait for. reading: the owner wants to read; writing: its last write returned
 * -EAGAIN. TLS may have to write in order to read, and to read in order to write. On an event, try both. */
uint32_t transport_events(const Transport *transport, bool reading, bool writing);
/* Bytes that a read would return wait in the transport. */
bool transport_has_pending(const Transport *transport);

/* Says that nothing more will be written (close_notify, FIN); reading goes on. 0, -EAGAIN: call it again when
 * the descriptor is writable, or the error. */
int transport_shutdown(Transport *transport);

/* What the transport failed with, as part of a sentence: "the peer's certificate has expired"; never NULL. */
const char *transport_error_text(const Transport *transport);

/* The user of the process at the other end of an AF_UNIX socket, as it was when it connected; -EOPNOTSUPP for
 * TCP. With PrivateUsers=yes users of others show as 65534. */
int transport_peer_uid(const Transport *transport, uid_t *ret);
/* The first DNS name in the peer's certificate, else its common name; NULL: no (verified) certificate, or not
 * established. Owned by the transport. */
const char *transport_peer_name(Transport *transport);
