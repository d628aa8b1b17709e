/* SPDX-License-Identifier: Apache-2.0 */

/* Floods by strangers who never sign in, from several addresses, beside pairs that talk, somebody who asks over
 * REST and somebody who connects anew each second. */

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "scenario/device.h"
#include "scenario/roles.h"
#include "scenario/scenarios.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define N_PER_ADDRESS 100U
#define REOPEN_USEC (100 * USEC_PER_MSEC)
#define TRICKLE_USEC (500 * USEC_PER_MSEC)
#define ADDRESSES (127U << 24 | 9U << 16 | 1U)

/* What the flood tells, in memory that both processes share. */
typedef struct Spoils {
        uint64_t n_open, n_refused, n_ended, n_bytes, n_tries;
} Spoils;
static Spoils *spoils;
static unsigned n_attackers;
static const Person *victim;

static uint32_t address_of(unsigned attacker) {
        return ADDRESSES + attacker / N_PER_ADDRESS;
}

/* --- connections that are held open --- */

typedef struct Hold {
        const char *head; /* sent at once */
        const char *frame; /* to be sent when the head was answered; with its size */
        size_t frame_size;
        size_t n_filler; /* bytes behind these */
        bool over_socket, trickle;
} Hold;

typedef struct Attacker {
        int fd;
        bool answered;
        size_t n_sent; /* of frame and filler */
        uint64_t due_at;
} Attacker;

static void attacker_open(Attacker *attacker, const Hold *hold, unsigned i) {
        attacker->answered = !hold->frame;
        attacker->n_sent = 0;
        attacker->fd = connect_from(hold->over_socket ? &options.socket : &options.api, address_of(i));
        attacker->due_at = boottime_usec() + REOPEN_USEC;
        if (attacker->fd < 0) {
                spoils->n_refused++;
                return;
        }
        (void) fcntl(attacker->fd, F_SETFL, O_NONBLOCK);
        if (!hold->trickle && *hold->head)
                (void) send(attacker->fd, hold->head, strlen(hold->head), MSG_NOSIGNAL);
        spoils->n_open++;
}

static void attacker_send(Attacker *attacker, const Hold *hold) {
        static char filler[65536];
        ssize_t n = 1;

        if (!*filler)
                memset(filler, 'a', sizeof(filler));
        while (attacker->n_sent < hold->frame_size + hold->n_filler && n > 0) {
                const char *from =
                        attacker->n_sent < hold->frame_size ? hold->frame + attacker->n_sent : filler;
                size_t size =
                        attacker->n_sent < hold->frame_size
                                ? hold->frame_size - attacker->n_sent
                                : MIN(sizeof(filler), hold->frame_size + hold->n_filler - attacker->n_sent);
                n = send(attacker->fd, from, size, MSG_NOSIGNAL);
                if (n > 0) {
                        attacker->n_sent += (size_t) n;
                        spoils->n_bytes += (uint64_t) n;
                }
        }
}

static void attacker_trickle(Attacker *attacker, const Hold *hold) {
        if (boottime_usec() < attacker->due_at)
                return;
        attacker->due_at = boottime_usec() + TRICKLE_USEC;
        (void) send(attacker->fd, hold->head + attacker->n_sent++ % strlen(hold->head), 1, MSG_NOSIGNAL);
}

static void attacker_serve(Attacker *attacker, const Hold *hold, unsigned i, const struct pollfd *poll_fd) {
        char answer[4096];

        if (attacker->fd < 0) {
                if (boottime_usec() > attacker->due_at)
                        attacker_open(attacker, hold, i);
                return;
        }
        if (poll_fd->revents & (POLLIN | POLLERR | POLLHUP)) {
                ssize_t n = recv(attacker->fd, answer, sizeof(answer), 0);
                if (n == 0 || (n < 0 && errno != EAGAIN)) {
                        attacker->fd = safe_close(attacker->fd);
                        attacker->due_at = boottime_usec() + REOPEN_USEC;
                        spoils->n_open--;
                        spoils->n_ended++;
                        return;
                }
                attacker->answered = true;
        }
        if (hold->trickle)
                attacker_trickle(attacker, hold);
        else if (attacker->answered)
                attacker_send(attacker, hold);
}

