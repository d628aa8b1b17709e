/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/sql.h"

#include "store/postgresql/sql-read.h"
#include "util/string-util.h"

/* The setting in which a guard notes whether it was done, for the rest of the transaction. */
#define NOTE "stonechat.done"
#define IS_NOTED "current_setting('" NOTE "') = '1'"

static bool key_has_field(const RecordInfo *record, unsigned field) {
        FOREACH_ARRAY(f, record->key.fields, record->key.n_fields)
                if (*f == field)
                        return true;
        return false;
}

/* --- parts --- */

static void add_equal(PgBuilder *b, unsigned field) {
        bool nullable = record_field_is_nullable(&b->info->descriptor->fields[field]);

        pg_add(b, "t.\"%s\" %s ", pg_field_name(b->info, field), nullable ? "IS NOT DISTINCT FROM" : "=");
        pg_add_field(b, field);
}

static void add_where_key(PgBuilder *b) {
        const IndexInfo *key = &b->info->record->key;

        for (unsigned i = 0; i < key->n_fields; i++) {
                pg_add(b, i == 0 ? " WHERE " : " AND ");
                add_equal(b, key->fields[i]);
        }
}

/* Conditions stand in guards; followers act where their guard was done. */
static void add_conditions(PgBuilder *b) {
        const PgShape *shape = b->shape;

        if (!shape->guard)
                pg_add(b, " AND " IS_NOTED);
        FOREACH_ARRAY(field, shape->equal, shape->n_equal) {
                pg_add(b, " AND ");
                add_equal(b, *field);
        }
}

/* Notes what the expression, a number, says: 1 or 0. It is a column of the guard's row. */
static void add_note(PgBuilder *b, const char *done) {
        if (b->shape->notes)
                pg_add(b, ", set_config('" NOTE "', (%s)::text, true)", done);
}

/* OPERATION_VERSION() of the stored version. */
static void add_next_version(PgBuilder *b, const char *version_name) {
        pg_add(b, "((((t.\"%s\" >> %d) + 1) << %d) | ", version_name, OPERATION_NAME_BITS,
                OPERATION_NAME_BITS);
}

/* --- writes --- */

static void add_insert(PgBuilder *b) {
        pg_add(b, "WITH guard AS (INSERT INTO ");
        pg_add_table(b, b->info);
        pg_add(b, " (");
        pg_add_columns(b, b->info, "");
        pg_add(b, ") VALUES (");
        for (unsigned i = 0; i < record_n_fields(b->info); i++) {
                pg_add(b, i > 0 ? ", " : "");
                pg_add_field(b, i);
        }
        pg_add(b, ") ON CONFLICT DO NOTHING RETURNING 1) SELECT (SELECT count(*) FROM guard)");
        add_note(b, "SELECT count(*) FROM guard");
}

static void add_put_update(PgBuilder *b) {
        const RecordInfo *record = b->info->record;
        unsigned n_set = 0;

        for (unsigned i = 0; i < record_n_fields(b->info); i++) {
                const char *name = pg_field_name(b->info, i);
                if (key_has_field(record, i))
                        continue;
                pg_add(b, "%s\"%s\" = ", n_set++ > 0 ? ", " : " DO UPDATE SET ", name);
                if ((int) i == record->version_field) {
                        add_next_version(b, name);
                        pg_add(b, "(excluded.\"%s\" & %lld))", name, (1LL << OPERATION_NAME_BITS) - 1);
                } else
                        pg_add(b, "excluded.\"%s\"", name);
        }
        if (n_set == 0)
                pg_add(b, " DO NOTHING");
}

static void add_put(PgBuilder *b) {
        pg_add(b, "INSERT INTO ");
        pg_add_table(b, b->info);
        pg_add(b, " AS t (");
        pg_add_columns(b, b->info, "");
        pg_add(b, ") SELECT ");
        for (unsigned i = 0; i < record_n_fields(b->info); i++) {
                pg_add(b, i > 0 ? ", " : "");
                pg_add_field(b, i);
        }
        pg_add(b, " WHERE " IS_NOTED " ON CONFLICT (");
        pg_add_field_list(b, b->info, &b->info->record->key);
        pg_add(b, ")");
        add_put_update(b);
}

static void add_change(PgBuilder *b, const StoreChange *change) {
        const char *name = pg_field_name(b->info, change->field);

        pg_add(b, "\"%s\" = ", name);
        if (change->kind == STORE_INCREMENT)
                pg_add(b, "coalesce(t.\"%s\", 0) + ", name);
        else if (change->kind == STORE_MAX)
                pg_add(b, "greatest(t.\"%s\", ", name);
        pg_add_field(b, change->field);
        pg_add(b, change->kind == STORE_MAX ? ")" : "");
}

