/* SPDX-License-Identifier: Apache-2.0 */

/* Inboxes: what intents do to them, sessions that were ended; and a process that dies. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "fixture.h"
#include "group/conversation/flush.h"
#include "group/conversation/load.h"
#include "util/string-util.h"
#include "util/time-util.h"

static char gateway_1, gateway_2;

static const Sc__HistoryResponse *events(Fixture *f, const char *user) {
        Sc__HistoryRequest request = SC__HISTORY_REQUEST__INIT;
        char id[CONVERSATION_ID_SIZE];

        personal_conversation_id(user, id);
        request.conversation = id;
        return ask(f, &method_message_history, user, &request);
}

static size_t n_listed(Fixture *f, const char *user) {
        Sc__ConversationListRequest request = SC__CONVERSATION_LIST_REQUEST__INIT;
        return ((Sc__ConversationListResponse *) ask(f, &method_conversation_list, user, &request))
                ->n_conversations;
}

static Sc__ErrorCode try_attach(
        Fixture *f, void *gateway, const char *client, const char *user, const char *session) {
        Answer *answer = begin_attach(f, gateway, client, user, session);

        finish(f, answer);
        return attach_outcome(answer);
}

/* --- joining --- */

/* The delivery of an intent that was delivered before tells the connections again, and stores nothing. */
static void test_join_again(void **state) {
        Fixture *f = *state;
        Sc__InboxJoinRequest request = SC__INBOX_JOIN_REQUEST__INIT;
        const char *conversation = open_direct(f, "ada", "bob");

        settle(f);
        attach(f, &gateway_1, "c1", "bob");
        assert_int_equal(events(f, "bob")->last_seq, 1);
        assert_int_equal(n_listed(f, "bob"), 1);
        request.user = (char *) "bob";
        request.conversation = (char *) conversation;
        request.kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT;
        request.by = (char *) "ada";
        uint64_t writes = n_writes(f);
        /* The second of the two, to ada and to bob. */
        assert_int_equal(deliver_intent(f, &method_inbox_join, conversation, 2, &request)->code, ERROR_NONE);
        assert_int_equal(n_writes(f), writes);
        assert_int_equal(n_pushed(f, &gateway_1, "membership"), 1);
        assert_int_equal(n_pushed(f, &gateway_1, "deliver"), 0);
        /* One that is new. */
        assert_int_equal(deliver_intent(f, &method_inbox_join, conversation, 3, &request)->code, ERROR_NONE);
        assert_int_equal(events(f, "bob")->last_seq, 2);
        assert_int_equal(n_listed(f, "bob"), 1);
        assert_no_pins(f);
}

/* The same delivery twice at once. */
static void test_join_twice_at_once(void **state) {
        Fixture *f = *state;
        Sc__InboxJoinRequest request = SC__INBOX_JOIN_REQUEST__INIT;
        const char *conversation = open_direct(f, "ada", "bob");
        Answer *answers[4];

        settle(f);
        request.user = (char *) "eve";
        request.conversation = (char *) conversation;
        request.kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT;
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++)
                answers[i] = begin_intent(f, &method_inbox_join, conversation, 9, &request);
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                finish(f, answers[i]);
                assert_int_equal(answers[i]->code, ERROR_NONE);
        }
        assert_int_equal(events(f, "eve")->last_seq, 1);
        assert_int_equal(n_listed(f, "eve"), 1);
}

/* --- sessions that were ended --- */

static Sc__InboxSessionEndedRequest ended_request(const char *session, int64_t expires_at) {
        Sc__InboxSessionEndedRequest request = SC__INBOX_SESSION_ENDED_REQUEST__INIT;

        request.user = (char *) "ada";
        request.session = (char *) session;
        request.expires_at = expires_at;
        return request;
}

