/* SPDX-License-Identifier: Apache-2.0 */

/* Opening, listing, reading, who is online; and a store that fails. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "fixture.h"
#include "group/conversation/flush.h"
#include "group/delivery/online.h"
#include "service/token.h"
#include "util/string-util.h"
#include "util/time-util.h"

static char gateway_1, gateway_2;

static Sc__MarkReadRequest read_request(const char *conversation, uint64_t seq) {
        Sc__MarkReadRequest request = SC__MARK_READ_REQUEST__INIT;

        request.conversation = (char *) conversation;
        request.seq = seq;
        return request;
}

static uint64_t mark_read(Fixture *f, const char *user, const char *conversation, uint64_t seq) {
        Sc__MarkReadRequest request = read_request(conversation, seq);
        return ((Sc__MarkReadResponse *) ask(f, &method_conversation_mark_read, user, &request))->read_seq;
}

static const Sc__ConversationListResponse *list(
        Fixture *f, const char *user, const char *after, uint32_t limit) {
        Sc__ConversationListRequest request = SC__CONVERSATION_LIST_REQUEST__INIT;

        request.after = (char *) after;
        request.limit = limit;
        return ask(f, &method_conversation_list, user, &request);
}

static void wait_for_next_millisecond(void) {
        int64_t now = unix_msec();

        while (unix_msec() == now)
                ;
}

/* --- opening --- */

static void test_open_direct(void **state) {
        Fixture *f = *state;
        Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;

        request.user = (char *) "bob";
        const Sc__ConversationView *view = ask(f, &method_conversation_open_direct, "ada", &request);
        assert_int_equal(view->conversation->kind, SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT);
        assert_string_equal(view->conversation->creator, "ada");
        assert_int_equal(strlen(view->conversation->epoch), 36);
        assert_true(view->conversation->created_at > 0);
        assert_int_equal(view->n_members, 2);
        assert_string_equal(view->members[0], "ada");
        assert_string_equal(view->members[1], "bob");
        assert_int_equal(view->last_seq, 0);
        assert_null(view->last_message);

        /* From either side, also after a restart, it is the same. */
        request.user = (char *) "ada";
        for (unsigned i = 0; i < 2; i++) {
                const Sc__ConversationView *again =
                        ask(f, &method_conversation_open_direct, "bob", &request);
                assert_string_equal(again->conversation->id, view->conversation->id);
                assert_string_equal(again->conversation->epoch, view->conversation->epoch);
                fixture_restart(f);
        }
        assert_string_not_equal(open_direct(f, "ada", "eve"), view->conversation->id);

        request.user = (char *) "nobody";
        ask_refused(f, &method_conversation_open_direct, "ada", &request, ERROR_USER_NOT_FOUND);
        ask_refused(f, &method_conversation_open_direct, "", &request, ERROR_UNAUTHENTICATED);
}

static void test_notes_to_self(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "ada");

        assert_int_equal(get(f, "ada", conversation)->n_members, 1);
        assert_int_equal(send_text(f, "ada", conversation, "", "buy milk")->seq, 1);
        assert_int_equal(get(f, "ada", conversation)->unread_count, 0);
        assert_string_equal(open_direct(f, "ada", "ada"), conversation);
}

static void test_racing_openers(void **state) {
        Fixture *f = *state;
        Answer *answers[20];
        const char *epoch = NULL;

        attach(f, &gateway_1, "c1", "bob");
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;

                request.user = (char *) (i % 2 ? "ada" : "bob");
                answers[i] =
                        begin(f, &method_conversation_open_direct, i % 2 ? "bob" : "ada", NULL, &request);
        }
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                finish(f, answers[i]);
                assert_int_equal(answers[i]->code, ERROR_NONE);
                const Sc__ConversationView *view = (const Sc__ConversationView *) answers[i]->response;
                epoch = epoch ?: view->conversation->epoch;
                assert_string_equal(view->conversation->epoch, epoch);
        }
        settle(f);
        assert_int_equal(n_pushed(f, &gateway_1, "membership"), 1);
        assert_int_equal(n_pushed(f, &gateway_1, "deliver"), 1); /* the event */
}

static void on_ended(int r, const StoreWritten *written, void *userdata) {
        Fixture *f = userdata;

        assert_int_equal(r, 0);
        intents_stored(f->role->intents, "source", written->last_intent, 1);
}

/* Callers have all stacks but those for other roles, perhaps because they wait for a delivery: there is one for
 * it. */
