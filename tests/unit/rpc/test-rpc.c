/* SPDX-License-Identifier: Apache-2.0 */

/* Client and server against each other. */

#include "fixture.h"

static void test_call(void **state) {
        Fixture *f = *state;
        Outcome outcome = {}, empty = {};
        Trace trace = {.id = {1, 2, 3}, .parent = 9, .sampled = true};
        Sc__Caller caller = SC__CALLER__INIT;
        RpcMessage message = {.trace = &trace,
                .caller = &caller,
                .timeout_usec = LONG_TIMEOUT_USEC,
                .payload = "hello",
                .payload_size = 5};

        caller.user = (char *) "user-1";
        start_server(f);
        start_client(f);
        for (unsigned round = 1; round <= 2; round++) { /* waiting for the connection, and on it */
                assert_int_equal(rpc_client_call(f->client, &method_once, &message, on_reply, &outcome), 0);
                assert_int_equal(outcome.n_replies, round - 1);
                run_until(f, &outcome.n_replies, round);
                assert_int_equal(outcome.code, ERROR_NONE);
                assert_string_equal(outcome.text, "hello");
                assert_memory_equal(f->last_trace.id, trace.id, sizeof(trace.id));
                assert_true(f->last_trace.parent == 9 && f->last_trace.sampled);
                assert_string_equal(f->last_user, "user-1");
                assert_true(f->last.timeout_usec > 0 && f->last.timeout_usec <= LONG_TIMEOUT_USEC + 2000);
        }
        assert_int_equal(call(f, &method_once, "", 0, &empty), 0);
        run_until(f, &empty.n_replies, 1);
        assert_int_equal(empty.size, 0);
        assert_string_equal(f->last_user, "(none)");
        assert_null(f->last.trace);
        assert_int_equal(rpc_server_n_connections(f->server), 1);
        assert_int_equal(f->n_connects, 1);
}

static void test_failure(void **state) {
        Fixture *f = *state;
        Outcome outcome = {}, none = {};

        f->hold = true;
        start_server(f);
        start_client(f);
        assert_int_equal(call(f, &method_again, "x", 0, &outcome), 0);
        assert_int_equal(call(f, &method_again, "x", 0, &none), 0);
        run_until_size(f, &f->n_held, 2);
        rpc_request_fail(f->held[0], ERROR_NOT_A_MEMBER, "conversation");
        rpc_request_fail(f->held[1], ERROR_NONE, NULL); /* never a success by mistake */
        f->n_held = 0;
        run_until(f, &none.n_replies, 1);
        assert_int_equal(outcome.code, ERROR_NOT_A_MEMBER);
        assert_string_equal(outcome.text, "conversation");
        assert_int_equal(none.code, ERROR_INTERNAL);
}

static void test_any_order(void **state) {
        Fixture *f = *state;
        Outcome outcomes[3] = {};

        f->hold = true;
        start_server(f);
        start_client(f);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(call(f, &method_again, "x", 0, &outcomes[i]), 0);
        run_until_size(f, &f->n_held, 3);
        rpc_request_reply(f->held[2], "third", 5);
        rpc_request_reply(f->held[0], "first", 5);
        rpc_request_reply(f->held[1], "second", 6);
        f->n_held = 0;
        run_until(f, &outcomes[1].n_replies, 1);
        assert_string_equal(outcomes[0].text, "first");
        assert_string_equal(outcomes[1].text, "second");
        assert_string_equal(outcomes[2].text, "third");
        assert_int_equal(outcomes[2].order, 1);
        assert_int_equal(outcomes[0].order, 2);
}

static void test_many(void **state) {
        Fixture *f = *state;
        const size_t n = 20000;
        _cleanup_free_ Outcome *outcomes = new0(Outcome, n);
        char text[32];

        start_server(f);
        start_client(f);
        for (size_t i = 0; i < n; i++) {
                snprintf(text, sizeof(text), "%zu", i);
                assert_int_equal(call(f, i % 2 ? &method_again : &method_once, text, 0, &outcomes[i]), 0);
                if (i % 1000 == 0)
                        assert_true(sd_event_run(f->event, 0) >= 0);
        }
        run_until(f, &n_replies_total, n);
        for (size_t i = 0; i < n; i++) {
                snprintf(text, sizeof(text), "%zu", i);
                assert_int_equal(outcomes[i].n_replies, 1);
                assert_string_equal(outcomes[i].text, text);
                assert_int_equal(outcomes[i].order, i + 1);
        }
}