static void test_ended_session(void **state) {
        Fixture *f = *state;
        Sc__InboxSessionEndedRequest request = ended_request("s1", unix_msec() + 60000);

        assert_int_equal(try_attach(f, &gateway_1, "c1", "ada", "s1"), ERROR_NONE);
        assert_int_equal(try_attach(f, &gateway_1, "c2", "ada", "s2"), ERROR_NONE);
        assert_int_equal(try_attach(f, &gateway_2, "c3", "bob", "s3"), ERROR_NONE);
        f->n_pushes = 0;
        for (unsigned i = 1; i <= 2; i++) {
                /* Again it is told, and nothing is stored. */
                assert_int_equal(deliver_intent(f, &method_inbox_session_ended, "ada", 7, &request)->code,
                        ERROR_NONE);
                assert_int_equal(n_pushed(f, &gateway_1, "kick"), i);
                assert_int_equal(n_pushed(f, &gateway_2, "kick"), 0);
                assert_int_equal(events(f, "ada")->last_seq, 1);
        }
        const Push *kick = &f->pushes[f->n_pushes - 1];
        assert_string_equal(((Sc__Kick *) kick->message)->session, "s1");
        assert_string_equal(((Sc__Kick *) kick->message)->user, "ada");
        assert_string_equal(events(f, "ada")->messages[0]->event->session_ended->session, "s1");

        /* Whether others of the user are attached or not, now and later. */
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(try_attach(f, &gateway_1, "c4", "ada", "s1"), ERROR_SESSION_REVOKED);
                assert_int_equal(statistic(f, "clients"), i == 0 ? 3 : 0);
                fixture_restart(f);
        }
        assert_int_equal(try_attach(f, &gateway_1, "c5", "ada", "s2"), ERROR_NONE);
        assert_int_equal(try_attach(f, &gateway_1, "c6", "bob", "s1"), ERROR_NONE);
}

/* A session ends while somebody attaches with it: he is refused, or hears of it. */
static void test_ends_while_attaching(void **state) {
        Fixture *f = *state;
        unsigned n_refused = 0, n_kicked = 0;
        char session[16], client[16];

        model_set_faults(f->model, &(ModelFaults){.reorder = true, .max_delay_usec = 1000});
        for (unsigned i = 1; i <= 200; i++) {
                snprintf(session, sizeof(session), "s%u", i);
                snprintf(client, sizeof(client), "c%u", i);
                Sc__InboxSessionEndedRequest ended = ended_request(session, unix_msec() + 60000);
                size_t n = n_pushed(f, &gateway_1, "kick");

                Answer *end = NULL, *attach = NULL;
                if (i % 2)
                        end = begin_intent(f, &method_inbox_session_ended, "ada", i, &ended);
                for (unsigned k = 0; k < i % 16; k++)
                        assert_true(sd_event_run(f->event, 1000) >= 0);
                attach = begin_attach(f, &gateway_1, client, "ada", session);
                if (!end)
                        end = begin_intent(f, &method_inbox_session_ended, "ada", i, &ended);
                finish(f, attach);
                finish(f, end);
                assert_int_equal(end->code, ERROR_NONE);
                if (attach_outcome(attach) == ERROR_NONE) {
                        assert_int_equal(n_pushed(f, &gateway_1, "kick"), n + 1);
                        n_kicked++;
                } else {
                        assert_int_equal(attach_outcome(attach), ERROR_SESSION_REVOKED);
                        n_refused++;
                }
                Sc__DetachRequest detach = SC__DETACH_REQUEST__INIT;
                detach.client = client;
                if (i % 3)
                        finish(f, begin(f, &method_gateway_detach, "", &gateway_1, &detach));
        }
        assert_true(n_kicked > 0 && n_refused > 0);
}

/* It is forgotten when no access token can be in use. */
static void test_ended_sessions_expire(void **state) {
        Fixture *f = *state;

        for (unsigned i = 1; i <= 3; i++) {
                char session[8];

                snprintf(session, sizeof(session), "s%u", i);
                Sc__InboxSessionEndedRequest request =
                        ended_request(session, unix_msec() + (i == 3 ? 60000 : -1));
                assert_int_equal(deliver_intent(f, &method_inbox_session_ended, "ada", i, &request)->code,
                        ERROR_NONE);
        }
        /* The next write takes those away that were there before it. */
        assert_int_equal(try_attach(f, &gateway_1, "c1", "ada", "s1"), ERROR_NONE);
        assert_int_equal(try_attach(f, &gateway_1, "c2", "ada", "s2"), ERROR_NONE);
        assert_int_equal(try_attach(f, &gateway_1, "c3", "ada", "s3"), ERROR_SESSION_REVOKED);
}

