/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The deliverer. What is known of a source (a partition with pending intents) is a Source; it exists while
 * there is something to do for it. Sources that can go on stand in `ready`; some fibers, the workers, take
 * one after the other from there, and read and deliver one page of its intents at a turn.
 *
 * A pass reads the intents of a source from the first one pending to the last. Where a delivery fails for
 * now its target is held back: for the rest of the pass, so that nothing overtakes, and until the delay is
 * over.
 *
 * What is counted as pending are rows of the store: told by intents_stored(), seen before that in a pass
 * (`counted` is the highest number that is counted), and set right at the end of each pass, by what was seen
 * and what was told after the last page was read. */

#include <sys/queue.h>

#include "schema-tables.h"
#include "service/intents.h"
#include "util/hash.h"

#define INTENTS_MAX_WORKERS 16U
#define INTENTS_ARENA_MAX (4U << 20) /* of a page of them */
/* So often a source is read after an unknown outcome: for two minutes, longer than a back end leaves a
 * statement under way. What a former process has left is looked for again after as long. */
#define INTENTS_LOOKS 30U

/* A target that is held back. */
typedef struct Target {
        UT_hash_handle hh;
        uint64_t until_usec;
        uint64_t pass; /* nothing is sent to it in this pass */
        unsigned n_failures;
        char name[];
} Target;

typedef enum SourceState {
        SOURCE_IDLE, /* and perhaps its timer runs */
        SOURCE_READY,
        SOURCE_RUNNING,
} SourceState;

typedef struct Source {
        UT_hash_handle hh;
        TAILQ_ENTRY(Source) link; /* in ready */
        Intents *intents;
        SourceState state;
        bool again; /* something was stored since the last page was read */
        unsigned n_looks; /* so often still after an unknown outcome */
        unsigned n_failures; /* of the store, one after the other */
        sd_event_source *timer;

        uint64_t pending;
        uint64_t counted;
        uint64_t settled; /* all up to this number are delivered or parked */
        uint64_t gone; /* all up to this number are deleted or parked */

        uint64_t pass; /* grows */
        bool in_pass;
        uint64_t cursor; /* the pass has read up to here */
        uint64_t n_remaining; /* rows seen in the pass that stay */
        uint64_t first_unsettled; /* of the pass; 0: none yet */

        Target *targets;
        unsigned n_waiters;
        FiberQueue waiters;
        char name[];
} Source;

typedef struct Worker {
        Intents *intents;
        Fiber *fiber;
        bool running;
} Worker;

struct Intents {
        sd_event *event;
        FiberPool *fibers;
        Store *store;
        Dispatcher *dispatcher;
        sd_event_source *starter; /* starts workers, from the loop */
        sd_event_source *second_search; /* NULL before the first one has ended */
        Worker workers[INTENTS_MAX_WORKERS];
        unsigned n_workers;
        Source *sources;
        TAILQ_HEAD(, Source) ready;
        bool found; /* all that is in the store */
        bool missed; /* something, since the search began */
        bool stopping;
        uint64_t retry_min_usec, retry_max_usec;

        uint64_t n_pending, n_reserved, n_parked;
        uint64_t n_delivered, n_retried;
};

/* --- intents.c --- */

/* Before the next try, after so many failures. */
uint64_t intents_retry_delay(const Intents *intents, unsigned n_failures);
/* Workers start from the loop, after so long. */
void intents_start_workers(Intents *intents, uint64_t usec);

/* A source could not be noted for want of memory: looks through the store, later. */
void intents_find_again(Intents *intents);

/* --- intent-source.c --- */

Source *source_find(const Intents *intents, const char *name);
/* Made if there is none; NULL when out of memory. */
Source *source_get(Intents *intents, const char *name);
Source *source_free(Source *source);
/* Frees it if there is nothing to do for it. */
void source_forget_if_done(Source *source);
void source_set_pending(Source *source, uint64_t pending);
/* All up to this number are delivered or parked. */
void source_settle(Source *source, uint64_t number);
/* It goes on as soon as it can; or when the time is over (it may be gone then). */
void source_wake(Source *source);
void source_sleep(Source *source, uint64_t usec);

bool target_is_held(const Source *source, const char *name);
int target_hold(Source *source, const char *name);
void target_release(Source *source, const char *name);
/* When the first of those that the pass has met may be tried again, from now. */
uint64_t targets_delay(const Source *source);

/* --- intent-turn.c --- */

/* Reads and delivers one page of the source's intents; then it is ready, asleep, or forgotten. May suspend. */
void source_turn(Source *source);
Trace intent_trace(const Sc__Intent *intent);

/* --- intent-scan.c --- */

/* Makes the sources of all intents that are in the store ready. May suspend: 0, or what the fiber was
 * cancelled with. */
int intents_find_all(Intents *intents);
