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

/* --- gaps --- */

/* What was lost is fetched, and nobody is disconnected. */
static void test_a_gap_is_made_good(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4), *b = client_connected("bo", "s2", "c1", 5);

        push_message("c1", 6);
        assert_hears_nothing(a);
        assert_message(b, "c1", 6);
        FakeRequest *request = assert_recovers("c1", 4);
        push_message("c1", 7); /* comes while the page is under way */
        assert_hears_nothing(a);
        assert_message(b, "c1", 7);
        answer_recover(request, "e", 7, 5, 6);
        assert_message(a, "c1", 5);
        assert_message(a, "c1", 6);
        answer_recover(assert_recovers("c1", 6), "e", 7, 7, 7);
        assert_message(a, "c1", 7);
        push_message("c1", 8);
        assert_message(a, "c1", 8);
        assert_message(b, "c1", 8);
        assert_null(next_request());
        assert_closed(a, 0);
        assert_int_equal(fake_role->statistics.gaps, 2);
        assert_int_equal(fake_role->statistics.recovered, 3);
}

/* One page for all who lack the same, however much of it; encoded once for those who lack as much. */
static void test_a_page_for_many(void **state) {
        WebSocket *all[10];

        for (unsigned i = 0; i < 10; i++) {
                char user[16];
                snprintf(user, sizeof(user), "u%u", i);
                all[i] = client_connected(user, "s1", "c1", i < 5 ? 4 : 6);
        }
        push_message("c1", 9);
        FakeRequest *request = next_request();
        Sc__RecoverRequest *recover = recover_request(request);
        assert_int_equal(recover->positions[0]->seq, 4);
        sc__recover_request__free_unpacked(recover, NULL);
        assert_null(next_request());
        answer_recover(request, "e", 9, 5, 9);
        Bytes *first = client_take(all[0]), *second = client_take(all[1]);
        assert_ptr_equal(first, second);
        bytes_unref(first);
        bytes_unref(second);
        for (unsigned i = 2; i < 10; i++) {
                for (uint64_t seq = i < 5 ? 5 : 7; seq <= 9; seq++)
                        assert_message(all[i], "c1", seq);
                assert_hears_nothing(all[i]);
        }
        assert_null(next_request());
}

/* A client that has much to read gets the next page when it has read. */
static void test_pages_wait_for_the_client(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4), *b = client_connected("bo", "s2", "c1", 4);

        client_set_replies(a, CHANNEL_MAX_WAITING + 1);
        push_message("c1", 5);
        assert_message(b, "c1", 5);
        assert_hears_nothing(a);
        client_set_replies(a, CONNECTION_MAX_WAITING + 1);
        push_message("c1", 6);
        assert_message(b, "c1", 6);
        FakeRequest *request = assert_recovers("c1", 4); /* there was room when that was asked */
        answer_recover(request, "e", 6, 5, 5);
        assert_message(a, "c1", 5);
        assert_null(next_request());
        assert_true(client_is_paused(a));
        client_reads(a);
        assert_false(client_is_paused(a));
        answer_recover(assert_recovers("c1", 5), "e", 6, 6, 6);
        assert_message(a, "c1", 6);
        assert_hears_nothing(a);
        push_message("c1", 7);
        assert_message(a, "c1", 7);
        assert_closed(a, 0);
}

/* A page that fails is fetched again. */
static void test_a_page_fails(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_message("c1", 6);
        refuse(assert_recovers("c1", 4), ERROR_TIMEOUT);
        assert_null(next_request());
        pass_retry();
        answer_recover(assert_recovers("c1", 4), "e", 6, 5, 6);
        assert_message(a, "c1", 5);
        assert_message(a, "c1", 6);
        assert_closed(a, 0);
}

static void assert_begins_anew(WebSocket *socket, const char *epoch, uint64_t offset) {
        assert_hears(socket,
                "{'push':{'channel':'c1','unsubscribe':{'code':2500,'reason':'insufficient state'}}}");
        assert_hears(socket,
                "{'push':{'channel':'c1','subscribe':{'recoverable':true,'epoch':'%s','offset':%lu,"
                "'positioned':true}}}",
                epoch, offset);
}

