/* SPDX-License-Identifier: Apache-2.0 */

/* gateway.attach and gateway.recover: batches, pages, and what comes in between. */

#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "group/delivery/online.h"
#include "group/gateway/attach-batch.h"
#include "util/string-util.h"

static char gateway_1, gateway_2;

static Sc__Position position(const char *conversation, const char *epoch, uint64_t seq) {
        Sc__Position result = SC__POSITION__INIT;

        result.conversation = (char *) conversation;
        result.epoch = (char *) epoch;
        result.seq = seq;
        return result;
}

/* --- attaching --- */

static void test_tops(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        const Sc__AttachResponse *response = attach(f, &gateway_1, "c1", "ada");
        const Sc__Subscription *subscription = find_subscription(response, conversation);

        assert_int_equal(response->n_subscriptions, 2);
        assert_int_equal(find_subscription(response, "#ada")->kind,
                SC__CONVERSATION_KIND__CONVERSATION_KIND_PERSONAL);
        assert_int_equal(subscription->kind, SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT);
        assert_int_equal(subscription->last_seq, 0);
        assert_true(strlen(subscription->epoch) > 0);
        for (unsigned i = 0; i < 20; i++)
                send_text(f, "bob", conversation, "", "hello");
        for (unsigned round = 0; round < 2; round++) {
                response = attach(f, &gateway_1, "c2", "ada");
                assert_int_equal(find_subscription(response, conversation)->last_seq, 20);
                assert_string_equal(find_subscription(response, conversation)->epoch, subscription->epoch);
                /* The same from the store as from memory. */
                fixture_restart(f);
        }
}

static Sc__AttachRequest__Client client_of(char *id, char *user) {
        Sc__AttachRequest__Client client = SC__ATTACH_REQUEST__CLIENT__INIT;

        client.client = id;
        client.user = user;
        return client;
}

/* Ada has more conversations than fit on her page beside so many others; a client of another user's id is
 * refused, alone; what many hear is told of once. */
static void test_batch(void **state) {
        Fixture *f = *state;
        enum { N = 256, N_CONVERSATIONS = 100 };
        Sc__AttachRequest request = SC__ATTACH_REQUEST__INIT;
        static Sc__AttachRequest__Client clients[N], *pointers[N];
        static char ids[N][16], users[N][16];
        unsigned n_heard = 0, n_pages = 0;

        f->conf->group_max_unanswered = f->conf->group_max_strangers = 0;
        for (unsigned i = 0; i < N_CONVERSATIONS; i++) {
                char other[16];
                snprintf(other, sizeof(other), "u%u", i);
                send_text(f, "ada", open_direct(f, "ada", other), "", "hello");
        }
        settle(f);
        fixture_restart(f);
        attach(f, &gateway_2, "taken", "eve");
        for (unsigned i = 0; i < N; i++) {
                snprintf(ids[i], sizeof(ids[i]), "c%u", i);
                snprintf(users[i], sizeof(users[i]), "u%u", i);
                clients[i] =
                        client_of(i == 7 ? (char *) "taken" : ids[i], i < 2 ? (char *) "ada" : users[i]);
                pointers[i] = &clients[i];
        }
        request.clients = pointers;
        request.n_clients = N;
        do {
                Answer *answer = begin(f, &method_gateway_attach, "", &gateway_1, &request);
                finish(f, answer);
                assert_int_equal(answer->code, ERROR_NONE);
                const Sc__AttachResponse *response = (const Sc__AttachResponse *) answer->response;
                const Sc__AttachResponse__Result *ada = response->results[0];

                assert_int_equal(response->n_results, request.n_clients);
                for (unsigned i = 0; n_pages == 0 && i < N; i++) {
                        const Sc__AttachResponse__Result *result = response->results[i];
                        assert_int_equal(result->error, i == 7 ? ERROR_INVALID_ARGUMENT : ERROR_NONE);
                        if (i >= 2)
                                assert_int_equal(result->n_subscriptions, i == 7                ? 0
                                                                          : i < N_CONVERSATIONS ? 2
                                                                                                : 1);
                }
                for (size_t i = 0; i < response->n_subscriptions; i++) {
                        if (*response->subscriptions[i]->conversation != '#')
                                assert_int_equal(response->subscriptions[i]->last_seq, 1);
                        for (size_t k = 0; n_pages == 0 && k < i; k++)
                                assert_string_not_equal(response->subscriptions[i]->conversation,
                                        response->subscriptions[k]->conversation);
                }
                assert_int_equal(response->results[1]->n_subscriptions, ada->n_subscriptions);
                n_heard += ada->n_subscriptions;
                n_pages++;
                for (unsigned i = 0; i < 2; i++) {
                        if (n_pages > 1)
                                free(clients[i].after);
                        clients[i].after = strdup(response->results[i]->next);
                }
                request.n_clients = 2;
        } while (*clients[0].after);
        assert_int_equal(n_heard, N_CONVERSATIONS + 1);
        assert_true(n_pages > 1);
        assert_int_equal(online_n_clients(f->role->online), N); /* with the one at the other gateway */
        for (unsigned i = 0; i < 2; i++)
                free(clients[i].after);
        /* All of them are heard. */
        f->n_pushes = 0;
        for (unsigned i = 0; i < N_CONVERSATIONS; i++)
                if (i != 7) {
                        char other[16];
                        snprintf(other, sizeof(other), "u%u", i);
                        send_text(f, other, open_direct(f, "ada", other), "", "and again");
                }
        assert_int_equal(n_pushed(f, &gateway_1, "deliver"), N_CONVERSATIONS - 1);
}

