/* SPDX-License-Identifier: Apache-2.0 */

/* What a link is besides its requests: who speaks, whether the peer lives, what waits and what is taken back. */

#include "fixture.h"

#include "rpc/stream.h"

/* --- who speaks --- */

static void test_roles(void **state) {
        Fixture *f = *state;
        static const char *const names[] = {"api", "job", "", "gardener"};
        static const Role roles[] = {ROLE_API, ROLE_JOB, ROLE_NONE, ROLE_NONE};
        Sc__Envelope request = SC__ENVELOPE__INIT;

        f->hold = true;
        start_server(f);
        request.id = 1;
        request.method = (char *) "m";
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_close_ int fd = connect_unix(f->path);
                send_hello(fd, names[i]);
                send_frame(fd, &request);
                run_until_size(f, &f->n_held, 1);
                assert_int_equal(rpc_connection_role(f->last_connection), roles[i]);
                answer_held(f, "");
        }
}

static int identify_as_api(const RpcIdentity *identity, Role *ret, void *userdata) {
        assert_int_equal(identity->uid, geteuid());
        assert_null(identity->certificate_name);
        *ret = ROLE_API;
        return 0;
}

/* Whose user says who it is may not call itself something else. */
static void test_identified(void **state) {
        Fixture *f = *state;
        char byte;

        f->identify = identify_as_api;
        f->hold = true;
        start_server(f);
        _cleanup_close_ int liar = connect_unix(f->path);
        send_hello(liar, "group");
        run_until(f, &f->n_gone, 1);
        while (read(liar, &byte, 1) > 0) /* its HELLO */
                ;
        _cleanup_close_ int honest = connect_unix(f->path);
        Sc__Envelope request = SC__ENVELOPE__INIT;
        request.id = 1;
        request.method = (char *) "m";
        send_hello(honest, "api");
        send_frame(honest, &request);
        run_until_size(f, &f->n_held, 1);
        assert_int_equal(rpc_connection_role(f->last_connection), ROLE_API);
}

static void test_no_hello(void **state) {
        Fixture *f = *state;
        static const uint8_t request[] = {0, 0, 0, 5, 0x10, 1, 0x1a, 1, 'm'}; /* id 1, method "m" */

        start_server(f);
        _cleanup_close_ int fd = connect_unix(f->path);
        assert_int_equal(write(fd, request, sizeof(request)), sizeof(request));
        run_until(f, &f->n_gone, 1);
        assert_int_equal(f->n_requests, 0);
        _cleanup_close_ int twice = connect_peer(f);
        send_hello(twice, "socket");
        run_until(f, &f->n_gone, 2);
}

static void say_version(int fd, uint32_t version, uint32_t oldest) {
        Sc__Envelope__Hello hello;
        Sc__Envelope envelope = hello_make(ROLE_SOCKET, &hello);

        hello.version = version;
        hello.oldest_version = oldest;
        send_frame(fd, &envelope);
}

/* A newer release that still understands us is welcome. Of others each side says so in its journal. */
static void test_versions(void **state) {
        Fixture *f = *state;
        _cleanup_arena_ Arena arena;
        Outcome outcome = {};

        arena_init(&arena, 65536);
        start_server(f);
        _cleanup_close_ int newer = connect_unix(f->path);
        say_version(newer, RPC_VERSION + 5, RPC_VERSION);
        assert_int_equal(read_frame(f, newer, &arena)->hello->version, RPC_VERSION);
        Sc__Envelope ping = SC__ENVELOPE__INIT;
        ping.kind = SC__ENVELOPE__KIND__PING;
        send_frame(newer, &ping);
        assert_int_equal(read_frame(f, newer, &arena)->kind, SC__ENVELOPE__KIND__PONG);
        assert_int_equal(f->n_gone, 0);

        _cleanup_close_ int too_new = connect_unix(f->path);
        say_version(too_new, RPC_VERSION + 1, RPC_VERSION + 1);
        run_until(f, &f->n_gone, 1);
        assert_int_equal(
                read_frame(f, too_new, &arena)->kind, SC__ENVELOPE__KIND__HELLO); /* it can tell why */
        _cleanup_close_ int too_old = connect_unix(f->path);
        say_version(too_old, RPC_OLDEST_VERSION - 1, 0);
        run_until(f, &f->n_gone, 2);
        f->server = rpc_server_free(f->server);

        /* The client refuses such a server, and keeps what it was to send for the next one. */
        _cleanup_close_ int listener = listen_unix(f->path);
        start_client(f);
        assert_int_equal(call(f, &method_once, "x", 0, &outcome), 0);
        _cleanup_close_ int other = accept_peer(f, listener);
        say_version(other, RPC_VERSION + 1, RPC_VERSION + 1);
        _cleanup_close_ int good = accept_peer(f, listener);
        send_hello(good, "group");
        assert_int_equal(read_frame(f, good, &arena)->kind, SC__ENVELOPE__KIND__HELLO);
        assert_string_equal(read_frame(f, good, &arena)->method, "test.once");
        assert_int_equal(f->n_connects, 1);
        assert_int_equal(outcome.n_replies, 0);
        f->client = rpc_client_free(f->client);
}

