/* SPDX-License-Identifier: Apache-2.0 */

/* Plain sockets. */

#include "fixture.h"

static void test_exchange(void **state) {
        Pair pair;
        static uint8_t data[1 << 20];

        for (Between between = BETWEEN_NOTHING; between <= BETWEEN_TCP; between++) {
                pair_open(&pair, between, NULL, NULL);
                assert_false(transport_is_tls(pair.client));
                assert_true(transport_is_established(pair.client));
                assert_int_equal(transport_handshake(pair.client), 0);
                memset(data, 'x', sizeof(data));
                exchange(&pair, pair.client, pair.server, 0, data, sizeof(data));
                exchange(&pair, pair.server, pair.client, 0, data, 5);
                assert_false(transport_has_pending(pair.client));
                assert_null(transport_peer_name(pair.client));
                pair_close(&pair);
        }
}

static void test_parts(void **state) {
        const struct iovec parts[] = {{(char *) "ab", 2}, {NULL, 0}, {(char *) "cde", 3}};
        Pair pair;
        char got[8] = "";

        pair_open(&pair, BETWEEN_NOTHING, NULL, NULL);
        assert_int_equal(transport_writev(pair.client, parts, ELEMENTSOF(parts)), 5);
        assert_int_equal(transport_read(pair.server, got, sizeof(got)), 5);
        assert_string_equal(got, "abcde");
        pair_close(&pair);
}

static void test_events(void **state) {
        Pair pair;

        pair_open(&pair, BETWEEN_NOTHING, NULL, NULL);
        assert_int_equal(transport_events(pair.client, true, false), EPOLLIN);
        assert_int_equal(transport_events(pair.client, false, true), EPOLLOUT);
        assert_int_equal(transport_events(pair.client, true, true), EPOLLIN | EPOLLOUT);
        assert_int_equal(transport_events(pair.client, false, false), 0);
        pair_close(&pair);
}

/* Each direction ends by itself. */
static void test_ends(void **state) {
        Pair pair;
        char byte;

        pair_open(&pair, BETWEEN_NOTHING, NULL, NULL);
        assert_int_equal(transport_read(pair.server, &byte, 1), -EAGAIN);
        assert_int_equal(transport_write(pair.client, "x", 1), 1);
        assert_int_equal(transport_shutdown(pair.client), 0);
        assert_int_equal(transport_read(pair.server, &byte, 1), 1);
        assert_int_equal(transport_read(pair.server, &byte, 1), 0);
        assert_int_equal(transport_write(pair.server, "y", 1), 1);
        assert_int_equal(transport_read(pair.client, &byte, 1), 1);
        assert_int_equal(byte, 'y');

        pair.client = transport_free(pair.client);
        assert_int_equal(transport_write(pair.server, "z", 1), -ECONNRESET); /* and no SIGPIPE */
        assert_int_equal(transport_read(pair.server, &byte, 1), -ECONNRESET); /* for good */
        assert_string_equal(transport_error_text(pair.server), "Connection reset by peer");
        pair_close(&pair);
}

static void test_full(void **state) {
        static uint8_t data[65536];
        Pair pair;
        ssize_t n;

        pair_open(&pair, BETWEEN_NOTHING, NULL, NULL);
        while ((n = transport_write(pair.client, data, sizeof(data))) > 0)
                ;
        assert_int_equal(n, -EAGAIN);
        assert_true(transport_read(pair.server, data, sizeof(data)) > 0);
        while ((n = transport_read(pair.server, data, sizeof(data))) > 0)
                ;
        assert_true(transport_write(pair.client, data, sizeof(data)) > 0);
        pair_close(&pair);
}

static void test_peer_uid(void **state) {
        Pair pair;
        uid_t uid = 12345;

        pair_open(&pair, BETWEEN_NOTHING, NULL, NULL);
        assert_int_equal(transport_peer_uid(pair.client, &uid), 0);
        assert_int_equal(uid, geteuid());
        pair_close(&pair);
        pair_open(&pair, BETWEEN_TCP, NULL, NULL);
        assert_int_equal(transport_peer_uid(pair.client, &uid), -EOPNOTSUPP);
        pair_close(&pair);
}

static void test_take_fd(void **state) {
        Pair pair;

        pair_open(&pair, BETWEEN_NOTHING, NULL, NULL);
        _cleanup_close_ int fd = transport_take_fd(pair.client);
        assert_true(fd >= 0);
        pair.client = transport_free(pair.client);
        assert_int_equal(write(fd, "x", 1), 1);
        pair_close(&pair);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_exchange),
                cmocka_unit_test(test_parts),
                cmocka_unit_test(test_events),
                cmocka_unit_test(test_ends),
                cmocka_unit_test(test_full),
                cmocka_unit_test(test_peer_uid),
                cmocka_unit_test(test_take_fd),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