static void add_update(PgBuilder *b) {
        const PgShape *shape = b->shape;
        int version = b->info->record->version_field;
        unsigned n_set = 0;

        pg_add(b, "UPDATE ");
        pg_add_table(b, b->info);
        pg_add(b, " AS t SET ");
        FOREACH_ARRAY(change, shape->changes, shape->n_changes) {
                pg_add(b, n_set++ > 0 ? ", " : "");
                add_change(b, change);
        }
        if (version >= 0) {
                const char *name = pg_field_name(b->info, (unsigned) version);
                pg_add(b, "%s\"%s\" = ", n_set++ > 0 ? ", " : "", name);
                add_next_version(b, name);
                pg_add_parameter(b, PG_NAME, 0);
                pg_add(b, ")");
        }
        if (n_set == 0) /* find out whether it is there */
                pg_add(b, "\"%s\" = t.\"%s\"", pg_field_name(b->info, b->info->record->key.fields[0]),
                        pg_field_name(b->info, b->info->record->key.fields[0]));
        add_where_key(b);
        add_conditions(b);
}

static void add_delete(PgBuilder *b) {
        pg_add(b, "DELETE FROM ");
        pg_add_table(b, b->info);
        pg_add(b, " AS t");
        add_where_key(b);
        add_conditions(b);
}

/* An UPDATE or DELETE: a follower as it is, a guard with what it answers. */
static void add_change_or_guard(PgBuilder *b, void (*add_statement)(PgBuilder *)) {
        int version = b->info->record->version_field;

        if (!b->shape->guard) {
                add_statement(b);
                return;
        }
        pg_add(b, "WITH guard AS (");
        add_statement(b);
        if (version >= 0 && b->shape->kind == PG_PATCH)
                pg_add(b, " RETURNING t.\"%s\" AS version)", pg_field_name(b->info, (unsigned) version));
        else
                pg_add(b, " RETURNING 0::bigint AS version)");
        pg_add(b, " SELECT (SELECT count(*) FROM guard), coalesce((SELECT version FROM guard), 0)"
                  ", (SELECT count(*) FROM ");
        pg_add_table(b, b->info);
        pg_add(b, " AS t");
        add_where_key(b);
        pg_add(b, ")");
        add_note(b, "SELECT count(*) FROM guard");
}

/* --- appends --- */

const IndexInfo *pg_sql_client_id_index(const MessageInfo *message) {
        int sender = record_find_field(message, "sender"), id = record_find_field(message, "client_msg_id");

        FOREACH_ARRAY(index, message->record->indexes, message->record->n_indexes)
                if (index->unique && index->n_fields == 2 && (int) index->fields[0] == id &&
                        (int) index->fields[1] == sender)
                        return index;
        return NULL;
}

/* unnest() of an array a field, as a table of the columns c0, c1, …; `except` is left out if it is a field. */
static void add_unnest(PgBuilder *b, const char *alias, int except, bool ordinality) {
        unsigned n = 0;

        pg_add(b, "unnest(");
        for (unsigned i = 0; i < record_n_fields(b->info); i++)
                if ((int) i != except)
                        pg_add(b, "%s$%u", n++ > 0 ? ", " : "", pg_find_parameter(b, PG_FIELD, i, true));
        pg_add(b, ")%s AS %s(", ordinality ? " WITH ORDINALITY" : "", alias);
        n = 0;
        for (unsigned i = 0; i < record_n_fields(b->info); i++)
                if ((int) i != except)
                        pg_add(b, "%sc%u", n++ > 0 ? ", " : "", i);
        pg_add(b, ordinality ? ", i)" : ")");
}

/* The stored entries that have the client_msg_id and sender of these, as rows of all fields. */
static void add_taken(PgBuilder *b, const IndexInfo *index) {
        const char *id = pg_field_name(b->info, index->fields[0]),
                   *sender = pg_field_name(b->info, index->fields[1]);

        pg_add(b, "ARRAY(SELECT ROW(");
        pg_add_columns(b, b->info, "t.");
        pg_add(b, ") FROM ");
        if (b->shape->many) {
                add_unnest(b, "e", -1, false);
                pg_add(b, ", ");
        }
        pg_add_table(b, b->info);
        if (b->shape->many)
                pg_add(b, " AS t WHERE t.\"%s\" = e.c%u AND t.\"%s\" = e.c%u", id, index->fields[0], sender,
                        index->fields[1]);
        else {
                pg_add(b, " AS t WHERE t.\"%s\" = ", id);
                pg_add_field(b, index->fields[0]);
                pg_add(b, " AND t.\"%s\" = ", sender);
                pg_add_field(b, index->fields[1]);
        }
        /* The planner takes a partial index only if the statement says so too. */
        pg_add(b, " AND t.\"%s\" <> '')", id);
}