static void test_large(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *payload = malloc(RPC_MAX_FRAME);
        RpcMessage message = {.payload = payload, .payload_size = RPC_MAX_PAYLOAD};
        Outcome outcome = {}, waiting[20] = {};

        memset(payload, 'p', RPC_MAX_FRAME);
        start_server(f);
        start_client(f);
        assert_int_equal(rpc_client_call(f->client, &method_once, &message, on_reply, &outcome), 0);
        message.payload_size++;
        assert_int_equal(rpc_client_call(f->client, &method_once, &message, on_reply, &outcome), -EMSGSIZE);
        run_until(f, &outcome.n_replies, 1);
        assert_int_equal(outcome.size, RPC_MAX_PAYLOAD);

        /* What is kept to be sent again has a limit too. */
        f->hold = true;
        message.payload_size = RPC_MAX_PAYLOAD;
        size_t n = 0;
        int r = 0;
        while (n < ELEMENTSOF(waiting) && r == 0)
                if ((r = rpc_client_call(f->client, &method_again, &message, on_reply, &waiting[n])) == 0)
                        n++;
        assert_int_equal(r, -ENOBUFS);
        assert_int_equal(n, RPC_MAX_KEPT / RPC_MAX_PAYLOAD);
        /* And so have those that a server has not answered: it takes no more, and loses none. */
        run_until_size(f, &f->n_held, RPC_MAX_PENDING_SIZE / RPC_MAX_PAYLOAD + 1);
        for (unsigned i = 0; i < 20; i++)
                assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
        assert_int_equal(f->n_held, RPC_MAX_PENDING_SIZE / RPC_MAX_PAYLOAD + 1);
        rpc_request_reply(f->held[0], payload, RPC_MAX_FRAME); /* does not fit */
        f->held[0] = f->held[--f->n_held];
        answer_held(f, "ok");
        run_until_size(f, &f->n_held, n - RPC_MAX_PENDING_SIZE / RPC_MAX_PAYLOAD - 1);
        answer_held(f, "ok");
        run_until(f, &n_replies_total, n + 1);
        assert_int_equal(waiting[0].code, ERROR_INTERNAL);
        assert_string_equal(waiting[n - 1].text, "ok");
        assert_int_equal(f->n_disconnects, 0);
}

static void test_pending_limit(void **state) {
        Fixture *f = *state;
        Outcome outcome = {};
        unsigned n = 0;
        int r;

        start_client(f);
        while ((r = call(f, &method_again, "", 0, &outcome)) == 0)
                n++;
        assert_int_equal(r, -ENOBUFS);
        assert_int_equal(n, RPC_MAX_PENDING);
        f->client = rpc_client_free(f->client);
        assert_int_equal(outcome.n_replies, RPC_MAX_PENDING);
        assert_int_equal(outcome.code, ERROR_UNAVAILABLE);
}

static uint64_t start_call(Fixture *f, const char *text, Outcome *outcome) {
        const RpcMessage message = {.payload = text, .payload_size = strlen(text)};
        uint64_t id = 0;

        assert_int_equal(rpc_client_start(f->client, &method_again, &message, on_reply, outcome, &id), 0);
        return id;
}

/* What is forgotten has no reply: not sent, sent, and with an answer that comes too late. */
static void test_forget(void **state) {
        Fixture *f = *state;
        Outcome forgotten = {}, other = {};

        start_client(f);
        uint64_t id = start_call(f, "unsent", &forgotten);
        rpc_client_forget(f->client, id);
        rpc_client_forget(f->client, id); /* does no harm */
        start_server(f);
        assert_int_equal(call(f, &method_again, "other", 0, &other), 0);
        run_until(f, &other.n_replies, 1);
        assert_int_equal(f->n_requests, 1);

        f->hold = true;
        id = start_call(f, "sent", &forgotten);
        assert_int_equal(call(f, &method_again, "other", 0, &other), 0);
        run_until_size(f, &f->n_held, 2);
        rpc_client_forget(f->client, id);
        answer_held(f, "late");
        run_until(f, &other.n_replies, 2);
        assert_int_equal(forgotten.n_replies, 0);
        assert_int_equal(f->n_disconnects, 0);
}

