/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql-sql.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/bytes.h"
#include "util/string-util.h"

/* The setting in which a guard notes whether it was done, for the rest of the transaction. */
#define NOTE "stonechat.done"
#define IS_NOTED "current_setting('" NOTE "') = '1'"

typedef struct Builder {
        Buffer sql;
        const char *schema;
        const PgShape *shape;
        const MessageInfo *info;
        PgText *text;
        int r;
} Builder;

static void add(Builder *b, const char *format, ...) _printf_(2, 3);
static void add(Builder *b, const char *format, ...) {
        va_list arguments;
        char piece[512];

        va_start(arguments, format);
        int n = vsnprintf(piece, sizeof(piece), format, arguments);
        va_end(arguments);
        if (n < 0 || (size_t) n >= sizeof(piece))
                b->r = -E2BIG;
        else
                (void) buffer_append(&b->sql, piece, (size_t) n);
}

static char *finish(Builder *b) {
        (void) buffer_append(&b->sql, "", 1);
        if (b->sql.error < 0 || b->r < 0) {
                buffer_done(&b->sql);
                return NULL;
        }
        return (char *) b->sql.data;
}

static const char *field_name(const MessageInfo *info, unsigned field) {
        return info->descriptor->fields[field].name;
}

static bool key_has_field(const RecordInfo *record, unsigned field) {
        FOREACH_ARRAY(f, record->key.fields, record->key.n_fields)
                if (*f == field)
                        return true;
        return false;
}

/* --- parameters --- */

/* The number of the parameter, which is new or was named before. */
static unsigned find_parameter(Builder *b, PgSource source, unsigned field, bool array) {
        PgText *text = b->text;
        ValueType type = VALUE_INTEGER;

        if (source == PG_FIELD || source == PG_TO)
                type = record_field_type(&b->info->descriptor->fields[field]);
        for (unsigned i = 0; i < text->n_parameters; i++)
                if (text->parameters[i].source == source && text->parameters[i].field == field)
                        return i + 1;
        if (text->n_parameters == PG_MAX_PARAMETERS) {
                b->r = -E2BIG;
                return 1;
        }
        text->parameters[text->n_parameters] =
                (PgParameter){.source = source, .field = field, .type = type, .array = array};
        return ++text->n_parameters;
}

static void add_parameter(Builder *b, PgSource source, unsigned field) {
        add(b, "$%u", find_parameter(b, source, field, false));
}

static void add_field(Builder *b, unsigned field) {
        add_parameter(b, PG_FIELD, field);
}

/* A value of a read: a parameter, or, where arrays stand for many reads, the column of these that holds it. */
static void add_read_value(Builder *b, PgSource source, unsigned field) {
        bool many = b->shape->many;

        add(b, many ? "k.p%u" : "$%u", find_parameter(b, source, field, many));
}

/* --- parts --- */

static void add_table(Builder *b, const MessageInfo *info) {
        add(b, "\"%s\".\"%s\"", b->schema, info->record->table);
}

/* The columns of the record, each behind `prefix`. */
static void add_columns(Builder *b, const MessageInfo *info, const char *prefix) {
        for (unsigned i = 0; i < record_n_fields(info); i++)
                add(b, "%s%s\"%s\"", i > 0 ? ", " : "", prefix, field_name(info, i));
}

static void add_field_list(Builder *b, const MessageInfo *info, const IndexInfo *index) {
        for (unsigned i = 0; i < index->n_fields; i++)
                add(b, "%s\"%s\"", i > 0 ? ", " : "", field_name(info, index->fields[i]));
}

static void add_equal(Builder *b, unsigned field) {
        bool nullable = record_field_is_nullable(&b->info->descriptor->fields[field]);

        add(b, "t.\"%s\" %s ", field_name(b->info, field), nullable ? "IS NOT DISTINCT FROM" : "=");
        add_field(b, field);
}

static void add_where_key(Builder *b) {
        const IndexInfo *key = &b->info->record->key;

        for (unsigned i = 0; i < key->n_fields; i++) {
                add(b, i == 0 ? " WHERE " : " AND ");
                add_equal(b, key->fields[i]);
        }
}

/* Conditions stand in guards; followers act where their guard was done. */
static void add_conditions(Builder *b) {
        const PgShape *shape = b->shape;

        if (!shape->guard)
                add(b, " AND " IS_NOTED);
        FOREACH_ARRAY(field, shape->equal, shape->n_equal) {
                add(b, " AND ");
                add_equal(b, *field);
        }
}

