/* SPDX-License-Identifier: Apache-2.0 */

/* stonechat-load: makes users, lets them talk over WebSocket, and measures. Bounded in connections and time; talks
 * to loopback only. Every connection checks that what it hears of a conversation has no gap and no duplicate, and that
 * the texts of each sender, which are numbered, come in the order in which they were sent, all of them: what failed is
 * sent again before anything new (lane.h).
 *
 *   send   each user keeps --outstanding messages under way in each of his conversations, or all together send
 *          --rate a second; with --slice, says what CPU time a message costs the units in there
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
#include "lane.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define MAX_USERS 20000U
#define MAX_CONNECTIONS 19000U
#define MAX_SECONDS 300U
#define MAX_OUTSTANDING 1024U /* of a user */
#define MAX_PEERS 64U

typedef struct User {
        char *token;
} User;

/* What a connection knows of a conversation of its user. */
typedef struct Talk {
        const char *conversation;
        Lane lane;
        uint64_t born
                [LANE_WINDOW]; /* when a text was sent first: it says so, and is the same when sent again */
        uint64_t newest; /* number of the last text that was sent */
        uint64_t offset; /* heard up to here; 0: nothing yet */
        uint64_t heard[2]; /* the number of the last text heard: the user's own, the other's */
} Talk;

typedef struct Sent {
        uint64_t at, number;
        Talk *talk;
} Sent;

typedef struct Connection {
        Client client; /* first */
        User *user;
        bool ready;
        uint32_t next_id;
        unsigned n_outstanding, turn; /* whose turn it is of the talks, at a fixed rate */
        Talk *talks; /* these two: only where messages are sent */
        Sent *sent; /* by id modulo MAX_OUTSTANDING */
} Connection;

static struct {
        struct sockaddr_in api, socket;
        unsigned users, connections, seconds, outstanding, peers, rate, size, pid;
        const char *slice, *before;
        bool progress;
} options = {.users = 64, .connections = 1000, .seconds = 10, .outstanding = 8, .peers = 1, .size = 64};

static User users[MAX_USERS];
/* Of a user with the one so many places behind, in a group of users in which each talks to each. */
static char *(*conversations)[MAX_PEERS];
static Connection *connections[MAX_CONNECTIONS];
static unsigned n_ready;
static int epoll_fd;
static bool sending;
static Histogram ack_latency, receive_latency;
static uint64_t n_acked, n_received, n_gaps, n_duplicates, n_disordered;

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

/* Users talk in groups of peers + 1, each with each: the k-th other of user i. */
static unsigned peer_of(unsigned i, unsigned k) {
        unsigned group = options.peers + 1, first = i - i % group;

        return first + k + (first + k >= i);
}