typedef struct Forgetter {
        RpcClient *client;
        uint64_t id;
        unsigned n_replies;
} Forgetter;

static void forget_other(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        Forgetter *forgetter = userdata;

        forgetter->n_replies++;
        rpc_client_forget(forgetter->client, forgetter->id);
}

/* When all fail at once, the first may forget the second. */
static void test_forget_failing(void **state) {
        Fixture *f = *state;
        RpcMessage message = {.payload = "", .payload_size = 0};
        Outcome forgotten = {};
        uint64_t id;

        start_client(f);
        Forgetter forgetter = {.client = f->client};
        assert_int_equal(
                rpc_client_start(f->client, &method_again, &message, forget_other, &forgetter, &id), 0);
        forgetter.id = start_call(f, "", &forgotten);
        f->client = rpc_client_free(f->client);
        assert_int_equal(forgetter.n_replies, 1);
        assert_int_equal(forgotten.n_replies, 0);
}

/* An intent stands in its request, also when that is sent again. */
static void test_intent(void **state) {
        Fixture *f = *state;
        Sc__Envelope__Delivery intent = SC__ENVELOPE__DELIVERY__INIT;
        RpcMessage message = {.payload = "x", .payload_size = 1, .intent = &intent};
        Outcome outcome = {}, plain = {};

        intent.source = strdup("c1");
        intent.number = 1ULL << 60;
        intent.target = strdup("#bob");
        start_server(f);
        start_client(f);
        f->hold = true;
        assert_int_equal(rpc_client_call(f->client, &method_again, &message, on_reply, &outcome), 0);
        memset(intent.source, 'x', 2);
        free(intent.source);
        free(intent.target);
        run_until_size(f, &f->n_held, 1);
        assert_string_equal(f->last_intent, "c1 1152921504606846976 #bob");
        f->last_intent[0] = 0;
        f->server = rpc_server_free(f->server);
        answer_held(f, "");
        start_server(f);
        run_until_size(f, &f->n_held, 1);
        assert_string_equal(f->last_intent, "c1 1152921504606846976 #bob");
        answer_held(f, "done");
        run_until(f, &outcome.n_replies, 1);
        assert_string_equal(outcome.text, "done");
        f->hold = false;
        assert_int_equal(call(f, &method_again, "plain", 0, &plain), 0);
        run_until(f, &plain.n_replies, 1);
        assert_string_equal(f->last_intent, "");
}

static void test_wait_for_server(void **state) {
        Fixture *f = *state;
        Outcome outcome = {}, once = {}, hopeless = {};

        start_client(f);
        assert_int_equal(call(f, &method_once, "never", 30 * USEC_PER_MSEC, &hopeless), 0);
        assert_int_equal(call(f, &method_again, "again", 0, &outcome), 0);
        assert_int_equal(call(f, &method_once, "once", 0, &once), 0);
        run_until(f, &hopeless.n_replies, 1);
        assert_int_equal(hopeless.code, ERROR_UNAVAILABLE);
        assert_false(rpc_client_is_connected(f->client));
        start_server(f);
        run_until(f, &once.n_replies, 1);
        assert_string_equal(outcome.text, "again");
        assert_string_equal(once.text, "once");
        assert_true(outcome.order < once.order);
        assert_int_equal(f->n_requests, 2);
}