/* What the store has no more cannot be made good: the client is told, and goes on behind it. */
static void test_a_hole(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_message("c1", 9);
        answer_recover(assert_recovers("c1", 4), "e", 9, 7, 9);
        assert_begins_anew(a, "e", 9);
        push_message("c1", 10);
        assert_message(a, "c1", 10);
        assert_null(next_request());
        assert_closed(a, 0);
}

static void test_nothing_but_a_hole(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_message("c1", 9);
        answer_recover(assert_recovers("c1", 4), "e", 8, 0, 0);
        assert_begins_anew(a, "e", 9);
        assert_null(next_request());
        push_message("c1", 10);
        assert_message(a, "c1", 10);
}

static void test_another_epoch(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_message("c1", 9);
        answer_recover(assert_recovers("c1", 4), "f", 2, 0, 0);
        assert_begins_anew(a, "f", 2);
        push_message("c1", 3);
        assert_message(a, "c1", 3);
        assert_null(next_request());
}

/* The store was restored and knows less than it told: nothing is asked for again and again. */
static void test_a_store_that_forgot(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_message("c1", 9);
        answer_recover(assert_recovers("c1", 4), "e", 4, 0, 0);
        assert_null(next_request());
        push_message("c1", 5);
        assert_message(a, "c1", 5);
}

static void test_leaving_while_a_page_is_fetched(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);
        _cleanup_free_ char *id = strdup(client_id(a));

        push_message("c1", 6);
        FakeRequest *request = assert_recovers("c1", 4);
        client_gone(a);
        assert_detaches(id);
        answer_recover(request, "e", 6, 5, 6);
        assert_null(channel_find(fake_role, "c1"));
        assert_null(next_request());
}

/* Users take turns: whoever has many connections gets two pages at a time. */
static void test_pages_of_one_user(void **state) {
        WebSocket *a[5], *b;
        FakeRequest *request, *waiting[5];
        unsigned n = 0;

        for (unsigned i = 0; i < 5; i++) {
                char conversation[16];
                snprintf(conversation, sizeof(conversation), "c%u", i);
                a[i] = client_connected("ann", "s1", conversation, 0);
        }
        b = client_connected("bo", "s2", "d", 0);
        for (unsigned i = 0; i < 5; i++) {
                char conversation[16];
                snprintf(conversation, sizeof(conversation), "c%u", i);
                push_message(conversation, 2);
        }
        while ((request = next_request()))
                waiting[n++] = request;
        assert_int_equal(n, CATCH_UP_MAX_PER_USER);
        push_message("d", 2);
        answer_recover(assert_recovers("d", 0), "e", 2, 1, 2);
        assert_message(b, "d", 1);
        for (unsigned i = 0; i < n; i++) {
                answer_recover(waiting[i], "e", 2, 1, 2);
                while ((request = next_request()))
                        waiting[n++] = request;
        }
        assert_int_equal(n, 5);
        for (unsigned i = 0; i < 5; i++) {
                char conversation[16];
                snprintf(conversation, sizeof(conversation), "c%u", i);
                assert_message(a[i], conversation, 1);
                assert_message(a[i], conversation, 2);
                assert_closed(a[i], 0);
        }
}

/* --- while a connection is attached --- */

static WebSocket *begin_connect(const char *user, FakeRequest **ret) {
        _cleanup_free_ char *token = make_token(user, "s1", 900);
        WebSocket *socket = client_open();

        client_say(socket, "{'id':1,'connect':{'token':'%s'}}", token);
        answer_check(true);
        *ret = next_request();
        return socket;
}

/* What was pushed before the answer is below its tops. */
static void test_pushes_before_the_answer(void **state) {
        FakeRequest *request;
        WebSocket *b = client_connected("bo", "s2", "c1", 5), *a = begin_connect("ann", &request);

        push_message("c1", 6);
        assert_message(b, "c1", 6);
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_non_null(client_hear(a));
        assert_hears_nothing(a);
        push_message("c1", 7);
        assert_message(a, "c1", 7);
        assert_message(b, "c1", 7);
        assert_null(next_request());
}

