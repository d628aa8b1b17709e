/* SPDX-License-Identifier: Apache-2.0 */
#include "store-model.h"

#include "random.h"
#include "store-model-disk.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define MAX_DISKS 4U
#define MAX_KINDS 4U
#define STEPS_IN_ORDER 64U /* of one iteration of the loop */
#define STEPS_REORDERED 4U
#define LATE_PERCENT 10U /* of the steps let something land */
#define LATE_PERCENT_IDLE                                                                                   \
        1U /* of those that find nothing else to do: so that who looks at once may be too early */

/* An operation that the back end has. A write waits, is carried out, is handed back; a read is carried out
 * item by item. */
typedef struct Task {
        TAILQ_ENTRY(Task) link;
        Operation *operation;
        uint64_t begin_usec; /* not before */
        bool carried_out;
        size_t n_read; /* items */
        bool *is_read; /* each item */
} Task;

typedef TAILQ_HEAD(TaskList, Task) TaskList;

/* A write that its caller was told is unknown, and that may still be done. */
typedef struct Late {
        TAILQ_ENTRY(Late) link;
        Operation *operation;
        Disk *disk;
} Late;

typedef struct NamedDisk {
        char *name;
        Disk *disk;
} NamedDisk;

struct Model {
        Random random;
        ModelFaults faults;
        NamedDisk disks[MAX_DISKS];
        size_t n_disks;
        bool sees_other_conversations, prefers_taken, disconnected, full, crashed;
        uint64_t n_writes, n_writes_before_faults;
        TAILQ_HEAD(, Late) late;
        TAILQ_HEAD(, Backend) backends;
};

struct Backend {
        TAILQ_ENTRY(Backend) link;
        Model *model;
        Store *store;
        Disk *disk;
        sd_event *event;
        sd_event_source *later, *soon; /* one of them is on while there is something to do */
        TaskList tasks; /* in the order of their submission */
        size_t n_tasks;
        bool dead; /* the process died: nothing reaches the disk any more */
};

/* Which model is opened by a kind. */
typedef struct Use {
        BackendClass class;
        Model *model;
} Use;

static Use uses[MAX_KINDS];
static size_t n_uses;

Model *model_new(uint64_t seed) {
        Model *model = new0(Model, 1);

        assert_se(model);
        model->random.state = seed;
        model->sees_other_conversations = random_percent(&model->random, 50);
        model->prefers_taken = random_percent(&model->random, 50);
        TAILQ_INIT(&model->late);
        TAILQ_INIT(&model->backends);
        return model;
}

static void drop_late(Model *model, Late *late) {
        TAILQ_REMOVE(&model->late, late, link);
        operation_free(late->operation);
        free(late);
}

Model *model_free(Model *model) {
        if (!model)
                return NULL;
        assert_se(TAILQ_EMPTY(&model->backends));
        while (!TAILQ_EMPTY(&model->late))
                drop_late(model, TAILQ_FIRST(&model->late));
        FOREACH_ARRAY(d, model->disks, model->n_disks) {
                free(d->name);
                disk_free(d->disk);
        }
        FOREACH_ARRAY(use, uses, n_uses)
                if (use->model == model)
                        use->model = NULL;
        free(model);
        return NULL;
}

static Disk *get_disk(Model *model, const char *name) {
        FOREACH_ARRAY(d, model->disks, model->n_disks)
                if (streq(d->name, name))
                        return d->disk;
        assert_se(model->n_disks < MAX_DISKS);
        NamedDisk *d = &model->disks[model->n_disks++];
        *d = (NamedDisk){strdup(name), disk_new(model->sees_other_conversations, model->prefers_taken)};
        assert_se(d->name);
        return d->disk;
}

/* --- outcomes --- */

static bool is_write(const Operation *o) {
        return o->kind == OPERATION_WRITE || o->kind == OPERATION_APPEND ||
               o->kind == OPERATION_DELETE_ENTRIES;
}

/* With an error that says nothing of the outcome but itself. */
static void fail(Operation *o, int r) {
        o->r = r;
        if (o->kind == OPERATION_WRITE) {
                o->write.version = 0;
                o->write.extras.last_intent = 0;
        } else if (o->kind == OPERATION_APPEND) {
                o->append.last_seq = o->append.n_taken = 0;
                o->append.taken = NULL;
                o->append.extras.last_intent = 0;
        } else if (o->kind == OPERATION_DELETE_ENTRIES)
                o->delete_entries.n_deleted = 0;
}

