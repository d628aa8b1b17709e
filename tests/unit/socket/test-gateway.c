/* SPDX-License-Identifier: Apache-2.0 */

/* Deliveries: order, gaps, what overtakes what, and primaries that go and come back. */

#include "fixture.h"

#include "schema-tables.h"
#include "util/string-util.h"

static void expect_message(WebSocket *socket, const char *conversation, uint64_t seq, int line) {
        _cleanup_free_ char *pub = publication(conversation, seq);

        expect_line(socket, format_string("{'push':{'channel':'%s','pub':%s}}", conversation, pub), line);
}
#define assert_message(socket, conversation, seq) expect_message(socket, conversation, seq, __LINE__)

static void test_deliver_to_all_in_order_once(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4), *b = client_connected("ann", "s2", "c1", 5),
                  *c = client_connected("cy", "s3", "c2", 0);

        push_message("c1", 5);
        assert_message(a, "c1", 5);
        assert_hears_nothing(b); /* has it already */
        push_message("c1", 5);
        assert_hears_nothing(a);
        push_message("c1", 6);
        assert_message(a, "c1", 6);
        assert_message(b, "c1", 6);
        push_message("nobody-hears-this", 1);
        assert_hears_nothing(c);
        assert_int_equal(fake_role->statistics.deliveries, 3);
}

static void test_encoded_once(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4), *b = client_connected("bo", "s2", "c1", 4);

        push_message("c1", 5);
        Bytes *first = client_take(a), *second = client_take(b);
        assert_ptr_equal(first, second);
        assert_int_equal(first->n_ref, 2);
        bytes_unref(first);
        bytes_unref(second);
}

static void test_receipts_take_no_place(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_receipt("c1", 3);
        assert_hears(a, "{'push':{'channel':'c1','pub':{'data':{'receipt':{'conversation':'c1','user':'bo','"
                        "read_seq':3}},"
                        "'info':{'user':'bo'}}}}");
        push_message("c1", 5);
        assert_message(a, "c1", 5);
}

static void test_a_gap_ends_the_connection(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4), *b = client_connected("bo", "s2", "c1", 5);

        push_message("c1", 6);
        assert_hears_nothing(a);
        assert_closed(a, 3010);
        assert_message(b, "c1", 6);
        assert_closed(b, 0);
}

static void test_last_subscriber_ends_on_a_gap(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_message("c1", 9);
        assert_closed(a, 3010);
        assert_null(channel_find(fake_role, "c1"));
        push_message("c1", 10);
}

/* --- pushes that overtake the answer --- */

static WebSocket *begin_connect(const char *user, FakeRequest **ret) {
        _cleanup_free_ char *token = make_token(user, "s1", 900);
        WebSocket *socket = client_open();

        client_say(socket, "{'id':1,'connect':{'token':'%s'}}", token);
        answer_check(true);
        *ret = next_request();
        return socket;
}

static void test_held_deliveries_are_merged(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);

        push_message("c1", 6); /* in the answer, too */
        push_message("c1", 7);
        push_message("c2", 1); /* none of this user's */
        push_message("c1", 8);
        assert_int_equal(fake_role->gateway->push_buffer.n, 4);
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_non_null(client_hear(a));
        assert_message(a, "c1", 7);
        assert_message(a, "c1", 8);
        assert_hears_nothing(a);
        assert_int_equal(fake_role->gateway->push_buffer.n, 0);
        push_message("c1", 9);
        assert_message(a, "c1", 9);
        assert_int_equal(fake_role->gateway->push_buffer.n, 0);
}

static void test_held_with_a_gap(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);

        push_message("c1", 8);
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_non_null(client_hear(a));
        assert_closed(a, 3010);
        assert_int_equal(fake_role->gateway->push_buffer.n, 0);
}

