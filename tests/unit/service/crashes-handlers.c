/* SPDX-License-Identifier: Apache-2.0 */

/* The handlers of role B. */

#include <stdio.h>

#include "crashes-world.h"
#include "schema-tables.h"
#include "util/string-util.h"

typedef struct Appended {
        Future future;
        int r;
} Appended;

static void on_appended(int r, const StoreAppended *result, void *userdata) {
        Appended *appended = userdata;

        appended->r = r;
        future_fulfil(&appended->future);
}

static int append_and_wait(Store *store, const StoreAppend *append) {
        Appended *appended = new0(Appended, 1);

        assert_se(appended);
        future_init(&appended->future, NULL);
        future_ref(&appended->future);
        int r = store_append_start(store, append, on_appended, appended);
        if (r < 0)
                future_unref(&appended->future);
        else {
                future_await_fully(&appended->future);
                r = appended->r;
        }
        future_unref(&appended->future);
        return r;
}

static int read_last_seq(Call *call, Store *store, uint64_t *ret) {
        Sc__Message from = SC__MESSAGE__INIT;
        const StoreRead read = {
                .info = &sc__message__info, .from = &from.base, .n_prefix = 1, .descending = true};
        StoreRows *rows;

        from.conversation = (char *) call->intent.target;
        int r = store_read(store, &call->arena, &read, 1, &rows);
        if (r >= 0)
                *ret = rows->n > 0 ? ((Sc__Message *) rows->records[0])->seq : 0;
        return r;
}

/* One entry of the inbox's log, whose guard is the intent's id. */
static int append_once(Call *call, Process *process, const char *effect) {
        Sc__Message message = SC__MESSAGE__INIT, *entries[] = {&message};
        Sc__Received received;
        const StoreItem follower = intent_follower(call, &received);
        char id[UUID_TEXT_SIZE];
        StoreAppend append = {.conversation = call->intent.target,
                .entries = entries,
                .n = 1,
                .followers = &follower,
                .n_followers = 1};

        intent_make_id(call, id);
        message.conversation = (char *) call->intent.target;
        message.client_msg_id = id;
        message.sender = (char *) call->intent.source;
        message.created_at = (int64_t) call->intent.number;
        message.body_case = SC__MESSAGE__BODY_TEXT;
        message.text = (char *) effect;
        int r = read_last_seq(call, process->store, &append.after_seq);
        if (r < 0)
                return r;
        return append_and_wait(process->store, &append);
}

static Target *find_target(Process *process, const char *name) {
        FOREACH_ARRAY(target, process->targets, WORLD_TARGETS)
                if (streq(target->name, name))
                        return target;
        abort();
}

static int take_in_by_append(Call *call, Process *process, const char *effect) {
        Target *target = find_target(process, call->intent.target);

        int r = intent_is_repeat(call, process->store);
        if (r != 0)
                return r;
        while (target->busy) {
                r = fiber_queue_wait(&target->waiting, UINT64_MAX);
                if (r < 0)
                        return r;
        }
        target->busy = true;
        do
                r = append_once(call, process, effect);
        while (r == -ESTALE);
        target->busy = false;
        fiber_queue_wake(&target->waiting);
        return r == -EEXIST ? 1 : r;
}

/* A counter of the source's effects, whose guard is its version. */
static int take_in_by_version(Call *call, Process *process) {
        Sc__Member key = SC__MEMBER__INIT, *member;
        const StoreChange change = {store_field(&sc__member__info, "read_seq"), STORE_INCREMENT};
        Sc__Received received;
        const StoreItem follower = intent_follower(call, &received);
        StoreWrite write = {.partition = call->intent.target,
                .guard = {.info = &sc__member__info, .record = &key.base},
                .followers = &follower,
                .n_followers = 1};

        for (;;) {
                key.conversation = (char *) call->intent.target;
                key.user = (char *) call->intent.source;
                key.read_seq = 1;
                int r = store_get(process->store, &call->arena, &sc__member__info, &key.base, &member);
                if (r < 0)
                        return r;
                write.guard.verb = r > 0 ? STORE_PATCH : STORE_INSERT;
                write.guard.changes = r > 0 ? &change : NULL;
                write.guard.n_changes = r > 0;
                key.version = r > 0 ? member->version : 0;
                r = intent_is_repeat(call, process->store);
                if (r != 0)
                        return r;
                r = store_write(process->store, &write, NULL);
                if (r != -ESTALE && r != -EEXIST)
                        return r;
        }
}

static Actor *find_actor(World *world, const char *name) {
        Process *process = name[0] == 'a' ? &world->a : &world->b;

        return &process->actors[name[1] - '0'];
}

static void note_answer(World *world, const char *effect) {
        char actor[3];
        unsigned cause, i;

        assert_se(sscanf(effect, "%2[^-]-%u-%u", actor, &cause, &i) == 3);
        find_actor(world, actor)->answered[cause][i] = true;
}

/* The effect is named by its cause; those with a '!' are refused as long as there is poison. */
Sc__ErrorCode handle_intent(Call *call, Process *process) {
        World *world = process->world;
        const char *effect;
        int r;

        if (call->method == &method_inbox_join) {
                effect = ((Sc__InboxJoinRequest *) call->request)->by;
                r = world->poison && strchr(effect, '!') ? -EPERM : take_in_by_version(call, process);
        } else {
                effect = ((Sc__InboxSessionEndedRequest *) call->request)->session;
                r = world->poison && strchr(effect, '!') ? -EPERM : take_in_by_append(call, process, effect);
        }
        world_note(world, effect, (uint64_t) r);
        if (r == 1)
                world->n_repeats++;
        else if (r == 0)
                world->n_effects++;
        if (r >= 0 || r == -EPERM)
                note_answer(world, effect);
        if (r == -EPERM)
                return ERROR_PERMISSION_DENIED;
        return r < 0 ? ERROR_TIMEOUT : ERROR_NONE;
}