static void test_delivery_beside_many_callers(void **state) {
        Fixture *f = *state;
        Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;
        Sc__InboxSessionEndedRequest ended = SC__INBOX_SESSION_ENDED_REQUEST__INIT;
        Sc__Conversation cause = SC__CONVERSATION__INIT;
        static Answer *answers[1100];
        char user[16];

        f->hold_lookups = true;
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                snprintf(user, sizeof(user), "u%u", i);
                request.user = (char *) "bob";
                answers[i] = begin(f, &method_conversation_open_direct, user, NULL, &request);
        }
        cause.id = (char *) "source";
        ended.user = (char *) "ada";
        ended.session = (char *) "s";
        const StoreWrite write = {.partition = "source",
                .guard = {.verb = STORE_INSERT, .info = &sc__conversation__info, .record = &cause.base},
                .intents = &(StoreIntent){.target = "#ada",
                        .method = &method_inbox_session_ended,
                        .request = &ended.base},
                .n_intents = 1};
        assert_int_equal(store_write_start(f->role->store, &write, on_ended, f), 0);
        wait_for(f, "intents_delivered", 1);
        assert_true(f->n_held > 0);
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++)
                assert_false(answers[i]->done);
        f->hold_lookups = false;
        fiber_queue_wake(&f->held);
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++)
                finish(f, answers[i]);
        settle(f);
}

static void test_opening_is_told(void **state) {
        Fixture *f = *state;
        const Sc__Message *events[4];

        attach(f, &gateway_1, "c1", "bob");
        attach(f, &gateway_2, "c2", "eve");
        const char *conversation = open_direct(f, "ada", "bob");
        settle(f);

        assert_int_equal(n_pushed(f, &gateway_1, "membership"), 1);
        assert_int_equal(f->n_pushes, 2);
        /* First what is durable, then what follows from it. */
        const Sc__MembershipChanged *change = (const Sc__MembershipChanged *) f->pushes[1].message;
        assert_string_equal(change->user, "bob");
        assert_false(change->removed);
        assert_string_equal(change->subscription->conversation, conversation);
        assert_int_equal(change->subscription->kind, SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT);
        assert_int_equal(strlen(change->subscription->epoch), 36);

        assert_int_equal(delivered(f, &gateway_1, "#bob", events), 1);
        assert_int_equal(events[0]->seq, 1);
        assert_string_equal(events[0]->sender, "");
        assert_string_equal(events[0]->event->conversation_added->conversation, conversation);
        assert_string_equal(events[0]->event->conversation_added->by, "ada");

        /* Messages reach bob without attaching again; ada finds the event when she comes. */
        send_text(f, "ada", conversation, "", "hello");
        assert_int_equal(delivered(f, &gateway_1, conversation, events), 1);
        const Sc__AttachResponse *response = attach(f, &gateway_2, "c3", "ada");
        assert_int_equal(find_subscription(response, "#ada")->last_seq, 1);
}

/* Whoever waits for the api role when this one ends is answered. */
static void test_stopping_while_opening(void **state) {
        Fixture *f = *state;
        Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;

        f->hold_lookups = true;
        request.user = (char *) "bob";
        Answer *answer = begin(f, &method_conversation_open_direct, "ada", NULL, &request);
        while (f->n_held == 0)
                assert_true(sd_event_run(f->event, 1000 * 1000) > 0);
        assert_false(answer->done);
        fixture_close_role(f);
        assert_true(answer->done);
        assert_int_equal(answer->code, ERROR_UNAVAILABLE);
}

/* The same for one who gets so far only while the role ends: what it read was there, but not yet taken up. */
static void test_stopping_just_before_the_lookup(void **state) {
        Fixture *f = *state;
        Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;
        struct pollfd store = {.fd = sd_event_get_fd(f->event), .events = POLLIN};

        request.user = (char *) "bob";
        Answer *answer = begin(f, &method_conversation_open_direct, "ada", NULL, &request);
        assert_int_equal(sd_event_prepare(f->event), 0);
        assert_int_equal(poll(&store, 1, 10000), 1);
        fixture_close_role(f);
        assert_true(answer->done);
        assert_int_equal(answer->code, ERROR_UNAVAILABLE);
}

