/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <fcntl.h>
#include <sodium.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "fiber/fiber.h"
#include "schema-tables.h"
#include "service/credential.h"
#include "service/token-verifier.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define TIMEOUT_USEC (30 * USEC_PER_SEC)

typedef struct Pair {
        char *private_pem, *public_pem;
        TokenSigner *signer;
        TokenKeys *keys;
} Pair;

static sd_event *event;
static Pair first, second;

static void pair_make(Pair *pair) {
        assert_int_equal(token_key_generate(&pair->private_pem, &pair->public_pem), 0);
        assert_int_equal(token_signer_new(&pair->signer, pair->private_pem, strlen(pair->private_pem)), 0);
        assert_int_equal(token_keys_new(&pair->keys, pair->public_pem, strlen(pair->public_pem)), 0);
}

static void pair_done(Pair *pair) {
        token_signer_free(pair->signer);
        token_keys_unref(pair->keys);
        free(pair->private_pem);
        free(pair->public_pem);
}

static char *make_token(const Pair *pair, const char *user, int64_t ttl) {
        TokenClaims claims = {.session = "s", .expires_at = unix_msec() / 1000 + ttl};
        char *token;

        snprintf(claims.user, sizeof(claims.user), "%s", user);
        assert_int_equal(token_issue(pair->signer, &claims, &token), 0);
        return token;
}

/* What a reload brings for the public keys. */
static void renew(const char *pem) {
        _cleanup_close_ int fd = memfd_create("credential", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, pem, strlen(pem)), strlen(pem));
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_int_equal(credential_renew(TOKEN_PUBLIC_CREDENTIAL, fd), 0);
}

typedef struct Outcome {
        unsigned n;
        Sc__ErrorCode code;
        char user[64];
} Outcome;

static void on_verified(Sc__ErrorCode code, const TokenClaims *claims, void *userdata) {
        Outcome *outcome = userdata;

        outcome->n++;
        outcome->code = code;
        if (code == ERROR_NONE)
                strcpy(outcome->user, claims->user);
        else
                assert_null(claims);
}

static void run_until(const unsigned *n, unsigned expected) {
        uint64_t deadline = boottime_usec() + TIMEOUT_USEC;

        while (*n < expected) {
                assert_true(boottime_usec() < deadline);
                assert_true(sd_event_run(event, TIMEOUT_USEC) >= 0);
        }
}

static Sc__ErrorCode check(TokenVerifier *verifier, const char *token) {
        Outcome outcome = {};

        assert_int_equal(token_verifier_start(verifier, token, on_verified, &outcome), 0);
        assert_int_equal(outcome.n, 0); /* never at once */
        run_until(&outcome.n, 1);
        return outcome.code;
}

static void test_outcomes(void **state) {
        _cleanup_(token_verifier_freep) TokenVerifier *verifier = NULL;
        _cleanup_free_ char *good = make_token(&first, "ann", 100), *old = make_token(&first, "ann", -1),
                            *foreign = make_token(&second, "ann", 100);
        _cleanup_free_ char *too_long = calloc(1, TOKEN_MAX_SIZE + 2);
        TokenClaims claims;

        memset(too_long, 'a', TOKEN_MAX_SIZE + 1);
        assert_int_equal(token_verifier_new_with(&verifier, event, 0, first.keys), 0);
        assert_int_equal(check(verifier, good), ERROR_NONE);
        assert_int_equal(check(verifier, old), ERROR_TOKEN_EXPIRED);
        assert_int_equal(check(verifier, foreign), ERROR_TOKEN_EXPIRED);
        assert_int_equal(check(verifier, ""), ERROR_UNAUTHENTICATED);
        assert_int_equal(check(verifier, too_long), ERROR_UNAUTHENTICATED);
        /* It remembers none. */
        assert_false(token_verifier_find(verifier, good, &claims));
}

static void test_remembered(void **state) {
        _cleanup_(token_verifier_freep) TokenVerifier *verifier = NULL;
        _cleanup_free_ char *ann = make_token(&first, "ann", 100), *bob = make_token(&first, "bob", 100),
                            *foreign = make_token(&second, "eve", 100);
        TokenClaims claims;

        assert_int_equal(token_verifier_new_with(&verifier, event, 1, first.keys), 0);
        assert_false(token_verifier_find(verifier, ann, &claims));
        assert_int_equal(check(verifier, ann), ERROR_NONE);
        assert_true(token_verifier_find(verifier, ann, &claims));
        assert_string_equal(claims.user, "ann");
        assert_int_equal(check(verifier, foreign), ERROR_TOKEN_EXPIRED);
        assert_false(token_verifier_find(verifier, foreign, &claims));
        assert_true(token_verifier_find(verifier, ann, &claims));
        /* There is one place. */
        assert_int_equal(check(verifier, bob), ERROR_NONE);
        assert_true(token_verifier_find(verifier, bob, &claims));
        assert_string_equal(claims.user, "bob");
        assert_false(token_verifier_find(verifier, ann, &claims));
}

