/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/sql-read.h"

/* A value of a read: a parameter, or, where arrays stand for many reads, the column of these that holds it. */
static void add_read_value(PgBuilder *b, PgSource source, unsigned field) {
        bool many = b->shape->many;

        pg_add(b, many ? "k.p%u" : "$%u", pg_find_parameter(b, source, field, many));
}

bool pg_sql_is_sized(const MessageInfo *info) {
        FOREACH_ARRAY(field, info->descriptor->fields, info->descriptor->n_fields)
                if (record_field_type(field) == VALUE_BLOB)
                        return true;
        return false;
}

static void add_select_where(PgBuilder *b) {
        const PgShape *shape = b->shape;
        const unsigned *fields = shape->index->fields;
        const char *word = " WHERE ";

        for (unsigned i = 0; i < shape->n_prefix; i++, word = " AND ") {
                pg_add(b, "%st.\"%s\" = ", word, pg_field_name(b->info, fields[i]));
                add_read_value(b, PG_FIELD, fields[i]);
        }
        if (shape->after) {
                pg_add(b, "%st.\"%s\" > ", word, pg_field_name(b->info, fields[shape->n_prefix]));
                add_read_value(b, PG_FIELD, fields[shape->n_prefix]);
                word = " AND ";
        }
        if (shape->before) {
                pg_add(b, "%st.\"%s\" < ", word, pg_field_name(b->info, fields[shape->n_prefix]));
                add_read_value(b, PG_TO, fields[shape->n_prefix]);
                word = " AND ";
        }
        if (shape->index->name && record_index_is_partial(b->info, shape->index))
                pg_add(b, "%st.\"%s\" <> ''", word, pg_field_name(b->info, fields[0]));
}

static void add_order(PgBuilder *b) {
        const PgShape *shape = b->shape;

        for (unsigned i = shape->n_prefix; i < shape->index->n_fields; i++)
                pg_add(b, "%st.\"%s\"%s", i == shape->n_prefix ? " ORDER BY " : ", ",
                        pg_field_name(b->info, shape->index->fields[i]), shape->descending ? " DESC" : "");
}

/* The bytes of a row, as the reader counts them. This does not read what is stored beside the row. */
static void add_size(PgBuilder *b) {
        pg_add(b, "8 * %zu", record_n_fields(b->info));
        FOREACH_ARRAY(field, b->info->descriptor->fields, b->info->descriptor->n_fields)
                if (record_field_type(field) >= VALUE_TEXT)
                        pg_add(b, " + coalesce(octet_length(t.\"%s\"), 0)", field->name);
}

static void add_select_rows(PgBuilder *b, const char *columns) {
        pg_add(b, "SELECT ");
        if (columns)
                pg_add(b, "%s", columns);
        else
                pg_add_columns(b, b->info, "t.");
        pg_add(b, " FROM ");
        pg_add_table(b, b->info);
        pg_add(b, " AS t");
        add_select_where(b);
        add_order(b);
        pg_add(b, " LIMIT ");
        add_read_value(b, PG_LIMIT, 0);
}

/* The rows up to the one with which they exceed so many bytes, and two at least: the reader drops the last, and
 * knows that there is more. So large records that nobody wants yet do not cross the wire. */
static void add_select_sized(PgBuilder *b) {
        pg_add(b, "SELECT ");
        pg_add_columns(b, b->info, "t.");
        pg_add(b, " FROM (SELECT t.*, row_number() OVER w AS place, sum(");
        add_size(b);
        pg_add(b, ") OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS size_before FROM (");
        add_select_rows(b, "t.*");
        pg_add(b, ") AS t WINDOW w AS (");
        add_order(b);
        pg_add(b, ")) AS t WHERE t.place <= 2 OR t.size_before <= ");
        add_read_value(b, PG_MAX_BYTES, 0);
        add_order(b);
}

