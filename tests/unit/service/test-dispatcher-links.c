/* SPDX-License-Identifier: Apache-2.0 */

/* What the dispatcher does with links: who may call what, how many large calls run, what is dropped, and where calls
 * go whose role has moved. */

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
#include "util/string-util.h"
#include "util/time-util.h"

#define MAX_HELD 64

static struct fixture {
        char directory[64];
        sd_event *event;
        Routes *routes;
        Dispatcher *owner; /* the group role */
        FiberQueue held; /* where history waits */
        bool release; /* it waits no more */
        size_t answer_size; /* of its message */
        unsigned n_running, max_running, n_begun;
        unsigned n_running_of[2], max_running_of[2]; /* of "ann", and of the others */
        char order[4096]; /* who began, a space behind each */
        Call *hot[MAX_HELD]; /* calls of a hot method, as a queue holds them */
        unsigned n_hot;
        /* outcomes of all calls */
        unsigned n_done, n_good;
        Sc__ErrorCode code;
        char texts[512]; /* of the messages that came, in order */
} fixture;

/* --- the owner's methods --- */

static int answer_history(Call *call, const ProtobufCMessage *request, ProtobufCMessage *response) {
        Sc__HistoryResponse *history = (Sc__HistoryResponse *) response;
        bool other = !streq(call->caller.user, "ann");
        size_t length = strlen(fixture.order);
        int r = 0;

        snprintf(fixture.order + length, sizeof(fixture.order) - length, "%s ", call->caller.user);
        fixture.n_begun++;
        fixture.n_running++;
        fixture.n_running_of[other]++;
        fixture.max_running = MAX(fixture.max_running, fixture.n_running);
        fixture.max_running_of[other] = MAX(fixture.max_running_of[other], fixture.n_running_of[other]);
        if (!fixture.release)
                r = fiber_queue_wait(&fixture.held, UINT64_MAX);
        fixture.n_running--;
        fixture.n_running_of[other]--;
        if (r < 0 || fixture.answer_size == 0)
                return r;
        Sc__Message *message = arena_alloc(&call->arena, sizeof(Sc__Message));
        sc__message__init(message);
        message->body_case = SC__MESSAGE__BODY_DATA;
        message->data.data = arena_alloc(&call->arena, fixture.answer_size);
        message->data.len = fixture.answer_size;
        memset(message->data.data, 'x', fixture.answer_size);
        history->messages = arena_alloc(&call->arena, sizeof(Sc__Message *));
        history->messages[0] = message;
        history->n_messages = 1;
        return 0;
}

static void hold_send(Call *call, const ProtobufCMessage *request) {
        const Sc__SendRequest *send = (const Sc__SendRequest *) request;
        size_t length = strlen(fixture.texts);

        assert_true(fixture.n_hot < MAX_HELD);
        snprintf(fixture.texts + length, sizeof(fixture.texts) - length, "%s ", send->text);
        fixture.hot[fixture.n_hot++] = call;
}

static void answer_hot(void) {
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        for (unsigned i = 0; i < fixture.n_hot; i++) {
                Call *call = fixture.hot[i];
                int r = call_check_wanted(call);
                if (r < 0)
                        call_fail_errno(call, r, "begin");
                else
                        call_return(call, &response.base);
        }
        fixture.n_hot = 0;
}

static int answer_check(Call *call, const ProtobufCMessage *request, ProtobufCMessage *response) {
        return 0;
}

static const MethodBinding owner_bindings[] = {
        {.method = &method_message_history, .handler = answer_history},
        {.method = &method_message_send, .hot_handler = hold_send},
        {.method = &method_conversations_check, .handler = answer_check},
        {},
};

/* --- set-up --- */

static int listen_at(const char *path) {
        _cleanup_(listen_sockets_freep) ListenSockets *sockets = NULL;
        _cleanup_free_ char *listen = format_string("rpc=%s", path);

        assert_int_equal(listen_sockets_new(&sockets), 0);
        assert_true(listen_sockets_add(sockets, listen) >= 0);
        return listen_sockets_take(sockets, "rpc");
}