static void add_entries(PgBuilder *b) {
        for (unsigned i = 0; i < record_n_fields(b->info); i++) {
                pg_add(b, i > 0 ? ", " : "");
                if (b->shape->many)
                        pg_add(b, "e.c%u", i);
                else
                        pg_add_field(b, i);
        }
}

/* The entries are inserted all or none. Between the look and the insertion another host may store one of them:
 * then the insertion fails with a unique violation, and the writes of this transaction are tried again one by
 * one. */
static void add_append(PgBuilder *b) {
        const IndexInfo *key = &b->info->record->key, *by_client_id = pg_sql_client_id_index(b->info);
        const char *conversation = pg_field_name(b->info, key->fields[0]),
                   *seq = pg_field_name(b->info, key->fields[1]);

        pg_add(b, "WITH state AS MATERIALIZED (SELECT coalesce((SELECT max(t.\"%s\") FROM ", seq);
        pg_add_table(b, b->info);
        pg_add(b, " AS t WHERE t.\"%s\" = ", conversation);
        if (b->shape->many)
                pg_add(b, "($%u)[1]", pg_find_parameter(b, PG_FIELD, key->fields[0], true));
        else
                pg_add_field(b, key->fields[0]);
        pg_add(b, "), 0) AS seq, ");
        add_taken(b, by_client_id);
        pg_add(b, " AS taken), entry AS (INSERT INTO ");
        pg_add_table(b, b->info);
        pg_add(b, " (");
        pg_add_columns(b, b->info, "");
        pg_add(b, ") SELECT ");
        add_entries(b);
        pg_add(b, " FROM state");
        if (b->shape->many) {
                pg_add(b, ", ");
                add_unnest(b, "e", -1, false);
        }
        pg_add(b, " WHERE state.seq = ");
        pg_add_parameter(b, PG_AFTER_SEQ, 0);
        pg_add(b, " AND cardinality(state.taken) = 0 RETURNING 1) SELECT state.seq, state.taken");
        if (b->shape->notes) {
                pg_add(b, ", set_config('" NOTE "', CASE WHEN state.seq = ");
                pg_add_parameter(b, PG_AFTER_SEQ, 0);
                pg_add(b, " AND cardinality(state.taken) = 0 THEN '1' ELSE '0' END, true)");
        }
        pg_add(b, " FROM state");
}

/* Numbers come from the counter of the source, whose row is locked until the commit: they are in the order of
 * the commits. */
static void add_intents(PgBuilder *b) {
        const MessageInfo *counter = b->shape->counter;
        const char *source = pg_field_name(counter, counter->record->key.fields[0]);
        int number = record_find_field(b->info, "number");

        pg_add(b, "WITH counter AS (INSERT INTO ");
        pg_add_table(b, counter);
        pg_add(b, " AS t (\"%s\", \"number\") SELECT ($%u)[1], ", source,
                pg_find_parameter(b, PG_FIELD, b->info->record->key.fields[0], true));
        pg_add_parameter(b, PG_COUNT, 0);
        pg_add(b,
                " WHERE " IS_NOTED " ON CONFLICT (\"%s\")"
                " DO UPDATE SET \"number\" = t.\"number\" + excluded.\"number\" RETURNING t.\"number\")"
                ", intent AS (INSERT INTO ",
                source);
        pg_add_table(b, b->info);
        pg_add(b, " (");
        pg_add_columns(b, b->info, "");
        pg_add(b, ") SELECT ");
        for (unsigned i = 0; i < record_n_fields(b->info); i++)
                if ((int) i == number)
                        pg_add(b, "%scounter.number - $%u + e.i", i > 0 ? ", " : "",
                                pg_find_parameter(b, PG_COUNT, 0, false));
                else
                        pg_add(b, "%se.c%u", i > 0 ? ", " : "", i);
        pg_add(b, " FROM counter, ");
        add_unnest(b, "e", number, true);
        pg_add(b, " RETURNING 1) SELECT number FROM counter");
}

static void add_delete_entries(PgBuilder *b) {
        const IndexInfo *key = &b->info->record->key;
        const char *seq = pg_field_name(b->info, key->fields[1]);

        pg_add(b, "DELETE FROM ");
        pg_add_table(b, b->info);
        pg_add(b, " AS t");
        pg_add(b, " WHERE ");
        add_equal(b, key->fields[0]);
        pg_add(b, " AND t.\"%s\" = ANY(ARRAY(SELECT t.\"%s\" FROM ", seq, seq);
        pg_add_table(b, b->info);
        pg_add(b, " AS t WHERE ");
        add_equal(b, key->fields[0]);
        pg_add(b, " AND t.\"%s\" <= ", seq);
        pg_add_parameter(b, PG_AFTER_SEQ, 0);
        pg_add(b, " AND t.\"%s\" < (SELECT max(t.\"%s\") FROM ", seq, seq);
        pg_add_table(b, b->info);
        pg_add(b, " AS t WHERE ");
        add_equal(b, key->fields[0]);
        pg_add(b, ") ORDER BY t.\"%s\" LIMIT ", seq);
        pg_add_parameter(b, PG_LIMIT, 0);
        pg_add(b, "))");
}

