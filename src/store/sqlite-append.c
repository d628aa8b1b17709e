/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite-append.h"

#include "util/string-util.h"

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

int appender_init(Appender *a, Connection *connection, const MessageInfo *const *records) {
        *a = (Appender){.connection = connection, .info = find_message_info(records)};
        if (!a->info)
                return 0;
        const IndexInfo *key = &a->info->record->key;
        int created_at = record_find_field(a->info, "created_at");
        a->by_client_id = find_client_id_index(a->info);
        if (!a->by_client_id || created_at < 0 || key->n_fields != 2)
                return -EINVAL;
        a->conversation = key->fields[0];
        a->seq = key->fields[1];
        a->created_at = (unsigned) created_at;
        a->last_seqs = seq_cache_new();
        return a->last_seqs ? 0 : -ENOMEM;
}

void appender_done(Appender *a) {
        a->last_seqs = seq_cache_free(a->last_seqs);
}

static int find_last_seq(Appender *a, const Operation *o, uint64_t *ret) {
        const StatementShape shape = {.info = a->info, .kind = STATEMENT_LAST};
        const Value *conversation = &o->append.values[a->conversation];
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        if (seq_cache_get(a->last_seqs, o->append.conversation, ret))
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

/* 1 if the message is stored now, 0 if one of its keys is taken. */
static int insert_message(Appender *a, const Value *values) {
        const StatementShape shape = {.info = a->info, .kind = STATEMENT_INSERT_NEW};
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = connection_prepare(a->connection, &shape, &statement);
        if (r < 0)
                return r;
        int rc = SQLITE_OK;
        for (unsigned i = 0; i < record_n_fields(a->info) && rc == SQLITE_OK; i++)
                rc = statement_bind(statement, (int) i + 1, &values[i]);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc != SQLITE_DONE)
                return connection_error(a->connection, rc) ?: -EIO;
        return sqlite3_changes(connection_handle(a->connection)) > 0;
}

/* Compares all that the sender decides: everything but its place and its time. */
static bool has_same_content(const Appender *a, sqlite3_stmt *stored, const Value *values) {
        for (unsigned i = 0; i < record_n_fields(a->info); i++) {
                const Value value = statement_column(stored, (int) i);
                if (i != a->seq && i != a->created_at && !value_equal(&value, &values[i]))
                        return false;
        }
        return true;
}

/* The message that has the (sender, client_msg_id) of this one: -EIO if there is none. */
static int find_first(Appender *a, const Value *values, StoreAppended *ret) {
        const StatementShape shape = {
                .info = a->info,
                .kind = STATEMENT_SELECT,
                .index = a->by_client_id,
                .n_prefix = 2,
                .exclude_field = -1,
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
                return connection_error(a->connection, rc) ?: -EIO;
        const Value conversation = statement_column(statement, (int) a->conversation);
        bool same = has_same_content(a, statement, values);
        *ret = (StoreAppended){
                .seq = value_equal(&conversation, &values[a->conversation])
                               ? (uint64_t) sqlite3_column_int64(statement, (int) a->seq)
                               : 0,
                .created_at = sqlite3_column_int64(statement, (int) a->created_at),
                .duplicate = same,
                .conflict = !same,
        };
        return 0;
}

static int append_one(Appender *a, Value *values, uint64_t *last_seq, StoreAppended *ret) {
        values[a->seq] = (Value){.type = VALUE_INTEGER, .integer = (int64_t) (*last_seq + 1)};
        int r = insert_message(a, values);
        if (r < 0)
                return r;
        if (r == 0)
                return find_first(a, values, ret);
        *ret = (StoreAppended){.seq = ++*last_seq, .created_at = values[a->created_at].integer};
        return 0;
}

int appender_run(Appender *a, Operation *o) {
        uint64_t last_seq;

        int r = find_last_seq(a, o, &last_seq);
        if (r < 0)
                return r;
        if (last_seq != o->append.after_seq) {
                o->append.last_seq = last_seq;
                o->r = -ESTALE;
                return 0;
        }
        for (size_t i = 0; i < o->append.n; i++) {
                r = append_one(a, o->append.values + i * record_n_fields(a->info), &last_seq,
                        &o->append.results[i]);
                if (r < 0)
                        return r;
        }
        seq_cache_put(a->last_seqs, o->append.conversation, last_seq);
        o->append.last_seq = last_seq;
        return 0;
}
