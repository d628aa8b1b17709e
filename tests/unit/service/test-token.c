/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "service/token.h"
#include "util/string-util.h"

static const uint8_t key_bytes[TOKEN_KEY_SIZE] = "0123456789abcdef0123456789abcdef";
static TokenKey *key;

static int setup(void **state) {
        return sodium_init() < 0 || token_key_new(&key, key_bytes, sizeof(key_bytes)) < 0;
}

static int teardown(void **state) {
        key = token_key_free(key);
        return 0;
}

static void test_round_trip(void **state) {
        TokenClaims in = {.user = "u1", .session = "s1", .device = "phone", .expires_at = 2000}, out;
        _cleanup_free_ char *token = NULL;

        assert_int_equal(token_issue(key, &in, &token), 0);
        assert_int_equal(token_verify(key, token, 1999, &out), ERROR_NONE);
        assert_string_equal(out.user, "u1");
        assert_string_equal(out.session, "s1");
        assert_string_equal(out.device, "phone");
        assert_int_equal(out.expires_at, 2000);
        assert_int_equal(token_verify(key, token, 2000, &out), ERROR_TOKEN_EXPIRED);
}

static void test_tampered(void **state) {
        TokenClaims in = {.user = "u1", .session = "s1", .expires_at = 2000}, out = {.user = "untouched"};
        _cleanup_free_ char *token = NULL;

        assert_int_equal(token_issue(key, &in, &token), 0);
        for (size_t i = 0; token[i]; i++) {
                char saved = token[i];
                token[i] = saved == 'A' ? 'B' : 'A';
                /* the last base64 digit of the signature has unused bits */
                if (token[i + 1])
                        assert_int_not_equal(token_verify(key, token, 1000, &out), ERROR_NONE);
                token[i] = saved;
        }
        assert_string_equal(out.user, "untouched");
}

static void test_other_key(void **state) {
        static const uint8_t other_bytes[TOKEN_KEY_SIZE] = "another key, just as long as tha";
        TokenClaims in = {.user = "u1", .session = "s1", .expires_at = 2000}, out;
        _cleanup_(token_key_freep) TokenKey *other = NULL;
        _cleanup_free_ char *token = NULL;

        assert_int_equal(token_key_new(&other, other_bytes, sizeof(other_bytes)), 0);
        assert_int_equal(token_issue(other, &in, &token), 0);
        assert_int_equal(token_verify(key, token, 1000, &out), ERROR_UNAUTHENTICATED);
}

static char *base64url(const char *text) {
        char *out =
                malloc(sodium_base64_encoded_len(strlen(text), sodium_base64_VARIANT_URLSAFE_NO_PADDING));
        assert_non_null(out);
        return sodium_bin2base64(out,
                sodium_base64_encoded_len(strlen(text), sodium_base64_VARIANT_URLSAFE_NO_PADDING),
                (const uint8_t *) text, strlen(text), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

static void test_foreign_tokens(void **state) {
        static const char *const headers[] = {
                "{\"alg\":\"none\",\"typ\":\"JWT\"}",
                "{\"alg\":\"HS512\",\"typ\":\"JWT\"}",
                "{\"alg\":\"RS256\",\"typ\":\"JWT\"}",
        };
        static const char claims[] =
                "{\"iss\":\"stonechat\",\"aud\":\"stonechat\",\"typ\":\"access\",\"sub\":\"u1\","
                "\"sid\":\"s1\",\"dev\":\"\",\"exp\":2000}";
        TokenClaims out;

        FOREACH_ARRAY(header, headers, ELEMENTSOF(headers)) {
                _cleanup_free_ char *head = base64url(*header), *body = base64url(claims);
                _cleanup_free_ char *unsigned_token = format_string("%s.%s.", head, body);
                _cleanup_free_ char *signed_token = format_string("%s.%s.%s", head, body, "AAAA");
                assert_int_equal(token_verify(key, unsigned_token, 1000, &out), ERROR_UNAUTHENTICATED);
                assert_int_equal(token_verify(key, signed_token, 1000, &out), ERROR_UNAUTHENTICATED);
        }
        assert_int_equal(token_verify(key, "", 1000, &out), ERROR_UNAUTHENTICATED);
        assert_int_equal(token_verify(key, "a.b.c", 1000, &out), ERROR_UNAUTHENTICATED);

        _cleanup_free_ char *long_token = malloc(TOKEN_MAX_SIZE + 2);
        memset(long_token, 'a', TOKEN_MAX_SIZE + 1);
        long_token[TOKEN_MAX_SIZE + 1] = 0;
        assert_int_equal(token_verify(key, long_token, 1000, &out), ERROR_UNAUTHENTICATED);
}

static void test_short_key(void **state) {
        TokenKey *k = NULL;

        assert_int_equal(token_key_new(&k, key_bytes, TOKEN_KEY_SIZE - 1), -EINVAL);
        assert_null(k);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_tampered),
                cmocka_unit_test(test_other_key),
                cmocka_unit_test(test_foreign_tokens),
                cmocka_unit_test(test_short_key),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
