/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/schema.h"

#include "log/log.h"
#include "store/postgresql/sql.h"
#include "util/string-util.h"

/* Of the advisory lock: "stonechat" in its first eight letters. */
#define LOCK_NUMBER "8319396931598248033"

static void pg_clear_resultp(PGresult **result) {
        PQclear(*result);
}
#define _cleanup_result_ _cleanup_(pg_clear_resultp)

static int result_error(const PGresult *result) {
        const char *code = strempty(PQresultErrorField(result, PG_DIAG_SQLSTATE));

        log_error("Failed to set up the store: %s (%s)",
                strempty(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)), code);
        return streq(code, "42501") ? -EACCES : streq(code, "53100") ? -ENOSPC : -EIO;
}

static int exec(PGconn *conn, const char *sql) {
        _cleanup_result_ PGresult *result = PQexec(conn, sql);
        ExecStatusType status = PQresultStatus(result);

        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
                return result_error(result);
        return 0;
}

static int exec_and_free(PGconn *conn, char *text) {
        _cleanup_free_ char *sql = text;
        return sql ? exec(conn, sql) : -ENOMEM;
}

/* The first column of the first row, or the empty string if there is none. */
static int query(PGconn *conn, const char *sql, const char *const *parameters, int n, char **ret) {
        _cleanup_result_ PGresult *result = PQexecParams(conn, sql, n, NULL, parameters, NULL, NULL, 0);

        if (PQresultStatus(result) != PGRES_TUPLES_OK)
                return result_error(result);
        char *value = strdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
        if (!value)
                return -ENOMEM;
        *ret = value;
        return 0;
}

/* 1 if the query finds a row, 0 if not. */
static int finds(PGconn *conn, const char *sql, const char *const *parameters, int n) {
        _cleanup_free_ char *value = NULL;

        int r = query(conn, sql, parameters, n, &value);
        return r < 0 ? r : !isempty(value);
}

static int check_server(PGconn *conn) {
        _cleanup_free_ char *fsync = NULL;
        const char *encoding = strempty(PQparameterStatus(conn, "server_encoding"));

        if (!streq(encoding, "UTF8")) {
                log_error("The store's database has the encoding %s; it must be UTF8", encoding);
                return -EINVAL;
        }
        int r = query(conn, "SELECT current_setting('fsync')", NULL, 0, &fsync);
        if (r >= 0 && streq(fsync, "off"))
                log_warning(
                        "The store's server runs with fsync=off: after a power cut messages are missing.");
        return r;
}

/* --- the version --- */

static int ensure_schema(PGconn *conn, const char *schema) {
        int r = finds(conn, "SELECT 1 FROM pg_namespace WHERE nspname = $1", &schema, 1);
        if (r == 0)
                r = exec_and_free(conn, format_string("CREATE SCHEMA \"%s\"", schema));
        return r;
}

static int has_table(PGconn *conn, const char *schema, const char *table) {
        const char *const parameters[] = {schema, table};

        return finds(conn,
                "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = $1 AND c.relname = $2",
                parameters, 2);
}

/* 0 if there is none yet. */
static int read_version(PGconn *conn, const char *schema, uint64_t *ret) {
        _cleanup_free_ char *sql = format_string("SELECT version FROM \"%s\".stonechat_schema", schema);
        _cleanup_free_ char *version = NULL;

        if (!sql)
                return -ENOMEM;
        *ret = 0;
        int r = has_table(conn, schema, "stonechat_schema");
        if (r == 0)
                return exec_and_free(
                        conn, format_string("CREATE TABLE \"%s\".stonechat_schema (version bigint NOT NULL)",
                                      schema));
        if (r > 0)
                r = query(conn, sql, NULL, 0, &version);
        if (r < 0 || isempty(version))
                return r;
        return parse_u64(version, UINT64_MAX, ret) < 0 ? -EUCLEAN : 0;
}

static int write_version(PGconn *conn, const char *schema) {
        return exec_and_free(conn, format_string("DELETE FROM \"%s\".stonechat_schema;"
                                                 " INSERT INTO \"%s\".stonechat_schema VALUES (%d)",
                                           schema, schema, PG_SCHEMA_VERSION));
}

/* --- records --- */

static int ensure_columns(PGconn *conn, const char *schema, const MessageInfo *info) {
        for (unsigned i = 0; i < record_n_fields(info); i++) {
                const char *const parameters[] = {
                        schema, info->record->table, info->descriptor->fields[i].name};
                int r = finds(conn,
                        "SELECT 1 FROM information_schema.columns"
                        " WHERE table_schema = $1 AND table_name = $2 AND column_name = $3",
                        parameters, 3);
                if (r == 0)
                        r = exec_and_free(conn, pg_sql_add_column(schema, info, i));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int ensure_record(PGconn *conn, const char *schema, const MessageInfo *info) {
        const RecordInfo *record = info->record;

        if (record_n_fields(info) > PG_MAX_FIELDS)
                return -EOPNOTSUPP;
        int r = has_table(conn, schema, record->table);
        if (r == 0)
                r = exec_and_free(conn, pg_sql_create_table(schema, info));
        else if (r > 0)
                r = ensure_columns(conn, schema, info);
        if (r < 0)
                return r;
        FOREACH_ARRAY(index, record->indexes, record->n_indexes) {
                r = has_table(conn, schema, index->name);
                if (r == 0)
                        r = exec_and_free(conn, pg_sql_create_index(schema, info, index));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int ensure_all(PGconn *conn, const StoreConfig *config) {
        uint64_t version;

        int r = ensure_schema(conn, config->name);
        if (r >= 0)
                r = read_version(conn, config->name, &version);
        if (r < 0)
                return r;
        if (version > PG_SCHEMA_VERSION) {
                log_error("The store's schema \"%s\" has version %llu; this program knows those up to %d",
                        config->name, (unsigned long long) version, PG_SCHEMA_VERSION);
                return -EUCLEAN;
        }
        for (const MessageInfo *const *info = config->records; *info; info++) {
                r = ensure_record(conn, config->name, *info);
                if (r < 0)
                        return r;
        }
        return version < PG_SCHEMA_VERSION ? write_version(conn, config->name) : 0;
}

int pg_schema_ensure(PGconn *conn, const StoreConfig *config) {
        int r = check_server(conn);
        if (r >= 0)
                r = exec(conn, "BEGIN; SELECT pg_advisory_xact_lock(" LOCK_NUMBER ")");
        if (r >= 0)
                r = ensure_all(conn, config);
        if (r < 0)
                return r; /* the transaction ends with the connection */
        return exec(conn, "COMMIT");
}
