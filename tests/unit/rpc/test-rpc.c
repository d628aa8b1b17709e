/* SPDX-License-Identifier: Apache-2.0 */

/* Client and server against each other, and each against a raw socket that misbehaves. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "log/log.h"
#include "rpc/frame.h"
#include "rpc/rpc.h"
#include "schema-tables.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define PATIENCE_USEC (20 * USEC_PER_SEC) /* a test that waits longer hangs */
#define LONG_TIMEOUT_USEC (15 * USEC_PER_SEC)
#define MAX_HELD 70000

static const MethodInfo method_again = {.name = "test.again", .idempotent = true};
static const MethodInfo method_once = {.name = "test.once"};

typedef struct Outcome {
        unsigned n_replies;
        Sc__ErrorCode code;
        char text[64]; /* payload or detail */
        size_t size;
        unsigned order; /* of all replies */
        RpcClient **free_client; /* from within the reply */
} Outcome;

typedef struct Fixture {
        sd_event *event;
        char directory[64], path[80];
        RpcServer *server;
        RpcClient *client;
        /* what the server does with requests */
        bool hold;
        RpcRequest **held;
        size_t n_held, n_requests;
        char methods[256]; /* of the requests, in order, a space behind each */
        RpcMessage last; /* scalars only */
        Trace last_trace;
        char last_user[64];
        RpcConnection *last_connection, *gone;
        unsigned n_gone;
        /* what the client heard */
        unsigned n_connects, n_disconnects, n_replies;
        char pushes[256];
        bool call_on_connect, free_on_push;
        Outcome on_connect_outcome;
        /* for n_until() */
        const unsigned *counter;
} Fixture;

static unsigned n_replies_total;

static void on_reply(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        Outcome *outcome = userdata;

        outcome->n_replies++;
        outcome->code = code;
        outcome->order = ++n_replies_total;
        if (code == ERROR_NONE) {
                assert_non_null(payload);
                outcome->size = size;
                snprintf(outcome->text, sizeof(outcome->text), "%.*s", (int) MIN(size, (size_t) 60),
                        (const char *) payload);
        } else {
                assert_null(payload);
                snprintf(outcome->text, sizeof(outcome->text), "%s", detail);
        }
        if (outcome->free_client)
                *outcome->free_client = rpc_client_free(*outcome->free_client);
}

