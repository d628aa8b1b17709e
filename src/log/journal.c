/* SPDX-License-Identifier: Apache-2.0 */
#include "log/journal.h"

#include <endian.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/fd-util.h"
#include "util/string-util.h"

/* What the kernel holds for a journal that is slow, before entries are lost. */
#define SEND_BUFFER (1 << 20)
/* Of a field whose value has a line break. */
#define FIELD_PARTS 5

static atomic_int journal_fd = -1;
static struct sockaddr_un journal_address;

int journal_open(const char *address) {
        static const int size = SEND_BUFFER;

        if (strlen(address) >= sizeof(journal_address.sun_path))
                return -ENAMETOOLONG;
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        journal_address = (struct sockaddr_un){.sun_family = AF_UNIX};
        strcpy(journal_address.sun_path, address);
        safe_close(atomic_exchange(&journal_fd, fd));
        return 0;
}

static struct iovec part_of(const void *data, size_t size) {
        return (struct iovec){.iov_base = (void *) data, .iov_len = size};
}

/* "NAME=value\n"; or, as the value must not hold a line break there, "NAME\n", its size (64 bits, little
 * endian), "value\n". The number of parts. */
static size_t encode_field(
        const struct iovec *field, uint64_t *size, struct iovec parts[static FIELD_PARTS]) {
        const char *text = field->iov_base, *equals = memchr(text, '=', field->iov_len);

        if (!equals)
                return 0;
        if (!memchr(text, '\n', field->iov_len)) {
                parts[0] = *field;
                parts[1] = part_of("\n", 1);
                return 2;
        }
        size_t name_size = (size_t) (equals - text), value_size = field->iov_len - name_size - 1;
        *size = htole64(value_size);
        parts[0] = part_of(text, name_size);
        parts[1] = part_of("\n", 1);
        parts[2] = part_of(size, sizeof(*size));
        parts[3] = part_of(equals + 1, value_size);
        parts[4] = part_of("\n", 1);
        return 5;
}

int journal_send(const struct iovec *fields, int n_fields) {
        struct iovec parts[FIELD_PARTS * JOURNAL_MAX_FIELDS];
        uint64_t sizes[JOURNAL_MAX_FIELDS];
        size_t n = 0;
        int fd = atomic_load(&journal_fd);

        if (fd < 0)
                return -ENOTCONN;
        assert_se(n_fields <= JOURNAL_MAX_FIELDS);
        for (int i = 0; i < n_fields; i++)
                n += encode_field(&fields[i], &sizes[i], parts + n);
        const struct msghdr message = {
                .msg_name = &journal_address,
                .msg_namelen = sizeof(journal_address),
                .msg_iov = parts,
                .msg_iovlen = n,
        };
        return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}
