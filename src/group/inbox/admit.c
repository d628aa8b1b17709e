/* SPDX-License-Identifier: Apache-2.0 */

/* inbox.admit: asked for both users before a direct conversation is created. What nobody has answered yet is
 * kept beside the inbox, a record for each, so the count is exact and durable; one is let in at a time. That a
 * conversation was answered is looked for only when there is no room: its members know who has written. */

#include "group/conversation/conversation.h"
#include "group/inbox/inbox.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define ADMIT_MAX_ROWS 3000U /* more than both limits together can leave, also if they were lowered */
#define ADMIT_MAX_FREED (STORE_MAX_FOLLOWERS / 2) /* by one admission; the next finds the rest */
/* One that is not created so long after it was admitted was given up. */
#define ABANDONED_MSEC (60 * 1000)

/* --- one at a time --- */

struct InboxLock {
        UT_hash_handle hh;
        FiberQueue waiting;
        unsigned n_users;
        bool held;
        char inbox[CONVERSATION_ID_SIZE];
};

static InboxLock *get_lock(GroupRole *role, const char *inbox) {
        InboxLock *lock;

        HASH_FIND_STR(role->inbox_locks, inbox, lock);
        if (lock)
                return lock;
        lock = new0(InboxLock, 1);
        if (!lock)
                return NULL;
        strncpy(lock->inbox, inbox, sizeof(lock->inbox) - 1);
        HASH_ADD_STR(role->inbox_locks, inbox, lock);
        return HASH_WAS_ADDED(lock) ? lock : mfree(lock);
}

static void drop_lock(GroupRole *role, InboxLock *lock) {
        if (--lock->n_users > 0)
                return;
        HASH_DEL(role->inbox_locks, lock);
        free(lock);
}

static int take_lock(GroupRole *role, const char *inbox, InboxLock **ret) {
        InboxLock *lock = get_lock(role, inbox);

        if (!lock)
                return -ENOMEM;
        lock->n_users++;
        while (lock->held) {
                int r = fiber_queue_wait(&lock->waiting, UINT64_MAX);
                if (r < 0) {
                        drop_lock(role, lock);
                        return r;
                }
        }
        lock->held = true;
        *ret = lock;
        return 0;
}

static void release_lock(GroupRole *role, InboxLock *lock) {
        lock->held = false;
        fiber_queue_wake(&lock->waiting);
        drop_lock(role, lock);
}

/* --- what the inbox has --- */

typedef struct Admission {
        Call *call;
        const Sc__InboxAdmitRequest *request;
        char inbox[CONVERSATION_ID_SIZE];
        Sc__Unanswered **rows; /* of the kind that is asked for */
        size_t n_rows;
        bool known; /* it was admitted before */
        const Sc__InboxSize *size; /* NULL: not counted yet */
        uint32_t n_conversations;
} Admission;

static int read_rows(Admission *admission) {
        Sc__Unanswered from = SC__UNANSWERED__INIT;
        Sc__InboxSize key = SC__INBOX_SIZE__INIT;
        GroupRole *role = admission->call->role;
        StoreRows *rows;

        from.inbox = key.inbox = admission->inbox;
        const StoreRead reads[] = {
                {.info = &sc__unanswered__info, .from = &from.base, .n_prefix = 1, .limit = ADMIT_MAX_ROWS},
                {.info = &sc__inbox_size__info, .from = &key.base, .n_prefix = 1},
        };
        int r = store_read(role->store, &admission->call->arena, reads, ELEMENTSOF(reads), &rows);
        if (r < 0)
                return r;
        admission->rows = (Sc__Unanswered **) rows[0].records;
        for (size_t i = 0; i < rows[0].n; i++) {
                Sc__Unanswered *row = (Sc__Unanswered *) rows[0].records[i];
                if (streq(row->conversation, admission->request->conversation))
                        admission->known = true;
                if (row->received == admission->request->received)
                        admission->rows[admission->n_rows++] = row;
        }
        if (rows[1].n > 0)
                admission->size = (const Sc__InboxSize *) rows[1].records[0];
        return 0;
}

/* Its record comes with the admission; what joins before that is counted here, what joins later by join.c. */
static int count_conversations(Admission *admission) {
        GroupRole *role = admission->call->role;
        Sc__InboxEntry **entries;
        size_t n;

        if (admission->size) {
                admission->n_conversations = admission->size->conversations;
                return 0;
        }
        int r = inbox_read(role, &admission->call->arena, admission->request->user,
                role->conf->group_max_conversations, &entries, &n);
        if (r < 0)
                return r;
        admission->n_conversations = (uint32_t) n;
        return 0;
}

/* --- making room --- */

/* Was this one answered, or never created? By the record of the member who is to answer. */
static bool is_over(const GroupRole *role, const Sc__Unanswered *row, const StoreRows *members) {
        const Conversation *loaded = conversations_find_loaded(role->conversations, row->conversation);

        if (loaded && conversation_has_written(loaded, row->awaits))
                return true;
        if (members->n == 0)
                return !loaded && row->opened_at + ABANDONED_MSEC < unix_msec();
        return ((const Sc__Member *) members->records[0])->has_written > 0;
}