/* --- statements --- */

static void add_statement(PgBuilder *b) {
        switch (b->shape->kind) {
        case PG_BEGIN:
                pg_add(b, "BEGIN");
                break;
        case PG_COMMIT:
                pg_add(b, "COMMIT");
                break;
        case PG_ROLLBACK:
                pg_add(b, "ROLLBACK");
                break;
        case PG_INSERT:
                add_insert(b);
                break;
        case PG_PUT:
                add_put(b);
                break;
        case PG_PATCH:
                add_change_or_guard(b, add_update);
                break;
        case PG_DELETE:
                add_change_or_guard(b, add_delete);
                break;
        case PG_APPEND:
                add_append(b);
                break;
        case PG_INTENTS:
                add_intents(b);
                break;
        case PG_DELETE_ENTRIES:
                add_delete_entries(b);
                break;
        case PG_SELECT:
                pg_add_select(b);
                break;
        case PG_CHECK_SETTINGS:
                pg_add_check_settings(b);
                break;
        case PG_CHECK_PAGES:
                pg_add_check_pages(b);
                break;
        case PG_CHECK_GAPS:
                pg_add_check_gaps(b);
                break;
        case PG_CHECK_COUNTS:
                pg_add_check_counts(b);
                break;
        }
}

int pg_sql_statement(const char *schema, const PgShape *shape, PgText *ret) {
        PgBuilder b = {.schema = schema, .shape = shape, .info = shape->info, .text = ret};

        *ret = (PgText){};
        add_statement(&b);
        ret->sql = pg_builder_finish(&b);
        if (ret->sql)
                return 0;
        return b.r < 0 ? b.r : -ENOMEM;
}

/* --- definitions --- */

/* A new column gets its default in the rows that are there, which is what protobuf says of an absent field.
 * Text is compared byte by byte, as every back end does. */
static void add_column_definition(PgBuilder *b, const ProtobufCFieldDescriptor *field) {
        static const struct {
                const char *type, *empty;
        } columns[] = {
                [VALUE_INTEGER] = {"bigint", "0"},
                [VALUE_REAL] = {"double precision", "0"},
                [VALUE_TEXT] = {"text COLLATE \"C\"", "''"},
                [VALUE_BLOB] = {"bytea", "''"},
        };
        ValueType type = record_field_type(field);

        pg_add(b, "\"%s\" %s", field->name, columns[type].type);
        if (!record_field_is_nullable(field))
                pg_add(b, " NOT NULL DEFAULT %s", columns[type].empty);
}

/* Large values are stored beside the row as they are: compression would cost more time than it saves. */
static void add_storage(PgBuilder *b, const MessageInfo *info) {
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields)
                if (record_field_type(field) >= VALUE_TEXT) {
                        pg_add(b, "; ALTER TABLE ");
                        pg_add_table(b, info);
                        pg_add(b, " ALTER \"%s\" SET STORAGE EXTERNAL", field->name);
                }
}

char *pg_sql_create_table(const char *schema, const MessageInfo *info) {
        PgBuilder b = {.schema = schema};

        pg_add(&b, "CREATE TABLE ");
        pg_add_table(&b, info);
        pg_add(&b, " (");
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields) {
                add_column_definition(&b, field);
                pg_add(&b, ", ");
        }
        pg_add(&b, "PRIMARY KEY (");
        pg_add_field_list(&b, info, &info->record->key);
        pg_add(&b, "))");
        add_storage(&b, info);
        return pg_builder_finish(&b);
}

char *pg_sql_create_index(const char *schema, const MessageInfo *info, const IndexInfo *index) {
        PgBuilder b = {.schema = schema};

        pg_add(&b, "CREATE %sINDEX \"%s\" ON ", index->unique ? "UNIQUE " : "", index->name);
        pg_add_table(&b, info);
        pg_add(&b, " (");
        pg_add_field_list(&b, info, index);
        pg_add(&b, ")");
        if (record_index_is_partial(info, index))
                pg_add(&b, " WHERE \"%s\" <> ''", pg_field_name(info, index->fields[0]));
        return pg_builder_finish(&b);
}

char *pg_sql_add_column(const char *schema, const MessageInfo *info, unsigned field) {
        PgBuilder b = {.schema = schema};

        pg_add(&b, "ALTER TABLE ");
        pg_add_table(&b, info);
        pg_add(&b, " ADD COLUMN ");
        add_column_definition(&b, &info->descriptor->fields[field]);
        return pg_builder_finish(&b);
}
