/* SPDX-License-Identifier: Apache-2.0 */

/* Two dispatchers and a socket between them: one stands for an edge role, the other for the role that owns
 * the method. */

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
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
        Dispatcher *edge, *owner; /* the socket and the group role */
        Dispatcher *job, *group; /* those that may call internal methods */
        FiberQueue held; /* what hold_open() waits in */
        unsigned n_held, n_unwound;
        int unwound_r; /* what ended the wait of the last one */
        unsigned n_done;
        Future *write; /* what an asked handler waits for fully */
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
        char intent_source[64], intent_target[64];
        uint64_t intent_number;
        uint64_t deadline_usec;
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

static void count_unwound(unsigned **n) {
        (**n)++;
}

static int hold_open(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        _cleanup_(count_unwound) _unused_ unsigned *n = &fixture.n_unwound;

        fixture.n_held++;
        fixture.unwound_r = fiber_queue_wait(&fixture.held, UINT64_MAX);
        fixture.n_held--;
        return fixture.unwound_r;
}

static int answer_check(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        Sc__StoreCheckResponse *check = (Sc__StoreCheckResponse *) response;

        assert_ptr_equal(fiber_current(), call->fiber);
        fixture.deadline_usec = call->deadline_usec;
        check->ok = true;
        return 0;
}

static int answer_history(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        const Sc__HistoryRequest *request = (const Sc__HistoryRequest *) message;

        snprintf(fixture.user, sizeof(fixture.user), "%s", call->caller.user);
        if (streq(request->conversation, "refuse"))
                return call_refuse(call, ERROR_NOT_A_MEMBER, "no member of %s", request->conversation);
        if (streq(request->conversation, "full"))
                return -ENOSPC;
        if (streq(request->conversation, "sleep"))
                return fiber_sleep(60 * USEC_PER_SEC);
        ((Sc__HistoryResponse *) response)->more = true;
        return 0;
}

static int take_intent(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        const Sc__InboxJoinRequest *request = (const Sc__InboxJoinRequest *) message;

        if (!call->intent.source)
                return call_refuse(call, ERROR_INVALID_ARGUMENT, "no intent");
        snprintf(fixture.intent_source, sizeof(fixture.intent_source), "%s", call->intent.source);
        snprintf(fixture.intent_target, sizeof(fixture.intent_target), "%s", call->intent.target);
        snprintf(fixture.user, sizeof(fixture.user), "%s", request->user);
        fixture.intent_number = call->intent.number;
        memcpy(fixture.trace_id, call->trace.id, sizeof(fixture.trace_id));
        if (streq(request->conversation, "gone"))
                return call_refuse(call, ERROR_NOT_FOUND, "no such conversation");
        return 0;
}

static int ask_myself(Call *call, const char *user, Sc__Profile *profile) {
        Sc__UserGetRequest ask = SC__USER_GET_REQUEST__INIT;
        Sc__Profile *answer;

        ask.user = (char *) user;
        int r = call_ask(call, &method_user_get, &ask.base, &answer);
        if (r < 0)
                return r;
        profile->id = answer->id;
        return 0;
}

static int ask_owner(Call *call, const char *conversation, Sc__Profile *profile) {
        Sc__HistoryRequest ask = SC__HISTORY_REQUEST__INIT;
        Sc__HistoryResponse *answer;

        ask.conversation = (char *) conversation;
        int r = call_ask(call, &method_message_history, &ask.base, &answer);
        if (r == CALL_REFUSED && call->refusal == ERROR_STORAGE_FULL) {
                profile->id = (char *) "went on";
                return 0;
        }
        if (r < 0)
                return r;
        assert_true(answer->more);
        profile->id = (char *) conversation;
        return 0;
}

/* The edge's own: asks itself for another user, or the owner for a page of messages. */
static int ask_for_user(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        const Sc__UserGetRequest *request = (const Sc__UserGetRequest *) message;
        Sc__Profile *profile = (Sc__Profile *) response;

        if (strncmp(request->user, "myself:", 7) == 0)
                return ask_myself(call, request->user + 7, profile);
        if (streq(request->user, "write")) {
                future_await_fully(fixture.write);
                profile->id = request->user;
                return 0;
        }
        return ask_owner(call, request->user, profile);
}