static Dispatcher *dispatcher_as(Role role, const MethodBinding *bindings) {
        Dispatcher *dispatcher;

        assert_int_equal(
                dispatcher_new(&dispatcher, fixture.event, fixture.routes, bindings, 10 * USEC_PER_SEC), 0);
        dispatcher_set_identity(dispatcher, role, NULL);
        return dispatcher;
}

static Dispatcher *serve_at(const char *path) {
        Dispatcher *dispatcher = dispatcher_as(ROLE_GROUP, owner_bindings);

        assert_int_equal(dispatcher_serve(dispatcher, listen_at(path), NULL), 0);
        return dispatcher;
}

static int setup(void **state) {
        fixture = (struct fixture){.directory = "/tmp/stonechat-test-XXXXXX"};
        if (sodium_init() < 0 || !mkdtemp(fixture.directory))
                return -1;
        _cleanup_free_ char *directory = format_string("%s/group", fixture.directory);
        if (mkdir(directory, 0755) < 0)
                return -1;
        setenv("STONECHAT_RUNTIME_DIRECTORY", fixture.directory, true);
        if (sd_event_new(&fixture.event) < 0 || routes_new(&fixture.routes, NULL, NULL, NULL) < 0)
                return -1;
        fixture.owner = serve_at(routes_address(fixture.routes, ROLE_GROUP, NULL));
        return 0;
}

static int teardown(void **state) {
        _cleanup_free_ char *command = format_string("rm -r %s", fixture.directory);

        answer_hot();
        dispatcher_free(fixture.owner);
        routes_free(fixture.routes);
        sd_event_unref(fixture.event);
        return system(command);
}

static void run_turns(unsigned n) {
        for (unsigned i = 0; i < n; i++)
                assert_true(sd_event_run(fixture.event, USEC_PER_MSEC) >= 0);
}

static void run_until(const unsigned *value, unsigned wanted) {
        uint64_t end = boottime_usec() + 10 * USEC_PER_SEC;

        while (*value != wanted) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(fixture.event, 10 * USEC_PER_MSEC) >= 0);
        }
}

static uint64_t figure(const Dispatcher *dispatcher, const char *name) {
        BusStatistic statistics[32];
        size_t n = dispatcher_statistics(dispatcher, statistics, ELEMENTSOF(statistics));

        FOREACH_ARRAY(s, statistics, n)
                if (streq(s->name, name))
                        return s->value;
        fail_msg("no figure %s", name);
        return 0;
}

/* --- calls --- */

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        fixture.n_done++;
        fixture.n_good += code == ERROR_NONE;
        fixture.code = code;
}

static Call *new_call(const MethodInfo *method, const char *user, const ProtobufCMessage *request) {
        uint8_t packed[512];
        Call *call = NULL;

        assert_true(protobuf_c_message_get_packed_size(request) <= sizeof(packed));
        size_t size = protobuf_c_message_pack(request, packed);
        assert_int_equal(dispatcher_call_new(&call, method, packed, size, NULL, on_done, NULL), 0);
        Sc__Caller caller = SC__CALLER__INIT;
        caller.user = (char *) user;
        assert_int_equal(call_set_caller(call, &caller), 0);
        return call;
}

static Call *history(Dispatcher *dispatcher, const char *user, uint64_t timeout_usec) {
        Sc__HistoryRequest request = SC__HISTORY_REQUEST__INIT;

        request.conversation = (char *) "c1";
        Call *call = new_call(&method_message_history, user, &request.base);
        call->deadline_usec = timeout_usec > 0 ? boottime_usec() + timeout_usec : 0;
        dispatcher_dispatch(dispatcher, call);
        return call;
}

static Call *send_text(Dispatcher *dispatcher, const char *text, uint64_t order, uint64_t timeout_usec) {
        Sc__SendRequest request = SC__SEND_REQUEST__INIT;

        request.conversation = (char *) "c1";
        request.body_case = SC__SEND_REQUEST__BODY_TEXT;
        request.text = (char *) text;
        Call *call = new_call(&method_message_send, "ann", &request.base);
        call->order = order;
        call->deadline_usec = timeout_usec > 0 ? boottime_usec() + timeout_usec : 0;
        dispatcher_dispatch(dispatcher, call);
        return call;
}

/* --- who may call what --- */