static void test_held_for_several(void **state) {
        FakeRequest *first, *second;
        WebSocket *a = begin_connect("ann", &first), *b;

        push_message("c1", 7);
        b = begin_connect("bo", &second);
        push_message("c1", 8);
        answer_attach(second, &(FakeSubscription){"c1", "e", 7}, 1);
        assert_non_null(client_hear(b));
        assert_message(b, "c1", 8);
        assert_int_equal(fake_role->gateway->push_buffer.n, 2);
        answer_attach(first, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_non_null(client_hear(a));
        assert_message(a, "c1", 7);
        assert_message(a, "c1", 8);
        assert_int_equal(fake_role->gateway->push_buffer.n, 0);
}

static void test_nothing_is_held_for_one_that_left(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);
        _cleanup_free_ char *id = strdup(client_id(a));

        push_message("c1", 7);
        client_gone(a);
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_detaches(id);
        assert_int_equal(fake_role->gateway->push_buffer.n, 0);
}

static void test_too_much_held(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);

        for (unsigned i = 0; i <= 65536; i++)
                push_message("c1", i + 1);
        assert_int_equal(fake_role->gateway->push_buffer.n, 0);
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_error(a, 1, 1003, "overloaded");
        assert_null(channel_find(fake_role, "c1"));
}

static void test_membership_that_overtakes(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);

        push_membership("ann", "c2", 0, false);
        push_membership("bo", "c3", 0, false);
        push_message("c2", 1);
        push_membership("ann", "c1", 0, true);
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_non_null(client_hear(a));
        assert_hears(a,
                "{'push':{'channel':'c2','subscribe':{'recoverable':true,'epoch':'e','positioned':true}}}");
        assert_message(a, "c2", 1);
        assert_hears(
                a, "{'push':{'channel':'c1','unsubscribe':{'code':2000,'reason':'no longer a member'}}}");
        assert_hears_nothing(a);
}

/* --- membership --- */

static void test_membership(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4), *b = client_connected("bo", "s2", "c1", 4);

        push_membership("ann", "c2", 3, false);
        assert_hears(a, "{'push':{'channel':'c2','subscribe':{'recoverable':true,'epoch':'e','offset':3,"
                        "'positioned':true}}}");
        assert_hears_nothing(b);
        push_membership("ann", "c2", 3, false); /* told twice */
        assert_hears_nothing(a);
        push_message("c2", 4);
        assert_message(a, "c2", 4);
        push_membership("ann", "c2", 0, true);
        assert_hears(
                a, "{'push':{'channel':'c2','unsubscribe':{'code':2000,'reason':'no longer a member'}}}");
        push_membership("ann", "c2", 0, true);
        push_message("c2", 5);
        assert_hears_nothing(a);
        push_membership("nobody", "c2", 0, false);
}

/* --- detaching --- */

static void test_detach(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4), *b = client_open();
        _cleanup_free_ char *id = strdup(client_id(a));

        client_gone(b);
        assert_null(next_request());
        client_gone(a);
        assert_detaches(id);
        assert_null(next_request());
}

/* An attach that failed here may have succeeded there, for a user that the next token may not be of. */
static void test_detach_after_a_failed_connect(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900), *other = make_token("bo", "s2", 900);
        WebSocket *a = client_open();

        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        answer_check(true);
        refuse(next_request(), ERROR_TIMEOUT);
        assert_error(a, 1, 1004, "timeout");
        assert_detaches(client_id(a));
        client_say(a, "{'id':2,'connect':{'token':'%s'}}", other);
        answer_check(true);
        answer_attach(next_request(), NULL, 0);
        assert_non_null(client_hear(a));
        assert_null(next_request());
}

static void test_no_detach_without_a_link(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        client_gone(a);
        assert_null(next_request());
}

/* --- a primary that comes back --- */

static FakeRequest *reattach(const char *client, uint64_t position) {
        FakeRequest *request = next_request();

        assert_non_null(request);
        Sc__AttachRequest *attach = attach_request(request);
        assert_string_equal(attach->client, client);
        assert_int_equal(attach->n_positions, 1);
        assert_string_equal(attach->positions[0]->epoch, "e");
        assert_int_equal(attach->positions[0]->seq, position);
        sc__attach_request__free_unpacked(attach, NULL);
        return request;
}