/* Notes what the expression, a number, says: 1 or 0. It is a column of the guard's row. */
static void add_note(Builder *b, const char *done) {
        if (b->shape->notes)
                add(b, ", set_config('" NOTE "', (%s)::text, true)", done);
}

/* OPERATION_VERSION() of the stored version. */
static void add_next_version(Builder *b, const char *version_name) {
        add(b, "((((t.\"%s\" >> %d) + 1) << %d) | ", version_name, OPERATION_NAME_BITS, OPERATION_NAME_BITS);
}

/* --- writes --- */

static void add_insert(Builder *b) {
        add(b, "WITH guard AS (INSERT INTO ");
        add_table(b, b->info);
        add(b, " (");
        add_columns(b, b->info, "");
        add(b, ") VALUES (");
        for (unsigned i = 0; i < record_n_fields(b->info); i++) {
                add(b, i > 0 ? ", " : "");
                add_field(b, i);
        }
        add(b, ") ON CONFLICT DO NOTHING RETURNING 1) SELECT (SELECT count(*) FROM guard)");
        add_note(b, "SELECT count(*) FROM guard");
}

static void add_put_update(Builder *b) {
        const RecordInfo *record = b->info->record;
        unsigned n_set = 0;

        for (unsigned i = 0; i < record_n_fields(b->info); i++) {
                const char *name = field_name(b->info, i);
                if (key_has_field(record, i))
                        continue;
                add(b, "%s\"%s\" = ", n_set++ > 0 ? ", " : " DO UPDATE SET ", name);
                if ((int) i == record->version_field) {
                        add_next_version(b, name);
                        add(b, "(excluded.\"%s\" & %lld))", name, (1LL << OPERATION_NAME_BITS) - 1);
                } else
                        add(b, "excluded.\"%s\"", name);
        }
        if (n_set == 0)
                add(b, " DO NOTHING");
}

static void add_put(Builder *b) {
        add(b, "INSERT INTO ");
        add_table(b, b->info);
        add(b, " AS t (");
        add_columns(b, b->info, "");
        add(b, ") SELECT ");
        for (unsigned i = 0; i < record_n_fields(b->info); i++) {
                add(b, i > 0 ? ", " : "");
                add_field(b, i);
        }
        add(b, " WHERE " IS_NOTED " ON CONFLICT (");
        add_field_list(b, b->info, &b->info->record->key);
        add(b, ")");
        add_put_update(b);
}

static void add_change(Builder *b, const StoreChange *change) {
        const char *name = field_name(b->info, change->field);

        add(b, "\"%s\" = ", name);
        if (change->kind == STORE_INCREMENT)
                add(b, "coalesce(t.\"%s\", 0) + ", name);
        else if (change->kind == STORE_MAX)
                add(b, "greatest(t.\"%s\", ", name);
        add_field(b, change->field);
        add(b, change->kind == STORE_MAX ? ")" : "");
}

static void add_update(Builder *b) {
        const PgShape *shape = b->shape;
        int version = b->info->record->version_field;
        unsigned n_set = 0;

        add(b, "UPDATE ");
        add_table(b, b->info);
        add(b, " AS t SET ");
        FOREACH_ARRAY(change, shape->changes, shape->n_changes) {
                add(b, n_set++ > 0 ? ", " : "");
                add_change(b, change);
        }
        if (version >= 0) {
                const char *name = field_name(b->info, (unsigned) version);
                add(b, "%s\"%s\" = ", n_set++ > 0 ? ", " : "", name);
                add_next_version(b, name);
                add_parameter(b, PG_NAME, 0);
                add(b, ")");
        }
        if (n_set == 0) /* find out whether it is there */
                add(b, "\"%s\" = t.\"%s\"", field_name(b->info, b->info->record->key.fields[0]),
                        field_name(b->info, b->info->record->key.fields[0]));
        add_where_key(b);
        add_conditions(b);
}

static void add_delete(Builder *b) {
        add(b, "DELETE FROM ");
        add_table(b, b->info);
        add(b, " AS t");
        add_where_key(b);
        add_conditions(b);
}

