/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/address.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/work-queue.h"

/* Shared by the thread and the address: whoever is last frees it. getaddrinfo() cannot be cut short. */
typedef struct Resolution {
        atomic_uint n_ref;
        int pipe[2]; /* the thread closes the second end when it is done */
        char *host, *port;
        struct addrinfo *found;
} Resolution;

struct Address {
        sd_event *event;
        struct sockaddr_un local; /* sun_path empty: none */
        char *host, *port;
        struct addrinfo *found, *next; /* next NULL: all were tried */
        bool numeric;
        bool unknown; /* the last resolution found nothing */
        Resolution *resolution; /* under way */
        sd_event_source *source;
        void (*resolved)(void *userdata);
        void *userdata;
};

static Resolution *resolution_unref(Resolution *resolution) {
        if (!resolution || atomic_fetch_sub(&resolution->n_ref, 1) > 1)
                return NULL;
        safe_close(resolution->pipe[0]);
        safe_close(resolution->pipe[1]);
        if (resolution->found)
                freeaddrinfo(resolution->found);
        free(resolution->host);
        free(resolution->port);
        return mfree(resolution);
}
DEFINE_CLEANUP(Resolution *, resolution_unref);

static int look_up(const char *host, const char *port, int flags, struct addrinfo **ret) {
        const struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};

        return getaddrinfo(host, port, &hints, ret) == 0 ? 0 : -EADDRNOTAVAIL;
}

static void *resolve(void *userdata) {
        Resolution *resolution = userdata;

        if (look_up(resolution->host, resolution->port, 0, &resolution->found) < 0)
                resolution->found = NULL;
        resolution->pipe[1] = safe_close(resolution->pipe[1]); /* the loop hears of it */
        resolution_unref(resolution);
        return NULL;
}

static int on_resolved(
        _unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        Address *address = userdata;

        address->source = sd_event_source_disable_unref(address->source);
        if (address->found)
                freeaddrinfo(address->found);
        address->found = address->next = TAKE_PTR(address->resolution->found);
        address->resolution = resolution_unref(address->resolution);
        address->unknown = !address->found;
        address->resolved(address->userdata);
        return 0;
}

static int start_resolving(Address *address) {
        _cleanup_(resolution_unrefp) Resolution *resolution = new0(Resolution, 1);
        pthread_t thread;

        if (!resolution)
                return -ENOMEM;
        atomic_init(&resolution->n_ref, 1);
        resolution->pipe[0] = resolution->pipe[1] = -EBADF;
        resolution->host = strdup(address->host);
        resolution->port = strdup(address->port);
        if (!resolution->host || !resolution->port)
                return -ENOMEM;
        if (pipe2(resolution->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        int r = sd_event_add_io(
                address->event, &address->source, resolution->pipe[0], EPOLLIN, on_resolved, address);
        if (r < 0)
                return r;
        atomic_fetch_add(&resolution->n_ref, 1);
        r = thread_start(&thread, "resolver", resolve, resolution);
        if (r < 0) {
                resolution_unref(resolution);
                address->source = sd_event_source_disable_unref(address->source);
                return r;
        }
        pthread_detach(thread);
        address->resolution = TAKE_PTR(resolution);
        return 0;
}

static int parse(Address *address, const char *text) {
        const char *colon = strrchr(text, ':');

        if (*text == '/') {
                if (strlen(text) >= sizeof(address->local.sun_path))
                        return -EINVAL;
                address->local.sun_family = AF_UNIX;
                strcpy(address->local.sun_path, text);
                return 0;
        }
        if (!colon || colon == text || !colon[1])
                return -EINVAL;
        bool brackets = *text == '[' && colon[-1] == ']' && colon - text > 2;
        address->host = strndup(text + brackets, (size_t) (colon - text) - 2 * brackets);
        address->port = strdup(colon + 1);
        if (!address->host || !address->port)
                return -ENOMEM;
        uint64_t port;
        if (parse_u64(address->port, UINT16_MAX, &port) < 0 || port == 0)
                return -EINVAL;
        address->numeric = look_up(address->host, address->port, AI_NUMERICHOST, &address->found) == 0;
        address->next = address->found;
        return 0;
}

int address_new(
        Address **ret, sd_event *event, const char *text, void (*resolved)(void *userdata), void *userdata) {
        if (isempty(text))
                return -EINVAL;
        _cleanup_(address_freep) Address *address = new0(Address, 1);
        if (!address)
                return -ENOMEM;
        address->event = sd_event_ref(event);
        address->resolved = resolved;
        address->userdata = userdata;
        int r = parse(address, text);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(address);
        return 0;
}

Address *address_free(Address *address) {
        if (!address)
                return NULL;
        sd_event_source_disable_unref(address->source);
        resolution_unref(address->resolution);
        if (address->found)
                freeaddrinfo(address->found);
        free(address->host);
        free(address->port);
        sd_event_unref(address->event);
        return mfree(address);
}

static int connect_to(const struct sockaddr *to, socklen_t size) {
        static const int one = 1;

        _cleanup_close_ int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (to->sa_family != AF_UNIX)
                (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        /* On a local socket this is done at once, or refused: EAGAIN is a full backlog. */
        if (connect(fd, to, size) < 0 && errno != EINPROGRESS)
                return -errno;
        return TAKE_FD(fd);
}

int address_connect(Address *address) {
        if (address->local.sun_family == AF_UNIX)
                return connect_to((const struct sockaddr *) &address->local, sizeof(address->local));
        if (address->resolution)
                return -EINPROGRESS;
        if (!address->next && address->numeric)
                address->next = address->found;
        if (TAKE_GENERIC(address->unknown, false))
                return -EADDRNOTAVAIL;
        if (!address->next) {
                int r = start_resolving(address);
                return r < 0 ? r : -EINPROGRESS;
        }
        const struct addrinfo *info = address->next;
        address->next = info->ai_next;
        return connect_to(info->ai_addr, info->ai_addrlen);
}
