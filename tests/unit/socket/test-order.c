/* SPDX-License-Identifier: Apache-2.0 */

/* What one connection sends into one conversation is stored in that order: first step by step, then with a client that
 * keeps several messages under way and wants its order kept, over a slow network, to a group role that refuses, fails,
 * restarts and is reached over links that break. STONECHAT_SEED=N runs one seed again. */

#include "fixture.h"

#include <inttypes.h>

#include "random.h"
#include "schema-tables.h"
#include "service/runs.h"
#include "util/string-util.h"

static const Sc__SendRequest *request_of(const Call *call) {
        return (const Sc__SendRequest *) call->request;
}

static void say_text(WebSocket *socket, unsigned id, const char *conversation, const char *text) {
        client_say(socket,
                "{'id':%u,'rpc':{'method':'message.send','data':{'conversation':'%s','client_msg_id':'%s',"
                "'text':'%s'}}}",
                id, conversation, text, text);
}

static void return_send(Call *call) {
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        call_return(call, &response.base);
}

/* The next command is refused, or none. */
static void set_too_fast(bool refuse) {
        fake_process->conf->limits_user_rate = refuse;
        fake_process->conf->limits_user_burst = 1;
        while (refuse && charge(fake_role->charges, "ann", "", 1) == 0)
                ;
}

/* --- step by step --- */

static void test_same_order(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0), *b = client_connected("ann", "s1", "c1", 0);

        say_text(a, 2, "c1", "one");
        say_text(a, 3, "c2", "other");
        client_say(a, "{'id':4,'publish':{'channel':'c1','data':{'text':'two'}}}");
        say_text(b, 2, "c1", "from elsewhere");
        Call *one = next_call("message.send"), *other = next_call("message.send"),
             *two = next_call("message.send"), *elsewhere = next_call("message.send");
        assert_true(one->order > 0);
        assert_int_equal(one->order, two->order);
        assert_int_not_equal(one->order, other->order);
        assert_int_not_equal(one->order, elsewhere->order);
        return_send(one);
        return_send(two);
        return_send(other);
        /* Nothing is under way any more: nothing is remembered. */
        assert_null(LIST_FIRST(&((Connection *) websocket_get_userdata(a))->send_runs));
        return_send(elsewhere);
}

static void test_failure_fails_all_behind(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        say_text(a, 2, "c1", "one");
        say_text(a, 3, "c1", "two");
        say_text(a, 4, "c2", "other");
        say_text(a, 5, "c1", "three");
        Call *one = next_call("message.send"), *two = next_call("message.send");
        call_fail(two, ERROR_STORAGE_FULL, "%s", "");
        assert_hears(a, "{}");
        assert_error(a, 3, 1005, "storage_full");
        assert_error(a, 5, 1005, "storage_full: one before it failed");
        assert_hears_nothing(a);
        /* What was sent before the client heard of it. */
        say_text(a, 6, "c1", "four");
        assert_hears(a, "{}");
        assert_error(a, 6, 1005, "storage_full: one before it failed");
        return_send(next_call("message.send")); /* of the other conversation */
        assert_non_null(client_hear(a));
        assert_true(no_call());
        client_say(a, "{}");
        say_text(a, 7, "c1", "two");
        assert_hears(a, "{}");
        assert_error(a, 7, 1005, "storage_full: one before it failed");
        client_say(a, "{}\n{}");
        say_text(a, 8, "c1", "two");
        /* What is before it goes on; and group must not take what is sent again for what it has to refuse. */
        Call *again = next_call("message.send");
        assert_int_equal(again->order >> 16, one->order >> 16);
        assert_true(again->order > one->order);
        return_send(one);
        return_send(again);
}

static void test_refused_for_its_own_sake(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        say_text(a, 2, "c1", "one");
        say_text(a, 3, "c1", "two");
        call_fail(next_call("message.send"), ERROR_CLIENT_MSG_ID_CONFLICT, "%s", "");
        assert_error(a, 2, 1019, "client_msg_id_conflict");
        assert_hears_nothing(a);
        return_send(next_call("message.send"));
}

static void test_too_fast(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        say_text(a, 2, "c1", "one");
        say_text(a, 3, "c2", "other");
        set_too_fast(true);
        say_text(a, 4, "c1", "two");
        assert_hears(a, "{}");
        assert_error(a, 4, 111, "rate_limited");
        set_too_fast(false);
        say_text(a, 5, "c1", "three");
        assert_hears(a, "{}");
        assert_error(a, 5, 111, "rate_limited: one before it failed");
        client_say(a, "{}\n{}");
        say_text(a, 6, "c1", "two");
        static const char *const expected[] = {"one", "other", "two"};
        FOREACH_ARRAY(text, expected, ELEMENTSOF(expected)) {
                Call *call = next_call("message.send");
                assert_string_equal(request_of(call)->text, *text);
                return_send(call);
        }
        assert_true(no_call());
}