/* --- a process that dies --- */

/* What was sent since the cursors were written last is found in the log. */
static void test_cursors_after_a_crash(void **state) {
        Fixture *f = *state;
        char *conversation = strdup(open_direct(f, "ada", "bob"));

        send_text(f, "bob", conversation, "m1", "hello");
        send_text(f, "ada", conversation, "m2", "hello");
        for (unsigned i = 0; i < 600; i++)
                send_text(f, "bob", conversation, "", "hello");
        send_text(f, "ada", conversation, "m3", "hello");
        send_text(f, "bob", conversation, "m4", "hello");
        for (unsigned i = 0; i < 3; i++) {
                fixture_crash(f);
                assert_int_equal(get(f, "ada", conversation)->read_seq, 603);
                assert_int_equal(get(f, "ada", conversation)->unread_count, 1);
                assert_int_equal(get(f, "bob", conversation)->read_seq, 604);
                assert_int_equal(get(f, "bob", conversation)->unread_count, 0);
                /* In the list too, which does not load it. */
                if (i > 0)
                        continue;
                settle(f);
                uint64_t writes = n_writes(f);
                wait_for(f, "store_writes", writes + 1);
                settle(f);
        }
        free(conversation);
}

/* What is written last is on top of the list, though nobody loaded it since. */
static void test_order_after_a_crash(void **state) {
        Fixture *f = *state;
        char *first = strdup(open_direct(f, "ada", "bob"));
        char *second = strdup(open_direct(f, "ada", "cyd"));

        send_text(f, "ada", first, "m1", "hello");
        send_text(f, "ada", second, "m2", "hello");
        /* So long that the time of the second one is not that of the first one. */
        settle(f);
        wait_for(f, "store_writes", n_writes(f) + 2);
        settle(f);
        send_text(f, "ada", first, "m3", "hello");
        fixture_crash(f);
        Sc__ConversationListRequest request = SC__CONVERSATION_LIST_REQUEST__INIT;
        request.limit = 1;
        const Sc__ConversationListResponse *list = ask(f, &method_conversation_list, "ada", &request);
        assert_int_equal(list->n_conversations, 1);
        assert_string_equal(list->conversations[0]->conversation->id, first);
        free(second);
        free(first);
}

static void on_done(int r, const StoreWritten *written, void *userdata) {
        *(bool *) userdata = true;
        assert_int_equal(r, 0);
}

/* As it is with one that was empty when a store of 0.1 was brought up to date: nobody has made its head. */
static void delete_head(Fixture *f, const char *conversation) {
        Sc__ConversationHead head = SC__CONVERSATION_HEAD__INIT;
        bool done = false;

        head.conversation = (char *) conversation;
        const StoreWrite write = {.partition = conversation,
                .guard = {.verb = STORE_DELETE, .info = &sc__conversation_head__info, .record = &head.base}};
        assert_int_equal(store_write_start(f->role->store, &write, on_done, &done), 0);
        while (!done)
                assert_true(sd_event_run(f->event, 1000 * 1000) >= 0);
}

static void test_crash_without_a_head(void **state) {
        Fixture *f = *state;
        char *conversation = strdup(open_direct(f, "ada", "bob"));

        delete_head(f, conversation);
        fixture_restart(f);
        send_text(f, "ada", conversation, "m1", "hello");
        for (unsigned i = 0; i < 2; i++) {
                fixture_crash(f);
                assert_int_equal(get(f, "ada", conversation)->read_seq, 1);
                assert_int_equal(get(f, "ada", conversation)->unread_count, 0);
                assert_int_equal(get(f, "bob", conversation)->unread_count, 1);
                /* It has one from now on. */
                settle(f);
                uint64_t writes = n_writes(f);
                wait_for(f, "store_writes", writes + (i == 0));
                settle(f);
        }
        free(conversation);
}

