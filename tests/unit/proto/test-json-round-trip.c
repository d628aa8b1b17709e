/* SPDX-License-Identifier: Apache-2.0 */

/* Every type of message, with random content, survives the way to JSON and back. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random-message.h"

#define N_ROUNDS 200

static void pack(const ProtobufCMessage *message, Buffer *out) {
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *p = buffer_reserve(out, MAX(size, (size_t) 1));

        assert_non_null(p);
        assert_int_equal(protobuf_c_message_pack(message, p), size);
        buffer_commit(out, size);
}

static void round_trip(const MessageInfo *info, Random *random) {
        _cleanup_arena_ Arena arena = {}, copy_arena = {};
        _cleanup_buffer_ Buffer text = {}, packed = {}, packed_copy = {};
        _cleanup_json_ json_t *json = NULL;
        ProtobufCMessage *copy = NULL;
        JsonError error = {};

        arena_init(&arena, 1U << 20);
        arena_init(&copy_arena, 1U << 20);
        const ProtobufCMessage *message = random_message(random, &arena, info);
        assert_int_equal(json_write_message(&text, info, message), 0);
        assert_null(memchr(text.data, '\n', text.size));
        if (json_parse((char *) text.data, text.size, &json, &error) < 0 ||
                json_read_message(&copy_arena, info, json, &copy, &error) < 0)
                fail_msg("%s: %s: %.*s", info->descriptor->name, error.detail, (int) text.size, text.data);
        pack(message, &packed);
        pack(copy, &packed_copy);
        if (packed.size != packed_copy.size || memcmp(packed.data, packed_copy.data, packed.size) != 0) {
                buffer_append_string(&text, " became ");
                json_write_message(&text, info, copy);
                fail_msg("%s: %.*s", info->descriptor->name, (int) text.size, text.data);
        }
}

static void test_round_trip(void **state) {
        Random random = {20240229};

        for (size_t i = 0; i < schema_n_messages; i++)
                for (unsigned n = 0; n < N_ROUNDS; n++)
                        round_trip(schema_messages[i], &random);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