/* Whoever goes away at any moment leaves nothing behind. */
static void test_cancelled_callers(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 40; i++) {
                Sc__OpenDirectRequest open_request = SC__OPEN_DIRECT_REQUEST__INIT;
                Sc__ConversationListRequest list_request = SC__CONVERSATION_LIST_REQUEST__INIT;
                Sc__HistoryRequest history_request = SC__HISTORY_REQUEST__INIT;
                Answer *answers[4];
                char other[8], id[UUID_TEXT_SIZE];

                snprintf(other, sizeof(other), "u%u", i / 4);
                uuid_of_direct("ada", other, id);
                open_request.user = other;
                history_request.conversation = id;
                answers[0] = begin(f, &method_conversation_open_direct, "ada", NULL, &open_request);
                answers[1] = begin(f, &method_conversation_open_direct, "ada", NULL, &open_request);
                answers[2] = begin(f, &method_conversation_list, "ada", NULL, &list_request);
                answers[3] = begin(f, &method_message_history, "ada", NULL, &history_request);
                for (unsigned k = 0; k < i % 7; k++)
                        assert_true(sd_event_run(f->event, 1000) >= 0);
                for (unsigned k = 0; k < ELEMENTSOF(answers); k++)
                        if (answers[k]->call)
                                call_cancel(answers[k]->call);
                for (unsigned k = 0; k < ELEMENTSOF(answers); k++)
                        finish(f, answers[k]);
        }
        settle(f);
        assert_no_pins(f);
        /* And hinders nobody. */
        for (unsigned i = 0; i < 10; i++) {
                char other[8];

                snprintf(other, sizeof(other), "u%u", i);
                open_direct(f, "ada", other);
        }
        settle(f);
        assert_int_equal(list(f, "ada", "", 0)->n_conversations, 10);
}

/* All that is under way when the role ends is answered. */
static void test_stopping_under_load(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        unsigned n_stored = 0;

        for (unsigned i = 0; i < 300; i++) {
                Sc__SendRequest request = text_request(conversation, "", "hello");
                Sc__ConversationListRequest list_request = SC__CONVERSATION_LIST_REQUEST__INIT;
                char client[16];

                begin(f, &method_message_send, "ada", NULL, &request);
                snprintf(client, sizeof(client), "c%u", i);
                begin_attach(f, &gateway_1, client, "ada", "s");
                begin(f, &method_conversation_list, "ada", NULL, &list_request);
                if (i % 50 == 0)
                        assert_true(sd_event_run(f->event, 0) >= 0);
        }
        fixture_close_role(f);
        for (size_t i = 0; i < f->n_answers; i++) {
                assert_true(f->answers[i]->done);
                if (f->answers[i]->response &&
                        f->answers[i]->response->descriptor == &sc__send_response__descriptor)
                        n_stored++;
        }
        fixture_open_role(f);
        assert_int_equal(get(f, "ada", conversation)->last_seq, n_stored);
}

/* --- reading --- */

static void test_unread_and_mark_read(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");

        for (unsigned i = 0; i < 10; i++)
                send_text(f, "bob", conversation, "", "hello");
        const Sc__ConversationView *view = get(f, "ada", conversation);
        assert_int_equal(view->last_seq, 10);
        assert_int_equal(view->last_message->seq, 10);
        assert_int_equal(view->read_seq, 0);
        assert_int_equal(view->unread_count, 10);

        attach(f, &gateway_1, "c1", "bob");
        f->n_pushes = 0;
        assert_int_equal(mark_read(f, "ada", conversation, 7), 7);
        assert_int_equal(f->n_pushes, 1);
        const Sc__Deliver *deliver = (const Sc__Deliver *) f->pushes[0].message;
        assert_string_equal(deliver->conversation, conversation);
        assert_int_equal(deliver->update->what_case, SC__UPDATE__WHAT_RECEIPT);
        assert_string_equal(deliver->update->receipt->user, "ada");
        assert_int_equal(deliver->update->receipt->read_seq, 7);

        /* Only forward, and never beyond what is there; what changes nothing is told to nobody. */
        assert_int_equal(mark_read(f, "ada", conversation, 3), 7);
        assert_int_equal(mark_read(f, "ada", conversation, 7), 7);
        assert_int_equal(f->n_pushes, 1);
        fixture_restart(f);
        view = get(f, "ada", conversation);
        assert_int_equal(view->read_seq, 7);
        assert_int_equal(view->unread_count, 3);
        assert_int_equal(mark_read(f, "ada", conversation, UINT64_MAX), 10);
        assert_int_equal(get(f, "ada", conversation)->unread_count, 0);

        Sc__MarkReadRequest request = read_request(conversation, 5);
        ask_refused(f, &method_conversation_mark_read, "eve", &request, ERROR_NOT_A_MEMBER);
}