static void test_callers(void **state) {
        static const struct {
                Role role;
                bool internal, of_users;
        } cases[] = {
                {ROLE_NONE, false, false},
                {ROLE_API, false, true},
                {ROLE_SOCKET, false, true},
                {ROLE_GROUP, false, false},
                {ROLE_ARBITER, false, false},
                {ROLE_JOB, true, false},
                {ROLE_CTL, false, false},
        };
        uint64_t n_refused = 0;

        fixture.release = true;
        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                Dispatcher *peer = dispatcher_as(c->role, NULL);
                Sc__StoreCheckRequest check = SC__STORE_CHECK_REQUEST__INIT;
                unsigned n_done = fixture.n_done;

                dispatcher_dispatch(peer, new_call(&method_conversations_check, "", &check.base));
                run_until(&fixture.n_done, n_done + 1);
                assert_int_equal(fixture.code, c->internal ? ERROR_NONE : ERROR_PERMISSION_DENIED);
                (void) history(peer, "ann", 0);
                run_until(&fixture.n_done, n_done + 2);
                assert_int_equal(fixture.code, c->of_users ? ERROR_NONE : ERROR_PERMISSION_DENIED);
                n_refused += !c->internal + !c->of_users;
                assert_int_equal(figure(fixture.owner, "calls_refused_to_roles"), n_refused);
                dispatcher_free(peer);
        }
}

/* --- large calls --- */

/* Two of a user and 32 in all; users take turns; whoever waits in vain is dropped before it begins. */
static void test_large_limits(void **state) {
        Dispatcher *edge = dispatcher_as(ROLE_SOCKET, NULL);
        char user[16];

        for (unsigned i = 0; i < 20; i++)
                (void) history(edge, "ann", 0);
        run_turns(20);
        assert_int_equal(fixture.n_running, 2);
        assert_int_equal(figure(fixture.owner, "large_calls_running"), 2);
        assert_int_equal(figure(fixture.owner, "large_calls_queued"), 18);
        for (unsigned i = 0; i < 40; i++) {
                snprintf(user, sizeof(user), "u%u", i);
                (void) history(edge, user, 0);
        }
        run_turns(20);
        assert_int_equal(fixture.n_running, 32);
        while (fixture.n_done < 60) {
                fiber_queue_wake(&fixture.held);
                run_turns(5);
        }
        assert_int_equal(fixture.n_good, 60);
        assert_int_equal(fixture.max_running, 32);
        assert_int_equal(fixture.max_running_of[0], 2);
        /* "u39" was the last to ask, after all of ann's, and did not wait for them. */
        assert_true(strstr(fixture.order, "u39 ann"));
        dispatcher_free(edge);
        run_turns(5);
}

static void test_large_dropped(void **state) {
        Dispatcher *edge = dispatcher_as(ROLE_SOCKET, NULL), *other = dispatcher_as(ROLE_SOCKET, NULL);

        for (unsigned i = 0; i < 2; i++)
                (void) history(edge, "ann", 0);
        run_until(&fixture.n_running, 2);
        for (unsigned i = 0; i < 3; i++)
                (void) history(edge, "ann", 50 * USEC_PER_MSEC);
        Call *cancelled = history(edge, "ann", 0);
        for (unsigned i = 0; i < 4; i++)
                (void) history(other, "ann", 0);
        run_turns(20);
        assert_int_equal(figure(fixture.owner, "large_calls_queued"), 8);
        run_until(&fixture.n_done, 3); /* their deadlines */
        assert_int_equal(fixture.code, ERROR_TIMEOUT);
        call_cancel(cancelled);
        assert_int_equal(fixture.n_done, 4);
        dispatcher_free(other); /* its peer has gone */
        assert_int_equal(fixture.n_done, 8);
        run_turns(20);
        assert_int_equal(figure(fixture.owner, "large_calls_queued"), 0);
        assert_int_equal(figure(fixture.owner, "calls_dropped"), 8);
        fiber_queue_wake(&fixture.held);
        run_until(&fixture.n_done, 10);
        assert_int_equal(fixture.n_good, 2);
        assert_int_equal(fixture.n_begun, 2);
        dispatcher_free(edge);
        run_turns(5);
}

/* A peer that does not read has two or three megabytes waiting, and not all that it has asked for. What it does get
 * is everything, once it reads. */
