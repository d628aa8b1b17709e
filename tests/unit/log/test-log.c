/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "log/log.h"
#include "log/message-ids.h"
#include "util/fd-util.h"
#include "util/string-util.h"

/* --- what goes to standard error: a temporary file takes its place --- */

static FILE *capture;
static int saved_stderr = -EBADF;

static void capture_begin(void) {
        capture = tmpfile();
        assert_non_null(capture);
        saved_stderr = dup(STDERR_FILENO);
        assert_true(dup2(fileno(capture), STDERR_FILENO) >= 0);
}

/* What was written since; static memory. */
static const char *capture_end(void) {
        static char text[65536];

        assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
        saved_stderr = safe_close(saved_stderr);
        rewind(capture);
        text[fread(text, 1, sizeof(text) - 1, capture)] = 0;
        fclose(capture);
        return text;
}

static void test_stderr(void **state) {
        unsetenv("JOURNAL_STREAM");
        log_open("test", LOG_INFO);
        capture_begin();
        log_debug("not shown");
        log_info("shown %d", 1);
        log_error("a\nb\x1b[1mc");
        assert_string_equal(capture_end(), "<6>shown 1\n<3>a b [1mc\n");
}

static void test_errno(void **state) {
        log_open("test", LOG_ERR);
        capture_begin();
        errno = EBADF;
        assert_int_equal(log_error_errno(-ENOENT, "Failed to open %s: %m", "x"), -ENOENT);
        assert_int_equal(errno, EBADF); /* left alone */
        assert_int_equal(log_warning_errno(-EIO, "below the level"), -EIO);
        assert_int_equal(log_info("no error"), 0);
        assert_int_equal(log_oom(), -ENOMEM);
        assert_string_equal(
                capture_end(), "<3>Failed to open x: No such file or directory\n<3>Out of memory\n");
}

static void test_long_text_is_cut(void **state) {
        char text[5000];

        memset(text, 'x', sizeof(text));
        text[sizeof(text) - 1] = 0;
        log_open("test", LOG_INFO);
        capture_begin();
        log_info("%s", text);
        size_t size = strlen(capture_end());
        assert_true(size > 2000 && size < 2100);
}

static void test_peer_is_rate_limited(void **state) {
        unsigned n_lines = 0;

        log_open("test", LOG_INFO);
        capture_begin();
        for (unsigned i = 0; i < 100; i++)
                log_peer((.user = "u"), LOG_INFO, "line %u", i);
        for (const char *p = capture_end(); (p = strchr(p, '\n')); p++)
                n_lines++;
        assert_int_equal(n_lines, 10);
}

static void test_rate_limit_tells_what_was_dropped(void **state) {
        LogRateLimit limit = {};

        log_open("test", LOG_INFO);
        for (unsigned i = 0; i < 25; i++)
                assert_int_equal(log_rate_limit_pass(&limit, "src/x.c", 7), i < 10);
        limit.begin_usec = 1; /* as if it had been long ago */
        capture_begin();
        assert_true(log_rate_limit_pass(&limit, "src/x.c", 7));
        assert_string_equal(capture_end(), "<5>15 entries from src/x.c:7 were left out\n");
}

static void test_levels(void **state) {
        assert_int_equal(log_level_from_string("debug"), LOG_DEBUG);
        assert_int_equal(log_level_from_string("err"), LOG_ERR);
        assert_int_equal(log_level_from_string("loud"), -EINVAL);
        assert_string_equal(log_level_to_string(LOG_NOTICE), "notice");
        assert_string_equal(log_level_to_string(-5), "err");
}

/* --- what goes to the journal: what sends it is wrapped by the linker --- */

static char sent[20][320];
static int n_sent;
static int journal_result;
static unsigned n_tried;

int __wrap_journal_send(const struct iovec *iov, int n);
int __wrap_journal_send(const struct iovec *iov, int n) {
        n_tried++;
        n_sent = n;
        for (int i = 0; i < n; i++)
                snprintf(sent[i], sizeof(sent[i]), "%.*s", (int) iov[i].iov_len, (char *) iov[i].iov_base);
        return journal_result;
}

static bool was_sent(const char *field) {
        for (int i = 0; i < n_sent; i++)
                if (streq(sent[i], field))
                        return true;
        return false;
}

static void open_as_in_journal(void) {
        char stream[64];
        struct stat st;

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
        setenv("JOURNAL_STREAM", stream, 1);
        log_open("stonechat-test", LOG_INFO);
        unsetenv("JOURNAL_STREAM");
}

