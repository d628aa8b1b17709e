/* SPDX-License-Identifier: Apache-2.0 */
#include "tls-pump.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "util/fd-util.h"

typedef struct Half {
        char data[16384];
        size_t begin, end;
        bool done; /* nothing more comes */
} Half;

typedef struct Pump {
        Transport *transport;
        int fd; /* our end of the pair */
        Half up, down;
        bool shut; /* the end of `up` was passed on */
} Pump;

/* False: over. */
static bool move_up(Pump *p) {
        if (!p->up.done && p->up.begin == p->up.end) {
                ssize_t n = recv(p->fd, p->up.data, sizeof(p->up.data), MSG_DONTWAIT);
                if (n < 0 && errno != EAGAIN)
                        return false;
                p->up.done = n == 0;
                p->up.begin = 0;
                p->up.end = (size_t) MAX(n, 0);
        }
        if (p->up.begin < p->up.end) {
                ssize_t n = transport_write(p->transport, p->up.data + p->up.begin, p->up.end - p->up.begin);
                if (n < 0 && n != -EAGAIN)
                        return false;
                p->up.begin += (size_t) MAX(n, 0);
        }
        if (p->up.done && p->up.begin == p->up.end && !p->shut)
                p->shut = transport_shutdown(p->transport) == 0;
        return true;
}

static bool move_down(Pump *p) {
        if (!p->down.done && p->down.begin == p->down.end) {
                ssize_t n = transport_read(p->transport, p->down.data, sizeof(p->down.data));
                p->down.done = n <= 0 && n != -EAGAIN;
                p->down.begin = 0;
                p->down.end = (size_t) MAX(n, 0);
        }
        if (p->down.begin < p->down.end) {
                ssize_t n = send(p->fd, p->down.data + p->down.begin, p->down.end - p->down.begin,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno != EAGAIN)
                        return false;
                p->down.begin += (size_t) MAX(n, 0);
        }
        return !p->down.done || p->down.begin < p->down.end;
}

static void wait_for_either(Pump *p) {
        bool reading = p->down.begin == p->down.end, writing = p->up.begin < p->up.end;
        uint32_t events = transport_events(p->transport, reading, writing);
        struct pollfd fds[] = {
                {.fd = transport_fd(p->transport),
                        .events = (short) ((events & EPOLLIN ? POLLIN : 0) |
                                           (events & EPOLLOUT ? POLLOUT : 0))},
                {.fd = p->fd,
                        .events =
                                (short) ((!writing && !p->up.done ? POLLIN : 0) | (reading ? 0 : POLLOUT))},
        };

        if (!reading || !transport_has_pending(p->transport))
                (void) poll(fds, 2, p->up.done && !p->shut ? 10 : -1);
        if (fds[1].revents & POLLHUP) /* nobody reads what comes down */
                p->down.done = true;
}

static atomic_uint n_pumps;

/* LeakSanitizer looks when the program ends, and would find what a thread has on its stack only. By then the clients
 * are closed, so that all threads end. */
static void wait_for_pumps(void) {
        for (unsigned i = 0; i < 5000 && atomic_load(&n_pumps) > 0; i++)
                usleep(1000);
}

static void register_wait(void) {
        atexit(wait_for_pumps);
}

static void *pump(void *userdata) {
        Pump *p = userdata;

        while (move_up(p) && move_down(p))
                wait_for_either(p);
        transport_free(p->transport);
        close(p->fd);
        free(p);
        atomic_fetch_sub(&n_pumps, 1);
        return NULL;
}

int tls_pump_start(int connected_fd, TlsContext *client) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        Pump *p = new0(Pump, 1);
        pthread_attr_t attributes;
        pthread_t thread;
        int pair[2];

        assert_se(p && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        p->fd = pair[1];
        assert_se(fcntl(connected_fd, F_SETFL, O_NONBLOCK) == 0);
        assert_se(transport_new(&p->transport, connected_fd, client) == 0);
        pthread_once(&once, register_wait);
        atomic_fetch_add(&n_pumps, 1);
        assert_se(pthread_attr_init(&attributes) == 0 &&
                  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                  pthread_create(&thread, &attributes, pump, p) == 0);
        pthread_attr_destroy(&attributes);
        return pair[0];
}
