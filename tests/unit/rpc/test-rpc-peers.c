/* SPDX-License-Identifier: Apache-2.0 */

/* Client and server each against a raw socket that misbehaves. */

#include "fixture.h"

/* A peer that does not read is let go, and the others do not notice. */
static void test_slow_reader(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *payload = calloc(1, 1 << 20);
        Outcome outcome = {};
        int r = 0;

        f->hold = true;
        start_server(f);
        _cleanup_close_ int slow = connect_peer(f);
        static const uint8_t request[] = {0, 0, 0, 5, 0x10, 1, 0x1a, 1, 'm'}; /* id 1, method "m" */
        assert_int_equal(write(slow, request, sizeof(request)), sizeof(request));
        run_until_size(f, &f->n_held, 1);
        RpcConnection *connection = rpc_connection_ref(f->last_connection);
        unsigned n = 0;
        for (; n < 400 && r == 0; n++)
                r = rpc_connection_push(connection, "deliver", NULL, payload, 1 << 20);
        assert_int_equal(r, -ENOBUFS);
        assert_true(n > 250);
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

        int fd = connect_peer(f);
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
        _cleanup_close_ int fd = connect_peer(f);
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
        _cleanup_arena_ Arena arena;

        f->hold = true;
        start_server(f);
        _cleanup_close_ int fd = connect_peer(f);
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
        f->hold = false;
        answer_held(f, "ok");
        run_until_size(f, &f->n_requests, RPC_MAX_PENDING + 1);
        arena_init(&arena, 4096);
        assert_int_equal(read_frame(f, fd, &arena)->kind, SC__ENVELOPE__KIND__RESPONSE);
}

/* A server that answers what nobody asked is left, and found again. */
static void test_lying_server(void **state) {
        Fixture *f = *state;
        static const uint8_t made_up[] = {0, 0, 0, 5, 0x08, 1, 0x10, 0xe7, 0x07}; /* response to 999 */
        Outcome once = {};
        _cleanup_arena_ Arena arena;

        _cleanup_close_ int listener = listen_unix(f->path);
        start_client(f);
        assert_int_equal(call(f, &method_once, "x", 0, &once), 0);
        _cleanup_close_ int peer = accept_peer(f, listener);
        send_hello(peer, "group");
        run_until(f, &f->n_connects, 1);
        arena_init(&arena, 65536);
        assert_int_equal(read_frame(f, peer, &arena)->kind, SC__ENVELOPE__KIND__HELLO);
        assert_string_equal(read_frame(f, peer, &arena)->method, "test.once");
        assert_int_equal(write(peer, made_up, sizeof(made_up)), sizeof(made_up));
        run_until(f, &f->n_disconnects, 1);
        assert_int_equal(once.code, ERROR_UNAVAILABLE);
        safe_close(peer);
        peer = accept_peer(f, listener);
        send_hello(peer, "group");
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

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_slow_reader),
                TEST(test_malformed),
                TEST(test_too_many_requests),
                TEST(test_lying_server),
                TEST(test_foreign_user),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
