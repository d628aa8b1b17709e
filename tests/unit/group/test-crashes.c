/* SPDX-License-Identifier: Apache-2.0 */

/* The whole role on a store that grants only what it promises, and dies at any point: people open
 * conversations, send and read at random. Whatever they were told is true afterwards.
 * STONECHAT_SEED=N runs one seed again. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "fixture.h"
#include "random.h"
#include "util/string-util.h"

#define N_SEEDS 20U
#define N_ROUNDS 6U /* lives of the process */
#define N_USERS 4U
#define N_OPERATIONS 80U /* of one round */
#define MAX_SEQ (N_ROUNDS * N_OPERATIONS + 1)

typedef enum OperationType {
        OPERATION_OPEN,
        OPERATION_SEND,
        OPERATION_MARK_READ,
} OperationType;

typedef struct Step {
        OperationType type;
        unsigned user, other;
        char client_msg_id[24];
        Answer *answer;
} Step;

/* What was told to the users of one conversation. */
typedef struct Told {
        bool opened;
        char ids[MAX_SEQ][24]; /* of each seq that was acknowledged */
        uint64_t last_acknowledged[2]; /* by sender, in the order of sending */
        uint64_t cursor[2]; /* at least */
        uint64_t wanted[2]; /* a cursor further than this, and than the user's own messages, is a mistake */
} Told;

typedef struct World {
        Fixture *f;
        Random random;
        Told told[N_USERS][N_USERS]; /* the smaller user first */
        unsigned n_ids, n_acknowledged;
} World;

static const char *user_name(unsigned user) {
        static const char *const names[N_USERS] = {"ada", "bob", "cyd", "dan"};
        return names[user];
}

static Told *told_of(World *world, unsigned a, unsigned b) {
        return &world->told[MIN(a, b)][MAX(a, b)];
}

/* Which of the two a user is. */
static unsigned side(const Step *step) {
        return step->user > step->other;
}

static void begin_step(World *world, Step *step) {
        Sc__OpenDirectRequest open = SC__OPEN_DIRECT_REQUEST__INIT;
        Sc__MarkReadRequest mark = SC__MARK_READ_REQUEST__INIT;
        Sc__SendRequest send;
        char id[UUID_TEXT_SIZE];
        unsigned kind = random_below(&world->random, 10);

        step->type = kind == 0 ? OPERATION_OPEN : kind < 8 ? OPERATION_SEND : OPERATION_MARK_READ;
        step->user = random_below(&world->random, N_USERS);
        step->other = (step->user + 1 + random_below(&world->random, N_USERS - 1)) % N_USERS;
        uuid_of_direct(user_name(step->user), user_name(step->other), id);
        Told *told = told_of(world, step->user, step->other);
        switch (step->type) {
        case OPERATION_OPEN:
                open.user = (char *) user_name(step->other);
                step->answer = begin(
                        world->f, &method_conversation_open_direct, user_name(step->user), NULL, &open);
                return;
        case OPERATION_SEND:
                snprintf(step->client_msg_id, sizeof(step->client_msg_id), "m%u", world->n_ids++);
                send = text_request(id, step->client_msg_id, step->client_msg_id);
                step->answer = begin(world->f, &method_message_send, user_name(step->user), NULL, &send);
                return;
        case OPERATION_MARK_READ:
                mark.conversation = id;
                mark.seq = 1 + random_below(&world->random, 60);
                told->wanted[side(step)] = MAX(told->wanted[side(step)], mark.seq);
                step->answer =
                        begin(world->f, &method_conversation_mark_read, user_name(step->user), NULL, &mark);
                return;
        }
}

static void note_sent(World *world, const Step *step, const Sc__SendResponse *response) {
        Told *told = told_of(world, step->user, step->other);

        assert_in_range(response->seq, 1, MAX_SEQ - 1);
        assert_string_equal(told->ids[response->seq], "");
        snprintf(told->ids[response->seq], sizeof(told->ids[0]), "%s", step->client_msg_id);
        /* What one sends is stored in the order in which it was sent. */
        assert_true(response->seq > told->last_acknowledged[side(step)]);
        told->last_acknowledged[side(step)] = response->seq;
        told->cursor[side(step)] = MAX(told->cursor[side(step)], response->seq);
        world->n_acknowledged++;
}

static void note(World *world, const Step *step) {
        Told *told = told_of(world, step->user, step->other);
        const Answer *answer = step->answer;

        if (!answer->done || answer->code != ERROR_NONE)
                return;
        switch (step->type) {
        case OPERATION_OPEN:
                told->opened = true;
                return;
        case OPERATION_SEND:
                return note_sent(world, step, (const Sc__SendResponse *) answer->response);
        case OPERATION_MARK_READ:
                told->cursor[side(step)] = MAX(told->cursor[side(step)],
                        ((const Sc__MarkReadResponse *) answer->response)->read_seq);
        }
}

static bool is_done(const Step *steps, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!steps[i].answer->done)
                        return false;
        return true;
}

static void run_round(World *world) {
        Step steps[N_OPERATIONS];
        Model *model = world->f->model;

        model_set_faults(model, &(ModelFaults){
                                        .reorder = true,
                                        .refuse = random_below(&world->random, 2) * 3,
                                        .unknown = random_below(&world->random, 2) * 10,
                                        .crash_point = 1 + random_below(&world->random, 150),
                                });
        for (unsigned i = 0; i < N_OPERATIONS; i++) {
                begin_step(world, &steps[i]);
                for (unsigned k = random_below(&world->random, 4); k > 0 && !model_has_crashed(model); k--)
                        assert_true(sd_event_run(world->f->event, 0) >= 0);
        }
        for (unsigned i = 0; i < 5000 && !model_has_crashed(model) && !is_done(steps, N_OPERATIONS); i++)
                assert_true(sd_event_run(world->f->event, 1000) >= 0);
        model_set_faults(model, &(ModelFaults){});
        fixture_crash(world->f);
        for (unsigned i = 0; i < N_OPERATIONS; i++)
                note(world, &steps[i]);
}

