/* SPDX-License-Identifier: Apache-2.0 */
#include "service/listen.h"

#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define LISTEN_MAX 32U

struct ListenSockets {
        unsigned n;
        struct {
                char *name;
                int fd;
        } sockets[LISTEN_MAX];
};

/* Takes both. */
static int add_socket(ListenSockets *sockets, char *name, int fd) {
        if (sockets->n >= LISTEN_MAX) {
                free(name);
                safe_close(fd);
                return -E2BIG;
        }
        sockets->sockets[sockets->n].name = name;
        sockets->sockets[sockets->n++].fd = fd;
        return 0;
}

int listen_sockets_new(ListenSockets **ret) {
        _cleanup_(listen_sockets_freep) ListenSockets *sockets = new0(ListenSockets, 1);
        _cleanup_free_ char **names = NULL;

        if (!sockets)
                return -ENOMEM;
        int n = sd_listen_fds_with_names(1, &names);
        if (n < 0)
                return n;
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;
                if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
                        log_warning("Activated descriptor '%s' is no listening stream socket, closing it.",
                                names[i]);
                        free(names[i]);
                        close(fd);
                        continue;
                }
                /* systemd hands them over blocking; accepting until there is no more would block the
                 * loop. */
                (void) fcntl(fd, F_SETFL, O_NONBLOCK);
                int r = add_socket(sockets, names[i], fd);
                if (r < 0)
                        log_warning_errno(r, "More than %u activated sockets, closing one: %m", LISTEN_MAX);
        }
        *ret = TAKE_PTR(sockets);
        return 0;
}

ListenSockets *listen_sockets_free(ListenSockets *sockets) {
        if (!sockets)
                return NULL;
        for (unsigned i = 0; i < sockets->n; i++) {
                free(sockets->sockets[i].name);
                safe_close(sockets->sockets[i].fd);
        }
        free(sockets);
        return NULL;
}

static int listen_unix(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        (void) unlink(path);
        if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static int listen_inet(const char *host_and_port) {
        const char *colon = strrchr(host_and_port, ':');
        struct addrinfo *found, hints = {
                                        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                        .ai_socktype = SOCK_STREAM,
                                };

        if (!colon)
                return -EINVAL;
        bool brackets = *host_and_port == '[' && colon > host_and_port && colon[-1] == ']';
        _cleanup_free_ char *host =
                strndup(host_and_port + brackets, (size_t) (colon - host_and_port) - 2 * brackets);
        if (!host)
                return -ENOMEM;
        if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
                return -EINVAL;
        _cleanup_close_ int fd =
                socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, found->ai_protocol);
        int r = fd < 0 ? -errno : 0;
        static const int one = 1;
        if (r == 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
                              bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0))
                r = -errno;
        freeaddrinfo(found);
        return r < 0 ? r : TAKE_FD(fd);
}

int listen_sockets_add(ListenSockets *sockets, const char *assignment) {
        const char *equals = strchr(assignment, '=');

        if (!equals || equals == assignment || !equals[1])
                return -EINVAL;
        int fd = equals[1] == '/' ? listen_unix(equals + 1) : listen_inet(equals + 1);
        if (fd < 0)
                return fd;
        char *name = strndup(assignment, (size_t) (equals - assignment));
        if (!name) {
                close(fd);
                return -ENOMEM;
        }
        return add_socket(sockets, name, fd);
}

int listen_sockets_take(ListenSockets *sockets, const char *name) {
        for (unsigned i = 0; i < sockets->n; i++)
                if (sockets->sockets[i].fd >= 0 && streq(sockets->sockets[i].name, name))
                        return TAKE_FD(sockets->sockets[i].fd);
        return -ENOENT;
}
