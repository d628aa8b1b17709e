/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <jansson.h>
#include <stdio.h>

#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

typedef struct Sent {
        TAILQ_ENTRY(Sent) link;
        Bytes *bytes;
        size_t heard;
} Sent;

struct WebSocket {
        void *userdata;
        TAILQ_HEAD(, Sent) sent;
        size_t queued, queued_replies;
        bool notify, paused;
        unsigned close_code;
        char *line;
        LIST_ENTRY(WebSocket) entry;
};

struct RpcClient {
        RpcClientHandlers handlers;
        void *userdata;
        char *address;
        bool connected;
        LIST_ENTRY(RpcClient) entry;
};

typedef struct DispatchedCall {
        TAILQ_ENTRY(DispatchedCall) link;
        Call *call;
} DispatchedCall;

unsigned *fixture_allocation_to_fail;

/* In a function of the fixture that allocates. */
static unsigned pause_failures(void) {
        return fixture_allocation_to_fail ? TAKE_GENERIC(*fixture_allocation_to_fail, 0U) : 0;
}
static void resume_failures(unsigned *paused) {
        if (fixture_allocation_to_fail)
                *fixture_allocation_to_fail = *paused;
}
#define NO_FAILURES _cleanup_(resume_failures) _unused_ unsigned paused = pause_failures()

RoleProcess *fake_process;
SocketRole *fake_role;
unsigned n_stopped;

static LIST_HEAD(, WebSocket) sockets;
static LIST_HEAD(, RpcClient) clients;
static TAILQ_HEAD(, FakeRequest) requests;
static TAILQ_HEAD(, DispatchedCall) calls;
static struct {
        bool waiting;
        CallDone done;
        void *userdata;
} check;
static Route fake_routes[2];
static size_t n_fake_routes;

void request_free(FakeRequest *request) {
        bytes_unref(request->payload);
        free(request);
}

/* --- fakes of web --- */

const char *websocket_address(const WebSocket *socket) {
        return "192.0.2.1";
}
void websocket_set_userdata(WebSocket *socket, void *userdata) {
        socket->userdata = userdata;
}
void *websocket_get_userdata(const WebSocket *socket) {
        return socket->userdata;
}
size_t websocket_queued(const WebSocket *socket) {
        return socket->queued;
}
size_t websocket_queued_replies(const WebSocket *socket) {
        return socket->queued_replies;
}
bool websocket_notify_drained(WebSocket *socket) {
        socket->notify = socket->queued + socket->queued_replies > 0;
        return socket->notify;
}
void websocket_pause_reading(WebSocket *socket, bool paused) {
        assert_true(socket->paused != paused);
        socket->paused = paused;
}
int websocket_reply(WebSocket *socket, Bytes *message, bool binary) {
        return websocket_send(socket, message, binary);
}
int websocket_send(WebSocket *socket, Bytes *message, bool binary) {
        NO_FAILURES;
        Sent *sent = new0(Sent, 1);

        assert_int_equal(socket->close_code, 0);
        sent->bytes = bytes_ref(message);
        TAILQ_INSERT_TAIL(&socket->sent, sent, link);
        return 0;
}
void websocket_set_signed_in(WebSocket *socket) {
}
void websocket_close(WebSocket *socket, unsigned code, const char *reason) {
        assert_int_equal(socket->close_code, 0);
        socket->close_code = code;
}
int web_server_new(WebServer **ret, WebLoop *loop, sd_event *event, const WebLimits *limits,
        const char *ws_path, const WebHandlers *handlers, void *userdata) {
        return -EOPNOTSUPP;
}
WebServer *web_server_free(WebServer *server) {
        return NULL;
}
int web_server_listen(WebServer *server, int listen_fd) {
        return -EOPNOTSUPP;
}
void web_server_get_statistics(const WebServer *server, WebStatistics *ret) {
        *ret = (WebStatistics){};
}
void web_server_stop_accepting(WebServer *server) {
}
void web_server_set_limits(WebServer *server, const WebLimits *limits) {
}
void http_respond(HttpRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size) {
}

