/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Connecting and refreshing. */

#include "socket/connection/connection.h"

void command_connect(Connection *connection, uint32_t id, const Client__ConnectRequest *request);
void command_refresh(Connection *connection, uint32_t id, const Client__RefreshRequest *request);

/* The connection ends: forgets it. */
void connect_abandon(Connection *connection);
