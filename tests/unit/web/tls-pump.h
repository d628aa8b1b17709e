/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A TLS client for tests that read and write plain sockets: a thread that passes bytes on. */

#include "transport/transport.h"

/* Makes the handshake on the connected socket, which it takes, and answers the end of a socket pair whose other end
 * it serves until either side ends. */
int tls_pump_start(int connected_fd, TlsContext *client);
