/* SPDX-License-Identifier: Apache-2.0 */

/* Sending, delivery, history, recovery. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "fixture.h"
#include "rpc/rpc.h"
#include "util/string-util.h"

static char gateway_1, gateway_2;

/* --- sending --- */

static void test_send(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");

        const Sc__SendResponse *first = send_text(f, "ada", conversation, "m1", "hello");
        assert_int_equal(first->seq, 1);
        assert_string_equal(first->conversation, conversation);
        assert_string_equal(first->client_msg_id, "m1");
        assert_true(first->created_at > 0);
        assert_false(first->duplicate);
        assert_int_equal(send_text(f, "bob", conversation, "m1", "hi")->seq, 2);
        /* After a restart it goes on where it was. */
        fixture_restart(f);
        assert_int_equal(send_text(f, "ada", conversation, "m2", "again")->seq, 3);
}

static void test_made_id(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        const Sc__SendResponse *one = send_text(f, "ada", conversation, "", "hello");
        const Sc__SendResponse *two = send_text(f, "ada", conversation, "", "hello");

        assert_int_equal(strlen(one->client_msg_id), 36);
        assert_string_not_equal(one->client_msg_id, two->client_msg_id);
        assert_int_equal(two->seq, 2);
}

static void test_duplicates(void **state) {
        Fixture *f = *state;
        const Sc__Message *messages[8];
        const char *conversation = open_direct(f, "ada", "bob"), *other = open_direct(f, "ada", "eve");

        attach(f, &gateway_1, "c1", "bob");
        const Sc__SendResponse *first = send_text(f, "ada", conversation, "m1", "hello");
        for (unsigned i = 0; i < 4; i++) {
                if (i == 2)
                        fixture_restart(f);
                const Sc__SendResponse *again = send_text(f, "ada", conversation, "m1", "hello");
                assert_int_equal(again->seq, 1);
                assert_true(again->duplicate);
                assert_int_equal(again->created_at, first->created_at);
        }
        assert_int_equal(delivered(f, &gateway_1, conversation, messages), 1);

        Sc__SendRequest changed_text = text_request(conversation, "m1", "another text");
        ask_refused(f, &method_message_send, "ada", &changed_text, ERROR_CLIENT_MSG_ID_CONFLICT);
        Sc__SendRequest elsewhere = text_request(other, "m1", "hello");
        ask_refused(f, &method_message_send, "ada", &elsewhere, ERROR_CLIENT_MSG_ID_CONFLICT);
        assert_int_equal(send_text(f, "ada", conversation, "m2", "next")->seq, 2);
        assert_int_equal(send_text(f, "ada", other, "m3", "first")->seq, 1);
}

/* The same id several times at once: one is stored, all are answered alike. */
static void test_duplicates_in_flight(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        const Sc__Message *messages[200];
        Answer *answers[200];
        unsigned n_fresh = 0;

        attach(f, &gateway_1, "c1", "bob");
        for (unsigned i = 0; i < 200; i++) {
                Sc__SendRequest request = text_request(conversation, "same", "hello");
                answers[i] = begin(f, &method_message_send, "ada", NULL, &request);
        }
        for (unsigned i = 0; i < 200; i++) {
                finish(f, answers[i]);
                assert_int_equal(answers[i]->code, ERROR_NONE);
                const Sc__SendResponse *response = (const Sc__SendResponse *) answers[i]->response;
                assert_int_equal(response->seq, 1);
                n_fresh += !response->duplicate;
        }
        assert_int_equal(n_fresh, 1);
        assert_int_equal(delivered(f, &gateway_1, conversation, messages), 1);
}

static void test_order_under_load(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        static const Sc__Message *messages[MAX_PUSHES];
        static Answer *answers[1000];

        attach(f, &gateway_1, "c1", "bob");
        for (unsigned i = 0; i < 1000; i++) {
                char id[16];

                snprintf(id, sizeof(id), "m%u", i);
                Sc__SendRequest request = text_request(conversation, id, id);
                answers[i] = begin(f, &method_message_send, i % 3 ? "ada" : "bob", NULL, &request);
        }
        for (unsigned i = 0; i < 1000; i++) {
                finish(f, answers[i]);
                assert_int_equal(answers[i]->code, ERROR_NONE);
        }
        assert_int_equal(delivered(f, &gateway_1, conversation, messages), 1000);
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(messages[i]->seq, i + 1);
        assert_int_equal(f->role->pending_bytes, 0);
}

