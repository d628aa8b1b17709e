/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A page of a conversation, in the terms of the protocol. */

#include "socket/connection/connection.h"

void command_history(Connection *connection, uint32_t id, const Client__HistoryRequest *request);
