/* SPDX-License-Identifier: Apache-2.0 */

/* Two dispatchers and a socket between them: one stands for an edge role, the other for the role that owns
 * the method. */

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "service/dispatcher.h"
#include "service/listen.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

static struct fixture {
        char directory[64];
        sd_event *event;
        Routes *routes;
        Dispatcher *edge, *owner;
        Call *held; /* by hold_send() */
        /* the outcome of the last call */
        bool done;
        Sc__ErrorCode code;
        uint64_t seq;
        char detail[256];
        char sent_id[UUID_TEXT_SIZE]; /* the client_msg_id that left the edge */
        /* what the handler saw */
        char user[64];
        char client_msg_id[UUID_TEXT_SIZE];
        uint8_t trace_id[16];
} fixture;

static void answer_send(Call *call, const ProtobufCMessage *message) {
        const Sc__SendRequest *request = (const Sc__SendRequest *) message;
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        assert_ptr_equal(call->role, &fixture);
        snprintf(fixture.user, sizeof(fixture.user), "%s", call->caller.user);
        snprintf(fixture.client_msg_id, sizeof(fixture.client_msg_id), "%s", request->client_msg_id);
        memcpy(fixture.trace_id, call->trace.id, sizeof(fixture.trace_id));
        if (streq(request->text, "refuse")) {
                call_fail(call, ERROR_NOT_A_MEMBER, "%s", request->conversation);
                return;
        }
        response.seq = 42;
        call_return(call, &response.base);
}

static void hold_open(Call *call, const ProtobufCMessage *message) {
        fixture.held = call;
}

static void answer_check(Call *call, const ProtobufCMessage *message) {
        Sc__StoreCheckResponse response = SC__STORE_CHECK_RESPONSE__INIT;

        response.ok = true;
        call_return(call, &response.base);
}

static const MethodBinding bindings[] = {
        {&method_message_send, answer_send},
        {&method_conversation_open_direct, hold_open},
        {&method_conversations_check, answer_check},
        {},
};

static int setup(void **state) {
        _cleanup_(listen_sockets_freep) ListenSockets *sockets = NULL;
        _cleanup_free_ char *listen = NULL;

        fixture = (struct fixture){.directory = "/tmp/stonechat-test-XXXXXX"};
        if (sodium_init() < 0 || !mkdtemp(fixture.directory))
                return -1;
        setenv("STONECHAT_RUNTIME_DIRECTORY", fixture.directory, true);
        listen = format_string("rpc=%s/group.sock", fixture.directory);
        if (sd_event_new(&fixture.event) < 0 || routes_new(&fixture.routes, NULL, NULL, NULL) < 0 ||
                dispatcher_new(&fixture.edge, fixture.event, fixture.routes, NULL, USEC_PER_SEC) < 0 ||
                dispatcher_new(&fixture.owner, fixture.event, fixture.routes, bindings, USEC_PER_SEC) < 0 ||
                listen_sockets_new(&sockets) < 0 || listen_sockets_add(sockets, listen) < 0)
                return -1;
        dispatcher_set_role(fixture.owner, &fixture);
        return dispatcher_serve(fixture.owner, listen_sockets_take(sockets, "rpc"), NULL);
}

static int teardown(void **state) {
        _cleanup_free_ char *command = format_string("rm -r %s", fixture.directory);

        dispatcher_free(fixture.edge);
        dispatcher_free(fixture.owner);
        routes_free(fixture.routes);
        sd_event_unref(fixture.event);
        return system(command);
}

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        assert_false(fixture.done);
        fixture.done = true;
        fixture.code = code;
        snprintf(fixture.detail, sizeof(fixture.detail), "%s", strempty(detail));
        if (call->method == &method_message_send)
                snprintf(fixture.sent_id, sizeof(fixture.sent_id), "%s",
                        ((const Sc__SendRequest *) call->request)->client_msg_id);
        if (response && response->descriptor == &sc__send_response__descriptor)
                fixture.seq = ((const Sc__SendResponse *) response)->seq;
}

static void run_until_done(void) {
        uint64_t deadline = boottime_usec() + 10 * USEC_PER_SEC;

        while (!fixture.done && boottime_usec() < deadline)
                assert_true(sd_event_run(fixture.event, USEC_PER_SEC) >= 0);
        assert_true(fixture.done);
}