static const MethodBinding owner_bindings[] = {
        {.method = &method_message_send, .hot_handler = answer_send},
        {.method = &method_conversation_open_direct, .handler = hold_open},
        {.method = &method_conversations_check, .handler = answer_check},
        {.method = &method_message_history, .handler = answer_history},
        {.method = &method_inbox_join, .handler = take_intent},
        {},
};

static const MethodBinding edge_bindings[] = {
        {.method = &method_user_get, .handler = ask_for_user},
        {},
};

static int setup(void **state) {
        _cleanup_(listen_sockets_freep) ListenSockets *sockets = NULL;
        _cleanup_free_ char *listen = NULL, *folder = NULL;

        fixture = (struct fixture){.directory = "/tmp/stonechat-test-XXXXXX"};
        if (sodium_init() < 0 || !mkdtemp(fixture.directory))
                return -1;
        setenv("STONECHAT_RUNTIME_DIRECTORY", fixture.directory, true);
        folder = format_string("%s/group", fixture.directory);
        listen = format_string("rpc=%s/rpc.sock", folder);
        if (mkdir(folder, 0700) < 0 || sd_event_new(&fixture.event) < 0 ||
                routes_new(&fixture.routes, NULL, NULL, NULL) < 0 ||
                dispatcher_new(&fixture.edge, fixture.event, fixture.routes, edge_bindings, USEC_PER_SEC) <
                        0 ||
                dispatcher_new(&fixture.owner, fixture.event, fixture.routes, owner_bindings, USEC_PER_SEC) <
                        0 ||
                listen_sockets_new(&sockets) < 0 || listen_sockets_add(sockets, listen) < 0)
                return -1;
        if (dispatcher_new(&fixture.job, fixture.event, fixture.routes, NULL, USEC_PER_SEC) < 0 ||
                dispatcher_new(&fixture.group, fixture.event, fixture.routes, NULL, USEC_PER_SEC) < 0)
                return -1;
        dispatcher_set_identity(fixture.edge, ROLE_SOCKET, NULL);
        dispatcher_set_identity(fixture.owner, ROLE_GROUP, NULL);
        dispatcher_set_identity(fixture.job, ROLE_JOB, NULL);
        dispatcher_set_identity(fixture.group, ROLE_GROUP, NULL);
        dispatcher_set_role(fixture.owner, &fixture);
        return dispatcher_serve(fixture.owner, listen_sockets_take(sockets, "rpc"), NULL);
}

static int teardown(void **state) {
        _cleanup_free_ char *command = format_string("rm -r %s", fixture.directory);

        dispatcher_free(fixture.edge);
        dispatcher_free(fixture.job);
        dispatcher_free(fixture.group);
        dispatcher_free(fixture.owner);
        routes_free(fixture.routes);
        sd_event_unref(fixture.event);
        return system(command);
}

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        fixture.n_done++;
        fixture.done = true;
        fixture.code = code;
        snprintf(fixture.detail, sizeof(fixture.detail), "%s", strempty(detail));
        if (call->method == &method_message_send)
                snprintf(fixture.sent_id, sizeof(fixture.sent_id), "%s",
                        ((const Sc__SendRequest *) call->request)->client_msg_id);
        if (response && response->descriptor == &sc__send_response__descriptor)
                fixture.seq = ((const Sc__SendResponse *) response)->seq;
        if (response && response->descriptor == &sc__profile__descriptor)
                snprintf(fixture.detail, sizeof(fixture.detail), "%s", ((const Sc__Profile *) response)->id);
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

/* A figure of its statistics. */
static uint64_t figure(const Dispatcher *dispatcher, const char *name) {
        BusStatistic statistics[32];
        size_t n = dispatcher_statistics(dispatcher, statistics, ELEMENTSOF(statistics));

        FOREACH_ARRAY(s, statistics, n)
                if (streq(s->name, name))
                        return s->value;
        fail_msg("no figure %s", name);
        return 0;
}