static void test_timeout(void **state) {
        Fixture *f = *state;
        Outcome late = {}, longer = {}, next = {};

        f->hold = true;
        start_server(f);
        start_client(f);
        assert_int_equal(call(f, &method_again, "longer", 0, &longer), 0);
        assert_int_equal(call(f, &method_again, "late", 50 * USEC_PER_MSEC, &late), 0);
        run_until_size(f, &f->n_held, 2);
        run_until(f, &late.n_replies, 1);
        assert_int_equal(late.code, ERROR_TIMEOUT);
        assert_int_equal(longer.n_replies, 0);
        answer_held(f, "answer");
        f->hold = false;
        assert_int_equal(call(f, &method_again, "next", 0, &next), 0);
        run_until(f, &next.n_replies, 1);
        assert_int_equal(late.n_replies, 1);
        assert_string_equal(longer.text, "answer");
        assert_int_equal(f->n_disconnects, 0);
}

static void test_restart(void **state) {
        Fixture *f = *state;
        Outcome again = {}, once = {}, meanwhile = {};

        f->hold = true;
        f->call_on_connect = true;
        start_server(f);
        start_client(f);
        run_until_size(f, &f->n_held, 1);
        assert_int_equal(call(f, &method_again, "again", LONG_TIMEOUT_USEC, &again), 0);
        assert_int_equal(call(f, &method_once, "once", 0, &once), 0);
        run_until_size(f, &f->n_held, 3);
        rpc_request_reply(f->held[0], "attached", 8);
        memmove(f->held, f->held + 1, 2 * sizeof(f->held[0]));
        f->n_held = 2;
        run_until(f, &f->on_connect_outcome.n_replies, 1);

        f->server = rpc_server_free(f->server);
        run_until(f, &f->n_disconnects, 1);
        run_until(f, &once.n_replies, 1);
        assert_int_equal(once.code, ERROR_UNAVAILABLE);
        assert_int_equal(again.n_replies, 0);
        answer_held(f, "into the void"); /* requests outlive their server */
        assert_int_equal(call(f, &method_once, "meanwhile", 0, &meanwhile), 0);

        f->methods[0] = 0;
        f->hold = false;
        start_server(f);
        run_until(f, &meanwhile.n_replies, 1);
        assert_int_equal(f->n_connects, 2);
        assert_int_equal(f->on_connect_outcome.n_replies, 2);
        assert_string_equal(again.text, "again");
        assert_int_equal(again.n_replies, 1);
        assert_string_equal(meanwhile.text, "meanwhile");
        /* Whoever sets up state at the peer comes first. */
        assert_true(f->on_connect_outcome.order < again.order && again.order < meanwhile.order);
        assert_string_equal(f->methods, "test.again test.again test.once ");
}

static void on_drained(void *userdata) {
        (*(unsigned *) userdata)++;
}

/* An orderly end: what was taken is answered, what comes later goes to the next server. */
static void test_drain(void **state) {
        Fixture *f = *state;
        Outcome taken = {}, late = {};
        unsigned n_drained = 0;

        f->hold = true;
        start_server(f);
        start_client(f);
        run_until(f, &f->n_connects, 1);
        assert_int_equal(call(f, &method_again, "taken", 0, &taken), 0);
        run_until_size(f, &f->n_held, 1);
        rpc_server_drain(f->server, on_drained, &n_drained);
        assert_int_equal(n_drained, 0);
        assert_int_equal(call(f, &method_again, "late", 0, &late), 0);
        for (unsigned i = 0; i < 10; i++)
                assert_true(sd_event_run(f->event, 0) >= 0);
        assert_int_equal(f->n_requests, 1);
        answer_held(f, "answer");
        assert_int_equal(n_drained, 1);
        f->server = rpc_server_free(f->server);
        run_until(f, &taken.n_replies, 1);
        assert_string_equal(taken.text, "answer");
        run_until(f, &f->n_disconnects, 1);
        assert_int_equal(late.n_replies, 0);

        f->hold = false;
        start_server(f);
        run_until(f, &late.n_replies, 1);
        assert_string_equal(late.text, "late");
}

/* With nothing to wait for it is done at once; a peer that goes is not waited for. */
static void test_drain_without_requests(void **state) {
        Fixture *f = *state;
        Outcome outcome = {};
        unsigned n_drained = 0;

        start_server(f);
        rpc_server_drain(f->server, on_drained, &n_drained);
        assert_int_equal(n_drained, 1);
        f->server = rpc_server_free(f->server);

        f->hold = true;
        start_server(f);
        start_client(f);
        run_until(f, &f->n_connects, 1);
        assert_int_equal(call(f, &method_again, "x", 0, &outcome), 0);
        run_until_size(f, &f->n_held, 1);
        rpc_server_drain(f->server, on_drained, &n_drained);
        f->client = rpc_client_free(f->client);
        run_until(f, &n_drained, 2);
        assert_int_equal(f->n_gone, 1);
}