/* Before the peer has said HELLO nothing is on its way, so even what must not be sent twice survives a peer that dies
 * before. */
static void test_silent_server(void **state) {
        Fixture *f = *state;
        _cleanup_arena_ Arena arena;
        Outcome once = {};

        arena_init(&arena, 65536);
        _cleanup_close_ int listener = listen_unix(f->path);
        start_client(f);
        assert_int_equal(call(f, &method_once, "x", 0, &once), 0);
        close(accept_peer(f, listener));
        _cleanup_close_ int peer = accept_peer(f, listener);
        assert_int_equal(read_frame(f, peer, &arena)->kind, SC__ENVELOPE__KIND__HELLO);
        for (unsigned i = 0; i < 5; i++)
                assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
        assert_true(recv(peer, &(char){0}, 1, MSG_DONTWAIT) < 0);
        assert_int_equal(f->n_connects, 0);
        assert_int_equal(f->n_disconnects, 0);
        send_hello(peer, "group");
        assert_string_equal(read_frame(f, peer, &arena)->method, "test.once");
        assert_int_equal(f->n_connects, 1);
        f->client = rpc_client_free(f->client);
}

/* --- life --- */

static void shorten_ticks(uint64_t usec) {
        stream_tick_usec = usec;
}

/* A silent peer is pinged, and when it stays silent it is given up. */
static void test_dead_peer(void **state) {
        Fixture *f = *state;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, 65536);
        shorten_ticks(20 * USEC_PER_MSEC);
        start_server(f);
        _cleanup_close_ int dead = connect_peer(f);
        assert_int_equal(read_frame(f, dead, &arena)->kind, SC__ENVELOPE__KIND__PING);
        run_until(f, &f->n_gone, 1);

        _cleanup_close_ _unused_ int mute = connect_unix(f->path); /* not even HELLO */
        assert_int_equal(f->n_gone, 1);
        run_until(f, &f->n_gone, 2);

        _cleanup_close_ int dripping = connect_unix(f->path); /* nor one that takes its time with it */
        static const uint8_t header[] = {0, 0, 0, 50, 0x08, 3};
        for (size_t i = 0; i < sizeof(header) && f->n_gone < 3; i++) {
                assert_int_equal(send(dripping, header + i, 1, MSG_NOSIGNAL), 1);
                assert_true(sd_event_run(f->event, 20 * USEC_PER_MSEC) >= 0);
        }
        run_until(f, &f->n_gone, 3);
        shorten_ticks(RPC_PING_USEC);
}

static void on_drained(void *userdata) {
        (*(unsigned *) userdata)++;
}

/* Two that have nothing to say keep their link, also when one of them reads no requests. */
static void test_idle_link(void **state) {
        Fixture *f = *state;
        Outcome outcome = {};
        unsigned n_drained = 0;

        shorten_ticks(5 * USEC_PER_MSEC);
        f->hold = true;
        start_server(f);
        start_client(f);
        assert_int_equal(call(f, &method_once, "x", 0, &outcome), 0);
        run_until_size(f, &f->n_held, 1);
        for (unsigned i = 0; i < 2; i++) {
                uint64_t end = boottime_usec() + 100 * USEC_PER_MSEC; /* twenty ticks: three are the end */
                while (boottime_usec() < end)
                        assert_true(sd_event_run(f->event, 5 * USEC_PER_MSEC) >= 0);
                assert_int_equal(f->n_connects, 1);
                assert_int_equal(f->n_disconnects + f->n_gone, 0);
                if (i == 0)
                        rpc_server_drain(f->server, on_drained, &n_drained);
        }
        shorten_ticks(RPC_PING_USEC);
        answer_held(f, "answer");
        run_until(f, &outcome.n_replies, 1);
        assert_string_equal(outcome.text, "answer");
}