static void test_nothing_is_left_of_one_that_left(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);
        _cleanup_free_ char *id = strdup(client_id(a));

        push_membership("ann", "c2", 0, false);
        client_gone(a);
        assert_detaches(id);
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_null(channel_find(fake_role, "c1"));
        assert_null(next_request());
}

static void test_membership_that_overtakes(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);

        push_membership("ann", "c2", 0, false);
        push_membership("bo", "c3", 0, false);
        push_message("c2", 1);
        push_membership("ann", "c4", 0, false);
        push_membership("ann", "c4", 0, true);
        assert_hears_nothing(a);
        answer_attach(request, (FakeSubscription[]){{"c1", "e", 6}, {"c2", "e", 1}}, 2);
        assert_hears(a,
                "{'id':1,'connect':{'client':'%s','version':'Stonechat %s','expires':true,'ttl':900,'subs':{"
                "'c2':{'recoverable':true,'epoch':'e','positioned':true},"
                "'c1':{'recoverable':true,'epoch':'e','offset':6,'positioned':true}},'ping':25,'pong':true}"
                "}",
                client_id(a), STONECHAT_VERSION);
        answer_recover(assert_recovers("c2", 0), "e", 1, 1, 1);
        assert_message(a, "c2", 1);
        assert_hears_nothing(a);
}

/* One that is not answered in time fails; the primary is told to forget it. */
static void test_attaching_takes_too_long(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);

        timer_wheel_advance(&fake_role->timer_wheel, fake_role->timer_wheel.now + 6);
        assert_error(a, 1, 1004, "timeout");
        assert_detaches(client_id(a));
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_hears_nothing(a);
        assert_closed(a, 0);
        assert_null(channel_find(fake_role, "c1"));
}