/* An UPDATE or DELETE: a follower as it is, a guard with what it answers. */
static void add_change_or_guard(Builder *b, void (*add_statement)(Builder *)) {
        int version = b->info->record->version_field;

        if (!b->shape->guard) {
                add_statement(b);
                return;
        }
        add(b, "WITH guard AS (");
        add_statement(b);
        if (version >= 0 && b->shape->kind == PG_PATCH)
                add(b, " RETURNING t.\"%s\" AS version)", field_name(b->info, (unsigned) version));
        else
                add(b, " RETURNING 0::bigint AS version)");
        add(b, " SELECT (SELECT count(*) FROM guard), coalesce((SELECT version FROM guard), 0)"
               ", (SELECT count(*) FROM ");
        add_table(b, b->info);
        add(b, " AS t");
        add_where_key(b);
        add(b, ")");
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
static void add_unnest(Builder *b, const char *alias, int except, bool ordinality) {
        unsigned n = 0;

        add(b, "unnest(");
        for (unsigned i = 0; i < record_n_fields(b->info); i++)
                if ((int) i != except)
                        add(b, "%s$%u", n++ > 0 ? ", " : "", find_parameter(b, PG_FIELD, i, true));
        add(b, ")%s AS %s(", ordinality ? " WITH ORDINALITY" : "", alias);
        n = 0;
        for (unsigned i = 0; i < record_n_fields(b->info); i++)
                if ((int) i != except)
                        add(b, "%sc%u", n++ > 0 ? ", " : "", i);
        add(b, ordinality ? ", i)" : ")");
}

/* The stored entries that have the client_msg_id and sender of these, as rows of all fields. */
static void add_taken(Builder *b, const IndexInfo *index) {
        const char *id = field_name(b->info, index->fields[0]),
                   *sender = field_name(b->info, index->fields[1]);

        add(b, "ARRAY(SELECT ROW(");
        add_columns(b, b->info, "t.");
        add(b, ") FROM ");
        if (b->shape->many) {
                add_unnest(b, "e", -1, false);
                add(b, ", ");
        }
        add_table(b, b->info);
        if (b->shape->many)
                add(b, " AS t WHERE t.\"%s\" = e.c%u AND t.\"%s\" = e.c%u", id, index->fields[0], sender,
                        index->fields[1]);
        else {
                add(b, " AS t WHERE t.\"%s\" = ", id);
                add_field(b, index->fields[0]);
                add(b, " AND t.\"%s\" = ", sender);
                add_field(b, index->fields[1]);
        }
        /* The planner takes a partial index only if the statement says so too. */
        add(b, " AND t.\"%s\" <> '')", id);
}

static void add_entries(Builder *b) {
        for (unsigned i = 0; i < record_n_fields(b->info); i++) {
                add(b, i > 0 ? ", " : "");
                if (b->shape->many)
                        add(b, "e.c%u", i);
                else
                        add_field(b, i);
        }
}

/* The entries are inserted all or none. Between the look and the insertion another host may store one of them:
 * then the insertion fails with a unique violation, and the writes of this transaction are tried again one by
 * one. */
static void add_append(Builder *b) {
        const IndexInfo *key = &b->info->record->key, *by_client_id = pg_sql_client_id_index(b->info);
        const char *conversation = field_name(b->info, key->fields[0]),
                   *seq = field_name(b->info, key->fields[1]);

        add(b, "WITH state AS MATERIALIZED (SELECT coalesce((SELECT max(t.\"%s\") FROM ", seq);
        add_table(b, b->info);
        add(b, " AS t WHERE t.\"%s\" = ", conversation);
        if (b->shape->many)
                add(b, "($%u)[1]", find_parameter(b, PG_FIELD, key->fields[0], true));
        else
                add_field(b, key->fields[0]);
        add(b, "), 0) AS seq, ");
        add_taken(b, by_client_id);
        add(b, " AS taken), entry AS (INSERT INTO ");
        add_table(b, b->info);
        add(b, " (");
        add_columns(b, b->info, "");
        add(b, ") SELECT ");
        add_entries(b);
        add(b, " FROM state");
        if (b->shape->many) {
                add(b, ", ");
                add_unnest(b, "e", -1, false);
        }
        add(b, " WHERE state.seq = ");
        add_parameter(b, PG_AFTER_SEQ, 0);
        add(b, " AND cardinality(state.taken) = 0 RETURNING 1) SELECT state.seq, state.taken");
        if (b->shape->notes) {
                add(b, ", set_config('" NOTE "', CASE WHEN state.seq = ");
                add_parameter(b, PG_AFTER_SEQ, 0);
                add(b, " AND cardinality(state.taken) = 0 THEN '1' ELSE '0' END, true)");
        }
        add(b, " FROM state");
}

/* Numbers come from the counter of the source, whose row is locked until the commit: they are in the order of
 * the commits. */
static void add_intents(Builder *b) {
        const MessageInfo *counter = b->shape->counter;
        const char *source = field_name(counter, counter->record->key.fields[0]);
        int number = record_find_field(b->info, "number");

        add(b, "WITH counter AS (INSERT INTO ");
        add_table(b, counter);
        add(b, " AS t (\"%s\", \"number\") SELECT ($%u)[1], ", source,
                find_parameter(b, PG_FIELD, b->info->record->key.fields[0], true));
        add_parameter(b, PG_COUNT, 0);
        add(b,
                " WHERE " IS_NOTED " ON CONFLICT (\"%s\")"
                " DO UPDATE SET \"number\" = t.\"number\" + excluded.\"number\" RETURNING t.\"number\")"
                ", intent AS (INSERT INTO ",
                source);
        add_table(b, b->info);
        add(b, " (");
        add_columns(b, b->info, "");
        add(b, ") SELECT ");
        for (unsigned i = 0; i < record_n_fields(b->info); i++)
                if ((int) i == number)
                        add(b, "%scounter.number - $%u + e.i", i > 0 ? ", " : "",
                                find_parameter(b, PG_COUNT, 0, false));
                else
                        add(b, "%se.c%u", i > 0 ? ", " : "", i);
        add(b, " FROM counter, ");
        add_unnest(b, "e", number, true);
        add(b, " RETURNING 1) SELECT number FROM counter");
}

static void add_delete_entries(Builder *b) {
        const IndexInfo *key = &b->info->record->key;
        const char *seq = field_name(b->info, key->fields[1]);

        add(b, "DELETE FROM ");
        add_table(b, b->info);
        add(b, " AS t");
        add(b, " WHERE ");
        add_equal(b, key->fields[0]);
        add(b, " AND t.\"%s\" = ANY(ARRAY(SELECT t.\"%s\" FROM ", seq, seq);
        add_table(b, b->info);
        add(b, " AS t WHERE ");
        add_equal(b, key->fields[0]);
        add(b, " AND t.\"%s\" <= ", seq);
        add_parameter(b, PG_AFTER_SEQ, 0);
        add(b, " AND t.\"%s\" < (SELECT max(t.\"%s\") FROM ", seq, seq);
        add_table(b, b->info);
        add(b, " AS t WHERE ");
        add_equal(b, key->fields[0]);
        add(b, ") ORDER BY t.\"%s\" LIMIT ", seq);
        add_parameter(b, PG_LIMIT, 0);
        add(b, "))");
}

/* --- reads --- */

bool pg_sql_is_sized(const MessageInfo *info) {
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields)
                if (record_field_type(field) == VALUE_BLOB)
                        return true;
        return false;
}