static void test_pushes(void **state) {
        Fixture *f = *state;
        Outcome outcome = {}, last = {};

        f->hold = true;
        start_server(f);
        start_client(f);
        assert_int_equal(call(f, &method_again, "x", 0, &outcome), 0);
        run_until_size(f, &f->n_held, 1);
        RpcConnection *connection = rpc_connection_ref(f->last_connection);
        assert_int_equal(rpc_connection_push(connection, "a", NULL, "1", 1), 0);
        answer_held(f, "");
        assert_int_equal(rpc_connection_push(connection, "b", NULL, "2", 1), 0);
        assert_int_equal(rpc_connection_push(connection, "c", NULL, "", 0), 0);
        assert_int_equal(call(f, &method_again, "x", 0, &last), 0);
        run_until_size(f, &f->n_held, 1);
        answer_held(f, "");
        run_until(f, &last.n_replies, 1);
        assert_string_equal(f->pushes, "a:1@0 b:2@1 c:@1 ");

        f->client = rpc_client_free(f->client);
        run_until(f, &f->n_gone, 1);
        assert_ptr_equal(f->gone, connection);
        assert_int_equal(rpc_connection_push(connection, "d", NULL, "", 0), -ENOTCONN);
        rpc_connection_unref(connection);
}

static void test_freeing(void **state) {
        Fixture *f = *state;
        Outcome outcomes[3] = {}, refused = {};

        f->hold = true;
        start_server(f);
        start_client(f);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(call(f, &method_again, "x", 0, &outcomes[i]), 0);
        run_until_size(f, &f->n_held, 3);
        /* From within a reply: the other two are failed before free returns. */
        outcomes[1].free_client = &f->client;
        rpc_request_reply(f->held[1], "freed", 5);
        f->held[1] = f->held[--f->n_held];
        run_until(f, &outcomes[1].n_replies, 1);
        assert_null(f->client);
        assert_int_equal(outcomes[1].code, ERROR_NONE);
        assert_int_equal(outcomes[0].n_replies + outcomes[2].n_replies, 2);
        assert_int_equal(outcomes[0].code, ERROR_UNAVAILABLE);
        answer_held(f, "nobody hears");

        /* From within a push. */
        start_client(f);
        f->free_on_push = true;
        assert_int_equal(call(f, &method_once, "x", 0, &refused), 0);
        run_until_size(f, &f->n_held, 1);
        assert_int_equal(rpc_connection_push(f->last_connection, "p", NULL, "", 0), 0);
        run_until(f, &refused.n_replies, 1);
        assert_null(f->client);
        assert_int_equal(refused.code, ERROR_UNAVAILABLE);
}

static void test_bad_addresses(void **state) {
        Fixture *f = *state;
        char too_long[200];
        RpcClient *client = NULL;

        memset(too_long, 'a', sizeof(too_long) - 1);
        too_long[sizeof(too_long) - 1] = 0;
        assert_int_equal(
                rpc_client_new(&client, f->event, &(RpcClientConfig){.address = too_long}, NULL, NULL),
                -EINVAL);
        assert_int_equal(
                rpc_client_new(&client, f->event, &(RpcClientConfig){.address = ""}, NULL, NULL), -EINVAL);
        assert_null(client);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_call),
                TEST(test_failure),
                TEST(test_any_order),
                TEST(test_many),
                TEST(test_large),
                TEST(test_pending_limit),
                TEST(test_forget),
                TEST(test_forget_failing),
                TEST(test_intent),
                TEST(test_wait_for_server),
                TEST(test_timeout),
                TEST(test_restart),
                TEST(test_drain),
                TEST(test_drain_without_requests),
                TEST(test_pushes),
                TEST(test_freeing),
                TEST(test_bad_addresses),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