static void test_too_many_under_way(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        for (unsigned i = 0; i < CONNECTION_MAX_PENDING; i++)
                say_text(a, i + 2, "c1", "x");
        say_text(a, 100, "c1", "one");
        assert_hears(a, "{}");
        assert_error(a, 100, 111, "rate_limited: too many");
        return_send(next_call("message.send"));
        assert_non_null(client_hear(a));
        say_text(a, 101, "c1", "two");
        assert_hears(a, "{}");
        assert_error(a, 101, 111, "rate_limited: one before it failed");
}

static void test_runs_are_bounded(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);
        unsigned n = 0;

        for (; client_close_code(a) == 0; n++) {
                char id[32];
                snprintf(id, sizeof(id), "c%u", n);
                say_text(a, n + 2, id, "one");
                if (!no_call())
                        call_fail(next_call("message.send"), ERROR_UNAVAILABLE, "%s", "");
        }
        assert_in_range(n, 256, 258);
        assert_closed(a, 3013);
        while (!no_call())
                call_fail(next_call("message.send"), ERROR_UNAVAILABLE, "%s", "");
}

/* --- at random --- */

#define N_SEEDS 400U
#define N_CONVERSATIONS 3U
#define N_TEXTS 60U /* of each conversation */
#define WINDOW 8U
#define MAX_FRAMES 4096U

/* A lossless line that takes its time. */
typedef struct Line {
        char *frames[MAX_FRAMES];
        unsigned first, end;
} Line;

typedef struct Sending {
        unsigned n_done; /* all before this text are acknowledged */
        unsigned next; /* the next to be sent */
        unsigned n_under_way;
        bool failed; /* wait for the rest, then send again */
        bool acknowledged[N_TEXTS + 1];
} Sending;

/* A call as it is on its way to the group role, or there. */
typedef struct Transit {
        TAILQ_ENTRY(Transit) entry;
        uint64_t order;
        unsigned conversation, text;
        Call *call; /* NULL: nobody waits any more, or waits for another copy */
} Transit;
typedef TAILQ_HEAD(TransitList, Transit) TransitList;

typedef struct World {
        Random random;
        WebSocket *socket;
        Line up, down;
        Sending sendings[N_CONVERSATIONS];
        unsigned next_id;
        uint16_t ids[MAX_FRAMES]; /* of a command: conversation * 100 + text */

        TransitList waiting, link, old_link,
                queue; /* not sent; sent; on a link that broke; taken by group */
        Runs runs; /* of the group role */
        unsigned stored[N_CONVERSATIONS][N_TEXTS + 1], n_stored[N_CONVERSATIONS];
        unsigned n_failures, n_refused, n_links, n_restarts;
} World;

static World *world;

static void line_put(Line *line, const char *frame) {
        assert_true(line->end < MAX_FRAMES);
        line->frames[line->end++] = strdup(frame);
}

/* --- the client --- */

static void client_send_next(unsigned conversation) {
        Sending *sending = &world->sendings[conversation];
        char *frame;

        if (sending->failed && sending->n_under_way == 0) {
                sending->failed = false;
                sending->next = sending->n_done;
        }
        while (sending->next < N_TEXTS && sending->acknowledged[sending->next])
                sending->next++;
        if (sending->failed || sending->n_under_way >= WINDOW || sending->next >= N_TEXTS)
                return;
        unsigned id = world->next_id++;
        assert_true(id < MAX_FRAMES);
        world->ids[id] = (uint16_t) (conversation * 100 + sending->next);
        assert_true(asprintf(&frame,
                            "{'id':%u,'rpc':{'method':'message.send','data':{'conversation':'c%u',"
                            "'client_msg_id':'t%u-%u','text':'%u'}}}",
                            id, conversation, conversation, sending->next, sending->next) > 0);
        sending->next++;
        sending->n_under_way++;
        line_put(&world->up, frame);
        free(frame);
}

static void client_hears(const char *frame) {
        if (streq(frame, "{}"))
                return line_put(&world->up, "{}");
        unsigned id = (unsigned) strtoul(frame + strlen("{\"id\":"), NULL, 10), what = world->ids[id];
        Sending *sending = &world->sendings[what / 100];

        sending->n_under_way--;
        if (strstr(frame, "\"error\"")) {
                sending->failed = true;
                world->n_failures++;
                return;
        }
        sending->acknowledged[what % 100] = true;
        while (sending->n_done < N_TEXTS && sending->acknowledged[sending->n_done])
                sending->n_done++;
}

/* --- between the gateway and the group role --- */