static void add_select_one(PgBuilder *b) {
        if (pg_sql_is_sized(b->info) && b->shape->n_prefix < b->shape->index->n_fields)
                add_select_sized(b);
        else
                add_select_rows(b, NULL);
}

/* Many reads as one: for each row of the arrays what a read alone would answer. The order of a nested loop
 * over a lateral subquery is that of the arrays, and within it the subquery's. */
static void add_select_many(PgBuilder *b) {
        PgBuilder inner = {.schema = b->schema, .shape = b->shape, .info = b->info, .text = b->text};

        add_select_one(&inner);
        _cleanup_free_ char *select = pg_builder_finish(&inner);
        if (!select) {
                b->r = inner.r < 0 ? inner.r : -ENOMEM;
                return;
        }
        pg_add(b, "SELECT k.i, r.* FROM unnest(");
        for (unsigned i = 1; i <= b->text->n_parameters; i++)
                pg_add(b, "%s$%u", i > 1 ? ", " : "", i);
        pg_add(b, ") WITH ORDINALITY AS k(");
        for (unsigned i = 1; i <= b->text->n_parameters; i++)
                pg_add(b, "p%u, ", i);
        pg_add(b, "i) CROSS JOIN LATERAL (");
        (void) buffer_append_string(&b->sql, select);
        pg_add(b, ") AS r");
}

void pg_add_select(PgBuilder *b) {
        if (b->shape->many)
                add_select_many(b);
        else
                add_select_one(b);
}

/* --- checks --- */

/* It may take long, and reads whole tables. When nobody waits for it any more it ends. */
void pg_add_check_settings(PgBuilder *b) {
        pg_add(b, "SELECT set_config('statement_timeout', '0', false), set_config('enable_seqscan', 'on', "
                  "false),"
                  " set_config('enable_sort', 'on', false),"
                  " set_config('client_connection_check_interval', '5s', false)");
}

void pg_add_check_pages(PgBuilder *b) {
        pg_add(b,
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint /"
                " current_setting('block_size')::bigint FROM pg_class c WHERE c.relkind = 'r' AND"
                " c.relnamespace = '\"%s\"'::regnamespace",
                b->schema);
}

/* Seqs follow one another from the oldest entry that was not deleted. */
void pg_add_check_gaps(PgBuilder *b) {
        const IndexInfo *key = &b->info->record->key;
        const char *conversation = pg_field_name(b->info, key->fields[0]);
        const char *seq = pg_field_name(b->info, key->fields[1]);

        pg_add(b, "SELECT 'conversation ' || t.\"%s\" || ' has ' || count(*) || ' entries from number '",
                conversation);
        pg_add(b, " || min(t.\"%s\") || ' to number ' || max(t.\"%s\") FROM ", seq, seq);
        pg_add_table(b, b->info);
        pg_add(b, " AS t GROUP BY t.\"%s\" HAVING count(*) <> max(t.\"%s\") - min(t.\"%s\") + 1 LIMIT ",
                conversation, seq, seq);
        pg_add_parameter(b, PG_LIMIT, 0);
}

/* Counts never go back. */
void pg_add_check_counts(PgBuilder *b) {
        const IndexInfo *key = &b->info->record->key;
        const char *conversation = pg_field_name(b->info, key->fields[0]);
        const char *seq = pg_field_name(b->info, key->fields[1]);

        pg_add(b,
                "SELECT 'conversation ' || t.conversation || ' counts less at number ' || t.seq || ' than "
                "before'"
                " FROM (SELECT t.\"%s\" AS conversation, t.\"%s\" AS seq, t.\"count\" AS here",
                conversation, seq);
        pg_add(b, ", lag(t.\"count\") OVER (PARTITION BY t.\"%s\" ORDER BY t.\"%s\") AS before FROM ",
                conversation, seq);
        pg_add_table(b, b->info);
        pg_add(b, " AS t) AS t WHERE t.here < t.before LIMIT ");
        pg_add_parameter(b, PG_LIMIT, 0);
}
