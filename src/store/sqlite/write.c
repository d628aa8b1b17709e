/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/write.h"

#include "schema-tables.h"

static int bind_all_fields(sqlite3_stmt *statement, const MessageInfo *info, const Value *values) {
        int rc = SQLITE_OK;

        for (unsigned i = 0; i < record_n_fields(info) && rc == SQLITE_OK; i++)
                rc = statement_bind(statement, (int) i + 1, &values[i]);
        return rc;
}

/* 1 or 0: rows were changed, or found; -EEXIST for a key that is taken. */
static int take_result(SqliteConnection *connection, int rc) {
        if (rc == SQLITE_ROW)
                return 1;
        if (rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_UNIQUE)
                return -EEXIST;
        if (rc != SQLITE_DONE)
                return connection_error(connection, rc) ?: -EIO;
        return sqlite3_changes(connection_handle(connection)) > 0;
}

int run_with_all_fields(
        SqliteConnection *connection, StatementKind kind, const MessageInfo *info, const Value *values) {
        const StatementShape shape = {.info = info, .kind = kind};
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = connection_prepare(connection, &shape, &statement);
        if (r < 0)
                return r;
        int rc = bind_all_fields(statement, info, values);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        return take_result(connection, rc);
}

static bool has_version(const WriteItem *item) {
        return item->info->record->version_field >= 0;
}

/* The version that must be stored, or 0. */
static uint64_t expected_version(const WriteItem *item) {
        FOREACH_ARRAY(field, item->equal, item->n_equal)
                if ((int) *field == item->info->record->version_field)
                        return (uint64_t) item->values[*field].integer;
        return 0;
}

static StatementShape item_shape(const WriteItem *item, StatementKind kind) {
        StatementShape shape = {.info = item->info, .kind = kind};

        FOREACH_ARRAY(change, item->changes, item->n_changes) {
                uint32_t bit = 1U << change->field;
                shape.set |= change->kind == STORE_SET ? bit : 0;
                shape.increment |= change->kind == STORE_INCREMENT ? bit : 0;
                shape.max |= change->kind == STORE_MAX ? bit : 0;
        }
        FOREACH_ARRAY(field, item->equal, item->n_equal)
                shape.equal |= 1U << *field;
        return shape;
}

/* Only the parameters that the statement has. */
static int bind_item(
        sqlite3_stmt *statement, const StatementShape *shape, const WriteItem *item, uint32_t name) {
        const RecordInfo *record = item->info->record;
        uint32_t used = shape->set | shape->increment | shape->max | shape->equal;
        bool patch = shape->kind == STATEMENT_PATCH || shape->kind == STATEMENT_PATCH_RETURNING;
        int rc = SQLITE_OK;

        FOREACH_ARRAY(field, record->key.fields, record->key.n_fields)
                used |= 1U << *field;
        for (unsigned i = 0; i < record_n_fields(item->info) && rc == SQLITE_OK; i++)
                if (used & 1U << i)
                        rc = statement_bind(statement, (int) i + 1, &item->values[i]);
        if (patch && has_version(item))
                rc = rc ?: sqlite3_bind_int64(statement, sql_parameter_name(item->info), name);
        return rc;
}

/* A PATCH, DELETE or EXISTS. *version, if it is asked for: the new one. */
static int run_by_key(SqliteConnection *connection, const StatementShape *shape, const WriteItem *item,
        uint32_t name, uint64_t *version) {
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = connection_prepare(connection, shape, &statement);
        if (r < 0)
                return r;
        int rc = bind_item(statement, shape, item, name);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW && version)
                *version = (uint64_t) sqlite3_column_int64(statement, 0);
        if (rc == SQLITE_DONE && shape->kind == STATEMENT_EXISTS)
                return 0;
        return take_result(connection, rc);
}

/* The version is known beforehand where one must be stored. */
static int run_patch(
        SqliteConnection *connection, const WriteItem *guard, uint32_t name, uint64_t *version) {
        uint64_t expected = expected_version(guard);
        bool returning = has_version(guard) && expected == 0;
        const StatementShape shape =
                item_shape(guard, returning ? STATEMENT_PATCH_RETURNING : STATEMENT_PATCH);

        if (has_version(guard) && !returning)
                *version = OPERATION_VERSION(expected, name);
        return run_by_key(connection, &shape, guard, name, version);
}

