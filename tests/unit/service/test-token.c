/* SPDX-License-Identifier: Apache-2.0 */
#include <jwt.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "service/token.h"
#include "util/string-util.h"

#define BASE64URL sodium_base64_VARIANT_URLSAFE_NO_PADDING

static char *private_pem, *public_pem;
static TokenSigner *signer;
static TokenKeys *keys;

static int setup(void **state) {
        if (sodium_init() < 0 || token_key_generate(&private_pem, &public_pem) < 0)
                return -1;
        return token_signer_new(&signer, private_pem, strlen(private_pem)) < 0 ||
               token_keys_new(&keys, public_pem, strlen(public_pem)) < 0;
}

static int teardown(void **state) {
        signer = token_signer_free(signer);
        keys = token_keys_unref(keys);
        free(private_pem);
        free(public_pem);
        return 0;
}

static void test_round_trip(void **state) {
        TokenClaims in = {.user = "u1", .session = "s1", .device = "phone", .expires_at = 2000}, out;
        _cleanup_free_ char *token = NULL;

        assert_int_equal(token_issue(signer, &in, &token), 0);
        assert_int_equal(token_verify(keys, token, 1999, &out), ERROR_NONE);
        assert_string_equal(out.user, "u1");
        assert_string_equal(out.session, "s1");
        assert_string_equal(out.device, "phone");
        assert_int_equal(out.expires_at, 2000);
        assert_int_equal(token_verify(keys, token, 2000, &out), ERROR_TOKEN_EXPIRED);
}

/* Any library of the field can check it, and our way of checking takes what it makes. */
static void test_standard(void **state) {
        TokenClaims in = {.user = "u1", .session = "s1", .device = "d", .expires_at = 4000000000}, out;
        _cleanup_free_ char *token = NULL;
        jwt_t *jwt;

        assert_int_equal(token_issue(signer, &in, &token), 0);
        assert_int_equal(jwt_decode(&jwt, token, (const uint8_t *) public_pem, (int) strlen(public_pem)), 0);
        assert_int_equal(jwt_get_alg(jwt), JWT_ALG_ES256);
        assert_string_equal(jwt_get_header(jwt, "kid"), token_signer_key_id(signer));
        assert_string_equal(jwt_get_grant(jwt, "sub"), "u1");
        assert_int_equal(
                jwt_set_alg(jwt, JWT_ALG_ES256, (const uint8_t *) private_pem, (int) strlen(private_pem)),
                0);
        char *theirs = jwt_encode_str(jwt);
        assert_non_null(theirs);
        assert_int_equal(token_verify(keys, theirs, 1000, &out), ERROR_NONE);
        free(theirs);
        jwt_free(jwt);
}

static void test_tampered(void **state) {
        TokenClaims in = {.user = "u1", .session = "s1", .expires_at = 2000}, out = {.user = "untouched"};
        _cleanup_free_ char *token = NULL;

        assert_int_equal(token_issue(signer, &in, &token), 0);
        for (size_t i = 0; token[i]; i++) {
                char saved = token[i];
                token[i] = saved == 'A' ? 'B' : 'A';
                /* the last base64 digit of the signature has unused bits */
                if (token[i + 1])
                        assert_int_not_equal(token_verify(keys, token, 1000, &out), ERROR_NONE);
                token[i] = saved;
        }
        for (size_t size = strlen(token); size-- > 0;) { /* cut off */
                token[size] = 0;
                assert_int_equal(token_verify(keys, token, 1000, &out), ERROR_UNAUTHENTICATED);
        }
        assert_string_equal(out.user, "untouched");
}

static void test_several_keys(void **state) {
        TokenClaims in = {.user = "u1", .session = "s1", .expires_at = 2000}, out;
        _cleanup_(token_signer_freep) TokenSigner *other = NULL;
        _cleanup_(token_keys_unrefp) TokenKeys *both = NULL;
        _cleanup_free_ char *other_private = NULL, *other_public = NULL, *ours = NULL, *theirs = NULL;

        assert_int_equal(token_key_generate(&other_private, &other_public), 0);
        assert_int_equal(token_signer_new(&other, other_private, strlen(other_private)), 0);
        assert_int_equal(token_issue(signer, &in, &ours), 0);
        assert_int_equal(token_issue(other, &in, &theirs), 0);
        assert_int_equal(token_verify(keys, theirs, 1000, &out), ERROR_TOKEN_EXPIRED); /* a key of before */

        _cleanup_free_ char *text = format_string("%s\nsome words\n%s", other_public, public_pem);
        assert_int_equal(token_keys_new(&both, text, strlen(text)), 0);
        assert_true(token_keys_has(both, token_signer_key_id(signer)));
        assert_true(token_keys_has(both, token_signer_key_id(other)));
        assert_false(token_keys_has(both, "another"));
        assert_int_equal(token_verify(both, ours, 1000, &out), ERROR_NONE);
        assert_int_equal(token_verify(both, theirs, 1000, &out), ERROR_NONE);
}

static char *base64url(const char *text) {
        size_t size = sodium_base64_encoded_len(strlen(text), BASE64URL);
        char *out = malloc(size);

        assert_non_null(out);
        return sodium_bin2base64(out, size, (const uint8_t *) text, strlen(text), BASE64URL);
}

static const char claims[] =
        "{\"iss\":\"stonechat\",\"aud\":\"stonechat\",\"typ\":\"access\",\"sub\":\"u1\","
        "\"sid\":\"s1\",\"dev\":\"\",\"exp\":2000}";

