/* SPDX-License-Identifier: Apache-2.0 */

/* Clients that send several messages without waiting, and after any error or a crash send again what was not
 * acknowledged, in order, before anything new, under the same ids: on a store that grants only what it promises, and
 * with a queue that is full now and then, and a role that forgets who is a member. What they sent before they
 * heard of an error fails as well. Each message is stored once, in the order of its sender, with the seq that was
 * told; and members online get all of them, once, without a gap. STONECHAT_SEED=N runs one seed again. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "fixture.h"
#include "random.h"
#include "service/runs.h"
#include "util/string-util.h"

#define N_SEEDS 150U
#define N_LIVES 4U
#define N_SENDERS 2U
#define N_MESSAGES 40U /* of each sender, in all lives together */
#define MAX_UNDER_WAY 6U
#define MAX_SEQ (N_SENDERS * N_MESSAGES + 1)
#define MAX_STEPS 20000U

typedef struct Sender {
        const char *user;
        unsigned n_acknowledged; /* of the messages, in order: all before this one */
        unsigned n_sent; /* of them, on this connection */
        Answer *answers[N_MESSAGES];
        uint64_t seqs[N_MESSAGES]; /* that were told */
        uint64_t order; /* of what is sent now */
        unsigned n_unaware; /* messages that it still sends after an error, as it has not heard of it */
} Sender;

typedef struct World {
        Fixture *f;
        Random random;
        Sender senders[N_SENDERS];
        char conversation[64];
        void *gateway; /* a new one in each life */
        size_t n_pushes; /* before this life */
        uint64_t attached_at;
} World;

static void make_id(const Sender *sender, unsigned message, char id[static 32]) {
        snprintf(id, 32, "%s-%u", sender->user, message);
}

static void send_next(World *world, Sender *sender) {
        char id[32];

        make_id(sender, sender->n_sent, id);
        Sc__SendRequest request = text_request(world->conversation, id, id);
        size_t full = random_percent(&world->random, 4) ? GROUP_MAX_PENDING_BYTES : 0;
        world->f->role->pending_bytes += full;
        sender->answers[sender->n_sent++] = begin_ordered(
                world->f, &method_message_send, sender->user, world->gateway, sender->order, &request);
        world->f->role->pending_bytes -= full;
}

/* Answers in order. After an error whatever was sent on this connection behind it is waited for, and all of it
 * sent again. */
static void take_answers(World *world, Sender *sender) {
        while (sender->n_acknowledged < sender->n_sent) {
                const Answer *answer = sender->answers[sender->n_acknowledged];
                if (!answer->done)
                        return;
                if (answer->code != ERROR_NONE) {
                        for (unsigned i = sender->n_acknowledged; i < sender->n_sent; i++)
                                if (!sender->answers[i]->done)
                                        return;
                        if (sender->n_unaware > 0)
                                return;
                        for (unsigned i = sender->n_acknowledged; i < sender->n_sent; i++)
                                assert_int_not_equal(sender->answers[i]->code, ERROR_NONE);
                        sender->n_sent = sender->n_acknowledged;
                        sender->order = order_again(sender->order);
                        sender->n_unaware = random_below(&world->random, 4);
                        return;
                }
                sender->seqs[sender->n_acknowledged++] = ((const Sc__SendResponse *) answer->response)->seq;
        }
}

/* Whether a sender is a member is asked from the store anew, while messages of his wait to be stored; and found
 * out for another of his calls meanwhile. */
static void forget_member(World *world, const char *user) {
        Sc__ConversationGetRequest request = SC__CONVERSATION_GET_REQUEST__INIT;
        Conversation *conversation =
                conversations_find_loaded(world->f->role->conversations, world->conversation);

        if (conversation)
                conversation_forget_member(conversation, user);
        request.conversation = world->conversation;
        if (random_percent(&world->random, 50))
                (void) begin(world->f, &method_conversation_get, user, world->gateway, &request);
}

static bool step(World *world, unsigned n_messages) {
        bool all = true;

        FOREACH_ARRAY(sender, world->senders, N_SENDERS) {
                take_answers(world, sender);
                if (random_percent(&world->random, 10))
                        forget_member(world, sender->user);
                bool failed = sender->n_acknowledged < sender->n_sent &&
                              sender->answers[sender->n_acknowledged]->done;
                bool unaware = failed && sender->n_unaware > 0;
                sender->n_unaware -= unaware;
                if ((!failed || unaware) && sender->n_sent < n_messages &&
                        sender->n_sent - sender->n_acknowledged < MAX_UNDER_WAY &&
                        random_percent(&world->random, 40))
                        send_next(world, sender);
                all = all && sender->n_acknowledged == n_messages;
        }
        return all;
}

/* --- what holds --- */