static void call_check(bool internal) {
        Sc__StoreCheckRequest request = SC__STORE_CHECK_REQUEST__INIT;
        Call *call = call_new(&method_conversations_check, 1U << 20, on_done, NULL);

        call->request = &request.base;
        call->caller.user = (char *) "ann";
        call->internal = internal;
        fixture.done = false;
        dispatcher_dispatch(fixture.job, call);
        run_until_done();
}

static void test_internal_methods(void **state) {
        Sc__StoreCheckRequest request = SC__STORE_CHECK_REQUEST__INIT;

        call_check(false);
        assert_int_equal(fixture.code, ERROR_METHOD_NOT_FOUND);
        call_check(true);
        assert_int_equal(fixture.code, ERROR_NONE);
        fixture.done = false;
        assert_int_equal(dispatcher_call(fixture.job, &method_conversations_check, &request.base, NULL, NULL,
                                 on_done, NULL),
                0);
        run_until_done();
        assert_int_equal(fixture.code, ERROR_NONE);
}

/* --- on fibers --- */

static void run_until(const unsigned *value, unsigned wanted) {
        uint64_t deadline = boottime_usec() + 10 * USEC_PER_SEC;

        while (*value != wanted && boottime_usec() < deadline)
                assert_true(sd_event_run(fixture.event, USEC_PER_SEC) >= 0);
        assert_int_equal(*value, wanted);
}

static Call *history(const char *conversation) {
        static Sc__HistoryRequest request;
        Call *call = call_new(&method_message_history, 1U << 20, on_done, NULL);

        assert_non_null(call);
        request = (Sc__HistoryRequest) SC__HISTORY_REQUEST__INIT;
        request.conversation = (char *) conversation;
        call->request = &request.base;
        call->caller.user = (char *) "ann";
        fixture.done = false;
        return call;
}

static void test_handler_on_fiber(void **state) {
        dispatcher_dispatch(fixture.owner, history("c1"));
        assert_true(fixture.done); /* it had nothing to wait for */
        assert_int_equal(fixture.code, ERROR_NONE);
        dispatcher_dispatch(fixture.owner, history("refuse"));
        assert_int_equal(fixture.code, ERROR_NOT_A_MEMBER);
        assert_string_equal(fixture.detail, "no member of refuse");
        dispatcher_dispatch(fixture.owner, history("full"));
        assert_int_equal(fixture.code, ERROR_STORAGE_FULL);
        dispatcher_dispatch(fixture.edge, history("refuse"));
        run_until_done();
        assert_int_equal(fixture.code, ERROR_NOT_A_MEMBER);
        assert_string_equal(fixture.detail, "no member of refuse");
}

static void test_deadline(void **state) {
        Call *call = history("sleep");

        call->deadline_usec = boottime_usec() + 20 * USEC_PER_MSEC;
        dispatcher_dispatch(fixture.owner, call);
        assert_false(fixture.done);
        run_until_done();
        assert_int_equal(fixture.code, ERROR_TIMEOUT);

        /* The other role is told, and ends it, too. */
        call = history("sleep");
        call->deadline_usec = boottime_usec() + 20 * USEC_PER_MSEC;
        dispatcher_dispatch(fixture.edge, call);
        run_until_done();
        assert_int_equal(fixture.code, ERROR_TIMEOUT);
        while (figure(fixture.owner, "large_calls_running") > 0)
                assert_true(sd_event_run(fixture.event, 5 * USEC_PER_SEC) > 0);

        call = history("c1");
        call->deadline_usec = boottime_usec() - 1;
        dispatcher_dispatch(fixture.edge, call);
        assert_int_equal(fixture.code, ERROR_TIMEOUT);
}

static void test_time_left_is_passed_on(void **state) {
        Sc__StoreCheckRequest request = SC__STORE_CHECK_REQUEST__INIT;
        Call *call = call_new(&method_conversations_check, 1U << 20, on_done, NULL);
        uint64_t deadline = boottime_usec() + 300 * USEC_PER_MSEC;

        call->request = &request.base;
        call->internal = true;
        call->deadline_usec = deadline;
        fixture.done = false;
        dispatcher_dispatch(fixture.job, call);
        run_until_done();
        assert_int_equal(fixture.code, ERROR_NONE);
        assert_true(fixture.deadline_usec > deadline - 100 * USEC_PER_MSEC);
        assert_true(fixture.deadline_usec < deadline + 100 * USEC_PER_MSEC);
}

