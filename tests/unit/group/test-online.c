/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <cmocka.h>

#include "group/delivery/online.h"
#include "util/string-util.h"

static char gateways[ONLINE_MAX_GATEWAYS + 1];

static int setup(void **state) {
        return online_new((Online **) state);
}

static int teardown(void **state) {
        online_free(*state);
        return 0;
}

static uint64_t attach(Online *online, const char *client, const char *user, void *gateway) {
        uint64_t serial = 0;

        assert_int_equal(
                online_attach(online,
                        &(OnlineClient){.id = client, .user = user, .device = "phone", .gateway = gateway},
                        &serial),
                0);
        return serial;
}

static size_t n_gateways(const Online *online, const char *conversation) {
        void *found[ONLINE_MAX_GATEWAYS];
        return online_gateways_of_conversation(online, conversation, found);
}

static void test_one_gateway_once(void **state) {
        Online *online = *state;
        void *found[ONLINE_MAX_GATEWAYS];

        attach(online, "c1", "ada", &gateways[0]);
        attach(online, "c2", "ada", &gateways[0]);
        attach(online, "c3", "bob", &gateways[0]);
        assert_int_equal(online_subscribe(online, "ada", "x"), 0);
        assert_int_equal(online_subscribe(online, "ada", "x"), 0);
        assert_int_equal(online_subscribe(online, "bob", "x"), 0);
        assert_int_equal(online_gateways_of_conversation(online, "x", found), 1);
        assert_ptr_equal(found[0], &gateways[0]);
        assert_int_equal(online_gateways_of_user(online, "ada", found), 1);
        assert_int_equal(online_n_clients(online), 3);
        assert_int_equal(online_n_users(online), 2);
        assert_int_equal(online_n_gateways(online), 1);
}

static void test_leaving(void **state) {
        Online *online = *state;

        attach(online, "c1", "ada", &gateways[0]);
        online_subscribe(online, "ada", "x");
        attach(online, "c2", "ada", &gateways[1]); /* hears x too, by being ada's */
        attach(online, "c3", "bob", &gateways[1]);
        online_subscribe(online, "bob", "x");
        assert_int_equal(n_gateways(online, "x"), 2);
        online_detach(online, "c1", &gateways[1]); /* not there */
        assert_int_equal(n_gateways(online, "x"), 2);
        online_detach(online, "c1", &gateways[0]);
        assert_int_equal(n_gateways(online, "x"), 1);
        online_detach(online, "c2", &gateways[1]);
        assert_int_equal(n_gateways(online, "x"), 1);
        online_detach(online, "c3", &gateways[1]);
        assert_int_equal(n_gateways(online, "x"), 0);
        assert_false(online_is_heard(online, "x"));
        assert_int_equal(online_n_gateways(online), 0);
        assert_int_equal(online_subscribe(online, "ada", "x"), -ENOENT);
}

static void test_moving(void **state) {
        Online *online = *state;
        uint64_t first, again, moved, refused;

        first = attach(online, "c1", "ada", &gateways[0]);
        again = attach(online, "c1", "ada", &gateways[0]);
        assert_false(online_is_attached(online, "c1", first)); /* the last one counts */
        assert_true(online_is_attached(online, "c1", again));
        moved = attach(online, "c1", "ada", &gateways[1]);
        assert_int_not_equal(first, moved);
        assert_false(online_is_attached(online, "c1", first));
        assert_true(online_is_attached(online, "c1", moved));
        assert_int_equal(online_n_clients(online), 1);
        /* The old gateway going away changes nothing. */
        online_forget_gateway(online, &gateways[0]);
        online_detach(online, "c1", &gateways[0]);
        assert_true(online_is_attached(online, "c1", moved));
        assert_int_equal(
                online_attach(online, &(OnlineClient){.id = "c1", .user = "bob", .gateway = &gateways[1]},
                        &refused),
                -EEXIST);
}

static void test_forget_gateway(void **state) {
        Online *online = *state;

        for (unsigned i = 0; i < 100; i++) {
                char client[16], user[16];

                snprintf(client, sizeof(client), "c%u", i);
                snprintf(user, sizeof(user), "u%u", i / 3);
                attach(online, client, user, &gateways[i % 2]);
                online_subscribe(online, user, "x");
                online_subscribe(online, user, user);
        }
        assert_int_equal(n_gateways(online, "x"), 2);
        online_forget_gateway(online, &gateways[1]);
        assert_int_equal(n_gateways(online, "x"), 1);
        assert_int_equal(online_n_clients(online), 50);
        online_forget_gateway(online, &gateways[0]);
        assert_int_equal(n_gateways(online, "x"), 0);
        assert_int_equal(online_n_users(online), 0);
}

static void test_too_many_gateways(void **state) {
        Online *online = *state;
        uint64_t serial;
        char client[16];

        for (unsigned i = 0; i < ONLINE_MAX_GATEWAYS; i++) {
                snprintf(client, sizeof(client), "c%u", i);
                attach(online, client, "ada", &gateways[i]);
        }
        assert_int_equal(
                online_attach(online,
                        &(OnlineClient){
                                .id = "more", .user = "bob", .gateway = &gateways[ONLINE_MAX_GATEWAYS]},
                        &serial),
                -ENOBUFS);
        assert_int_equal(online_n_users(online), 1);
        attach(online, "more", "bob", &gateways[0]);
}