static const Sc__HistoryResponse *history(World *world) {
        Sc__HistoryRequest request = SC__HISTORY_REQUEST__INIT;

        request.conversation = world->conversation;
        request.limit = 1000;
        return ask(world->f, &method_message_history, world->senders[0].user, &request);
}

/* What was told is there; and each sender's messages are stored once, in order, none left out in between. */
static void check_log(World *world, const Sc__HistoryResponse *log) {
        unsigned next[N_SENDERS] = {};

        for (size_t i = 0; i < log->n_messages; i++) {
                const Sc__Message *message = log->messages[i];
                unsigned which = streq(message->sender, world->senders[1].user);
                const Sender *sender = &world->senders[which];
                char id[32];
                make_id(sender, next[which], id);
                assert_int_equal(message->seq, i + 1);
                assert_string_equal(message->client_msg_id, id);
                if (next[which] < sender->n_acknowledged)
                        assert_int_equal(sender->seqs[next[which]], message->seq);
                next[which]++;
        }
        for (unsigned i = 0; i < N_SENDERS; i++)
                assert_true(next[i] >= world->senders[i].n_acknowledged);
}

/* Since the gateway attached in this life. */
static void check_pushes(World *world, const Sc__HistoryResponse *log, bool all) {
        const Sc__Message *pushed[MAX_PUSHES];
        size_t n = delivered(world->f, world->gateway, world->conversation, pushed);

        if (all)
                assert_int_equal(world->attached_at + n, log->n_messages);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(pushed[i]->seq, world->attached_at + i + 1);
                assert_true(pushed[i]->seq <= log->n_messages);
                assert_string_equal(
                        pushed[i]->client_msg_id, log->messages[pushed[i]->seq - 1]->client_msg_id);
        }
}

/* --- a life --- */

static void begin_life(World *world, unsigned life) {
        static char gateways[N_LIVES];

        world->gateway = &gateways[life];
        const Sc__AttachResponse *attached =
                attach(world->f, world->gateway, "client", world->senders[0].user);
        const Sc__Subscription *subscription = find_subscription(attached, world->conversation);
        assert_non_null(subscription);
        world->attached_at = subscription->last_seq;
        FOREACH_ARRAY(sender, world->senders, N_SENDERS) {
                sender->n_sent = sender->n_acknowledged;
                sender->order = order_new();
                sender->n_unaware = random_below(&world->random, 4);
        }
}

static void run_life(World *world, unsigned life) {
        Model *model = world->f->model;
        unsigned n_messages = (life + 1) * N_MESSAGES / N_LIVES;
        bool last = life == N_LIVES - 1, all = false;

        begin_life(world, life);
        model_set_faults(model, &(ModelFaults){
                                        .reorder = true,
                                        .refuse = random_below(&world->random, 2) * 3,
                                        .unknown = random_below(&world->random, 3) * 15,
                                        .crash_point = last ? 0 : 1 + random_below(&world->random, 60),
                                });
        for (unsigned i = 0; !model_has_crashed(model) && !all; i++) {
                assert_true(i < MAX_STEPS);
                all = step(world, n_messages);
                for (unsigned k = random_below(&world->random, 4); k > 0 && !model_has_crashed(model); k--)
                        assert_true(sd_event_run(world->f->event, 0) >= 0);
        }
        bool crashed = model_has_crashed(model);
        model_set_faults(model, &(ModelFaults){});
        if (!crashed)
                settle(world->f);
        /* What the connection said until then counts, and nothing that was said of a process that died. */
        const Sc__HistoryResponse *log = NULL;
        if (!crashed) {
                log = history(world);
                check_pushes(world, log, true);
        } else
                fixture_crash(world->f);
        model_settle(model);
        log = history(world);
        check_log(world, log);
        if (crashed)
                check_pushes(world, log, false);
}

static void run_seed(uint64_t seed) {
        _cleanup_free_ World *world = new0(World, 1);
        void *state;

        world->random.state = seed;
        world->senders[0].user = "ada";
        world->senders[1].user = "bob";
        fixture_seed = seed;
        fixture_setup_model(&state);
        world->f = state;
        snprintf(
                world->conversation, sizeof(world->conversation), "%s", open_direct(world->f, "ada", "bob"));
        for (unsigned life = 0; life < N_LIVES; life++)
                run_life(world, life);
        FOREACH_ARRAY(sender, world->senders, N_SENDERS)
                assert_int_equal(sender->n_acknowledged, N_MESSAGES);
        assert_int_equal(history(world)->n_messages, N_SENDERS * N_MESSAGES);
        fixture_teardown(&state);
}

static void test_resends(void **state) {
        uint64_t seed, end;

        for (random_seeds("STONECHAT_SEED", N_SEEDS, &seed, &end); seed < end; seed++) {
                print_message("seed %lu\n", (unsigned long) seed);
                run_seed(seed);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_resends),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
