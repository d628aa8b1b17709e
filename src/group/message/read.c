/* SPDX-License-Identifier: Apache-2.0 */

/* message.get and message.history. */

#include "group/conversation/access.h"
#include "service-handlers.h"

#define HISTORY_LIMIT_DEFAULT 50U
#define HISTORY_LIMIT_MAX 1000U

int handle_message_get(Call *call, const Sc__MessageGetRequest *request, Sc__Message *response) {
        _cleanup_conversation_ Conversation *conversation = NULL;
        Sc__Message key = SC__MESSAGE__INIT, *message;
        GroupRole *role = call->role;
        int r;

        r = access_conversation(call, request->conversation, &conversation);
        if (r < 0)
                return r;
        key.conversation = request->conversation;
        key.seq = MIN(request->seq, GROUP_MAX_SEQ);
        r = store_get(role->store, &call->arena, &sc__message__info, &key.base, &message);
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_NOT_FOUND, "seq");
        *response = *message;
        return 0;
}

/* --- message.history --- */

static bool is_descending(const Sc__HistoryRequest *request) {
        return request->after == 0 && (request->before > 0 || !request->oldest);
}

static int read_history(Call *call, const Sc__HistoryRequest *request, StoreRows **ret) {
        Sc__Message from = SC__MESSAGE__INIT, to = SC__MESSAGE__INIT;
        unsigned limit = request->limit ?: HISTORY_LIMIT_DEFAULT;
        GroupRole *role = call->role;

        from.conversation = to.conversation = request->conversation;
        from.seq = MIN(request->after, GROUP_MAX_SEQ);
        to.seq = MIN(request->before, GROUP_MAX_SEQ);
        return store_read(role->store, &call->arena,
                &(StoreRead){
                        .info = &sc__message__info,
                        .from = &from.base,
                        .n_prefix = 1,
                        .after = request->after > 0,
                        .before = request->before > 0,
                        .to = &to.base,
                        .descending = is_descending(request),
                        .limit = MIN(limit, HISTORY_LIMIT_MAX),
                        .max_bytes = GROUP_MAX_PAGE,
                },
                1, ret);
}

static void reverse(Sc__Message **messages, size_t n) {
        for (size_t i = 0, j = n; i + 1 < j; i++) {
                Sc__Message *swapped = messages[i];
                messages[i] = messages[--j];
                messages[j] = swapped;
        }
}

int handle_message_history(Call *call, const Sc__HistoryRequest *request, Sc__HistoryResponse *response) {
        _cleanup_conversation_ Conversation *conversation = NULL;
        StoreRows *rows;
        int r;

        r = access_conversation(call, request->conversation, &conversation);
        if (r < 0)
                return r;
        r = read_history(call, request, &rows);
        if (r < 0)
                return r;

        response->messages = (Sc__Message **) rows->records;
        response->n_messages = rows->n;
        response->more = rows->more;
        response->last_seq = conversation->sequence.last_seq;
        response->epoch = arena_strdup(&call->arena, conversation->epoch);
        if (!response->epoch)
                return -ENOMEM;
        if (is_descending(request))
                reverse(response->messages, rows->n);
        /* The page may be newer than what is noted here: a commit of which the loop has not heard yet. */
        if (rows->n > 0)
                response->last_seq = MAX(response->last_seq, response->messages[rows->n - 1]->seq);
        return 0;
}