/* More than are worked on at once, while few conversations stay in memory. */
static void test_many(void **state) {
        Fixture *f = *state;
        Answer *answers[100];

        f->conf->group_max_unanswered = f->conf->group_max_strangers = 0;

        for (unsigned i = 0; i < 150; i++) {
                char other[8];

                snprintf(other, sizeof(other), "u%u", i);
                send_text(f, "ada", open_direct(f, "ada", other), "", "hello");
        }
        for (unsigned round = 0; round < 2; round++) {
                for (unsigned i = 0; i < 100; i++) {
                        char client[16], user[16];

                        snprintf(client, sizeof(client), "c%u-%u", round, i);
                        snprintf(user, sizeof(user), "u%u", i);
                        answers[i] = begin_attach(f, &gateway_1, client, i % 4 == 0 ? "ada" : user, "s");
                }
                for (unsigned i = 0; i < 100; i++) {
                        finish(f, answers[i]);
                        assert_int_equal(attach_outcome(answers[i]), ERROR_NONE);
                        const Sc__AttachResponse *response =
                                (const Sc__AttachResponse *) answers[i]->response;
                        assert_int_equal(response->n_subscriptions, i % 4 == 0 ? 151 : 2);
                }
                f->conf->group_cache_conversations = 10;
                fixture_restart(f);
        }
        assert_no_pins(f);
}

/* Messages sent while somebody attaches: the answer tells of those that were pushed before, and the others
 * follow. */
static void test_under_load(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        static Answer *answers[400];
        Answer *attached = NULL;

        fixture_restart(f);
        for (unsigned i = 0; i < 400; i++) {
                Sc__SendRequest request = text_request(conversation, "", "hello");

                answers[i] = begin(f, &method_message_send, "bob", NULL, &request);
                if (i % 16 == 0)
                        assert_true(sd_event_run(f->event, 0) >= 0);
                if (i == 200)
                        attached = begin_attach(f, &gateway_1, "c1", "ada", "s");
        }
        for (unsigned i = 0; i < 400; i++)
                finish(f, answers[i]);
        finish(f, attached);
        uint64_t next = 0;
        for (size_t i = 0; i < f->n_pushes; i++) {
                const Sc__Deliver *deliver = (const Sc__Deliver *) f->pushes[i].message;

                if (i == attached->n_pushes)
                        next = find_subscription(
                                       (const Sc__AttachResponse *) attached->response, conversation)
                                       ->last_seq +
                               1;
                if (!streq(f->pushes[i].method, "deliver") || !streq(deliver->conversation, conversation))
                        continue;
                if (next == 0)
                        continue; /* before the answer */
                assert_int_equal(deliver->update->message->seq, next);
                next++;
        }
        if (attached->n_pushes < f->n_pushes)
                assert_int_equal(next, 401);
        else
                assert_int_equal(
                        find_subscription((const Sc__AttachResponse *) attached->response, conversation)
                                ->last_seq,
                        400);
}

/* What is late is not done any more, and its client not attached. */
static void test_late(void **state) {
        Fixture *f = *state;
        Answer *answers[6];

        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                char client[16];
                snprintf(client, sizeof(client), "c%u", i);
                answers[i] = begin_attach(f, &gateway_1, client, "ada", "s");
        }
        assert_false(answers[5]->done);
        answers[5]->call->deadline_usec = 1;
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++)
                finish(f, answers[i]);
        assert_int_equal(answers[5]->code, ERROR_TIMEOUT);
        assert_int_equal(online_n_clients(f->role->online), 5);
}

