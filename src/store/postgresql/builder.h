/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* SQL, piece by piece: errors stick, and show at the end. */

#include "store/postgresql/sql.h"
#include "util/bytes.h"

typedef struct PgBuilder {
        Buffer sql;
        const char *schema;
        const PgShape *shape;
        const MessageInfo *info;
        PgText *text; /* gets the parameters */
        int r;
} PgBuilder;

void pg_add(PgBuilder *b, const char *format, ...) _printf_(2, 3);
/* What was written, for free(); NULL on failure. */
char *pg_builder_finish(PgBuilder *b);

static inline const char *pg_field_name(const MessageInfo *info, unsigned field) {
        return info->descriptor->fields[field].name;
}

/* The number of the parameter, which is new or was named before. */
unsigned pg_find_parameter(PgBuilder *b, PgSource source, unsigned field, bool array);
void pg_add_parameter(PgBuilder *b, PgSource source, unsigned field);
/* The record's own value. */
void pg_add_field(PgBuilder *b, unsigned field);

void pg_add_table(PgBuilder *b, const MessageInfo *info);
/* The columns of the record, each behind `prefix`. */
void pg_add_columns(PgBuilder *b, const MessageInfo *info, const char *prefix);
void pg_add_field_list(PgBuilder *b, const MessageInfo *info, const IndexInfo *index);
