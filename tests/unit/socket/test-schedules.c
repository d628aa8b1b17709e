/* SPDX-License-Identifier: Apache-2.0 */

/* Random schedules against a model of the group primary: messages, pushes that are lost, links that break, slow
 * clients, clients that come and go, memberships that change. Whatever happens, each client hears each message of
 * its conversations once and in order, nobody is disconnected, and in the end each is at the top.
 *
 * STONECHAT_SCHEDULE_SEED=N runs one of them again. */

#include "fixture.h"

#include <inttypes.h>
#include <jansson.h>

#include "random.h"
#include "schema-tables.h"
#include "util/string-util.h"

enum { N_USERS = 5, N_CONVERSATIONS = 6, N_CLIENTS = 8, N_STEPS = 600, PAGE = 3 };

static Random numbers;
static uint64_t seed;

/* --- the primary --- */

/* What it has written and the gateway not yet read, in order. */
typedef struct Frame {
        TAILQ_ENTRY(Frame) link;
        enum { FRAME_MESSAGE, FRAME_MEMBERSHIP, FRAME_ANSWER } kind;
        unsigned user, conversation;
        uint64_t seq;
        bool removed;
        FakeRequest *request;
        Sc__AttachResponse *response; /* of an answer */
} Frame;

typedef struct Group {
        uint64_t last_seq[N_CONVERSATIONS];
        bool member[N_USERS][N_CONVERSATIONS];
        unsigned
                n_registered[N_USERS]; /* connections; counted too high after a detach, which does no harm */
        TAILQ_HEAD(, Frame) stream;
        TAILQ_HEAD(, FakeRequest) attaches, recovers; /* that it has read and not yet answered */
        bool linked; /* the gateway has asked something, so there is a link */
        bool broken;
} Group;

static Group group;

static unsigned number_in(const char *name) {
        return (unsigned) strtoul(name + 1, NULL, 10);
}

static Frame *add_frame(Frame frame) {
        Frame *copy = new0(Frame, 1);
        *copy = frame;
        TAILQ_INSERT_TAIL(&group.stream, copy, link);
        return copy;
}

static void drop_stream(void) {
        Frame *frame;
        FakeRequest *request;

        while ((frame = TAILQ_FIRST(&group.stream))) {
                TAILQ_REMOVE(&group.stream, frame, link);
                if (frame->response)
                        sc__attach_response__free_unpacked(frame->response, NULL);
                if (frame->request)
                        request_free(frame->request);
                free(frame);
        }
        while ((request = TAILQ_FIRST(&group.attaches))) {
                TAILQ_REMOVE(&group.attaches, request, link);
                request_free(request);
        }
}

static bool is_heard(unsigned conversation) {
        for (unsigned user = 0; user < N_USERS; user++)
                if (group.n_registered[user] > 0 && group.member[user][conversation])
                        return true;
        return false;
}

static void commit_message(void) {
        unsigned conversation = random_below(&numbers, N_CONVERSATIONS);
        uint64_t seq = ++group.last_seq[conversation];

        if (!group.broken && is_heard(conversation) && !random_percent(&numbers, 5)) /* else it is lost */
                add_frame((Frame){.kind = FRAME_MESSAGE, .conversation = conversation, .seq = seq});
}

static void change_membership(void) {
        unsigned user = random_below(&numbers, N_USERS),
                 conversation = random_below(&numbers, N_CONVERSATIONS);
        bool *member = &group.member[user][conversation];

        *member = !*member;
        if (!group.broken && group.n_registered[user] > 0)
                add_frame((Frame){.kind = FRAME_MEMBERSHIP,
                        .user = user,
                        .conversation = conversation,
                        .seq = group.last_seq[conversation],
                        .removed = !*member});
}

/* Takes in what the gateway has asked: registering is done at once. */
static void read_requests(void) {
        FakeRequest *request;

        while (!group.broken && (request = next_request())) {
                group.linked = true;
                if (request->method == &method_gateway_attach) {
                        Sc__AttachRequest *attach = attach_request(request);
                        for (size_t i = 0; i < attach->n_clients; i++)
                                group.n_registered[number_in(attach->clients[i]->user)]++;
                        sc__attach_request__free_unpacked(attach, NULL);
                        TAILQ_INSERT_TAIL(&group.attaches, request, link);
                } else if (request->method == &method_gateway_recover)
                        TAILQ_INSERT_TAIL(&group.recovers, request, link);
                else
                        answer(request, &((Sc__DetachResponse) SC__DETACH_RESPONSE__INIT).base);
        }
}

