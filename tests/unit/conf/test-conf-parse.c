/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "conf/conf-parse.h"
#include "util/string-util.h"

/* Everything the parser says, a line each. */
static char heard[4096];

static void on_assignment(
        unsigned line, const char *section, const char *name, const char *value, void *userdata) {
        size_t n = strlen(heard);
        snprintf(heard + n, sizeof(heard) - n, "%u %s.%s=%s|\n", line, section, name, value);
}

static void on_problem(unsigned line, const char *problem, void *userdata) {
        size_t n = strlen(heard);
        snprintf(heard + n, sizeof(heard) - n, "%u! %s\n", line, problem);
}

static const char *parse(const char *text, size_t size) {
        static const ConfParser parser = {.on_assignment = on_assignment, .on_problem = on_problem};

        heard[0] = 0;
        conf_parse(text, size, &parser, NULL);
        return heard;
}

#define PARSE(text) parse(text, sizeof(text) - 1)

static void test_plain(void **state) {
        assert_string_equal(PARSE("# c\n; c\n\n[A]\nx=1\n  y  =  2 3 \r\n\t# c\n[ B1 ]\nz=\nu=a=b"),
                "5 A.x=1|\n6 A.y=2 3|\n9 B1.z=|\n10 B1.u=a=b|\n");
        assert_string_equal(PARSE(""), "");
        assert_string_equal(PARSE("\n"), "");
}

static void test_problems(void **state) {
        assert_string_equal(PARSE("x=1\n"), "1! a key before the first [Section]\n");
        assert_string_equal(PARSE("[A]\nx\n"), "2! expected \"[Section]\", \"Key=Value\" or a comment\n");
        assert_string_equal(PARSE("[A]\n=1\n"), "2! a key is made of letters and digits\n");
        assert_string_equal(PARSE("[A]\na b=1\n"), "2! a key is made of letters and digits\n");
        assert_string_equal(PARSE("[]\n"), "1! a section's name is made of letters and digits\n");
        /* What follows a bad header belongs to no section. */
        assert_string_equal(
                PARSE("[A]\n[B\nx=1\n[C]\ny=2\n"), "2! a section header ends in \"]\"\n5 C.y=2|\n");
}

static void test_bytes(void **state) {
        assert_string_equal(PARSE("[A]\nx=a\0b\n"), "2! the line is not valid UTF-8 text\n");
        assert_string_equal(PARSE("[A]\nx=\xff\n"), "2! the line is not valid UTF-8 text\n");
        assert_string_equal(PARSE("[A]\nx=\xc3\xa9\n"), "2 A.x=\xc3\xa9|\n");
}

static void test_limits(void **state) {
        char text[CONF_MAX_LINE + 8];

        memset(text, 'x', sizeof(text));
        text[0] = '#';
        text[CONF_MAX_LINE] = '\n';
        assert_string_equal(parse(text, CONF_MAX_LINE + 1), "");
        text[CONF_MAX_LINE] = 'x';
        text[CONF_MAX_LINE + 1] = '\n';
        assert_string_equal(parse(text, CONF_MAX_LINE + 2), "1! the line is too long\n");

        memset(text, 'x', sizeof(text));
        text[0] = '[';
        text[CONF_MAX_NAME + 1] = ']';
        assert_string_equal(parse(text, CONF_MAX_NAME + 2), "");
        text[CONF_MAX_NAME + 1] = 'x';
        text[CONF_MAX_NAME + 2] = ']';
        assert_string_equal(
                parse(text, CONF_MAX_NAME + 3), "1! a section's name is made of letters and digits\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain),
                cmocka_unit_test(test_problems),
                cmocka_unit_test(test_bytes),
                cmocka_unit_test(test_limits),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