static void send_as(const char *user, const char *conversation, const char *text) {
        Sc__SendRequest request = SC__SEND_REQUEST__INIT;
        Call *call = call_new(&method_message_send, 1U << 20, on_done, NULL);

        request.conversation = (char *) conversation;
        request.body_case = SC__SEND_REQUEST__BODY_TEXT;
        request.text = (char *) text;
        assert_non_null(call);
        call->request = &request.base;
        call->caller.user = (char *) user;
        memset(call->trace.id, 7, sizeof(call->trace.id));
        fixture.done = false;
        dispatcher_dispatch(fixture.edge, call);
        run_until_done();
}

static void test_forwarded(void **state) {
        send_as("ann", "c1", "hello");
        assert_int_equal(fixture.code, ERROR_NONE);
        assert_int_equal(fixture.seq, 42);
        assert_string_equal(fixture.user, "ann");
        assert_int_equal(fixture.trace_id[15], 7);
}

/* The edge makes the id, so that a request sent again is the same one. */
static void test_made_id(void **state) {
        char first[UUID_TEXT_SIZE];

        send_as("ann", "c1", "hello");
        assert_int_equal(strlen(fixture.client_msg_id), UUID_TEXT_SIZE - 1);
        assert_string_equal(fixture.client_msg_id, fixture.sent_id);
        strcpy(first, fixture.client_msg_id);
        send_as("ann", "c1", "hello");
        assert_string_not_equal(fixture.client_msg_id, first);
}

static void test_refusal_comes_back(void **state) {
        send_as("ann", "c1", "refuse");
        assert_int_equal(fixture.code, ERROR_NOT_A_MEMBER);
        assert_string_equal(fixture.detail, "c1");
}

static void test_rules_are_checked(void **state) {
        send_as("ann", "", "no conversation");
        assert_int_equal(fixture.code, ERROR_INVALID_ARGUMENT);
        assert_non_null(strstr(fixture.detail, "conversation"));
}

static void test_nobody_is_refused(void **state) {
        send_as("", "c1", "hello");
        assert_int_equal(fixture.code, ERROR_UNAUTHENTICATED);
}

static void call_check(bool internal) {
        Sc__StoreCheckRequest request = SC__STORE_CHECK_REQUEST__INIT;
        Call *call = call_new(&method_conversations_check, 1U << 20, on_done, NULL);

        call->request = &request.base;
        call->caller.user = (char *) "ann";
        call->internal = internal;
        fixture.done = false;
        dispatcher_dispatch(fixture.edge, call);
        run_until_done();
}

static void test_internal_methods(void **state) {
        Sc__StoreCheckRequest request = SC__STORE_CHECK_REQUEST__INIT;

        call_check(false);
        assert_int_equal(fixture.code, ERROR_METHOD_NOT_FOUND);
        call_check(true);
        assert_int_equal(fixture.code, ERROR_NONE);
        fixture.done = false;
        assert_int_equal(dispatcher_call(fixture.edge, &method_conversations_check, &request.base, NULL,
                                 NULL, on_done, NULL),
                0);
        run_until_done();
        assert_int_equal(fixture.code, ERROR_NONE);
}

static void test_owner_ends_under_a_call(void **state) {
        Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;
        uint64_t deadline = boottime_usec() + 10 * USEC_PER_SEC;

        request.user = (char *) "bob";
        fixture.done = false;
        assert_int_equal(dispatcher_call(fixture.edge, &method_conversation_open_direct, &request.base, NULL,
                                 NULL, on_done, NULL),
                0);
        while (!fixture.held && boottime_usec() < deadline)
                assert_true(sd_event_run(fixture.event, USEC_PER_SEC) >= 0);
        assert_non_null(fixture.held);
        dispatcher_stop_serving(fixture.owner);
        /* Its answer finds nobody, which must do no harm. */
        call_fail(fixture.held, ERROR_INTERNAL, "%s", "");
        run_until_done(); /* idempotent: waits for the owner to come back, until its time is over */
        assert_true(fixture.code == ERROR_TIMEOUT || fixture.code == ERROR_UNAVAILABLE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_forwarded),
                cmocka_unit_test(test_made_id),
                cmocka_unit_test(test_refusal_comes_back),
                cmocka_unit_test(test_rules_are_checked),
                cmocka_unit_test(test_nobody_is_refused),
                cmocka_unit_test(test_internal_methods),
                cmocka_unit_test(test_owner_ends_under_a_call),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