/* Sending moves the sender's own cursor, so what came before is read. */
static void test_unread_with_own_messages(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");

        send_text(f, "bob", conversation, "", "one");
        send_text(f, "bob", conversation, "", "two");
        assert_int_equal(get(f, "ada", conversation)->unread_count, 2);
        assert_int_equal(get(f, "bob", conversation)->unread_count, 0);
        assert_int_equal(get(f, "bob", conversation)->read_seq, 2);
        send_text(f, "ada", conversation, "", "three");
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(get(f, "ada", conversation)->unread_count, 0);
                assert_int_equal(get(f, "ada", conversation)->read_seq, 3);
                assert_int_equal(get(f, "bob", conversation)->unread_count, 1);
                fixture_restart(f);
        }
        /* The receipt of an older one changes nothing. */
        assert_int_equal(mark_read(f, "ada", conversation, 1), 3);
        assert_int_equal(list(f, "bob", "", 0)->conversations[0]->unread_count, 1);
}

/* Several devices move the same cursor at once: it ends at the furthest. */
static void test_racing_cursors(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        Answer *answers[6];

        for (unsigned i = 0; i < 10; i++)
                send_text(f, "bob", conversation, "", "hello");
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                Sc__MarkReadRequest request = read_request(conversation, 3 + i * 5 % 7);
                answers[i] = begin(f, &method_conversation_mark_read, "ada", NULL, &request);
        }
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                finish(f, answers[i]);
                assert_int_equal(answers[i]->code, ERROR_NONE);
                assert_true(((Sc__MarkReadResponse *) answers[i]->response)->read_seq >= 3 + i * 5 % 7);
        }
        assert_int_equal(get(f, "ada", conversation)->read_seq, 9);
        fixture_restart(f);
        assert_int_equal(get(f, "ada", conversation)->read_seq, 9);
}

/* A receipt while the cursors of senders are on their way to the store: nothing of either is lost. */
static void test_mark_read_beside_a_flush(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");

        for (unsigned i = 0; i < 20; i++) {
                Sc__MarkReadRequest request = read_request(conversation, 3 * i + 1);

                send_text(f, "ada", conversation, "", "hello");
                send_text(f, "bob", conversation, "", "hello");
                send_text(f, "bob", conversation, "", "hello");
                cursor_flush_all(f->role->flush);
                Answer *answer = begin(f, &method_conversation_mark_read, "ada", NULL, &request);
                send_text(f, "bob", conversation, "", "hello");
                finish(f, answer);
                /* The own message of this round was further than what is marked. */
                assert_int_equal(((Sc__MarkReadResponse *) answer->response)->read_seq, 4 * i + 1);
        }
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(get(f, "ada", conversation)->read_seq, 77);
                assert_int_equal(get(f, "ada", conversation)->unread_count, 3);
                assert_int_equal(get(f, "bob", conversation)->unread_count, 0);
                fixture_restart(f);
        }
        assert_int_equal(mark_read(f, "ada", conversation, 79), 79);
        fixture_restart(f);
        assert_int_equal(get(f, "ada", conversation)->unread_count, 1);
}

static const char *to_shorten;

/* On a fiber. */
static void shorten(void *userdata) {
        Fixture *f = userdata;
        unsigned n;

        assert_int_equal(store_delete_entries(f->role->store, to_shorten, 2, 10, &n), 0);
        assert_int_equal(n, 2);
}

/* The cursor may be put on an entry that is not there any more. */
static void test_mark_read_of_what_was_deleted(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");

        for (unsigned i = 0; i < 5; i++)
                send_text(f, "bob", conversation, "", "hello");
        to_shorten = conversation;
        assert_int_equal(fiber_start(dispatcher_fibers(f->dispatcher),
                                 &(FiberStart){.main = shorten, .userdata = f}, NULL),
                0);
        settle(f);
        assert_int_equal(mark_read(f, "ada", conversation, 1), 1);
        assert_int_equal(get(f, "ada", conversation)->unread_count, 3);
        assert_int_equal(mark_read(f, "ada", conversation, 3), 3);
        assert_int_equal(get(f, "ada", conversation)->unread_count, 2);
}

