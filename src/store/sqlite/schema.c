/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/schema.h"

#include "store/sqlite/migrate.h"

#define STRINGIFY(x) #x
#define SET_VERSION(version) "PRAGMA user_version = " STRINGIFY(version)

static int exec_and_free(SqliteConnection *connection, char *text) {
        _cleanup_sqlite_free_ char *sql = text;

        return sql ? connection_exec(connection, sql) : -ENOMEM;
}

static int has_column(SqliteConnection *connection, const char *table, const char *column) {
        _cleanup_sqlite_free_ char *sql =
                sqlite3_mprintf("SELECT count(*) FROM pragma_table_info(%Q) WHERE name = %Q", table, column);
        int64_t n;

        if (!sql)
                return -ENOMEM;
        int r = connection_query_number(connection, sql, &n);
        return r < 0 ? r : n > 0;
}

static int ensure_record(SqliteConnection *connection, const MessageInfo *info) {
        const RecordInfo *record = info->record;

        int r = exec_and_free(connection, sql_create_table(info));
        if (r < 0)
                return r;
        for (unsigned i = 0; i < record_n_fields(info); i++) {
                r = has_column(connection, record->table, info->descriptor->fields[i].name);
                if (r == 0)
                        r = exec_and_free(connection, sql_add_column(info, i));
                if (r < 0)
                        return r;
        }
        FOREACH_ARRAY(index, record->indexes, record->n_indexes) {
                r = exec_and_free(connection, sql_create_index(info, index));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int ensure_all(SqliteConnection *connection, const MessageInfo *const *records) {
        int64_t version;

        int r = connection_query_number(connection, "PRAGMA user_version", &version);
        if (r < 0)
                return r;
        if (version > SQLITE_SCHEMA_VERSION)
                return -EUCLEAN;
        r = sqlite_migrate_begin(connection, version);
        if (r < 0)
                return r;
        for (; *records; records++) {
                r = ensure_record(connection, *records);
                if (r < 0)
                        return r;
        }
        r = sqlite_migrate_finish(connection, version);
        if (r < 0)
                return r;
        return version < SQLITE_SCHEMA_VERSION
                       ? connection_exec(connection, SET_VERSION(SQLITE_SCHEMA_VERSION))
                       : 0;
}

int sqlite_schema_ensure(SqliteConnection *connection, const MessageInfo *const *records) {
        int r = connection_begin(connection);
        if (r < 0)
                return r;
        r = ensure_all(connection, records);
        if (r >= 0)
                r = connection_commit(connection);
        if (r < 0)
                connection_rollback(connection);
        /* Whether it is done shows when the store is opened next. */
        return r == -EINPROGRESS ? -EIO : r;
}