static void remove_task(Backend *b, Task *task) {
        TAILQ_REMOVE(&b->tasks, task, link);
        b->n_tasks--;
        free(task->is_read);
        free(task);
}

static void hand_back(Store *store, Operation *o) {
        OperationList list = TAILQ_HEAD_INITIALIZER(list);

        TAILQ_INSERT_TAIL(&list, o, link);
        store_finish(store, &list);
}

/* The operation stays to be done later, and another one brings the caller the answer. */
static Operation *make_late(Backend *b, Operation *o) {
        Operation *answer = malloc(sizeof(Operation));
        Late *late = new0(Late, 1);

        assert_se(answer && late);
        *answer = *o;
        arena_init(&answer->arena, SIZE_MAX);
        answer->partition = arena_strdup(&answer->arena, o->partition); /* the other may be gone first */
        assert_se(answer->partition);
        *late = (Late){.operation = o, .disk = b->disk};
        TAILQ_INSERT_TAIL(&b->model->late, late, link);
        return answer;
}

static void land(Model *model, Late *late) {
        disk_write(late->disk, late->operation);
        drop_late(model, late);
}

/* Any of them, but half of the time the one that came last: somebody may be looking for it just now. */
static Late *pick_late(Model *model) {
        Late *late;
        unsigned n = 0;

        TAILQ_FOREACH(late, &model->late, link)
                n++;
        if (n == 0)
                return NULL;
        n = random_percent(&model->random, 50) ? n - 1 : random_below(&model->random, n);
        TAILQ_FOREACH(late, &model->late, link)
                if (n-- == 0)
                        break;
        return late;
}

void model_settle(Model *model) {
        while (!TAILQ_EMPTY(&model->late))
                land(model, pick_late(model));
}

/* --- steps --- */

static void refuse(Backend *b, Operation *o) {
        static const int errors[] = {-ENOTCONN, -EIO, -ENOMEM, -ENOSPC};

        fail(o, errors[random_below(&b->model->random, is_write(o) ? 4 : 3)]);
}

/* One that tells nothing: done, not done, or not yet done. */
static void leave_unknown(Backend *b, Task *task) {
        unsigned fate = random_below(&b->model->random, 3);

        if (fate == 0)
                disk_write(b->disk, task->operation);
        else if (fate == 1)
                task->operation = make_late(b, task->operation);
        fail(task->operation, -EINPROGRESS);
}

/* Does the process die here? Then whatever is under way is decided. */
static bool crash_here(Model *model, bool after) {
        uint64_t point = 2 * (model->n_writes - model->n_writes_before_faults) - (after ? 0 : 1);

        if (model->faults.crash_point != point)
                return false;
        model_crash(model);
        return true;
}

static void carry_out(Backend *b, Task *task) {
        Model *model = b->model;
        Operation *o = task->operation;

        task->carried_out = true;
        model->n_writes++;
        if (model->faults.crash_point > 0 && crash_here(model, false))
                return;
        if (model->disconnected)
                fail(o, -ENOTCONN);
        else if (model->full)
                fail(o, -ENOSPC);
        else if (random_percent(&model->random, model->faults.refuse))
                refuse(b, o);
        else if (random_percent(&model->random, model->faults.unknown))
                leave_unknown(b, task);
        else {
                disk_write(b->disk, o);
                store_count_commit(b->store, 1);
        }
        if (model->faults.crash_point > 0)
                (void) crash_here(model, true);
}

static void complete(Backend *b, Task *task) {
        Operation *o = task->operation;

        remove_task(b, task);
        hand_back(b->store, o);
}

/* Writes of a partition are carried out, and handed back, in the order of their submission. */
static void step_write(Backend *b, Task *task) {
        const char *partition = task->operation->partition;
        Task *first = NULL, *waiting = NULL, *t;

        TAILQ_FOREACH(t, &b->tasks, link) {
                if (!is_write(t->operation) || !streq(t->operation->partition, partition))
                        continue;
                first = first ?: t;
                if (t->carried_out)
                        continue;
                waiting = t;
                break;
        }
        if (first->carried_out && (!waiting || random_percent(&b->model->random, 50)))
                complete(b, first);
        else if (waiting->begin_usec <= boottime_usec())
                carry_out(b, waiting);
}

