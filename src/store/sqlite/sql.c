/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sql.h"

#include <sqlite3.h>

#include "store/operation.h"

static const char *field_name(const MessageInfo *info, unsigned field) {
        return info->descriptor->fields[field].name;
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

/* OPERATION_VERSION() in SQL. */
static void add_next_version(sqlite3_str *sql, const MessageInfo *info) {
        const char *version = field_name(info, (unsigned) info->record->version_field);

        sqlite3_str_appendf(sql, "\"%w\" = (((\"%w\" >> %d) + 1) << %d) | ", version, version,
                OPERATION_NAME_BITS, OPERATION_NAME_BITS);
}

/* The record that is there gets the values, and a new version. */
static void add_put(sqlite3_str *sql, const MessageInfo *info) {
        const RecordInfo *record = info->record;
        unsigned n_set = 0;

        add_insert(sql, info);
        sqlite3_str_appendall(sql, " ON CONFLICT DO UPDATE SET ");
        for (unsigned i = 0; i < record_n_fields(info); i++) {
                /* Where there is nothing but the key, one field is set to what it is. */
                if (record_field_is_key(info, i) &&
                        (record_n_fields(info) > record->key.n_fields || i != record->key.fields[0]))
                        continue;
                sqlite3_str_appendall(sql, n_set++ > 0 ? ", " : "");
                if ((int) i == record->version_field) {
                        add_next_version(sql, info);
                        sqlite3_str_appendf(
                                sql, "(excluded.\"%w\" & %u)", field_name(info, i), OPERATION_NAME_MASK);
                } else
                        sqlite3_str_appendf(
                                sql, "\"%w\" = excluded.\"%w\"", field_name(info, i), field_name(info, i));
        }
}

static void add_change(sqlite3_str *sql, const StatementShape *shape, unsigned field) {
        const char *name = field_name(shape->info, field);
        uint32_t bit = 1U << field;

        sqlite3_str_appendf(sql, "\"%w\" = ", name);
        if (shape->increment & bit)
                sqlite3_str_appendf(sql, "\"%w\" + ?%u", name, field + 1);
        else if (shape->max & bit)
                sqlite3_str_appendf(sql, "max(\"%w\", ?%u)", name, field + 1);
        else
                sqlite3_str_appendf(sql, "?%u", field + 1);
}

static void add_where_key_and_equal(sqlite3_str *sql, const StatementShape *shape) {
        const MessageInfo *info = shape->info;

        add_where_key(sql, info, info->record->key.n_fields);
        for (unsigned i = 0; i < record_n_fields(info); i++)
                if (shape->equal & 1U << i)
                        sqlite3_str_appendf(sql, " AND \"%w\" IS ?%u", field_name(info, i), i + 1);
}

static void add_patch(sqlite3_str *sql, const StatementShape *shape) {
        const MessageInfo *info = shape->info;
        uint32_t changed = shape->set | shape->increment | shape->max;
        unsigned n_set = 0;

        sqlite3_str_appendf(sql, "UPDATE \"%w\" SET ", info->record->table);
        for (unsigned i = 0; i < record_n_fields(info); i++) {
                if (!(changed & 1U << i))
                        continue;
                sqlite3_str_appendall(sql, n_set++ > 0 ? ", " : "");
                add_change(sql, shape, i);
        }
        if (info->record->version_field >= 0) {
                sqlite3_str_appendall(sql, ", ");
                add_next_version(sql, info);
                sqlite3_str_appendf(sql, "?%d", sql_parameter_name(info));
        }
        add_where_key_and_equal(sql, shape);
}

static void add_delete_oldest(sqlite3_str *sql, const MessageInfo *info) {
        const RecordInfo *record = info->record;
        unsigned n = record->key.n_fields - 1, last = record->key.fields[n];

        sqlite3_str_appendf(sql, "DELETE FROM \"%w\"", record->table);
        add_where_key(sql, info, n);
        sqlite3_str_appendf(sql, " AND \"%w\" <= (SELECT max(n) FROM (SELECT \"%w\" AS n FROM \"%w\"",
                field_name(info, last), field_name(info, last), record->table);
        add_where_key(sql, info, n);
        sqlite3_str_appendf(sql, " AND \"%w\" <= ?%u AND \"%w\" < (SELECT max(\"%w\") FROM \"%w\"",
                field_name(info, last), last + 1, field_name(info, last), field_name(info, last),
                record->table);
        add_where_key(sql, info, n);
        sqlite3_str_appendf(
                sql, ") ORDER BY \"%w\" LIMIT ?%d))", field_name(info, last), sql_parameter_limit(info));
}

/* For a record of a key and one number. */
static void add_count_up(sqlite3_str *sql, const MessageInfo *info) {
        const char *number = field_name(info, info->record->key.n_fields);

        add_insert(sql, info);
        sqlite3_str_appendf(sql,
                " ON CONFLICT DO UPDATE SET \"%w\" = \"%w\" + excluded.\"%w\" RETURNING \"%w\"", number,
                number, number, number);
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
}

static void add_select(sqlite3_str *sql, const StatementShape *shape) {
        const MessageInfo *info = shape->info;

        sqlite3_str_appendall(sql, "SELECT ");
        add_columns(sql, info);
        sqlite3_str_appendf(sql, " FROM \"%w\"", info->record->table);
        /* What was declared for this query, rather than what the planner guesses. */
        if (shape->index->name)
                sqlite3_str_appendf(sql, " INDEXED BY \"%w\"", shape->index->name);
        add_select_where(sql, shape);
        for (unsigned i = shape->n_prefix; i < shape->index->n_fields; i++)
                sqlite3_str_appendf(sql, "%s\"%w\"%s", i == shape->n_prefix ? " ORDER BY " : ", ",
                        field_name(info, shape->index->fields[i]), shape->descending ? " DESC" : "");
        sqlite3_str_appendf(sql, " LIMIT ?%d", sql_parameter_limit(info));
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
        case STATEMENT_PUT:
                add_put(sql, info);
                break;
        case STATEMENT_PATCH:
                add_patch(sql, shape);
                break;
        case STATEMENT_PATCH_RETURNING:
                add_patch(sql, shape);
                sqlite3_str_appendf(
                        sql, " RETURNING \"%w\"", field_name(info, (unsigned) info->record->version_field));
                break;
        case STATEMENT_DELETE:
                sqlite3_str_appendf(sql, "DELETE FROM \"%w\"", info->record->table);
                add_where_key_and_equal(sql, shape);
                break;
        case STATEMENT_DELETE_OLDEST:
                add_delete_oldest(sql, info);
                break;
        case STATEMENT_EXISTS:
                sqlite3_str_appendf(sql, "SELECT 1 FROM \"%w\"", info->record->table);
                add_where_key(sql, info, info->record->key.n_fields);
                break;
        case STATEMENT_LAST:
                add_last(sql, info);
                break;
        case STATEMENT_COUNT_UP:
                add_count_up(sql, info);
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
