/* SPDX-License-Identifier: Apache-2.0 */

/* Reading, checking and writing when the n-th allocation fails, for every n: an error and no leak.
 * Allocations of our own code and the parser's come by here; protobuf-c allocates in the arena. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/json.h"
#include "schema-tables.h"

/* The linker's --wrap sends the calls here. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static unsigned countdown; /* the allocation that fails; 0: none */

static bool fails(void) {
        return countdown > 0 && --countdown == 0;
}

void *__wrap_malloc(size_t size) {
        return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size) {
        return fails() ? NULL : __real_realloc(p, size);
}

static const char text[] = "{\"id\":1,\"connect\":{\"token\":\"t\",\"data\":{\"a\":[1,0.5,\"long enough to "
                           "need another block\"]},"
                           "\"subs\":{\"c\":{\"recover\":true,\"epoch\":\"e\",\"offset\":7}},\"headers\":{"
                           "\"a\":\"1\",\"b\":\"2\"}}}";

static int run(Buffer *out) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_json_ json_t *json = NULL;
        ProtobufCMessage *message = NULL;
        JsonError error;

        arena_init(&arena, 1U << 16);
        int r = json_parse(text, strlen(text), &json, &error);
        if (r >= 0)
                r = json_read_message(&arena, &client__command__info, json, &message, &error);
        if (r >= 0)
                r = message_check(&client__command__info, message, &error);
        return r < 0 ? r : json_write_message(out, &client__command__info, message);
}

static void test_every_allocation(void **state) {
        unsigned n = 0;

        for (int r = -ENOMEM; r < 0;) {
                _cleanup_buffer_ Buffer out = {};

                countdown = ++n;
                r = run(&out);
                countdown = 0;
                assert_true(r == 0 || r == -ENOMEM);
                if (r == 0) {
                        assert_int_equal(buffer_append(&out, "", 1), 0);
                        assert_string_equal((char *) out.data, text);
                }
        }
        assert_true(n > 10);
}

/* An arena of every size is either enough or a clean refusal. */
static void test_every_arena(void **state) {
        _cleanup_json_ json_t *json = NULL;
        JsonError error;
        size_t limit = 0;

        assert_int_equal(json_parse(text, strlen(text), &json, &error), 0);
        for (int r = -ENOMEM; r < 0; limit += 8) {
                _cleanup_arena_ Arena arena = {};
                ProtobufCMessage *message = NULL;

                arena_init(&arena, limit);
                r = json_read_message(&arena, &client__command__info, json, &message, &error);
                assert_true(r == 0 || r == -ENOMEM);
                assert_true(arena.used <= limit);
        }
        assert_true(limit > sizeof(Client__Command) && limit < 16384);
}

static void test_unpack_every_arena(void **state) {
        static const uint8_t wire[] = {
                0x0a, 0x03, 0x0a, 0x01, 'c', 0x0a, 0x03, 0x12, 0x01, 'u', 0x7a, 0x01, 0xff};
        ProtobufCMessage *message;

        for (size_t limit = 0, r = 1; r != 0; limit++) {
                _cleanup_arena_ Arena arena = {};

                arena_init(&arena, limit);
                r = (size_t) arena_unpack(
                        &arena, &sc__presence_response__descriptor, wire, sizeof(wire), &message);
                assert_true(r == 0 || r == (size_t) -ENOMEM);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_allocation),
                cmocka_unit_test(test_every_arena),
                cmocka_unit_test(test_unpack_every_arena),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
