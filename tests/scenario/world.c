/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define N_THREADS 32U /* what they wait for is fsync, which they share */
#define SET_UP_LIMITS "/etc/stonechat/stonechat.conf.d/95-set-up.conf"
#define MAX_TICKS 4U

Options options;
Person people[MAX_PEOPLE];
static unsigned n_people;
static uint64_t begun_at; /* with the first people */

void fail(const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        fputs("stonechat-scenario: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
        va_end(arguments);
        exit(1);
}

unsigned choose(unsigned given, unsigned normal, unsigned in_short_form) {
        return given > 0 ? given : options.is_short ? in_short_form : normal;
}

/* --- set-up --- */

typedef struct Work {
        unsigned n, next;
        void (*function)(unsigned i, void *userdata);
        void *userdata;
} Work;

static void *work(void *userdata) {
        Work *w = userdata;
        unsigned i;

        while ((i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->n)
                w->function(i, w->userdata);
        return NULL;
}

void in_parallel(unsigned n, void (*function)(unsigned i, void *userdata), void *userdata) {
        Work w = {.n = n, .function = function, .userdata = userdata};
        pthread_t threads[N_THREADS];

        for (unsigned i = 0; i < N_THREADS; i++)
                if (pthread_create(&threads[i], NULL, work, &w) != 0)
                        fail("no thread");
        for (unsigned i = 0; i < N_THREADS; i++)
                pthread_join(threads[i], NULL);
}

json_t *rest_expect(const Person *person, const char *verb, const char *path, json_t *body, int status) {
        json_t *answer = NULL;
        int r = rest_call_from(&options.api, person->address, verb, path, person->token, body, &answer);

        if (r != status) {
                _cleanup_free_ char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
                fail("%s %s: %s %d %s", verb, path, r < 0 ? strerror(-r) : "status", r, strempty(text));
        }
        return answer;
}

static void make_person(unsigned i, void *userdata) {
        Person *person = &people[*(unsigned *) userdata + i];
        json_t *credentials =
                json_pack("{s:s,s:s}", "username", person->name, "password", "a good password");

        json_decref(rest_expect(person, "POST", "/v1/auth/register", json_incref(credentials), 201));
        json_t *answer = rest_expect(person, "POST", "/v1/auth/login", credentials, 200);
        const char *token = json_string_value(json_object_get(answer, "access_token"));
        const char *id = json_string_value(json_object_get(json_object_get(answer, "user"), "id"));
        if (!token || !id || strlen(id) >= sizeof(person->id))
                fail("a login was answered without token or user");
        person->token = strdup(token);
        strcpy(person->id, id);
        json_decref(answer);
}

unsigned people_make(unsigned n) {
        unsigned first = n_people;
        char run[UUID_TEXT_SIZE];

        if (n > MAX_PEOPLE - n_people)
                fail("too many people");
        begun_at = begun_at ?: boottime_usec();
        uuid_v7(run);
        for (unsigned i = 0; i < n; i++) {
                Person *person = &people[n_people];
                /* The end of the id is its random part. */
                snprintf(person->name, sizeof(person->name), "s-%s-%u", run + UUID_TEXT_SIZE - 9, n_people);
                person->number = n_people++;
                person->address =
                        (127U << 24 | 1U << 16) + (person->number / 250 << 8) + person->number % 250 + 1;
        }
        in_parallel(n, make_person, &first);
        return first;
}

void conversation_open(Conversation *conversation, const Person *from, const Person *to) {
        json_t *answer = rest_expect(
                from, "POST", "/v1/conversations/direct", json_pack("{s:s}", "user", to->id), 200);
        const char *id = json_string_value(json_object_get(json_object_get(answer, "conversation"), "id"));

        if (!id || strlen(id) >= sizeof(conversation->id))
                fail("a conversation without id");
        strcpy(conversation->id, id);
        json_decref(answer);
}

typedef struct Opening {
        Conversation *conversations;
        unsigned first;
} Opening;

static void open_one(unsigned i, void *userdata) {
        Opening *opening = userdata;

        conversation_open(&opening->conversations[i], &people[opening->first + 2 * i],
                &people[opening->first + 2 * i + 1]);
}

void conversations_open(Conversation *conversations, unsigned first, unsigned n) {
        Opening opening = {conversations, first};

        in_parallel(n, open_one, &opening);
}

int host_run(const char *const *command) {
        extern char **environ;
        char target[16];
        const char *arguments[24] = {"nsenter", "--target", target, "--all", "--"};
        unsigned n = 5;
        pid_t pid;
        int status;

        if (options.init == 0)
                fail("--init is needed for this");
        snprintf(target, sizeof(target), "%u", options.init);
        while (*command && n < ELEMENTSOF(arguments) - 1)
                arguments[n++] = *command++;
        if (posix_spawnp(&pid, "nsenter", NULL, NULL, (char *const *) arguments, environ) != 0 ||
                waitpid(pid, &status, 0) < 0)
                fail("nsenter could not be run");
        return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

void set_up_is_done(void) {
        static const char *const forget[] = {"rm", "-f", SET_UP_LIMITS, NULL};
        static const char *const reload[] = {"systemctl", "reload", "stonechat-api.service",
                "stonechat-socket@1.service", "stonechat-group.service", NULL};

        if (options.init > 0 && (host_run(forget) != 0 || host_run(reload) != 0))
                fail("the limits of the set-up could not be taken back");
        printf("  %u people made ready in %.0f s\n", n_people, (double) (boottime_usec() - begun_at) / 1e6);
}

/* --- the loop --- */

static int epoll_fd = -1;
static struct {
        void (*tick)(void *userdata);
        void *userdata;
} ticks[MAX_TICKS];
static unsigned n_ticks;

static void watch_write(Endpoint *endpoint, bool on) {
        struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = endpoint};

        if (endpoint->client.wants_write == on)
                return;
        endpoint->client.wants_write = on;
        assert_se(epoll_ctl(epoll_fd, EPOLL_CTL_MOD, endpoint->client.fd, &event) == 0);
}

static void endpoint_flush(Endpoint *endpoint) {
        int r = client_flush(&endpoint->client);

        /* That it ended is seen by reading, with what the server has said before. */
        watch_write(endpoint, r > 0);
}

int endpoint_open(Endpoint *endpoint, uint32_t address) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = endpoint};

        if (epoll_fd < 0)
                epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        endpoint_close(endpoint);
        endpoint->client.close_code = 0;
        int r = client_connect_from(&endpoint->client, &options.socket, address);
        if (r < 0)
                return r;
        assert_se(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, endpoint->client.fd, &event) == 0);
        return 0;
}

