/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What transport.c, the plain socket, and tls.c share. transport.c reaches TLS only by the operations of a
 * TlsContext, so a program that makes no context is not linked with OpenSSL. */

#include "transport/transport.h"

typedef struct TlsSession TlsSession;

typedef struct TlsOperations {
        TlsContext *(*free_context)(TlsContext *context);
        int (*session_new)(TlsSession **ret, Transport *transport, TlsContext *context);
        TlsSession *(*session_free)(TlsSession *session);
        /* The rest as in transport.h. */
        int (*handshake)(Transport *transport);
        ssize_t (*read)(Transport *transport, void *buffer, size_t size);
        ssize_t (*writev)(Transport *transport, const struct iovec *iov, size_t n);
        uint32_t (*events)(const Transport *transport, bool reading, bool writing);
        bool (*has_pending)(const Transport *transport);
        int (*shutdown)(Transport *transport);
        const char *(*peer_name)(Transport *transport);
} TlsOperations;

/* The first member of a TlsContext. */
typedef struct TlsContextBase {
        unsigned n_ref;
        const TlsOperations *operations;
} TlsContextBase;

struct Transport {
        int fd;
        int error; /* negative: it has failed */
        const char *error_text; /* NULL: what the errno says */
        const TlsOperations *tls; /* NULL: plain */
        TlsSession *session;
        bool established;
};

/* Notes the first failure, and returns it. */
int transport_fail(Transport *transport, int error, const char *text);
