/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The SQL text of every statement on records. Parameter ?N is field N - 1 of the record, so that the same
 * values bind to any of them. */

#include <assert.h>

#include "store/record.h"

typedef enum StatementKind {
        STATEMENT_INSERT,
        STATEMENT_INSERT_NEW, /* does nothing if a key is taken */
        STATEMENT_UPDATE,
        STATEMENT_DELETE,
        STATEMENT_EXISTS, /* one row if the key is there */
        STATEMENT_LAST, /* the greatest last key field where the other key fields are equal; or NULL */
        STATEMENT_SELECT,
} StatementKind;

/* What tells one statement from another: compared as it lies in memory, so without padding. */
typedef struct StatementShape {
        const MessageInfo *info;
        const IndexInfo *index; /* this and what follows kind: of STATEMENT_SELECT, as in ReadItem */
        StatementKind kind;
        unsigned n_prefix;
        int exclude_field;
        bool after, before, descending, count_only;
} StatementShape;
static_assert(sizeof(StatementShape) == 2 * sizeof(void *) + 4 * sizeof(uint32_t), "has padding");

/* Parameters of SELECT beyond the fields: the upper bound, and the most rows. */
static inline int sql_parameter_before(const MessageInfo *info) {
        return (int) record_n_fields(info) + 1;
}
static inline int sql_parameter_limit(const MessageInfo *info) {
        return (int) record_n_fields(info) + 2;
}

/* To be freed with sqlite3_free(); NULL when out of memory. */
char *sql_statement(const StatementShape *shape);
char *sql_create_table(const MessageInfo *info);
char *sql_create_index(const MessageInfo *info, const IndexInfo *index);
char *sql_add_column(const MessageInfo *info, unsigned field);
