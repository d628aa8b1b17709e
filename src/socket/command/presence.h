/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who is online in a conversation. */

#include "socket/connection/connection.h"

void command_presence(Connection *connection, uint32_t id, const Client__PresenceRequest *request);
void command_presence_stats(
        Connection *connection, uint32_t id, const Client__PresenceStatsRequest *request);