_Noreturn static void hold_open(const Hold *hold) {
        Attacker *attackers = new0(Attacker, n_attackers);
        struct pollfd *fds = new0(struct pollfd, n_attackers);

        if (!attackers || !fds)
                fail("out of memory");
        for (unsigned i = 0; i < n_attackers; i++)
                attackers[i].fd = -EBADF;
        for (;;) {
                for (unsigned i = 0; i < n_attackers; i++) {
                        bool wants = attackers[i].answered && !hold->trickle &&
                                     attackers[i].n_sent < hold->frame_size + hold->n_filler;
                        fds[i] = (struct pollfd){
                                .fd = attackers[i].fd, .events = POLLIN | (wants ? POLLOUT : 0)};
                }
                (void) poll(fds, n_attackers, 50);
                for (unsigned i = 0; i < n_attackers; i++)
                        attacker_serve(&attackers[i], hold, i, &fds[i]);
        }
}

static const char upgrade[] =
        "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: "
        "Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

static void unfinished_messages(void) {
        /* 400,000 bytes are announced, masked with zeros, of what may become a connect command. The last does not
         * come. */
        static const char frame[] =
                "\x81\xff\0\0\0\0\0\x06\x1a\x80\0\0\0\0{\"id\":1,\"connect\":{\"token\":\"";

        hold_open(&(Hold){.over_socket = true,
                .head = upgrade,
                .frame = frame,
                .frame_size = sizeof(frame) - 1,
                .n_filler = 400000 + 14 - sizeof(frame)});
}

static void unfinished_bodies(void) {
        hold_open(&(Hold){.head = "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                                  "application/json\r\n"
                                  "Content-Length: 260000\r\n\r\n",
                .n_filler = 259999});
}

static void silent_api(void) {
        hold_open(&(Hold){.head = ""});
}

static void silent_socket(void) {
        hold_open(&(Hold){.over_socket = true, .head = ""});
}

static void slow_heads(void) {
        hold_open(&(Hold){.trickle = true,
                .head = "GET /v1/users/me HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"});
}

static void slow_upgrades(void) {
        hold_open(&(Hold){.over_socket = true, .trickle = true, .head = upgrade});
}

/* --- tries --- */

/* Somebody's real token with another signature. */
static char *wrong_token(void) {
        char *token = strdup(victim->token);

        if (!token)
                fail("out of memory");
        char *signature = strrchr(token, '.');
        for (unsigned i = 1; i < 8; i++)
                signature[i] = signature[i] == 'A' ? 'B' : 'A';
        return token;
}

typedef struct Guesser {
        Endpoint endpoint; /* first */
        uint64_t due_at;
} Guesser;
static Guesser *guessers;

static void guesser_on_line(Endpoint *endpoint, char *text, size_t size) {
}

static void guesser_on_end(Endpoint *endpoint, int error) {
        spoils->n_ended++;
        ((Guesser *) endpoint)->due_at = 1;
}

static void guessers_tick(void *userdata) {
        static char *token;
        char command[4096];

        token = token ?: wrong_token();
        int n = snprintf(command, sizeof(command), "{\"id\":1,\"connect\":{\"token\":\"%s\"}}", token);
        for (unsigned i = 0; i < n_attackers; i++) {
                if (guessers[i].due_at == 0)
                        continue;
                guessers[i].due_at = 0;
                guessers[i].endpoint.on_line = guesser_on_line;
                guessers[i].endpoint.on_end = guesser_on_end;
                if (endpoint_open(&guessers[i].endpoint, address_of(i)) < 0) {
                        guessers[i].due_at = 1;
                        continue;
                }
                spoils->n_tries++;
                endpoint_send(&guessers[i].endpoint, command, (size_t) n);
        }
}

