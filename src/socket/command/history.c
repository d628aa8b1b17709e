/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/command/history.h"

#include <stdio.h>

#include "schema-tables.h"
#include "socket/channel/delivery.h"
#include "socket/command/pending-command.h"
#include "util/string-util.h"

#define HISTORY_MAX_LIMIT 1000

static bool reply_add_publications(Client__HistoryResult *result, const PendingCommand *pending,
        const Sc__HistoryResponse *history, Arena *arena) {
        size_t n = pending->position_only ? 0 : history->n_messages;

        result->publications = arena_new(arena, Client__Publication *, n + 1);
        if (!result->publications)
                return false;
        for (size_t i = 0; i < n; i++) {
                Sc__Update update = SC__UPDATE__INIT;
                update.what_case = SC__UPDATE__WHAT_MESSAGE;
                update.message = history->messages[pending->reverse ? n - 1 - i : i];
                result->publications[i] = publication_of(arena, &update);
                if (!result->publications[i])
                        return false;
        }
        result->n_publications = n;
        return true;
}

static void history_succeeded(PendingCommand *pending, const ProtobufCMessage *response) {
        const Sc__HistoryResponse *history = (const Sc__HistoryResponse *) response;
        Client__HistoryResult result = CLIENT__HISTORY_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, CALL_ARENA_LIMIT);
        if (*pending->epoch && !streq(pending->epoch, history->epoch))
                return connection_reply_error(pending->connection, pending->id,
                        PROTOCOL_ERROR_UNRECOVERABLE_POSITION,
                        "since.epoch: the conversation has another one now");
        if (!reply_add_publications(&result, pending, history, &arena))
                return connection_reply_error(
                        pending->connection, pending->id, protocol_error(ERROR_OVERLOADED), NULL);
        result.epoch = history->epoch;
        result.offset = history->last_seq;
        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_HISTORY;
        reply.history = &result;
        (void) connection_reply(pending->connection, &reply);
}

/* The protocol's page in terms of message.history: forward begins at the oldest message, backward at the
 * latest. */
static void fill_history_request(
        Sc__HistoryRequest *out, PendingCommand *pending, const Client__HistoryRequest *request) {
        const Client__StreamPosition *since = request->since;

        pending->reverse = request->reverse;
        /* Nothing comes before the first message. */
        pending->position_only = request->limit == 0 || (request->reverse && since && since->offset == 0);
        if (pending->position_only)
                out->limit = 1;
        else
                out->limit = request->limit < 0 ? HISTORY_MAX_LIMIT
                                                : (uint32_t) MIN(request->limit, HISTORY_MAX_LIMIT);
        if (since)
                snprintf(pending->epoch, sizeof(pending->epoch), "%s", since->epoch);
        if (request->reverse)
                out->before = since ? since->offset : 0;
        else if (since && since->offset > 0)
                out->after = since->offset;
        else
                out->oldest = true;
}

void command_history(Connection *connection, uint32_t id, const Client__HistoryRequest *request) {
        PendingCommand *pending;

        Call *call =
                command_call_new(connection, id, &method_message_history, NULL, history_succeeded, &pending);
        if (!call)
                return;
        Sc__HistoryRequest *out = command_call_request(call);
        if (!out)
                return;
        out->conversation = arena_strdup(&call->arena, request->channel);
        if (!out->conversation)
                return call_fail_errno(call, -ENOMEM, "make the request");
        fill_history_request(out, pending, request);
        command_call_dispatch(connection, call, request->channel);
}