#define N_SENDERS 240U /* more than one write takes */
#define N_OF_APPEND 60U

static void on_appended(int r, const StoreAppended *appended, void *userdata) {
        *(bool *) userdata = true;
        assert_int_equal(r, 0);
}

/* Entries of so many new members, one each, in the name of a process that has died since. */
static void append_of_many(Fixture *f, const char *conversation, unsigned from) {
        Sc__Message messages[N_OF_APPEND], *entries[N_OF_APPEND];
        Sc__Member members[N_OF_APPEND];
        StoreItem followers[N_OF_APPEND];
        char users[N_OF_APPEND][16];
        bool done = false;

        for (unsigned i = 0; i < N_OF_APPEND; i++) {
                snprintf(users[i], sizeof(users[i]), "u%u", from + i);
                members[i] = (Sc__Member) SC__MEMBER__INIT;
                messages[i] = (Sc__Message) SC__MESSAGE__INIT;
                members[i].conversation = messages[i].conversation = (char *) conversation;
                members[i].user = messages[i].sender = messages[i].client_msg_id = users[i];
                messages[i].count = from + i + 1;
                entries[i] = &messages[i];
                followers[i] = (StoreItem){
                        .verb = STORE_PUT, .info = &sc__member__info, .record = &members[i].base};
        }
        assert_int_equal(store_append_start(f->role->store,
                                 &(StoreAppend){.conversation = conversation,
                                         .after_seq = from,
                                         .entries = entries,
                                         .n = N_OF_APPEND,
                                         .followers = followers,
                                         .n_followers = N_OF_APPEND},
                                 on_appended, &done),
                0);
        while (!done)
                assert_true(sd_event_run(f->event, 1000 * 1000) >= 0);
}

/* More cursors than one write takes: a crash between the writes loses none. */
static void test_crash_between_flushes(void **state) {
        Fixture *f = *state;
        char *conversation = strdup(open_direct(f, "ada", "bob"));
        char user[16];

        settle(f);
        for (unsigned i = 0; i < N_SENDERS; i += N_OF_APPEND)
                append_of_many(f, conversation, i);
        fixture_restart(f);
        assert_int_equal(get(f, "ada", conversation)->unread_count, N_SENDERS);
        settle(f);
        cursor_flush_all(f->role->flush);
        settle(f);
        fixture_crash(f);
        for (unsigned i = 0; i < N_SENDERS; i++) {
                snprintf(user, sizeof(user), "u%u", i);
                assert_int_equal(get(f, user, conversation)->read_seq, i + 1);
        }
        free(conversation);
}

/* Between the cause and the delivery: the next process delivers. */
static void test_crash_before_delivery(void **state) {
        Fixture *f = *state;

        for (unsigned point = 1; point < 24; point++) {
                Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;
                char other[8];

                snprintf(other, sizeof(other), "u%u", point);
                request.user = other;
                model_set_faults(f->model, &(ModelFaults){.crash_point = point});
                Answer *answer = begin(f, &method_conversation_open_direct, "ada", NULL, &request);
                for (unsigned i = 0; i < 2000 && !answer->done && !model_has_crashed(f->model); i++)
                        assert_true(sd_event_run(f->event, 1000) >= 0);
                model_set_faults(f->model, &(ModelFaults){});
                fixture_crash(f);
                open_direct(f, "ada", other);
                settle(f);
                assert_int_equal(n_listed(f, "ada"), point);
                assert_int_equal(n_listed(f, other), 1);
                assert_int_equal(events(f, "ada")->last_seq, point);
                assert_int_equal(events(f, other)->last_seq, 1);
        }
}

typedef struct Loading {
        Fiber *fiber;
        Conversation *conversations[2];
        size_t n;
        bool done;
        int r;
} Loading;

