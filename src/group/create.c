/* SPDX-License-Identifier: Apache-2.0 */
#include "group/create.h"

#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

static void prepare(Create *create) {
        int64_t now = unix_msec();

        uuid_v7(create->epoch);
        create->record = (Sc__Conversation) SC__CONVERSATION__INIT;
        create->record.id = create->conversation->id;
        create->record.kind = create->kind;
        create->record.epoch = create->epoch;
        create->record.creator = (char *) strempty(create->creator);
        create->record.created_at = now;
        create->writes[0] = (StoreWrite){STORE_INSERT, &sc__conversation__info, &create->record.base};
        for (size_t i = 0; i < create->n_members; i++) {
                Sc__Member *member = &create->member_records[i];

                *member = (Sc__Member) SC__MEMBER__INIT;
                member->conversation = create->conversation->id;
                member->user = (char *) create->members[i];
                member->joined_at = now;
                create->writes[1 + i] = (StoreWrite){STORE_INSERT, &sc__member__info, &member->base};
        }
        create->n_writes = 1 + create->n_members;
        create->created = true;
}

static void on_loaded(int r, void *userdata) {
        Create *create = userdata;

        /* It was there when we tried to insert it. */
        if (r >= 0 && create->conversation->state != CONVERSATION_LOADED)
                r = -EIO;
        create->done(create, r);
}

/* All records are there now: ours, or those of whoever was first. */
static void finish(Create *create, int r) {
        Conversation *conversation = create->conversation;
        GroupRole *role = conversation->role;

        if (r >= 0 && create->created)
                conversation_set_created(conversation, &create->record);
        else if (r >= 0) {
                r = conversations_load(role->conversations, &create->conversation, 1, on_loaded, create);
                if (r == 0)
                        return;
        }
        create->done(create, MIN(r, 0));
}

static void on_written(int r, size_t failed, void *userdata) {
        Create *create = userdata;
        GroupRole *role = create->conversation->role;

        group_role_note_write(role, r);
        if (r != -EEXIST || failed >= create->n_writes)
                return finish(create, r);

        /* Somebody has this one already: the others still have to be there. */
        if (create->writes[failed].record == &create->record.base)
                create->created = false;
        create->n_writes--;
        memmove(&create->writes[failed], &create->writes[failed + 1],
                (create->n_writes - failed) * sizeof(StoreWrite));
        if (create->n_writes == 0)
                return finish(create, 0);
        r = store_write(role->store, create->writes, create->n_writes, on_written, create);
        if (r < 0)
                finish(create, r);
}

int create_conversation(Create *create) {
        GroupRole *role = create->conversation->role;

        prepare(create);
        return store_write(role->store, create->writes, create->n_writes, on_written, create);
}