static int run_insert(
        SqliteConnection *connection, const WriteItem *guard, uint32_t name, uint64_t *version) {
        if (has_version(guard))
                *version = OPERATION_VERSION(0, name);
        return run_with_all_fields(connection, STATEMENT_INSERT, guard->info, guard->values);
}

static int run_delete(SqliteConnection *connection, const WriteItem *item) {
        const StatementShape shape = item_shape(item, STATEMENT_DELETE);
        return run_by_key(connection, &shape, item, 0, NULL);
}

static int exists(SqliteConnection *connection, const WriteItem *item) {
        const StatementShape shape = {.info = item->info, .kind = STATEMENT_EXISTS};
        return run_by_key(connection, &shape, item, 0, NULL);
}

int run_guard(SqliteConnection *connection, const WriteItem *guard, uint32_t name, int *ret_refused,
        uint64_t *ret_version) {
        uint64_t version = 0;
        int r;

        if (guard->verb == STORE_INSERT)
                r = run_insert(connection, guard, name, &version);
        else if (guard->verb == STORE_PATCH)
                r = run_patch(connection, guard, name, &version);
        else
                r = run_delete(connection, guard);
        if (r == 0) {
                r = exists(connection, guard);
                if (r < 0)
                        return r;
                *ret_refused = r > 0 ? -ESTALE : -ENOENT;
                return 0;
        }
        if (r < 0 && r != -EEXIST)
                return r;
        *ret_refused = r < 0 ? r : 0;
        *ret_version = r < 0 ? 0 : version;
        return 0;
}

static int run_follower(SqliteConnection *connection, const WriteItem *follower, uint32_t name) {
        if (follower->verb == STORE_PUT)
                return run_with_all_fields(connection, STATEMENT_PUT, follower->info, follower->values);
        if (follower->verb == STORE_DELETE)
                return run_delete(connection, follower);
        const StatementShape shape = item_shape(follower, STATEMENT_PATCH);
        return run_by_key(connection, &shape, follower, name, NULL);
}

/* Raises the counter of the source and answers what it was. */
static int raise_counter(SqliteConnection *connection, const char *source, size_t n, uint64_t *ret) {
        const StatementShape shape = {.info = &sc__intent_counter__info, .kind = STATEMENT_COUNT_UP};
        const Value values[] = {
                {.type = VALUE_TEXT, .size = (uint32_t) strlen(source), .text = source},
                {.type = VALUE_INTEGER, .integer = (int64_t) n},
        };
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = connection_prepare(connection, &shape, &statement);
        if (r < 0)
                return r;
        int rc = bind_all_fields(statement, &sc__intent_counter__info, values);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc != SQLITE_ROW)
                return connection_error(connection, rc) ?: -EIO;
        *ret = (uint64_t) sqlite3_column_int64(statement, 0) - n;
        return 0;
}

static int run_intents(SqliteConnection *connection, Extras *extras, const char *partition) {
        uint64_t last = 0;

        int r = raise_counter(connection, partition, extras->n_intents, &last);
        if (r < 0)
                return r;
        extras_number_intents(extras, last);
        for (size_t i = 0; i < extras->n_intents; i++) {
                r = run_with_all_fields(connection, STATEMENT_INSERT, &sc__intent__info,
                        extras->intents + i * record_n_fields(&sc__intent__info));
                if (r < 0)
                        return r == -EEXIST ? -EIO : r; /* the counter would lag behind */
        }
        return 0;
}

int run_extras(SqliteConnection *connection, Extras *extras, const char *partition, uint32_t name) {
        FOREACH_ARRAY(follower, extras->followers, extras->n_followers) {
                int r = run_follower(connection, follower, name);
                if (r < 0)
                        return r == -EEXIST ? -EIO : r;
        }
        return extras->n_intents > 0 ? run_intents(connection, extras, partition) : 0;
}