static Sc__ConversationHead *read_head(Fixture *f, const char *conversation);

/* One write a conversation and second, however many messages and senders. */
static void test_flush(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");

        settle(f);
        for (unsigned i = 0; i < 5; i++)
                send_text(f, i % 2 ? "ada" : "bob", conversation, "", "hello");
        uint64_t before = n_writes(f);
        wait_for(f, "store_writes", before + 1);
        settle(f);
        assert_int_equal(n_writes(f), before + 1);
        assert_no_pins(f);
        const Sc__ConversationHead *head = read_head(f, conversation);
        assert_int_equal(head->last_seq, 5);
        assert_int_equal(head->last_count, 5);
        assert_true(head->last_at > 0);
}

/* However many sent at once: when their cursors are stored, no more members are remembered than the limit. */
static void test_members_are_bounded(void **state) {
        Fixture *f = *state;
        Conversation *conversation = conversations_get(f->role->conversations, open_direct(f, "ada", "bob"));
        char user[16];

        for (unsigned i = 1; i <= 4 * CONVERSATION_MAX_MEMBERS; i++) {
                snprintf(user, sizeof(user), "u%u", i);
                assert_int_equal(conversation_move_cursor(conversation, user, i, i, false), 0);
        }
        assert_int_equal(HASH_COUNT(conversation->members), 4 * CONVERSATION_MAX_MEMBERS);
        for (unsigned i = 1; i <= 4 * CONVERSATION_MAX_MEMBERS; i++) {
                snprintf(user, sizeof(user), "u%u", i);
                Sc__Member stored = SC__MEMBER__INIT;
                stored.user = user;
                stored.read_seq = stored.read_count = i;
                stored.has_written = 1;
                if (i > 10)
                        assert_non_null(conversation_note_member(conversation, &stored));
        }
        assert_int_equal(conversation_move_cursor(conversation, "eve", 1, 1, true), 0);
        assert_int_equal(HASH_COUNT(conversation->members), CONVERSATION_MAX_MEMBERS);
        /* Those that are not stored stay. */
        for (unsigned i = 1; i <= 10; i++) {
                uint64_t seq = 0, count = 0;

                snprintf(user, sizeof(user), "u%u", i);
                conversation_merge_cursor(conversation, user, &seq, &count);
                assert_int_equal(seq, i);
        }
        conversation_unpin(conversation);
}

/* --- listing --- */

/* The positions of `others` in the list of ada, page by page; each conversation comes once. */
static unsigned walk_list(Fixture *f, uint32_t limit, const char **ret_others, unsigned *ret_pages) {
        const char *after = "";
        unsigned n = 0;

        *ret_pages = 0;
        do {
                const Sc__ConversationListResponse *page = list(f, "ada", after, limit);

                assert_true(page->n_conversations <= limit);
                for (size_t i = 0; i < page->n_conversations; i++) {
                        const Sc__ConversationView *view = page->conversations[i];

                        assert_int_equal(view->n_members, 2);
                        assert_int_equal(view->unread_count, view->last_seq);
                        assert_int_equal(!view->last_message, view->last_seq == 0);
                        if (view->last_message)
                                assert_string_equal(view->last_message->text, view->last_message->sender);
                        ret_others[n++] =
                                streq(view->members[0], "ada") ? view->members[1] : view->members[0];
                }
                after = page->next_after;
                (*ret_pages)++;
        } while (*after);
        return n;
}

static void test_list(void **state) {
        Fixture *f = *state;
        const char *others[25];
        unsigned n_pages;
        char id[UUID_TEXT_SIZE];

        /* Makes the personal conversation, which is not listed. */
        attach(f, &gateway_1, "c1", "ada");
        assert_int_equal(list(f, "ada", "", 0)->n_conversations, 0);
        for (unsigned i = 0; i < 25; i++) {
                char other[8];

                snprintf(other, sizeof(other), "u%u", i);
                const char *conversation = open_direct(f, "ada", other);
                for (unsigned k = 0; k < i % 3; k++)
                        send_text(f, other, conversation, "", other);
        }
        /* One that was old comes to the front. */
        wait_for_next_millisecond();
        uuid_of_direct("ada", "u3", id);
        send_text(f, "u3", id, "", "u3");
        for (unsigned i = 0; i < 3; i++) {
                /* From memory, and from the store. */
                if (i == 2)
                        fixture_restart(f);
                assert_int_equal(walk_list(f, 10, others, &n_pages), 25);
                assert_int_equal(n_pages, 3);
                assert_string_equal(others[0], "u3");
        }
        assert_int_equal(list(f, "ada", "", 200)->n_conversations, 25);
        assert_string_equal(list(f, "ada", "", 25)->next_after, "");
        assert_int_equal(list(f, "eve", "", 10)->n_conversations, 0);

        Sc__ConversationListRequest request = SC__CONVERSATION_LIST_REQUEST__INIT;
        const char *const bad[] = {"x", "12", ":x", "-1:x", "99999999999999999999:x"};
        FOREACH_ARRAY(after, bad, ELEMENTSOF(bad)) {
                request.after = (char *) *after;
                ask_refused(f, &method_conversation_list, "ada", &request, ERROR_INVALID_ARGUMENT);
        }
}

