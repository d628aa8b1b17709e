/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/rest/route-table.h"
#include "util/string-util.h"

static const MethodInfo
        list = {.name = "list", .http_verb = "GET", .http_path = "/v1/things"},
        add = {.name = "add", .http_verb = "POST", .http_path = "/v1/things"},
        get = {.name = "get", .http_verb = "GET", .http_path = "/v1/things/{thing}"},
        mine = {.name = "mine", .http_verb = "GET", .http_path = "/v1/things/mine"},
        special = {.name = "special", .http_verb = "POST", .http_path = "/v1/things/special"},
        part = {.name = "part", .http_verb = "GET", .http_path = "/v1/things/{thing}/parts/{part}"},
        any_first = {.name = "any_first", .http_verb = "GET", .http_path = "/{version}/things/mine"},
        internal = {.name = "internal"};

static RouteTable *new_table(void) {
        /* The less literal ones first, on purpose. */
        static const MethodInfo *const methods[] = {
                &any_first, &part, &get, &internal, &list, &add, &special, &mine};
        RouteTable *table = NULL;

        assert_int_equal(route_table_new(&table, methods, ELEMENTSOF(methods)), 0);
        return table;
}

static const char *match(const RouteTable *table, const char *verb, const char *path) {
        static char allow[ROUTE_ALLOW_SIZE];
        RouteMatch m;

        int r = route_table_match(table, verb, path, &m, allow);
        if (r == -ENOTSUP)
                return allow;
        return r < 0 ? NULL : m.method->name;
}

static void test_match(void **state) {
        _cleanup_(route_table_freep) RouteTable *table = new_table();

        assert_string_equal(match(table, "GET", "/v1/things"), "list");
        assert_string_equal(match(table, "POST", "/v1/things"), "add");
        assert_string_equal(match(table, "GET", "/v1/things/7"), "get");
        assert_string_equal(match(table, "GET", "/v1/things/mine"), "mine");
        assert_string_equal(match(table, "GET", "/v2/things/mine"), "any_first");
        /* The literal has no GET, and is no {thing}. */
        assert_string_equal(match(table, "GET", "/v1/things/special"), "POST, OPTIONS");
        assert_string_equal(match(table, "POST", "/v1/things/special"), "special");
}

static void test_no_match(void **state) {
        static const char *const paths[] = {"", "/", "v1/things", "/v1", "/v1/things/", "//v1/things",
                "/v1/things/7/", "/v1/things/7/parts", "/v1/things//parts/3", "/V1/things", "/v1/thing",
                "/v1/things2", "/1/2/3/4/5/6/7/8/9/10", "*"};
        _cleanup_(route_table_freep) RouteTable *table = new_table();

        FOREACH_ARRAY(path, paths, ELEMENTSOF(paths))
                assert_null(match(table, "GET", *path));
}

static void test_verbs(void **state) {
        _cleanup_(route_table_freep) RouteTable *table = new_table();

        assert_string_equal(match(table, "DELETE", "/v1/things"), "GET, HEAD, POST, OPTIONS");
        assert_string_equal(match(table, "POST", "/v1/things/7"), "GET, HEAD, OPTIONS");
        assert_string_equal(match(table, "PUT", "/v1/things/special"), "POST, OPTIONS");
        assert_string_equal(match(table, "get", "/v1/things/7"), "GET, HEAD, OPTIONS");
}

static void test_parameters(void **state) {
        _cleanup_(route_table_freep) RouteTable *table = new_table();
        char allow[ROUTE_ALLOW_SIZE];
        RouteMatch m;

        assert_int_equal(route_table_match(table, "GET", "/v1/things/a b/parts/c", &m, allow), 0);
        assert_int_equal(m.n_parameters, 2);
        assert_memory_equal(m.parameters[0].name, "thing", m.parameters[0].name_size);
        assert_int_equal(m.parameters[0].value_size, 3);
        assert_memory_equal(m.parameters[0].value, "a b", 3);
        assert_memory_equal(m.parameters[1].name, "part", m.parameters[1].name_size);
        assert_memory_equal(m.parameters[1].value, "c", m.parameters[1].value_size);
}

static void test_malformed_routes(void **state) {
        static const char *const paths[] = {
                "", "things", "/", "/a//b", "/a/{}", "/a/{b", "/1/2/3/4/5/6/7/8/9"};

        FOREACH_ARRAY(path, paths, ELEMENTSOF(paths)) {
                MethodInfo method = {.name = "m", .http_verb = "GET", .http_path = *path};
                const MethodInfo *const methods[] = {&method};
                RouteTable *table = NULL;
                assert_int_equal(route_table_new(&table, methods, 1), -EINVAL);
        }
}

/* What the definitions say fits in. */
static void test_schema(void **state) {
        _cleanup_(route_table_freep) RouteTable *table = NULL;
        char allow[ROUTE_ALLOW_SIZE];
        RouteMatch m;

        assert_int_equal(route_table_new(&table, schema_methods, schema_n_methods), 0);
        assert_int_equal(route_table_match(table, "GET", "/v1/users/me", &m, allow), 0);
        assert_string_equal(m.method->name, "user.me");
        assert_int_equal(route_table_match(table, "GET", "/v1/users/x", &m, allow), 0);
        assert_string_equal(m.method->name, "user.get");
        assert_int_equal(route_table_match(table, "POST", "/v1/conversations/direct", &m, allow), 0);
        assert_string_equal(m.method->name, "conversation.open_direct");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_match),
                cmocka_unit_test(test_no_match),
                cmocka_unit_test(test_verbs),
                cmocka_unit_test(test_parameters),
                cmocka_unit_test(test_malformed_routes),
                cmocka_unit_test(test_schema),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