static void add_subscription(Sc__AttachResponse *response, Sc__AttachResponse__Result *result, unsigned i) {
        Sc__Subscription *subscription = new0(Sc__Subscription, 1);

        sc__subscription__init(subscription);
        subscription->conversation = format_string("c%u", i);
        subscription->epoch = strdup("e");
        subscription->last_seq = group.last_seq[i];
        result->subscriptions[result->n_subscriptions++] = (uint32_t) response->n_subscriptions;
        response->subscriptions[response->n_subscriptions++] = subscription;
}

/* As things stand now; pages of two conversations. */
static void write_answer(FakeRequest *request) {
        Sc__AttachRequest *attach = attach_request(request);
        Sc__AttachResponse *response = new0(Sc__AttachResponse, 1);

        sc__attach_response__init(response);
        response->results = new0(Sc__AttachResponse__Result *, attach->n_clients);
        response->subscriptions = new0(Sc__Subscription *, attach->n_clients * 2);
        for (size_t i = 0; i < attach->n_clients; i++) {
                const Sc__AttachRequest__Client *client = attach->clients[i];
                Sc__AttachResponse__Result *result = new0(Sc__AttachResponse__Result, 1);
                unsigned from = *client->after ? number_in(client->after) + 1 : 0;

                sc__attach_response__result__init(result);
                result->subscriptions = new0(uint32_t, 2);
                for (unsigned k = from; k < N_CONVERSATIONS; k++) {
                        if (!group.member[number_in(client->user)][k])
                                continue;
                        if (result->n_subscriptions == 2) {
                                result->next = strdup(response->subscriptions[response->n_subscriptions - 1]
                                                              ->conversation);
                                break;
                        }
                        add_subscription(response, result, k);
                }
                response->results[response->n_results++] = result;
        }
        sc__attach_request__free_unpacked(attach, NULL);
        add_frame((Frame){.kind = FRAME_ANSWER, .request = request, .response = response});
}

static void answer_an_attach(void) {
        FakeRequest *request = TAILQ_FIRST(&group.attaches);

        if (!request)
                return;
        TAILQ_REMOVE(&group.attaches, request, link);
        if (random_percent(&numbers, 5))
                refuse(request, ERROR_TIMEOUT); /* a client that connects is told so, others wait */
        else
                write_answer(request);
}

/* Pages overtake what is pushed, and are overtaken by it. */
static void answer_a_recover(void) {
        FakeRequest *request = TAILQ_FIRST(&group.recovers);
        Sc__RecoverResponse response = SC__RECOVER_RESPONSE__INIT;
        Sc__RecoverResponse__Page pages[N_CONVERSATIONS], *page_pointers[N_CONVERSATIONS];
        Sc__RecoverResponse__Publication publications[N_CONVERSATIONS][PAGE],
                *pointers[N_CONVERSATIONS][PAGE];

        if (!request || group.broken)
                return;
        TAILQ_REMOVE(&group.recovers, request, link);
        if (random_percent(&numbers, 5))
                return refuse(request, ERROR_OVERLOADED);
        Sc__RecoverRequest *recover = recover_request(request);
        /* The last ones may be left out, as if the page was full. */
        response.n_pages = 1 + random_below(&numbers, (unsigned) recover->n_positions);
        response.pages = page_pointers;
        for (size_t i = 0; i < response.n_pages; i++) {
                const Sc__Position *position = recover->positions[i];

                sc__recover_response__page__init(&pages[i]);
                page_pointers[i] = &pages[i];
                pages[i].epoch = (char *) "e";
                pages[i].last_seq = group.last_seq[number_in(position->conversation)];
                pages[i].publications = pointers[i];
                for (uint64_t seq = position->seq + 1;
                        seq <= pages[i].last_seq && pages[i].n_publications < PAGE; seq++) {
                        Sc__RecoverResponse__Publication *publication =
                                &publications[i][pages[i].n_publications];

                        sc__recover_response__publication__init(publication);
                        publication->seq = seq;
                        publication->data.data = (uint8_t *) "{}";
                        publication->data.len = 2;
                        pointers[i][pages[i].n_publications++] = publication;
                }
        }
        sc__recover_request__free_unpacked(recover, NULL);
        answer(request, &response.base);
}

static void deliver_a_frame(void) {
        Frame *frame = TAILQ_FIRST(&group.stream);
        char conversation[16], user[16];

        if (!frame)
                return;
        TAILQ_REMOVE(&group.stream, frame, link);
        snprintf(conversation, sizeof(conversation), "c%u", frame->conversation);
        snprintf(user, sizeof(user), "u%u", frame->user);
        if (frame->kind == FRAME_MESSAGE)
                push_message(conversation, frame->seq);
        else if (frame->kind == FRAME_MEMBERSHIP)
                push_membership(user, conversation, frame->seq, frame->removed);
        else {
                answer(frame->request, &frame->response->base);
                sc__attach_response__free_unpacked(frame->response, NULL);
        }
        free(frame);
}