/* A peer that speaks and does not read. */
static void test_stuck_peer(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *payload = calloc(1, 1 << 20);
        static const uint8_t request[] = {0, 0, 0, 5, 0x10, 1, 0x1a, 1, 'm'};
        Sc__Envelope pong = SC__ENVELOPE__INIT;
        uint64_t end = boottime_usec() + PATIENCE_USEC;

        shorten_ticks(20 * USEC_PER_MSEC);
        pong.kind = SC__ENVELOPE__KIND__PONG;
        f->hold = true;
        start_server(f);
        _cleanup_close_ int stuck = connect_peer(f);
        assert_int_equal(write(stuck, request, sizeof(request)), sizeof(request));
        run_until_size(f, &f->n_held, 1);
        assert_int_equal(rpc_connection_push(f->last_connection, "deliver", NULL, payload, 1 << 20), 0);
        while (f->n_gone == 0) {
                assert_true(boottime_usec() < end);
                _cleanup_buffer_ Buffer frame = {};
                assert_int_equal(frame_append(&frame, &pong), 0);
                (void) send(stuck, frame.data, frame.size, MSG_NOSIGNAL | MSG_DONTWAIT);
                assert_true(sd_event_run(f->event, 5 * USEC_PER_MSEC) >= 0);
        }
        shorten_ticks(RPC_PING_USEC);
}

/* --- taking back --- */

static uint64_t start_call(Fixture *f, const char *text, Outcome *outcome) {
        const RpcMessage message = {.payload = text, .payload_size = strlen(text)};
        uint64_t id = 0;

        assert_int_equal(rpc_client_start(f->client, &method_again, &message, on_reply, outcome, &id), 0);
        return id;
}

/* The server hears that nobody waits any more, and its answer comes to nobody. */
static void test_cancel(void **state) {
        Fixture *f = *state;
        Outcome forgotten = {}, other = {};

        f->hold = f->answer_cancelled = true;
        start_server(f);
        start_client(f);
        uint64_t id = start_call(f, "x", &forgotten);
        (void) start_call(f, "y", &other);
        run_until_size(f, &f->n_held, 2);
        RpcRequest *first = f->held[0];
        rpc_client_forget(f->client, id);
        run_until(f, &f->n_cancelled, 1);
        assert_ptr_equal(f->cancelled, first);
        answer_held(f, "ok");
        run_until(f, &other.n_replies, 1);
        assert_int_equal(forgotten.n_replies, 0);
        /* Of what was answered already, and of what it never heard of, it makes nothing. */
        _cleanup_close_ int fd = connect_peer(f);
        Sc__Envelope cancel = SC__ENVELOPE__INIT;
        cancel.kind = SC__ENVELOPE__KIND__CANCEL;
        cancel.id = 77;
        send_frame(fd, &cancel);
        (void) start_call(f, "z", &other);
        run_until_size(f, &f->n_held, 1);
        assert_int_equal(f->n_cancelled, 1);
        assert_int_equal(f->n_gone, 0);
        f->client = rpc_client_free(f->client);
}

/* A peer that goes cancels what it asked for; some of that is answered at once, some later. */
static void test_cancel_by_going(void **state) {
        Fixture *f = *state;
        Outcome outcomes[600] = {};

        f->hold = true;
        start_server(f);
        start_client(f);
        FOREACH_ARRAY(outcome, outcomes, ELEMENTSOF(outcomes))
                (void) start_call(f, "x", outcome);
        run_until_size(f, &f->n_held, ELEMENTSOF(outcomes));
        f->client = rpc_client_free(f->client);
        f->answer_cancelled = true;
        run_until(f, &f->n_gone, 1);
        assert_int_equal(f->n_cancelled, ELEMENTSOF(outcomes));
        assert_int_equal(f->n_held, 0);

        f->answer_cancelled = false;
        start_client(f);
        (void) start_call(f, "x", &outcomes[0]);
        run_until_size(f, &f->n_held, 1);
        f->client = rpc_client_free(f->client);
        run_until(f, &f->n_gone, 2);
        answer_held(f, "into the void");
}

