/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "log/trace.h"
#include "util/string-util.h"

#define PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void test_parse(void **state) {
        char text[TRACEPARENT_TEXT_SIZE], id[TRACE_ID_TEXT_SIZE];
        Trace trace;

        assert_int_equal(trace_parse(PARENT, &trace), 0);
        assert_true(trace.sampled);
        assert_true(trace.parent == 0x00f067aa0ba902b7ULL);
        trace_format(&trace, text);
        assert_string_equal(text, PARENT);
        trace_format_id(&trace, id);
        assert_string_equal(id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_int_equal(trace_parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", &trace), 0);
        assert_false(trace.sampled);
        /* A later version is read as far as it agrees with this one. */
        assert_int_equal(
                trace_parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more", &trace), 0);
        assert_true(trace.sampled);
}

static void test_refused(void **state) {
        static const char *const bad[] = {
                "",
                "00",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        };

        FOREACH_ARRAY(text, bad, ELEMENTSOF(bad)) {
                Trace trace = {.parent = 7};
                assert_int_equal(trace_parse(*text, &trace), -EINVAL);
                assert_true(trace.parent == 7); /* untouched */
        }
}

static void test_begin(void **state) {
        Trace trace, other;

        trace_begin(PARENT, &trace);
        assert_int_equal(trace.id[0], 0x4b);
        assert_true(trace.sampled);
        assert_true(trace.asked);
        /* What the client marked as not sampled is not. */
        trace_begin("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", &trace);
        assert_false(trace.sampled);
        assert_false(trace.asked);
        /* A bad one is replaced. */
        trace_begin("nonsense", &trace);
        trace_begin(NULL, &other);
        assert_memory_not_equal(trace.id, other.id, sizeof(trace.id));
        assert_true(trace.parent != 0);
        assert_true(trace.sampled);
        assert_false(trace.asked);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_begin),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
