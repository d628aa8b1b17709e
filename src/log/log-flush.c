/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "log/journal.h"
#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define FLUSH_MAX_USEC (2 * USEC_PER_SEC) /* a journal that hangs does not keep a process from ending */
#define FLUSH_STEP_NSEC (1000 * 1000L)

/* The journal reads what all processes send it in order: once it has read the datagram sent here, it has
 * read those before. The kernel has no event for that, but tells how many bytes are not read yet. */
void log_flush(void) {
        static const struct sockaddr_un journal = {
                .sun_family = AF_UNIX,
                .sun_path = JOURNAL_ADDRESS,
        };
        const struct timespec step = {.tv_nsec = FLUSH_STEP_NSEC};
        int n_unread;

        if (!streq(log_get_target(), "journal"))
                return;
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        /* An entry without fields, which the journal drops. */
        if (fd < 0 || sendto(fd, "\n", 1, 0, (const struct sockaddr *) &journal, sizeof(journal)) < 0)
                return;
        for (uint64_t begin = boottime_usec(); boottime_usec() < begin + FLUSH_MAX_USEC;) {
                if (ioctl(fd, SIOCOUTQ, &n_unread) < 0 || n_unread == 0)
                        return;
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &step, NULL);
        }
}