static void test_overload(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        static Answer *answers[SEQUENCE_MAX_QUEUED + 100];
        unsigned n_refused = 0;

        send_text(f, "ada", conversation, "first", "the members are known now");
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                Sc__SendRequest request = text_request(conversation, "", "hello");
                answers[i] = begin(f, &method_message_send, "ada", NULL, &request);
        }
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                finish(f, answers[i]);
                n_refused += answers[i]->code == ERROR_OVERLOADED;
                assert_true(answers[i]->code == ERROR_NONE || answers[i]->code == ERROR_OVERLOADED);
        }
        assert_int_equal(n_refused, 100);
}

static void test_send_refusals(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        Sc__SendRequest request = text_request(conversation, "m1", "hello");

        ask_refused(f, &method_message_send, "eve", &request, ERROR_NOT_A_MEMBER);
        ask_refused(f, &method_message_send, "", &request, ERROR_UNAUTHENTICATED);
        request = text_request("there-is-none", "m1", "hello");
        ask_refused(f, &method_message_send, "ada", &request, ERROR_NOT_A_MEMBER);
        request = text_request("#ada", "m1", "hello");
        ask_refused(f, &method_message_send, "ada", &request, ERROR_PERMISSION_DENIED);
        request = text_request(conversation, "m1", "");
        ask_refused(f, &method_message_send, "ada", &request, ERROR_INVALID_ARGUMENT);
        request = text_request(
                conversation, "0123456789012345678901234567890123456789012345678901234567890123x", "x");
        ask_refused(f, &method_message_send, "ada", &request, ERROR_INVALID_ARGUMENT);
        request = text_request(conversation, "m1", "hello");
        request.body_case = SC__SEND_REQUEST__BODY__NOT_SET;
        ask_refused(f, &method_message_send, "ada", &request, ERROR_INVALID_ARGUMENT);
        request.body_case = SC__SEND_REQUEST__BODY_DATA;
        request.data = (ProtobufCBinaryData){};
        ask_refused(f, &method_message_send, "ada", &request, ERROR_INVALID_ARGUMENT);
        request.data = (ProtobufCBinaryData){2, (uint8_t *) "\0\1"};
        assert_int_equal(((Sc__SendResponse *) ask(f, &method_message_send, "ada", &request))->seq, 1);
}

/* --- delivery --- */

static void test_delivery(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        const Sc__Message *messages[8];

        attach(f, &gateway_1, "c1", "ada");
        attach(f, &gateway_1, "c2", "bob");
        attach(f, &gateway_2, "c3", "bob");
        attach(f, &gateway_2, "c4", "eve");
        send_text(f, "ada", conversation, "m1", "hello");
        /* One a gateway, however many hear it there. */
        assert_int_equal(delivered(f, &gateway_1, conversation, messages), 1);
        assert_int_equal(delivered(f, &gateway_2, conversation, messages), 1);
        assert_int_equal(messages[0]->seq, 1);
        assert_string_equal(messages[0]->sender, "ada");
        assert_string_equal(messages[0]->text, "hello");
        assert_string_equal(messages[0]->kind, "text");
        assert_true(messages[0]->created_at > 0);

        Sc__DetachRequest detach = SC__DETACH_REQUEST__INIT;
        detach.client = (char *) "c3";
        detach.user = (char *) "bob";
        finish(f, begin(f, &method_gateway_detach, "", &gateway_2, &detach));
        send_text(f, "ada", conversation, "m2", "hello");
        assert_int_equal(delivered(f, &gateway_2, conversation, messages), 1);
        group_role_forget_gateway(f->role, &gateway_1);
        send_text(f, "ada", conversation, "m3", "hello");
        assert_int_equal(delivered(f, &gateway_1, conversation, messages), 2);
}

/* --- history --- */

static const Sc__HistoryResponse *history(
        Fixture *f, const char *conversation, uint64_t before, uint64_t after, uint32_t limit, bool oldest) {
        Sc__HistoryRequest request = SC__HISTORY_REQUEST__INIT;

        request.conversation = (char *) conversation;
        request.before = before;
        request.after = after;
        request.limit = limit;
        request.oldest = oldest;
        return ask(f, &method_message_history, "ada", &request);
}

