/* SPDX-License-Identifier: Apache-2.0 */

/* One account reads the history of its conversations as fast as it can, over many connections: by the socket's
 * commands and then over REST. Beside it pairs of others talk. The greedy one is a process of its own that gives
 * way to the others: it would be another machine. */

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "scenario/device.h"
#include "scenario/roles.h"
#include "scenario/scenarios.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define N_CONNECTIONS 50U
#define N_UNDER_WAY 4U /* commands of one connection */
#define N_CONVERSATIONS 5U
#define HISTORY_SIZE 3000000U
#define MESSAGE_SIZE 3000U
#define RETRY_USEC (250 * USEC_PER_MSEC) /* more often, and it would be disconnected */

/* What the greedy one tells, in memory that both processes share. */
typedef struct Loot {
        uint64_t n_pages, n_bytes, n_refused;
        Codes ended;
} Loot;

static Loot *loot;
static Conversation conversations[N_CONVERSATIONS];
static const Person *greedy;

/* --- over the socket --- */

typedef struct Reader {
        Endpoint endpoint; /* first */
        const Conversation *conversation;
        bool ready;
        uint32_t next_command;
        uint64_t positions[N_UNDER_WAY]; /* of the command with this id modulo N_UNDER_WAY */
        unsigned n_waiting; /* refused, to be asked again */
        uint64_t due_at;
} Reader;

static Reader readers[N_CONNECTIONS];

static void read_page(Reader *reader, uint64_t position) {
        char text[256];
        uint32_t id = ++reader->next_command;
        int n;

        reader->positions[id % N_UNDER_WAY] = position;
        if (reader->endpoint.client.index % 2)
                n = snprintf(text, sizeof(text),
                        "{\"id\":%" PRIu32
                        ",\"history\":{\"channel\":\"%s\",\"limit\":1000,\"since\":{\"offset\":%" PRIu64
                        "}}}",
                        id, reader->conversation->id, position);
        else
                n = snprintf(text, sizeof(text),
                        "{\"id\":%" PRIu32
                        ",\"rpc\":{\"method\":\"message.history\",\"data\":{\"conversation\":\"%s\","
                        "\"after\":%" PRIu64 ",\"oldest\":true,\"limit\":1000}}}",
                        id, reader->conversation->id, position);
        endpoint_send(&reader->endpoint, text, (size_t) n);
}

/* The seq of the last message of a page, 0 if the page is empty or the conversation's last. */
static uint64_t next_position(const char *text, size_t size) {
        static const char name[] = "\"seq\":";

        for (const char *p = text + size - sizeof(name); p > text; p--)
                if (memcmp(p, name, sizeof(name) - 1) == 0) {
                        uint64_t seq = strtoull(p + sizeof(name) - 1, NULL, 10);
                        return seq >= HISTORY_SIZE / MESSAGE_SIZE ? 0 : seq;
                }
        return 0;
}

static void reader_on_line(Endpoint *endpoint, char *text, size_t size) {
        Reader *reader = (Reader *) endpoint;
        const char *rest = startswith(text, "{\"id\":");
        char *end;

        if (!rest)
                return;
        uint32_t id = (uint32_t) strtoul(rest, &end, 10);
        bool refused = startswith(end, ",\"error\"");
        if (id == 1) {
                for (unsigned i = 0; i < N_UNDER_WAY && !refused; i++)
                        read_page(reader, 0);
                return;
        }
        loot->n_bytes += size;
        if (refused) {
                loot->n_refused++;
                reader->n_waiting++;
                reader->due_at = boottime_usec() + RETRY_USEC;
                return;
        }
        loot->n_pages++;
        read_page(reader, next_position(text, size));
}

static void reader_on_end(Endpoint *endpoint, int error) {
        Reader *reader = (Reader *) endpoint;

        codes_add(&loot->ended, endpoint->client.close_code);
        reader->due_at = boottime_usec() + RETRY_USEC;
}

static void reader_connect(Reader *reader) {
        char text[4096];

        reader->n_waiting = 0;
        reader->next_command = 1;
        if (endpoint_open(&reader->endpoint, greedy->address) < 0) {
                reader->due_at = boottime_usec() + RETRY_USEC;
                return;
        }
        int n = snprintf(text, sizeof(text), "{\"id\":1,\"connect\":{\"token\":\"%s\"}}", greedy->token);
        endpoint_send(&reader->endpoint, text, (size_t) n);
}

static void readers_tick(void *userdata) {
        uint64_t now = boottime_usec();

        FOREACH_ARRAY(reader, readers, N_CONNECTIONS) {
                if (reader->due_at == 0 || reader->due_at > now)
                        continue;
                reader->due_at = 0;
                if (!endpoint_is_open(&reader->endpoint))
                        reader_connect(reader);
                for (; reader->n_waiting > 0; reader->n_waiting--)
                        read_page(reader, 0);
        }
}

static void be_greedy_over_socket(void) {
        loop_forget();
        for (unsigned i = 0; i < N_CONNECTIONS; i++) {
                readers[i] = (Reader){.conversation = &conversations[i % N_CONVERSATIONS]};
                readers[i].endpoint.client.index = i;
                readers[i].endpoint.on_line = reader_on_line;
                readers[i].endpoint.on_end = reader_on_end;
                reader_connect(&readers[i]);
        }
        loop_on_tick(readers_tick, NULL);
        for (;;)
                loop_turn(10);
}

/* --- over REST --- */

