/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define SETTLE_MAX_USEC (2 * USEC_PER_SEC) /* a journal that hangs does not keep a process from ending */
#define SETTLE_STEP_NSEC (1000 * 1000L)

/* The journal reads what all processes send it in order: once it has read our last word, it is done with
 * those before. The kernel has no event for that, but says how much is still on its way. */
void log_settle(void) {
        static const struct sockaddr_un journal = {
                .sun_family = AF_UNIX,
                .sun_path = "/run/systemd/journal/socket",
        };
        const struct timespec step = {.tv_nsec = SETTLE_STEP_NSEC};
        int on_its_way;

        if (!streq(log_get_target(), "journal"))
                return;
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        /* An entry without fields, which it leaves out. */
        if (fd < 0 || sendto(fd, "\n", 1, 0, (const struct sockaddr *) &journal, sizeof(journal)) < 0)
                return;
        for (uint64_t begin = boottime_usec(); boottime_usec() < begin + SETTLE_MAX_USEC;) {
                if (ioctl(fd, SIOCOUTQ, &on_its_way) < 0 || on_its_way == 0)
                        return;
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &step, NULL);
        }
}
