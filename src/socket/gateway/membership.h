/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The user of a connection is a member of a conversation. */

#include "socket/channel/channel.h"

/* Subscribes the connection at this position, or confirms its subscription. A client that is CONNECTED is told
 * of a new one, at once or when it has room. -ECONNRESET: the connection was or is now disconnected; -ENOMEM. */
int connection_subscribe(Connection *connection, Channel *channel, uint64_t position);
