/* SPDX-License-Identifier: Apache-2.0 */

/* What a peer may send: frames one behind the other. Whatever is accepted survives being packed and read
 * again. */

#include "rpc/frame.h"
#include "rpc/hello.h"
#include "util/string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_envelope(const uint8_t *data, size_t size) {
        _cleanup_arena_ Arena arena, arena_again;
        _cleanup_buffer_ Buffer out = {};
        Sc__Envelope *envelope, *again;
        const uint8_t *found;
        size_t found_size;

        arena_init(&arena, frame_arena_limit(size));
        arena_init(&arena_again, frame_arena_limit(RPC_MAX_FRAME));
        if (frame_unpack(&arena, data, size, &envelope) < 0)
                return;
        Role role = _ROLE_MAX;
        if (envelope->kind == SC__ENVELOPE__KIND__HELLO && hello_check(envelope->hello, &role) == 0)
                assert_se(role < _ROLE_MAX);
        /* protobuf-c reads a field number 0 written in two bytes, writes it in one, and does not read that.
         */
        if (envelope->base.n_unknown_fields > 0)
                return;
        assert_se(frame_append(&out, envelope) == 0);
        assert_se(frame_find(out.data, out.size, &found, &found_size) == 1);
        assert_se(frame_unpack(&arena_again, found, found_size, &again) == 0);
        assert_se(again->kind == envelope->kind && again->id == envelope->id);
        assert_se(streq(again->method, envelope->method));
        assert_se(again->payload.len == envelope->payload.len);
        assert_se(again->order == envelope->order && !again->hello == !envelope->hello);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const uint8_t *envelope;
        size_t envelope_size, position = 0;

        while (frame_find(data + position, size - position, &envelope, &envelope_size) > 0) {
                assert_se(envelope >= data && envelope + envelope_size <= data + size && envelope_size > 0);
                check_envelope(envelope, envelope_size);
                position = (size_t) (envelope - data) + envelope_size;
        }
        return 0;
}