static void test_listing(void **state) {
        Online *online = *state;
        OnlineClient clients[4];

        attach(online, "c1", "ada", &gateways[0]);
        attach(online, "c2", "bob", &gateways[0]);
        attach(online, "c3", "eve", &gateways[0]);
        online_subscribe(online, "ada", "x");
        online_subscribe(online, "bob", "x");
        online_subscribe(online, "ada", "y");
        assert_int_equal(online_clients(online, "x", clients, 4), 2);
        assert_true(streq(clients[0].user, "ada") || streq(clients[1].user, "ada"));
        assert_string_equal(clients[0].device, "phone");
        assert_int_equal(online_clients(online, "x", clients, 1), 1);
        assert_int_equal(online_clients(online, "nobody", clients, 4), 0);
        online_unsubscribe(online, "ada", "x");
        online_unsubscribe(online, "ada", "x");
        assert_int_equal(online_clients(online, "x", clients, 4), 1);
}

/* --- randomised: after every step the index says what a walk over all clients would --- */

enum { N_CLIENTS = 12, N_USERS = 4, N_CONVERSATIONS = 3, N_GATEWAYS = 3 };

typedef struct Model {
        int user[N_CLIENTS], gateway[N_CLIENTS]; /* -1: not attached */
        bool hears[N_USERS][N_CONVERSATIONS];
} Model;

static bool user_online(const Model *model, int user) {
        for (int c = 0; c < N_CLIENTS; c++)
                if (model->gateway[c] >= 0 && model->user[c] == user)
                        return true;
        return false;
}

static void forget_absent(Model *model) {
        for (int u = 0; u < N_USERS; u++)
                if (!user_online(model, u))
                        memset(model->hears[u], 0, sizeof(model->hears[u]));
}

static void check_model(const Online *online, const Model *model) {
        for (int k = 0; k < N_CONVERSATIONS; k++) {
                bool expected[N_GATEWAYS] = {}, seen[N_GATEWAYS] = {};
                void *found[ONLINE_MAX_GATEWAYS];
                char conversation[8];

                snprintf(conversation, sizeof(conversation), "k%d", k);
                for (int c = 0; c < N_CLIENTS; c++)
                        if (model->gateway[c] >= 0 && model->hears[model->user[c]][k])
                                expected[model->gateway[c]] = true;
                size_t n = online_gateways_of_conversation(online, conversation, found);
                for (size_t i = 0; i < n; i++) {
                        assert_false(seen[(char *) found[i] - gateways]);
                        seen[(char *) found[i] - gateways] = true;
                }
                assert_memory_equal(expected, seen, sizeof(seen));
        }
}

static void random_step(Online *online, Model *model, unsigned random) {
        int client = random % N_CLIENTS, user = client % N_USERS, gateway = random / 64 % N_GATEWAYS;
        int conversation = random / 256 % N_CONVERSATIONS;
        char client_id[8], user_id[8], conversation_id[8];

        snprintf(client_id, sizeof(client_id), "c%d", client);
        snprintf(user_id, sizeof(user_id), "u%d", user);
        snprintf(conversation_id, sizeof(conversation_id), "k%d", conversation);
        switch (random / 1024 % 8) {
        case 0 ... 2:
                if (model->gateway[client] >= 0 && model->gateway[client] != gateway) {
                        model->gateway[client] = -1; /* moves: leaves first */
                        forget_absent(model);
                }
                attach(online, client_id, user_id, &gateways[gateway]);
                model->gateway[client] = gateway;
                break;
        case 3:
                online_detach(online, client_id, &gateways[gateway]);
                if (model->gateway[client] == gateway)
                        model->gateway[client] = -1;
                break;
        case 4 ... 5:
                if (online_subscribe(online, user_id, conversation_id) == 0)
                        model->hears[user][conversation] = true;
                else
                        assert_false(user_online(model, user));
                break;
        case 6:
                online_unsubscribe(online, user_id, conversation_id);
                model->hears[user][conversation] = false;
                break;
        default:
                if (random / 8192 % 10 == 0) {
                        online_forget_gateway(online, &gateways[gateway]);
                        for (int c = 0; c < N_CLIENTS; c++)
                                if (model->gateway[c] == gateway)
                                        model->gateway[c] = -1;
                }
        }
        forget_absent(model);
}

static void test_model(void **state) {
        uint64_t random = 42;
        Model model = {};

        for (int c = 0; c < N_CLIENTS; c++) {
                model.user[c] = c % N_USERS;
                model.gateway[c] = -1;
        }
        for (unsigned i = 0; i < 20000; i++) {
                random = random * 6364136223846793005ULL + 1442695040888963407ULL;
                random_step(*state, &model, (unsigned) (random >> 35));
                check_model(*state, &model);
        }
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_one_gateway_once),
                TEST(test_leaving),
                TEST(test_moving),
                TEST(test_forget_gateway),
                TEST(test_too_many_gateways),
                TEST(test_listing),
                TEST(test_model),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
