/* SPDX-License-Identifier: Apache-2.0 */

/* stonechat-load: makes users, lets pairs of them talk over WebSocket, and measures. Bounded in connections
 * and time; talks to loopback only. Every connection checks that what it hears of its conversation has no
 * gap and no duplicate.
 *
 *   send   each pair keeps --outstanding messages under way, or all together send --rate a second; with
 *          --slice, says what CPU time a message costs the units in there
 *   idle   opens --connections and keeps them open for a moment; with --pid, says what one costs that
 *          process */

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "client.h"
#include "cpu.h"
#include "histogram.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define MAX_USERS 20000U
#define MAX_CONNECTIONS 19000U
#define MAX_SECONDS 300U
#define MAX_OUTSTANDING 1024U

typedef struct User {
        char *token;
} User;

typedef struct Connection {
        Client client; /* first */
        User *user;
        const char *conversation;
        bool ready;
        uint32_t next_id, n_outstanding;
        uint64_t sent_at[MAX_OUTSTANDING]; /* by id modulo MAX_OUTSTANDING; senders only */
} Connection;

/* What a connection has heard; apart, as idle connections and receivers need no more. */
typedef struct Heard {
        uint64_t offset;
} Heard;

static struct {
        struct sockaddr_in api, socket;
        unsigned users, connections, seconds, outstanding, rate, size, pid;
        const char *slice;
        bool progress;
} options = {.users = 64, .connections = 1000, .seconds = 10, .outstanding = 8, .size = 64};

static User users[MAX_USERS];
static char *conversations[MAX_USERS / 2];
static Connection *connections[MAX_CONNECTIONS];
static Heard heard[MAX_CONNECTIONS];
static unsigned n_ready;
static int epoll_fd;
static bool sending;
static Histogram ack_latency, receive_latency;
static uint64_t n_acked, n_received, n_errors, n_gaps, n_duplicates;

static void fail(const char *what, int r) {
        fprintf(stderr, "stonechat-load: %s: %s\n", what, r < 0 ? strerror(-r) : "unexpected answer");
        exit(1);
}

/* --- set-up over REST --- */

static json_t *call(const char *verb, const char *path, const char *token, json_t *body, unsigned expected) {
        json_t *answer = NULL;
        int r = rest_call(&options.api, verb, path, token, body, &answer);

        if (r != (int) expected) {
                _cleanup_free_ char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
                fprintf(stderr, "%s %s: %d %s\n", verb, path, r, strempty(text));
                fail(path, r < 0 ? r : 0);
        }
        return answer;
}

static void make_users(void) {
        static char *ids[MAX_USERS];
        char run[UUID_TEXT_SIZE];

        uuid_v7(run);
        for (unsigned i = 0; i < options.users; i++) {
                char name[32];
                /* The end of the id is its random part. */
                snprintf(name, sizeof(name), "load-%s-%u", run + UUID_TEXT_SIZE - 9, i);
                json_decref(call("POST", "/v1/auth/register", NULL,
                        json_pack("{s:s,s:s}", "username", name, "password", "load generator"), 201));
                json_t *answer = call("POST", "/v1/auth/login", NULL,
                        json_pack("{s:s,s:s}", "username", name, "password", "load generator"), 200);
                users[i].token = strdup(json_string_value(json_object_get(answer, "access_token")));
                ids[i] = strdup(json_string_value(json_object_get(json_object_get(answer, "user"), "id")));
                json_decref(answer);
                if (options.progress)
                        fprintf(stderr, "\r%u of %u users", i + 1, options.users);
        }
        for (unsigned i = 0; i + 1 < options.users; i += 2) {
                json_t *answer = call("POST", "/v1/conversations/direct", users[i].token,
                        json_pack("{s:s}", "user", ids[i + 1]), 200);
                conversations[i / 2] = strdup(
                        json_string_value(json_object_get(json_object_get(answer, "conversation"), "id")));
                json_decref(answer);
        }
        for (unsigned i = 0; i < options.users; i++)
                free(ids[i]);
        if (options.progress)
                fprintf(stderr, "\r\033[K");
}

