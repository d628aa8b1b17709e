/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/builder.h"

#include <stdarg.h>
#include <stdio.h>

void pg_add(PgBuilder *b, const char *format, ...) {
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

char *pg_builder_finish(PgBuilder *b) {
        (void) buffer_append(&b->sql, "", 1);
        if (b->sql.error < 0 || b->r < 0) {
                buffer_done(&b->sql);
                return NULL;
        }
        return (char *) b->sql.data;
}

unsigned pg_find_parameter(PgBuilder *b, PgSource source, unsigned field, bool array) {
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

void pg_add_parameter(PgBuilder *b, PgSource source, unsigned field) {
        pg_add(b, "$%u", pg_find_parameter(b, source, field, false));
}

void pg_add_field(PgBuilder *b, unsigned field) {
        pg_add_parameter(b, PG_FIELD, field);
}

void pg_add_table(PgBuilder *b, const MessageInfo *info) {
        pg_add(b, "\"%s\".\"%s\"", b->schema, info->record->table);
}

void pg_add_columns(PgBuilder *b, const MessageInfo *info, const char *prefix) {
        for (unsigned i = 0; i < record_n_fields(info); i++)
                pg_add(b, "%s%s\"%s\"", i > 0 ? ", " : "", prefix, pg_field_name(info, i));
}

void pg_add_field_list(PgBuilder *b, const MessageInfo *info, const IndexInfo *index) {
        for (unsigned i = 0; i < index->n_fields; i++)
                pg_add(b, "%s\"%s\"", i > 0 ? ", " : "", pg_field_name(info, index->fields[i]));
}
