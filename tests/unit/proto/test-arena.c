/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/arena.h"
#include "schema-tables.h"

static void test_alignment(void **state) {
        _cleanup_arena_ Arena arena = {};

        arena_init(&arena, 1U << 20);
        for (size_t size = 0; size < 3000; size = size * 2 + 1) {
                assert_non_null(arena_strndup(&arena, "x", 1)); /* puts the next one off the alignment */
                uint8_t *p = arena_alloc0(&arena, size);
                assert_non_null(p);
                assert_int_equal((uintptr_t) p % alignof(max_align_t), 0);
                for (size_t i = 0; i < size; i++)
                        assert_int_equal(p[i], 0);
                memset(p, 0xff, size);
        }
}

/* Many sizes side by side: none overlaps another. */
static void test_no_overlap(void **state) {
        _cleanup_arena_ Arena arena = {};
        struct {
                uint8_t *p;
                size_t size;
        } pieces[500];

        arena_init(&arena, 8U << 20);
        for (size_t i = 0; i < ELEMENTSOF(pieces); i++) {
                size_t size = i % 7 == 0 ? i * 91 : i % 50;

                pieces[i].p = i % 2 ? arena_alloc(&arena, size) : (uint8_t *) arena_strndup(&arena, "", 0);
                pieces[i].size = i % 2 ? size : 1;
                assert_non_null(pieces[i].p);
                memset(pieces[i].p, (int) (i & 0xff), pieces[i].size);
        }
        FOREACH_ARRAY(piece, pieces, ELEMENTSOF(pieces))
                for (size_t i = 0; i < piece->size; i++)
                        assert_int_equal(piece->p[i], (piece - pieces) & 0xff);
}

static void test_limit(void **state) {
        _cleanup_arena_ Arena arena = {};

        arena_init(&arena, 100);
        assert_null(arena_alloc(&arena, 101));
        assert_true(arena.exhausted);
        assert_null(arena_alloc(&arena, SIZE_MAX));
        assert_null(arena_alloc0(&arena, SIZE_MAX - 8));
        assert_null(arena_strndup(&arena, "x", SIZE_MAX));
        assert_non_null(arena_alloc(&arena, 80));
        assert_null(arena_printf(&arena, "%040d", 1));
        assert_null(arena_alloc(&arena, 21));
        assert_non_null(arena_strndup(&arena, "0123456789012345678", 19));
        assert_null(arena_strdup(&arena, "x"));
        assert_true(arena.used <= arena.limit);

        arena_done(&arena);
        assert_non_null(arena_alloc(&arena, 100)); /* may be used again */
}

static void test_strings(void **state) {
        _cleanup_arena_ Arena arena = {};

        arena_init(&arena, 1000);
        assert_string_equal(arena_strndup(&arena, "hello world", 5), "hello");
        assert_string_equal(arena_strndup(&arena, NULL, 0), "");
        assert_string_equal(arena_strdup(&arena, "hello"), "hello");
        assert_string_equal(arena_printf(&arena, "%s-%d", "a", 7), "a-7");
        assert_memory_equal(arena_memdup(&arena, "a\0b", 3), "a\0b", 3);
}

static void test_unpack(void **state) {
        _cleanup_arena_ Arena arena = {};
        ProtobufCMessage *message = NULL;
        /* clients: {client: "c"}, {} */
        static const uint8_t good[] = {0x0a, 0x03, 0x0a, 0x01, 'c', 0x0a, 0x00};

        arena_init(&arena, 4096);
        assert_int_equal(
                arena_unpack(&arena, &sc__presence_response__descriptor, good, sizeof(good), &message), 0);
        const Sc__PresenceResponse *presence = (const Sc__PresenceResponse *) message;
        assert_int_equal(presence->n_clients, 2);
        assert_string_equal(presence->clients[0]->client, "c");
        assert_string_equal(presence->clients[1]->client, "");

        message = NULL;
        assert_int_equal(
                arena_unpack(&arena, &sc__presence_response__descriptor, good, 4, &message), -EBADMSG);
        assert_null(message);
        assert_int_equal(arena_unpack(&arena, &sc__presence_response__descriptor, "", 0, &message), 0);
}

/* Two bytes on the wire are a whole struct in memory: the limit holds. */
static void test_amplification(void **state) {
        _cleanup_arena_ Arena arena = {};
        ProtobufCMessage *message = NULL;
        uint8_t wire[20000];

        for (size_t i = 0; i < sizeof(wire); i += 2)
                memcpy(wire + i, (const uint8_t[]){0x0a, 0x00}, 2);
        arena_init(&arena, 4 * sizeof(wire));
        assert_int_equal(
                arena_unpack(&arena, &sc__presence_response__descriptor, wire, sizeof(wire), &message),
                -ENOMEM);
        assert_null(message);
        assert_true(arena.used <= arena.limit);
}

/* What was allocated in one arena stays where it is in the other, whichever of them has anything. */
static void test_adopt(void **state) {
        for (unsigned n_to = 0; n_to < 3; n_to++)
                for (unsigned n_from = 0; n_from < 40; n_from += 13) {
                        _cleanup_arena_ Arena to = {}, from = {};
                        char *kept[3], *moved[40];

                        arena_init(&to, 5000);
                        arena_init(&from, SIZE_MAX);
                        for (unsigned i = 0; i < n_to; i++)
                                assert_non_null(kept[i] = arena_printf(&to, "%0*u", 300, i));
                        for (unsigned i = 0; i < n_from; i++)
                                assert_non_null(
                                        moved[i] = arena_printf(&from, "%0*u", 50 + (int) i * 300, i));
                        arena_adopt(&to, &from);
                        assert_null(from.blocks);
                        assert_int_equal(from.used, 0);
                        arena_adopt(&to, &from); /* nothing */
                        assert_non_null(arena_printf(&from, "again"));
                        assert_non_null(arena_printf(&to, "%0*u", 2000, 5)); /* its limit is its own */
                        arena_adopt(&to, &from);
                        for (unsigned i = 0; i < n_to; i++)
                                assert_int_equal(strtoul(kept[i], NULL, 10), i);
                        for (unsigned i = 0; i < n_from; i++)
                                assert_int_equal(strtoul(moved[i], NULL, 10), i);
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_alignment),
                cmocka_unit_test(test_no_overlap),
                cmocka_unit_test(test_limit),
                cmocka_unit_test(test_adopt),
                cmocka_unit_test(test_strings),
                cmocka_unit_test(test_unpack),
                cmocka_unit_test(test_amplification),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