/* --- what holds --- */

static const Sc__HistoryResponse *history(World *world, unsigned user, const char *conversation) {
        Sc__HistoryRequest request = SC__HISTORY_REQUEST__INIT;

        request.conversation = (char *) conversation;
        request.limit = 1000;
        return ask(world->f, &method_message_history, user_name(user), &request);
}

static void check_log(World *world, const Told *told, const Sc__HistoryResponse *log) {
        for (size_t i = 0; i < log->n_messages; i++) {
                assert_int_equal(log->messages[i]->seq, i + 1);
                assert_int_equal(log->messages[i]->count, i + 1);
                if (*told->ids[i + 1])
                        assert_string_equal(log->messages[i]->client_msg_id, told->ids[i + 1]);
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(
                                log->messages[i]->client_msg_id, log->messages[k]->client_msg_id);
        }
        for (size_t seq = log->n_messages + 1; seq < MAX_SEQ; seq++)
                assert_string_equal(told->ids[seq], "");
}

static void check_view(World *world, const Told *told, unsigned user, unsigned which,
        const Sc__HistoryResponse *log, const Sc__ConversationView *view) {
        uint64_t furthest = told->wanted[which];

        for (size_t i = 0; i < log->n_messages; i++)
                if (streq(log->messages[i]->sender, user_name(user)))
                        furthest = MAX(furthest, log->messages[i]->seq);
        assert_int_equal(view->last_seq, log->n_messages);
        assert_true(view->read_seq >= told->cursor[which]);
        assert_true(view->read_seq <= furthest);
        assert_int_equal(view->unread_count, view->last_seq - view->read_seq);
}

static void check_conversation(World *world, unsigned a, unsigned b) {
        const Told *told = told_of(world, a, b);
        char id[UUID_TEXT_SIZE];

        uuid_of_direct(user_name(a), user_name(b), id);
        const Sc__HistoryResponse *log = history(world, a, id);
        check_log(world, told, log);
        check_view(world, told, a, a > b, log, get(world->f, user_name(a), id));
        check_view(world, told, b, b > a, log, get(world->f, user_name(b), id));
}

/* 0: it is not loaded, as nobody was told that it was opened. */
static int64_t last_at(World *world, const Sc__ConversationView *view) {
        const Conversation *conversation =
                conversations_find_loaded(world->f->role->conversations, view->conversation->id);
        return conversation ? conversation->last_at : 0;
}

/* Each has what was opened, once, with the right number of unread messages; and in the order of the last
 * activity, which a process that was killed may have noted up to a second late. */
static void check_list(World *world, unsigned user, bool loaded) {
        Sc__ConversationListRequest request = SC__CONVERSATION_LIST_REQUEST__INIT;
        const Sc__ConversationListResponse *page =
                ask(world->f, &method_conversation_list, user_name(user), &request);

        for (unsigned other = 0; other < N_USERS; other++) {
                char id[UUID_TEXT_SIZE];
                unsigned n = 0;

                uuid_of_direct(user_name(user), user_name(other), id);
                for (size_t i = 0; i < page->n_conversations; i++)
                        n += streq(page->conversations[i]->conversation->id, id);
                assert_true(n <= 1);
                if (other != user && told_of(world, user, other)->opened)
                        assert_int_equal(n, 1);
        }
        for (size_t i = 0; i < page->n_conversations; i++) {
                const Sc__ConversationView *view = page->conversations[i];
                assert_int_equal(view->unread_count, view->last_seq - view->read_seq);
        }
        for (size_t i = 1; i < page->n_conversations && loaded; i++) {
                int64_t newer = last_at(world, page->conversations[i - 1]),
                        older = last_at(world, page->conversations[i]);
                assert_true(newer == 0 || older == 0 || newer >= older);
        }
}

static void check(World *world) {
        model_settle(world->f->model);
        /* Each shard is looked at for intents of the process before. */
        wait_for(world->f, "store_reads", SHARDS_DEFAULT);
        settle(world->f);
        /* Once without anything in memory, once with all. */
        for (unsigned user = 0; user < N_USERS; user++)
                check_list(world, user, false);
        for (unsigned a = 0; a < N_USERS; a++)
                for (unsigned b = a + 1; b < N_USERS; b++)
                        if (told_of(world, a, b)->opened)
                                check_conversation(world, a, b);
        for (unsigned user = 0; user < N_USERS; user++)
                check_list(world, user, true);
}

static void run_seed(uint64_t seed) {
        _cleanup_free_ World *world = new0(World, 1);
        void *state;

        world->random.state = seed;
        fixture_seed = seed;
        fixture_setup_model(&state);
        world->f = state;
        for (unsigned round = 0; round < N_ROUNDS; round++) {
                run_round(world);
                check(world);
        }
        assert_true(world->n_acknowledged > 0);
        fixture_teardown(&state);
}

static void test_crashes(void **state) {
        uint64_t seed, end;

        for (random_seeds("STONECHAT_SEED", N_SEEDS, &seed, &end); seed < end; seed++) {
                print_message("seed %lu\n", (unsigned long) seed);
                run_seed(seed);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_crashes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