static Call *open_direct(Dispatcher *dispatcher, const char *user) {
        static Sc__OpenDirectRequest request;
        Call *call = call_new(&method_conversation_open_direct, 1U << 20, on_done, NULL);

        assert_non_null(call);
        request = (Sc__OpenDirectRequest) SC__OPEN_DIRECT_REQUEST__INIT;
        request.user = (char *) "bob";
        call->request = &request.base;
        call->caller.user = (char *) user;
        fixture.done = false;
        dispatcher_dispatch(dispatcher, call);
        return call;
}

static void test_cancel(void **state) {
        unsigned n_unwound = fixture.n_unwound;

        call_cancel(open_direct(fixture.owner, "ann"));
        assert_true(fixture.done); /* at once, and once */
        assert_int_equal(fixture.code, ERROR_UNAVAILABLE);
        assert_int_equal(fixture.unwound_r, -ECANCELED);
        assert_int_equal(fixture.n_unwound, n_unwound + 1);

        /* one that waits for the other role: that role is told, and its answer comes to nobody */
        Call *call = open_direct(fixture.edge, "ann");
        run_until(&fixture.n_held, 1);
        assert_false(fixture.done);
        unsigned n_done = fixture.n_done;
        call_cancel(call);
        assert_int_equal(fixture.n_done, n_done + 1);
        assert_int_equal(fixture.code, ERROR_UNAVAILABLE);
        run_until(&fixture.n_unwound, n_unwound + 2);
        assert_int_equal(fixture.unwound_r, -ECANCELED);
        send_as("ann", "c1", "hello"); /* comes after that answer */
        assert_int_equal(fixture.n_done, n_done + 2);
}

static void test_peer_gone(void **state) {
        Dispatcher *other;
        unsigned n_unwound = fixture.n_unwound, n_done = fixture.n_done;

        assert_int_equal(dispatcher_new(&other, fixture.event, fixture.routes, NULL, 60 * USEC_PER_SEC), 0);
        dispatcher_set_identity(other, ROLE_API, NULL);
        open_direct(other, "ann");
        open_direct(other, "bob");
        open_direct(fixture.edge, "carl");
        run_until(&fixture.n_held, 3);
        dispatcher_free(other); /* fails its calls, and disconnects */
        assert_int_equal(fixture.n_done, n_done + 2);
        run_until(&fixture.n_held, 1); /* the third belongs to somebody who is there */
        assert_int_equal(fixture.unwound_r, -ECANCELED);
        assert_int_equal(fixture.n_unwound, n_unwound + 2);
        fiber_queue_wake(&fixture.held);
        run_until(&fixture.n_done, n_done + 3);
        assert_int_equal(fixture.code, ERROR_NONE);
}

/* One user's calls fill what others may have; then his queue; then he is refused. Another user still waits, and
 * a call of another role runs. */
static void test_limits(void **state) {
        const unsigned n_stacks = 1024 - 128, n_queued = 256;
        unsigned n_done = fixture.n_done;

        for (unsigned i = 0; i < n_stacks + n_queued; i++)
                open_direct(fixture.owner, "ann");
        assert_int_equal(fixture.n_held, n_stacks);
        assert_int_equal(fixture.n_done, n_done);
        open_direct(fixture.owner, "ann");
        assert_int_equal(fixture.n_done, n_done + 1);
        assert_int_equal(fixture.code, ERROR_OVERLOADED);
        open_direct(fixture.owner, "bob");
        assert_int_equal(fixture.n_done, n_done + 1);
        call_check(true);
        assert_int_equal(fixture.code, ERROR_NONE);
        assert_int_equal(fixture.n_done, n_done + 2);
        Call *queued = open_direct(fixture.owner, "carl");
        call_cancel(queued);
        assert_int_equal(fixture.n_done, n_done + 3);
        assert_int_equal(fixture.code, ERROR_UNAVAILABLE);
        fiber_queue_wake(&fixture.held);
        assert_int_equal(fixture.n_held, n_queued + 1);
        fiber_queue_wake(&fixture.held);
        assert_int_equal(fixture.n_held, 0);
        assert_int_equal(fixture.n_done, n_done + 3 + n_stacks + n_queued + 1);
}

