/* SPDX-License-Identifier: Apache-2.0 */
#include "group/event.h"

#include <stdio.h>

#include "group/append.h"
#include "log/log.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define EVENT_KIND "event"

/* One event on its way. */
typedef struct EventAppend {
        Append append;
        Create create;
        Conversation *personal; /* pinned */
        Sc__Message message;
        Sc__Event event;
        Sc__ConversationAdded added;
        char client_msg_id[UUID_TEXT_SIZE];
        char user[CONVERSATION_ID_SIZE], by[CONVERSATION_ID_SIZE], conversation[CONVERSATION_ID_SIZE];
} EventAppend;

void personal_create_init(Create *create, const char *user) {
        create->kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_PERSONAL;
        create->creator = user;
        create->members[0] = user;
        create->n_members = 1;
}

static void event_end(EventAppend *event, int r) {
        if (r < 0 && r != -ECANCELED)
                log_peer((.user = event->user, .conversation = event->conversation, .error_number = -r,
                                 .trace = &event->append.trace),
                        LOG_WARNING, "Failed to store an event for a user: %m");
        conversation_unpin(event->personal);
        free(event);
}

static void on_settled(Append *append, int r) {
        event_end(CONTAINER_OF(append, EventAppend, append), r);
}

static void on_created(Create *create, int r) {
        EventAppend *event = CONTAINER_OF(create, EventAppend, create);

        if (r < 0)
                return event_end(event, r);
        append_submit(&event->append, event->personal);
}

static void on_loaded(int r, void *userdata) {
        EventAppend *event = userdata;

        if (r >= 0 && event->personal->state == CONVERSATION_LOADED)
                return append_submit(&event->append, event->personal);
        if (r >= 0)
                r = create_conversation(&event->create);
        if (r < 0)
                event_end(event, r);
}

static void event_submit(GroupRole *role, EventAppend *event) {
        char id[CONVERSATION_ID_SIZE];
        int r = -ENOMEM;

        personal_conversation_id(event->user, id);
        event->personal = conversations_get(role->conversations, id);
        if (event->personal) {
                event->message.conversation = event->personal->id;
                event->create.conversation = event->personal;
                event->create.done = on_created;
                personal_create_init(&event->create, event->user);
                r = conversations_load(role->conversations, &event->personal, 1, on_loaded, event);
        }
        if (r < 0)
                event_end(event, r);
        else if (r > 0)
                append_submit(&event->append, event->personal);
}

/* The id follows from the event, so that it is stored once however often it is tried. */
static void make_client_msg_id(EventAppend *event) {
        char name[2 * CONVERSATION_ID_SIZE];

        snprintf(name, sizeof name, "%s %s", event->conversation, event->user);
        uuid_from_name("conversation_added", name, event->client_msg_id);
}

void event_conversation_added(GroupRole *role, const char *user, const Conversation *conversation,
        const char *by, const Trace *trace) {
        EventAppend *event = new0(EventAppend, 1);

        if (!event) {
                log_oom();
                return;
        }
        snprintf(event->user, sizeof event->user, "%s", user);
        snprintf(event->by, sizeof event->by, "%s", by);
        snprintf(event->conversation, sizeof event->conversation, "%s", conversation->id);
        make_client_msg_id(event);

        event->added = (Sc__ConversationAdded) SC__CONVERSATION_ADDED__INIT;
        event->added.conversation = event->conversation;
        event->added.kind = conversation->kind;
        event->added.by = event->by;
        event->event = (Sc__Event) SC__EVENT__INIT;
        event->event.what_case = SC__EVENT__WHAT_CONVERSATION_ADDED;
        event->event.conversation_added = &event->added;
        event->message = (Sc__Message) SC__MESSAGE__INIT;
        event->message.kind = (char *) EVENT_KIND;
        event->message.client_msg_id = event->client_msg_id;
        event->message.created_at = unix_msec();
        event->message.event = &event->event;
        event->append.item.message = &event->message;
        event->append.trace = *trace;
        event->append.settled = on_settled;
        event_submit(role, event);
}
