/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <inttypes.h>

const MethodInfo method_again = {.name = "test.again", .idempotent = true};
const MethodInfo method_once = {.name = "test.once"};

unsigned n_replies_total;

void on_reply(Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
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
void run_until(Fixture *f, const unsigned *counter, unsigned n) {
        uint64_t end = boottime_usec() + PATIENCE_USEC;

        while (*counter < n) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

void run_until_size(Fixture *f, const size_t *counter, size_t n) {
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
        f->last_intent[0] = 0;
        if (message->intent)
                snprintf(f->last_intent, sizeof(f->last_intent), "%s %" PRIu64 " %s",
                        message->intent->source, message->intent->number, message->intent->target);
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

int listen_unix(const char *path) {
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

int connect_unix(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, path);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

void start_server(Fixture *f) {
        static const RpcServerHandlers handlers = {.on_request = on_request, .on_disconnect = on_gone};
        assert_int_equal(rpc_server_new(&f->server, f->event, listen_unix(f->path), &handlers, f), 0);
}

void answer_held(Fixture *f, const char *text) {
        for (size_t i = 0; i < f->n_held; i++)
                rpc_request_reply(f->held[i], text, strlen(text));
        f->n_held = 0;
}

/* --- the client's side --- */

int call(Fixture *f, const MethodInfo *method, const char *text, uint64_t timeout, Outcome *outcome) {
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

void start_client(Fixture *f) {
        static const RpcClientHandlers handlers = {
                .on_push = on_push, .on_connect = on_connect, .on_disconnect = on_disconnect};
        const RpcClientConfig config = {
                .address = f->path, .timeout_usec = LONG_TIMEOUT_USEC, .role = ROLE_SOCKET};
        assert_int_equal(rpc_client_new(&f->client, f->event, &config, &handlers, f), 0);
}

int set_up(void **state) {
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

int tear_down(void **state) {
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
