/* SPDX-License-Identifier: Apache-2.0 */

/* Entries as the journal gets them, and a journal that does not read. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "log/journal.h"
#include "util/fd-util.h"
#include "util/string-util.h"

static char directory[32], path[64];
static int journal;

static int setup(void **state) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        strcpy(directory, "/tmp/test-journal-XXXXXX");
        assert_non_null(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/socket", directory);
        strcpy(address.sun_path, path);
        journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(journal >= 0);
        assert_int_equal(bind(journal, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(journal_open(path), 0);
        return 0;
}

static int teardown(void **state) {
        journal = safe_close(journal);
        unlink(path);
        return rmdir(directory);
}

#define FIELD(text) ((struct iovec){.iov_base = (void *) (text), .iov_len = sizeof(text) - 1})

static void assert_next(const char *expected, size_t size) {
        char got[1024];

        assert_int_equal(recv(journal, got, sizeof(got), 0), size);
        assert_memory_equal(got, expected, size);
}

static void test_format(void **state) {
        const struct iovec fields[] = {FIELD("MESSAGE=one=two"), FIELD("PRIORITY=6"), FIELD("EMPTY=")};
        static const char plain[] = "MESSAGE=one=two\nPRIORITY=6\nEMPTY=\n";
        const struct iovec lines[] = {FIELD("MESSAGE=one\ntwo=\n"), FIELD("PRIORITY=3"), FIELD("no field")};
        static const char with_lines[] = "MESSAGE\n\x09\0\0\0\0\0\0\0one\ntwo=\n\nPRIORITY=3\n";

        assert_int_equal(journal_send(fields, 3), 0);
        assert_next(plain, sizeof(plain) - 1);
        assert_int_equal(journal_send(lines, 3), 0);
        assert_next(with_lines, sizeof(with_lines) - 1);
}

static void test_full(void **state) {
        const struct iovec field = FIELD("MESSAGE=text");
        unsigned n = 0, n_read = 0;
        char got[64];
        int r;

        while ((r = journal_send(&field, 1)) >= 0)
                n++;
        assert_int_equal(r, -EAGAIN);
        assert_true(n > 0);
        while (recv(journal, got, sizeof(got), 0) >= 0)
                n_read++;
        assert_int_equal(n_read, n);
        assert_int_equal(journal_send(&field, 1), 0);
}

static void test_gone(void **state) {
        const struct iovec field = FIELD("MESSAGE=text");

        assert_int_equal(unlink(path), 0);
        assert_int_equal(journal_send(&field, 1), -ENOENT);
        assert_int_equal(close(creat(path, 0600)), 0);
        assert_int_equal(journal_send(&field, 1), -ECONNREFUSED);
        _cleanup_free_ char *too_long = calloc(1, 200);
        memset(too_long, 'a', 199);
        assert_int_equal(journal_open(too_long), -ENAMETOOLONG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_format, setup, teardown),
                cmocka_unit_test_setup_teardown(test_full, setup, teardown),
                cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
