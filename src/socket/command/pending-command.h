/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A command that becomes a call of a method, and waits for its answer. */

#include "log/trace.h"
#include "service/call.h"
#include "socket/command/send-run.h"

/* The memory of one call: as much as an answer of the internal RPC may become when unpacked. */
#define CALL_ARENA_LIMIT (32U << 20)

/* Lives until the call is answered, be it by its cancellation. */
struct PendingCommand {
        LIST_ENTRY(PendingCommand) link;
        Connection *connection; /* NULL: it ended */
        Call *call;
        TAILQ_ENTRY(PendingCommand) in_large;
        bool waiting; /* in connection->large: not dispatched yet */
        bool large; /* counted in connection->n_large */
        uint32_t id;
        Trace trace;
        const MethodInfo *method;
        RunSend send; /* of a message */
        /* Sends the reply. Called if the method succeeded, and only while the connection lives. */
        void (*succeeded)(PendingCommand *pending, const ProtobufCMessage *response);
        /* of "history" */
        char epoch[65]; /* that the client expects, or empty */
        bool reverse, position_only;
};

/* Makes a call of the method on behalf of the connection's user; NULL after refusing the command.
 * `traceparent` and ret_pending may be NULL. */
Call *command_call_new(Connection *connection, uint32_t id, const MethodInfo *method,
        const char *traceparent,
        void (*succeeded)(PendingCommand *pending, const ProtobufCMessage *response),
        PendingCommand **ret_pending);
/* The call's request, initialised, in its arena; NULL after refusing the command. */
void *command_call_request(Call *call);
/* Reads the call's request from the data of the command; false after refusing it. */
bool command_call_read(Call *call, const json_t *data);
/* Dispatches the call, now or (one with a large answer) when there is room for that; the rest follows by
 * itself. `conversation`, for the log, may be NULL. */
void command_call_dispatch(Connection *connection, Call *call, const char *conversation);

/* The `data` of a command: an object, or nothing, which is an empty one; `parsed` already, or still text.
 * NULL after refusing the command. The caller calls json_decref(). */
json_t *command_data(Connection *connection, uint32_t id, ProtobufCBinaryData data, json_t *parsed);

/* Dispatches calls that waited for room, as far as there is some. */
void pending_commands_go_on(Connection *connection);

/* The connection ends: cancels its calls. */
void pending_commands_abandon(Connection *connection);