static void test_withdraw(void **state) {
        Fixture *f = *state;
        Outcome waiting = {}, other = {}, sent = {}, only_once = {};

        start_client(f);
        uint64_t id = start_call(f, "waiting", &waiting);
        assert_true(rpc_client_withdraw(f->client, id));
        assert_false(rpc_client_withdraw(f->client, id));
        (void) start_call(f, "other", &other);
        f->hold = true;
        start_server(f);
        run_until_size(f, &f->n_held, 1);
        /* What is under way may be taken back if it may be done twice. */
        id = start_call(f, "sent", &sent);
        uint64_t once = 0;
        const RpcMessage message = {.payload = "x", .payload_size = 1};
        assert_int_equal(
                rpc_client_start(f->client, &method_once, &message, on_reply, &only_once, &once), 0);
        run_until_size(f, &f->n_held, 3);
        assert_false(rpc_client_withdraw(f->client, once));
        assert_true(rpc_client_withdraw(f->client, id));
        run_until(f, &f->n_cancelled, 1);
        answer_held(f, "ok");
        run_until(f, &only_once.n_replies, 1);
        assert_int_equal(other.n_replies, 1);
        assert_int_equal(waiting.n_replies + sent.n_replies, 0);
        assert_int_equal(f->n_requests, 3);
}

/* --- what waits --- */

/* With more on its way than a peer reads, calls wait in the client in their order, and can be taken back. */
static void test_window(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *payload = malloc(1 << 20);
        Outcome outcomes[20] = {}, cancelled = {};
        uint64_t ids[20];

        memset(payload, 'x', 1 << 20);
        start_server(f);
        start_client(f);
        run_until(f, &f->n_connects, 1);
        const RpcMessage message = {.payload = payload, .payload_size = 1 << 20};
        for (size_t i = 0; i < 20; i++)
                assert_int_equal(rpc_client_start(f->client, i % 2 ? &method_again : &method_once, &message,
                                         on_reply, i == 18 ? &cancelled : &outcomes[i], &ids[i]),
                        0);
        assert_false(rpc_client_withdraw(f->client, ids[0]));
        assert_true(rpc_client_withdraw(f->client, ids[18]));
        run_until(f, &n_replies_total, 19);
        for (unsigned i = 0; i < 18; i++) {
                assert_int_equal(outcomes[i].code, ERROR_NONE);
                assert_int_equal(outcomes[i].order, i + 1);
        }
        assert_int_equal(cancelled.n_replies, 0);
        assert_int_equal(f->n_disconnects, 0);
}

/* Large answers wait in a lane of their own: small ones and pushes pass them, and those that keep their place among
 * the pushes do, too. */
static void test_lanes(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *payload = malloc(1 << 20);
        Outcome outcomes[7] = {};

        memset(payload, 'x', 1 << 20);
        f->hold = true;
        start_server(f);
        start_client(f);
        for (size_t i = 0; i < 7; i++)
                (void) start_call(f, "x", &outcomes[i]);
        run_until_size(f, &f->n_held, 7);
        RpcConnection *connection = f->last_connection;
        for (size_t i = 0; i < 4; i++)
                rpc_request_reply(f->held[i], payload, 600 << 10);
        assert_true(rpc_connection_is_congested(connection));
        assert_int_equal(rpc_connection_push(connection, "a", NULL, "1", 1), 0);
        rpc_request_keep_order(f->held[4]);
        rpc_request_reply(f->held[4], payload, 100 << 10);
        assert_int_equal(rpc_connection_push(connection, "b", NULL, "2", 1), 0);
        rpc_request_reply(f->held[5], "small", 5);
        rpc_request_fail(f->held[6], ERROR_NOT_FOUND, "");
        f->n_held = 0;
        run_until(f, &n_replies_total, 7);
        assert_string_equal(f->pushes, "a:1@0 b:2@1 ");
        assert_int_equal(outcomes[4].order, 1);
        assert_int_equal(outcomes[5].order, 2);
        assert_int_equal(outcomes[6].order, 3);
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(outcomes[i].order, 4 + i);
        assert_int_equal(f->n_rooms, 1);
        assert_false(rpc_connection_is_congested(connection));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_roles),
                TEST(test_identified),
                TEST(test_no_hello),
                TEST(test_versions),
                TEST(test_silent_server),
                TEST(test_dead_peer),
                TEST(test_idle_link),
                TEST(test_stuck_peer),
                TEST(test_cancel),
                TEST(test_cancel_by_going),
                TEST(test_withdraw),
                TEST(test_window),
                TEST(test_lanes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
