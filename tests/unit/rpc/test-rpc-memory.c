/* SPDX-License-Identifier: Apache-2.0 */

/* One conversation between client and server, again and again, each time with another allocation that fails:
 * every call that was accepted is answered exactly once, whatever happens. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "log/log.h"
#include "rpc/rpc.h"
#include "schema-tables.h"
#include "util/time-util.h"

/* Sanitizers have an allocator of their own. */
#if defined(__SANITIZE_ADDRESS__)
#define CAN_FAIL 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAN_FAIL 0
#else
#define CAN_FAIL 1
#endif
#else
#define CAN_FAIL 1
#endif

static unsigned n_allocations, fail_at; /* 0: never */

#if CAN_FAIL
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static bool fails(void) {
        return fail_at > 0 && ++n_allocations == fail_at;
}

__attribute__((visibility("default"))) void *malloc(size_t size) {
        return fails() ? NULL : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size) {
        return fails() ? NULL : __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size) {
        return fails() ? NULL : __libc_realloc(p, size);
}
#endif

static const MethodInfo method_again = {.name = "test.again", .idempotent = true};
static const MethodInfo method_once = {.name = "test.once"};

static unsigned n_replies;

static void on_request(RpcRequest *request, const RpcMessage *message, void *userdata) {
        (void) rpc_connection_push(rpc_request_connection(request), "push", NULL, "x", 1);
        rpc_request_reply(request, message->payload, message->payload_size);
}

static void on_reply(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        unsigned *count = userdata;

        (*count)++;
        n_replies++;
        assert_true((code == ERROR_NONE) == (payload != NULL));
}

static void on_push(const RpcMessage *message, void *userdata) {
        assert_int_equal(message->payload_size, 1);
}

static int listen_unix(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, path);
        (void) unlink(path);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 8), 0);
        return fd;
}

/* The loop itself may be what runs out of memory; then the role would end. */
static int converse(sd_event *event, RpcClient *client, unsigned counts[static 4], bool accepted[static 4]) {
        static char payload[20000];
        Sc__Caller caller = SC__CALLER__INIT;
        Trace trace = {};
        unsigned n_accepted = 0;

        caller.user = (char *) "user";
        n_replies = 0;
        for (size_t i = 0; i < 4; i++) {
                const RpcMessage message = {.payload = payload,
                        .payload_size = i % 2 ? sizeof(payload) : 3,
                        .caller = &caller,
                        .trace = &trace,
                        .timeout_usec = 100 * USEC_PER_MSEC};
                if (i == 2) /* the later two on a connection */
                        for (unsigned turns = 0; turns < 20; turns++)
                                if (sd_event_run(event, USEC_PER_MSEC) < 0)
                                        return -ENOMEM;
                accepted[i] = rpc_client_call(client, i < 3 ? &method_again : &method_once, &message,
                                      on_reply, &counts[i]) >= 0;
                n_accepted += accepted[i];
        }
        uint64_t end = boottime_usec() + 20 * USEC_PER_SEC;
        while (n_replies < n_accepted) {
                assert_true(boottime_usec() < end);
                if (sd_event_run(event, 10 * USEC_PER_MSEC) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static void run(const char *path, unsigned n) {
        static const RpcServerHandlers server_handlers = {.on_request = on_request};
        static const RpcClientHandlers client_handlers = {.on_push = on_push};
        _cleanup_(rpc_server_freep) RpcServer *server = NULL;
        _cleanup_(rpc_client_freep) RpcClient *client = NULL;
        unsigned counts[4] = {};
        bool accepted[4] = {};
        sd_event *event;

        assert_true(sd_event_new(&event) >= 0);
        int fd = listen_unix(path);
        n_allocations = 0;
        fail_at = n;
        const RpcClientConfig config = {.address = path, .timeout_usec = USEC_PER_SEC, .role = ROLE_SOCKET};
        if (rpc_server_new(&server, event, fd, ROLE_GROUP, &server_handlers, NULL) >= 0 &&
                rpc_client_new(&client, event, &config, &client_handlers, NULL) >= 0)
                (void) converse(event, client, counts, accepted);
        client = rpc_client_free(client);
        server = rpc_server_free(server);
        fail_at = 0;
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(counts[i], accepted[i]);
        if (n == UINT32_MAX)
                assert_int_equal(accepted[0] + accepted[1] + accepted[2] + accepted[3], 4);
        sd_event_unref(event);
}

static void test_every_allocation(void **state) {
        char directory[] = "/tmp/test-rpc-memory-XXXXXX", path[64];

        assert_non_null(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/socket", directory);
        log_set_level(LOG_ERR);
        run(path, UINT32_MAX);
        unsigned n_total = n_allocations;
        assert_true(!CAN_FAIL || n_total > 20);
        for (unsigned n = 1; n <= n_total; n++)
                run(path, n);
        printf("%u allocations failed in turn\n", n_total);
        unlink(path);
        rmdir(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_allocation),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
