/* SPDX-License-Identifier: Apache-2.0 */

/* JSON → message → JSON → message → JSON: the last two texts are the same. */

#include "pick-message.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* True if the text is a message of that type, which is then written to `out`. */
static bool convert(const MessageInfo *info, const void *text, size_t size, Buffer *out) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_json_ json_t *json = NULL;
        ProtobufCMessage *message = NULL;
        JsonError error = {};

        arena_init(&arena, 1U << 20);
        int r = json_parse(text, size, &json, &error);
        /* Two parsers agree, but for what only building finds out. */
        assert_se(r >= 0 ? json_is_valid(text, size)
                         : !json_is_valid(text, size) || strstr(error.detail, "twice") ||
                                   strstr(error.detail, "too large"));
        if (r >= 0)
                r = json_read_message(&arena, info, json, &message, &error);
        assert_se(arena.used <= arena.limit);
        assert_se(r == 0 || r == -ENOMEM || (error.code != 0 && error.detail[0]));
        if (r < 0)
                return false;
        r = message_check(info, message, &error);
        assert_se(r == 0 || (r == -EINVAL && error.detail[0]));
        assert_se(json_write_message(out, info, message) == 0);
        assert_se(!memchr(out->data, '\n', out->size));
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_buffer_ Buffer first = {}, second = {};

        const MessageInfo *info = pick_message(&data, &size);

        if (!convert(info, data, size, &first))
                return 0;
        assert_se(convert(info, first.data, first.size, &second));
        assert_se(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
        return 0;
}