/* --- recovering --- */

static void test_recover(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        _cleanup_free_ char *epoch =
                strdup(find_subscription(attach(f, &gateway_1, "c1", "ada"), conversation)->epoch);

        for (unsigned i = 0; i < 20; i++)
                send_text(f, "bob", conversation, "", "hello");
        for (unsigned round = 0; round < 2; round++) {
                Sc__Position at[] = {position(conversation, epoch, 18), position(conversation, epoch, 20),
                        position(conversation, "another-epoch", 15), position("nowhere", epoch, 1),
                        position(conversation, epoch, UINT64_MAX)};
                Sc__Position *positions[] = {&at[0], &at[1], &at[2], &at[3], &at[4]};
                const Sc__RecoverResponse *response = recover(f, positions, ELEMENTSOF(positions));

                assert_int_equal(response->n_pages, 5);
                const Sc__RecoverResponse__Page *page = response->pages[0];
                assert_string_equal(page->epoch, epoch);
                assert_int_equal(page->last_seq, 20);
                assert_int_equal(page->n_publications, 2);
                assert_int_equal(page->publications[0]->seq, 19);
                assert_string_equal(page->publications[0]->sender, "bob");
                _cleanup_free_ char *text =
                        strndup((char *) page->publications[0]->data.data, page->publications[0]->data.len);
                assert_non_null(strstr(text, "{\"message\":{\"conversation\":"));
                assert_non_null(strstr(text, "\"seq\":19,\"sender\":\"bob\""));
                assert_null(strstr(text, "\"count\""));
                assert_int_equal(response->pages[1]->n_publications, 0);
                assert_string_equal(response->pages[2]->epoch, epoch);
                assert_int_equal(response->pages[2]->n_publications, 0);
                assert_int_equal(response->pages[2]->last_seq, 20);
                assert_string_equal(response->pages[3]->epoch, "");
                assert_int_equal(response->pages[4]->n_publications, 0);
                fixture_restart(f);
        }
}

#define N_LARGE 40U

/* However much is missing, a page is bounded, and page by page all of it comes, once. */
static void test_recover_in_pages(void **state) {
        Fixture *f = *state;
        const char *conversations[N_LARGE];
        char epochs[N_LARGE][UUID_TEXT_SIZE];
        Sc__Position at[N_LARGE], *positions[N_LARGE];
        _cleanup_free_ char *text = malloc(50001);
        unsigned n_pages = 0;
        size_t n = N_LARGE;

        memset(text, 'x', 50000);
        text[50000] = 0;
        for (unsigned i = 0; i < N_LARGE; i++) {
                char other[8];

                snprintf(other, sizeof(other), "u%u", i);
                conversations[i] = open_direct(f, "ada", other);
                for (unsigned k = 0; k < 8; k++)
                        send_text(f, other, conversations[i], "", text);
        }
        const Sc__AttachResponse *attached = attach(f, &gateway_1, "c1", "ada");
        for (unsigned i = 0; i < N_LARGE; i++) {
                snprintf(epochs[i], sizeof(epochs[i]), "%s",
                        find_subscription(attached, conversations[i])->epoch);
                at[i] = position(conversations[i], epochs[i], 0);
                positions[i] = &at[i];
        }
        fixture_restart(f); /* no cursor is still to be flushed */
        while (n > 0) {
                const Sc__RecoverResponse *response = recover(f, positions, n);
                size_t n_left = 0;

                assert_true(protobuf_c_message_get_packed_size(&response->base) <= GROUP_MAX_PAGE + 55000);
                assert_true(response->n_pages > 0 && response->pages[0]->n_publications > 0);
                for (size_t i = 0; i < n; i++) {
                        for (size_t k = 0; i < response->n_pages && k < response->pages[i]->n_publications;
                                k++)
                                assert_int_equal(
                                        response->pages[i]->publications[k]->seq, ++positions[i]->seq);
                        if (positions[i]->seq < 8)
                                positions[n_left++] = positions[i];
                }
                n = n_left;
                n_pages++;
        }
        assert_true(n_pages >= N_LARGE * 8 * 50000 / (GROUP_MAX_PAGE + 55000));
        settle(f);
        assert_no_pins(f);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_tops),
                TEST(test_batch),
                TEST(test_many),
                TEST(test_under_load),
                TEST(test_late),
                TEST(test_recover),
                TEST(test_recover_in_pages),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
