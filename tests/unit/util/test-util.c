/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/bytes.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "util/token-bucket.h"

static void test_utf8(void **state) {
        static const struct {
                const char *text;
                size_t size;
                bool valid;
        } cases[] = {
                {"plain", 5, true},
                {"\xc3\xa9", 2, true},
                {"\xe2\x82\xac", 3, true},
                {"\xf0\x9f\x90\xa6", 4, true},
                {"\xc0\x80", 2, false}, /* overlong NUL */
                {"\xed\xa0\x80", 3, false}, /* surrogate */
                {"\xf4\x90\x80\x80", 4, false}, /* above U+10FFFF */
                {"\xe2\x82", 2, false}, /* cut off */
                {"a\0b", 3, false},
                {"\xff", 1, false},
        };
        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases))
                assert_int_equal(utf8_is_valid(c->text, c->size), c->valid);

        /* ASCII goes by words: a byte that is none counts wherever it stands. */
        for (size_t at = 0; at < 24; at++) {
                char text[] = "twenty-four of the ASCII";

                assert_true(utf8_is_valid(text, 24));
                FOREACH_ARRAY(byte, ((const uint8_t[]){0x00, 0x80, 0xff}), 3) {
                        text[at] = (char) *byte;
                        assert_false(utf8_is_valid(text, 24));
                }
                memcpy(text + at, "\xc3\xa9", 2);
                assert_int_equal(utf8_is_valid(text, 24), at < 23);
        }
}

static void test_unique_bytes(void **state) {
        uint8_t seen[100][16];

        for (unsigned i = 0; i < ELEMENTSOF(seen); i++) {
                unique_bytes(seen[i], sizeof(seen[i]));
                for (unsigned j = 0; j < i; j++)
                        assert_memory_not_equal(seen[i], seen[j], sizeof(seen[i]));
        }
}

static void test_parse(void **state) {
        uint64_t v = 7;

        assert_int_equal(parse_u64("18446744073709551615", UINT64_MAX, &v), 0);
        assert_true(v == UINT64_MAX);
        assert_int_equal(parse_u64("18446744073709551616", UINT64_MAX, &v), -ERANGE);
        assert_int_equal(parse_u64("12x", UINT64_MAX, &v), -EINVAL);
        assert_int_equal(parse_u64("", UINT64_MAX, &v), -EINVAL);
        assert_int_equal(parse_u64("-1", UINT64_MAX, &v), -EINVAL);
        assert_int_equal(parse_u64("11", 10, &v), -ERANGE);
        assert_int_equal(parse_duration("5min 20s", &v), 0);
        assert_true(v == 320 * USEC_PER_SEC);
        assert_int_equal(parse_duration("500ms", &v), 0);
        assert_true(v == 500 * USEC_PER_MSEC);
        assert_int_equal(parse_duration("30", &v), 0);
        assert_true(v == 30 * USEC_PER_SEC);
        assert_int_equal(parse_duration("3 parsecs", &v), -EINVAL);
        assert_int_equal(parse_duration("99999999999999999d", &v), -ERANGE);
        assert_int_equal(parse_size("64K", &v), 0);
        assert_true(v == 65536);
        assert_int_equal(parse_boolean("Yes"), 1);
        assert_int_equal(parse_boolean("off"), 0);
        assert_int_equal(parse_boolean("maybe"), -EINVAL);
}

static void test_hex(void **state) {
        uint8_t bytes[3];
        char text[7];

        assert_int_equal(hex_decode("00ff7a", bytes, 3), 0);
        hex_encode(bytes, 3, text);
        assert_string_equal(text, "00ff7a");
        assert_int_equal(hex_decode("00ff7", bytes, 3), -EINVAL);
        assert_int_equal(hex_decode("00ff7g", bytes, 3), -EINVAL);
}

static void test_ids(void **state) {
        char a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE];

        uuid_v7(a);
        uuid_v7(b);
        assert_string_not_equal(a, b);
        assert_int_equal(strlen(a), 36);
        assert_int_equal(a[14], '7');
        assert_true(identifier_is_valid(a, 36));
        uuid_from_name("direct", "x y", a);
        uuid_from_name("direct", "x y", b);
        assert_string_equal(a, b);
        uuid_from_name("directx", " y", b); /* the boundary between space and name counts */
        assert_string_not_equal(a, b);
        uuid_from_name("direct", "x y", a);
        uuid_of_direct("x", "y", b);
        assert_string_equal(a, b);
        uuid_of_direct("y", "x", b);
        assert_string_equal(a, b);
        uuid_from_name("direct", "x x", a); /* one's own notes */
        uuid_of_direct("x", "x", b);
        assert_string_equal(a, b);
        assert_int_equal(shard_of("a", 256), shard_of("a", 256));
        assert_int_equal(shard_of("#a", 256), shard_of("a", 256));
        assert_int_not_equal(shard_of("##a", 256), shard_of("a", 256));
        assert_false(identifier_is_valid("a b", 3));
        assert_false(identifier_is_valid("a\0", 2));
}

static void test_buffer(void **state) {
        _cleanup_buffer_ Buffer buffer = {.limit = 10};

        assert_int_equal(buffer_append_string(&buffer, "hello"), 0);
        assert_int_equal(buffer_append_string(&buffer, "world"), 0);
        buffer_consume(&buffer, 5);
        assert_memory_equal(buffer.data, "world", 5);
        assert_int_equal(buffer_append_string(&buffer, "123456"), -ENOBUFS);
        assert_int_equal(buffer_append_string(&buffer, "1"), -ENOBUFS); /* sticks */
}

static void test_token_bucket(void **state) {
        TokenBucket bucket = {};

        assert_true(token_bucket_take(&bucket, 1, 2, 1, 1000));
        assert_true(token_bucket_take(&bucket, 1, 2, 1, 1000));
        assert_false(token_bucket_take(&bucket, 1, 2, 1, 1000));
        assert_true(token_bucket_take(&bucket, 1, 2, 1, 1000 + USEC_PER_SEC));
        assert_false(token_bucket_take(&bucket, 1, 2, 1, 1000 + USEC_PER_SEC));
        /* a clock that steps back adds nothing */
        assert_false(token_bucket_take(&bucket, 1, 2, 1, 1000));
        assert_true(token_bucket_take(&bucket, 0, 0, 1, 1000));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_utf8),
                cmocka_unit_test(test_unique_bytes),
                cmocka_unit_test(test_parse),
                cmocka_unit_test(test_hex),
                cmocka_unit_test(test_ids),
                cmocka_unit_test(test_buffer),
                cmocka_unit_test(test_token_bucket),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