/* Of those with the same time the smaller id comes first, and the end of a page may lie between them. */
static void test_list_with_ties(void **state) {
        Fixture *f = *state;
        const char *after = "";
        char last_id[UUID_TEXT_SIZE] = "";
        unsigned n = 0;

        for (unsigned i = 0; i < 9; i++) {
                char other[8];

                snprintf(other, sizeof(other), "u%u", i);
                Conversation *conversation =
                        conversations_find_loaded(f->role->conversations, open_direct(f, "ada", other));
                conversation->last_at = 1000 + i / 3;
        }
        do {
                const Sc__ConversationListResponse *page = list(f, "ada", after, 2);

                for (size_t i = 0; i < page->n_conversations; i++, n++) {
                        const char *id = page->conversations[i]->conversation->id;
                        const Conversation *conversation =
                                conversations_find_loaded(f->role->conversations, id);

                        assert_int_equal(conversation->last_at, 1002 - n / 3);
                        assert_true(n % 3 == 0 || strcmp(last_id, id) < 0);
                        snprintf(last_id, sizeof(last_id), "%s", id);
                }
                after = page->next_after;
        } while (*after);
        assert_int_equal(n, 9);
}

/* However many there are, it is three submissions. */
static void test_list_of_many(void **state) {
        Fixture *f = *state;
        static const char *others[300];
        unsigned n_pages;

        f->conf->group_max_unanswered = 0;

        for (unsigned i = 0; i < ELEMENTSOF(others); i++) {
                char other[8];

                snprintf(other, sizeof(other), "u%u", i);
                open_direct(f, "ada", other);
        }
        for (unsigned i = 0; i < 2; i++) {
                settle(f);
                fixture_restart(f);
                /* Each shard is looked at for intents of the process before. */
                wait_for(f, "store_reads", SHARDS_DEFAULT);
                settle(f);
                uint64_t before = n_reads(f);
                assert_int_equal(list(f, "ada", "", 200)->n_conversations, 200);
                assert_int_equal(n_reads(f), before + 3);
        }
        assert_int_equal(walk_list(f, 200, others, &n_pages), ELEMENTSOF(others));
        assert_int_equal(n_pages, 2);
}

/* A page ends when it is large enough. */
static void test_list_of_large_messages(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *text = malloc(65537);
        const char *after = "";
        unsigned n = 0, n_pages = 0;

        f->conf->group_max_unanswered = 0;

        memset(text, 'x', 65536);
        text[65536] = 0;
        for (unsigned i = 0; i < 70; i++) {
                char other[8];

                snprintf(other, sizeof(other), "u%u", i);
                send_text(f, "ada", open_direct(f, "ada", other), "", text);
        }
        do {
                const Sc__ConversationListResponse *page = list(f, "ada", after, 200);

                assert_true(protobuf_c_message_get_packed_size(&page->base) <= GROUP_MAX_PAGE + 66000);
                n += (unsigned) page->n_conversations;
                n_pages++;
                after = page->next_after;
        } while (*after);
        assert_int_equal(n, 70);
        assert_in_range(n_pages, 70 / 4, 70 / 3 + 1);
}

static void test_get_refusals(void **state) {
        Fixture *f = *state;
        Sc__ConversationGetRequest request = SC__CONVERSATION_GET_REQUEST__INIT;

        request.conversation = (char *) open_direct(f, "ada", "bob");
        ask_refused(f, &method_conversation_get, "eve", &request, ERROR_NOT_A_MEMBER);
        request.conversation = (char *) "there-is-none";
        ask_refused(f, &method_conversation_get, "eve", &request, ERROR_NOT_A_MEMBER);
        request.conversation = (char *) "#ada";
        ask_refused(f, &method_conversation_get, "eve", &request, ERROR_NOT_A_MEMBER);
        /* Nothing is kept of what is not there, nor of inboxes. */
        settle(f);
        assert_int_equal(conversations_n(f->role->conversations), 1);
}

