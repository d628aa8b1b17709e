/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Two transports, a client's and a server's, connected directly or through the test's hands. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "certificates.h"
#include "transport/transport.h"
#include "util/fd-util.h"
#include "util/string-util.h"

typedef enum Between {
        BETWEEN_NOTHING, /* a socket pair */
        BETWEEN_TCP, /* a connection over loopback */
        BETWEEN_HANDS, /* two socket pairs; carry() moves bytes from one to the other */
} Between;

typedef struct Pair {
        Transport *client, *server;
        int hands[2]; /* our end of the client's and of the server's socket pair */
        size_t to_server, to_client; /* bytes carried */
} Pair;

/* The CAs and certificates that the tests use, made once. */
typedef struct Certificates {
        Certificate ca, other_ca;
        Certificate server; /* "server.test", 127.0.0.1 */
        Certificate client; /* "client.test" */
} Certificates;
extern Certificates certificates;
int make_certificates(void **state);
int forget_certificates(void **state);

/* With the server's and the client's certificate; the client expects "server.test", and the server wants a
 * certificate of the client. */
TlsContext *server_context(void);
TlsContext *client_context(void);
TlsContext *make_context(const TlsConfig *config); /* fails the test if it cannot */

void set_non_blocking(int fd);
/* NULL contexts: plain. */
void pair_open(Pair *pair, Between between, TlsContext *client, TlsContext *server);
void pair_close(Pair *pair);
/* Carries at most `max` bytes in each direction; how many. */
size_t carry(Pair *pair, size_t max);

/* Runs both handshakes until each is over or has failed; what they came to. */
void shake_hands(Pair *pair, size_t carry_at_once, int *ret_client, int *ret_server);
/* Writes all of it at one end and reads it at the other, and expects it to arrive. */
void exchange(
        Pair *pair, Transport *from, Transport *to, size_t carry_at_once, const void *data, size_t size);
