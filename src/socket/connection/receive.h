/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Commands on their way in: decoding, the rate limit, and what has to wait for the connect command. */

#include "socket/connection/connection.h"

/* Handles one WebSocket message: any number of commands. */
void connection_receive(Connection *connection, const char *data, size_t size, bool binary);

/* From CONNECTING to CONNECTED, after the connect reply was sent: handles the commands that came behind
 * connect. */
void connection_connected(Connection *connection);