static void break_link(void) {
        if (!group.linked || group.broken)
                return;
        group.broken = true;
        drop_stream();
        link_break();
        memset(group.n_registered, 0, sizeof(group.n_registered));
}

static void restore_link(void) {
        if (!group.broken)
                return;
        group.broken = false;
        link_restore();
}

/* --- the clients, as an SDK is one --- */

typedef struct SdkClient {
        WebSocket *socket;
        unsigned user;
        bool connected;
        bool subscribed[N_CONVERSATIONS];
        uint64_t offset[N_CONVERSATIONS]; /* of those that are known, over connections */
        bool known[N_CONVERSATIONS];
} SdkClient;

static SdkClient sdk_clients[N_CLIENTS];

static void fail_at(const char *what, const char *line) {
        fail_msg("seed %" PRIu64 ": %s: %s", seed, what, line);
}

static uint64_t offset_of(const json_t *object) {
        return (uint64_t) json_integer_value(json_object_get(object, "offset"));
}

static void hear_reply(SdkClient *client, const json_t *connect, const char *line) {
        const char *channel;
        json_t *sub;

        client->connected = true;
        json_object_foreach(json_object_get(connect, "subs"), channel, sub) {
                unsigned i = number_in(channel);

                if (json_is_true(json_object_get(sub, "recovered")) &&
                        (!client->known[i] || client->offset[i] != offset_of(sub)))
                        fail_at("recovered from another position", line);
                client->subscribed[i] = client->known[i] = true;
                client->offset[i] = offset_of(sub);
        }
        for (unsigned i = 0; i < N_CONVERSATIONS; i++)
                client->known[i] = client->subscribed[i];
}

static void hear_push(SdkClient *client, const json_t *push, const char *line) {
        unsigned i = number_in(json_string_value(json_object_get(push, "channel")));
        const json_t *publication = json_object_get(push, "pub"),
                     *subscribe = json_object_get(push, "subscribe");

        if (!client->connected)
                fail_at("a push before the reply", line);
        if (publication) {
                if (!client->subscribed[i] || offset_of(publication) != client->offset[i] + 1)
                        fail_at("out of order", line);
                client->offset[i]++;
        } else if (subscribe) {
                client->subscribed[i] = client->known[i] = true;
                client->offset[i] = offset_of(subscribe);
        } else
                client->subscribed[i] = client->known[i] = false;
}

static void hear(SdkClient *client) {
        const char *line;

        if (client_close_code(client->socket) > 0)
                fail_msg("seed %" PRIu64 ": disconnected with %u", seed, client_close_code(client->socket));
        while ((line = client_hear(client->socket))) {
                json_t *reply = json_loads(line, 0, NULL);

                if (json_object_get(reply, "error")) /* the connect command: it tries again, later */
                        client->connected = false;
                else if (json_object_get(reply, "connect"))
                        hear_reply(client, json_object_get(reply, "connect"), line);
                else
                        hear_push(client, json_object_get(reply, "push"), line);
                json_decref(reply);
        }
}

static void leave(SdkClient *client) {
        if (client->socket)
                client_gone(client->socket);
        client->socket = NULL;
        client->connected = false;
        memset(client->subscribed, 0, sizeof(client->subscribed));
}

static void come(SdkClient *client) {
        _cleanup_free_ char *token = NULL;
        char user[16], subs[1024] = "";
        size_t size = 0;

        leave(client);
        snprintf(user, sizeof(user), "u%u", client->user);
        token = make_token(user, "s1", 900);
        for (unsigned i = 0; i < N_CONVERSATIONS; i++)
                if (client->known[i])
                        size += (size_t) snprintf(subs + size, sizeof(subs) - size,
                                "%s'c%u':{'recover':true,'epoch':'e','offset':%" PRIu64 "}",
                                size > 0 ? "," : "", i, client->offset[i]);
        client->socket = client_open();
        client_say(client->socket, "{'id':1,'connect':{'token':'%s','subs':{%s}}}", token, subs);
        answer_check(true);
}

static void slow_down(SdkClient *client) {
        if (client->socket && client->connected)
                client_set_replies(client->socket,
                        random_percent(&numbers, 50) ? CHANNEL_MAX_WAITING + 1 : CONNECTION_MAX_WAITING + 1);
}

