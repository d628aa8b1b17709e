/* SPDX-License-Identifier: Apache-2.0 */

/* What is known of a source, and of its targets that are held back. */

#include "log/log.h"
#include "service/intents-internal.h"
#include "util/time-util.h"

Source *source_free(Source *source) {
        Target *target, *next;

        HASH_ITER(hh, source->targets, target, next) {
                HASH_DEL(source->targets, target);
                free(target);
        }
        sd_event_source_disable_unref(source->timer);
        return mfree(source);
}

Source *source_find(const Intents *intents, const char *name) {
        Source *source;

        HASH_FIND_STR(intents->sources, name, source);
        return source;
}

Source *source_get(Intents *intents, const char *name) {
        Source *source = source_find(intents, name);
        size_t size = strlen(name) + 1;

        if (source)
                return source;
        source = calloc(1, sizeof(Source) + size);
        if (!source)
                return NULL;
        source->intents = intents;
        memcpy(source->name, name, size);
        HASH_ADD_STR(intents->sources, name, source);
        if (!HASH_WAS_ADDED(source))
                return mfree(source);
        return source;
}

void source_forget_if_done(Source *source) {
        Intents *intents = source->intents;

        if (source->state != SOURCE_IDLE || source->timer || source->n_waiters > 0)
                return;
        intents->n_pending -= source->pending;
        HASH_DEL(intents->sources, source);
        source_free(source);
}

void source_set_pending(Source *source, uint64_t pending) {
        source->intents->n_pending += pending - source->pending;
        source->pending = pending;
}

void source_settle(Source *source, uint64_t number) {
        if (number <= source->settled)
                return;
        source->settled = number;
        fiber_queue_wake(&source->waiters);
}

void source_wake(Source *source) {
        Intents *intents = source->intents;

        source->again = true;
        if (source->state != SOURCE_IDLE || intents->stopping)
                return;
        source->timer = sd_event_source_disable_unref(source->timer);
        source->state = SOURCE_READY;
        TAILQ_INSERT_TAIL(&intents->ready, source, link);
        intents_start_workers(intents, 0);
}

static int on_source_timer(sd_event_source *timer, uint64_t usec, void *userdata) {
        source_wake(userdata);
        return 0;
}

void source_sleep(Source *source, uint64_t usec) {
        source->state = SOURCE_IDLE;
        source->timer = sd_event_source_disable_unref(source->timer);
        int r = sd_event_add_time_relative(source->intents->event, &source->timer, CLOCK_BOOTTIME, usec,
                USEC_PER_MSEC, on_source_timer, source);
        if (r >= 0)
                return;
        log_error_errno(r, "Failed to set a timer: %m");
        intents_find_again(source->intents);
        source_forget_if_done(source);
}

/* --- targets that are held back --- */

static Target *target_find(const Source *source, const char *name) {
        Target *target;

        HASH_FIND_STR(source->targets, name, target);
        return target;
}

bool target_is_held(const Source *source, const char *name) {
        Target *target = target_find(source, name);

        if (!target || (target->pass != source->pass && target->until_usec <= boottime_usec()))
                return false;
        target->pass = source->pass; /* also if the delay ends during the pass */
        return true;
}

int target_hold(Source *source, const char *name) {
        Target *target = target_find(source, name);
        size_t size = strlen(name) + 1;

        if (!target) {
                target = calloc(1, sizeof(Target) + size);
                if (!target)
                        return -ENOMEM;
                memcpy(target->name, name, size);
                HASH_ADD_STR(source->targets, name, target);
                if (!HASH_WAS_ADDED(target)) {
                        free(target);
                        return -ENOMEM;
                }
        }
        target->pass = source->pass;
        target->until_usec = boottime_usec() + intents_retry_delay(source->intents, target->n_failures++);
        return 0;
}

void target_release(Source *source, const char *name) {
        Target *target = target_find(source, name);

        if (!target)
                return;
        HASH_DEL(source->targets, target);
        free(target);
}

uint64_t targets_delay(const Source *source) {
        uint64_t now = boottime_usec(), first = now + source->intents->retry_max_usec;

        for (const Target *target = source->targets; target; target = target->hh.next)
                if (target->pass == source->pass)
                        first = MIN(first, target->until_usec);
        return first > now ? first - now : 0;
}