/* --- who is online --- */

static void test_presence(void **state) {
        Fixture *f = *state;
        Sc__PresenceRequest request = SC__PRESENCE_REQUEST__INIT;
        const char *conversation = open_direct(f, "ada", "bob");

        request.conversation = (char *) conversation;
        assert_int_equal(
                ((Sc__PresenceResponse *) ask(f, &method_conversation_presence, "ada", &request))->n_clients,
                0);
        attach(f, &gateway_1, "c1", "bob");
        attach(f, &gateway_2, "c2", "eve");
        const Sc__PresenceResponse *response = ask(f, &method_conversation_presence, "ada", &request);
        assert_int_equal(response->n_clients, 1);
        assert_string_equal(response->clients[0]->client, "c1");
        assert_string_equal(response->clients[0]->user, "bob");
        assert_string_equal(response->clients[0]->device, "phone");
        ask_refused(f, &method_conversation_presence, "eve", &request, ERROR_NOT_A_MEMBER);
}

static void test_attach_refusals(void **state) {
        Fixture *f = *state;

        Answer *answer = begin_attach(f, NULL, "c1", "ada", "s"); /* no gateway */
        finish(f, answer);
        assert_int_equal(answer->code, ERROR_PERMISSION_DENIED);
        attach(f, &gateway_1, "c1", "ada");
        answer = begin_attach(f, &gateway_1, "c1", "bob", "s");
        finish(f, answer);
        assert_int_equal(attach_outcome(answer), ERROR_INVALID_ARGUMENT);
        assert_int_equal(online_n_clients(f->role->online), 1);
}

/* The gateway goes while its attach is under way, or waits. */
static void test_gateway_leaves_while_attaching(void **state) {
        Fixture *f = *state;
        Answer *answers[10];

        open_direct(f, "ada", "bob");
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                char client[16];

                snprintf(client, sizeof(client), "c%u", i);
                answers[i] = begin_attach(f, &gateway_1, client, "ada", "s");
        }
        group_role_forget_gateway(f->role, &gateway_1);
        for (unsigned i = 0; i < ELEMENTSOF(answers); i++) {
                finish(f, answers[i]);
                assert_int_equal(attach_outcome(answers[i]), ERROR_UNAVAILABLE);
                assert_int_equal(answers[i]->code, i < 4 ? ERROR_NONE : ERROR_UNAVAILABLE);
        }
        assert_int_equal(online_n_clients(f->role->online), 0);
        assert_int_equal(online_n_users(f->role->online), 0);
}

/* --- the store --- */

static void on_head(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        Sc__ConversationHead **ret = userdata;

        assert_int_equal(r, 0);
        assert_int_equal(rows[0].n, 1);
        **ret = *(const Sc__ConversationHead *) rows[0].records[0];
        (*ret)->conversation = NULL;
        *ret = NULL;
}

/* Without what it points at. */
static Sc__ConversationHead *read_head(Fixture *f, const char *conversation) {
        static Sc__ConversationHead result;
        Sc__ConversationHead key = SC__CONVERSATION_HEAD__INIT, *to_fill = &result;

        key.conversation = (char *) conversation;
        assert_int_equal(
                store_read_start(f->role->store,
                        &(StoreRead){.info = &sc__conversation_head__info, .from = &key.base, .n_prefix = 1},
                        1, on_head, &to_fill),
                0);
        while (to_fill)
                assert_true(sd_event_run(f->event, 1000 * 1000) >= 0);
        return &result;
}

static void test_check(void **state) {
        Fixture *f = *state;
        Sc__StoreCheckRequest request = SC__STORE_CHECK_REQUEST__INIT;

        open_direct(f, "ada", "bob");
        const Sc__StoreCheckResponse *response = ask(f, &method_conversations_check, "", &request);
        assert_true(response->ok);
        assert_int_equal(response->n_findings, 0);
        assert_true(response->pages > 0);
}

/* The disk refuses to grow for a while: nothing is acknowledged that is not there, and it goes on afterwards
 * without a gap. */