static void assert_page(const Sc__HistoryResponse *page, uint64_t first, uint64_t last, bool more) {
        assert_int_equal(page->n_messages, last - first + 1);
        for (size_t i = 0; i < page->n_messages; i++)
                assert_int_equal(page->messages[i]->seq, first + i);
        assert_int_equal(page->more, more);
        assert_int_equal(page->last_seq, 120);
        assert_int_equal(strlen(page->epoch), 36);
}

static void test_get(void **state) {
        Fixture *f = *state;
        Sc__MessageGetRequest request = SC__MESSAGE_GET_REQUEST__INIT;

        request.conversation = (char *) open_direct(f, "ada", "bob");
        send_text(f, "ada", request.conversation, "", "first");
        send_text(f, "bob", request.conversation, "", "second");
        request.seq = 2;
        const Sc__Message *message = ask(f, &method_message_get, "ada", &request);
        assert_int_equal(message->seq, 2);
        assert_string_equal(message->text, "second");
        assert_string_equal(message->sender, "bob");
        ask_refused(f, &method_message_get, "eve", &request, ERROR_NOT_A_MEMBER);
        request.seq = 3;
        ask_refused(f, &method_message_get, "ada", &request, ERROR_NOT_FOUND);
        request.seq = UINT64_MAX;
        ask_refused(f, &method_message_get, "ada", &request, ERROR_NOT_FOUND);
}

static void test_history(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        Sc__HistoryRequest bad = SC__HISTORY_REQUEST__INIT;

        assert_int_equal(history(f, conversation, 0, 0, 0, false)->n_messages, 0);
        for (unsigned i = 0; i < 120; i++)
                send_text(f, i % 2 ? "ada" : "bob", conversation, "", "hello");
        assert_page(history(f, conversation, 0, 0, 0, false), 71, 120, true);
        assert_page(history(f, conversation, 0, 0, 1000, false), 1, 120, false);
        assert_page(history(f, conversation, 71, 0, 50, false), 21, 70, true);
        assert_page(history(f, conversation, 21, 0, 50, false), 1, 20, false);
        assert_page(history(f, conversation, 0, 100, 50, false), 101, 120, false);
        assert_page(history(f, conversation, 0, 5, 10, false), 6, 15, true);
        assert_page(history(f, conversation, 0, 0, 10, true), 1, 10, true);
        assert_page(history(f, conversation, UINT64_MAX, 0, 1, false), 120, 120, true);
        assert_int_equal(history(f, conversation, 0, 120, 10, false)->n_messages, 0);
        assert_int_equal(history(f, conversation, 0, UINT64_MAX, 10, false)->n_messages, 0);
        assert_int_equal(history(f, conversation, 1, 0, 10, false)->n_messages, 0);

        bad.conversation = (char *) conversation;
        ask_refused(f, &method_message_history, "eve", &bad, ERROR_NOT_A_MEMBER);
        bad.before = bad.after = 5;
        ask_refused(f, &method_message_history, "ada", &bad, ERROR_INVALID_ARGUMENT);
}

/* A page never outgrows a frame of the internal RPC. */
static void test_history_of_large_messages(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        _cleanup_free_ char *text = malloc(65537);

        memset(text, 'x', 65536);
        text[65536] = 0;
        for (unsigned i = 0; i < 70; i++)
                send_text(f, "ada", conversation, "", text);
        const Sc__HistoryResponse *page = history(f, conversation, 0, 0, 1000, false);
        assert_true(page->more);
        assert_int_equal(page->n_messages, GROUP_MAX_PAGE / 65536 - 1);
        assert_int_equal(page->messages[page->n_messages - 1]->seq, 70);
        assert_true(protobuf_c_message_get_packed_size(&page->base) <= GROUP_MAX_PAGE);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_send),
                TEST(test_made_id),
                TEST(test_duplicates),
                TEST(test_duplicates_in_flight),
                TEST(test_order_under_load),
                TEST(test_overload),
                TEST(test_send_refusals),
                TEST(test_delivery),
                TEST(test_get),
                TEST(test_history),
                TEST(test_history_of_large_messages),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
