/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What tls-context.c makes and tls.c uses. */

#include <openssl/ssl.h>

#include "transport/transport-internal.h"

#define ALPN_MAX 32U

struct TlsContext {
        TlsContextBase base;
        SSL_CTX *openssl;
        bool server;
        char *peer_name; /* NULL: any */
        unsigned char
                alpn[ALPN_MAX + 1]; /* as it stands in a hello: its length before it; 0: nothing is said */
};

extern const TlsOperations tls_operations;

/* The error that OpenSSL's queue holds, as an errno and a text that stays; `ssl` says more about certificates. */
int tls_error(const SSL *ssl, const char **ret_text);