static void test_failing_disk(void **state) {
        Fixture *f = *state;
        const char *conversation = open_direct(f, "ada", "bob");
        struct rlimit unlimited, limited;
        _cleanup_free_ char *text = malloc(60001);
        const Sc__Message *messages[64];
        uint64_t n_acknowledged = 0;
        unsigned n_failed = 0;

        memset(text, 'x', 60000);
        text[60000] = 0;
        attach(f, &gateway_1, "c1", "bob");
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
        limited = unlimited;
        limited.rlim_cur = 1 << 20;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
        for (unsigned i = 0; i < 30; i++) {
                char id[16];

                snprintf(id, sizeof(id), "m%u", i);
                Sc__SendRequest request = text_request(conversation, id, text);
                Answer *answer = begin(f, &method_message_send, "ada", NULL, &request);
                finish(f, answer);
                n_acknowledged += answer->code == ERROR_NONE;
                /* A commit that failed may have succeeded: it is tried again, and then that is told. */
                n_failed += answer->code == ERROR_INTERNAL || answer->code == ERROR_STORAGE_FULL ||
                            answer->code == ERROR_TIMEOUT;
        }
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
        assert_int_equal(n_acknowledged + n_failed, 30);
        assert_true(n_acknowledged > 0 && n_failed > 0);

        for (unsigned i = 0; i < 30; i++) {
                char id[16];

                snprintf(id, sizeof(id), "m%u", i);
                assert_true(send_text(f, "ada", conversation, id, text)->seq > 0);
        }
        assert_int_equal(get(f, "ada", conversation)->last_seq, 30);
        assert_int_equal(delivered(f, &gateway_1, conversation, messages), 30);
        for (unsigned i = 0; i < 30; i++)
                assert_int_equal(messages[i]->seq, i + 1);
}

static void test_full_disk_is_told_once(void **state) {
        Fixture *f = *state;

        assert_true(group_role_is_healthy(f->role));
        group_role_note_write(f->role, -ENOSPC);
        group_role_note_write(f->role, -ENOSPC);
        assert_false(group_role_is_healthy(f->role));
        assert_int_equal(f->n_changed, 1);
        assert_non_null(strstr(group_role_status(f->role), "Disk full"));
        group_role_note_write(f->role, -EIO);
        assert_false(group_role_is_healthy(f->role));
        /* A write that succeeds just afterwards is no recovery yet. */
        open_direct(f, "ada", "bob");
        assert_false(group_role_is_healthy(f->role));
        /* It finds out by itself. */
        while (!group_role_is_healthy(f->role))
                assert_true(sd_event_run(f->event, 10 * USEC_PER_SEC) > 0);
        assert_int_equal(f->n_changed, 2);
}

static void test_statistics(void **state) {
        BusStatistic statistics[32];
        Fixture *f = *state;
        uint64_t n_messages = 0;

        send_text(f, "ada", open_direct(f, "ada", "bob"), "", "hello");
        settle(f);
        size_t n = group_role_statistics(f->role, statistics, ELEMENTSOF(statistics));
        for (size_t i = 0; i < n; i++)
                if (streq(statistics[i].name, "messages"))
                        n_messages = statistics[i].value;
        assert_int_equal(n_messages, 3); /* two events */
        assert_int_equal(group_role_statistics(f->role, statistics, 2), 2);
        assert_true(group_role_is_alive(f->role));
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_open_direct),
                TEST(test_notes_to_self),
                TEST(test_racing_openers),
                TEST(test_delivery_beside_many_callers),
                TEST(test_opening_is_told),
                TEST(test_stopping_while_opening),
                TEST(test_stopping_just_before_the_lookup),
                TEST(test_stopping_under_load),
                TEST(test_cancelled_callers),
                TEST(test_unread_and_mark_read),
                TEST(test_racing_cursors),
                TEST(test_unread_with_own_messages),
                TEST(test_mark_read_beside_a_flush),
                TEST(test_mark_read_of_what_was_deleted),
                TEST(test_flush),
                TEST(test_members_are_bounded),
                TEST(test_list),
                TEST(test_list_with_ties),
                TEST(test_list_of_many),
                TEST(test_list_of_large_messages),
                TEST(test_get_refusals),
                TEST(test_presence),
                TEST(test_attach_refusals),
                TEST(test_gateway_leaves_while_attaching),
                TEST(test_check),
                TEST(test_failing_disk),
                TEST(test_full_disk_is_told_once),
                TEST(test_statistics),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
