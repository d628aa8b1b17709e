/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The user of a connection became a member of a conversation, or is one no longer. */

#include "socket/channel/channel.h"

/* Subscribes or unsubscribes the connection and tells the client. Harmless if it is so already.
 * -ECONNRESET: the connection was or is now disconnected. */
int connection_apply_membership(Connection *connection, const Sc__MembershipChanged *change);

/* Subscribes the connection and tells the client. -ECONNRESET as above. */
int connection_subscribe(Connection *connection, const Sc__Subscription *from);
