/* SPDX-License-Identifier: Apache-2.0 */
#include "util/fd-util.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int read_fd(int fd, size_t max, char **ret, size_t *ret_size) {
        _cleanup_free_ char *content = malloc(max + 2);
        if (!content)
                return -ENOMEM;
        size_t size = 0;
        for (;;) {
                ssize_t n = read(fd, content + size, max + 1 - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t) n;
                if (size > max)
                        return -EFBIG;
        }
        content[size] = 0;
        *ret = TAKE_PTR(content);
        if (ret_size)
                *ret_size = size;
        return 0;
}

int read_file(const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        return fd < 0 ? -errno : read_fd(fd, max, ret, ret_size);
}

uint64_t fd_taken_by_peer(int fd) {
        struct tcp_info info = {};
        socklen_t size = sizeof(info);
        int left = 0;

        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
                return info.tcpi_bytes_acked;
        return ioctl(fd, SIOCOUTQ, &left) == 0 ? (uint64_t) left : 0;
}