/* On a fiber. */
static void load(void *userdata) {
        Loading *loading = userdata;

        loading->fiber = fiber_current();
        loading->r = conversations_load(loading->conversations[0]->role, loading->conversations, loading->n);
        loading->done = true;
}

/* Who loads several waits for the one that somebody else loads; that is cancelled. */
static void test_cancelled_load_beside_another(void **state) {
        Fixture *f = *state;
        char *ids[] = {strdup(open_direct(f, "ada", "bob")), strdup(open_direct(f, "ada", "eve"))};
        Loading one = {.n = 1}, both = {.n = 2};

        settle(f);
        fixture_restart(f);
        settle(f);
        for (unsigned i = 0; i < 2; i++)
                both.conversations[i] = conversations_get(f->role->conversations, ids[i]);
        one.conversations[0] = both.conversations[0];
        Loading *loadings[] = {&one, &both};
        FOREACH_ARRAY(loading, loadings, 2)
                assert_int_equal(fiber_start(dispatcher_fibers(f->dispatcher),
                                         &(FiberStart){.main = load, .userdata = *loading}, NULL),
                        0);
        fiber_cancel(one.fiber, -ECANCELED);
        while (!both.done)
                assert_true(sd_event_run(f->event, 1000 * 1000) >= 0);
        assert_int_equal(one.r, -ECANCELED);
        assert_int_equal(both.r, 0);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(both.conversations[i]->state, CONVERSATION_LOADED);
                conversation_unpin(both.conversations[i]);
                free(ids[i]);
        }
}

/* Outcomes that are unknown, on a store that does things in any order it may: what is acknowledged is there,
 * once, and one sender's messages are in their order. */
static void test_unknown_outcomes(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        static Answer *answers[600];
        const Sc__Message *messages[ELEMENTSOF(answers) + 1];
        unsigned n_acknowledged = 0;
        uint64_t last = 0;

        settle(f);
        attach(f, &gateway_1, "c1", "bob");
        model_set_faults(f->model, &(ModelFaults){.reorder = true, .unknown = 15});
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                char id[16];

                snprintf(id, sizeof(id), "m%u", i);
                Sc__SendRequest request = text_request(conversation, id, id);
                answers[i] = begin(f, &method_message_send, "ada", NULL, &request);
                if (i % 8 == 0)
                        assert_true(sd_event_run(f->event, 0) >= 0);
        }
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++)
                finish(f, answers[i]);
        model_set_faults(f->model, &(ModelFaults){});
        model_settle(f->model);
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                const Sc__SendResponse *response = (const Sc__SendResponse *) answers[i]->response;

                if (answers[i]->code != ERROR_NONE)
                        continue;
                n_acknowledged++;
                assert_true(response->seq > last);
                last = response->seq;
        }
        assert_true(n_acknowledged > ELEMENTSOF(answers) / 2);
        /* All that is stored was delivered, in its order. */
        send_text(f, "ada", conversation, "", "the last one");
        size_t n = delivered(f, &gateway_1, conversation, messages);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(messages[i]->seq, i + 1);
        assert_int_equal(get(f, "bob", conversation)->last_seq, n);
        assert_int_equal(get(f, "bob", conversation)->unread_count, n);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)
#define TEST_ON_MODEL(function)                                                                             \
        cmocka_unit_test_setup_teardown(function, fixture_setup_model, fixture_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_join_again),
                TEST(test_join_twice_at_once),
                TEST(test_ended_session),
                TEST(test_ended_sessions_expire),
                TEST_ON_MODEL(test_ends_while_attaching),
                TEST_ON_MODEL(test_cursors_after_a_crash),
                TEST_ON_MODEL(test_order_after_a_crash),
                TEST_ON_MODEL(test_crash_without_a_head),
                TEST_ON_MODEL(test_crash_between_flushes),
                TEST_ON_MODEL(test_crash_before_delivery),
                TEST_ON_MODEL(test_cancelled_load_beside_another),
                TEST_ON_MODEL(test_unknown_outcomes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
