/* SPDX-License-Identifier: Apache-2.0 */

/* How connections end: limits, deadlines, kicks, draining, foreign origins. And what is counted meanwhile.
 */

#include "fixture.h"

#include "schema-tables.h"
#include "util/string-util.h"

/* --- limits --- */

static void test_rate_limit(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        fake_process->conf->limits_user_rate = 1;
        fake_process->conf->limits_user_burst = 3;
        for (unsigned i = 2; i < 5; i++) {
                client_say(a, "{'id':%u,'ping':{}}", i);
                assert_hears(a, "{'id':%u,'ping':{}}", i);
        }
        client_say(a, "{'id':5,'ping':{}}");
        assert_error(a, 5, 111, "rate_limited");
        client_say(a, "{'id':6,'publish':{}}"); /* what is wrong anyway counts as well */
        assert_error(a, 6, 111, "rate_limited");
        for (unsigned i = 0; i < CONNECTION_MAX_REFUSED && client_close_code(a) == 0; i++) {
                client_say(a, "{'id':7,'ping':{}}");
                while (client_hear(a))
                        ;
        }
        assert_closed(a, 3013);
}

/* A frame holds ten thousands of these. */
static void test_pongs_that_nobody_asked_for(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        fake_process->conf->limits_user_rate = 1;
        fake_process->conf->limits_user_burst = 3;
        for (unsigned i = 0; i < 3 + CONNECTION_MAX_REFUSED; i++)
                client_say(a, "{}");
        assert_hears_nothing(a);
        assert_closed(a, 0);
        client_say(a, "{}");
        assert_closed(a, 3013);
}

static void test_pending_limit(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        for (unsigned i = 0; i < CONNECTION_MAX_PENDING; i++)
                client_say(a, "{'id':%u,'rpc':{'method':'user.me'}}", i + 2);
        assert_hears_nothing(a);
        client_say(a, "{'id':100,'rpc':{'method':'user.me'}}");
        assert_error(a, 100, 111, "rate_limited");
        call_fail(next_call("user.me"), ERROR_TIMEOUT, "%s", "");
        assert_error(a, 2, 1004, "timeout");
        client_say(a, "{'id':101,'rpc':{'method':'user.me'}}");
        assert_hears_nothing(a);
}

static void test_slow_reader(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_set_queued(a, fake_process->conf->socket_max_queue - 10);
        ((Connection *) websocket_get_userdata(a))->allowance = 0;
        push_message("c1", 1);
        assert_closed(a, 3008);
        assert_int_equal(fake_role->statistics.slow, 1);
        assert_null(channel_find(fake_role, "c1"));
}

/* --- time --- */

static void pass(uint32_t seconds) {
        timer_wheel_advance(&fake_role->timer_wheel, fake_role->timer_wheel.now + seconds);
}

static void test_handshake_deadline(void **state) {
        WebSocket *a = client_open();

        fake_process->conf->socket_handshake_timeout_usec = 10000000;
        pass(5);
        assert_closed(a, 0);
        pass(6);
        assert_closed(a, 3502);
}

static void test_ping_and_pong(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        for (unsigned i = 0; i < 3; i++) {
                pass(26);
                assert_hears(a, "{}");
                assert_hears_nothing(a);
                client_say(a, "{}");
        }
        assert_closed(a, 0);
        pass(26);
        assert_hears(a, "{}");
        pass(9);
        assert_closed(a, 0);
        client_say(a, "{'id':2,'ping':{}}"); /* is no pong */
        pass(2);
        assert_closed(a, 3012);
}

