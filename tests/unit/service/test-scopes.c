/* SPDX-License-Identifier: Apache-2.0 */

/* The scope of a method picks the shard that its call goes to. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "service/dispatcher.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

static char asked_for[64]; /* the key of the last call */

/* Instead of service/routes.c. Nobody is there. */
const char *routes_address(const Routes *routes, Role role, const char *key) {
        snprintf(asked_for, sizeof(asked_for), "%s", key ?: "(none)");
        return "/nowhere";
}

static unsigned n_done;

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        assert_int_equal(code, ERROR_UNAVAILABLE);
        n_done++;
}

/* The key of a call of `user` with this request. */
static const char *key_of(Dispatcher *dispatcher, const MethodInfo *method, ProtobufCMessage *request,
        const char *user, const CallIntent *intent) {
        Call *call = call_new(method, 1U << 16, on_done, NULL);

        assert_non_null(call);
        call->request = request;
        call->caller.user = (char *) user;
        call->internal = true;
        if (intent)
                call->intent = *intent;
        asked_for[0] = 0;
        dispatcher_dispatch(dispatcher, call);
        call_cancel(call);
        return asked_for;
}

static void test_scopes(void **state) {
        Sc__HistoryRequest history = SC__HISTORY_REQUEST__INIT;
        Sc__OpenDirectRequest direct = SC__OPEN_DIRECT_REQUEST__INIT;
        Sc__ConversationListRequest list = SC__CONVERSATION_LIST_REQUEST__INIT;
        Sc__InboxJoinRequest join = SC__INBOX_JOIN_REQUEST__INIT;
        Sc__GroupPingRequest ping = SC__GROUP_PING_REQUEST__INIT;
        const CallIntent intent = {.source = "c", .number = 3, .target = "#carl"};
        char id[UUID_TEXT_SIZE];
        Dispatcher *d;
        sd_event *event;

        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(dispatcher_new(&d, event, NULL, NULL, USEC_PER_SEC), 0);
        history.conversation = (char *) "c7";
        direct.user = (char *) "bob";
        join.user = (char *) "dora";
        assert_string_equal(key_of(d, &method_message_history, &history.base, "ann", NULL), "c7");
        uuid_of_direct("bob", "ann", id);
        assert_string_equal(key_of(d, &method_conversation_open_direct, &direct.base, "ann", NULL), id);
        assert_string_equal(key_of(d, &method_conversation_list, &list.base, "ann", NULL), "ann");
        assert_string_equal(key_of(d, &method_inbox_join, &join.base, "", NULL), "dora");
        assert_string_equal(key_of(d, &method_group_ping, &ping.base, "", NULL), "(none)");
        /* a role that asks for itself */
        assert_string_equal(key_of(d, &method_conversation_list, &list.base, "", NULL), "(none)");
        assert_string_equal(key_of(d, &method_conversation_open_direct, &direct.base, "", NULL), "(none)");
        /* an intent goes where its target is */
        assert_string_equal(key_of(d, &method_inbox_join, &join.base, "", &intent), "#carl");
        assert_int_equal(n_done, 8);
        dispatcher_free(d);
        assert_int_equal(n_done, 8);
        sd_event_unref(event);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_scopes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
