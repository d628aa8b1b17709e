/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands that call a method with the fields of its request as data. */

#include "socket/connection/connection.h"

/* `parsed` or NULL: see codec_read(); it may be changed. */
void command_rpc(Connection *connection, uint32_t id, const Client__RPCRequest *request, json_t *parsed);
/* message.send; the channel is the conversation. */
void command_publish(
        Connection *connection, uint32_t id, const Client__PublishRequest *request, json_t *parsed);