static void add_select_where(Builder *b) {
        const PgShape *shape = b->shape;
        const unsigned *fields = shape->index->fields;
        const char *word = " WHERE ";

        for (unsigned i = 0; i < shape->n_prefix; i++, word = " AND ") {
                add(b, "%st.\"%s\" = ", word, field_name(b->info, fields[i]));
                add_read_value(b, PG_FIELD, fields[i]);
        }
        if (shape->after) {
                add(b, "%st.\"%s\" > ", word, field_name(b->info, fields[shape->n_prefix]));
                add_read_value(b, PG_FIELD, fields[shape->n_prefix]);
                word = " AND ";
        }
        if (shape->before) {
                add(b, "%st.\"%s\" < ", word, field_name(b->info, fields[shape->n_prefix]));
                add_read_value(b, PG_TO, fields[shape->n_prefix]);
                word = " AND ";
        }
        if (shape->index->name && record_index_is_partial(b->info, shape->index))
                add(b, "%st.\"%s\" <> ''", word, field_name(b->info, fields[0]));
}

static void add_order(Builder *b) {
        const PgShape *shape = b->shape;

        for (unsigned i = shape->n_prefix; i < shape->index->n_fields; i++)
                add(b, "%st.\"%s\"%s", i == shape->n_prefix ? " ORDER BY " : ", ",
                        field_name(b->info, shape->index->fields[i]), shape->descending ? " DESC" : "");
}