/* --- calls of a fiber --- */

static void ask(const char *user) {
        Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        Call *call = call_new(&method_user_get, 1U << 20, on_done, NULL);

        assert_non_null(call);
        request.user = (char *) user;
        call->request = &request.base;
        call->caller.user = (char *) "ann";
        fixture.done = false;
        dispatcher_dispatch(fixture.edge, call);
        run_until_done();
}

static void test_ask(void **state) {
        ask("c1");
        assert_int_equal(fixture.code, ERROR_NONE);
        assert_string_equal(fixture.detail, "c1");
        assert_string_equal(fixture.user, "ann");
        ask("myself:other"); /* a fiber that waits for one of the same pool, which asks the owner */
        assert_int_equal(fixture.code, ERROR_NONE);
        assert_string_equal(fixture.detail, "other");
        ask("refuse");
        assert_int_equal(fixture.code, ERROR_NOT_A_MEMBER);
        assert_string_equal(fixture.detail, "no member of refuse");
        ask("full"); /* and the handler goes on */
        assert_int_equal(fixture.code, ERROR_NONE);
        assert_string_equal(fixture.detail, "went on");
        ask(""); /* the rules are checked at both ends */
        assert_int_equal(fixture.code, ERROR_INVALID_ARGUMENT);
}

static Call *begin_asking(const char *user) {
        static Sc__UserGetRequest request;
        Call *call = call_new(&method_user_get, 1U << 20, on_done, NULL);

        assert_non_null(call);
        request = (Sc__UserGetRequest) SC__USER_GET_REQUEST__INIT;
        request.user = (char *) user;
        call->request = &request.base;
        call->caller.user = (char *) "ann";
        fixture.done = false;
        return call;
}

static unsigned n_running_on_edge(void) {
        FiberPoolStatistics statistics;

        fiber_pool_get_statistics(dispatcher_fibers(fixture.edge), &statistics);
        return statistics.n_running;
}

/* Whom it asked is cancelled, too. */
static void test_asker_is_cancelled(void **state) {
        static const char *const users[] = {"sleep", "myself:sleep"};

        for (size_t i = 0; i < ELEMENTSOF(users); i++)
                for (int late = 0; late < 2; late++) {
                        Call *call = begin_asking(users[i]);
                        unsigned n_done = fixture.n_done;

                        if (late)
                                call->deadline_usec = boottime_usec() + 20 * USEC_PER_MSEC;
                        dispatcher_dispatch(fixture.edge, call);
                        assert_false(fixture.done);
                        assert_int_equal(n_running_on_edge(), i + 1);
                        if (!late)
                                call_cancel(call);
                        run_until_done();
                        assert_int_equal(fixture.n_done, n_done + 1);
                        assert_int_equal(fixture.code, late ? ERROR_TIMEOUT : ERROR_UNAVAILABLE);
                        assert_int_equal(n_running_on_edge(), 0);
                }
}

/* What must not be interrupted goes on without its asker, and its answer comes to nobody. */
static void test_asker_is_gone_first(void **state) {
        fixture.write = new0(Future, 1);
        future_init(fixture.write, NULL);
        future_ref(fixture.write);
        Call *call = begin_asking("myself:write");
        dispatcher_dispatch(fixture.edge, call);
        assert_int_equal(n_running_on_edge(), 2);
        call_cancel(call);
        assert_true(fixture.done);
        assert_int_equal(fixture.code, ERROR_UNAVAILABLE);
        assert_int_equal(n_running_on_edge(), 1);
        future_fulfil(fixture.write);
        assert_int_equal(n_running_on_edge(), 0);
        fixture.write = future_unref(fixture.write);
}

/* --- intents --- */