static void gateway_cancels(Call *call, int r) {
        TransitList *const lists[] = {&world->waiting, &world->link, &world->old_link, &world->queue};
        Transit *transit;

        FOREACH_ARRAY(list, lists, ELEMENTSOF(lists))
                TAILQ_FOREACH(transit, *list, entry)
                        if (transit->call == call)
                                transit->call = NULL;
        call->cancel = NULL;
        call_fail_errno(call, r, "wait");
}

static void take_calls(void) {
        while (!no_call()) {
                Call *call = next_call("message.send");
                Transit *transit = new0(Transit, 1);

                transit->call = call;
                transit->order = call->order;
                transit->conversation = (unsigned) (request_of(call)->conversation[1] - '0');
                transit->text = (unsigned) strtoul(request_of(call)->text, NULL, 10);
                call->cancel = gateway_cancels;
                TAILQ_INSERT_TAIL(&world->waiting, transit, entry);
        }
}

static void answer_transit(Transit *transit, Sc__ErrorCode code) {
        Call *call = TAKE_PTR(transit->call);

        if (call)
                call->cancel = NULL;
        if (call && code == ERROR_NONE)
                return_send(call);
        else if (call)
                call_fail(call, code, "%s", "");
}

/* The gateway gives up, wherever the call is. */
static void time_out_one(TransitList *list) {
        Transit *transit;

        TAILQ_FOREACH(transit, list, entry)
                if (transit->call)
                        return answer_transit(transit, ERROR_TIMEOUT);
}

static void send_waiting(void) {
        Transit *transit;

        while ((transit = TAILQ_FIRST(&world->waiting))) {
                TAILQ_REMOVE(&world->waiting, transit, entry);
                if (transit->call) {
                        TAILQ_INSERT_TAIL(&world->link, transit, entry);
                        continue;
                }
                free(transit);
        }
}

static Transit *copy_transit(Transit *transit) {
        Transit *copy = new0(Transit, 1);

        *copy = *transit;
        transit->call = NULL;
        return copy;
}

/* All that is not answered goes out again, in its order, before anything new; what stood in the broken link may still
 * be read, up to some point. */
static void break_link(bool restarted) {
        TransitList again;
        Transit *transit, *next;

        world->n_links++;
        TAILQ_INIT(&again);
        TransitList *const lists[] = {&world->queue, &world->old_link, &world->link, &world->waiting};
        FOREACH_ARRAY(list, lists, ELEMENTSOF(lists))
                TAILQ_FOREACH(transit, *list, entry)
                        if (transit->call) {
                                Transit *copy = copy_transit(transit);
                                TAILQ_INSERT_TAIL(&again, copy, entry);
                        }
        unsigned readable = restarted ? 0 : random_below(&world->random, 10);
        for (transit = TAILQ_FIRST(&world->link); transit; transit = next) {
                next = TAILQ_NEXT(transit, entry);
                TAILQ_REMOVE(&world->link, transit, entry);
                if (readable > 0) {
                        readable--;
                        TAILQ_INSERT_TAIL(&world->old_link, transit, entry);
                } else
                        free(transit);
        }
        while ((transit = TAILQ_FIRST(&world->waiting))) {
                TAILQ_REMOVE(&world->waiting, transit, entry);
                free(transit);
        }
        TAILQ_CONCAT(&world->waiting, &again, entry);
}

/* --- the group role --- */

static void group_fails(Transit *transit, Sc__ErrorCode code) {
        world->n_refused++;
        runs_break(&world->runs, transit->order, code);
        answer_transit(transit, code);
        free(transit);
}

static void group_takes(TransitList *list) {
        Transit *transit = TAILQ_FIRST(list);

        if (!transit)
                return;
        TAILQ_REMOVE(list, transit, entry);
        Sc__ErrorCode code = runs_check(&world->runs, transit->order);
        if (code != ERROR_NONE)
                group_fails(transit, code);
        else if (random_percent(&world->random, 5)) /* the queue is full, the deadline has passed, … */
                group_fails(transit, ERROR_OVERLOADED);
        else
                TAILQ_INSERT_TAIL(&world->queue, transit, entry);
}

static bool is_stored(unsigned conversation, unsigned text) {
        for (unsigned i = 0; i < world->n_stored[conversation]; i++)
                if (world->stored[conversation][i] == text)
                        return true;
        return false;
}

static void group_stores(void) {
        Transit *transit = TAILQ_FIRST(&world->queue);

        if (!transit)
                return;
        if (random_percent(&world->random, 3)) { /* all that waits fails */
                while ((transit = TAILQ_FIRST(&world->queue))) {
                        TAILQ_REMOVE(&world->queue, transit, entry);
                        group_fails(transit, ERROR_STORAGE_FULL);
                }
                return;
        }
        TAILQ_REMOVE(&world->queue, transit, entry);
        unsigned conversation = transit->conversation;
        if (!is_stored(conversation, transit->text))
                world->stored[conversation][world->n_stored[conversation]++] = transit->text;
        answer_transit(transit, ERROR_NONE);
        free(transit);
}