/* --- schedules --- */

static void step(void) {
        SdkClient *client = &sdk_clients[random_below(&numbers, N_CLIENTS)];

        switch (random_below(&numbers, 20)) {
        case 0 ... 4:
                commit_message();
                break;
        case 5 ... 8:
                deliver_a_frame();
                break;
        case 9 ... 10:
                answer_an_attach();
                break;
        case 11 ... 12:
                answer_a_recover();
                break;
        case 13:
                slow_down(client);
                break;
        case 14 ... 15:
                if (client->socket)
                        client_reads(client->socket);
                break;
        case 16:
                if (!client->connected)
                        come(client);
                else if (random_percent(&numbers, 30))
                        leave(client);
                break;
        case 17:
                if (random_percent(&numbers, 30))
                        change_membership();
                break;
        case 18:
                if (random_percent(&numbers, 20))
                        break_link();
                break;
        default:
                restore_link();
                if (retry_is_due())
                        pass_retry();
        }
        read_requests();
        FOREACH_ARRAY(c, sdk_clients, N_CLIENTS)
                if (c->socket)
                        hear(c);
}

static bool is_quiet(void) {
        return !group.broken && TAILQ_EMPTY(&group.stream) && TAILQ_EMPTY(&group.attaches) &&
               TAILQ_EMPTY(&group.recovers) && !retry_is_due();
}

static void settle_all(void) {
        for (unsigned i = 0; i < 10000; i++) {
                restore_link();
                FOREACH_ARRAY(c, sdk_clients, N_CLIENTS) {
                        if (!c->socket || (!c->connected && is_quiet()))
                                come(c);
                        client_reads(c->socket);
                }
                if (retry_is_due())
                        pass_retry();
                read_requests();
                answer_an_attach();
                answer_a_recover();
                deliver_a_frame();
                FOREACH_ARRAY(c, sdk_clients, N_CLIENTS)
                        hear(c);
                read_requests();
                bool all_connected = true;
                FOREACH_ARRAY(c, sdk_clients, N_CLIENTS)
                        all_connected = all_connected && c->connected;
                if (all_connected && is_quiet())
                        return;
        }
        fail_msg("seed %" PRIu64 ": it does not end", seed);
}

/* A push may have been lost in the end, which the next message shows. */
static void end(void) {
        settle_all();
        for (unsigned i = 0; i < N_CONVERSATIONS; i++) {
                group.last_seq[i]++;
                if (is_heard(i))
                        add_frame(
                                (Frame){.kind = FRAME_MESSAGE, .conversation = i, .seq = group.last_seq[i]});
        }
        settle_all();
        while (!TAILQ_EMPTY(&group.stream))
                settle_all();
        FOREACH_ARRAY(c, sdk_clients, N_CLIENTS)
                for (unsigned i = 0; i < N_CONVERSATIONS; i++)
                        if (group.member[c->user][i] != c->subscribed[i] ||
                                (c->subscribed[i] && c->offset[i] != group.last_seq[i]))
                                fail_msg("seed %" PRIu64
                                         ": client %zu in c%u: member %d, subscribed %d, at %" PRIu64
                                         " of %" PRIu64,
                                        seed, c - sdk_clients, i, group.member[c->user][i], c->subscribed[i],
                                        c->offset[i], group.last_seq[i]);
}

static void run_schedule(void) {
        numbers = (Random){seed};
        group = (Group){};
        TAILQ_INIT(&group.stream);
        TAILQ_INIT(&group.attaches);
        TAILQ_INIT(&group.recovers);
        memset(sdk_clients, 0, sizeof(sdk_clients));
        for (unsigned i = 0; i < N_CLIENTS; i++)
                sdk_clients[i].user = i % N_USERS;
        for (unsigned i = 0; i < N_USERS * N_CONVERSATIONS; i++)
                group.member[i / N_CONVERSATIONS][i % N_CONVERSATIONS] = random_percent(&numbers, 60);
        fake_process->conf->group_max_recovery = 100000;
        for (unsigned i = 0; i < N_STEPS; i++)
                step();
        end();
        FOREACH_ARRAY(c, sdk_clients, N_CLIENTS)
                leave(c);
        read_requests();
        drop_stream();
        assert_int_equal(HASH_COUNT(fake_role->channels), 0);
}

static void test_schedules(void **state) {
        uint64_t end_seed;

        for (random_seeds("STONECHAT_SCHEDULE_SEED", 1000, &seed, &end_seed); seed < end_seed; seed++) {
                setup(state);
                run_schedule();
                teardown(state);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_schedules),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