static void test_expiry(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 3600),
                            *short_lived = make_token("ann", "s1", 5);
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_say(a, "{'id':2,'refresh':{'token':'%s'}}", short_lived);
        answer_check(true);
        fake_process->conf->socket_pong_timeout_usec = 600000000;
        pass(5 + CONNECTION_EXPIRY_GRACE - 2);
        assert_closed(a, 0);
        client_say(a, "{'id':3,'refresh':{'token':'%s'}}", token); /* just in time */
        answer_check(true);
        pass(100);
        assert_closed(a, 0);
        client_say(a, "{'id':4,'refresh':{'token':'%s'}}", short_lived);
        answer_check(true);
        /* wheel time ran ahead of the clock that tokens are counted by */
        ((Connection *) websocket_get_userdata(a))->expires_at = fake_role->timer_wheel.now + 5;
        connection_arm(websocket_get_userdata(a));
        pass(5 + CONNECTION_EXPIRY_GRACE + 1);
        assert_closed(a, 3005);
}

/* --- kick, drain, origins --- */

static void test_kick(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0), *b = client_connected("ann", "s2", "c1", 0),
                  *c = client_connected("bo", "s3", "c1", 0);

        push_kick("ann", "s1");
        assert_closed(a, 3500);
        assert_closed(b, 0);
        push_kick("ann", "");
        assert_closed(b, 3500);
        assert_closed(c, 0);
        push_kick("nobody", "");
}

static void test_kick_while_connecting(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);

        client_connected("bo", "s2", "c1", 0); /* somebody has to hear pushes */
        WebSocket *a = client_open();
        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        push_kick("ann", "s1");
        assert_closed(a, 3500);
        answer_check(true);
        assert_null(next_request());
}

static void test_drain(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0), *b = client_open();

        socket_role_drain(fake_role);
        assert_closed(a, 3001);
        assert_closed(b, 3001);
        assert_int_equal(n_stopped, 0);
        client_say(a, "{'id':2,'ping':{}}");
        assert_hears_nothing(a);
}

static void test_drain_without_clients(void **state) {
        socket_role_drain(fake_role);
        assert_int_equal(n_stopped, 1);
}

static void test_origins(void **state) {
        assert_true(origin_is_allowed(NULL, "chat.example", ""));
        assert_true(origin_is_allowed("https://chat.example", "chat.example", ""));
        assert_true(origin_is_allowed("http://chat.example:8090", "Chat.example:8090", ""));
        assert_false(origin_is_allowed("https://evil.example", "chat.example", ""));
        assert_false(origin_is_allowed("https://chat.example:1", "chat.example", ""));
        assert_false(origin_is_allowed("https://chat.example.evil", "chat.example", ""));
        assert_false(origin_is_allowed("null", "null", ""));
        assert_false(origin_is_allowed("https://chat.example", NULL, ""));
        assert_true(origin_is_allowed("https://a.example", "b", "https://a.example https://c.example"));
        assert_false(origin_is_allowed("https://b", "b", "https://a.example"));
        assert_false(origin_is_allowed("a.example", "b", "https://a.example"));
        assert_true(origin_is_allowed("null", "b", "*"));
}

static void test_statistics(void **state) {
        BusStatistic statistics[16];

        client_connected("ann", "s1", "c1", 0);
        client_open();
        size_t n = socket_role_statistics(fake_role, statistics, ELEMENTSOF(statistics));
        assert_in_range(n, 12, ELEMENTSOF(statistics));
        assert_string_equal(statistics[0].name, "connections");
        assert_int_equal(statistics[0].value, 2);
        assert_int_equal(statistics[1].value, 1);
        assert_int_equal(socket_role_statistics(fake_role, statistics, 3), 3);
        assert_string_equal(socket_role_status(fake_role),
                "2 connections of 1 users, 1 conversations; 1 of 1 group primaries reached");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                T(test_rate_limit),
                T(test_pongs_that_nobody_asked_for),
                T(test_pending_limit),
                T(test_slow_reader),
                T(test_handshake_deadline),
                T(test_ping_and_pong),
                T(test_expiry),
                T(test_kick),
                T(test_kick_while_connecting),
                T(test_drain),
                T(test_drain_without_clients),
                T(test_origins),
                T(test_statistics),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
