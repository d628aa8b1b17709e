/* SPDX-License-Identifier: Apache-2.0 */

/* message.send. It is hot: if the conversation is loaded and the sender known as a member, it costs two
 * look-ups and what the message itself needs. Otherwise the sender's messages wait, in their order, for one
 * fiber that finds out. */

#include "group/conversation/access.h"
#include "group/message/append.h"
#include "service-handlers.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define KIND_DEFAULT "text"

typedef struct Send Send;
struct Send {
        Append append;
        Call *call; /* in whose arena this is */
        Sc__Message message;
        STAILQ_ENTRY(Send) entry; /* while it waits for admission */
        int refused; /* what it fails with when it is admitted; 0: nothing */
};

/* Messages of one user that wait until it is known whether the user is a member. */
typedef struct Admission Admission;
struct Admission {
        Conversation *conversation; /* pinned */
        STAILQ_HEAD(, Send) sends;
        unsigned n;
        LIST_ENTRY(Admission) entry; /* in the conversation */
        char user[];
};

static void fail(Send *send, int r) {
        if (r == -ENOBUFS)
                return call_fail(send->call, ERROR_OVERLOADED, "too many messages wait to be stored");
        if (r == -ESTALE)
                return call_fail(send->call, ERROR_UNAVAILABLE, "the conversation is served elsewhere");
        return call_fail_errno(send->call, r, "store the message");
}

static void on_settled(Append *append, int r) {
        Send *send = CONTAINER_OF(append, Send, append);
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        if (r < 0)
                return fail(send, r);
        if (append->item.conflict)
                return call_fail(send->call, ERROR_CLIENT_MSG_ID_CONFLICT, "client_msg_id");

        response.conversation = send->message.conversation;
        response.seq = append->item.seq;
        response.client_msg_id = send->message.client_msg_id;
        response.created_at = append->item.created_at;
        response.duplicate = append->item.duplicate;
        call_return(send->call, &response.base);
}

static size_t set_body(Sc__Message *message, const Sc__SendRequest *request) {
        if (request->body_case == SC__SEND_REQUEST__BODY_TEXT) {
                message->body_case = SC__MESSAGE__BODY_TEXT;
                message->text = request->text;
                return strlen(request->text);
        }
        message->body_case = SC__MESSAGE__BODY_DATA;
        message->data = request->data;
        return request->data.len;
}

static Send *send_new(Call *call, const Sc__SendRequest *request) {
        Send *send = arena_new(&call->arena, Send, 1);

        if (!send)
                return NULL;
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
        return send;
}

/* --- those who have to wait --- */

static Admission *find_admission(const Conversation *conversation, const char *user) {
        Admission *admission;

        LIST_FOREACH(admission, &conversation->admissions, entry)
                if (streq(admission->user, user))
                        return admission;
        return NULL;
}

/* r: what came of looking whether the sender is a member. */
static void admit(Send *send, Conversation *conversation, int r) {
        Sc__ErrorCode code = call_check_order(send->call);

        if (code != ERROR_NONE)
                return call_fail(send->call, code, "%s", "one before it failed");
        if (send->refused < 0)
                return fail(send, send->refused);
        if (r == 0)
                return call_fail(send->call, ERROR_NOT_A_MEMBER, "conversation");
        if (r > 0)
                r = call_check_wanted(send->call);
        if (r < 0)
                return fail(send, r);
        append_submit(&send->append, conversation);
}

static void admission_end(Admission *admission, int r) {
        _cleanup_conversation_ Conversation *conversation = admission->conversation;
        Send *send;

        /* Whoever comes from now on does not wait behind these. */
        LIST_REMOVE(admission, entry);
        while ((send = STAILQ_FIRST(&admission->sends))) {
                STAILQ_REMOVE_HEAD(&admission->sends, entry);
                admit(send, conversation, r);
        }
        free(admission);
}

/* On a fiber. */
static void admission_run(void *userdata) {
        Admission *admission = userdata;

        admission_end(admission, check_member(admission->conversation, admission->user));
}

static void admission_cancelled(int r, void *userdata) {
        admission_end(userdata, r);
}

static Admission *admission_new(Conversation *conversation, const char *user) {
        size_t size = strlen(user) + 1;
        Admission *admission = calloc(1, sizeof(*admission) + size);

        if (!admission)
                return NULL;
        admission->conversation = conversation_pin(conversation);
        STAILQ_INIT(&admission->sends);
        memcpy(admission->user, user, size);
        LIST_INSERT_HEAD(&conversation->admissions, admission, entry);
        return admission;
}

static void wait_for_admission(Send *send, Conversation *conversation, Admission *admission) {
        const char *user = send->call->caller.user;
        GroupRole *role = send->call->role;
        bool first = !admission;

        if (first)
                admission = admission_new(conversation, user);
        if (!admission)
                return fail(send, -ENOMEM);
        /* It is told in its turn, or those before it would fail with it. */
        if (admission->n >= SEQUENCE_MAX_QUEUED)
                send->refused = -ENOBUFS;
        admission->n++;
        STAILQ_INSERT_TAIL(&admission->sends, send, entry);
        if (!first)
                return;
        int r = fiber_start(role->fibers,
                &(FiberStart){
                        .main = admission_run,
                        .cancelled = admission_cancelled,
                        .userdata = admission,
                        .key = admission->user,
                        .trace = &send->call->trace,
                },
                NULL);
        if (r < 0)
                admission_end(admission, r);
}

/* --- the handler --- */

static void submit(Send *send) {
        const char *user = send->call->caller.user;
        GroupRole *role = send->call->role;
        _cleanup_conversation_ Conversation *conversation =
                conversations_get(role->conversations, send->message.conversation);

        if (!conversation)
                return fail(send, -ENOMEM);
        /* Whoever waits already waits with all that came later: it is stored in that order. */
        Admission *admission = find_admission(conversation, user);
        if (!admission && conversation->state == CONVERSATION_LOADED &&
                conversation_find_member(conversation, user))
                return append_submit(&send->append, conversation);
        wait_for_admission(send, conversation, admission);
}

void handle_message_send(Call *call, const Sc__SendRequest *request) {
        if (is_personal_id(request->conversation))
                return call_fail(call, ERROR_PERMISSION_DENIED,
                        "conversation: only the server writes to personal conversations");
        if (isempty(call->caller.user))
                return call_fail(call, ERROR_UNAUTHENTICATED, "this needs a user");
        Send *send = send_new(call, request);
        if (!send)
                return call_fail_errno(call, -ENOMEM, "queue the message");
        submit(send);
}
