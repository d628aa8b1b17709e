/* SPDX-License-Identifier: Apache-2.0 */

/* The real program over its socket: a sender, a gateway and an api role made here, while the program is
 * killed and ended again and again. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "rpc/rpc.h"
#include "schema-tables.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define N_MESSAGES 4000U
#define WINDOW 300U /* more than one append takes */
#define TIMEOUT_USEC (30 * USEC_PER_SEC)

typedef struct World {
        char directory[64], address[96];
        sd_event *event;
        pid_t program;
        RpcServer *api;
        RpcClient *sender, *gateway;
        char conversation[UUID_TEXT_SIZE], epoch[UUID_TEXT_SIZE];

        /* the sender */
        unsigned n_sent, n_answered;
        bool taken[N_MESSAGES + 1]; /* by seq */

        /* the gateway: what it has of the conversation */
        bool heard[N_MESSAGES + 1];
        uint64_t heard_up_to; /* without a gap */
        unsigned n_attached;
} World;

/* --- the program --- */

static void start_program(World *world) {
        char listen[128];

        snprintf(listen, sizeof(listen), "--listen=rpc=%s", world->address);
        world->program = fork();
        assert_true(world->program >= 0);
        if (world->program > 0)
                return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setenv("STATE_DIRECTORY", world->directory, 1);
        setenv("STONECHAT_RUNTIME_DIRECTORY", world->directory, 1);
        execl(GROUP_PROGRAM, GROUP_PROGRAM, listen, "--config-directory=/nonexistent", NULL);
        _exit(127);
}

static void end_program(World *world, int number) {
        int status;

        assert_int_equal(kill(world->program, number), 0);
        assert_int_equal(waitpid(world->program, &status, 0), world->program);
        if (number == SIGTERM)
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        else
                assert_true(WIFSIGNALED(status));
}

/* --- the api role: everybody exists --- */

static void on_api_request(RpcRequest *request, const RpcMessage *message, void *userdata) {
        Sc__AccountCheckResponse response = SC__ACCOUNT_CHECK_RESPONSE__INIT;
        uint8_t payload[16];

        assert_string_equal(message->method, "account.check");
        response.exists = true;
        rpc_request_reply(request, payload, protobuf_c_message_pack(&response.base, payload));
}

static int start_api(World *world) {
        static const RpcServerHandlers handlers = {.on_request = on_api_request};
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        snprintf(address.sun_path, sizeof(address.sun_path), "%s/api/rpc.sock", world->directory);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 8), 0);
        return rpc_server_new(&world->api, world->event, fd, ROLE_API, &handlers, world);
}

/* --- calls --- */

static void call(RpcClient *client, const MethodInfo *method, const char *user, const void *request,
        RpcReply reply, void *userdata) {
        Sc__Caller caller = SC__CALLER__INIT;
        size_t size = protobuf_c_message_get_packed_size(request);
        _cleanup_free_ uint8_t *payload = malloc(size + 1);

        caller.user = (char *) user;
        protobuf_c_message_pack(request, payload);
        assert_int_equal(rpc_client_call(client, method,
                                 &(RpcMessage){.method = method->name,
                                         .caller = *user ? &caller : NULL,
                                         .timeout_usec = TIMEOUT_USEC,
                                         .payload = payload,
                                         .payload_size = size},
                                 reply, userdata),
                0);
}

static void *unpack(
        const ProtobufCMessageDescriptor *descriptor, Sc__ErrorCode code, const void *data, size_t size) {
        if (code != ERROR_NONE)
                fail_msg("%s", schema_error(code)->name);
        void *message = protobuf_c_message_unpack(descriptor, NULL, size, data);
        assert_non_null(message);
        return message;
}

