/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A server and a client on one loop, which write down what they see. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "log/log.h"
#include "rpc/frame.h"
#include "rpc/hello.h"
#include "rpc/rpc.h"
#include "schema-tables.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define PATIENCE_USEC (20 * USEC_PER_SEC) /* a test that waits longer hangs */
#define LONG_TIMEOUT_USEC (15 * USEC_PER_SEC)
#define MAX_HELD 70000

extern const MethodInfo method_again; /* idempotent */
extern const MethodInfo method_once;

typedef struct Outcome {
        unsigned n_replies;
        Sc__ErrorCode code;
        char text[64]; /* payload or detail */
        size_t size;
        unsigned order; /* of all replies */
        RpcClient **free_client; /* from within the reply */
} Outcome;

typedef struct Fixture {
        sd_event *event;
        char directory[64], path[80];
        RpcServer *server;
        RpcClient *client;
        /* what the server does with requests */
        bool hold;
        RpcRequest **held;
        size_t n_held, n_requests;
        char methods[256]; /* of the requests, in order, a space behind each */
        RpcMessage last; /* scalars only */
        Trace last_trace;
        char last_user[64], last_intent[64]; /* "source number target" */
        RpcConnection *last_connection, *gone;
        unsigned n_gone, n_cancelled, n_rooms;
        RpcRequest *cancelled; /* the last one */
        bool answer_cancelled;
        int (*identify)(const RpcIdentity *identity, Role *ret, void *userdata);
        /* what the client heard */
        unsigned n_connects, n_disconnects, n_replies;
        char pushes[256];
        bool call_on_connect, free_on_push;
        Outcome on_connect_outcome;
} Fixture;

int set_up(void **state);
int tear_down(void **state);
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

/* Runs the loop until *counter reaches n. */
void run_until(Fixture *f, const unsigned *counter, unsigned n);
void run_until_size(Fixture *f, const size_t *counter, size_t n);

/* --- the server's side --- */
void start_server(Fixture *f);
void start_server_on(Fixture *f, int listener);
void answer_held(Fixture *f, const char *text);

/* --- the client's side --- */
void start_client(Fixture *f);
void start_client_to(Fixture *f, const RpcClientConfig *config);
/* Notes the outcome, which is its userdata. */
void on_reply(Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata);
extern unsigned n_replies_total;
int call(Fixture *f, const MethodInfo *method, const char *text, uint64_t timeout, Outcome *outcome);

/* --- bare sockets, for peers that misbehave --- */
int listen_unix(const char *path);
int connect_unix(const char *path); /* blocking, nothing said */
int connect_peer(Fixture *f); /* the same, and HELLO said both ways */
int accept_peer(Fixture *f, int listener); /* waits for it, running the loop */
void send_frame(int fd, const Sc__Envelope *envelope);
void send_hello(int fd, const char *role);
/* Waits for one frame, running the loop; the envelope lives in the arena. */
Sc__Envelope *read_frame(Fixture *f, int fd, Arena *arena);