static void group_restarts(void) {
        Transit *transit;

        world->n_restarts++;
        break_link(true);
        while ((transit = TAILQ_FIRST(&world->queue))) {
                TAILQ_REMOVE(&world->queue, transit, entry);
                free(transit);
        }
        while ((transit = TAILQ_FIRST(&world->old_link))) {
                TAILQ_REMOVE(&world->old_link, transit, entry);
                free(transit);
        }
        runs_done(&world->runs);
        runs_init(&world->runs);
}

/* --- */

static bool all_done(void) {
        FOREACH_ARRAY(sending, world->sendings, N_CONVERSATIONS)
                if (sending->n_done < N_TEXTS || sending->n_under_way > 0)
                        return false;
        return true;
}

static void carry_up(void) {
        if (world->up.first == world->up.end)
                return;
        _cleanup_free_ char *frame = world->up.frames[world->up.first++];

        set_too_fast(frame[1] != '}' && random_percent(&world->random, 2));
        client_say(world->socket, "%s", frame);
        take_calls();
}

static void carry_down(void) {
        Bytes *message;

        while ((message = client_take(world->socket))) {
                _cleanup_free_ char *text = strndup((const char *) message->data, message->size);
                line_put(&world->down, text);
                bytes_unref(message);
        }
        if (world->down.first == world->down.end)
                return;
        /* A client sends nothing while it reads one message. */
        _cleanup_free_ char *frame = world->down.frames[world->down.first++];
        for (char *rest = frame, *line; (line = strsep(&rest, "\n"));)
                if (*line)
                        client_hears(line);
}

static void step(void) {
        switch (random_below(&world->random, 12)) {
        case 0 ... 2:
                return client_send_next(random_below(&world->random, N_CONVERSATIONS));
        case 3 ... 4:
                return carry_up();
        case 5 ... 6:
                return carry_down();
        case 7:
                return send_waiting();
        case 8 ... 9:
                return group_takes(random_percent(&world->random, 50) ? &world->link : &world->old_link);
        case 10:
                return group_stores();
        default:
                switch (random_below(&world->random, 25)) {
                case 0:
                        return break_link(false);
                case 1:
                        return group_restarts();
                case 2:
                        return time_out_one(&world->waiting);
                case 3:
                        return time_out_one(&world->link);
                case 4:
                        return time_out_one(&world->queue);
                default:
                        return;
                }
        }
}

static void check_order(void) {
        for (unsigned c = 0; c < N_CONVERSATIONS; c++)
                for (unsigned i = 0; i < world->n_stored[c]; i++)
                        if (world->stored[c][i] != i)
                                fail_msg("conversation %u: text %u is stored in place %u", c,
                                        world->stored[c][i], i);
}

static void free_world(void) {
        TransitList *const lists[] = {&world->waiting, &world->link, &world->old_link, &world->queue};
        Line *const lines[] = {&world->up, &world->down};
        Transit *transit;

        FOREACH_ARRAY(list, lists, ELEMENTSOF(lists))
                while ((transit = TAILQ_FIRST(*list))) {
                        TAILQ_REMOVE(*list, transit, entry);
                        free(transit);
                }
        FOREACH_ARRAY(line, lines, ELEMENTSOF(lines))
                while ((*line)->first < (*line)->end)
                        free((*line)->frames[(*line)->first++]);
        runs_done(&world->runs);
        world = mfree(world);
}

static void run_seed(uint64_t seed) {
        void *state;

        setup(&state);
        world = new0(World, 1);
        world->random.state = seed;
        world->next_id = 2;
        TAILQ_INIT(&world->waiting);
        TAILQ_INIT(&world->link);
        TAILQ_INIT(&world->old_link);
        TAILQ_INIT(&world->queue);
        runs_init(&world->runs);
        world->socket = client_connected("ann", "s1", "c0", 0);
        for (unsigned i = 0; !all_done(); i++) {
                assert_true(i < 1000000);
                step();
                check_order();
        }
        for (unsigned c = 0; c < N_CONVERSATIONS; c++)
                assert_int_equal(world->n_stored[c], N_TEXTS);
        free_world();
        teardown(&state);
}

static void test_at_random(void **state) {
        uint64_t seed, end;

        for (random_seeds("STONECHAT_SEED", N_SEEDS, &seed, &end); seed < end; seed++) {
                print_message("seed %" PRIu64 "\n", seed);
                run_seed(seed);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                T(test_same_order),
                T(test_failure_fails_all_behind),
                T(test_refused_for_its_own_sake),
                T(test_too_fast),
                T(test_too_many_under_way),
                T(test_runs_are_bounded),
                cmocka_unit_test(test_at_random),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
