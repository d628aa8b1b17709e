/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/frame.h"

#define UNTOUCHED ((size_t) 12345)

static void test_find(void **state) {
        static const uint8_t whole[] = {0, 0, 0, 3, 'a', 'b', 'c', 0};
        static const uint8_t zero[] = {0, 0, 0, 0, 'x'};
        static const uint8_t largest[] = {0, 0x40, 0, 0}, larger[] = {0, 0x40, 0, 1},
                             huge[] = {0xff, 0xff, 0xff, 0xff};
        const uint8_t *envelope = NULL;
        size_t size = UNTOUCHED;

        for (size_t n = 0; n < 7; n++)
                assert_int_equal(frame_find(whole, n, &envelope, &size), 0);
        assert_int_equal(frame_find(zero, sizeof(zero), &envelope, &size), -EBADMSG);
        assert_int_equal(frame_find(largest, sizeof(largest), &envelope, &size), 0);
        assert_int_equal(frame_find(larger, sizeof(larger), &envelope, &size), -EMSGSIZE);
        assert_int_equal(frame_find(huge, sizeof(huge), &envelope, &size), -EMSGSIZE);
        assert_null(envelope);
        assert_int_equal(size, UNTOUCHED);

        assert_int_equal(frame_find(whole, sizeof(whole), &envelope, &size), 1);
        assert_ptr_equal(envelope, whole + 4);
        assert_int_equal(size, 3);
}

static int round_trip(const Sc__Envelope *envelope, Arena *arena, Sc__Envelope **ret) {
        _cleanup_buffer_ Buffer out = {};
        const uint8_t *data;
        size_t size;

        assert_int_equal(frame_append(&out, envelope), 0);
        assert_int_equal(frame_find(out.data, out.size, &data, &size), 1);
        assert_int_equal(size, out.size - FRAME_HEADER_SIZE);
        return frame_unpack(arena, data, size, ret);
}

static void test_round_trip(void **state) {
        uint8_t id[16] = {1, 2, 3}, payload[] = {0, 1, 0, 2};
        Sc__Trace trace = SC__TRACE__INIT;
        Sc__Caller caller = SC__CALLER__INIT;
        Sc__Envelope envelope = SC__ENVELOPE__INIT, *read = NULL;
        _cleanup_arena_ Arena arena;

        trace.id = (ProtobufCBinaryData){sizeof(id), id};
        trace.parent = UINT64_MAX;
        trace.sampled = true;
        caller.user = (char *) "u";
        envelope.id = 7;
        envelope.method = (char *) "message.send";
        envelope.trace = &trace;
        envelope.caller = &caller;
        envelope.timeout_ms = 250;
        envelope.payload = (ProtobufCBinaryData){sizeof(payload), payload};

        arena_init(&arena, 65536);
        assert_int_equal(round_trip(&envelope, &arena, &read), 0);
        assert_int_equal(read->kind, SC__ENVELOPE__KIND__REQUEST);
        assert_true(read->id == 7);
        assert_string_equal(read->method, "message.send");
        assert_memory_equal(read->trace->id.data, id, sizeof(id));
        assert_true(read->trace->parent == UINT64_MAX && read->trace->sampled);
        assert_string_equal(read->caller->user, "u");
        assert_int_equal(read->timeout_ms, 250);
        assert_int_equal(read->payload.len, sizeof(payload));
        assert_memory_equal(read->payload.data, payload, sizeof(payload));
}

static void test_shapes(void **state) {
        uint8_t short_id[8] = {}, long_id[17] = {};
        Sc__Trace short_trace = SC__TRACE__INIT, long_trace = SC__TRACE__INIT;
        char long_method[FRAME_MAX_METHOD + 2] = {};
        _cleanup_arena_ Arena arena;

        short_trace.id = (ProtobufCBinaryData){sizeof(short_id), short_id};
        long_trace.id = (ProtobufCBinaryData){sizeof(long_id), long_id};
        memset(long_method, 'm', FRAME_MAX_METHOD + 1);
        const struct {
                Sc__Envelope__Kind kind;
                uint64_t id;
                const char *method;
                Sc__Trace *trace;
                int result;
        } cases[] = {
                {SC__ENVELOPE__KIND__REQUEST, 1, "m", NULL, 0},
                {SC__ENVELOPE__KIND__REQUEST, 0, "m", NULL, -EBADMSG},
                {SC__ENVELOPE__KIND__REQUEST, 1, "", NULL, -EBADMSG},
                {SC__ENVELOPE__KIND__REQUEST, 1, "a b", NULL, -EBADMSG},
                {SC__ENVELOPE__KIND__REQUEST, 1, long_method, NULL, -EBADMSG},
                {SC__ENVELOPE__KIND__REQUEST, 1, long_method + 1, NULL, 0},
                {SC__ENVELOPE__KIND__REQUEST, 1, "m", &short_trace, -EBADMSG},
                {SC__ENVELOPE__KIND__REQUEST, 1, "m", &long_trace, -EBADMSG},
                {SC__ENVELOPE__KIND__RESPONSE, 1, "", NULL, 0},
                {SC__ENVELOPE__KIND__RESPONSE, 0, "m", NULL, -EBADMSG},
                {SC__ENVELOPE__KIND__PUSH, 0, "deliver", NULL, 0},
                {SC__ENVELOPE__KIND__PUSH, 1, "deliver", NULL, -EBADMSG},
                {SC__ENVELOPE__KIND__PUSH, 0, "", NULL, -EBADMSG},
                {(Sc__Envelope__Kind) 3, 1, "m", NULL, -EBADMSG},
        };

        arena_init(&arena, 1 << 20);
        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                Sc__Envelope envelope = SC__ENVELOPE__INIT, *read = NULL;
                envelope.kind = c->kind;
                envelope.id = c->id;
                envelope.method = (char *) c->method;
                envelope.trace = c->trace;
                envelope.timeout_ms = 1; /* so that it is never empty */
                assert_int_equal(round_trip(&envelope, &arena, &read), c->result);
                assert_true((read != NULL) == (c->result == 0));
        }
}

static void test_append_limits(void **state) {
        _cleanup_free_ uint8_t *payload = calloc(1, RPC_MAX_FRAME);
        _cleanup_buffer_ Buffer out = {}, small = {.limit = 16};
        Sc__Envelope envelope = SC__ENVELOPE__INIT;

        envelope.id = 1;
        envelope.payload = (ProtobufCBinaryData){RPC_MAX_FRAME, payload};
        assert_int_equal(frame_append(&out, &envelope), -EMSGSIZE);
        assert_int_equal(out.size, 0);
        assert_int_equal(out.error, 0);
        envelope.payload.len = RPC_MAX_FRAME - 16;
        assert_int_equal(frame_append(&out, &envelope), 0);
        envelope.payload.len = 32;
        assert_int_equal(frame_append(&small, &envelope), -ENOBUFS);
        assert_int_equal(small.size, 0);
}

/* Two bytes a field on the wire, a struct each in memory: the arena's limit ends it. */
static void test_amplification(void **state) {
        const size_t size = 1 << 20;
        _cleanup_free_ uint8_t *data = malloc(size);
        _cleanup_arena_ Arena arena;
        Sc__Envelope *envelope;

        for (size_t i = 0; i < size; i += 2) {
                data[i] = 0x78; /* field 15, a varint: nobody knows it */
                data[i + 1] = 0;
        }
        arena_init(&arena, frame_arena_limit(size));
        assert_true(frame_unpack(&arena, data, size, &envelope) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_find),
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_shapes),
                cmocka_unit_test(test_append_limits),
                cmocka_unit_test(test_amplification),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