/* The bytes of a row, as the reader counts them. This does not read what is stored beside the row. */
static void add_size(Builder *b) {
        add(b, "8 * %zu", record_n_fields(b->info));
        FOREACH_ARRAY(field, b->info->descriptor->fields, b->info->descriptor->n_fields)
                if (record_field_type(field) >= VALUE_TEXT)
                        add(b, " + coalesce(octet_length(t.\"%s\"), 0)", field->name);
}

static void add_select_rows(Builder *b, const char *columns) {
        add(b, "SELECT ");
        if (columns)
                add(b, "%s", columns);
        else
                add_columns(b, b->info, "t.");
        add(b, " FROM ");
        add_table(b, b->info);
        add(b, " AS t");
        add_select_where(b);
        add_order(b);
        add(b, " LIMIT ");
        add_read_value(b, PG_LIMIT, 0);
}

/* The rows up to the one with which they exceed so many bytes, and two at least: the reader drops the last, and
 * knows that there is more. So large records that nobody wants yet do not cross the wire. */
static void add_select_sized(Builder *b) {
        add(b, "SELECT ");
        add_columns(b, b->info, "t.");
        add(b, " FROM (SELECT t.*, row_number() OVER w AS place, sum(");
        add_size(b);
        add(b, ") OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS size_before FROM (");
        add_select_rows(b, "t.*");
        add(b, ") AS t WINDOW w AS (");
        add_order(b);
        add(b, ")) AS t WHERE t.place <= 2 OR t.size_before <= ");
        add_read_value(b, PG_MAX_BYTES, 0);
        add_order(b);
}

static void add_select_one(Builder *b) {
        if (pg_sql_is_sized(b->info) && b->shape->n_prefix < b->shape->index->n_fields)
                add_select_sized(b);
        else
                add_select_rows(b, NULL);
}

/* Many reads as one: for each row of the arrays what a read alone would answer. The order of a nested loop
 * over a lateral subquery is that of the arrays, and within it the subquery's. */
static void add_select_many(Builder *b) {
        Builder inner = {.schema = b->schema, .shape = b->shape, .info = b->info, .text = b->text};

        add_select_one(&inner);
        _cleanup_free_ char *select = finish(&inner);
        if (!select) {
                b->r = inner.r < 0 ? inner.r : -ENOMEM;
                return;
        }
        add(b, "SELECT k.i, r.* FROM unnest(");
        for (unsigned i = 1; i <= b->text->n_parameters; i++)
                add(b, "%s$%u", i > 1 ? ", " : "", i);
        add(b, ") WITH ORDINALITY AS k(");
        for (unsigned i = 1; i <= b->text->n_parameters; i++)
                add(b, "p%u, ", i);
        add(b, "i) CROSS JOIN LATERAL (");
        (void) buffer_append_string(&b->sql, select);
        add(b, ") AS r");
}

/* --- checks --- */

/* It may take long, and reads whole tables. When nobody waits for it any more it ends. */
static void add_check_settings(Builder *b) {
        add(b, "SELECT set_config('statement_timeout', '0', false), set_config('enable_seqscan', 'on', "
               "false),"
               " set_config('enable_sort', 'on', false),"
               " set_config('client_connection_check_interval', '5s', false)");
}

static void add_check_pages(Builder *b) {
        add(b,
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint /"
                " current_setting('block_size')::bigint FROM pg_class c WHERE c.relkind = 'r' AND"
                " c.relnamespace = '\"%s\"'::regnamespace",
                b->schema);
}

/* Seqs follow one another from the oldest entry that was not deleted. */
static void add_check_gaps(Builder *b) {
        const IndexInfo *key = &b->info->record->key;
        const char *conversation = field_name(b->info, key->fields[0]);
        const char *seq = field_name(b->info, key->fields[1]);

        add(b, "SELECT 'conversation ' || t.\"%s\" || ' has ' || count(*) || ' entries from number '",
                conversation);
        add(b, " || min(t.\"%s\") || ' to number ' || max(t.\"%s\") FROM ", seq, seq);
        add_table(b, b->info);
        add(b, " AS t GROUP BY t.\"%s\" HAVING count(*) <> max(t.\"%s\") - min(t.\"%s\") + 1 LIMIT ",
                conversation, seq, seq);
        add_parameter(b, PG_LIMIT, 0);
}