/* --- connections --- */

static void watch_write(Connection *connection, bool on) {
        struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = connection};

        if (connection->client.wants_write == on)
                return;
        connection->client.wants_write = on;
        assert_se(epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->client.fd, &event) == 0);
}

static void flush_connection(Connection *connection) {
        int r = client_flush(&connection->client);
        if (r < 0)
                fail("write", r);
        watch_write(connection, r > 0);
}

static void send_message(Connection *connection) {
        static char padding[4096];
        char text[8192];
        uint64_t now = boottime_usec();
        char id[UUID_TEXT_SIZE];

        if (!*padding)
                memset(padding, 'x', sizeof(padding) - 1);
        uuid_v7(id);
        int n = snprintf(text, sizeof(text),
                "{\"id\":%" PRIu32 ",\"rpc\":{\"method\":\"message.send\",\"data\":{\"conversation\":\"%s\","
                "\"client_msg_id\":\"%s\",\"text\":\"%" PRIu64 " %.*s\"}}}",
                connection->next_id, connection->conversation, id, now, (int) options.size, padding);
        connection->sent_at[connection->next_id++ % MAX_OUTSTANDING] = now;
        connection->n_outstanding++;
        if (client_send(&connection->client, text, (size_t) n) < 0)
                fail("send", -ENOMEM);
}

static void fill_window(Connection *connection) {
        if (!sending || options.rate > 0)
                return;
        while (connection->n_outstanding < options.outstanding)
                send_message(connection);
}

static void on_reply(Connection *connection, uint32_t id, bool error) {
        if (id == 1) {
                if (error)
                        fail("connect refused", 0);
                connection->ready = true;
                n_ready++;
                return;
        }
        connection->n_outstanding--;
        if (error)
                n_errors++;
        else {
                n_acked++;
                histogram_add(&ack_latency, boottime_usec() - connection->sent_at[id % MAX_OUTSTANDING]);
        }
        fill_window(connection);
}

static void on_publication(Connection *connection, const char *text) {
        Heard *h = &heard[connection->client.index];
        const char *offset = strstr(text, "\"offset\":"), *body = strstr(text, "\"text\":\"");
        uint64_t seq;

        if (!offset || !body)
                return;
        seq = strtoull(offset + 9, NULL, 10);
        if (h->offset > 0 && seq != h->offset + 1) {
                if (seq <= h->offset)
                        n_duplicates++;
                else
                        n_gaps++;
        }
        h->offset = seq;
        n_received++;
        histogram_add(&receive_latency, boottime_usec() - strtoull(body + 8, NULL, 10));
}

static void on_line(Client *client, char *text, size_t size, void *userdata) {
        Connection *connection = CONTAINER_OF(client, Connection, client);
        char saved = text[size];

        text[size] = 0;
        if (size == 2) { /* {}: a ping */
                if (client_send(client, "{}", 2) < 0)
                        fail("pong", -ENOMEM);
        } else if (startswith(text, "{\"id\":"))
                on_reply(connection, (uint32_t) strtoul(text + 6, NULL, 10),
                        strstr(text, "\"error\":{") != NULL);
        else if (strstr(text, connection->conversation))
                on_publication(connection, text);
        text[size] = saved;
}

static void process_events(int timeout_msec) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, ELEMENTSOF(events), timeout_msec);

        for (int i = 0; i < n; i++) {
                Connection *connection = events[i].data.ptr;
                int r = client_receive(&connection->client, on_line, NULL);
                if (r < 0)
                        fail("connection lost", r);
                flush_connection(connection);
        }
}

