/* SPDX-License-Identifier: Apache-2.0 */

/* message.send, message.get and message.history. */

#include "group/access.h"
#include "group/append.h"
#include "service-handlers.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define KIND_DEFAULT "text"
#define HISTORY_LIMIT_DEFAULT 50U
#define HISTORY_LIMIT_MAX 1000U
#define SEQ_MAX ((uint64_t) INT64_MAX) /* what stores can compare */

/* --- message.send --- */

typedef struct Send {
        Append append;
        Call *call; /* in whose arena this is */
        Sc__Message message;
} Send;

static void on_settled(Append *append, int r) {
        Send *send = CONTAINER_OF(append, Send, append);
        const StoreAppended *appended = &append->item.appended;
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        if (r == -ENOBUFS)
                return call_fail(send->call, ERROR_OVERLOADED, "%s", "too many messages wait to be stored");
        if (r == -ESTALE)
                return call_fail(
                        send->call, ERROR_UNAVAILABLE, "%s", "the conversation is served elsewhere");
        if (r < 0)
                return call_fail_errno(send->call, r, "store the message");
        if (appended->conflict)
                return call_fail(send->call, ERROR_CLIENT_MSG_ID_CONFLICT, "%s", "client_msg_id");

        response.conversation = send->message.conversation;
        response.seq = appended->seq;
        response.client_msg_id = send->message.client_msg_id;
        response.created_at = appended->created_at;
        response.duplicate = appended->duplicate;
        call_return(send->call, &response.base);
}

static size_t set_body(Sc__Message *message, const Sc__SendRequest *request) {
        if (request->body_case == SC__SEND_REQUEST__BODY_TEXT) {
                message->body_case = SC__MESSAGE__BODY_TEXT;
                message->text = request->text;
                return strlen(request->text);
        }
        if (request->body_case == SC__SEND_REQUEST__BODY_DATA) {
                message->body_case = SC__MESSAGE__BODY_DATA;
                message->data = request->data;
                return request->data.len;
        }
        return 0;
}

static void send_granted(Call *call, Conversation *pinned, const Member *member) {
        const Sc__SendRequest *request = (const Sc__SendRequest *) call->request;
        _cleanup_conversation_ Conversation *conversation = pinned;
        Send *send = arena_new(&call->arena, Send, 1);

        if (!send)
                return call_fail_errno(call, -ENOMEM, "queue the message");
        send->call = call;
        send->message = (Sc__Message) SC__MESSAGE__INIT;
        send->message.conversation = request->conversation;
        send->message.sender = call->caller.user;
        send->message.kind = isempty(request->kind) ? (char *) KIND_DEFAULT : request->kind;
        send->message.client_msg_id = request->client_msg_id;
        send->message.created_at = unix_msec();
        send->append.item.message = &send->message;
        send->append.size = set_body(&send->message, request);
        send->append.trace = call->trace;
        send->append.settled = on_settled;
        append_submit(&send->append, conversation);
}

static bool has_body(const Sc__SendRequest *request) {
        switch (request->body_case) {
        case SC__SEND_REQUEST__BODY_TEXT:
                return !isempty(request->text);
        case SC__SEND_REQUEST__BODY_DATA:
                return request->data.len > 0;
        default:
                return false;
        }
}

void handle_message_send(Call *call, const Sc__SendRequest *request) {
        if (!has_body(request))
                return call_fail(call, ERROR_INVALID_ARGUMENT, "%s", "text: a message needs text or data");
        if (is_personal_id(request->conversation))
                return call_fail(call, ERROR_PERMISSION_DENIED, "%s",
                        "conversation: only the server writes to personal conversations");
        access_conversation(call, request->conversation, send_granted);
}

/* --- message.get --- */

static void on_message(int r, const StoreRows *rows, size_t n, void *userdata) {
        Call *call = userdata;

        if (r < 0)
                call_fail_errno(call, r, "read the message");
        else if (rows[0].n == 0)
                call_fail(call, ERROR_NOT_FOUND, "%s", "seq");
        else
                call_return(call, rows[0].records[0]);
}