/* As it is rotated: both are in force, then only the second; what was remembered is asked anew. */
static void test_reload(void **state) {
        _cleanup_(token_verifier_freep) TokenVerifier *verifier = NULL;
        _cleanup_free_ char *ann = make_token(&first, "ann", 100), *bob = make_token(&second, "bob", 100);
        _cleanup_free_ char *both = format_string("%s%s", second.public_pem, first.public_pem);
        Outcome late = {};
        TokenClaims claims;

        renew(first.public_pem);
        assert_int_equal(token_verifier_new(&verifier, event, 64), 0);
        assert_int_equal(check(verifier, bob), ERROR_TOKEN_EXPIRED);
        renew(both);
        assert_int_equal(token_verifier_reload(verifier), 0);
        assert_int_equal(check(verifier, ann), ERROR_NONE);
        assert_int_equal(check(verifier, bob), ERROR_NONE);

        renew("no key");
        assert_int_equal(token_verifier_reload(verifier), -EINVAL);
        assert_int_equal(check(verifier, ann), ERROR_NONE);
        assert_true(token_verifier_find(verifier, ann, &claims));

        /* Begun with the key before, it ends with that, and is not remembered. */
        assert_int_equal(token_verifier_start(verifier, ann, on_verified, &late), 0);
        renew(second.public_pem);
        assert_int_equal(token_verifier_reload(verifier), 0);
        run_until(&late.n, 1);
        assert_int_equal(late.code, ERROR_NONE);
        assert_false(token_verifier_find(verifier, ann, &claims));
        assert_int_equal(check(verifier, ann), ERROR_TOKEN_EXPIRED);
        assert_int_equal(check(verifier, bob), ERROR_NONE);
}

static void test_limit(void **state) {
        TokenVerifier *verifier;
        Outcome outcome = {};
        unsigned n = 0;

        assert_int_equal(token_verifier_new_with(&verifier, event, 0, first.keys), 0);
        int r;
        while ((r = token_verifier_start(verifier, "", on_verified, &outcome)) == 0)
                n++;
        assert_int_equal(r, -EBUSY);
        assert_int_equal(n, TOKEN_VERIFIER_MAX_WAITING);
        /* Everyone who waits hears of it, also at the end. */
        assert_null(token_verifier_free(verifier));
        assert_int_equal(outcome.n, n);
        assert_int_equal(token_verifier_start(NULL, "", on_verified, &outcome), -ECANCELED);
}

typedef struct OnFiber {
        TokenVerifier *verifier;
        const char *token;
        unsigned n;
        int r;
        Sc__ErrorCode code;
        TokenClaims claims;
} OnFiber;

static void fiber_main(void *userdata) {
        OnFiber *f = userdata;

        f->r = token_verifier_check(f->verifier, f->token, &f->claims, &f->code);
        f->n++;
}

static void test_fiber(void **state) {
        static const FiberPoolConfig config = {.max_fibers = 4, .max_queued = 4, .max_queued_per_key = 4};
        _cleanup_(token_verifier_freep) TokenVerifier *verifier = NULL;
        _cleanup_free_ char *token = make_token(&first, "ann", 100);
        FiberPool *pool;
        Fiber *fiber;

        assert_int_equal(fiber_pool_new(&pool, event, &config), 0);
        assert_int_equal(token_verifier_new_with(&verifier, event, 0, first.keys), 0);
        OnFiber good = {.verifier = verifier, .token = token}, cancelled = good;
        assert_int_equal(
                fiber_start(pool, &(FiberStart){.main = fiber_main, .userdata = &good, .key = "a"}, NULL),
                0);
        run_until(&good.n, 1);
        assert_int_equal(good.r, 0);
        assert_int_equal(good.code, ERROR_NONE);
        assert_string_equal(good.claims.user, "ann");

        assert_int_equal(
                fiber_start(
                        pool, &(FiberStart){.main = fiber_main, .userdata = &cancelled, .key = "a"}, &fiber),
                0);
        fiber_cancel(fiber, -ECANCELED);
        run_until(&cancelled.n, 1);
        assert_int_equal(cancelled.r, -ECANCELED);
        verifier = token_verifier_free(verifier);
        fiber_pool_free(pool);
}

static int setup(void **state) {
        if (sodium_init() < 0 || sd_event_new(&event) < 0)
                return -1;
        pair_make(&first);
        pair_make(&second);
        return 0;
}

static int teardown(void **state) {
        pair_done(&first);
        pair_done(&second);
        sd_event_unref(event);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_outcomes),
                cmocka_unit_test(test_remembered),
                cmocka_unit_test(test_reload),
                cmocka_unit_test(test_limit),
                cmocka_unit_test(test_fiber),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
