/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "keys/keys.h"
#include "schema-tables.h"
#include "util/fd-util.h"
#include "util/string-util.h"

static char path[32];
static int directory;

static int setup(void **state) {
        strcpy(path, "/tmp/test-keys-XXXXXX");
        if (sodium_init() < 0 || !mkdtemp(path))
                return -1;
        directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return directory < 0 ? -1 : 0;
}

static int teardown(void **state) {
        _cleanup_free_ char *command = format_string("rm -r %s", path);

        safe_close(directory);
        return system(command);
}

static char *read_name(const char *name) {
        _cleanup_free_ char *file = format_string("%s/%s", path, name);
        char *text = NULL;

        return read_file(file, TOKEN_PEM_MAX, &text, NULL) < 0 ? NULL : text;
}

/* A token that is signed with the key as it is on disk. */
static char *make_token(void) {
        const TokenClaims claims = {.user = "u1", .session = "s1", .expires_at = 2000};
        _cleanup_(token_signer_freep) TokenSigner *signer = NULL;
        _cleanup_free_ char *pem = read_name(TOKEN_PRIVATE_CREDENTIAL);
        char *token;

        assert_non_null(pem);
        assert_int_equal(token_signer_new(&signer, pem, strlen(pem)), 0);
        assert_int_equal(token_issue(signer, &claims, &token), 0);
        return token;
}

/* With the public keys as they are on disk. */
static Sc__ErrorCode verify(const char *token) {
        _cleanup_(token_keys_unrefp) TokenKeys *keys = NULL;
        _cleanup_free_ char *pem = read_name(TOKEN_PUBLIC_CREDENTIAL);
        TokenClaims claims;

        assert_non_null(pem);
        assert_int_equal(token_keys_new(&keys, pem, strlen(pem)), 0);
        return token_verify(keys, token, 1000, &claims);
}

static void test_make(void **state) {
        char id[TOKEN_KEY_ID_SIZE], again[TOKEN_KEY_ID_SIZE];
        static const char *const names[] = {TOKEN_PRIVATE_CREDENTIAL, TOKEN_PUBLIC_CREDENTIAL};
        struct stat st;

        int fd = openat(directory, "token.key", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* of 0.2 */
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(keys_make(directory, id), 1);
        _cleanup_free_ char *token = make_token();
        assert_int_equal(verify(token), ERROR_NONE);
        FOREACH_ARRAY(name, names, ELEMENTSOF(names)) {
                assert_int_equal(fstatat(directory, *name, &st, 0), 0);
                assert_int_equal(st.st_mode & 07777, 0600);
        }
        assert_int_equal(fstatat(directory, "token.key", &st, 0), -1);
        /* It is not made twice. */
        assert_int_equal(keys_make(directory, again), 0);
        assert_string_equal(again, id);
        assert_int_equal(verify(token), ERROR_NONE);
}

static void test_rotation(void **state) {
        char first[TOKEN_KEY_ID_SIZE], next[TOKEN_KEY_ID_SIZE], active[TOKEN_KEY_ID_SIZE];

        assert_int_equal(keys_make(directory, first), 1);
        assert_int_equal(keys_activate(directory, active), -ENOENT);
        _cleanup_free_ char *old = make_token();
        assert_int_equal(keys_prepare(directory, next), 0);
        assert_string_not_equal(next, first);
        /* Signed with the first still. */
        _cleanup_free_ char *meanwhile = make_token();
        assert_int_equal(verify(old), ERROR_NONE);
        assert_int_equal(verify(meanwhile), ERROR_NONE);
        assert_int_equal(keys_activate(directory, active), 0);
        assert_string_equal(active, next);
        _cleanup_free_ char *new_token = make_token();
        assert_int_equal(verify(new_token), ERROR_NONE);
        assert_int_equal(verify(old), ERROR_NONE);
        assert_int_equal(keys_activate(directory, active), -ENOENT);

        assert_int_equal(keys_revoke(directory, active), 0);
        assert_string_equal(active, next);
        assert_int_equal(verify(new_token), ERROR_NONE);
        assert_int_equal(verify(old), ERROR_TOKEN_EXPIRED);
}

/* Two keys are in force, never three. */
static void test_second_rotation(void **state) {
        char id[TOKEN_KEY_ID_SIZE];

        assert_int_equal(keys_make(directory, id), 1);
        _cleanup_free_ char *first = make_token();
        assert_int_equal(keys_prepare(directory, id), 0);
        assert_int_equal(keys_activate(directory, id), 0);
        _cleanup_free_ char *second = make_token();
        assert_int_equal(keys_prepare(directory, id), 0);
        assert_int_equal(keys_activate(directory, id), 0);
        assert_int_equal(verify(first), ERROR_TOKEN_EXPIRED);
        assert_int_equal(verify(second), ERROR_NONE);
}

/* Each step may have been the last before the power went. */
static void test_interrupted(void **state) {
        char id[TOKEN_KEY_ID_SIZE], next[TOKEN_KEY_ID_SIZE];

        assert_int_equal(keys_make(directory, id), 1);
        _cleanup_free_ char *token = make_token();
        assert_int_equal(keys_prepare(directory, id), 0);
        assert_int_equal(keys_prepare(directory, next), 0);
        assert_int_equal(verify(token), ERROR_NONE);
        assert_int_equal(keys_activate(directory, id), 0);
        assert_string_equal(id, next);
        assert_int_equal(verify(token), ERROR_NONE);

        /* A next key that no role was told of does not sign. */
        _cleanup_free_ char *before = read_name(TOKEN_PUBLIC_CREDENTIAL);
        assert_int_equal(keys_prepare(directory, next), 0);
        int fd = openat(directory, TOKEN_PUBLIC_CREDENTIAL, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, before, strlen(before)), strlen(before));
        close(fd);
        assert_int_equal(keys_activate(directory, next), -ENOKEY);

        /* The public key was written, the private one not. */
        assert_int_equal(unlinkat(directory, TOKEN_PRIVATE_CREDENTIAL, 0), 0);
        assert_int_equal(keys_make(directory, id), 1);
        _cleanup_free_ char *other = make_token();
        assert_int_equal(verify(other), ERROR_NONE);
        assert_int_equal(verify(token), ERROR_TOKEN_EXPIRED);
}

static void test_damaged(void **state) {
        char id[TOKEN_KEY_ID_SIZE] = "untouched";

        int fd = openat(directory, TOKEN_PRIVATE_CREDENTIAL, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, "no key\n", 7), 7);
        close(fd);
        assert_int_equal(keys_make(directory, id), -EINVAL);
        assert_int_equal(keys_prepare(directory, id), -EINVAL);
        assert_int_equal(keys_revoke(directory, id), -EINVAL);
        assert_string_equal(id, "untouched");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_make),
                TEST(test_rotation),
                TEST(test_second_rotation),
                TEST(test_interrupted),
                TEST(test_damaged),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
