/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands of the client protocol, each in a file of its own: connect and refresh (connect.c), rpc and
 * publish (rpc.c), history, presence; those that need no other role here. */

#include "socket/connection/connection.h"

/* See ConnectionHandlers.on_command. */
void command_handle(Connection *connection, const Client__Command *command, json_t *data);

/* See ConnectionHandlers.on_refused. */
void command_refused(Connection *connection, const Client__Command *command, json_t *data);

/* What waited to be read was read: commands with large answers go on. */
void command_go_on(Connection *connection);

/* The connection ends: nothing that is under way answers it. */
void command_abandon(Connection *connection);
