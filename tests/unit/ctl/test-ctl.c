/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "ctl/ctl.h"
#include "ctl/table.h"
#include "util/string-util.h"
#include "util/time-util.h"

static void test_duration(void **state) {
        static const struct {
                uint64_t seconds;
                const char *text;
        } cases[] = {
                {0, "0s"},
                {17, "17s"},
                {60, "1min"},
                {123, "2min 3s"},
                {3600, "1h"},
                {18720, "5h 12min"},
                {3605, "1h"},
                {86400, "1d"},
                {273600, "3d 4h"},
                {40000000, "462d 23h"},
        };
        char text[FORMAT_MAX];

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases))
                assert_string_equal(format_duration(c->seconds * USEC_PER_SEC, text), c->text);
        assert_string_equal(format_duration(UINT64_MAX, text), "213503982d 8h");
}

static void test_size(void **state) {
        char text[FORMAT_MAX];

        assert_string_equal(format_size(0, text), "0B");
        assert_string_equal(format_size(1023, text), "1023B");
        assert_string_equal(format_size(1024, text), "1.0K");
        assert_string_equal(format_size(5 * 1024 * 1024 + 300 * 1024, text), "5.3M");
        assert_string_equal(format_size(1048575, text), "1.0M");
        assert_string_equal(format_size(UINT64_MAX, text), "16.0E");
}

static char *print(const Table *table, bool legend, bool colors) {
        char *text = NULL;
        size_t size;

        FILE *out = open_memstream(&text, &size);
        assert_int_equal(table_print(table, out, legend, colors), 0);
        fclose(out);
        return text;
}

static void test_table(void **state) {
        static const TableColumn columns[] = {{"NAME"}, {"N", true}, {"TEXT"}};
        _cleanup_(table_freep) Table *table = NULL;
        _cleanup_free_ char *with = NULL, *without = NULL, *colored = NULL;

        assert_int_equal(table_new(&table, columns, 3), 0);
        table_add(table, TABLE_PLAIN, "a");
        table_add(table, TABLE_PLAIN, "%d", 1000);
        table_add(table, TABLE_PLAIN, "x");
        table_add(table, TABLE_PLAIN, "größer");
        table_add(table, TABLE_BAD, "7");
        table_add(table, TABLE_PLAIN, "bell\a \033[2J");
        assert_int_equal(table_n_rows(table), 2);
        with = print(table, true, false);
        assert_string_equal(with, "NAME       N  TEXT\n"
                                  "a       1000  x\n"
                                  "größer     7  bell? ?[2J\n");
        without = print(table, false, false);
        assert_string_equal(without, "a       1000  x\n"
                                     "größer     7  bell? ?[2J\n");
        colored = print(table, false, true);
        assert_non_null(strstr(colored, "   \033[1;31m7\033[0m  bell"));
}