/* Every algorithm but one is refused; above all HS256 with the public key, which everybody has, as secret. */
static void test_foreign_tokens(void **state) {
        _cleanup_free_ char *with_kid = format_string(
                "{\"alg\":\"none\",\"typ\":\"JWT\",\"kid\":\"%s\"}", token_signer_key_id(signer));
        const char *const headers[] = {
                "{\"alg\":\"none\",\"typ\":\"JWT\"}",
                with_kid,
                "{\"alg\":\"ES256\",\"typ\":\"JWT\"}",
                "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":7}",
                "{\"alg\":\"HS512\",\"typ\":\"JWT\"}",
                "{\"alg\":\"RS256\",\"typ\":\"JWT\"}",
        };
        TokenClaims out;

        FOREACH_ARRAY(header, headers, ELEMENTSOF(headers)) {
                _cleanup_free_ char *head = base64url(*header), *body = base64url(claims);
                _cleanup_free_ char *unsigned_token = format_string("%s.%s.", head, body);
                _cleanup_free_ char *signed_token = format_string("%s.%s.%s", head, body, "AAAA");
                assert_int_equal(token_verify(keys, unsigned_token, 1000, &out), ERROR_UNAUTHENTICATED);
                assert_int_equal(token_verify(keys, signed_token, 1000, &out), ERROR_UNAUTHENTICATED);
        }
        assert_int_equal(token_verify(keys, "", 1000, &out), ERROR_UNAUTHENTICATED);
        assert_int_equal(token_verify(keys, "a.b.c", 1000, &out), ERROR_UNAUTHENTICATED);

        _cleanup_free_ char *long_token = malloc(TOKEN_MAX_SIZE + 2);
        memset(long_token, 'a', TOKEN_MAX_SIZE + 1);
        long_token[TOKEN_MAX_SIZE + 1] = 0;
        assert_int_equal(token_verify(keys, long_token, 1000, &out), ERROR_UNAUTHENTICATED);
}

/* Whoever has a token of a key that is not in force any more, or of 0.2, is told to fetch another one. Nothing but the
 * answer depends on it, and it has to look like one of ours. */
static void test_key_of_before(void **state) {
        const char *const headers[] = {
                "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"another\"}",
                "{\"alg\":\"HS256\",\"typ\":\"JWT\"}",
        };
        TokenClaims out;

        FOREACH_ARRAY(header, headers, ELEMENTSOF(headers)) {
                _cleanup_free_ char *head = base64url(*header), *body = base64url(claims),
                                    *others = base64url("{\"iss\":\"another\",\"exp\":2000}");
                _cleanup_free_ char *ours = format_string("%s.%s.AAAA", head, body);
                _cleanup_free_ char *theirs = format_string("%s.%s.AAAA", head, others);
                assert_int_equal(token_verify(keys, ours, 1000, &out), ERROR_TOKEN_EXPIRED);
                assert_int_equal(token_verify(keys, theirs, 1000, &out), ERROR_UNAUTHENTICATED);
        }
}

static void test_public_key_is_no_secret(void **state) {
        TokenClaims in = {.user = "u1", .session = "s1", .expires_at = 2000}, out;
        _cleanup_free_ char *token = NULL;
        jwt_t *jwt;

        assert_int_equal(token_issue(signer, &in, &token), 0);
        assert_int_equal(jwt_decode(&jwt, token, NULL, 0), 0);
        assert_int_equal(
                jwt_set_alg(jwt, JWT_ALG_HS256, (const uint8_t *) public_pem, (int) strlen(public_pem)), 0);
        char *forged = jwt_encode_str(jwt);
        assert_non_null(forged);
        assert_int_equal(token_verify(keys, forged, 1000, &out), ERROR_UNAUTHENTICATED);
        free(forged);
        jwt_free(jwt);
}

static void test_no_keys(void **state) {
        static const char p384[] = "-----BEGIN PUBLIC KEY-----\n"
                                   "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEC1uWSXj2czCDwMTLWV5BFmwxdM6PX9p+\n"
                                   "Pk9Yf9rIf374m5XP1U8q79dBhLSIuaojsvOT39UUcPJROSD1FqYLued0rXiooIii\n"
                                   "1D3jaW6pmGVJFhodzC31cy5sfOYotrzF\n"
                                   "-----END PUBLIC KEY-----\n";
        _cleanup_free_ char *damaged = strdup(public_pem), *mixed = format_string("%s%s", public_pem, p384);
        TokenKeys *k = NULL;
        TokenSigner *s = NULL;

        damaged[40] = '!';
        _cleanup_free_ char *second_damaged = format_string("%s%s", public_pem, damaged);
        const char *const texts[] = {"", "no key", p384, damaged, second_damaged, mixed, private_pem};
        FOREACH_ARRAY(text, texts, ELEMENTSOF(texts))
                assert_int_equal(token_keys_new(&k, *text, strlen(*text)), -EINVAL);
        assert_null(k);
        assert_int_equal(token_signer_new(&s, public_pem, strlen(public_pem)), -EINVAL);
        assert_int_equal(token_signer_new(&s, "", 0), -EINVAL);
        assert_null(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_standard),
                cmocka_unit_test(test_tampered),
                cmocka_unit_test(test_several_keys),
                cmocka_unit_test(test_foreign_tokens),
                cmocka_unit_test(test_key_of_before),
                cmocka_unit_test(test_public_key_is_no_secret),
                cmocka_unit_test(test_no_keys),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