/* Those that come while others are under way are attached together. */
static void test_connecting_in_batches(void **state) {
        FakeRequest *requests[10];
        WebSocket *all[100];
        unsigned n = 0;

        for (unsigned i = 0; i < 100; i++) {
                FakeRequest *request;
                char user[16];

                snprintf(user, sizeof(user), "u%u", i);
                all[i] = begin_connect(user, &request);
                if (request)
                        requests[n++] = request;
        }
        assert_int_equal(n, 3);
        for (unsigned i = 0; i < n; i++) {
                FakeRequest *request;

                answer_attach(requests[i], &(FakeSubscription){"c1", "e", 6}, 1);
                if ((request = next_request()))
                        requests[n++] = request;
        }
        assert_int_equal(n, 4);
        FOREACH_ARRAY(a, all, ELEMENTSOF(all))
                assert_non_null(client_hear(*a));
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

static FakeRequest *reattach(const char *client) {
        FakeRequest *request = next_request();

        assert_attaches(request, client);
        return request;
}

static void test_reattach_delivers_what_was_missed(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        push_message("c1", 5);
        assert_message(a, "c1", 5);
        link_break();
        link_restore();
        FakeRequest *request = reattach(client_id(a));
        push_message("c1", 9); /* for others, before the answer */
        assert_hears_nothing(a);
        assert_null(next_request()); /* is it a member still? */
        answer_attach(request, &(FakeSubscription){"c1", "e", 9}, 1);
        answer_recover(assert_recovers("c1", 5), "e", 9, 6, 9);
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
        FakeRequest *request = reattach(client_id(a));
        push_message("c1", 5); /* the very next one: need not wait */
        assert_message(a, "c1", 5);
        answer_attach(request, &(FakeSubscription){"c1", "e", 5}, 1);
        assert_hears_nothing(a);
        assert_closed(a, 0);
        assert_null(next_request());
}

static void test_reattach_to_another_incarnation(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        answer_attach(reattach(client_id(a)), &(FakeSubscription){"c1", "e2", 3}, 1);
        assert_begins_anew(a, "e2", 3);
        push_message("c1", 4);
        assert_message(a, "c1", 4);
        assert_closed(a, 0);
}

static void test_reattach_with_other_conversations(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        FakeRequest *request = reattach(client_id(a));
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

/* What fails is tried again, as long as it takes. */
static void test_reattach_refused(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        refuse(reattach(client_id(a)), ERROR_TIMEOUT);
        assert_null(next_request());
        pass_retry();
        refuse_clients(reattach(client_id(a)), ERROR_OVERLOADED);
        assert_null(next_request());
        pass_retry();
        answer_attach(reattach(client_id(a)), &(FakeSubscription){"c1", "e", 4}, 1);
        assert_closed(a, 0);
        push_message("c1", 5);
        assert_message(a, "c1", 5);
}

/* The link breaks again before the answer: all begins anew. */
static void test_reattach_interrupted(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        link_break();
        assert_null(next_request());
        link_restore();
        answer_attach(reattach(client_id(a)), &(FakeSubscription){"c1", "e", 5}, 1);
        answer_recover(assert_recovers("c1", 4), "e", 5, 5, 5);
        assert_message(a, "c1", 5);
        assert_null(next_request());
}

static void test_reattach_of_an_ended_session(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 4);

        link_break();
        link_restore();
        refuse_clients(reattach(client_id(a)), ERROR_SESSION_REVOKED);
        assert_closed(a, 3500);
}

static void test_connect_of_an_ended_session(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);
        _cleanup_free_ char *id = strdup(client_id(a));

        refuse_clients(request, ERROR_SESSION_REVOKED);
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
        refuse_clients(first, ERROR_SESSION_REVOKED);
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

/* In batches, few at a time; those who were served already and those who were not get what they missed. */
static void test_reattach_many(void **state) {
        enum { N = 1000 };
        static WebSocket *all[N];
        FakeRequest *request, *waiting[100];
        unsigned n = 0, n_clients = 0;

        fake_process->conf->socket_max_connections_per_user = 0;
        for (unsigned i = 0; i < N; i++) {
                char user[16];
                snprintf(user, sizeof(user), "u%u", i);
                all[i] = client_connected(user, "s1", "c1", 4);
        }
        link_break();
        link_restore();
        /* Those that come next, and the last. */
        client_gone(all[0]);
        client_gone(all[768]);
        client_gone(all[N - 1]);
        while ((request = next_request()))
                if (request->method == &method_gateway_attach)
                        waiting[n++] = request;
                else
                        refuse(request, ERROR_TIMEOUT);
        assert_int_equal(n, 3);
        push_message("c1", 9);
        for (unsigned i = 0; i < n; i++) {
                Sc__AttachRequest *attach = attach_request(waiting[i]);
                n_clients += attach->n_clients;
                sc__attach_request__free_unpacked(attach, NULL);
                answer_attach(waiting[i], &(FakeSubscription){"c1", "e", 9}, 1);
                while ((request = next_request()))
                        if (request->method == &method_gateway_recover)
                                answer_recover(request, "e", 9, 5, 9);
                        else
                                waiting[n++] = request;
        }
        assert_int_equal(n, 4);
        assert_int_equal(n_clients, N - 2); /* the first one had been sent */
        push_message("c1", 10);
        assert_null(next_request());
        for (unsigned i = 1; i < N - 1; i++) {
                if (i == 768)
                        continue;
                for (uint64_t seq = 5; seq <= 10; seq++)
                        assert_message(all[i], "c1", seq);
                assert_hears_nothing(all[i]);
                assert_closed(all[i], 0);
        }
        assert_int_equal(fake_role->statistics.reattached, N - 3);
}

static void test_connecting_survives_a_restart(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        WebSocket *b = client_connected("bo", "s2", "c1", 6), *a = client_open();

        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        answer_check(true);
        link_break(); /* the request goes with it */
        assert_null(next_request());
        link_restore();
        FakeRequest *request = next_request();
        Sc__AttachRequest *attach = attach_request(request);
        assert_int_equal(attach->n_clients, 2);
        sc__attach_request__free_unpacked(attach, NULL);
        answer_attach(request, &(FakeSubscription){"c1", "e", 6}, 1);
        assert_non_null(client_hear(a));
        assert_closed(a, 0);
        assert_null(next_request());
        push_message("c1", 7);
        assert_message(a, "c1", 7);
        assert_message(b, "c1", 7);
}

/* What the pages before it said does not count any more: all is asked for again. */
static void test_routes_change_between_two_pages(void **state) {
        FakeRequest *request;
        WebSocket *a = begin_connect("ann", &request);

        answer_attach_page(request, &(FakeSubscription){"c1", "e", 4}, 1, "c1");
        request = next_request();
        set_epoch(7);
        assert_int_equal(gateway_update_routes(fake_role->gateway), 0);
        answer_attach(request, &(FakeSubscription){"c2", "e", 2}, 1);
        answer_attach(next_request(), (FakeSubscription[]){{"c1", "e", 4}, {"c2", "e", 2}}, 2);
        assert_non_null(client_hear(a));
        assert_null(next_request());
        push_message("c1", 6);
        answer_recover(assert_recovers("c1", 4), "e", 6, 5, 6);
        assert_message(a, "c1", 5);
        assert_message(a, "c1", 6);
        assert_hears_nothing(a);
        set_epoch(0);
}

/* --- several primaries --- */

static void test_two_primaries(void **state) {
        set_routes("/one", "/two");
        FakeRequest *first, *second;
        WebSocket *a = begin_connect("ann", &first);

        second = next_request();
        assert_non_null(second);
        assert_null(next_request());
        if (!streq(request_address(second), "/two")) {
                FakeRequest *swapped = first;
                first = second;
                second = swapped;
        }
        /* Each tells of all, and is believed about its own. */
        answer_attach(second, (FakeSubscription[]){{"a1", "x", 9}, {"b1", "e", 2}}, 2);
        assert_hears_nothing(a);
        push_message("b1", 3);
        answer_attach(first, (FakeSubscription[]){{"a1", "e", 1}, {"b1", "x", 9}}, 2);
        assert_non_null(client_hear(a));
        answer_recover(assert_recovers("b1", 2), "e", 3, 3, 3);
        assert_message(a, "b1", 3);

        /* Shards move: the first one serves all. */
        set_routes("/one", NULL);
        assert_int_equal(gateway_update_routes(fake_role->gateway), 0);
        answer_attach(next_request(), (FakeSubscription[]){{"a1", "e", 1}, {"b1", "e", 4}}, 2);
        answer_recover(assert_recovers("b1", 3), "e", 4, 4, 4);
        assert_message(a, "b1", 4);
        assert_hears_nothing(a);
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
        assert_detaches(client_id(a));
        assert_detaches(client_id(a));
        assert_null(next_request());
}

int main(void) {
        const struct CMUnitTest tests[] = {
                T(test_deliver_to_all_in_order_once),
                T(test_encoded_once),
                T(test_receipts_take_no_place),
                T(test_a_gap_is_made_good),
                T(test_a_page_for_many),
                T(test_pages_wait_for_the_client),
                T(test_a_page_fails),
                T(test_a_hole),
                T(test_nothing_but_a_hole),
                T(test_another_epoch),
                T(test_a_store_that_forgot),
                T(test_leaving_while_a_page_is_fetched),
                T(test_pages_of_one_user),
                T(test_pushes_before_the_answer),
                T(test_nothing_is_left_of_one_that_left),
                T(test_membership_that_overtakes),
                T(test_attaching_takes_too_long),
                T(test_connecting_in_batches),
                T(test_membership),
                T(test_detach),
                T(test_detach_after_a_failed_connect),
                T(test_no_detach_without_a_link),
                T(test_reattach_delivers_what_was_missed),
                T(test_reattach_with_nothing_missed),
                T(test_reattach_to_another_incarnation),
                T(test_reattach_with_other_conversations),
                T(test_reattach_refused),
                T(test_reattach_interrupted),
                T(test_reattach_of_an_ended_session),
                T(test_connect_of_an_ended_session),
                T(test_one_of_two_primaries_knows_that_the_session_ended),
                T(test_no_primary),
                T(test_reattach_many),
                T(test_connecting_survives_a_restart),
                T(test_routes_change_between_two_pages),
                T(test_two_primaries),
                T(test_one_of_two_primaries_fails),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
