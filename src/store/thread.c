/* SPDX-License-Identifier: Apache-2.0 */
#include "store/thread.h"

#include <signal.h>

int thread_start(pthread_t *ret, const char *name, void *(*main)(void *userdata), void *userdata) {
        sigset_t all, saved;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        int r = pthread_create(ret, NULL, main, userdata);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        if (r == 0)
                pthread_setname_np(*ret, name);
        return -r;
}