static void wrong_tokens(void) {
        n_attackers = MIN(n_attackers, 200U);
        guessers = new0(Guesser, n_attackers);
        loop_forget();
        for (unsigned i = 0; i < n_attackers; i++)
                guessers[i].due_at = 1;
        loop_on_tick(guessers_tick, NULL);
        guessers_tick(NULL);
        for (;;)
                loop_turn(10);
}

_Noreturn static void *guess_password(void *userdata) {
        for (unsigned i = (unsigned) (uintptr_t) userdata;; i++) {
                int r = rest_call_from(&options.api, ADDRESSES + i % 250, "POST", "/v1/auth/login", NULL,
                        json_pack("{s:s,s:s}", "username", victim->name, "password", "a wrong password"),
                        NULL);
                __atomic_fetch_add(&spoils->n_tries, 1, __ATOMIC_RELAXED);
                if (r == 429 || r == 503)
                        __atomic_fetch_add(&spoils->n_refused, 1, __ATOMIC_RELAXED);
        }
}

_Noreturn static void *guess_token(void *userdata) {
        _cleanup_free_ char *token = wrong_token();

        for (unsigned i = (unsigned) (uintptr_t) userdata;; i++) {
                (void) rest_call_from(
                        &options.api, ADDRESSES + i % 250, "GET", "/v1/users/me", token, NULL, NULL);
                __atomic_fetch_add(&spoils->n_tries, 1, __ATOMIC_RELAXED);
        }
}

static void guess(void *(*guesser)(void *userdata)) {
        pthread_t thread;

        for (uintptr_t i = 0; i < 50; i++)
                if (pthread_create(&thread, NULL, guesser, (void *) (i * 5)) != 0)
                        fail("no thread");
        for (;;)
                pause();
}

static void wrong_passwords(void) {
        guess(guess_password);
}

static void wrong_tokens_rest(void) {
        guess(guess_token);
}

/* --- the others --- */

static struct {
        bool running;
        Histogram rest;
        Codes failed;
} asking;

static void *ask_over_rest(void *userdata) {
        const Person *person = userdata;

        while (__atomic_load_n(&asking.running, __ATOMIC_RELAXED)) {
                uint64_t begin = boottime_usec();
                int r = rest_call_from(
                        &options.api, person->address, "GET", "/v1/users/me", person->token, NULL, NULL);
                histogram_add(&asking.rest, boottime_usec() - begin);
                if (r != 200)
                        codes_add(&asking.failed, r > 0 ? (unsigned) r : 0);
                usleep(100000);
        }
        return NULL;
}

typedef struct Comer {
        Device *device;
        uint64_t begun_at;
        Histogram latency;
} Comer;

/* Connects anew each second. */
static void comer_tick(void *userdata) {
        Comer *comer = userdata;
        uint64_t now = boottime_usec();

        if (comer->begun_at > 0 && comer->device->ready) {
                histogram_add(&comer->latency, now - comer->begun_at);
                device_leave(comer->device);
                comer->begun_at = 0;
                comer->device->due_at = now + USEC_PER_SEC;
        } else if (comer->begun_at == 0 && now > comer->device->due_at) {
                comer->begun_at = now;
                device_connect(comer->device);
        }
}

typedef struct Flood {
        const char *name;
        void (*attack)(void);
        Crowd crowd;
        Spoils spoils;
} Flood;

static pid_t begin_flood(void (*attack)(void)) {
        pid_t pid = fork();

        if (pid < 0)
                fail("fork: %m");
        if (pid > 0)
                return pid;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) setpriority(PRIO_PROCESS, 0, 10);
        attack();
        _exit(0);
}