/* Runs the loop until the counter has reached this, or for too long. */
static void run_until(World *world, const unsigned *counter, unsigned value) {
        uint64_t deadline = boottime_usec() + 2 * TIMEOUT_USEC;

        while (*counter < value) {
                assert_true(boottime_usec() < deadline);
                assert_true(sd_event_run(world->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

/* --- the sender: a window of messages under way, each acknowledged once --- */

static void send_next(World *world);

static void on_sent(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        World *world = userdata;
        Sc__SendResponse *response = unpack(&sc__send_response__descriptor, code, payload, size);

        assert_in_range(response->seq, 1, N_MESSAGES);
        assert_false(world->taken[response->seq]);
        world->taken[response->seq] = true;
        sc__send_response__free_unpacked(response, NULL);
        world->n_answered++;
        send_next(world);
}

static void send_next(World *world) {
        Sc__SendRequest request = SC__SEND_REQUEST__INIT;
        char id[16];

        if (world->n_sent == N_MESSAGES)
                return;
        snprintf(id, sizeof(id), "m%u", world->n_sent++);
        request.conversation = world->conversation;
        request.client_msg_id = id;
        request.body_case = SC__SEND_REQUEST__BODY_TEXT;
        request.text = id;
        call(world->sender, &method_message_send, "ada", &request, on_sent, world);
}

static void on_opened(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        World *world = userdata;
        Sc__ConversationView *view = unpack(&sc__conversation_view__descriptor, code, payload, size);

        snprintf(world->conversation, sizeof(world->conversation), "%s", view->conversation->id);
        snprintf(world->epoch, sizeof(world->epoch), "%s", view->conversation->epoch);
        sc__conversation_view__free_unpacked(view, NULL);
        world->n_answered++;
}

/* --- the gateway: attaches with its position whenever the connection stands --- */

static void hear(World *world, uint64_t seq) {
        assert_in_range(seq, 1, N_MESSAGES);
        world->heard[seq] = true;
        while (world->heard_up_to < N_MESSAGES && world->heard[world->heard_up_to + 1])
                world->heard_up_to++;
}

static void on_push(const RpcMessage *message, void *userdata) {
        World *world = userdata;

        if (!streq(message->method, "deliver"))
                return;
        Sc__Deliver *deliver =
                unpack(&sc__deliver__descriptor, ERROR_NONE, message->payload, message->payload_size);
        if (streq(deliver->conversation, world->conversation))
                hear(world, deliver->update->message->seq);
        sc__deliver__free_unpacked(deliver, NULL);
}

static void on_recovered(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        World *world = userdata;
        Sc__RecoverResponse *response = unpack(&sc__recover_response__descriptor, code, payload, size);

        assert_string_equal(response->pages[0]->epoch, world->epoch);
        for (size_t i = 0; i < response->pages[0]->n_publications; i++)
                hear(world, response->pages[0]->publications[i]->seq);
        assert_true(world->heard_up_to >= response->pages[0]->last_seq);
        sc__recover_response__free_unpacked(response, NULL);
        world->n_attached++;
}

static void recover(World *world) {
        Sc__RecoverRequest request = SC__RECOVER_REQUEST__INIT;
        Sc__Position position = SC__POSITION__INIT;

        position.conversation = world->conversation;
        position.epoch = world->epoch;
        position.seq = world->heard_up_to;
        request.positions = (Sc__Position *[]){&position};
        request.n_positions = 1;
        call(world->gateway, &method_gateway_recover, "", &request, on_recovered, world);
}

static void on_attached(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        World *world = userdata;
        Sc__AttachResponse *response = unpack(&sc__attach_response__descriptor, code, payload, size);

        assert_int_equal(response->n_results, 1);
        assert_int_equal(response->results[0]->error, ERROR_NONE);
        sc__attach_response__free_unpacked(response, NULL);
        recover(world);
}

static void on_connect(void *userdata) {
        World *world = userdata;
        Sc__AttachRequest request = SC__ATTACH_REQUEST__INIT;
        Sc__AttachRequest__Client client = SC__ATTACH_REQUEST__CLIENT__INIT;

        if (!*world->conversation)
                return;
        client.client = (char *) "c1";
        client.user = (char *) "bob";
        request.clients = (Sc__AttachRequest__Client *[]){&client};
        request.n_clients = 1;
        call(world->gateway, &method_gateway_attach, "", &request, on_attached, world);
}

/* --- the test --- */

static void make_directory(const World *world, const char *role) {
        _cleanup_free_ char *path = format_string("%s/%s", world->directory, role);

        assert_int_equal(mkdir(path, 0700), 0);
}

static int setup(void **state) {
        static const RpcClientHandlers gateway_handlers = {.on_push = on_push, .on_connect = on_connect};
        World *world = new0(World, 1);

        snprintf(world->directory, sizeof(world->directory), "/tmp/test-group-XXXXXX");
        assert_non_null(mkdtemp(world->directory));
        make_directory(world, "api");
        make_directory(world, "group");
        snprintf(world->address, sizeof(world->address), "%s/group/rpc.sock", world->directory);
        assert_true(sd_event_new(&world->event) >= 0);
        assert_int_equal(start_api(world), 0);
        start_program(world);
        assert_int_equal(
                rpc_client_new(&world->sender, world->event,
                        &(RpcClientConfig){
                                .address = world->address, .timeout_usec = TIMEOUT_USEC, .role = ROLE_API},
                        NULL, NULL),
                0);

        Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;
        request.user = (char *) "bob";
        call(world->sender, &method_conversation_open_direct, "ada", &request, on_opened, world);
        run_until(world, &world->n_answered, 1);
        world->n_answered = 0;
        assert_int_equal(rpc_client_new(&world->gateway, world->event,
                                 &(RpcClientConfig){.address = world->address,
                                         .timeout_usec = TIMEOUT_USEC,
                                         .role = ROLE_SOCKET},
                                 &gateway_handlers, world),
                0);
        run_until(world, &world->n_attached, 1);
        *state = world;
        return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static int teardown(void **state) {
        World *world = *state;

        end_program(world, SIGTERM);
        rpc_client_free(world->sender);
        rpc_client_free(world->gateway);
        rpc_server_free(world->api);
        sd_event_unref(world->event);
        nftw(world->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        free(world);
        return 0;
}

static void test_killed_under_load(void **state) {
        World *world = *state;

        for (unsigned i = 0; i < WINDOW; i++)
                send_next(world);
        for (unsigned i = 1; i < 8; i++) {
                run_until(world, &world->n_answered, i * N_MESSAGES / 8);
                /* What was answered just now has led to new requests: let them go out. */
                for (unsigned turns = 0; turns < 10; turns++)
                        assert_true(sd_event_run(world->event, 0) >= 0);
                end_program(world, i % 2 ? SIGKILL : SIGTERM);
                start_program(world);
        }
        run_until(world, &world->n_answered, N_MESSAGES);
        for (unsigned seq = 1; seq <= N_MESSAGES; seq++)
                assert_true(world->taken[seq]);
        while (world->heard_up_to < N_MESSAGES)
                assert_true(sd_event_run(world->event, TIMEOUT_USEC) > 0);
}

static void on_refused(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        World *world = userdata;

        assert_int_equal(code, ERROR_INVALID_ARGUMENT);
        world->n_answered++;
}

/* The rules of the definitions hold on this surface too. */
static void test_rules(void **state) {
        World *world = *state;
        Sc__SendRequest request = SC__SEND_REQUEST__INIT;
        _cleanup_free_ char *text = malloc(65538);

        memset(text, 'x', 65537);
        text[65537] = 0;
        request.conversation = world->conversation;
        request.body_case = SC__SEND_REQUEST__BODY_TEXT;
        request.text = text;
        call(world->sender, &method_message_send, "ada", &request, on_refused, world);
        request.text = (char *) "short";
        request.conversation = (char *) "no identifier";
        call(world->sender, &method_message_send, "ada", &request, on_refused, world);
        run_until(world, &world->n_answered, 2);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_killed_under_load, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rules, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
