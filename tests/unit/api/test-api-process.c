/* SPDX-License-Identifier: Apache-2.0 */

/* The real program over its socket, on SQLite: it is killed and ended between the end of a session and the
 * moment at which the group role, made here, has been told of it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "rpc/rpc.h"
#include "schema-tables.h"
#include "service/token.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define TIMEOUT_USEC (30 * USEC_PER_SEC)

typedef struct World {
        char directory[32];
        char api[64], group[64], http[64]; /* addresses */
        sd_event *event;
        pid_t program;
        RpcClient *client;
        RpcServer *group_role; /* NULL: it is not there */

        /* the answer to the last call */
        bool answered;
        Sc__ErrorCode code;
        char user[64], session[64]; /* that signed in last */

        /* what the group role was told */
        bool hold; /* do not answer */
        RpcRequest *held;
        unsigned n_told;
        uint64_t told_number;
        char told_session[64];
} World;

/* --- the program --- */

static void start_program(World *world, bool with_key) {
        _cleanup_free_ char *rpc = format_string("--listen=rpc=%s", world->api);
        _cleanup_free_ char *http = format_string("--listen=http=%s", world->http);

        assert_true(rpc && http);
        /* One that has not noticed yet that its peer has gone would send to nobody. */
        rpc_client_free(world->client);
        assert_int_equal(
                rpc_client_new(&world->client, world->event,
                        &(RpcClientConfig){
                                .address = world->api, .timeout_usec = TIMEOUT_USEC, .role = ROLE_SOCKET},
                        NULL, NULL),
                0);
        world->program = fork();
        assert_true(world->program >= 0);
        if (world->program > 0)
                return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setenv("STATE_DIRECTORY", world->directory, 1);
        setenv("STONECHAT_RUNTIME_DIRECTORY", world->directory, 1);
        setenv("CREDENTIALS_DIRECTORY", with_key ? world->directory : "/nonexistent", 1);
        setenv("STONECHAT_AUTH_HASHMEMORY", "8K", 1);
        setenv("STONECHAT_AUTH_HASHOPERATIONS", "1", 1);
        execl(API_PROGRAM, API_PROGRAM, rpc, http, "--config-directory=/nonexistent", NULL);
        _exit(127);
}

static int wait_for_program(World *world) {
        int status = 0;

        assert_int_equal(waitpid(world->program, &status, 0), world->program);
        world->program = 0;
        return status;
}

static void end_program(World *world, int number) {
        assert_int_equal(kill(world->program, number), 0);
        int status = wait_for_program(world);
        if (number == SIGTERM)
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        else
                assert_true(WIFSIGNALED(status));
}

static void run_until(World *world, const bool *what) {
        uint64_t deadline = boottime_usec() + TIMEOUT_USEC;

        while (!*what) {
                assert_true(boottime_usec() < deadline);
                assert_true(sd_event_run(world->event, 100 * USEC_PER_MSEC) >= 0);
        }
}

/* --- the group role --- */

static void on_group_request(RpcRequest *request, const RpcMessage *message, void *userdata) {
        World *world = userdata;

        assert_string_equal(message->method, "inbox.session_ended");
        Sc__InboxSessionEndedRequest *ended =
                sc__inbox_session_ended_request__unpack(NULL, message->payload_size, message->payload);
        assert_non_null(ended);
        assert_non_null(message->intent);
        assert_string_equal(message->intent->source, ended->user);
        snprintf(world->told_session, sizeof(world->told_session), "%s", ended->session);
        world->told_number = message->intent->number;
        world->n_told++;
        sc__inbox_session_ended_request__free_unpacked(ended, NULL);
        if (world->hold) {
                assert_null(world->held);
                world->held = request;
        } else
                rpc_request_reply(request, NULL, 0);
}

static void start_group(World *world) {
        static const RpcServerHandlers handlers = {.on_request = on_group_request};
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        strcpy(address.sun_path, world->group);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 8), 0);
        assert_int_equal(
                rpc_server_new(&world->group_role, world->event, fd, ROLE_GROUP, &handlers, world), 0);
}

static void stop_group(World *world) {
        if (world->held)
                rpc_request_fail(TAKE_PTR(world->held), ERROR_UNAVAILABLE, "");
        world->group_role = rpc_server_free(world->group_role);
        (void) unlink(world->group);
}

static void wait_until_told(World *world, unsigned n) {
        while (world->n_told < n)
                assert_true(sd_event_run(world->event, TIMEOUT_USEC) > 0);
        assert_int_equal(world->n_told, n);
}

/* --- calls --- */

static void on_reply(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        World *world = userdata;

        world->answered = true;
        world->code = code;
}

static void on_signed_in(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        World *world = userdata;

        on_reply(code, detail, payload, size, userdata);
        if (code != ERROR_NONE)
                return;
        Sc__TokenResponse *response = sc__token_response__unpack(NULL, size, payload);
        assert_non_null(response);
        snprintf(world->user, sizeof(world->user), "%s", response->user->id);
        snprintf(world->session, sizeof(world->session), "%s", response->session);
        sc__token_response__free_unpacked(response, NULL);
}