/* --- fakes of service --- */

void role_process_changed(RoleProcess *process) {
}
void role_process_stopped(RoleProcess *process) {
        n_stopped++;
}
const Route *routes_all(const Routes *routes, size_t *ret_n) {
        *ret_n = n_fake_routes;
        return fake_routes;
}
/* Conversations that begin with "b" live on the second primary, if there is one. */
const char *routes_address(const Routes *routes, Role role, const char *conversation) {
        return n_fake_routes > 1 && *conversation == 'b' ? fake_routes[1].address : fake_routes[0].address;
}
static void cancel_dispatched(Call *call, int r) {
        DispatchedCall *dispatched;

        TAILQ_FOREACH(dispatched, &calls, link)
                if (dispatched->call == call)
                        break;
        assert_non_null(dispatched);
        TAILQ_REMOVE(&calls, dispatched, link);
        free(dispatched);
        call->cancel = NULL;
        call_fail_errno(call, r, "wait for the other role");
}
void dispatcher_dispatch(Dispatcher *dispatcher, Call *call) {
        NO_FAILURES;
        DispatchedCall *dispatched = new0(DispatchedCall, 1);

        dispatched->call = call;
        call->cancel = cancel_dispatched;
        TAILQ_INSERT_TAIL(&calls, dispatched, link);
}
int dispatcher_call(Dispatcher *dispatcher, const MethodInfo *method, const ProtobufCMessage *request,
        const Trace *trace, const Sc__Caller *caller, CallDone done, void *userdata) {
        assert_ptr_equal(method, &method_session_check);
        assert_false(check.waiting);
        check.waiting = true;
        check.done = done;
        check.userdata = userdata;
        return 0;
}

/* --- fakes of rpc --- */

int rpc_client_new(RpcClient **ret, sd_event *event, const RpcClientConfig *config,
        const RpcClientHandlers *handlers, void *userdata) {
        NO_FAILURES;
        RpcClient *client = new0(RpcClient, 1);

        client->handlers = *handlers;
        client->userdata = userdata;
        client->address = strdup(config->address);
        client->connected = true;
        LIST_INSERT_HEAD(&clients, client, entry);
        *ret = client;
        return 0;
}
RpcClient *rpc_client_free(RpcClient *client) {
        FakeRequest *request, *next;

        if (!client)
                return NULL;
        client->connected = false;
        for (request = TAILQ_FIRST(&requests); request; request = next) {
                next = TAILQ_NEXT(request, link);
                if (request->client != client)
                        continue;
                TAILQ_REMOVE(&requests, request, link);
                refuse(request, ERROR_UNAVAILABLE);
        }
        LIST_REMOVE(client, entry);
        free(client->address);
        free(client);
        return NULL;
}
bool rpc_client_is_connected(const RpcClient *client) {
        return client->connected;
}
int rpc_client_start(RpcClient *client, const MethodInfo *method, const RpcMessage *message, RpcReply reply,
        void *userdata, uint64_t *ret) {
        NO_FAILURES;
        static uint64_t last_id;
        FakeRequest *request = new0(FakeRequest, 1);

        request->client = client;
        request->method = method;
        request->payload = bytes_new_copy(message->payload, message->payload_size);
        request->reply = reply;
        request->userdata = userdata;
        *ret = request->id = ++last_id;
        TAILQ_INSERT_TAIL(&requests, request, link);
        return 0;
}
int rpc_client_call(RpcClient *client, const MethodInfo *method, const RpcMessage *message, RpcReply reply,
        void *userdata) {
        uint64_t id;
        return rpc_client_start(client, method, message, reply, userdata, &id);
}
/* Those that a test has taken already it must not answer. */
void rpc_client_forget(RpcClient *client, uint64_t id) {
        FakeRequest *request;

        TAILQ_FOREACH(request, &requests, link)
                if (request->id == id)
                        break;
        if (!request)
                return;
        TAILQ_REMOVE(&requests, request, link);
        request_free(request);
}

void role_process_problem(RoleProcess *process, const char *format, ...) {
}