static void get_granted(Call *call, Conversation *pinned, const Member *member) {
        const Sc__MessageGetRequest *request = (const Sc__MessageGetRequest *) call->request;
        GroupRole *role = call->role;
        Sc__Message key = SC__MESSAGE__INIT;

        conversation_unpin(pinned);
        key.conversation = request->conversation;
        key.seq = MIN(request->seq, SEQ_MAX);
        int r = store_get(role->store, &sc__message__info, &key.base, on_message, call);
        if (r < 0)
                call_fail_errno(call, r, "read the message");
}

void handle_message_get(Call *call, const Sc__MessageGetRequest *request) {
        access_conversation(call, request->conversation, get_granted);
}

/* --- message.history --- */

typedef struct History {
        Call *call; /* in whose arena this is */
        Conversation *conversation; /* pinned */
        bool descending;
} History;

static void history_return(History *history, const StoreRows *rows) {
        _cleanup_conversation_ Conversation *conversation = history->conversation;
        Sc__HistoryResponse response = SC__HISTORY_RESPONSE__INIT;
        Sc__Message **messages = (Sc__Message **) rows->records;

        if (history->descending)
                for (size_t i = 0, j = rows->n; i + 1 < j; i++) {
                        Sc__Message *swapped = messages[i];
                        messages[i] = messages[--j];
                        messages[j] = swapped;
                }
        response.messages = messages;
        response.n_messages = rows->n;
        response.epoch = conversation->epoch;
        /* The page may be newer than what is noted here: a commit of which the loop has not heard yet. */
        response.last_seq =
                MAX(conversation->sequence.last_seq, rows->n > 0 ? messages[rows->n - 1]->seq : 0);
        response.more = rows->more;
        call_return(history->call, &response.base);
}

static void on_history(int r, const StoreRows *rows, size_t n, void *userdata) {
        History *history = userdata;

        if (r < 0) {
                conversation_unpin(history->conversation);
                call_fail_errno(history->call, r, "read messages");
        } else
                history_return(history, &rows[0]);
}

static int history_read(GroupRole *role, History *history, const Sc__HistoryRequest *request) {
        Sc__Message from = SC__MESSAGE__INIT, to = SC__MESSAGE__INIT;
        unsigned limit = request->limit ?: HISTORY_LIMIT_DEFAULT;

        from.conversation = to.conversation = history->conversation->id;
        from.seq = MIN(request->after, SEQ_MAX);
        to.seq = MIN(request->before, SEQ_MAX);
        history->descending = request->after == 0 && (request->before > 0 || !request->oldest);
        return store_read(role->store,
                &(StoreRead){
                        .info = &sc__message__info,
                        .from = &from.base,
                        .n_prefix = 1,
                        .after = request->after > 0,
                        .before = request->before > 0,
                        .to = &to.base,
                        .descending = history->descending,
                        .limit = MIN(limit, HISTORY_LIMIT_MAX),
                        .max_bytes = GROUP_MAX_RESPONSE,
                },
                1, on_history, history);
}

static void history_granted(Call *call, Conversation *pinned, const Member *member) {
        _cleanup_conversation_ Conversation *conversation = pinned;
        History *history = arena_new(&call->arena, History, 1);
        int r = -ENOMEM;

        if (history) {
                *history = (History){.call = call, .conversation = conversation};
                r = history_read(call->role, history, (const Sc__HistoryRequest *) call->request);
        }
        if (r < 0)
                return call_fail_errno(call, r, "read messages");
        TAKE_PTR(conversation);
}

void handle_message_history(Call *call, const Sc__HistoryRequest *request) {
        if (request->before > 0 && request->after > 0)
                return call_fail(call, ERROR_INVALID_ARGUMENT, "%s", "before: not together with after");
        access_conversation(call, request->conversation, history_granted);
}
