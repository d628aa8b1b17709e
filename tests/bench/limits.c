/* SPDX-License-Identifier: Apache-2.0 */

/* stonechat-limits: what this machine can do at all, to be read beside every figure of ours.
 *
 *   fsync DIRECTORY    4 KiB appended and fsynced, one after the other
 *   echo               round trips of 100 bytes over loopback between two threads on bare epoll */

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "histogram.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define RUN_USEC (3 * USEC_PER_SEC)

static Histogram latency;

static void report(const char *what, uint64_t begin) {
        printf("  %.0f %s/s\n", (double) latency.n * 1e6 / (double) (boottime_usec() - begin), what);
        histogram_print(&latency, what);
}

static int run_fsync(const char *directory) {
        char block[4096] = {};
        _cleanup_close_ int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        if (fd < 0)
                return -errno;
        uint64_t begin = boottime_usec(), now = begin;
        while (now - begin < RUN_USEC) {
                if (write(fd, block, sizeof(block)) < 0 || fsync(fd) < 0)
                        return -errno;
                uint64_t end = boottime_usec();
                histogram_add(&latency, end - now);
                now = end;
        }
        report("fsyncs", begin);
        return 0;
}

static void *echo_thread(void *userdata) {
        int fd = *(int *) userdata, epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN};
        char buffer[256];
        ssize_t n;

        assert_se(epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
        while (epoll_wait(epoll_fd, &event, 1, -1) == 1 && (n = read(fd, buffer, sizeof(buffer))) > 0)
                if (write(fd, buffer, (size_t) n) != n)
                        break;
        close(epoll_fd);
        return NULL;
}

static int run_echo(void) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        static const int one = 1;
        _cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_close_ int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        pthread_t thread;
        char block[100] = {};

        if (bind(listener, (struct sockaddr *) &address, size) < 0 || listen(listener, 1) < 0 ||
                getsockname(listener, (struct sockaddr *) &address, &size) < 0 ||
                connect(client, (struct sockaddr *) &address, size) < 0)
                return -errno;
        _cleanup_close_ int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (server < 0)
                return -errno;
        (void) setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        (void) setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (pthread_create(&thread, NULL, echo_thread, &server) != 0)
                return -EAGAIN;
        uint64_t begin = boottime_usec(), now = begin;
        while (now - begin < RUN_USEC) {
                if (write(client, block, sizeof(block)) < 0 || read(client, block, sizeof(block)) <= 0)
                        return -errno;
                uint64_t end = boottime_usec();
                histogram_add(&latency, end - now);
                now = end;
        }
        report("round trips", begin);
        shutdown(client, SHUT_RDWR);
        pthread_join(thread, NULL);
        return 0;
}

int main(int argc, char *argv[]) {
        int r = -EINVAL;

        if (argc == 3 && streq(argv[1], "fsync"))
                r = run_fsync(argv[2]);
        else if (argc == 2 && streq(argv[1], "echo"))
                r = run_echo();
        if (r < 0)
                fprintf(stderr, "stonechat-limits fsync DIRECTORY | echo: %s\n", strerror(-r));
        return r < 0;
}