static void read_one(Backend *b, Task *task) {
        Operation *o = task->operation;
        size_t i = 0, skip = 0;

        if (b->model->faults.reorder)
                skip = random_below(&b->model->random, (unsigned) (o->read.n - task->n_read));
        for (; task->is_read[i] || skip > 0; i++)
                skip -= !task->is_read[i];
        task->is_read[i] = true;
        task->n_read++;
        o->r = disk_read(b->disk, &o->read.items[i], &b->model->random, &o->arena, &o->read.rows[i]);
}

static void step_read(Backend *b, Task *task) {
        Operation *o = task->operation;
        Model *model = b->model;

        if (task->n_read == 0 && model->disconnected)
                fail(o, -ENOTCONN);
        else if (task->n_read == 0 && random_percent(&model->random, model->faults.refuse))
                refuse(b, o);
        else if (o->kind == OPERATION_CHECK)
                disk_check(b->disk, o);
        else {
                read_one(b, task);
                if (o->r == 0 && task->n_read < o->read.n)
                        return;
        }
        complete(b, task);
}

static Task *pick_task(Backend *b) {
        uint64_t now = boottime_usec();
        Task *task = TAILQ_FIRST(&b->tasks), *t;

        if (!b->model->faults.reorder)
                return task->carried_out || task->begin_usec <= now ? task : NULL;
        for (unsigned skip = random_below(&b->model->random, (unsigned) b->n_tasks); skip > 0; skip--)
                task = TAILQ_NEXT(task, link);
        if (task->carried_out || task->begin_usec <= now)
                return task;
        TAILQ_FOREACH(t, &b->tasks, link)
                if (t->carried_out || t->begin_usec <= now)
                        return t;
        return NULL;
}

/* False: there is nothing to be done now. */
static bool step(Backend *b) {
        Model *model = b->model;

        if (!TAILQ_EMPTY(&model->late) &&
                random_percent(&model->random, b->n_tasks > 0 ? LATE_PERCENT : LATE_PERCENT_IDLE))
                land(model, pick_late(model));
        Task *task = b->n_tasks > 0 ? pick_task(b) : NULL;
        if (!task)
                return false;
        if (!is_write(task->operation))
                step_read(b, task);
        else if (model->faults.reorder)
                step_write(b, task);
        else {
                if (!task->carried_out)
                        carry_out(b, task);
                if (!b->dead)
                        complete(b, task);
        }
        return true;
}

/* --- the loop --- */

static uint64_t random_delay(Model *model, uint64_t max_usec) {
        return max_usec > 0 ? random_next(&model->random) % (max_usec + 1) : 0;
}

/* When there is something to do next. */
static void arm(Backend *b) {
        uint64_t next = UINT64_MAX;
        Task *task;

        TAILQ_FOREACH(task, &b->tasks, link) {
                if (task->carried_out) {
                        next = 0;
                        break;
                }
                next = MIN(next, task->begin_usec);
                if (!b->model->faults.reorder)
                        break;
        }
        if (next == UINT64_MAX && !TAILQ_EMPTY(&b->model->late)) {
                uint64_t max_usec = b->model->faults.max_delay_usec;
                next = max_usec > 0 ? boottime_usec() + random_delay(b->model, max_usec) : 0;
        }
        bool idle = next == UINT64_MAX || b->dead;
        assert_se(sd_event_source_set_time(b->later, next) >= 0);
        assert_se(sd_event_source_set_enabled(
                          b->later, idle || next == 0 ? SD_EVENT_OFF : SD_EVENT_ONESHOT) >= 0);
        assert_se(sd_event_source_set_enabled(
                          b->soon, !idle && next == 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF) >= 0);
}

static void act(Backend *b) {
        unsigned n = STEPS_IN_ORDER;

        if (b->model->faults.reorder)
                n = 1 + random_below(&b->model->random, STEPS_REORDERED);
        if (b->n_tasks == 0 && b->model->faults.max_delay_usec > 0 && !TAILQ_EMPTY(&b->model->late))
                land(b->model, pick_late(b->model));
        for (; n > 0 && !b->dead && step(b); n--)
                ;
        arm(b);
}

static int on_time(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        act(userdata);
        return 0;
}

static int on_soon(_unused_ sd_event_source *source, void *userdata) {
        act(userdata);
        return 0;
}

/* --- the back end --- */

static Use *find_use(const char *kind) {
        FOREACH_ARRAY(use, uses, n_uses)
                if (streq(use->class.kind, kind))
                        return use;
        return NULL;
}

