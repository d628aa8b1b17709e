/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands that call a method with the fields of its request as data. */

#include "schema-tables.h"
#include "socket/connection/connection.h"

/* `parsed` or NULL: see codec_read(); it may be changed. */
void command_rpc(Connection *connection, uint32_t id, const Client__RPCRequest *request, json_t *parsed);
/* message.send; the channel is the conversation. */
void command_publish(
        Connection *connection, uint32_t id, const Client__PublishRequest *request, json_t *parsed);

/* The command is going to be refused without a look at it: the order of messages is kept (send-run.h). */
void command_rpc_refused(
        Connection *connection, const Client__RPCRequest *request, json_t *parsed, Sc__ErrorCode code);
void command_publish_refused(
        Connection *connection, const Client__PublishRequest *request, Sc__ErrorCode code);