/* Runs the loop until *counter reaches n. */
static void run_until(Fixture *f, const unsigned *counter, unsigned n) {
        uint64_t end = boottime_usec() + PATIENCE_USEC;

        while (*counter < n) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

static void run_until_size(Fixture *f, const size_t *counter, size_t n) {
        uint64_t end = boottime_usec() + PATIENCE_USEC;

        while (*counter < n) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

/* --- the server's side --- */

static void on_request(RpcRequest *request, const RpcMessage *message, void *userdata) {
        Fixture *f = userdata;
        size_t length = strlen(f->methods);

        f->n_requests++;
        snprintf(f->methods + length, sizeof(f->methods) - length, "%s ", message->method);
        f->last = *message;
        f->last_connection = rpc_request_connection(request);
        if (message->trace)
                f->last_trace = *message->trace;
        snprintf(f->last_user, sizeof(f->last_user), "%s",
                message->caller ? message->caller->user : "(none)");
        if (f->hold) {
                assert_true(f->n_held < MAX_HELD);
                f->held[f->n_held++] = request;
        } else
                rpc_request_reply(request, message->payload, message->payload_size);
}

static void on_gone(RpcConnection *connection, void *userdata) {
        Fixture *f = userdata;

        f->n_gone++;
        f->gone = connection;
}

static int listen_unix(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, path);
        (void) unlink(path);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(chmod(path, 0666), 0);
        assert_int_equal(listen(fd, 64), 0);
        return fd;
}

static int connect_unix(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, path);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

static void start_server(Fixture *f) {
        static const RpcServerHandlers handlers = {.on_request = on_request, .on_disconnect = on_gone};
        assert_int_equal(rpc_server_new(&f->server, f->event, listen_unix(f->path), &handlers, f), 0);
}

static void answer_held(Fixture *f, const char *text) {
        for (size_t i = 0; i < f->n_held; i++)
                rpc_request_reply(f->held[i], text, strlen(text));
        f->n_held = 0;
}

/* --- the client's side --- */

static int call(Fixture *f, const MethodInfo *method, const char *text, uint64_t timeout, Outcome *outcome) {
        const RpcMessage message = {.payload = text, .payload_size = strlen(text), .timeout_usec = timeout};
        return rpc_client_call(f->client, method, &message, on_reply, outcome);
}

static void on_push(const RpcMessage *message, void *userdata) {
        Fixture *f = userdata;
        size_t length = strlen(f->pushes);

        snprintf(f->pushes + length, sizeof(f->pushes) - length, "%s:%.*s@%u ", message->method,
                (int) message->payload_size, (const char *) message->payload, n_replies_total);
        if (f->free_on_push)
                f->client = rpc_client_free(f->client);
}

static void on_connect(void *userdata) {
        Fixture *f = userdata;

        f->n_connects++;
        if (f->call_on_connect)
                assert_int_equal(call(f, &method_again, "attach", 0, &f->on_connect_outcome), 0);
}

static void on_disconnect(void *userdata) {
        Fixture *f = userdata;
        f->n_disconnects++;
}

static void start_client(Fixture *f) {
        static const RpcClientHandlers handlers = {
                .on_push = on_push, .on_connect = on_connect, .on_disconnect = on_disconnect};
        assert_int_equal(rpc_client_new(&f->client, f->event, f->path, LONG_TIMEOUT_USEC, &handlers, f), 0);
}

static int set_up(void **state) {
        Fixture *f = new0(Fixture, 1);

        assert_true(sd_event_new(&f->event) >= 0);
        f->held = new0(RpcRequest *, MAX_HELD);
        strcpy(f->directory, "/tmp/test-rpc-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        assert_int_equal(chmod(f->directory, 0755), 0);
        snprintf(f->path, sizeof(f->path), "%s/socket", f->directory);
        n_replies_total = 0;
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        rpc_client_free(f->client);
        answer_held(f, "");
        rpc_server_free(f->server);
        answer_held(f, "");
        sd_event_unref(f->event);
        unlink(f->path);
        rmdir(f->directory);
        free(f->held);
        free(f);
        return 0;
}

/* --- tests --- */

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
        assert_int_equal(n, RPC_MAX_QUEUE / RPC_MAX_PAYLOAD);
        run_until_size(f, &f->n_held, n);
        rpc_request_reply(f->held[0], payload, RPC_MAX_FRAME); /* does not fit */
        f->held[0] = f->held[--f->n_held];
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

/* A peer that does not read is let go, and the others do not notice. */
static void test_slow_reader(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *payload = calloc(1, 1 << 20);
        Outcome outcome = {};
        int r = 0;

        f->hold = true;
        start_server(f);
        _cleanup_close_ int slow = connect_unix(f->path);
        static const uint8_t request[] = {0, 0, 0, 5, 0x10, 1, 0x1a, 1, 'm'}; /* id 1, method "m" */
        assert_int_equal(write(slow, request, sizeof(request)), sizeof(request));
        run_until_size(f, &f->n_held, 1);
        RpcConnection *connection = rpc_connection_ref(f->last_connection);
        unsigned n = 0;
        for (; n < 100 && r == 0; n++)
                r = rpc_connection_push(connection, "deliver", NULL, payload, 1 << 20);
        assert_int_equal(r, -ENOBUFS);
        assert_true(n > 60);
        assert_int_equal(f->n_gone, 0); /* not from within */
        assert_int_equal(rpc_connection_push(connection, "deliver", NULL, "", 0), -ENOTCONN);
        start_client(f);
        run_until(f, &f->n_gone, 1);
        rpc_connection_unref(connection);
        answer_held(f, "");
        f->hold = false;
        assert_int_equal(call(f, &method_once, "x", 0, &outcome), 0);
        run_until(f, &outcome.n_replies, 1);
        assert_int_equal(outcome.code, ERROR_NONE);
}

static void expect_closed(Fixture *f, const void *data, size_t size) {
        unsigned before = f->n_gone;
        char byte;

        int fd = connect_unix(f->path);
        assert_int_equal(write(fd, data, size), size);
        run_until(f, &f->n_gone, before + 1);
        assert_true(read(fd, &byte, 1) <= 0);
        close(fd);
}

static void test_malformed(void **state) {
        Fixture *f = *state;
        static const uint8_t too_long[] = {0, 0x40, 0, 1}, empty[] = {0, 0, 0, 0},
                             garbage[] = {0, 0, 0, 3, 0xff, 0xff, 0xff}, no_method[] = {0, 0, 0, 2, 0x10, 1},
                             response[] = {0, 0, 0, 4, 0x08, 1, 0x10, 1},
                             push[] = {0, 0, 0, 5, 0x08, 2, 0x1a, 1, 'm'},
                             unknown_kind[] = {0, 0, 0, 7, 0x08, 9, 0x10, 1, 0x1a, 1, 'm'};
        static const uint8_t good[] = {0, 0, 0, 5, 0x10, 1, 0x1a, 1, 'm'};
        uint8_t answer[64];

        start_server(f);
        expect_closed(f, too_long, sizeof(too_long));
        expect_closed(f, empty, sizeof(empty));
        expect_closed(f, garbage, sizeof(garbage));
        expect_closed(f, no_method, sizeof(no_method));
        expect_closed(f, response, sizeof(response));
        expect_closed(f, push, sizeof(push));
        expect_closed(f, unknown_kind, sizeof(unknown_kind));
        assert_int_equal(f->n_requests, 0);

        /* One byte at a time is slow, but well-formed. */
        _cleanup_close_ int fd = connect_unix(f->path);
        FOREACH_ARRAY(byte, good, sizeof(good)) {
                assert_int_equal(write(fd, byte, 1), 1);
                for (unsigned i = 0; i < 4; i++)
                        assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
        }
        run_until_size(f, &f->n_requests, 1);
        assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
        static const uint8_t expected[] = {0, 0, 0, 4, 0x08, 1, 0x10, 1};
        assert_int_equal(read(fd, answer, sizeof(answer)), sizeof(expected));
        assert_memory_equal(answer, expected, sizeof(expected));
}

static void test_too_many_requests(void **state) {
        Fixture *f = *state;
        static const uint8_t request[] = {0, 0, 0, 5, 0x10, 1, 0x1a, 1, 'm'};
        uint8_t answer[128];
        const uint8_t *data;
        size_t size;
        _cleanup_arena_ Arena arena;
        Sc__Envelope *envelope;

        f->hold = true;
        start_server(f);
        _cleanup_close_ int fd = connect_unix(f->path);
        for (size_t sent = 0; sent < RPC_MAX_PENDING + 1; sent += MIN(1024U, RPC_MAX_PENDING + 1 - sent)) {
                uint8_t batch[1024 * sizeof(request)];
                size_t n = MIN(1024U, RPC_MAX_PENDING + 1 - sent);
                for (size_t i = 0; i < n; i++)
                        memcpy(batch + i * sizeof(request), request, sizeof(request));
                assert_int_equal(write(fd, batch, n * sizeof(request)), n * sizeof(request));
                run_until_size(f, &f->n_held, MIN(sent + n, (size_t) RPC_MAX_PENDING));
        }
        run_until_size(f, &f->n_held, RPC_MAX_PENDING);
        for (unsigned i = 0; i < 4; i++)
                assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
        assert_int_equal(f->n_held, RPC_MAX_PENDING);
        ssize_t n = read(fd, answer, sizeof(answer));
        assert_true(n > 0);
        assert_int_equal(frame_find(answer, (size_t) n, &data, &size), 1);
        arena_init(&arena, 4096);
        assert_int_equal(frame_unpack(&arena, data, size, &envelope), 0);
        assert_int_equal(envelope->error, ERROR_OVERLOADED);
}

/* A server that answers what nobody asked is left, and found again. */
static void test_lying_server(void **state) {
        Fixture *f = *state;
        static const uint8_t made_up[] = {0, 0, 0, 5, 0x08, 1, 0x10, 0xe7, 0x07}; /* response to 999 */
        Outcome once = {};
        char buffer[256];

        _cleanup_close_ int listener = listen_unix(f->path);
        start_client(f);
        assert_int_equal(call(f, &method_once, "x", 0, &once), 0);
        run_until(f, &f->n_connects, 1);
        _cleanup_close_ int peer = accept(listener, NULL, NULL);
        while (recv(peer, buffer, sizeof(buffer), MSG_DONTWAIT) <= 0)
                assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
        assert_int_equal(write(peer, made_up, sizeof(made_up)), sizeof(made_up));
        run_until(f, &f->n_disconnects, 1);
        assert_int_equal(once.code, ERROR_UNAVAILABLE);
        run_until(f, &f->n_connects, 2);
}

static void test_foreign_user(void **state) {
        Fixture *f = *state;
        int status;

        if (geteuid() != 0)
                skip();
        start_server(f);
        pid_t child = fork();
        if (child == 0) {
                struct sockaddr_un address = {.sun_family = AF_UNIX};
                char byte;
                strcpy(address.sun_path, f->path);
                int fd = socket(AF_UNIX, SOCK_STREAM, 0);
                if (setuid(65534) < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                        _exit(2);
                _exit(read(fd, &byte, 1) <= 0 ? 0 : 1); /* closed without a word */
        }
        assert_true(child > 0);
        uint64_t end = boottime_usec() + PATIENCE_USEC;
        while (waitpid(child, &status, WNOHANG) == 0) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(f->event, 10 * USEC_PER_MSEC) >= 0);
                assert_int_equal(rpc_server_n_connections(f->server), 0);
        }
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_int_equal(f->n_gone, 0);
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
        assert_int_equal(rpc_client_new(&client, f->event, too_long, 1, NULL, NULL), -EINVAL);
        assert_int_equal(rpc_client_new(&client, f->event, "", 1, NULL, NULL), -EINVAL);
        assert_null(client);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_call),
                TEST(test_failure),
                TEST(test_any_order),
                TEST(test_many),
                TEST(test_large),
                TEST(test_pending_limit),
                TEST(test_wait_for_server),
                TEST(test_timeout),
                TEST(test_restart),
                TEST(test_drain),
                TEST(test_drain_without_requests),
                TEST(test_pushes),
                TEST(test_slow_reader),
                TEST(test_malformed),
                TEST(test_too_many_requests),
                TEST(test_lying_server),
                TEST(test_foreign_user),
                TEST(test_freeing),
                TEST(test_bad_addresses),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