/* Counts never go back. */
static void add_check_counts(Builder *b) {
        const IndexInfo *key = &b->info->record->key;
        const char *conversation = field_name(b->info, key->fields[0]);
        const char *seq = field_name(b->info, key->fields[1]);

        add(b,
                "SELECT 'conversation ' || t.conversation || ' counts less at number ' || t.seq || ' than "
                "before'"
                " FROM (SELECT t.\"%s\" AS conversation, t.\"%s\" AS seq, t.\"count\" AS here",
                conversation, seq);
        add(b, ", lag(t.\"count\") OVER (PARTITION BY t.\"%s\" ORDER BY t.\"%s\") AS before FROM ",
                conversation, seq);
        add_table(b, b->info);
        add(b, " AS t) AS t WHERE t.here < t.before LIMIT ");
        add_parameter(b, PG_LIMIT, 0);
}

/* --- statements --- */

static void add_statement(Builder *b) {
        switch (b->shape->kind) {
        case PG_BEGIN:
                add(b, "BEGIN");
                break;
        case PG_COMMIT:
                add(b, "COMMIT");
                break;
        case PG_ROLLBACK:
                add(b, "ROLLBACK");
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
                if (b->shape->many)
                        add_select_many(b);
                else
                        add_select_one(b);
                break;
        case PG_CHECK_SETTINGS:
                add_check_settings(b);
                break;
        case PG_CHECK_PAGES:
                add_check_pages(b);
                break;
        case PG_CHECK_GAPS:
                add_check_gaps(b);
                break;
        case PG_CHECK_COUNTS:
                add_check_counts(b);
                break;
        }
}

int pg_sql_statement(const char *schema, const PgShape *shape, PgText *ret) {
        Builder b = {.schema = schema, .shape = shape, .info = shape->info, .text = ret};

        *ret = (PgText){};
        add_statement(&b);
        ret->sql = finish(&b);
        if (ret->sql)
                return 0;
        return b.r < 0 ? b.r : -ENOMEM;
}

/* --- definitions --- */

/* A new column gets its default in the rows that are there, which is what protobuf says of an absent field.
 * Text is compared byte by byte, as every back end does. */
static void add_column_definition(Builder *b, const ProtobufCFieldDescriptor *field) {
        static const struct {
                const char *type, *empty;
        } columns[] = {
                [VALUE_INTEGER] = {"bigint", "0"},
                [VALUE_REAL] = {"double precision", "0"},
                [VALUE_TEXT] = {"text COLLATE \"C\"", "''"},
                [VALUE_BLOB] = {"bytea", "''"},
        };
        ValueType type = record_field_type(field);

        add(b, "\"%s\" %s", field->name, columns[type].type);
        if (!record_field_is_nullable(field))
                add(b, " NOT NULL DEFAULT %s", columns[type].empty);
}

/* Large values are stored beside the row as they are: compression would cost more time than it saves. */
static void add_storage(Builder *b, const MessageInfo *info) {
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields)
                if (record_field_type(field) >= VALUE_TEXT) {
                        add(b, "; ALTER TABLE ");
                        add_table(b, info);
                        add(b, " ALTER \"%s\" SET STORAGE EXTERNAL", field->name);
                }
}

char *pg_sql_create_table(const char *schema, const MessageInfo *info) {
        Builder b = {.schema = schema};

        add(&b, "CREATE TABLE ");
        add_table(&b, info);
        add(&b, " (");
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields) {
                add_column_definition(&b, field);
                add(&b, ", ");
        }
        add(&b, "PRIMARY KEY (");
        add_field_list(&b, info, &info->record->key);
        add(&b, "))");
        add_storage(&b, info);
        return finish(&b);
}

char *pg_sql_create_index(const char *schema, const MessageInfo *info, const IndexInfo *index) {
        Builder b = {.schema = schema};

        add(&b, "CREATE %sINDEX \"%s\" ON ", index->unique ? "UNIQUE " : "", index->name);
        add_table(&b, info);
        add(&b, " (");
        add_field_list(&b, info, index);
        add(&b, ")");
        if (record_index_is_partial(info, index))
                add(&b, " WHERE \"%s\" <> ''", field_name(info, index->fields[0]));
        return finish(&b);
}

char *pg_sql_add_column(const char *schema, const MessageInfo *info, unsigned field) {
        Builder b = {.schema = schema};

        add(&b, "ALTER TABLE ");
        add_table(&b, info);
        add(&b, " ADD COLUMN ");
        add_column_definition(&b, &info->descriptor->fields[field]);
        return finish(&b);
}