static void test_congested(void **state) {
        Dispatcher *edge = dispatcher_as(ROLE_SOCKET, NULL), *good = dispatcher_as(ROLE_API, NULL);
        char user[16];

        fixture.release = true;
        fixture.answer_size = 700 << 10;
        for (unsigned i = 0; i < 30; i++) { /* more than begin before the first answer is sent */
                snprintf(user, sizeof(user), "u%u", i);
                (void) history(edge, user, 0);
        }
        (void) history(good, "bob", 0);
        unsigned max_ahead = 0;
        uint64_t end = boottime_usec() + 10 * USEC_PER_SEC;
        while (fixture.n_done < 31) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(fixture.event, 10 * USEC_PER_MSEC) >= 0);
                max_ahead = MAX(max_ahead, fixture.n_begun - fixture.n_done);
        }
        assert_int_equal(fixture.n_good, 31);
        assert_true(max_ahead <= 6);
        dispatcher_free(edge);
        dispatcher_free(good);
        run_turns(5);
}

/* --- hot calls --- */

/* What waits in a queue of its role is found out to be wanted no more. One of a run goes on all the same: it will be
 * sent again. */
static void test_hot_unwanted(void **state) {
        Dispatcher *edge = dispatcher_as(ROLE_SOCKET, NULL);

        (void) send_text(edge, "a", 0, 0);
        Call *cancelled = send_text(edge, "b", 0, 0);
        Call *in_run = send_text(edge, "c", 7ULL << 16, 0);
        (void) send_text(edge, "d", 0, 30 * USEC_PER_MSEC);
        run_until(&fixture.n_hot, 4);
        call_cancel(cancelled);
        call_cancel(in_run);
        run_until(&fixture.n_done, 3); /* and the deadline of the last */
        run_turns(10);
        assert_int_equal(call_check_wanted(fixture.hot[0]), 0);
        assert_int_equal(call_check_wanted(fixture.hot[1]), -ECANCELED);
        assert_int_equal(call_check_wanted(fixture.hot[2]), 0);
        assert_int_equal(call_check_wanted(fixture.hot[3]), -ETIMEDOUT);
        answer_hot();
        run_until(&fixture.n_done, 4);
        assert_int_equal(fixture.n_good, 1);
        dispatcher_free(edge);
        run_turns(5);
}

/* --- routes --- */

/* Calls that wait for a role that has moved go to where it is now, in their order, with those that were sent and
 * whose link was lost. */
static void test_moved(void **state) {
        Dispatcher *edge = dispatcher_as(ROLE_SOCKET, NULL);
        _cleanup_free_ char *elsewhere = format_string("%s/elsewhere", fixture.directory);
        Dispatcher *next = serve_at(elsewhere);

        (void) send_text(edge, "1", 0, 0);
        run_until(&fixture.n_hot, 1);
        /* It goes while one call is under way; the next two wait. */
        fixture.n_hot = 0;
        Call *lost = fixture.hot[0];
        fixture.texts[0] = 0;
        dispatcher_stop_serving(fixture.owner);
        run_turns(10);
        (void) send_text(edge, "2", 0, 0);
        (void) send_text(edge, "3", 0, 0);
        run_turns(10);
        assert_int_equal(fixture.n_hot, 0);
        Route *route = (Route *) routes_all(fixture.routes, &(size_t){0});
        char *before = route->address;
        route->address = elsewhere;
        dispatcher_routes_changed(edge);
        (void) send_text(edge, "4", 0, 0);
        run_until(&fixture.n_hot, 4);
        assert_string_equal(fixture.texts, "1 2 3 4 ");
        answer_hot();
        run_until(&fixture.n_done, 4);
        assert_int_equal(fixture.n_good, 4);
        fixture.hot[fixture.n_hot++] = lost; /* to be answered, though nobody hears it */
        route->address = before;
        dispatcher_free(edge);
        dispatcher_free(next);
        run_turns(5);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_callers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_large_limits, setup, teardown),
                cmocka_unit_test_setup_teardown(test_large_dropped, setup, teardown),
                cmocka_unit_test_setup_teardown(test_congested, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hot_unwanted, setup, teardown),
                cmocka_unit_test_setup_teardown(test_moved, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
