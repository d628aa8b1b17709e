/* SPDX-License-Identifier: Apache-2.0 */

/* What a client does while the n-th allocation of the role fails, for every n: it gets what it asked for, or
 * an error, or is disconnected, and nothing of it is left behind. */

#include "fixture.h"

#include "failing-allocations.h"
#include "schema-tables.h"

/* Runs the steps with one allocation after the other failing, until none is left to fail; how many failed.
 * The teardown finds what is left behind. */
static unsigned fail_each(void (*steps)(void)) {
        for (unsigned n = 1;; n++) {
                allocation_to_fail = n;
                steps();
                if (allocation_to_fail > 0) {
                        allocation_to_fail = 0;
                        return n - 1;
                }
                assert_int_equal(HASH_COUNT(fake_role->users), 0);
                assert_int_equal(HASH_COUNT(fake_role->channels), 0);
        }
}

/* A failure must not leave a client waiting for an answer that does not come. */
static void assert_answered(WebSocket *client) {
        assert_true(client_close_code(client) > 0 || client_hear(client));
}

static uint64_t stored; /* messages of c1 */

static void answer_page(FakeRequest *request) {
        Sc__RecoverRequest *recover = recover_request(request);
        uint64_t from = recover->positions[0]->seq;

        sc__recover_request__free_unpacked(recover, NULL);
        answer_recover(request, "e", stored, from + 1, stored);
}

static void answer_requests(void) {
        FakeRequest *request;

        /* What failed for lack of memory is tried again. */
        while ((request = next_request()) || retry_is_due())
                if (!request)
                        pass_retry();
                else if (request->method == &method_gateway_attach)
                        answer_attach(request, &(FakeSubscription){"c1", "e", stored}, 1);
                else if (request->method == &method_gateway_recover)
                        answer_page(request);
                else
                        answer(request, &((Sc__DetachResponse) SC__DETACH_RESPONSE__INIT).base);
}

static char *token;
static WebSocket *client;

static void connect_and_leave(void) {
        unsigned n = TAKE_GENERIC(allocation_to_fail, 0U);
        stored = 6;
        client = client_open();
        allocation_to_fail = n;
        client_say(client,
                "{'id':1,'connect':{'token':'%s','subs':{'c1':{'recover':true,'epoch':'e','offset':4}}}}",
                token);
        if (check_is_waiting())
                answer_check(true);
        push_if_linked("ann", "c2");
        answer_requests();
        assert_answered(client);
        client_gone(client);
        answer_requests();
}

static void test_connecting(void **state) {
        fixture_allocation_to_fail = &allocation_to_fail;
        token = make_token("ann", "s1", 900);
        /* The connection's identity, its user with the table and its buckets, the command and its positions,
         * the attachment, channel and subscription with their table, and more. */
        assert_true(fail_each(connect_and_leave) > 20);
        free(token);
}

static void assert_hears_nothing_more(WebSocket *socket) {
        if (client_close_code(socket) == 0)
                assert_hears_nothing(socket);
}

static void reattach_and_leave(void) {
        unsigned n = TAKE_GENERIC(allocation_to_fail, 0U);
        client = client_connected("ann", "s1", "c1", 4);
        allocation_to_fail = n;
        link_break();
        link_restore();
        push_message("c1", 5);
        push_message("c1", 7);
        stored = 7;
        answer_requests();
        n = TAKE_GENERIC(allocation_to_fail, 0U);
        push_message("c1", 8); /* shows a push that was lost */
        stored = 8;
        answer_requests();
        if (client_close_code(client) == 0)
                for (unsigned seq = 5; seq <= 8; seq++)
                        assert_non_null(client_hear(client));
        assert_hears_nothing_more(client);
        allocation_to_fail = n;
        client_gone(client);
        answer_requests();
}

static void test_reattaching(void **state) {
        fixture_allocation_to_fail = &allocation_to_fail;
        assert_true(fail_each(reattach_and_leave) > 10);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                T(test_connecting),
                T(test_reattaching),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
