/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <ftw.h>
#include <stdio.h>

#include "store/record.h"
#include "store/store-submit.h"
#include "util/string-util.h"

#define WAIT_SEC 30

const MessageInfo *const fixture_records[] = {
        &sc__user__info,
        &sc__credential__info,
        &sc__session__info,
        &sc__conversation__info,
        &sc__conversation_head__info,
        &sc__member__info,
        &sc__inbox_entry__info,
        &sc__ended_session__info,
        &sc__message__info,
        NULL,
};

const char *fixture_parent = "/tmp";
FixtureConfig fixture_config = fixture_config_sqlite;
FixtureHook fixture_begin, fixture_end;

StoreConfig fixture_config_sqlite(const Fixture *f) {
        return (StoreConfig){
                .kind = "sqlite",
                .name = FIXTURE_STORE_NAME,
                .directory = f->directory,
                .records = fixture_records,
                .n_readers = 2,
                .batch_operations = 64,
                .max_queued = 1000,
        };
}

void fixture_new(Fixture *f) {
        *f = (Fixture){.directory = format_string("%s/store-test-XXXXXX", fixture_parent)};
        assert_non_null(mkdtemp(f->directory));
        f->path = format_string("%s/" FIXTURE_STORE_NAME ".db", f->directory);
        arena_init(&f->arena, SIZE_MAX);
        assert_true(sd_event_new(&f->event) >= 0);
        if (fixture_begin)
                fixture_begin(f);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
        return remove(path);
}