/* --- the thread that verifies tokens: here it has done it at once --- */

struct TokenVerifier {
        TokenSigner *signer;
        TokenKeys *keys;
};

static TokenVerifier *fake_verifier_new(void) {
        _cleanup_free_ char *private_pem = NULL, *public_pem = NULL;
        TokenVerifier *verifier = new0(TokenVerifier, 1);

        assert_int_equal(token_key_generate(&private_pem, &public_pem), 0);
        assert_int_equal(token_signer_new(&verifier->signer, private_pem, strlen(private_pem)), 0);
        assert_int_equal(token_keys_new(&verifier->keys, public_pem, strlen(public_pem)), 0);
        return verifier;
}
TokenVerifier *token_verifier_free(TokenVerifier *verifier) {
        if (!verifier)
                return NULL;
        token_signer_free(verifier->signer);
        token_keys_unref(verifier->keys);
        return mfree(verifier);
}
int token_verifier_start(TokenVerifier *verifier, const char *token, TokenVerified done, void *userdata) {
        TokenClaims claims;
        Sc__ErrorCode code;

        {
                NO_FAILURES;
                code = token_verify(verifier->keys, token, unix_msec() / 1000, &claims);
        }
        done(code, code == ERROR_NONE ? &claims : NULL, userdata);
        return 0;
}
int token_verifier_reload(TokenVerifier *verifier) {
        return 0;
}
const TokenKeys *token_verifier_keys(const TokenVerifier *verifier) {
        return verifier->keys;
}
bool token_verifier_is_alive(TokenVerifier *verifier) {
        return true;
}

/* --- set-up --- */

int setup(void **state) {

        TAILQ_INIT(&requests);
        TAILQ_INIT(&calls);
        LIST_INIT(&clients);
        LIST_INIT(&sockets);
        n_stopped = 0;
        check.waiting = false;
        set_routes("/primary", NULL);
        fake_process = new0(RoleProcess, 1);
        assert_int_equal(sd_event_new(&fake_process->event), 0);
        assert_int_equal(
                conf_load(&(ConfSource){.dirs = (const char *[]){NULL}}, NULL, NULL, &fake_process->conf),
                0);
        fake_process->conf->log_trace_rate = 0;
        assert_int_equal(socket_role_new(&fake_role, fake_process, fake_verifier_new()), 0);
        return 0;
}

int teardown(void **state) {
        FakeRequest *request;
        DispatchedCall *call;

        while (!LIST_EMPTY(&sockets))
                client_gone(LIST_FIRST(&sockets));
        while ((call = TAILQ_FIRST(&calls))) {
                TAILQ_REMOVE(&calls, call, link);
                call_fail(call->call, ERROR_UNAVAILABLE, "%s", "");
                free(call);
        }
        if (check.waiting)
                fail_check(ERROR_UNAVAILABLE);
        assert_int_equal(HASH_COUNT(fake_role->users), 0);
        assert_int_equal(HASH_COUNT(fake_role->channels), 0);
        fake_role = socket_role_free(fake_role);
        while ((request = TAILQ_FIRST(&requests))) {
                TAILQ_REMOVE(&requests, request, link);
                bytes_unref(request->payload);
                free(request);
        }
        conf_free(fake_process->conf);
        sd_event_unref(fake_process->event);
        free(fake_process);
        return 0;
}

void set_routes(const char *first, const char *second) {
        fake_routes[0] =
                (Route){.first_shard = 0, .last_shard = second ? 127 : 255, .address = (char *) first};
        fake_routes[1] = (Route){.first_shard = 128, .last_shard = 255, .address = (char *) second};
        n_fake_routes = second ? 2 : first ? 1 : 0;
}

void set_epoch(uint64_t epoch) {
        fake_routes[0].epoch = epoch;
}

/* --- the client's side --- */

WebSocket *client_open(void) {
        WebSocket *socket = new0(WebSocket, 1);
        Connection *connection;

        TAILQ_INIT(&socket->sent);
        LIST_INSERT_HEAD(&sockets, socket, entry);
        assert_int_equal(connection_new(&connection, fake_role, socket), 0);
        socket->userdata = connection;
        return socket;
}

