/* SPDX-License-Identifier: Apache-2.0 */

/* One round of calls, again and again, each time with another allocation that fails: every call is answered
 * exactly once, and every fiber ends. */

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "service/dispatcher.h"
#include "service/listen.h"
#include "util/string-util.h"
#include "util/time-util.h"

static unsigned n_allocations, fail_at; /* 0: never */

static bool fails(void) {
        return fail_at > 0 && ++n_allocations == fail_at;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t size) {
        return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size) {
        return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s) {
        return fails() ? NULL : __real_strdup(s);
}

/* --- two roles --- */

static sd_event *event;
static Routes *routes;
static char directory[64];
static unsigned n_done, n_good, n_delivered;

static int answer_history(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        int r = fiber_sleep(0);
        if (r < 0)
                return r;
        ((Sc__HistoryResponse *) response)->more = true;
        return 0;
}

static int take_intent(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        assert_string_equal(call->intent.source, "c1");
        assert_string_equal(call->intent.target, "#bob");
        return 0;
}

static int ask_for_user(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        Sc__HistoryRequest ask = SC__HISTORY_REQUEST__INIT;
        Sc__HistoryResponse *answer;

        ask.conversation = (char *) "c1";
        int r = call_ask(call, &method_message_history, &ask.base, &answer);
        if (r < 0)
                return r;
        assert_true(answer->more);
        ((Sc__Profile *) response)->id = (char *) "good";
        return 0;
}

static const MethodBinding owner_bindings[] = {
        {.method = &method_message_history, .handler = answer_history},
        {.method = &method_inbox_join, .handler = take_intent},
        {},
};
static const MethodBinding edge_bindings[] = {{.method = &method_user_get, .handler = ask_for_user}, {}};

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        n_done++;
        if (code != ERROR_NONE)
                return;
        assert_string_equal(((const Sc__Profile *) response)->id, "good");
        n_good++;
}

typedef struct Delivery {
        Dispatcher *dispatcher;
        int r;
        DispatcherOutcome outcome;
} Delivery;

static void deliver(void *userdata) {
        static const uint8_t request[] = {0x0a, 3, 'b', 'o', 'b', 0x12, 2, 'c', '1'};
        Delivery *delivery = userdata;

        delivery->r = dispatcher_deliver(delivery->dispatcher,
                &(DispatcherDelivery){.method = &method_inbox_join,
                        .request = request,
                        .request_size = sizeof(request),
                        .source = "c1",
                        .number = 1,
                        .target = "#bob"},
                &delivery->outcome);
        n_delivered++;
}

static unsigned n_running(Dispatcher *dispatcher) {
        FiberPoolStatistics statistics;

        fiber_pool_get_statistics(dispatcher_fibers(dispatcher), &statistics);
        return statistics.n_running + statistics.n_queued;
}

/* True if everything went well. */
static bool run_round(Dispatcher *edge, Dispatcher *group, Dispatcher *owner) {
        Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        Delivery delivery = {.dispatcher = group};
        unsigned n_calls = 0, n_deliveries = 0;

        n_done = n_good = n_delivered = 0;
        request.user = (char *) "bob";
        for (int i = 0; i < 2; i++)
                if (dispatcher_call(edge, &method_user_get, &request.base, NULL, NULL, on_done, NULL) >= 0)
                        n_calls++;
        if (fiber_start(dispatcher_fibers(group),
                    &(FiberStart){.main = deliver, .userdata = &delivery, .key = "intents"}, NULL) >= 0)
                n_deliveries++;
        for (unsigned i = 0; i < 1000 && (n_running(edge) + n_running(group) + n_running(owner) > 0); i++)
                assert_true(sd_event_run(event, 5 * USEC_PER_SEC) >= 0);
        assert_int_equal(n_running(edge) + n_running(group) + n_running(owner), 0);
        assert_int_equal(n_done, n_calls);
        assert_int_equal(n_delivered, n_deliveries);
        assert_int_equal(delivery.r, 0);
        return n_good == 2 && n_delivered == 1 && delivery.outcome.code == ERROR_NONE;
}

static void test_memory(void **state) {
        unsigned n_failed = 0;

        for (unsigned n = 1, injected = true; injected; n++) {
                _cleanup_(listen_sockets_freep) ListenSockets *sockets = NULL;
                _cleanup_free_ char *listen = format_string("rpc=%s/group/rpc.sock", directory);
                Dispatcher *edge, *group, *owner;

                assert_int_equal(dispatcher_new(&edge, event, routes, edge_bindings, USEC_PER_SEC / 5), 0);
                assert_int_equal(dispatcher_new(&owner, event, routes, owner_bindings, USEC_PER_SEC / 5), 0);
                assert_int_equal(dispatcher_new(&group, event, routes, NULL, USEC_PER_SEC / 5), 0);
                dispatcher_set_identity(edge, ROLE_SOCKET, NULL);
                dispatcher_set_identity(group, ROLE_GROUP, NULL);
                dispatcher_set_identity(owner, ROLE_GROUP, NULL);
                assert_int_equal(listen_sockets_new(&sockets), 0);
                assert_true(listen_sockets_add(sockets, listen) >= 0);
                assert_int_equal(dispatcher_serve(owner, listen_sockets_take(sockets, "rpc"), NULL), 0);
                n_allocations = 0;
                fail_at = n;
                bool good = run_round(edge, group, owner);
                injected = n_allocations >= n;
                fail_at = 0;
                if (!injected)
                        assert_true(good);
                else
                        n_failed++;
                /* What failed has left nothing behind. */
                assert_true(run_round(edge, group, owner));
                dispatcher_free(edge);
                dispatcher_free(group);
                dispatcher_free(owner);
        }
        print_message("%u allocations failed in turn\n", n_failed);
        assert_true(n_failed > 50);
}

static int setup(void **state) {
        strcpy(directory, "/tmp/stonechat-test-XXXXXX");
        if (sodium_init() < 0 || !mkdtemp(directory))
                return -1;
        setenv("STONECHAT_RUNTIME_DIRECTORY", directory, true);
        _cleanup_free_ char *folder = format_string("%s/group", directory);
        return mkdir(folder, 0700) < 0 || sd_event_new(&event) < 0 ||
                               routes_new(&routes, NULL, NULL, NULL) < 0
                       ? -1
                       : 0;
}

static int teardown(void **state) {
        _cleanup_free_ char *command = format_string("rm -r %s", directory);

        routes_free(routes);
        sd_event_unref(event);
        return system(command);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_memory),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