void fixture_done(Fixture *f) {
        fixture_close(f);
        if (fixture_end)
                fixture_end(f);
        sd_event_unref(f->event);
        arena_done(&f->arena);
        nftw(f->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        free(f->directory);
        free(f->path);
}

int fixture_open(Fixture *f, const MessageInfo *const *records) {
        StoreConfig config = fixture_config(f);

        if (records)
                config.records = records;
        return store_open(&f->store, f->event, &config);
}

void fixture_close(Fixture *f) {
        f->store = store_close(f->store);
}

int fixture_setup_closed(void **state) {
        Fixture *f = calloc(1, sizeof(*f));

        fixture_new(f);
        *state = f;
        return 0;
}

int fixture_setup(void **state) {
        fixture_setup_closed(state);
        assert_int_equal(fixture_open(*state, NULL), 0);
        return 0;
}

int fixture_teardown(void **state) {
        fixture_done(*state);
        free(*state);
        return 0;
}

void fixture_wait(Fixture *f, const bool *flag) {
        time_t end = time(NULL) + WAIT_SEC;

        while (!*flag) {
                assert_true(time(NULL) < end);
                assert_true(sd_event_run(f->event, 1000000) >= 0);
        }
}

void fixture_wait_completed(Fixture *f, unsigned n) {
        time_t end = time(NULL) + WAIT_SEC;

        while (f->n_completed < n) {
                assert_true(time(NULL) < end);
                assert_true(sd_event_run(f->event, 1000000) >= 0);
        }
}

static void count(Fixture *f, int r) {
        f->n_completed++;
        f->n_failed += r < 0;
}

void fixture_count_write(int r, const StoreWritten *written, void *userdata) {
        count(userdata, r);
}

void fixture_count_append(int r, const StoreAppended *appended, void *userdata) {
        count(userdata, r);
}

typedef struct Waiting {
        bool done;
        int r;
        unsigned n;
        StoreWritten written;
        Appended appended;
        Rows *rows;
        Checked checked;
} Waiting;

static void on_write(int r, const StoreWritten *written, void *userdata) {
        Waiting *w = userdata;

        w->r = r;
        w->written = *written;
        w->done = true;
}

int fixture_write(Fixture *f, const StoreWrite *write, StoreWritten *ret) {
        Waiting w = {};

        int r = store_write_start(f->store, write, on_write, &w);
        if (r < 0)
                return r;
        fixture_wait(f, &w.done);
        if (ret)
                *ret = w.written;
        return w.r;
}

int fixture_write_item(Fixture *f, const StoreItem *item, StoreWritten *ret) {
        const StoreWrite write = {.partition = record_partition(item->info, item->record), .guard = *item};
        return fixture_write(f, &write, ret);
}

int fixture_write_one(Fixture *f, StoreVerb verb, const MessageInfo *info, const void *record) {
        return fixture_write_item(f, &(StoreItem){.verb = verb, .info = info, .record = record}, NULL);
}

static Taken copy_taken(const Sc__Message *message) {
        Taken taken = {.seq = message->seq, .created_at = message->created_at};

        snprintf(taken.conversation, sizeof(taken.conversation), "%s", message->conversation);
        snprintf(taken.sender, sizeof(taken.sender), "%s", message->sender);
        snprintf(taken.client_msg_id, sizeof(taken.client_msg_id), "%s", message->client_msg_id);
        if (message->body_case == SC__MESSAGE__BODY_TEXT)
                snprintf(taken.text, sizeof(taken.text), "%s", message->text);
        return taken;
}

static void on_append(int r, const StoreAppended *appended, void *userdata) {
        Waiting *w = userdata;

        w->appended = (Appended){
                .r = r,
                .last_seq = appended->last_seq,
                .last_intent = appended->last_intent,
                .n_taken = appended->n_taken,
        };
        for (size_t i = 0; i < MIN(appended->n_taken, ELEMENTSOF(w->appended.taken)); i++)
                w->appended.taken[i] = copy_taken(appended->taken[i]);
        w->done = true;
}

Appended fixture_append_all(Fixture *f, const StoreAppend *append) {
        Waiting w = {};

        int r = store_append_start(f->store, append, on_append, &w);
        if (r < 0)
                return (Appended){.r = r};
        fixture_wait(f, &w.done);
        return w.appended;
}

Appended fixture_append(
        Fixture *f, const char *conversation, uint64_t after_seq, Sc__Message *const *entries, size_t n) {
        return fixture_append_all(f, &(StoreAppend){
                                             .conversation = conversation,
                                             .after_seq = after_seq,
                                             .entries = entries,
                                             .n = n,
                                     });
}

static void on_deleted(int r, unsigned n, void *userdata) {
        Waiting *w = userdata;

        w->r = r;
        w->n = n;
        w->done = true;
}

int fixture_delete_entries(
        Fixture *f, const char *conversation, uint64_t last_seq, unsigned limit, unsigned *ret) {
        Waiting w = {};

        int r = store_submit_delete_entries(f->store, conversation, last_seq, limit, on_deleted, &w);
        if (r < 0)
                return r;
        fixture_wait(f, &w.done);
        *ret = w.n;
        return w.r;
}

Sc__Message fixture_message(
        const char *conversation, const char *sender, const char *client_msg_id, const char *text) {
        Sc__Message message = SC__MESSAGE__INIT;

        message.conversation = (char *) conversation;
        message.sender = (char *) sender;
        message.client_msg_id = (char *) client_msg_id;
        message.kind = (char *) "text";
        message.body_case = SC__MESSAGE__BODY_TEXT;
        message.text = (char *) text;
        message.created_at = 1700000000000;
        return message;
}

Appended fixture_append_text(Fixture *f, const char *conversation, uint64_t after_seq, const char *sender,
        const char *client_msg_id, const char *text) {
        Sc__Message message = fixture_message(conversation, sender, client_msg_id, text);

        return fixture_append(f, conversation, after_seq, (Sc__Message *[]){&message}, 1);
}

static ProtobufCMessage *copy_record(const ProtobufCMessage *record) {
        _cleanup_free_ uint8_t *packed = malloc(protobuf_c_message_get_packed_size(record) + 1);
        size_t size = protobuf_c_message_pack(record, packed);

        ProtobufCMessage *copy = protobuf_c_message_unpack(record->descriptor, NULL, size, packed);
        assert_non_null(copy);
        return copy;
}

static void on_read(int r, const StoreRows *rows, size_t n, Arena *arena, void *userdata) {
        Waiting *w = userdata;

        w->r = r;
        w->done = true;
        for (size_t i = 0; i < n; i++) {
                w->rows[i] = (Rows){.n = rows[i].n, .more = rows[i].more};
                w->rows[i].records = calloc(rows[i].n + 1, sizeof(ProtobufCMessage *));
                for (size_t k = 0; k < rows[i].n; k++)
                        w->rows[i].records[k] = copy_record(rows[i].records[k]);
        }
}

int fixture_read(Fixture *f, const StoreRead *reads, size_t n, Rows *ret) {
        Waiting w = {.rows = ret};

        int r = store_read_start(f->store, reads, n, on_read, &w);
        if (r < 0)
                return r;
        fixture_wait(f, &w.done);
        return w.r;
}

void fixture_rows_done(Rows *rows) {
        for (size_t i = 0; rows->records && i < rows->n; i++)
                protobuf_c_message_free_unpacked(rows->records[i], NULL);
        free(rows->records);
        *rows = (Rows){};
}

ProtobufCMessage *fixture_get(Fixture *f, const MessageInfo *info, const void *key) {
        const StoreRead read = {.info = info, .from = key, .n_prefix = info->record->key.n_fields};
        Rows rows = {};

        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_true(rows.n <= 1);
        ProtobufCMessage *record = rows.n > 0 ? rows.records[0] : NULL;
        free(rows.records);
        return record;
}

uint64_t fixture_count_messages(Fixture *f, const char *conversation) {
        Sc__Message from = SC__MESSAGE__INIT;
        uint64_t n = 0;

        from.conversation = (char *) conversation;
        for (bool more = true; more;) {
                _cleanup_rows_ Rows rows = {};
                const StoreRead read = {.info = &sc__message__info,
                        .from = &from.base,
                        .n_prefix = 1,
                        .after = true,
                        .limit = 1000};
                assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
                for (size_t i = 0; i < rows.n; i++)
                        assert_int_equal(((Sc__Message *) rows.records[i])->seq, ++n);
                from.seq = n;
                more = rows.more;
        }
        return n;
}

static void on_check(int r, const StoreCheck *check, Arena *arena, void *userdata) {
        Waiting *w = userdata;

        w->checked = (Checked){.r = r, .pages = check->pages};
        for (; check->findings[w->checked.n_findings]; w->checked.n_findings++)
                ;
        if (w->checked.n_findings > 0)
                snprintf(w->checked.first, sizeof(w->checked.first), "%s", check->findings[0]);
        w->done = true;
}

Checked fixture_check(Fixture *f) {
        Waiting w = {};

        int r = store_submit_check(f->store, on_check, &w);
        if (r < 0)
                return (Checked){.r = r};
        fixture_wait(f, &w.done);
        return w.checked;
}