void client_send(WebSocket *socket, const void *data, size_t size, bool binary) {
        connection_receive(socket->userdata, data, size, binary);
}

static void unquote(char *s) {
        for (; *s; s++)
                if (*s == '\'')
                        *s = '"';
}

void client_say(WebSocket *socket, const char *format, ...) {
        char *text;
        va_list ap;

        va_start(ap, format);
        assert_true(vasprintf(&text, format, ap) >= 0);
        va_end(ap);
        unquote(text);
        client_send(socket, text, strlen(text), false);
        free(text);
}

Bytes *client_take(WebSocket *socket) {
        Sent *sent = TAILQ_FIRST(&socket->sent);
        if (!sent)
                return NULL;
        Bytes *bytes = sent->bytes;
        TAILQ_REMOVE(&socket->sent, sent, link);
        free(sent);
        return bytes;
}

const char *client_hear(WebSocket *socket) {
        Sent *sent = TAILQ_FIRST(&socket->sent);

        socket->line = mfree(socket->line);
        if (!sent)
                return NULL;
        const char *start = (const char *) sent->bytes->data + sent->heard;
        size_t left = sent->bytes->size - sent->heard;
        const char *end = memchr(start, '\n', left);
        size_t size = end ? (size_t) (end - start) : left;

        socket->line = strndup(start, size);
        sent->heard += size + 1;
        if (!end)
                bytes_unref(client_take(socket));
        return socket->line;
}

void expect_line(WebSocket *socket, char *expected, int line) {
        const char *heard = client_hear(socket);

        unquote(expected);
        if (!heard)
                fail_msg("line %d: nothing was sent instead of %s", line, expected);
        if (!streq(heard, expected))
                fail_msg("line %d: heard    %s\n      instead of %s", line, heard, expected);
        free(expected);
}

void expect_error(WebSocket *socket, unsigned id, unsigned code, const char *name, int line) {
        const char *heard = client_hear(socket);
        json_error_t error;

        if (!heard)
                fail_msg("line %d: nothing was sent", line);
        json_t *reply = json_loads(heard, 0, &error);
        const char *message = json_string_value(json_object_get(json_object_get(reply, "error"), "message"));
        if (json_integer_value(json_object_get(reply, "id")) != id ||
                json_integer_value(json_object_get(json_object_get(reply, "error"), "code")) != code ||
                !message || !startswith(message, name))
                fail_msg("line %d: heard %s", line, heard);
        json_decref(reply);
}

unsigned client_close_code(const WebSocket *socket) {
        return socket->close_code;
}

const char *client_id(const WebSocket *socket) {
        return ((Connection *) socket->userdata)->client;
}

void client_set_queued(WebSocket *socket, size_t size) {
        socket->queued = size;
}

void client_set_replies(WebSocket *socket, size_t size) {
        socket->queued_replies = size;
}

void client_reads(WebSocket *socket) {
        socket->queued = socket->queued_replies = 0;
        if (TAKE_GENERIC(socket->notify, false))
                connection_drained(socket->userdata);
}

bool client_is_paused(const WebSocket *socket) {
        return socket->paused;
}

void client_gone(WebSocket *socket) {
        connection_free(socket->userdata);
        while (!TAILQ_EMPTY(&socket->sent))
                bytes_unref(client_take(socket));
        LIST_REMOVE(socket, entry);
        free(socket->line);
        free(socket);
}

char *make_token(const char *user, const char *session, int64_t ttl) {
        TokenClaims claims = {.expires_at = unix_msec() / 1000 + ttl};
        char *token;

        snprintf(claims.user, sizeof(claims.user), "%s", user);
        snprintf(claims.session, sizeof(claims.session), "%s", session);
        snprintf(claims.device, sizeof(claims.device), "phone");
        assert_int_equal(token_issue(fake_role->token_verifier->signer, &claims, &token), 0);
        return token;
}