static void test_reattach_delivers_what_was_missed(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_message("c1", 5);
        assert_message(a, "c1", 5);
        link_break();
        link_restore();
        FakeRequest *request = reattach(client_id(a), 5);
        push_message("c1", 9); /* comes before the answer */
        assert_hears_nothing(a);
        assert_closed(a, 0);
        answer_attach(request, &(FakeSubscription){"c1", "e", 8, true, true, 6, 8}, 1);
        for (uint64_t seq = 6; seq <= 9; seq++)
                assert_message(a, "c1", seq);
        assert_hears_nothing(a);
        push_message("c1", 10);
        assert_message(a, "c1", 10);
        assert_closed(a, 0);
        assert_null(next_request());
        assert_int_equal(fake_role->statistics.reattached, 1);
}

static void test_reattach_with_nothing_missed(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        FakeRequest *request = reattach(client_id(a), 4);
        push_message("c1", 5); /* the very next one: need not wait */
        assert_message(a, "c1", 5);
        answer_attach(request, &(FakeSubscription){"c1", "e", 5, true, true, 5, 5}, 1);
        assert_hears_nothing(a);
        assert_closed(a, 0);
}

static void test_reattach_too_far_behind(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        answer_attach(reattach(client_id(a), 4), &(FakeSubscription){"c1", "e", 5000, true, false}, 1);
        assert_closed(a, 3010);
}

static void test_reattach_to_another_incarnation(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        answer_attach(reattach(client_id(a), 4), &(FakeSubscription){"c1", "e2", 4, true, false}, 1);
        assert_closed(a, 3010);
}

static void test_reattach_with_other_conversations(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        FakeRequest *request = reattach(client_id(a), 4);
        push_membership("ann", "c3", 0, false); /* newer than the answer */
        assert_hears(a,
                "{'push':{'channel':'c3','subscribe':{'recoverable':true,'epoch':'e','positioned':true}}}");
        answer_attach(request, &(FakeSubscription){"c2", "e", 2}, 1);
        assert_hears(a, "{'push':{'channel':'c2','subscribe':{'recoverable':true,'epoch':'e','offset':2,"
                        "'positioned':true}}}");
        assert_hears(
                a, "{'push':{'channel':'c1','unsubscribe':{'code':2000,'reason':'no longer a member'}}}");
        assert_hears_nothing(a);
        push_message("c3", 1);
        assert_message(a, "c3", 1);
}

static void test_reattach_refused(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        FakeRequest *request = reattach(client_id(a), 4);
        link_break();
        refuse(request, ERROR_TIMEOUT); /* the link is away again: the next time it stands counts */
        assert_closed(a, 0);
        link_restore();
        refuse(reattach(client_id(a), 4), ERROR_OVERLOADED);
        assert_closed(a, 3004);
}

static void test_reattach_of_an_ended_session(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        refuse(reattach(client_id(a), 4), ERROR_SESSION_REVOKED);
        assert_closed(a, 3500);
}

static void test_connect_of_an_ended_session(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);
        _cleanup_free_ char *id = strdup(client_id(a));

        refuse(request, ERROR_SESSION_REVOKED);
        assert_hears_nothing(a);
        assert_closed(a, 3500);
        assert_detaches(id);
}

/* Whatever else went wrong: the client must not try again with this session. */
static void test_one_of_two_primaries_knows_that_the_session_ended(void **state) {
        set_routes("/one", "/two");
        FakeRequest *first, *second;
        WebSocket *a = begin_connect("ann", &first);

        second = next_request();
        refuse(first, ERROR_SESSION_REVOKED);
        refuse(second, ERROR_TIMEOUT);
        assert_hears_nothing(a);
        assert_closed(a, 3500);
}

