/* SPDX-License-Identifier: Apache-2.0 */

/* Which frame is sent when, without any socket. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "random.h"
#include "rpc/frame.h"
#include "rpc/lanes.h"
#include "util/string-util.h"

static void add(Lanes *lanes, Lane lane, uint64_t id, size_t size) {
        Sc__Envelope envelope = SC__ENVELOPE__INIT;
        _cleanup_free_ uint8_t *payload = calloc(1, size + 1);

        envelope.kind = SC__ENVELOPE__KIND__RESPONSE;
        envelope.id = id;
        envelope.payload = (ProtobufCBinaryData){size, payload};
        assert_int_equal(lanes_add(lanes, lane, &envelope), 0);
}

/* Sends at most so many bytes; they go behind the others in `out`. */
static size_t send_some(Lanes *lanes, size_t max, Buffer *out) {
        struct iovec next;

        if (!lanes_next(lanes, &next))
                return 0;
        size_t n = MIN(max, next.iov_len);
        assert_int_equal(buffer_append(out, next.iov_base, n), 0);
        lanes_sent(lanes, n);
        return n;
}

/* The ids of the frames that were sent, a space behind each. */
static void read_ids(const Buffer *out, char *ret, size_t size) {
        size_t at = 0, used = 0, frame_size;
        const uint8_t *frame;

        *ret = 0;
        while (frame_find(out->data + at, out->size - at, &frame, &frame_size) > 0) {
                _cleanup_arena_ Arena arena;
                Sc__Envelope *envelope;

                arena_init(&arena, frame_arena_limit(frame_size));
                assert_int_equal(frame_unpack(&arena, frame, frame_size, &envelope), 0);
                used += (size_t) snprintf(ret + used, size - used, "%u ", (unsigned) envelope->id);
                assert_true(used < size);
                at += FRAME_HEADER_SIZE + frame_size;
        }
        assert_int_equal(at, out->size); /* no frame was cut by another */
}

static void expect(Lanes *lanes, size_t at_once, const char *expected) {
        _cleanup_buffer_ Buffer out = {};
        char ids[4096];

        while (send_some(lanes, at_once, &out) > 0)
                ;
        read_ids(&out, ids, sizeof(ids));
        assert_string_equal(ids, expected);
        assert_int_equal(lanes_size(lanes), 0);
}

static void test_order(void **state) {
        Lanes lanes;

        lanes_init(&lanes);
        for (size_t at_once = 1; at_once < 10000; at_once = at_once * 3 + 1) {
                add(&lanes, LANE_BULK, 11, 1000);
                add(&lanes, LANE_URGENT, 1, 10);
                add(&lanes, LANE_BULK, 12, 1000);
                add(&lanes, LANE_URGENT, 2, 10);
                expect(&lanes, at_once, "1 2 11 12 ");
        }
        lanes_done(&lanes);
}

/* A bulk frame that has begun is finished; what has come meanwhile goes next, and then one bulk frame. */
static void test_turns(void **state) {
        Lanes lanes;
        _cleanup_buffer_ Buffer out = {};
        char ids[256];

        lanes_init(&lanes);
        for (unsigned i = 0; i < 3; i++)
                add(&lanes, LANE_BULK, 11 + i, 1000);
        assert_int_equal(send_some(&lanes, 1, &out), 1);
        add(&lanes, LANE_URGENT, 1, 10);
        add(&lanes, LANE_URGENT, 2, 10);
        assert_true(send_some(&lanes, SIZE_MAX, &out) > 900); /* the rest of 11 */
        assert_int_equal(send_some(&lanes, 1, &out), 1); /* 1 and 2 have begun */
        add(&lanes, LANE_URGENT, 3, 10);
        while (send_some(&lanes, 7, &out) > 0)
                ;
        read_ids(&out, ids, sizeof(ids));
        assert_string_equal(ids, "11 1 2 12 3 13 ");
        lanes_done(&lanes);
}

/* As long as there is always something urgent, each batch of it lets one bulk frame pass. */
static void test_nobody_starves(void **state) {
        Lanes lanes;
        _cleanup_buffer_ Buffer out = {};
        unsigned turns = 0;

        lanes_init(&lanes);
        for (unsigned i = 0; i < 5; i++)
                add(&lanes, LANE_BULK, 100 + i, 1000);
        while (lanes.bulk_size > 0) {
                add(&lanes, LANE_URGENT, 1, 100);
                (void) send_some(&lanes, SIZE_MAX, &out);
                assert_true(++turns < 20);
        }
        lanes_done(&lanes);
}

/* Whatever is added when and however much is sent at once: frames stay whole, and each lane in order. */
static void test_random(void **state) {
        for (uint64_t seed = 1; seed <= 200; seed++) {
                Random random = {seed};
                _cleanup_buffer_ Buffer out = {};
                unsigned urgent = 0, bulk = 0, next_urgent = 0, next_bulk = 0;
                char ids[8192];
                Lanes lanes;

                lanes_init(&lanes);
                for (unsigned step = 0; step < 400; step++)
                        switch (random_below(&random, 4)) {
                        case 0:
                                add(&lanes, LANE_URGENT, 1000 + urgent++, random_below(&random, 300));
                                break;
                        case 1:
                                add(&lanes, LANE_BULK, 2000 + bulk++, random_below(&random, 3000));
                                break;
                        default:
                                (void) send_some(&lanes, 1 + random_below(&random, 2000), &out);
                        }
                while (send_some(&lanes, SIZE_MAX, &out) > 0)
                        ;
                read_ids(&out, ids, sizeof(ids));
                for (char *id = strtok(ids, " "); id; id = strtok(NULL, " ")) {
                        unsigned n = (unsigned) atoi(id);
                        assert_int_equal(n, n < 2000 ? 1000 + next_urgent++ : 2000 + next_bulk++);
                }
                assert_int_equal(next_urgent, urgent);
                assert_int_equal(next_bulk, bulk);
                assert_int_equal(lanes_size(&lanes), 0);
                lanes_done(&lanes);
        }
}

/* What has grown is given back. */
static void test_memory(void **state) {
        Lanes lanes;

        lanes_init(&lanes);
        for (unsigned i = 0; i < 100; i++)
                add(&lanes, LANE_URGENT, i + 1, 60000);
        assert_true(lanes.urgent.allocated > (4U << 20));
        _cleanup_buffer_ Buffer out = {};
        while (send_some(&lanes, 100000, &out) > 0)
                ;
        assert_int_equal(lanes.urgent.allocated, 0);
        lanes_done(&lanes);
}

static void test_too_large(void **state) {
        _cleanup_free_ uint8_t *payload = calloc(1, RPC_MAX_FRAME);
        Sc__Envelope envelope = SC__ENVELOPE__INIT;
        Lanes lanes;

        lanes_init(&lanes);
        envelope.id = 1;
        envelope.payload = (ProtobufCBinaryData){RPC_MAX_FRAME, payload};
        assert_int_equal(lanes_add(&lanes, LANE_URGENT, &envelope), -EMSGSIZE);
        assert_int_equal(lanes_add(&lanes, LANE_BULK, &envelope), -EMSGSIZE);
        assert_int_equal(lanes_size(&lanes), 0);
        add(&lanes, LANE_URGENT, 1, 1);
        expect(&lanes, SIZE_MAX, "1 ");
        lanes_done(&lanes);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_turns),
                cmocka_unit_test(test_nobody_starves),
                cmocka_unit_test(test_random),
                cmocka_unit_test(test_memory),
                cmocka_unit_test(test_too_large),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