typedef struct Deliverer {
        DispatcherDelivery delivery;
        DispatcherOutcome outcome;
        int r;
        bool done;
} Deliverer;

static void deliver(void *userdata) {
        Deliverer *d = userdata;

        d->r = dispatcher_deliver(fixture.group, &d->delivery, &d->outcome);
        d->done = true;
}

static void run_delivery(Deliverer *d) {
        assert_int_equal(fiber_start(dispatcher_fibers(fixture.edge),
                                 &(FiberStart){.main = deliver, .userdata = d}, NULL),
                0);
        for (unsigned i = 0; i < 1000 && !d->done; i++)
                assert_true(sd_event_run(fixture.event, 5 * USEC_PER_SEC) >= 0);
        assert_true(d->done);
}

static void test_deliver(void **state) {
        Sc__InboxJoinRequest request = SC__INBOX_JOIN_REQUEST__INIT;
        Trace trace = {.id = {5, 5, 5}};
        uint8_t packed[256];

        request.user = (char *) "bob";
        request.conversation = (char *) "c1";
        Deliverer d = {.delivery = {.method = &method_inbox_join,
                               .request = packed,
                               .request_size = sc__inbox_join_request__pack(&request, packed),
                               .source = "c1",
                               .number = 1ULL << 40,
                               .target = "#bob",
                               .trace = &trace}};
        run_delivery(&d);
        assert_int_equal(d.r, 0);
        assert_int_equal(d.outcome.code, ERROR_NONE);
        assert_string_equal(fixture.intent_source, "c1");
        assert_string_equal(fixture.intent_target, "#bob");
        assert_true(fixture.intent_number == 1ULL << 40);
        assert_string_equal(fixture.user, "bob");
        assert_int_equal(fixture.trace_id[2], 5);

        request.conversation = (char *) "gone";
        d.delivery.request_size = sc__inbox_join_request__pack(&request, packed);
        d.done = false;
        run_delivery(&d);
        assert_int_equal(d.r, 0);
        assert_int_equal(d.outcome.code, ERROR_NOT_FOUND);
        assert_string_equal(d.outcome.detail, "no such conversation");

        memset(packed, 0xff, sizeof(packed));
        d.done = false;
        run_delivery(&d);
        assert_int_equal(d.r, 0);
        assert_int_equal(d.outcome.code, ERROR_INVALID_ARGUMENT);
}

/* --- the end --- */

static void test_owner_ends_under_a_call(void **state) {
        unsigned n_done = fixture.n_done;

        open_direct(fixture.edge, "ann");
        run_until(&fixture.n_held, 1);
        Call *own = open_direct(fixture.owner, "bob");
        assert_non_null(own);
        assert_int_equal(fixture.n_held, 2);
        dispatcher_stop_calls(fixture.owner);
        assert_int_equal(fixture.n_held, 0);
        assert_int_equal(fixture.unwound_r, -ECANCELED);
        assert_int_equal(fixture.n_done, n_done + 1);
        assert_int_equal(fixture.code, ERROR_UNAVAILABLE);
        run_until(&fixture.n_done, n_done + 2); /* its peers are still connected */
        assert_int_equal(fixture.code, ERROR_UNAVAILABLE);
        dispatcher_dispatch(fixture.owner, history("c1"));
        assert_int_equal(fixture.n_done, n_done + 3);
        assert_int_equal(fixture.code, ERROR_UNAVAILABLE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_forwarded),
                cmocka_unit_test(test_made_id),
                cmocka_unit_test(test_refusal_comes_back),
                cmocka_unit_test(test_rules_are_checked),
                cmocka_unit_test(test_nobody_is_refused),
                cmocka_unit_test(test_internal_methods),
                cmocka_unit_test(test_handler_on_fiber),
                cmocka_unit_test(test_deadline),
                cmocka_unit_test(test_time_left_is_passed_on),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_peer_gone),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_ask),
                cmocka_unit_test(test_asker_is_cancelled),
                cmocka_unit_test(test_asker_is_gone_first),
                cmocka_unit_test(test_deliver),
                cmocka_unit_test(test_owner_ends_under_a_call),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