WebSocket *client_connected(
        const char *user, const char *session, const char *conversation, uint64_t last_seq) {
        _cleanup_free_ char *token = make_token(user, session, 900);
        WebSocket *socket = client_open();

        client_say(socket, "{'id':1,'connect':{'token':'%s'}}", token);
        answer_check(true);
        FakeRequest *request = next_request();
        while (request && request->method == &method_gateway_detach) { /* of others that ended before */
                answer(request, &((Sc__DetachResponse) SC__DETACH_RESPONSE__INIT).base);
                request = next_request();
        }
        answer_attach(request, &(FakeSubscription){conversation, "e", last_seq}, 1);
        assert_non_null(client_hear(socket));
        return socket;
}

/* --- the other roles' side --- */

Call *next_call(const char *method) {
        DispatchedCall *dispatched = TAILQ_FIRST(&calls);

        assert_non_null(dispatched);
        Call *call = dispatched->call;
        TAILQ_REMOVE(&calls, dispatched, link);
        free(dispatched);
        call->cancel = NULL; /* the test answers it */
        assert_string_equal(call->method->name, method);
        return call;
}

bool no_call(void) {
        return TAILQ_EMPTY(&calls);
}

bool check_is_waiting(void) {
        return check.waiting;
}

void answer_check(bool active) {
        Sc__SessionCheckResponse response = SC__SESSION_CHECK_RESPONSE__INIT;

        assert_true(check.waiting);
        check.waiting = false;
        response.active = active;
        check.done(NULL, ERROR_NONE, NULL, &response.base, check.userdata);
}

void fail_check(Sc__ErrorCode code) {
        assert_true(check.waiting);
        check.waiting = false;
        check.done(NULL, code, "", NULL, check.userdata);
}

FakeRequest *next_request(void) {
        FakeRequest *request = TAILQ_FIRST(&requests);

        if (request)
                TAILQ_REMOVE(&requests, request, link);
        return request;
}

Sc__AttachRequest *attach_request(FakeRequest *request) {
        assert_ptr_equal(request->method, &method_gateway_attach);
        return sc__attach_request__unpack(NULL, request->payload->size, request->payload->data);
}

const char *request_address(const FakeRequest *request) {
        return request->client->address;
}

Sc__RecoverRequest *recover_request(FakeRequest *request) {
        assert_ptr_equal(request->method, &method_gateway_recover);
        return sc__recover_request__unpack(NULL, request->payload->size, request->payload->data);
}

static uint8_t *pack(const ProtobufCMessage *message, size_t *ret_size) {
        NO_FAILURES;
        *ret_size = protobuf_c_message_get_packed_size(message);
        uint8_t *payload = malloc(*ret_size + 1);

        protobuf_c_message_pack(message, payload);
        return payload;
}

void answer(FakeRequest *request, const ProtobufCMessage *response) {
        size_t size;
        _cleanup_free_ uint8_t *payload = pack(response, &size);

        request->reply(ERROR_NONE, "", payload, size, request->userdata);
        request_free(request);
}

void refuse(FakeRequest *request, Sc__ErrorCode code) {
        request->reply(code, "", NULL, 0, request->userdata);
        request_free(request);
}

void assert_detaches(const char *client) {
        FakeRequest *request = next_request();

        assert_non_null(request);
        assert_ptr_equal(request->method, &method_gateway_detach);
        Sc__DetachRequest *detach =
                sc__detach_request__unpack(NULL, request->payload->size, request->payload->data);
        assert_string_equal(detach->client, client);
        sc__detach_request__free_unpacked(detach, NULL);
        answer(request, &((Sc__DetachResponse) SC__DETACH_RESPONSE__INIT).base);
}

static void fill_message(Sc__Message *message, const char *conversation, uint64_t seq) {
        sc__message__init(message);
        message->conversation = (char *) conversation;
        message->seq = seq;
        message->sender = (char *) "bo";
        message->body_case = SC__MESSAGE__BODY_TEXT;
        message->text = (char *) "hi";
}