void endpoint_send(Endpoint *endpoint, const char *text, size_t size) {
        if (client_send(&endpoint->client, text, size) < 0)
                fail("out of memory");
        if (endpoint->client.open)
                endpoint_flush(endpoint);
}

void endpoint_close(Endpoint *endpoint) {
        if (!endpoint_is_open(endpoint)) /* a zeroed one has the descriptor of somebody else */
                endpoint->client.fd = -EBADF;
        client_done(&endpoint->client);
        endpoint->client.open = endpoint->client.wants_write = false;
}

static void on_line(Client *client, char *text, size_t size, void *userdata) {
        Endpoint *endpoint = (Endpoint *) client;
        char saved = text[size];

        text[size] = 0;
        if (size == 2) /* {}: a ping */
                (void) client_send(client, "{}", 2);
        else
                endpoint->on_line(endpoint, text, size);
        text[size] = saved;
}

static void serve(Endpoint *endpoint) {
        if (!endpoint_is_open(endpoint))
                return;
        int r = client_receive(&endpoint->client, on_line, NULL);
        if (r >= 0)
                return endpoint_flush(endpoint);
        endpoint->client.fd = safe_close(endpoint->client.fd);
        endpoint->on_end(endpoint, r);
}

void loop_on_tick(void (*tick)(void *userdata), void *userdata) {
        assert_se(n_ticks < MAX_TICKS);
        ticks[n_ticks].tick = tick;
        ticks[n_ticks++].userdata = userdata;
}

void loop_forget(void) {
        epoll_fd = safe_close(epoll_fd);
        n_ticks = 0;
}

void loop_turn(int timeout_msec) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, ELEMENTSOF(events), timeout_msec);

        for (int i = 0; i < n; i++)
                serve(events[i].data.ptr);
        for (unsigned i = 0; i < n_ticks; i++)
                ticks[i].tick(ticks[i].userdata);
}

bool loop_until(double seconds, bool (*condition)(void *userdata), void *userdata) {
        uint64_t deadline = boottime_usec() + (uint64_t) (seconds * 1e6);

        while (!condition(userdata)) {
                if (boottime_usec() > deadline)
                        return false;
                loop_turn(1);
        }
        return true;
}

void loop_for(double seconds) {
        uint64_t deadline = boottime_usec() + (uint64_t) (seconds * 1e6);

        while (boottime_usec() < deadline)
                loop_turn(1);
}