static void test_journal(void **state) {
        Trace trace;

        assert_int_equal(trace_parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &trace), 0);
        capture_begin();
        open_as_in_journal();
        log_with((.message_id = MESSAGE_ID_ROLE_READY, .trace = &trace, .user = "u", .conversation = "c",
                         .method = "m", .host = "h", .unit = "x.service", .error = "e", .error_number = EIO),
                LOG_NOTICE, "Text: %m");
        assert_string_equal(capture_end(), "");
        assert_int_equal(n_sent, 15);
        assert_true(was_sent("MESSAGE=Text: Input/output error"));
        assert_true(was_sent("MESSAGE_ID=" MESSAGE_ID_ROLE_READY));
        assert_true(was_sent("PRIORITY=5"));
        assert_true(was_sent("SYSLOG_IDENTIFIER=stonechat-test"));
        assert_true(was_sent("STONECHAT_TRACE_ID=4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_true(was_sent("STONECHAT_USER=u"));
        assert_true(was_sent("STONECHAT_CONVERSATION=c"));
        assert_true(was_sent("STONECHAT_METHOD=m"));
        assert_true(was_sent("STONECHAT_HOST=h"));
        assert_true(was_sent("STONECHAT_UNIT=x.service"));
        assert_true(was_sent("STONECHAT_ERROR=e"));
        assert_true(was_sent("ERRNO=5"));
        assert_true(was_sent("CODE_FUNC=test_journal"));

        capture_begin();
        open_as_in_journal();
        log_info("bare");
        assert_string_equal(capture_end(), "");
        assert_int_equal(n_sent, 6); /* nothing for what is unset */
}

static void test_journal_gone(void **state) {
        capture_begin();
        open_as_in_journal();
        journal_result = -ECONNREFUSED;
        log_info("still told");
        journal_result = 0;
        assert_string_equal(capture_end(), "<6>still told\n");
}

/* Nothing waits, nothing goes elsewhere; what was lost is told when the journal reads again. */
static void test_journal_does_not_read(void **state) {
        capture_begin();
        open_as_in_journal();
        journal_result = -EAGAIN;
        for (int i = 0; i < 3; i++)
                log_info("lost");
        log_report_lost();
        n_tried = 0;
        journal_result = 0;
        log_report_lost();
        assert_int_equal(n_tried, 1);
        assert_true(was_sent("MESSAGE=3 entries are missing here: the journal did not take them."));
        assert_true(was_sent("MESSAGE_ID=" MESSAGE_ID_JOURNAL_LOST));
        log_report_lost();
        assert_int_equal(n_tried, 1); /* once */

        journal_result = -EAGAIN;
        log_info("lost");
        journal_result = 0;
        n_tried = 0;
        log_info("The next entry says so, too.");
        assert_int_equal(n_tried, 2);
        assert_true(was_sent("MESSAGE=The next entry says so, too."));
        assert_string_equal(capture_end(), "");
}

static void test_redirected_stderr(void **state) {
        setenv("JOURNAL_STREAM", "1:2", 1);
        capture_begin();
        log_open("test", LOG_INFO);
        unsetenv("JOURNAL_STREAM");
        n_sent = 0;
        log_info("here");
        assert_string_equal(capture_end(), "<6>here\n");
        assert_int_equal(n_sent, 0);
}

static void test_trace_entry(void **state) {
        Trace trace;

        trace_new(&trace);
        unsetenv("JOURNAL_STREAM");
        log_open("test", LOG_INFO);
        capture_begin();
        log_trace(&trace, (.user = "u"), "unsampled");
        log_trace((const Trace *) NULL, (.user = "u"), "none");
        trace.sampled = true;
        log_trace(&trace, (.user = "u"), "sampled");
        assert_string_equal(capture_end(), "<6>sampled\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_stderr),
                cmocka_unit_test(test_errno),
                cmocka_unit_test(test_long_text_is_cut),
                cmocka_unit_test(test_peer_is_rate_limited),
                cmocka_unit_test(test_rate_limit_tells_what_was_dropped),
                cmocka_unit_test(test_levels),
                cmocka_unit_test(test_journal),
                cmocka_unit_test(test_journal_gone),
                cmocka_unit_test(test_journal_does_not_read),
                cmocka_unit_test(test_redirected_stderr),
                cmocka_unit_test(test_trace_entry),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