_Noreturn static void *read_over_rest(void *userdata) {
        const Conversation *conversation = userdata;
        uint64_t position = 0;

        for (;;) {
                char path[128];
                size_t size = 0;
                _cleanup_free_ char *body = NULL;

                snprintf(path, sizeof(path),
                        "/v1/conversations/%s/messages?limit=1000&after=%" PRIu64 "&oldest=true",
                        conversation->id, position);
                int status = rest_read(&options.api, greedy->address, path, greedy->token, &body, &size);
                __atomic_fetch_add(&loot->n_bytes, size, __ATOMIC_RELAXED);
                if (status == 200) {
                        __atomic_fetch_add(&loot->n_pages, 1, __ATOMIC_RELAXED);
                        position = next_position(body, size);
                        continue;
                }
                __atomic_fetch_add(&loot->n_refused, 1, __ATOMIC_RELAXED);
                position = 0;
                usleep(RETRY_USEC);
        }
}

static void be_greedy_over_rest(void) {
        pthread_t threads[N_CONNECTIONS];

        for (unsigned i = 0; i < N_CONNECTIONS; i++)
                if (pthread_create(&threads[i], NULL, read_over_rest, &conversations[i % N_CONVERSATIONS]) !=
                        0)
                        fail("no thread");
        for (;;)
                pause();
}

static pid_t begin_greed(void (*greed)(void)) {
        pid_t pid = fork();

        if (pid < 0)
                fail("fork: %m");
        if (pid > 0)
                return pid;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) setpriority(PRIO_PROCESS, 0, 10);
        greed();
        _exit(0);
}

/* --- the phases --- */

typedef struct Phase {
        const char *name;
        void (*greed)(void);
        Crowd crowd;
        Loot loot;
} Phase;

static void run_phase(Phase *phase, Talk *talk, unsigned seconds, Crowd *total) {
        pid_t pid = 0;

        *loot = (Loot){};
        devices_join(talk->devices, talk->n, &phase->crowd);
        if (phase->greed)
                pid = begin_greed(phase->greed);
        talk_begin(talk);
        loop_for(seconds);
        talk_end(talk);
        (void) devices_settle(talk->devices, talk->n, 30);
        if (pid > 0) {
                phase->loot = *loot;
                kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
        }
        crowd_merge(total, &phase->crowd);
}

/* Somebody who talks with the greedy one writes the histories. */
static void write_histories(void) {
        static Device writers[N_CONVERSATIONS];
        static Crowd crowd;
        DeviceRange range = {writers, N_CONVERSATIONS};
        unsigned first = people_make(N_CONVERSATIONS);

        for (unsigned i = 0; i < N_CONVERSATIONS; i++) {
                conversation_open(&conversations[i], greedy, &people[first + i]);
                writers[i] = (Device){.crowd = &crowd,
                        .person = &people[first + i],
                        .other = greedy,
                        .conversation = &conversations[i],
                        .window = 16,
                        .padding = MESSAGE_SIZE};
        }
        devices_add(writers, N_CONVERSATIONS);
        devices_connect(writers, N_CONVERSATIONS, N_CONVERSATIONS, 30);
        for (unsigned i = 0; i < N_CONVERSATIONS; i++)
                for (unsigned k = 0; k < HISTORY_SIZE / MESSAGE_SIZE; k++)
                        device_say(&writers[i], boottime_usec());
        if (!loop_until(60, devices_all_sent, &range))
                fail("the histories could not be written");
        for (unsigned i = 0; i < N_CONVERSATIONS; i++)
                device_leave(&writers[i]);
}

bool scenario_greedy(void) {
        static Phase phases[] = {{.name = "before"},
                {.name = "beside greedy sockets", .greed = be_greedy_over_socket},
                {.name = "beside greedy REST", .greed = be_greedy_over_rest}, {.name = "after"}};
        static Crowd total;
        unsigned n = choose(options.clients, 100, 100) & ~1U, seconds = choose(options.seconds, 20, 3);
        Device *devices = new0(Device, n);
        Conversation *talks = new0(Conversation, n / 2);
        Talk talk = {.devices = devices, .n = n, .rate = choose(options.rate, 200, 200)};
        char text[256];

        printf("One account pages 3 MB of history on each of %u connections, beside %u pairs at %u messages "
               "a second\n",
                N_CONNECTIONS, n / 2, talk.rate);
        loot = mmap(NULL, sizeof(Loot), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (!devices || !talks || loot == MAP_FAILED)
                fail("out of memory");
        greedy = &people[people_make(1)];
        write_histories();
        unsigned first = people_make(n);
        conversations_open(talks, first, n / 2);
        devices_pair(devices, talks, first, n / 2, &total);
        set_up_is_done();
        loop_on_tick(talk_tick, &talk);
        devices_connect(devices, n, 64, 30);

        roles_begin();
        for (size_t i = 0; i < ELEMENTSOF(phases); i++)
                run_phase(&phases[i], &talk, seconds, &total);
        roles_end_of_during();

        latency_print_head();
        for (size_t i = 0; i < ELEMENTSOF(phases); i++)
                crowd_print_latency(phases[i].name, &phases[i].crowd);
        for (size_t i = 0; i < ELEMENTSOF(phases); i++)
                if (phases[i].greed)
                        printf("  %s: it got %" PRIu64 " pages, %.0f MB, %" PRIu64
                               " refusals; disconnected: %s\n",
                                phases[i].name, phases[i].loot.n_pages,
                                (double) phases[i].loot.n_bytes / 1e6, phases[i].loot.n_refused,
                                codes_text(&phases[i].loot.ended, text, sizeof(text)));
        bool good = crowd_print_faults("the others", &total, devices_lost(devices, n));
        roles_print();
        return roles_are_the_same() && good;
}
