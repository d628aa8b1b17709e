/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What tls-context.c makes and tls.c uses. */

#include <openssl/ssl.h>

#include "transport/transport-internal.h"

struct TlsContext {
        TlsContextBase base;
        SSL_CTX *openssl;
        bool server;
        char *peer_name; /* NULL: any */
};

extern const TlsOperations tls_operations;

/* The error that OpenSSL's queue holds, as an errno and a text that stays; `ssl` says more about certificates. */
int tls_error(const SSL *ssl, const char **ret_text);
