/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/append.h"

#include "store/sqlite/write.h"

static const MessageInfo *find_message_info(const MessageInfo *const *records) {
        for (; *records; records++)
                if ((*records)->descriptor == &sc__message__descriptor)
                        return *records;
        return NULL;
}

/* The index whose fields are client_msg_id and sender. */
static const IndexInfo *find_client_id_index(const MessageInfo *info) {
        int sender = record_find_field(info, "sender"), id = record_find_field(info, "client_msg_id");

        FOREACH_ARRAY(index, info->record->indexes, info->record->n_indexes)
                if (index->unique && index->n_fields == 2 && (int) index->fields[0] == id &&
                        (int) index->fields[1] == sender)
                        return index;
        return NULL;
}

int appender_init(Appender *a, SqliteConnection *connection, const MessageInfo *const *records) {
        *a = (Appender){.connection = connection, .info = find_message_info(records)};
        if (!a->info)
                return 0;
        const IndexInfo *key = &a->info->record->key;
        a->by_client_id = find_client_id_index(a->info);
        if (!a->by_client_id || key->n_fields != 2)
                return -EINVAL;
        a->conversation = key->fields[0];
        a->seq = key->fields[1];
        a->client_msg_id = a->by_client_id->fields[0];
        a->last_seqs = seq_cache_new();
        return a->last_seqs ? 0 : -ENOMEM;
}

void appender_done(Appender *a) {
        a->last_seqs = seq_cache_free(a->last_seqs);
}

void appender_forget(Appender *a) {
        if (a->last_seqs)
                seq_cache_clear(a->last_seqs);
}

void appender_give_back(Appender *a) {
        if (a->last_seqs)
                seq_cache_give_back(a->last_seqs);
}

static int find_last_seq(Appender *a, const Operation *o, uint64_t *ret) {
        const StatementShape shape = {.info = a->info, .kind = STATEMENT_LAST};
        const Value *conversation = &o->append.values[a->conversation];
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        if (seq_cache_get(a->last_seqs, o->partition, ret))
                return 0;
        int r = connection_prepare(a->connection, &shape, &statement);
        if (r < 0)
                return r;
        int rc = statement_bind(statement, (int) a->conversation + 1, conversation);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc != SQLITE_ROW)
                return connection_error(a->connection, rc) ?: -EIO;
        *ret = (uint64_t) sqlite3_column_int64(statement, 0);
        return 0;
}

static const Value *entry_values(const Appender *a, const Operation *o, size_t i) {
        return o->append.values + i * record_n_fields(a->info);
}

/* Takes back the first n entries, which this operation has inserted. */
static int undo_entries(Appender *a, const Operation *o, size_t n) {
        const StatementShape shape = {.info = a->info, .kind = STATEMENT_DELETE};

        for (size_t i = 0; i < n; i++) {
                _cleanup_reset_ sqlite3_stmt *statement = NULL;
                const Value *values = entry_values(a, o, i);
                int r = connection_prepare(a->connection, &shape, &statement);
                if (r < 0)
                        return r;
                int rc = statement_bind(statement, (int) a->conversation + 1, &values[a->conversation]);
                if (rc == SQLITE_OK)
                        rc = statement_bind(statement, (int) a->seq + 1, &values[a->seq]);
                if (rc == SQLITE_OK)
                        rc = sqlite3_step(statement);
                if (rc != SQLITE_DONE)
                        return connection_error(a->connection, rc) ?: -EIO;
        }
        return 0;
}

static int copy_row(Appender *a, sqlite3_stmt *statement, Arena *arena, Sc__Message **ret) {
        Value values[SQL_MAX_FIELDS];
        ProtobufCMessage *record;

        for (unsigned i = 0; i < record_n_fields(a->info); i++)
                values[i] = statement_column(statement, (int) i);
        int r = record_from_values(a->info, values, arena, &record);
        if (r < 0)
                return r == -ENOMEM ? r : -EIO;
        *ret = (Sc__Message *) record;
        return 0;
}

/* The stored entry that has the (sender, client_msg_id) of this one: 1, or 0 if there is none. */
static int find_taken(Appender *a, const Value *values, Arena *arena, Sc__Message **ret) {
        const StatementShape shape = {
                .info = a->info,
                .kind = STATEMENT_SELECT,
                .index = a->by_client_id,
                .n_prefix = 2,
        };
        static const Value one = {.type = VALUE_INTEGER, .integer = 1};
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = connection_prepare(a->connection, &shape, &statement);
        if (r < 0)
                return r;
        int rc = statement_bind(statement, sql_parameter_limit(a->info), &one);
        FOREACH_ARRAY(field, a->by_client_id->fields, 2U)
                rc = rc ?: statement_bind(statement, (int) *field + 1, &values[*field]);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc != SQLITE_ROW)
                return connection_error(a->connection, rc);
        r = copy_row(a, statement, arena, ret);
        return r < 0 ? r : 1;
}

/* All entries of the operation that are stored already. */
static int find_all_taken(Appender *a, Operation *o) {
        o->append.taken = arena_new(&o->arena, Sc__Message *, o->append.n);
        if (!o->append.taken)
                return -ENOMEM;
        o->append.n_taken = 0;
        for (size_t i = 0; i < o->append.n; i++) {
                const Value *values = entry_values(a, o, i);
                if (values[a->client_msg_id].size == 0)
                        continue; /* stands outside the index */
                int r = find_taken(a, values, &o->arena, &o->append.taken[o->append.n_taken]);
                if (r < 0)
                        return r;
                o->append.n_taken += (size_t) r;
        }
        if (o->append.n_taken == 0)
                return -EIO; /* the conversation is not where its last entry says */
        o->r = -EEXIST;
        return 0;
}

int appender_run(Appender *a, Operation *o) {
        uint64_t last_seq;

        int r = find_last_seq(a, o, &last_seq);
        if (r < 0)
                return r;
        o->append.last_seq = last_seq;
        if (last_seq != o->append.after_seq) {
                o->r = -ESTALE;
                return 0;
        }
        for (size_t i = 0; i < o->append.n; i++) {
                r = run_with_all_fields(a->connection, STATEMENT_INSERT_NEW, a->info, entry_values(a, o, i));
                if (r == 0) {
                        r = undo_entries(a, o, i);
                        return r < 0 ? r : find_all_taken(a, o);
                }
                if (r < 0)
                        return r;
        }
        r = run_extras(a->connection, &o->append.extras, o->partition, o->name);
        if (r < 0)
                return r;
        o->append.last_seq = last_seq + o->append.n;
        seq_cache_put(a->last_seqs, o->partition, o->append.last_seq);
        return 0;
}

int appender_delete(Appender *a, Operation *o) {
        const StatementShape shape = {.info = a->info, .kind = STATEMENT_DELETE_OLDEST};
        const Value conversation = {
                .type = VALUE_TEXT, .size = (uint32_t) strlen(o->partition), .text = o->partition};
        /* Numbers are signed in SQLite. */
        int64_t last_seq = (int64_t) MIN(o->delete_entries.last_seq, (uint64_t) INT64_MAX);
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = connection_prepare(a->connection, &shape, &statement);
        if (r < 0)
                return r;
        int rc = statement_bind(statement, (int) a->conversation + 1, &conversation);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(statement, (int) a->seq + 1, last_seq);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(statement, sql_parameter_limit(a->info), o->delete_entries.limit);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc != SQLITE_DONE)
                return connection_error(a->connection, rc) ?: -EIO;
        o->delete_entries.n_deleted = (unsigned) sqlite3_changes(connection_handle(a->connection));
        return 0;
}
