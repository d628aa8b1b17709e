/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Intents between two roles whose processes die, over stores and a network that do the worst they may, by a
 * seed. Role A (accounts) has causes whose intents go to inboxes in role B; role B (conversations) has
 * causes of its own, too, whose intents go to the same inboxes. At the end each cause that is stored has had
 * each of its effects once, in the order of the causes, and no other effect is there. */

#include <sys/queue.h>

#include "random.h"
#include "service/intents.h"
#include "store-model.h"

#define WORLD_SOURCES 3U /* of each role, with a fiber of its own */
#define WORLD_TARGETS 3U
#define WORLD_CAUSES 5U /* of each source */
#define WORLD_MAX_INTENTS 3U /* of a cause */

typedef struct World World;
typedef struct Process Process;

/* What a source does, in order; goes on when its process is started again. */
typedef struct Actor {
        Process *process;
        char name[16];
        unsigned next; /* cause */
        bool running;
        bool answered[WORLD_CAUSES][WORLD_MAX_INTENTS]; /* by the target: done, or refused for good */
} Actor;

typedef struct Target {
        char name[16];
        bool busy; /* an append is outstanding */
        FiberQueue waiting;
} Target;

struct Process {
        World *world;
        const char *name;
        Model *model;
        FiberPool *fibers;
        Store *store;
        Intents *intents;
        Actor actors[WORLD_SOURCES];
        Target targets[WORLD_TARGETS];
        unsigned n_starts;
};

/* What the caller waits for. */
typedef struct Reply {
        Future future;
        DispatcherOutcome outcome;
} Reply;

/* A request on its way, or a handler that runs. */
typedef struct Request {
        TAILQ_ENTRY(Request) link;
        World *world;
        Process *from;
        Reply *reply; /* NULL: nobody waits any more */
        bool running;
        const MethodInfo *method;
        void *data;
        size_t size;
        char source[32], target[32];
        uint64_t number;
} Request;

struct World {
        uint64_t seed;
        Random random;
        sd_event *event;
        Process a, b;
        TAILQ_HEAD(, Request) requests;
        bool faults; /* the network loses and doubles */
        bool late; /* outcomes of writes are unknown, and they land later; only a new process finds them all */
        bool poison; /* some intents are refused for good */
        bool done; /* of a fiber of the test's */
        unsigned n_crashes, n_kills, n_doubled, n_lost, n_parked, n_effects, n_repeats;
        uint64_t trace; /* of what happened, to compare two runs */
};

void world_init(World *world, uint64_t seed);
void world_done(World *world);
/* For the trace. */
void world_note(World *world, const char *what, uint64_t number);
/* One turn of the loop and of the network; whoever died is started again. */
void world_iterate(World *world);
/* Until no source does anything, and nothing is pending or under way. */
void world_run_until_quiet(World *world);
void world_on_fiber(World *world, void (*run)(World *world));

void process_set_faults(Process *process);
/* Dies, loses what was not durable, and begins again. */
void process_kill(Process *process);

/* --- crashes-network.c --- */

/* One thing happens to one request. */
void network_step(World *world);
/* The process's connections are gone; what it sent may be in the other's buffers. */
void network_forget(World *world, Process *process);

/* --- crashes-handlers.c --- */

/* Takes in an intent, in role B. */
Sc__ErrorCode handle_intent(Call *call, Process *process);

/* --- how many intents a cause has, for whom and of which kind, follows from its name --- */

unsigned cause_count_intents(unsigned cause);
unsigned cause_pick_target(const Actor *actor, unsigned cause, unsigned i);
bool cause_is_join(unsigned cause, unsigned i);
void cause_name_effect(const Actor *actor, unsigned cause, unsigned i, char out[static 32]);