static void test_trace_id(void **state) {
        char id[33] = "";

        assert_int_equal(trace_id_from_user("4bf92f3577b34da6a3ce929d0e0e4736", id), 0);
        assert_string_equal(id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_int_equal(
                trace_id_from_user("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", id), 0);
        assert_string_equal(id, "0af7651916cd43dd8448eb211c80319c");
        assert_int_equal(trace_id_from_user("4BF92F3577B34DA6A3CE929D0E0E4736", id), 0);
        assert_string_equal(id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_int_equal(trace_id_from_user("4BF92F3577B34DA6A3CE929D0E0E473", id), -EINVAL);
        assert_int_equal(trace_id_from_user("4BF92F3577B34DA6A3CE929D0E0E473G", id), -EINVAL);
        assert_int_equal(trace_id_from_user("", id), -EINVAL);
        assert_int_equal(trace_id_from_user("--help", id), -EINVAL);
        assert_int_equal(trace_id_from_user("4bf92f3577b34da6a3ce929d0e0e4736 ", id), -EINVAL);
}

/* --- status --- */

#define TEXT(s) ((char *) (s))

static UnitStatistic group_statistics[] = {
        {TEXT("conversations"), 0}, {TEXT("messages"), 17}, {TEXT("deliveries"), 0}};

static UnitInfo sample_units[] = {
        {.name = TEXT("stonechat-api.service"),
                .load = TEXT("loaded"),
                .active = TEXT("inactive"),
                .sub = TEXT("dead"),
                .result = TEXT("success"),
                .status = TEXT("of a former life"),
                .healthy = 1},
        {.name = TEXT("stonechat-api.socket"),
                .load = TEXT("loaded"),
                .active = TEXT("active"),
                .sub = TEXT("listening"),
                .listen = TEXT("127.0.0.1:8080"),
                .healthy = -1},
        {.name = TEXT("stonechat-group.service"),
                .load = TEXT("loaded"),
                .active = TEXT("active"),
                .sub = TEXT("running"),
                .result = TEXT("success"),
                .status = TEXT("Serving"),
                .since_usec = 1000 * USEC_PER_SEC,
                .restarts = 2,
                .memory = 5 << 20,
                .main_pid = 77,
                .healthy = 1,
                .statistics = group_statistics,
                .n_statistics = 3},
        {.name = TEXT("stonechat-job@integrity-check.service"),
                .load = TEXT("loaded"),
                .active = TEXT("inactive"),
                .sub = TEXT("dead"),
                .type = TEXT("oneshot"),
                .healthy = -1},
        {.name = TEXT("stonechat-socket@9.service"),
                .load = TEXT("not-found"),
                .active = TEXT("inactive"),
                .sub = TEXT("dead"),
                .healthy = -1},
};

static const UnitList sample = {sample_units, ELEMENTSOF(sample_units)};

static void test_status_table(void **state) {
        const Options options = {.legend = true};
        _cleanup_free_ char *text = NULL;
        size_t size;

        FILE *out = open_memstream(&text, &size);
        assert_int_equal(status_print(&sample, 1123 * USEC_PER_SEC, &options, out), 0);
        fclose(out);
        assert_string_equal(text,
                "UNIT                     STATE             HEALTHY  FOR      RESTARTS  MEMORY  STATUS\n"
                "stonechat-api.service    inactive (dead)   -        -               0       -  \n"
                "stonechat-group.service  active (running)  yes      2min 3s         2    5.0M  Serving\n"
                "\n"
                "SOCKET                STATE               ADDRESS\n"
                "stonechat-api.socket  active (listening)  127.0.0.1:8080\n"
                "\n"
                "UNIT                     FIGURE         VALUE\n"
                "stonechat-group.service  conversations      0\n"
                "stonechat-group.service  messages          17\n");
}

static void test_status_json(void **state) {
        json_t *json = status_to_json(&sample), *service;

        assert_non_null(json);
        assert_true(json_is_true(json_object_get(json, "healthy")));
        assert_int_equal(json_array_size(json_object_get(json, "services")), 4);
        assert_int_equal(json_array_size(json_object_get(json, "sockets")), 1);
        service = json_array_get(json_object_get(json, "services"), 1);
        assert_string_equal(json_string_value(json_object_get(service, "unit")), "stonechat-group.service");
        assert_int_equal(json_integer_value(json_object_get(service, "since_ms")), 1000000);
        assert_int_equal(json_integer_value(json_object_get(service, "main_pid")), 77);
        assert_true(json_is_null(json_object_get(service, "reason")));
        assert_int_equal(
                json_integer_value(json_object_get(json_object_get(service, "statistics"), "messages")), 17);
        service = json_array_get(json_object_get(json, "services"), 2);
        assert_true(json_is_null(json_object_get(service, "healthy")));
        json_decref(json);
}

static void test_status_exit_code(void **state) {
        UnitInfo unit = {.name = TEXT("stonechat-group.service"),
                .load = TEXT("loaded"),
                .active = TEXT("active"),
                .sub = TEXT("running"),
                .healthy = -1};
        const UnitList list = {&unit, 1};

        assert_int_equal(status_exit_code(&list), 0);
        unit.healthy = 0;
        assert_int_equal(status_exit_code(&list), EXIT_NOT_HEALTHY);
        unit.healthy = 1;
        unit.active = TEXT("failed");
        assert_int_equal(status_exit_code(&list), EXIT_NOT_HEALTHY);
        unit.active = TEXT("inactive"); /* nothing runs at all */
        assert_int_equal(status_exit_code(&list), EXIT_NOT_HEALTHY);
        assert_int_equal(status_exit_code(&sample), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_duration),
                cmocka_unit_test(test_size),
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_trace_id),
                cmocka_unit_test(test_status_table),
                cmocka_unit_test(test_status_json),
                cmocka_unit_test(test_status_exit_code),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