static void open_conversation(unsigned i, unsigned other, char *const *ids) {
        unsigned group = options.peers + 1;

        json_t *answer = call("POST", "/v1/conversations/direct", users[i].token,
                json_pack("{s:s}", "user", ids[other]), 200);
        char *id = strdup(json_string_value(json_object_get(json_object_get(answer, "conversation"), "id")));
        json_decref(answer);
        conversations[i][other % group - 1] = id;
        conversations[other][i % group] = id;
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
        conversations = calloc(options.users, sizeof(*conversations));
        assert_se(conversations);
        for (unsigned i = 0; i < options.users; i++)
                for (unsigned k = 0; k < options.peers; k++)
                        if (peer_of(i, k) > i)
                                open_conversation(i, peer_of(i, k), ids);
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

static void send_message(Connection *connection, Talk *talk, uint64_t number) {
        static char padding[4096];
        char text[8192];
        uint64_t now = boottime_usec(), *born = &talk->born[number % LANE_WINDOW];

        if (!*padding)
                memset(padding, 'x', sizeof(padding) - 1);
        if (number > talk->newest) {
                talk->newest = number;
                *born = now;
        }
        int n = snprintf(text, sizeof(text),
                "{\"id\":%" PRIu32 ",\"rpc\":{\"method\":\"message.send\",\"data\":{\"conversation\":\"%s\","
                "\"client_msg_id\":\"load-%08u-%02u-%019" PRIu64 "\",\"text\":\"%" PRIu64 " %u %" PRIu64
                " %.*s\"}}}",
                connection->next_id, talk->conversation, connection->client.index,
                (unsigned) (talk - connection->talks), number, *born, connection->client.index, number,
                (int) options.size, padding);
        connection->sent[connection->next_id++ % MAX_OUTSTANDING] = (Sent){now, number, talk};
        connection->n_outstanding++;
        if (client_send(&connection->client, text, (size_t) n) < 0)
                fail("send", -ENOMEM);
}

static void fill_window(Connection *connection, Talk *talk) {
        uint64_t number;

        if (!sending || options.rate > 0)
                return;
        while ((number = lane_next(&talk->lane, options.outstanding)))
                send_message(connection, talk, number);
}

static void on_reply(Connection *connection, uint32_t id, bool error) {
        if (id == 1) {
                if (error)
                        fail("connect refused", 0);
                connection->ready = true;
                n_ready++;
                return;
        }
        const Sent *sent = &connection->sent[id % MAX_OUTSTANDING];
        connection->n_outstanding--;
        lane_answered(&sent->talk->lane, sent->number, error);
        if (!error) {
                n_acked++;
                histogram_add(&ack_latency, boottime_usec() - sent->at);
        }
        fill_window(connection, sent->talk);
}

static Talk *find_talk(Connection *connection, const char *text) {
        static const char name[] = "\"channel\":\"";
        const char *channel = strstr(text, name);

        for (unsigned k = 0; k < options.peers && channel && connection->talks; k++)
                if (startswith(channel + strlen(name), connection->talks[k].conversation))
                        return &connection->talks[k];
        return NULL;
}

static void check_offset(Talk *talk, uint64_t offset) {
        if (talk->offset > 0 && offset != talk->offset + 1) {
                if (offset <= talk->offset)
                        n_duplicates++;
                else
                        n_gaps++;
        }
        talk->offset = offset;
}

static void on_publication(Connection *connection, Talk *talk, const char *text) {
        const char *offset = strstr(text, "\"offset\":"), *body = strstr(text, "\"text\":\"");
        char *end;

        if (!offset || !body)
                return;
        check_offset(talk, strtoull(offset + 9, NULL, 10));
        uint64_t at = strtoull(body + 8, &end, 10);
        unsigned sender = (unsigned) strtoul(end, &end, 10);
        uint64_t number = strtoull(end, NULL, 10), *heard = &talk->heard[sender != connection->client.index];
        n_disordered += number != *heard + 1;
        *heard = MAX(*heard, number);
        n_received++;
        histogram_add(&receive_latency, boottime_usec() - at);
}

static void on_line(Client *client, char *text, size_t size, void *userdata) {
        Connection *connection = CONTAINER_OF(client, Connection, client);
        char saved = text[size];
        Talk *talk;

        text[size] = 0;
        if (size == 2) { /* {}: a ping */
                if (client_send(client, "{}", 2) < 0)
                        fail("pong", -ENOMEM);
        } else if (startswith(text, "{\"id\":"))
                on_reply(connection, (uint32_t) strtoul(text + 6, NULL, 10),
                        strstr(text, "\"error\":{") != NULL);
        else if ((talk = find_talk(connection, text)))
                on_publication(connection, talk, text);
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

static void prepare_to_talk(Connection *connection) {
        connection->talks = calloc(options.peers, sizeof(Talk));
        connection->sent = calloc(MAX_OUTSTANDING, sizeof(Sent));
        assert_se(connection->talks && connection->sent);
        for (unsigned k = 0; k < options.peers; k++) {
                connection->talks[k].conversation = conversations[connection->client.index][k];
                lane_init(&connection->talks[k].lane);
        }
}

static void connect_all(unsigned n, bool talk) {
        uint64_t begin = boottime_usec();

        for (unsigned i = 0; i < n; i++) {
                connect_one(i);
                if (talk)
                        prepare_to_talk(connections[i]);
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
                Talk *talk = &connection->talks[connection->turn++ % options.peers];
                *next = (*next + 1) % options.users;
                if (connection->n_outstanding >= MAX_OUTSTANDING - 1)
                        continue;
                uint64_t number = lane_next(&talk->lane, LANE_WINDOW);
                if (number == 0)
                        continue;
                send_message(connection, talk, number);
                flush_connection(connection);
        }
}

static void read_cpu(CpuUse *ret) {
        int r = options.slice ? cpu_read(ret, options.slice) : 0;
        if (r < 0)
                fail(options.slice, r);
}

static bool is_busy(void) {
        for (unsigned i = 0; i < options.users; i++)
                if (connections[i]->n_outstanding > 0)
                        return true;
        return false;
}

static void sum_lanes(uint64_t *ret_errors, uint64_t *ret_overtaken) {
        for (unsigned i = 0; i < options.users; i++)
                for (unsigned k = 0; k < options.peers; k++) {
                        *ret_errors += connections[i]->talks[k].lane.n_errors;
                        *ret_overtaken += connections[i]->talks[k].lane.n_overtaken;
                }
}

static int run_send(void) {
        uint64_t n_sent = 0, n_errors = 0, n_overtaken = 0;
        unsigned next = 0;
        CpuUse cpu_begin = {}, cpu_end = {};

        connect_all(options.users, true);
        if (options.before && system(options.before) != 0)
                fail(options.before, 0);
        read_cpu(&cpu_begin);
        uint64_t begin = boottime_usec(), end = begin + options.seconds * USEC_PER_SEC;
        sending = true;
        for (unsigned i = 0; i < options.users; i++) {
                for (unsigned k = 0; k < options.peers; k++)
                        fill_window(connections[i], &connections[i]->talks[k]);
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
        while (is_busy() && boottime_usec() < deadline)
                process_events(100);
        bool busy = is_busy();
        process_events(200);
        sum_lanes(&n_errors, &n_overtaken);
        if (options.progress)
                fprintf(stderr, "\r\033[K");
        printf("  %.0f messages/s acknowledged (%" PRIu64 " in %.1f s), %" PRIu64 " pushes, %" PRIu64
               " errors, %" PRIu64 " gaps, %" PRIu64 " duplicates, %" PRIu64 " out of order, %" PRIu64
               " stored though one before failed%s\n",
                (double) n_acked_in_time / seconds, n_acked_in_time, seconds, n_received, n_errors, n_gaps,
                n_duplicates, n_disordered, n_overtaken, busy ? ", UNANSWERED SENDS" : "");
        histogram_print(&ack_latency, "send to ack");
        histogram_print(&receive_latency, "send to receive");
        if (options.slice)
                cpu_print(&cpu_begin, &cpu_end, n_acked_in_time);
        return n_gaps > 0 || n_duplicates > 0 || n_disordered > 0 || n_overtaken > 0 || busy;
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

        connect_all(options.connections, false);
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
                {"peers", required_argument, NULL, 'k'},
                {"before", required_argument, NULL, 'B'},
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
                        ['k'] = {&options.peers, MAX_PEERS},
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
                else if (c == 'B')
                        options.before = optarg;
                else if (c == '?')
                        return -EINVAL;
                else if ((r = parse_u64(optarg, numbers[c].max, &value)) >= 0)
                        *numbers[c].option = (unsigned) value;
        }
        if (r < 0 || options.peers == 0 || options.users == 0 || options.users % (options.peers + 1) != 0)
                return -EINVAL;
        return options.peers * options.outstanding < MAX_OUTSTANDING ? 0 : -EINVAL;
}

int main(int argc, char *argv[]) {
        static const char usage[] =
                "stonechat-load [OPTION …] send|idle\n"
                "  --api=127.0.0.1:8080 --socket=127.0.0.1:8090   where the server is (loopback only)\n"
                "  --users=N          how many, a multiple of peers + 1 (64)\n"
                "  --peers=N          others that each user talks with, in a conversation each (1)\n"
                "  --seconds=N        how long (10)\n"
                "  --outstanding=N    messages under way of a user in a conversation (8), or\n"
                "  --rate=N           messages a second by all together\n"
                "  --size=N           bytes of text in a message (64)\n"
                "  --before=COMMAND   for send: a shell command to run when all are connected\n"
                "  --slice=DIRECTORY  for send: the control group of the server's units\n"
                "  --connections=N    for idle: how many (1000)\n"
                "  --pid=N            for idle: the process whose memory counts\n";

        assert_se(parse_endpoint("127.0.0.1:8080", &options.api) == 0);
        assert_se(parse_endpoint("127.0.0.1:8090", &options.socket) == 0);
        setlinebuf(stdout); /* tests/bench/run waits for what it says */
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