char *publication(const char *conversation, uint64_t seq) {
        return format_string("{'data':{'message':{'conversation':'%s','seq':%lu,'sender':'bo','text':'hi'}},"
                             "'info':{'user':'bo'},'offset':%lu}",
                conversation, seq, seq);
}

static void answer_clients(
        FakeRequest *request, const FakeSubscription *from, size_t n, const char *next, Sc__ErrorCode code) {
        Sc__AttachResponse response = SC__ATTACH_RESPONSE__INIT;
        Sc__AttachResponse__Result results[256], *result_pointers[256];
        Sc__Subscription subscriptions[8], *pointers[8];
        uint32_t places[8];

        assert_non_null(request);
        Sc__AttachRequest *attach = attach_request(request);
        assert_true(n <= ELEMENTSOF(subscriptions));
        for (size_t i = 0; i < n; i++) {
                sc__subscription__init(&subscriptions[i]);
                pointers[i] = &subscriptions[i];
                places[i] = (uint32_t) i;
                subscriptions[i].conversation = (char *) from[i].conversation;
                subscriptions[i].epoch = (char *) from[i].epoch;
                subscriptions[i].last_seq = from[i].last_seq;
        }
        for (size_t i = 0; i < attach->n_clients; i++) {
                sc__attach_response__result__init(&results[i]);
                result_pointers[i] = &results[i];
                results[i].error = code;
                results[i].subscriptions = places;
                results[i].n_subscriptions = n;
                results[i].next = (char *) next;
        }
        response.results = result_pointers;
        response.n_results = attach->n_clients;
        response.subscriptions = pointers;
        response.n_subscriptions = n;
        sc__attach_request__free_unpacked(attach, NULL);
        answer(request, &response.base);
}

void answer_attach_page(
        FakeRequest *request, const FakeSubscription *subscriptions, size_t n, const char *next) {
        answer_clients(request, subscriptions, n, next, ERROR_NONE);
}

void answer_attach(FakeRequest *request, const FakeSubscription *subscriptions, size_t n) {
        answer_clients(request, subscriptions, n, "", ERROR_NONE);
}

void refuse_clients(FakeRequest *request, Sc__ErrorCode code) {
        answer_clients(request, NULL, 0, "", code);
}

void expect_attach(FakeRequest *request, const char *client, int line) {
        if (!request)
                fail_msg("line %d: nothing was asked", line);
        Sc__AttachRequest *attach = attach_request(request);
        if (attach->n_clients != 1 || !streq(attach->clients[0]->client, client))
                fail_msg("line %d: others are attached", line);
        sc__attach_request__free_unpacked(attach, NULL);
}

FakeRequest *expect_recover(const char *conversation, uint64_t seq, int line) {
        FakeRequest *request = next_request();

        if (!request || request->method != &method_gateway_recover)
                fail_msg("line %d: nothing is fetched", line);
        Sc__RecoverRequest *recover = recover_request(request);
        if (recover->n_positions != 1 || !streq(recover->positions[0]->conversation, conversation) ||
                recover->positions[0]->seq != seq)
                fail_msg("line %d: %zu are fetched, the first is %s from %lu", line, recover->n_positions,
                        recover->positions[0]->conversation, recover->positions[0]->seq);
        sc__recover_request__free_unpacked(recover, NULL);
        return request;
}