static void call(World *world, const MethodInfo *method, const Sc__Caller *caller, const void *request,
        RpcReply reply) {
        uint8_t payload[512];
        RpcMessage message = {.method = method->name,
                .caller = caller,
                .timeout_usec = TIMEOUT_USEC,
                .payload = payload,
                .payload_size = protobuf_c_message_pack(request, payload)};

        world->answered = false;
        assert_int_equal(rpc_client_call(world->client, method, &message, reply, world), 0);
        run_until(world, &world->answered);
        assert_int_equal(world->code, ERROR_NONE);
}

static void sign_up(World *world) {
        Sc__RegisterRequest request = SC__REGISTER_REQUEST__INIT;

        request.username = (char *) "ann";
        request.password = (char *) "correct horse";
        call(world, &method_auth_register, NULL, &request, on_reply);
}

static void sign_in(World *world) {
        Sc__LoginRequest request = SC__LOGIN_REQUEST__INIT;

        request.username = (char *) "ann";
        request.password = (char *) "correct horse";
        call(world, &method_auth_login, NULL, &request, on_signed_in);
}

static void sign_out(World *world) {
        Sc__LogoutRequest request = SC__LOGOUT_REQUEST__INIT;
        Sc__Caller caller = SC__CALLER__INIT;

        caller.user = world->user;
        caller.session = world->session;
        call(world, &method_auth_logout, &caller, &request, on_reply);
}

/* --- tests --- */

static void make_directory(const World *world, const char *role) {
        _cleanup_free_ char *path = format_string("%s/%s", world->directory, role);

        assert_int_equal(mkdir(path, 0700), 0);
}

static void write_credential(const World *world, const char *name, const char *content) {
        _cleanup_free_ char *path = format_string("%s/%s", world->directory, name);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_int_equal(write(fd, content, strlen(content)), strlen(content));
}

static int setup(void **state) {
        _cleanup_free_ char *private_pem = NULL, *public_pem = NULL;
        World *world = new0(World, 1);

        snprintf(world->directory, sizeof(world->directory), "/tmp/test-api-XXXXXX");
        assert_non_null(mkdtemp(world->directory));
        make_directory(world, "api");
        make_directory(world, "group");
        snprintf(world->api, sizeof(world->api), "%s/api/rpc.sock", world->directory);
        snprintf(world->group, sizeof(world->group), "%s/group/rpc.sock", world->directory);
        snprintf(world->http, sizeof(world->http), "%s/http.sock", world->directory);
        assert_int_equal(token_key_generate(&private_pem, &public_pem), 0);
        write_credential(world, TOKEN_PRIVATE_CREDENTIAL, private_pem);
        write_credential(world, TOKEN_PUBLIC_CREDENTIAL, public_pem);
        assert_true(sd_event_new(&world->event) >= 0);
        *state = world;
        return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static int teardown(void **state) {
        World *world = *state;

        if (world->program > 0)
                end_program(world, SIGTERM);
        rpc_client_free(world->client);
        stop_group(world);
        sd_event_unref(world->event);
        nftw(world->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        free(world);
        return 0;
}

/* It cannot start, says so, and ends in order. */
static void test_no_key(void **state) {
        World *world = *state;

        start_program(world, false);
        int status = wait_for_program(world);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
}

static void end_between_cause_and_delivery(World *world, int number) {
        char session[64];

        start_program(world, true);
        sign_up(world);
        sign_in(world);
        sign_out(world); /* is answered, though the group role is not there */
        strcpy(session, world->session);
        /* Before anybody was asked: */
        end_program(world, number);
        start_program(world, true);
        world->hold = true;
        start_group(world);
        wait_until_told(world, 1);
        assert_string_equal(world->told_session, session);
        uint64_t told_number = world->told_number;
        /* Before the answer was there: the next process tells it again, under the same number. */
        end_program(world, number);
        world->hold = false;
        if (world->held)
                rpc_request_reply(TAKE_PTR(world->held), NULL, 0); /* to nobody */
        start_program(world, true);
        wait_until_told(world, 2);
        assert_string_equal(world->told_session, session);
        assert_int_equal(world->told_number, told_number);
        /* After it: what comes now is the next one. */
        sign_in(world);
        sign_out(world);
        wait_until_told(world, 3);
        assert_string_equal(world->told_session, world->session);
        assert_int_equal(world->told_number, told_number + 1);
        /* That it was answered may not be stored yet: then it comes once more, before the next one. */
        end_program(world, number);
        start_program(world, true);
        sign_in(world);
        sign_out(world);
        while (world->told_number != told_number + 2)
                assert_true(sd_event_run(world->event, TIMEOUT_USEC) > 0);
        assert_string_equal(world->told_session, world->session);
        assert_true(world->n_told <= 5);
}

static void test_killed(void **state) {
        end_between_cause_and_delivery(*state, SIGKILL);
}

static void test_ended(void **state) {
        end_between_cause_and_delivery(*state, SIGTERM);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_no_key),
                TEST(test_killed),
                TEST(test_ended),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
