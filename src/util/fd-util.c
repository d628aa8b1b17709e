/* SPDX-License-Identifier: Apache-2.0 */
#include "util/fd-util.h"

#include <fcntl.h>

int read_file(const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return -errno;
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