void answer_recover(
        FakeRequest *request, const char *epoch, uint64_t last_seq, uint64_t first, uint64_t last) {
        Sc__RecoverRequest *recover = recover_request(request);
        Sc__RecoverResponse response = SC__RECOVER_RESPONSE__INIT;
        Sc__RecoverResponse__Page page = SC__RECOVER_RESPONSE__PAGE__INIT;
        Sc__RecoverResponse__Publication publications[64], *pointers[64];

        page.epoch = (char *) epoch;
        page.last_seq = last_seq;
        page.publications = pointers;
        for (uint64_t seq = first; seq > 0 && seq <= last; seq++) {
                Sc__RecoverResponse__Publication *publication = &publications[page.n_publications];

                assert_true(page.n_publications < ELEMENTSOF(publications));
                sc__recover_response__publication__init(publication);
                publication->seq = seq;
                publication->sender = (char *) "bo";
                publication->data.data =
                        (uint8_t *) format_string("{\"message\":{\"conversation\":\"%s\",\"seq\":%lu,"
                                                  "\"sender\":\"bo\",\"text\":\"hi\"}}",
                                recover->positions[0]->conversation, seq);
                publication->data.len = strlen((char *) publication->data.data);
                pointers[page.n_publications++] = publication;
        }
        response.pages = (Sc__RecoverResponse__Page *[]){&page};
        response.n_pages = 1;
        answer(request, &response.base);
        for (size_t i = 0; i < page.n_publications; i++)
                free(publications[i].data.data);
        sc__recover_request__free_unpacked(recover, NULL);
}

static void push(const char *method, const ProtobufCMessage *message) {
        size_t size;
        _cleanup_free_ uint8_t *payload = pack(message, &size);
        RpcClient *client = LIST_FIRST(&clients);

        assert_non_null(client);
        client->handlers.on_push(
                &(RpcMessage){.method = method, .payload = payload, .payload_size = size}, client->userdata);
}

static void push_update(const char *conversation, Sc__Update *update) {
        Sc__Deliver deliver = SC__DELIVER__INIT;

        deliver.conversation = (char *) conversation;
        deliver.update = update;
        push("deliver", &deliver.base);
}

void push_message(const char *conversation, uint64_t seq) {
        Sc__Update update = SC__UPDATE__INIT;
        Sc__Message message;

        fill_message(&message, conversation, seq);
        update.what_case = SC__UPDATE__WHAT_MESSAGE;
        update.message = &message;
        push_update(conversation, &update);
}

void push_receipt(const char *conversation, uint64_t seq) {
        Sc__Update update = SC__UPDATE__INIT;
        Sc__Receipt receipt = SC__RECEIPT__INIT;

        receipt.conversation = (char *) conversation;
        receipt.user = (char *) "bo";
        receipt.read_seq = seq;
        update.what_case = SC__UPDATE__WHAT_RECEIPT;
        update.receipt = &receipt;
        push_update(conversation, &update);
}

void push_membership(const char *user, const char *conversation, uint64_t last_seq, bool removed) {
        Sc__MembershipChanged change = SC__MEMBERSHIP_CHANGED__INIT;
        Sc__Subscription subscription = SC__SUBSCRIPTION__INIT;

        subscription.conversation = (char *) conversation;
        subscription.epoch = (char *) "e";
        subscription.last_seq = last_seq;
        change.user = (char *) user;
        change.removed = removed;
        change.subscription = &subscription;
        push("membership", &change.base);
}

void push_kick(const char *user, const char *session) {
        Sc__Kick kick = SC__KICK__INIT;

        kick.user = (char *) user;
        kick.session = (char *) session;
        push("kick", &kick.base);
}

void push_if_linked(const char *user, const char *conversation) {
        if (!LIST_EMPTY(&clients))
                push_membership(user, conversation, 0, false);
}

bool retry_is_due(void) {
        const Gateway *gateway = fake_role->gateway;
        const Link *link = LIST_FIRST(&gateway->links);

        return gateway->retrying || (link && link->retrying);
}

void pass_retry(void) {
        const Gateway *gateway = fake_role->gateway;
        const Link *link;

        if (gateway->retrying)
                sd_event_source_set_time(gateway->retry, 0);
        LIST_FOREACH(link, &gateway->links, in_gateway)
                if (link->retrying)
                        sd_event_source_set_time(link->retry, 0);
        while (retry_is_due())
                assert_true(sd_event_run(fake_process->event, UINT64_MAX) >= 0);
}

void link_break(void) {
        RpcClient *client = LIST_FIRST(&clients);

        client->connected = false;
        client->handlers.on_disconnect(client->userdata);
}

void link_restore(void) {
        RpcClient *client = LIST_FIRST(&clients);

        client->connected = true;
        client->handlers.on_connect(client->userdata);
}
