/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The socket role with everything around it faked: WebSockets, the dispatcher, the RPC to the group
 * primaries, the routes. A test plays the client on one side and the other roles on the other; nothing
 * happens by itself. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "socket/channel/channel.h"
#include "socket/connection/receive.h"
#include "socket/gateway/gateway.h"
#include "socket/socket-role.h"
#include "stonechat/v1/conversations.pb-c.h"
#include "stonechat/v1/internal.pb-c.h"
#include "stonechat/v1/messages.pb-c.h"

int setup(void **state);
int teardown(void **state);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* --- the client's side --- */

WebSocket *client_open(void);
/* One text message, with ' for ". */
void client_say(WebSocket *socket, const char *format, ...) _printf_(2, 3);
void client_send(WebSocket *socket, const void *data, size_t size, bool binary);
/* The next line that was sent to it, or NULL; valid until the next call. */
const char *client_hear(WebSocket *socket);
/* The next whole message, of whatever kind. */
Bytes *client_take(WebSocket *socket);
/* Expects exactly this next, with ' for ". */
#define assert_hears(socket, ...) expect_line(socket, format_string(__VA_ARGS__), __LINE__)
void expect_line(WebSocket *socket, char *expected, int line);
#define assert_hears_nothing(socket) assert_null(client_hear(socket))
#define assert_error(socket, id, code, name) expect_error(socket, id, code, name, __LINE__)
void expect_error(WebSocket *socket, unsigned id, unsigned code, const char *name, int line);
#define assert_closed(socket, code) assert_int_equal(client_close_code(socket), code)
/* 0: it is open. */
unsigned client_close_code(const WebSocket *socket);
const char *client_id(const WebSocket *socket);
/* What its queue seems to hold: of pushes, and of replies. */
void client_set_queued(WebSocket *socket, size_t size);
void client_set_replies(WebSocket *socket, size_t size);
/* It has read all of it. */
void client_reads(WebSocket *socket);
bool client_is_paused(const WebSocket *socket);
/* The connection is gone. */
void client_gone(WebSocket *socket);

/* A token of this user; caller frees. */
char *make_token(const char *user, const char *session, int64_t ttl);

/* A client of that user in this session that has connected and heard the reply. */
WebSocket *client_connected(
        const char *user, const char *session, const char *conversation, uint64_t last_seq);

/* --- the other roles' side --- */

/* The method call that the role made next; the test answers it by call_return() or call_fail(). Fails if it
 * is another one. */
Call *next_call(const char *method);
bool no_call(void);
/* session.check: answers the one that waits. */
bool check_is_waiting(void);
void answer_check(bool active);
void fail_check(Sc__ErrorCode code);

/* The RPC to a primary. */
typedef struct FakeRequest FakeRequest;
struct FakeRequest {
        TAILQ_ENTRY(FakeRequest) link;
        RpcClient *client;
        const MethodInfo *method;
        Bytes *payload;
        RpcReply reply;
        void *userdata;
        uint64_t id;
};
/* The next request, which the test then answers; NULL if there is none. */
FakeRequest *next_request(void);
/* To be freed by sc__attach_request__free_unpacked(), and …recover…. */
Sc__AttachRequest *attach_request(FakeRequest *request);
Sc__RecoverRequest *recover_request(FakeRequest *request);
const char *request_address(const FakeRequest *request); /* of the primary */
/* Forgets it; for one that was withdrawn. */
void request_free(FakeRequest *request);
void answer(FakeRequest *request, const ProtobufCMessage *response);
void refuse(FakeRequest *request, Sc__ErrorCode code);
void assert_detaches(const char *client);

/* The request that is there next must be gateway.attach, of one client. */
void expect_attach(FakeRequest *request, const char *client, int line);
#define assert_attaches(request, client) expect_attach(request, client, __LINE__)

/* Answers gateway.attach: all clients of the batch have these subscriptions. */
typedef struct FakeSubscription {
        const char *conversation, *epoch;
        uint64_t last_seq;
} FakeSubscription;
void answer_attach(FakeRequest *request, const FakeSubscription *subscriptions, size_t n);
/* The same, with a further page behind them. */
void answer_attach_page(
        FakeRequest *request, const FakeSubscription *subscriptions, size_t n, const char *next);
/* Refuses all clients of the batch, each alone. */
void refuse_clients(FakeRequest *request, Sc__ErrorCode code);

/* The next request must be gateway.recover, of one conversation, from this position. */
FakeRequest *expect_recover(const char *conversation, uint64_t seq, int line);
#define assert_recovers(conversation, seq) expect_recover(conversation, seq, __LINE__)
/* Answers it with messages first … last, none if first is 0. */
void answer_recover(
        FakeRequest *request, const char *epoch, uint64_t last_seq, uint64_t first, uint64_t last);

void push_message(const char *conversation, uint64_t seq);
void push_receipt(const char *conversation, uint64_t seq);
void push_membership(const char *user, const char *conversation, uint64_t last_seq, bool removed);
void push_kick(const char *user, const char *session);
/* push_membership(), if the role has connected to a primary already. */
void push_if_linked(const char *user, const char *conversation);

/* Lets what is to be retried be retried. */
bool retry_is_due(void);
void pass_retry(void);
void link_break(void);
void link_restore(void);
void set_routes(const char *first, const char *second);
/* Of the first route. */
void set_epoch(uint64_t epoch);

/* Of a test that lets allocations fail: &allocation_to_fail. The fixture's own do not count. */
extern unsigned *fixture_allocation_to_fail;

extern RoleProcess *fake_process;
extern SocketRole *fake_role;
extern unsigned n_stopped;

/* The JSON of a publication of message `seq`, as push_message() makes it. */
char *publication(const char *conversation, uint64_t seq);
