/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <inttypes.h>
#include <poll.h>

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

int accept_peer(Fixture *f, int listener) {
        struct pollfd waiting = {.fd = listener, .events = POLLIN};
        uint64_t end = boottime_usec() + PATIENCE_USEC;

        while (poll(&waiting, 1, 0) == 0) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(f->event, 10 * USEC_PER_MSEC) >= 0);
        }
        int fd = accept(listener, NULL, NULL);
        assert_true(fd >= 0);
        return fd;
}

void send_frame(int fd, const Sc__Envelope *envelope) {
        _cleanup_buffer_ Buffer frame = {};

        assert_int_equal(frame_append(&frame, envelope), 0);
        assert_int_equal(write(fd, frame.data, frame.size), frame.size);
}

void send_hello(int fd, const char *role) {
        Sc__Envelope__Hello hello;
        Sc__Envelope envelope = hello_make(ROLE_SOCKET, &hello);

        hello.role = (char *) role;
        send_frame(fd, &envelope);
}

static void receive(Fixture *f, int fd, uint8_t *data, size_t size) {
        uint64_t end = boottime_usec() + PATIENCE_USEC;

        for (size_t done = 0; done < size;) {
                ssize_t n = recv(fd, data + done, size - done, MSG_DONTWAIT);
                assert_true(n > 0 || (n < 0 && errno == EAGAIN));
                done += n > 0 ? (size_t) n : 0;
                if (n < 0)
                        assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
                assert_true(boottime_usec() < end);
        }
}

Sc__Envelope *read_frame(Fixture *f, int fd, Arena *arena) {
        uint8_t header[FRAME_HEADER_SIZE];
        Sc__Envelope *envelope = NULL;

        receive(f, fd, header, sizeof(header));
        size_t size =
                (size_t) header[0] << 24 | (size_t) header[1] << 16 | (size_t) header[2] << 8 | header[3];
        uint8_t *data = arena_alloc(arena, size);
        assert_non_null(data);
        receive(f, fd, data, size);
        assert_int_equal(frame_unpack(arena, data, size, &envelope), 0);
        return envelope;
}

int connect_peer(Fixture *f) {
        _cleanup_arena_ Arena arena;
        int fd = connect_unix(f->path);

        arena_init(&arena, 65536);
        send_hello(fd, "socket");
        assert_int_equal(read_frame(f, fd, &arena)->kind, SC__ENVELOPE__KIND__HELLO);
        return fd;
}

static void on_cancel(RpcRequest *request, void *userdata) {
        Fixture *f = userdata;

        f->n_cancelled++;
        f->cancelled = request;
        for (size_t i = 0; f->answer_cancelled && i < f->n_held; i++)
                if (f->held[i] == request) {
                        f->held[i] = f->held[--f->n_held];
                        rpc_request_fail(request, ERROR_UNAVAILABLE, "cancelled");
                }
}

static void on_room(RpcConnection *connection, void *userdata) {
        Fixture *f = userdata;
        f->n_rooms++;
}

void start_server_on(Fixture *f, int listener) {
        const RpcServerHandlers handlers = {
                .identify = f->identify,
                .on_request = on_request,
                .on_cancel = on_cancel,
                .on_room = on_room,
                .on_disconnect = on_gone,
        };
        assert_int_equal(rpc_server_new(&f->server, f->event, listener, ROLE_GROUP, &handlers, f), 0);
}

void start_server(Fixture *f) {
        start_server_on(f, listen_unix(f->path));
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

void start_client_to(Fixture *f, const RpcClientConfig *config) {
        static const RpcClientHandlers handlers = {
                .on_push = on_push, .on_connect = on_connect, .on_disconnect = on_disconnect};
        assert_int_equal(rpc_client_new(&f->client, f->event, config, &handlers, f), 0);
}

void start_client(Fixture *f) {
        start_client_to(
                f, &(RpcClientConfig){
                           .address = f->path, .timeout_usec = LONG_TIMEOUT_USEC, .role = ROLE_SOCKET});
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