static void connect_one(unsigned i) {
        Connection *connection = new0(Connection, 1);
        _cleanup_free_ char *command = NULL;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};

        assert_se(connection);
        connections[i] = connection;
        connection->client.index = i;
        connection->user = &users[i % options.users];
        connection->conversation = conversations[i % options.users / 2];
        connection->next_id = 2;
        int r = client_connect(&connection->client, &options.socket);
        if (r < 0)
                fail("connect", r);
        assert_se(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->client.fd, &event) == 0);
        command = format_string(
                "{\"id\":1,\"connect\":{\"token\":\"%s\",\"name\":\"load\"}}", connection->user->token);
        assert_se(command);
        if (client_send(&connection->client, command, strlen(command)) < 0)
                fail("connect", -ENOMEM);
        /* A few at a time, so that no accept queue overflows. */
        while (i + 1 - n_ready > 64)
                process_events(1000);
}

static void connect_all(unsigned n) {
        uint64_t begin = boottime_usec();

        for (unsigned i = 0; i < n; i++) {
                connect_one(i);
                flush_connection(connections[i]);
                process_events(0);
        }
        while (n_ready < n)
                process_events(1000);
        printf("  %u connections in %.2f s\n", n, (double) (boottime_usec() - begin) / 1e6);
}

/* --- modes --- */

static void show_progress(uint64_t begin) {
        static uint64_t shown;
        uint64_t now = boottime_usec();

        if (!options.progress || now - shown < USEC_PER_SEC)
                return;
        shown = now;
        fprintf(stderr, "\r%3.0f s  %" PRIu64 " acknowledged  %" PRIu64 " received\033[K",
                (double) (now - begin) / 1e6, n_acked, n_received);
}

/* At a fixed rate the senders take turns, however late the answers come: so a slow server cannot hide its
 * queue. */
static void send_due(uint64_t begin, uint64_t *n_sent, unsigned *next) {
        uint64_t due = (boottime_usec() - begin) * options.rate / USEC_PER_SEC;

        for (; *n_sent < due; (*n_sent)++) {
                Connection *connection = connections[*next];
                *next = (*next + 1) % options.users;
                if (connection->n_outstanding >= MAX_OUTSTANDING - 1)
                        continue;
                send_message(connection);
                flush_connection(connection);
        }
}

static void read_cpu(CpuUse *ret) {
        int r = options.slice ? cpu_read(ret, options.slice) : 0;
        if (r < 0)
                fail(options.slice, r);
}

static int run_send(void) {
        uint64_t n_sent = 0;
        unsigned next = 0;
        CpuUse cpu_begin = {}, cpu_end = {};

        connect_all(options.users);
        read_cpu(&cpu_begin);
        uint64_t begin = boottime_usec(), end = begin + options.seconds * USEC_PER_SEC;
        sending = true;
        for (unsigned i = 0; i < options.users; i++) {
                fill_window(connections[i]);
                flush_connection(connections[i]);
        }
        while (boottime_usec() < end) {
                if (options.rate > 0)
                        send_due(begin, &n_sent, &next);
                process_events(options.rate > 0 ? 1 : 100);
                show_progress(begin);
        }
        double seconds = (double) (boottime_usec() - begin) / 1e6;
        uint64_t n_acked_in_time = n_acked;
        read_cpu(&cpu_end);
        sending = false;
        /* What is still under way is waited for, but not counted in the rate. */
        uint64_t deadline = boottime_usec() + 5 * USEC_PER_SEC;
        bool busy = true;
        while (busy && boottime_usec() < deadline) {
                process_events(100);
                busy = false;
                for (unsigned i = 0; i < options.users; i++)
                        busy = busy || connections[i]->n_outstanding > 0;
        }
        process_events(200);
        if (options.progress)
                fprintf(stderr, "\r\033[K");
        printf("  %.0f messages/s acknowledged (%" PRIu64 " in %.1f s), %" PRIu64 " pushes, %" PRIu64
               " errors, %" PRIu64 " gaps, %" PRIu64 " duplicates%s\n",
                (double) n_acked_in_time / seconds, n_acked_in_time, seconds, n_received, n_errors, n_gaps,
                n_duplicates, busy ? ", UNANSWERED SENDS" : "");
        histogram_print(&ack_latency, "send to ack");
        histogram_print(&receive_latency, "send to receive");
        if (options.slice)
                cpu_print(&cpu_begin, &cpu_end, n_acked_in_time);
        return n_gaps > 0 || n_duplicates > 0 || busy;
}

