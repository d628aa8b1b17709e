/* SPDX-License-Identifier: Apache-2.0 */

/* Bytes → message → checked → JSON that reads back. */

#include "pick-message.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a peer sends may unpack to 64 times its size, no more. */
#define AMPLIFICATION 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_arena_ Arena arena = {}, copy_arena = {};
        _cleanup_buffer_ Buffer text = {}, again = {};
        _cleanup_json_ json_t *json = NULL;
        ProtobufCMessage *message = NULL, *copy = NULL;
        JsonError error = {};

        const MessageInfo *info = pick_message(&data, &size);

        arena_init(&arena, 1024 + size * AMPLIFICATION);
        int r = arena_unpack(&arena, info->descriptor, data, size, &message);
        assert_se(arena.used <= arena.limit);
        if (r < 0)
                return 0;
        r = message_check(info, message, &error);
        assert_se(r == 0 || (r == -EINVAL && error.detail[0]));
        assert_se(json_write_message(&text, info, message) == 0);
        assert_se(!memchr(text.data, '\n', text.size));
        if (r < 0)
                return 0;

        /* What passes the check is JSON that reads back; only raw JSON may still have names twice or numbers
         * that no parser takes. */
        assert_se(json_is_valid(text.data, text.size));
        if (json_parse((const char *) text.data, text.size, &json, &error) < 0)
                return 0;
        arena_init(&copy_arena, 1U << 20);
        r = json_read_message(&copy_arena, info, json, &copy, &error);
        if (r == -ENOMEM)
                return 0;
        assert_se(r == 0);
        assert_se(json_write_message(&again, info, copy) == 0);
        return 0;
}