static int open_backend(Backend **ret, Store *store, sd_event *event, const StoreConfig *config) {
        const Use *use = find_use(config->kind);
        Backend *b = new0(Backend, 1);

        assert_se(b && use && use->model);
        *b = (Backend){
                .model = use->model,
                .store = store,
                .event = sd_event_ref(event),
                .disk = get_disk(use->model, config->name),
        };
        TAILQ_INIT(&b->tasks);
        TAILQ_INSERT_TAIL(&b->model->backends, b, link);
        b->model->crashed = false;
        assert_se(sd_event_add_time(event, &b->later, CLOCK_BOOTTIME, 0, 1, on_time, b) >= 0);
        assert_se(sd_event_add_defer(event, &b->soon, on_soon, b) >= 0);
        /* Behind everything else: a source that is always ready keeps descriptors from being looked at. */
        assert_se(sd_event_source_set_priority(b->soon, SD_EVENT_PRIORITY_NORMAL + 1) >= 0);
        arm(b);
        *ret = b;
        return 0;
}

static void close_backend(Backend *b) {
        for (Task *next, *task = TAILQ_FIRST(&b->tasks); task; task = next) {
                next = TAILQ_NEXT(task, link);
                task->begin_usec = 0;
                if (is_write(task->operation) || task->n_read > 0)
                        continue;
                fail(task->operation, -ECANCELED);
                complete(b, task);
        }
        while (b->n_tasks > 0)
                (void) step(b);
        TAILQ_REMOVE(&b->model->backends, b, link);
        sd_event_source_disable_unref(b->later);
        sd_event_source_disable_unref(b->soon);
        sd_event_unref(b->event);
        free(b);
}

static void submit(Backend *b, Operation *o) {
        if (b->dead) {
                fail(o, -ENOTCONN);
                hand_back(b->store, o);
                return;
        }
        Task *task = new0(Task, 1);
        assert_se(task);
        task->operation = o;
        if (b->model->faults.max_delay_usec > 0)
                task->begin_usec = boottime_usec() + random_delay(b->model, b->model->faults.max_delay_usec);
        if (o->kind == OPERATION_READ) {
                task->is_read = new0(bool, o->read.n);
                assert_se(task->is_read);
        }
        TAILQ_INSERT_TAIL(&b->tasks, task, link);
        b->n_tasks++;
        arm(b);
}

static bool is_alive(_unused_ Backend *b, _unused_ uint64_t max_busy_usec) {
        return true;
}

static bool is_connected(Backend *b) {
        return !b->model->disconnected && !b->dead;
}

void model_use(Model *model, const char *kind) {
        Use *use = find_use(kind);

        if (!use) {
                assert_se(n_uses < MAX_KINDS);
                use = &uses[n_uses++];
                use->class = (BackendClass){
                        .kind = kind,
                        .open = open_backend,
                        .close = close_backend,
                        .submit = submit,
                        .is_alive = is_alive,
                        .is_connected = is_connected,
                };
                store_register_backend(&use->class);
        }
        use->model = model;
}

/* --- what tests do to it --- */

void model_set_faults(Model *model, const ModelFaults *faults) {
        Backend *b;

        model->faults = *faults;
        model->n_writes_before_faults = model->n_writes;
        TAILQ_FOREACH(b, &model->backends, link)
                arm(b);
}

void model_set_connected(Model *model, bool connected) {
        model->disconnected = !connected;
}

void model_set_full(Model *model, bool full) {
        model->full = full;
}

/* A write that waited is done or not; one that was carried out is what it is. Nobody learns of it. */
static void crash_backend(Backend *b) {
        b->dead = true;
        for (Task *next, *task = TAILQ_FIRST(&b->tasks); task; task = next) {
                next = TAILQ_NEXT(task, link);
                Operation *o = task->operation;
                if (is_write(o) && !task->carried_out && random_percent(&b->model->random, 50))
                        disk_write(b->disk, o);
                fail(o, is_write(o) ? -EINPROGRESS : -ENOTCONN);
                complete(b, task);
        }
        arm(b);
}

void model_crash(Model *model) {
        Backend *b;

        model->crashed = true;
        TAILQ_FOREACH(b, &model->backends, link)
                if (!b->dead)
                        crash_backend(b);
        for (Late *next, *late = TAILQ_FIRST(&model->late); late; late = next) {
                next = TAILQ_NEXT(late, link);
                unsigned fate = random_below(&model->random, 3);
                if (fate == 0)
                        land(model, late);
                else if (fate == 1)
                        drop_late(model, late);
        }
}

bool model_has_crashed(const Model *model) {
        return model->crashed;
}

uint64_t model_n_writes(const Model *model) {
        return model->n_writes;
}