static int read_members(Admission *admission, StoreRows **ret) {
        Arena *arena = &admission->call->arena;
        GroupRole *role = admission->call->role;
        Sc__Member *keys = arena_new(arena, Sc__Member, admission->n_rows);
        StoreRead *reads = arena_new(arena, StoreRead, admission->n_rows);

        if (!keys || !reads)
                return -ENOMEM;
        for (size_t i = 0; i < admission->n_rows; i++) {
                keys[i] = (Sc__Member) SC__MEMBER__INIT;
                keys[i].conversation = admission->rows[i]->conversation;
                keys[i].user = admission->rows[i]->awaits;
                reads[i] = (StoreRead){.info = &sc__member__info, .from = &keys[i].base, .n_prefix = 2};
        }
        return store_read(role->store, arena, reads, admission->n_rows, ret);
}

static int delete_rows(Admission *admission, const Sc__Unanswered *const *over, size_t n) {
        GroupRole *role = admission->call->role;
        StoreItem *items = arena_new(&admission->call->arena, StoreItem, n);
        StoreWritten written;

        if (!items)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                items[i] = (StoreItem){STORE_DELETE, &sc__unanswered__info, &over[i]->base};
        int r = store_write(role->store,
                &(StoreWrite){.partition = admission->inbox,
                        .guard = items[0],
                        .followers = items + 1,
                        .n_followers = n - 1},
                &written);
        group_role_note_write(role, r);
        return r;
}

/* How many were freed. */
static int make_room(Admission *admission) {
        const Sc__Unanswered **over =
                arena_new(&admission->call->arena, const Sc__Unanswered *, ADMIT_MAX_FREED);
        StoreRows *members;
        size_t n = 0;

        if (!over)
                return -ENOMEM;
        int r = read_members(admission, &members);
        if (r < 0)
                return r;
        for (size_t i = 0; i < admission->n_rows && n < ADMIT_MAX_FREED; i++)
                if (is_over(admission->call->role, admission->rows[i], &members[i]))
                        over[n++] = admission->rows[i];
        r = n > 0 ? delete_rows(admission, over, n) : 0;
        return r < 0 ? r : (int) n;
}

/* --- admission --- */

/* 0: it is not limited. */
static uint64_t limit_of(const Admission *admission) {
        const Conf *conf = ((const GroupRole *) admission->call->role)->conf;

        if (isempty(admission->request->awaits))
                return 0;
        return admission->request->received ? conf->group_max_strangers : conf->group_max_unanswered;
}

static int check_room(Admission *admission) {
        uint64_t max = limit_of(admission);

        if (max == 0 || admission->n_rows < max)
                return 0;
        int r = make_room(admission);
        if (r < 0)
                return r;
        if (admission->n_rows - (size_t) r < max)
                return 0;
        return call_refuse(admission->call,
                admission->request->received ? ERROR_INBOX_FULL : ERROR_TOO_MANY_UNANSWERED, "%s", "");
}

/* Somebody else may have stored the same. */
static int insert(Admission *admission, const StoreItem *items, size_t n) {
        GroupRole *role = admission->call->role;
        StoreWritten written;

        int r = store_write(role->store,
                &(StoreWrite){.partition = admission->inbox,
                        .guard = {STORE_INSERT, items[0].info, items[0].record},
                        .followers = items + 1,
                        .n_followers = n - 1},
                &written);
        group_role_note_write(role, r);
        return r == -EEXIST ? 0 : r;
}

static int store_admission(Admission *admission) {
        Sc__Unanswered row = SC__UNANSWERED__INIT;
        Sc__InboxSize size = SC__INBOX_SIZE__INIT;
        StoreItem items[2];
        size_t n = 0;

        row.inbox = size.inbox = admission->inbox;
        row.conversation = admission->request->conversation;
        row.awaits = admission->request->awaits;
        row.received = admission->request->received;
        row.opened_at = unix_msec();
        size.conversations = admission->n_conversations;
        if (limit_of(admission) > 0)
                items[n++] = (StoreItem){STORE_PUT, &sc__unanswered__info, &row.base};
        if (!admission->size)
                items[n++] = (StoreItem){STORE_PUT, &sc__inbox_size__info, &size.base};
        return n > 0 ? insert(admission, items, n) : 0;
}

static int admit(Admission *admission) {
        const GroupRole *role = admission->call->role;

        int r = read_rows(admission);
        if (r < 0 || admission->known)
                return r;
        r = count_conversations(admission);
        if (r < 0)
                return r;
        if (admission->n_conversations >= role->conf->group_max_conversations)
                return call_refuse(admission->call, ERROR_TOO_MANY_CONVERSATIONS, "%s", "");
        r = check_room(admission);
        return r < 0 ? r : store_admission(admission);
}

int handle_inbox_admit(
        Call *call, const Sc__InboxAdmitRequest *request, _unused_ Sc__InboxAdmitResponse *response) {
        Admission admission = {.call = call, .request = request};
        GroupRole *role = call->role;
        InboxLock *lock;

        personal_conversation_id(request->user, admission.inbox);
        int r = take_lock(role, admission.inbox, &lock);
        if (r < 0)
                return r;
        r = admit(&admission);
        release_lock(role, lock);
        return r;
}