static bool run_flood(
        Flood *flood, Talk *talk, Comer *comer, const Person *asker, unsigned seconds, Crowd *total) {
        pthread_t thread;
        pid_t pid = 0;
        char text[256];

        *spoils = (Spoils){};
        asking.rest = comer->latency = (Histogram){};
        asking.failed = (Codes){};
        asking.running = true;
        devices_join(talk->devices, talk->n, &flood->crowd);
        roles_begin();
        if (pthread_create(&thread, NULL, ask_over_rest, (void *) asker) != 0)
                fail("no thread");
        if (flood->attack)
                pid = begin_flood(flood->attack);
        talk_begin(talk);
        loop_for(seconds);
        talk_end(talk);
        (void) devices_settle(talk->devices, talk->n, 30);
        flood->spoils = *spoils;
        __atomic_store_n(&asking.running, false, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        roles_end_of_during();
        if (pid > 0) {
                kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
                loop_for(2);
        }
        printf("  %s: %" PRIu64 " held open, %" PRIu64 " ended by the server, %" PRIu64 " tries, %" PRIu64
               " refused\n",
                flood->name, flood->spoils.n_open, flood->spoils.n_ended, flood->spoils.n_tries,
                flood->spoils.n_refused);
        crowd_print_latency("talking", &flood->crowd);
        latency_print("GET /v1/users/me", &asking.rest);
        latency_print("connecting", &comer->latency);
        roles_print_line();
        crowd_merge(total, &flood->crowd);
        if (codes_total(&asking.failed) == 0)
                return roles_are_the_same();
        printf("    GET /v1/users/me failed: %s\n", codes_text(&asking.failed, text, sizeof(text)));
        return false;
}

bool scenario_flood(void) {
        static Flood floods[] = {{.name = "no flood"},
                {.name = "unfinished WebSocket messages", .attack = unfinished_messages},
                {.name = "unfinished REST bodies", .attack = unfinished_bodies},
                {.name = "silent connections to socket", .attack = silent_socket},
                {.name = "silent connections to api", .attack = silent_api},
                {.name = "slow upgrades", .attack = slow_upgrades},
                {.name = "slow REST heads", .attack = slow_heads},
                {.name = "wrong tokens, socket", .attack = wrong_tokens},
                {.name = "wrong tokens, REST", .attack = wrong_tokens_rest},
                {.name = "wrong passwords", .attack = wrong_passwords}, {.name = "afterwards"}};
        static Crowd total, coming;
        unsigned n = choose(options.clients, 100, 40) & ~1U, seconds = choose(options.seconds, 10, 1);
        Device *devices = new0(Device, n), *comers = new0(Device, 2);
        Conversation *talks = new0(Conversation, n / 2 + 1);
        Talk talk = {.devices = devices, .n = n, .rate = choose(options.rate, 200, 200)};
        static Comer comer;
        bool good = true;

        n_attackers = choose(options.messages, 1000, 200);
        printf("Floods of %u who are not signed in, beside %u pairs at %u messages a second\n", n_attackers,
                n / 2, talk.rate);
        spoils = mmap(NULL, sizeof(Spoils), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (!devices || !comers || !talks || spoils == MAP_FAILED)
                fail("out of memory");
        (void) people_make(n + 4);
        conversations_open(talks, 0, n / 2 + 1);
        devices_pair(devices, talks, 0, n / 2, &total);
        devices_pair(comers, &talks[n / 2], n, 1, &coming);
        victim = &people[n + 2];
        set_up_is_done();
        comer.device = comers;
        loop_on_tick(talk_tick, &talk);
        loop_on_tick(comer_tick, &comer);
        devices_connect(devices, n, 64, 30);
        latency_print_head();
        for (size_t i = 0; i < ELEMENTSOF(floods); i++)
                good &= run_flood(&floods[i], &talk, &comer, &people[n + 3], seconds, &total);
        good &= crowd_print_faults("those who talk", &total, devices_lost(devices, n));
        good &= crowd_print_faults("those who connect", &coming, 0);
        return good;
}
