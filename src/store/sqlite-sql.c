/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite-sql.h"

#include <sqlite3.h>

static const char *field_name(const MessageInfo *info, unsigned field) {
        return info->descriptor->fields[field].name;
}

static bool key_has_field(const RecordInfo *record, unsigned field) {
        FOREACH_ARRAY(f, record->key.fields, record->key.n_fields)
                if (*f == field)
                        return true;
        return false;
}

static void add_equal(sqlite3_str *sql, const MessageInfo *info, unsigned field) {
        sqlite3_str_appendf(sql, "\"%w\" = ?%u", field_name(info, field), field + 1);
}

static void add_where_key(sqlite3_str *sql, const MessageInfo *info, unsigned n_fields) {
        for (unsigned i = 0; i < n_fields; i++) {
                sqlite3_str_appendall(sql, i == 0 ? " WHERE " : " AND ");
                add_equal(sql, info, info->record->key.fields[i]);
        }
}

static void add_columns(sqlite3_str *sql, const MessageInfo *info) {
        for (unsigned i = 0; i < record_n_fields(info); i++)
                sqlite3_str_appendf(sql, "%s\"%w\"", i > 0 ? ", " : "", field_name(info, i));
}

static void add_insert(sqlite3_str *sql, const MessageInfo *info) {
        sqlite3_str_appendf(sql, "INSERT INTO \"%w\" (", info->record->table);
        add_columns(sql, info);
        sqlite3_str_appendall(sql, ") VALUES (");
        for (unsigned i = 0; i < record_n_fields(info); i++)
                sqlite3_str_appendf(sql, "%s?%u", i > 0 ? ", " : "", i + 1);
        sqlite3_str_appendall(sql, ")");
}

static void add_update(sqlite3_str *sql, const MessageInfo *info) {
        const RecordInfo *record = info->record;
        unsigned n_set = 0;

        sqlite3_str_appendf(sql, "UPDATE \"%w\" SET ", record->table);
        for (unsigned i = 0; i < record_n_fields(info); i++) {
                if (key_has_field(record, i))
                        continue;
                sqlite3_str_appendall(sql, n_set++ > 0 ? ", " : "");
                add_equal(sql, info, i);
                if ((int) i == record->version_field)
                        sqlite3_str_appendall(sql, " + 1");
        }
        if (n_set == 0) /* nothing but the key: find out whether it is there */
                add_equal(sql, info, record->key.fields[0]);
        add_where_key(sql, info, record->key.n_fields);
        if (record->version_field >= 0) {
                sqlite3_str_appendall(sql, " AND ");
                add_equal(sql, info, (unsigned) record->version_field);
        }
}

static void add_delete(sqlite3_str *sql, const MessageInfo *info) {
        int version = info->record->version_field;

        sqlite3_str_appendf(sql, "DELETE FROM \"%w\"", info->record->table);
        add_where_key(sql, info, info->record->key.n_fields);
        if (version >= 0)
                sqlite3_str_appendf(sql, " AND (?%d = 0 OR \"%w\" = ?%d)", version + 1,
                        field_name(info, (unsigned) version), version + 1);
}

static void add_last(sqlite3_str *sql, const MessageInfo *info) {
        const RecordInfo *record = info->record;
        unsigned n = record->key.n_fields;

        sqlite3_str_appendf(sql, "SELECT max(\"%w\") FROM \"%w\"",
                field_name(info, record->key.fields[n - 1]), record->table);
        add_where_key(sql, info, n - 1);
}

static void add_condition(sqlite3_str *sql, bool *any) {
        sqlite3_str_appendall(sql, *any ? " AND " : " WHERE ");
        *any = true;
}

static void add_select_where(sqlite3_str *sql, const StatementShape *shape) {
        const MessageInfo *info = shape->info;
        const unsigned *fields = shape->index->fields;
        bool any = false;

        for (unsigned i = 0; i < shape->n_prefix; i++) {
                add_condition(sql, &any);
                add_equal(sql, info, fields[i]);
        }
        if (shape->after) {
                unsigned field = fields[shape->n_prefix];
                add_condition(sql, &any);
                sqlite3_str_appendf(sql, "\"%w\" > ?%u", field_name(info, field), field + 1);
        }
        if (shape->before) {
                add_condition(sql, &any);
                sqlite3_str_appendf(sql, "\"%w\" < ?%d", field_name(info, fields[shape->n_prefix]),
                        sql_parameter_before(info));
        }
        /* SQLite uses a partial index only where its condition stands in the query too. */
        if (shape->index->name && record_index_is_partial(info, shape->index)) {
                add_condition(sql, &any);
                sqlite3_str_appendf(sql, "\"%w\" <> ''", field_name(info, fields[0]));
        }
        if (shape->exclude_field >= 0) {
                unsigned field = (unsigned) shape->exclude_field;
                add_condition(sql, &any);
                sqlite3_str_appendf(sql, "\"%w\" IS NOT ?%u", field_name(info, field), field + 1);
        }
}

