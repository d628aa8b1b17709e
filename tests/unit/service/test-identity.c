/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/identity.h"

static const uid_t uids[_ROLE_MAX] = {
        [ROLE_NONE] = (uid_t) -1,
        [ROLE_API] = 101,
        [ROLE_SOCKET] = 102,
        [ROLE_GROUP] = 103,
        [ROLE_ARBITER] = (uid_t) -1, /* does not exist */
        [ROLE_JOB] = 105,
        [ROLE_CTL] = (uid_t) -1,
};

static int find(uid_t own, uid_t peer, Role *ret) {
        return identity_find(uids, own, &(RpcIdentity){.uid = peer}, ret);
}

static void test_roles(void **state) {
        Role role = ROLE_NONE;

        assert_int_equal(find(103, 101, &role), 0);
        assert_int_equal(role, ROLE_API);
        assert_int_equal(find(103, 102, &role), 0);
        assert_int_equal(role, ROLE_SOCKET);
        assert_int_equal(find(103, 105, &role), 0);
        assert_int_equal(role, ROLE_JOB);
        /* One of its own kind, and no more than that. */
        assert_int_equal(find(103, 103, &role), 0);
        assert_int_equal(role, ROLE_GROUP);
}

static void test_root_may_be_any(void **state) {
        Role role = ROLE_API;

        assert_int_equal(find(103, 0, &role), 0);
        assert_int_equal(role, ROLE_NONE);
}

static void test_strangers(void **state) {
        Role role = ROLE_API;

        assert_int_equal(find(103, 1000, &role), -EPERM);
        assert_int_equal(find(103, 65534, &role), -EPERM);
        /* Not the user that does not exist. */
        assert_int_equal(find(103, (uid_t) -1, &role), -EPERM);
        assert_int_equal(identity_find(uids, 103,
                                 &(RpcIdentity){.uid = (uid_t) -1, .certificate_name = "api"}, &role),
                -EPERM);
        assert_int_equal(role, ROLE_API);
}

static void test_one_user_for_all(void **state) {
        Role role = ROLE_API;

        assert_int_equal(find(1000, 1000, &role), 0);
        assert_int_equal(role, ROLE_NONE);
        assert_int_equal(find(1000, 1001, &role), -EPERM);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_roles),
                cmocka_unit_test(test_root_may_be_any),
                cmocka_unit_test(test_strangers),
                cmocka_unit_test(test_one_user_for_all),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