static long resident_kib(unsigned pid) {
        char path[64], line[256];
        long kib = -1;

        snprintf(path, sizeof(path), "/proc/%u/status", pid);
        FILE *file = fopen(path, "re");
        if (!file)
                return -1;
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "VmRSS: %ld", &kib) == 1)
                        break;
        fclose(file);
        return kib;
}

static int run_idle(void) {
        long before = options.pid ? resident_kib(options.pid) : -1;

        connect_all(options.connections);
        uint64_t end = boottime_usec() + options.seconds * USEC_PER_SEC;
        while (boottime_usec() < end)
                process_events(200);
        if (before > 0) {
                long after = resident_kib(options.pid);
                printf("  resident %ld KiB before, %ld KiB with %u connections: %.2f KiB a connection\n",
                        before, after, options.connections, (double) (after - before) / options.connections);
        }
        return 0;
}

static int parse_options(int argc, char *argv[]) {
        static const struct option names[] = {
                {"api", required_argument, NULL, 'a'},
                {"socket", required_argument, NULL, 's'},
                {"users", required_argument, NULL, 'u'},
                {"connections", required_argument, NULL, 'c'},
                {"seconds", required_argument, NULL, 't'},
                {"outstanding", required_argument, NULL, 'o'},
                {"rate", required_argument, NULL, 'r'},
                {"size", required_argument, NULL, 'b'},
                {"pid", required_argument, NULL, 'p'},
                {"slice", required_argument, NULL, 'l'},
                {},
        };
        uint64_t value;
        int c, r = 0;

        while (r >= 0 && (c = getopt_long(argc, argv, "", names, NULL)) >= 0) {
                struct {
                        unsigned *option, max;
                } numbers[] = {
                        ['u'] = {&options.users, MAX_USERS},
                        ['c'] = {&options.connections, MAX_CONNECTIONS},
                        ['t'] = {&options.seconds, MAX_SECONDS},
                        ['o'] = {&options.outstanding, MAX_OUTSTANDING - 1},
                        ['r'] = {&options.rate, 1000000},
                        ['b'] = {&options.size, 4000},
                        ['p'] = {&options.pid, INT32_MAX},
                };
                if (c == 'a')
                        r = parse_endpoint(optarg, &options.api);
                else if (c == 's')
                        r = parse_endpoint(optarg, &options.socket);
                else if (c == 'l')
                        options.slice = optarg;
                else if (c == '?')
                        return -EINVAL;
                else if ((r = parse_u64(optarg, numbers[c].max, &value)) >= 0)
                        *numbers[c].option = (unsigned) value;
        }
        return r < 0 || options.users < 2 || options.users % 2 ? -EINVAL : 0;
}

int main(int argc, char *argv[]) {
        static const char usage[] =
                "stonechat-load [OPTION …] send|idle\n"
                "  --api=127.0.0.1:8080 --socket=127.0.0.1:8090   where the server is (loopback only)\n"
                "  --users=N          an even number of users, half as many conversations (64)\n"
                "  --seconds=N        how long (10)\n"
                "  --outstanding=N    messages under way a user (8), or\n"
                "  --rate=N           messages a second by all together\n"
                "  --size=N           bytes of text in a message (64)\n"
                "  --slice=DIRECTORY  for send: the control group of the server's units\n"
                "  --connections=N    for idle: how many (1000)\n"
                "  --pid=N            for idle: the process whose memory counts\n";

        assert_se(parse_endpoint("127.0.0.1:8080", &options.api) == 0);
        assert_se(parse_endpoint("127.0.0.1:8090", &options.socket) == 0);
        options.progress = isatty(STDERR_FILENO);
        if (parse_options(argc, argv) < 0 || optind != argc - 1 ||
                (!streq(argv[optind], "send") && !streq(argv[optind], "idle"))) {
                fputs(usage, stderr);
                return 2;
        }
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        assert_se(epoll_fd >= 0);
        make_users();
        return streq(argv[optind], "send") ? run_send() : run_idle();
}