/* A group role without routes cannot attach anybody: the client gets an answer all the same. */
static void test_no_primary(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        WebSocket *a = client_open();

        set_routes(NULL, NULL);
        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        answer_check(true);
        assert_error(a, 1, 1003, "overloaded");
        assert_closed(a, 0);
}

static void test_reattach_a_few_at_a_time(void **state) {
        FakeRequest *request;
        unsigned n = 0;

        for (unsigned i = 0; i < 200; i++) {
                char user[16];
                snprintf(user, sizeof(user), "u%u", i);
                client_connected(user, "s1", "c1", 4);
        }
        link_break();
        link_restore();
        FakeRequest *waiting[200];
        while ((request = next_request()))
                waiting[n++] = request;
        assert_int_equal(n, 64);
        for (unsigned i = 0; i < n; i++) {
                answer_attach(waiting[i], &(FakeSubscription){"c1", "e", 4, true, true}, 1);
                if ((request = next_request()))
                        waiting[n++] = request;
        }
        assert_int_equal(n, 200);
        assert_int_equal(fake_role->statistics.reattached, 200);
}

/* A connection whose turn has not come yet sees a gap: the answer will fill it. */
static void test_pushes_while_others_reattach(void **state) {
        WebSocket *all[100];
        FakeRequest *request, *waiting[100];
        unsigned n = 0;

        for (unsigned i = 0; i < 100; i++) {
                char user[16];
                snprintf(user, sizeof(user), "u%u", i);
                all[i] = client_connected(user, "s1", "c1", 4);
        }
        link_break();
        link_restore();
        while ((request = next_request()))
                waiting[n++] = request;
        assert_int_equal(n, 64);
        push_message("c1", 9);
        for (unsigned i = 0; i < n; i++) {
                answer_attach(waiting[i], &(FakeSubscription){"c1", "e", 9, true, true, 5, 9}, 1);
                if ((request = next_request()))
                        waiting[n++] = request;
        }
        assert_int_equal(n, 100);
        push_message("c1", 10);
        FOREACH_ARRAY(a, all, ELEMENTSOF(all)) {
                for (uint64_t seq = 5; seq <= 10; seq++)
                        assert_message(*a, "c1", seq);
                assert_hears_nothing(*a);
                assert_closed(*a, 0);
        }
        push_message("c1", 12); /* and from then on a gap is one */
        FOREACH_ARRAY(a, all, ELEMENTSOF(all))
                assert_closed(*a, 3010);
}

/* It is attached by the link that is new to the others, so a gap is one. */
static void test_gap_after_connecting_while_others_reattach(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);
        FakeRequest *request;

        WebSocket *b = begin_connect("bo", &request);
        link_break();
        link_restore(); /* the RPC client sends the request again by itself */
        answer_attach(request, &(FakeSubscription){"c1", "e", 4}, 1);
        assert_non_null(client_hear(b));
        push_message("c1", 6);
        assert_closed(a, 0);
        assert_closed(b, 3010);
}

static void test_leaving_while_others_reattach(void **state) {
        WebSocket *all[100];
        FakeRequest *request;
        unsigned n = 0;

        for (unsigned i = 0; i < 100; i++) {
                char user[16];
                snprintf(user, sizeof(user), "u%u", i);
                all[i] = client_connected(user, "s1", "c1", 4);
        }
        link_break();
        link_restore();
        /* Those that come next, and one after them. */
        for (unsigned i = 64; i < 68; i++)
                client_gone(all[i]);
        client_gone(all[99]);
        while ((request = next_request())) {
                if (streq(request->method->name, "gateway.attach")) {
                        answer_attach(request, &(FakeSubscription){"c1", "e", 4, true, true}, 1);
                        n++;
                } else
                        refuse(request, ERROR_TIMEOUT);
        }
        assert_int_equal(n, 95);
}

static void test_connecting_survives_a_restart(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);

        link_break();
        link_restore(); /* the RPC client sends the request again by itself */
        assert_null(next_request());
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_non_null(client_hear(a));
        assert_closed(a, 0);
        assert_null(next_request());
}