static void add_select(sqlite3_str *sql, const StatementShape *shape) {
        const MessageInfo *info = shape->info;

        sqlite3_str_appendall(sql, shape->count_only ? "SELECT count(*) FROM (SELECT 1" : "SELECT ");
        if (!shape->count_only)
                add_columns(sql, info);
        sqlite3_str_appendf(sql, " FROM \"%w\"", info->record->table);
        /* What was declared for this query, rather than what the planner guesses. */
        if (shape->index->name)
                sqlite3_str_appendf(sql, " INDEXED BY \"%w\"", shape->index->name);
        add_select_where(sql, shape);
        for (unsigned i = shape->n_prefix; i < shape->index->n_fields; i++)
                sqlite3_str_appendf(sql, "%s\"%w\"%s", i == shape->n_prefix ? " ORDER BY " : ", ",
                        field_name(info, shape->index->fields[i]), shape->descending ? " DESC" : "");
        sqlite3_str_appendf(sql, " LIMIT ?%d%s", sql_parameter_limit(info), shape->count_only ? ")" : "");
}

char *sql_statement(const StatementShape *shape) {
        sqlite3_str *sql = sqlite3_str_new(NULL);
        const MessageInfo *info = shape->info;

        switch (shape->kind) {
        case STATEMENT_INSERT:
                add_insert(sql, info);
                break;
        case STATEMENT_INSERT_NEW:
                add_insert(sql, info);
                sqlite3_str_appendall(sql, " ON CONFLICT DO NOTHING");
                break;
        case STATEMENT_UPDATE:
                add_update(sql, info);
                break;
        case STATEMENT_DELETE:
                add_delete(sql, info);
                break;
        case STATEMENT_EXISTS:
                sqlite3_str_appendf(sql, "SELECT 1 FROM \"%w\"", info->record->table);
                add_where_key(sql, info, info->record->key.n_fields);
                break;
        case STATEMENT_LAST:
                add_last(sql, info);
                break;
        case STATEMENT_SELECT:
                add_select(sql, shape);
                break;
        }
        return sqlite3_str_finish(sql);
}

/* A new column gets its default in the rows that are there, which is what protobuf says of an absent field.
 */
static void add_column_definition(sqlite3_str *sql, const ProtobufCFieldDescriptor *field) {
        static const struct {
                const char *type, *empty;
        } columns[] = {
                [VALUE_INTEGER] = {"INTEGER", "0"},
                [VALUE_REAL] = {"REAL", "0.0"},
                [VALUE_TEXT] = {"TEXT", "''"},
                [VALUE_BLOB] = {"BLOB", "x''"},
        };
        ValueType type = record_field_type(field);

        sqlite3_str_appendf(sql, "\"%w\" %s", field->name, columns[type].type);
        if (!record_field_is_nullable(field))
                sqlite3_str_appendf(sql, " NOT NULL DEFAULT %s", columns[type].empty);
}

static void add_field_list(sqlite3_str *sql, const MessageInfo *info, const IndexInfo *index) {
        for (unsigned i = 0; i < index->n_fields; i++)
                sqlite3_str_appendf(sql, "%s\"%w\"", i > 0 ? ", " : "", field_name(info, index->fields[i]));
}

char *sql_create_table(const MessageInfo *info) {
        sqlite3_str *sql = sqlite3_str_new(NULL);

        sqlite3_str_appendf(sql, "CREATE TABLE IF NOT EXISTS \"%w\" (", info->record->table);
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields) {
                add_column_definition(sql, field);
                sqlite3_str_appendall(sql, ", ");
        }
        sqlite3_str_appendall(sql, "PRIMARY KEY (");
        add_field_list(sql, info, &info->record->key);
        sqlite3_str_appendall(sql, ")) STRICT, WITHOUT ROWID");
        return sqlite3_str_finish(sql);
}

char *sql_create_index(const MessageInfo *info, const IndexInfo *index) {
        sqlite3_str *sql = sqlite3_str_new(NULL);

        sqlite3_str_appendf(sql, "CREATE %sINDEX IF NOT EXISTS \"%w\" ON \"%w\" (",
                index->unique ? "UNIQUE " : "", index->name, info->record->table);
        add_field_list(sql, info, index);
        sqlite3_str_appendall(sql, ")");
        if (record_index_is_partial(info, index))
                sqlite3_str_appendf(sql, " WHERE \"%w\" <> ''", field_name(info, index->fields[0]));
        return sqlite3_str_finish(sql);
}

char *sql_add_column(const MessageInfo *info, unsigned field) {
        sqlite3_str *sql = sqlite3_str_new(NULL);

        sqlite3_str_appendf(sql, "ALTER TABLE \"%w\" ADD COLUMN ", info->record->table);
        add_column_definition(sql, &info->descriptor->fields[field]);
        return sqlite3_str_finish(sql);
}
