/* SPDX-License-Identifier: Apache-2.0 */

/* Conversations that strangers open: how many, until somebody answers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "fixture.h"
#include "group/conversation/load.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define MAX_UNANSWERED 5U
#define MAX_STRANGERS 8U

static Answer *begin_open(Fixture *f, const char *user, const char *other) {
        Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;

        request.user = (char *) other;
        return begin(f, &method_conversation_open_direct, user, NULL, &request);
}

static Sc__ErrorCode try_open(Fixture *f, const char *user, const char *other) {
        Answer *answer = begin_open(f, user, other);

        finish(f, answer);
        return answer->code;
}

/* u0, u1, u2 …: static memory. */
static const char *numbered(unsigned i) {
        static char names[64][16];

        snprintf(names[i % 64], sizeof(names[0]), "u%u", i);
        return names[i % 64];
}

static void limit(Fixture *f) {
        f->conf->group_max_unanswered = MAX_UNANSWERED;
        f->conf->group_max_strangers = MAX_STRANGERS;
}

static void test_answers_make_room(void **state) {
        Fixture *f = *state;
        const char *conversations[MAX_UNANSWERED];

        limit(f);
        for (unsigned i = 0; i < MAX_UNANSWERED; i++)
                conversations[i] = open_direct(f, "ada", numbered(i));
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_TOO_MANY_UNANSWERED);
        /* Those that are there can be opened as often as one likes, and one with oneself is no affair of others. */
        assert_int_equal(try_open(f, "ada", numbered(0)), ERROR_NONE);
        assert_int_equal(try_open(f, "ada", "ada"), ERROR_NONE);
        /* What one writes oneself, and what the other reads, is no answer. */
        send_text(f, "ada", conversations[0], "", "are you there?");
        Sc__MarkReadRequest read = SC__MARK_READ_REQUEST__INIT;
        read.conversation = (char *) conversations[0];
        read.seq = 1;
        ask(f, &method_conversation_mark_read, numbered(0), &read);
        settle(f);
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_TOO_MANY_UNANSWERED);
        send_text(f, numbered(0), conversations[0], "", "I am");
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_NONE);
        assert_int_equal(try_open(f, "ada", "eve"), ERROR_TOO_MANY_UNANSWERED);
        /* Whoever was written to is free to write to others, and to her. */
        assert_int_equal(try_open(f, "bob", "ada"), ERROR_NONE);
        assert_int_equal(try_open(f, "bob", "eve"), ERROR_NONE);
}

/* It is the same after a crash: neither is anything forgotten, nor taken for more than it was. */
static void test_is_stored(void **state) {
        Fixture *f = *state;
        const char *conversations[MAX_UNANSWERED];

        limit(f);
        for (unsigned i = 0; i < MAX_UNANSWERED; i++)
                conversations[i] = open_direct(f, "ada", numbered(i));
        fixture_crash(f);
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_TOO_MANY_UNANSWERED);
        send_text(f, numbered(1), conversations[1], "", "hello");
        wait_for(f, "store_writes", n_writes(f) + 1); /* what is known of the members is stored */
        settle(f);
        fixture_crash(f);
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_NONE);
        assert_int_equal(try_open(f, "ada", "eve"), ERROR_TOO_MANY_UNANSWERED);
        /* An answer that was not noted before the crash is found in the log, when that is loaded. */
        send_text(f, numbered(2), conversations[2], "", "hello");
        fixture_crash(f);
        get(f, "ada", conversations[2]);
        assert_int_equal(try_open(f, "ada", "eve"), ERROR_NONE);
}

static void test_counts_exactly(void **state) {
        Fixture *f = *state;
        Answer *answers[40];
        unsigned n = 0;

        limit(f);
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++)
                answers[i] = begin_open(f, "ada", numbered(i));
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                finish(f, answers[i]);
                n += answers[i]->code == ERROR_NONE;
                if (answers[i]->code != ERROR_NONE)
                        assert_int_equal(answers[i]->code, ERROR_TOO_MANY_UNANSWERED);
        }
        assert_int_equal(n, MAX_UNANSWERED);
}

/* Many strangers at once: the inbox takes as many as it may, and answering makes room. */
static void test_one_inbox(void **state) {
        Fixture *f = *state;
        Answer *answers[40];
        unsigned n = 0, first = UINT_MAX;

        limit(f);
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++)
                answers[i] = begin_open(f, numbered(i), "ada");
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                finish(f, answers[i]);
                if (answers[i]->code == ERROR_NONE) {
                        first = MIN(first, i);
                        n++;
                } else
                        assert_int_equal(answers[i]->code, ERROR_INBOX_FULL);
        }
        assert_int_equal(n, MAX_STRANGERS);
        assert_int_equal(try_open(f, "bob", "ada"), ERROR_INBOX_FULL);
        /* She may write to whom she likes. */
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_NONE);
        send_text(f, "ada", open_direct(f, "ada", numbered(first)), "", "who are you?");
        assert_int_equal(try_open(f, "eve", "ada"), ERROR_NONE);
        assert_int_equal(try_open(f, "pat", "ada"), ERROR_INBOX_FULL);
}

/* Two who open the same one at the same moment. */
static void test_both_at_once(void **state) {
        Fixture *f = *state;

        limit(f);
        for (unsigned i = 0; i < 3 * MAX_UNANSWERED; i++) {
                Answer *one = begin_open(f, "ada", numbered(i)), *two = begin_open(f, numbered(i), "ada");
                finish(f, one);
                finish(f, two);
                assert_int_equal(one->code, ERROR_NONE);
                assert_int_equal(two->code, ERROR_NONE);
                const char *id = open_direct(f, "ada", numbered(i));
                send_text(f, "ada", id, "", "hello");
                send_text(f, numbered(i), id, "", "hello");
        }
}

static void test_no_limits(void **state) {
        Fixture *f = *state;

        f->conf->group_max_unanswered = f->conf->group_max_strangers = 0;
        for (unsigned i = 0; i < 60; i++)
                open_direct(f, "ada", numbered(i));
        settle(f);
        /* But for how many there are in all. */
        f->conf->group_max_conversations = 60;
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_TOO_MANY_CONVERSATIONS);
        assert_int_equal(try_open(f, "bob", "ada"), ERROR_TOO_MANY_CONVERSATIONS);
        assert_int_equal(try_open(f, "ada", "ada"), ERROR_TOO_MANY_CONVERSATIONS);
        f->conf->group_max_conversations = 61;
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_NONE);
        settle(f);
        fixture_restart(f);
        assert_int_equal(try_open(f, "ada", "eve"), ERROR_TOO_MANY_CONVERSATIONS);
        assert_int_equal(try_open(f, "ada", "bob"), ERROR_NONE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup_model, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_answers_make_room),
                TEST(test_is_stored),
                TEST(test_counts_exactly),
                TEST(test_one_inbox),
                TEST(test_both_at_once),
                TEST(test_no_limits),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