/* --- several primaries --- */

static void test_two_primaries(void **state) {
        set_routes("/one", "/two");
        FakeRequest *first, *second;
        WebSocket *a = begin_connect("ann", &first);

        second = next_request();
        assert_non_null(second);
        assert_null(next_request());
        answer_attach(second, &(FakeSubscription){"b1", "e", 2}, 1);
        assert_hears_nothing(a);
        push_message("b1", 3);
        answer_attach(first, &(FakeSubscription){"a1", "e", 1}, 1);
        assert_non_null(client_hear(a));
        assert_message(a, "b1", 3);

        /* Shards move: the second one serves others now, and so both are asked. */
        set_routes("/one", NULL);
        assert_int_equal(gateway_update_routes(fake_role->gateway), 0);
        FakeRequest *again = next_request();
        assert_non_null(again);
        Sc__AttachRequest *attach = attach_request(again);
        assert_int_equal(attach->n_positions, 2);
        sc__attach_request__free_unpacked(attach, NULL);
        answer_attach(again,
                (FakeSubscription[]){{"a1", "e", 1, true, true}, {"b1", "e", 4, true, true, 4, 4}}, 2);
        assert_message(a, "b1", 4);
        assert_closed(a, 0);
}

static void test_one_of_two_primaries_fails(void **state) {
        set_routes("/one", "/two");
        FakeRequest *first, *second;
        WebSocket *a = begin_connect("ann", &first);

        second = next_request();
        answer_attach(first, &(FakeSubscription){"a1", "e", 1}, 1);
        refuse(second, ERROR_TIMEOUT);
        assert_error(a, 1, 1004, "timeout");
        assert_null(channel_find(fake_role, "a1"));
}

static void test_a_primary_goes_while_attaching(void **state) {
        set_routes("/one", "/two");
        FakeRequest *first, *second;
        WebSocket *a = begin_connect("ann", &first);

        second = next_request();
        answer_attach(second, &(FakeSubscription){"b1", "e", 2}, 1);
        link_break(); /* of which the fixture takes the one that was made last */
        link_restore();
        answer_attach(first, &(FakeSubscription){"a1", "e", 1}, 1);
        const char *heard = client_hear(a);
        assert_non_null(heard);
        /* Which of the two broke is the list's business; either all is well or the client is told to retry.
         */
        if (strstr(heard, "\"error\""))
                assert_non_null(strstr(heard, "\"temporary\":true"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                T(test_deliver_to_all_in_order_once),
                T(test_encoded_once),
                T(test_receipts_take_no_place),
                T(test_a_gap_ends_the_connection),
                T(test_last_subscriber_ends_on_a_gap),
                T(test_held_deliveries_are_merged),
                T(test_held_with_a_gap),
                T(test_held_for_several),
                T(test_nothing_is_held_for_one_that_left),
                T(test_too_much_held),
                T(test_membership_that_overtakes),
                T(test_membership),
                T(test_detach),
                T(test_detach_after_a_failed_connect),
                T(test_no_detach_without_a_link),
                T(test_reattach_delivers_what_was_missed),
                T(test_reattach_with_nothing_missed),
                T(test_reattach_too_far_behind),
                T(test_reattach_to_another_incarnation),
                T(test_reattach_with_other_conversations),
                T(test_reattach_refused),
                T(test_reattach_of_an_ended_session),
                T(test_connect_of_an_ended_session),
                T(test_one_of_two_primaries_knows_that_the_session_ended),
                T(test_no_primary),
                T(test_reattach_a_few_at_a_time),
                T(test_pushes_while_others_reattach),
                T(test_gap_after_connecting_while_others_reattach),
                T(test_leaving_while_others_reattach),
                T(test_connecting_survives_a_restart),
                T(test_two_primaries),
                T(test_one_of_two_primaries_fails),
                T(test_a_primary_goes_while_attaching),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
