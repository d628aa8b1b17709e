/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The SQL text of every statement on records. Parameter ?N is field N - 1 of the record, so that the same
 * values bind to any of them. */

#include <assert.h>

#include "store/record.h"

typedef enum StatementKind {
        STATEMENT_INSERT,
        STATEMENT_INSERT_NEW, /* does nothing if a key is taken */
        STATEMENT_PUT,
        STATEMENT_PATCH,
        STATEMENT_PATCH_RETURNING, /* a row with the new version */
        STATEMENT_DELETE,
        STATEMENT_DELETE_OLDEST, /* so many of the greatest last key field or below, but not the last one */
        STATEMENT_EXISTS, /* one row if the key is there */
        STATEMENT_LAST, /* the greatest last key field where the other key fields are equal; or NULL */
        STATEMENT_COUNT_UP, /* adds to the field behind the key, inserts what is missing; a row with the sum
                             */
        STATEMENT_SELECT,
} StatementKind;

/* What tells one statement from another: compared as it lies in memory, so without padding. */
typedef struct StatementShape {
        const MessageInfo *info;
        const IndexInfo *index; /* of SELECT */
        StatementKind kind;
        uint32_t set, increment, max; /* of PATCH: one bit a field */
        uint32_t equal; /* of PATCH and DELETE: fields that must have the value of their parameter */
        uint8_t n_prefix; /* this and what follows: of SELECT, as in ReadItem */
        bool after, before, descending;
} StatementShape;
static_assert(sizeof(StatementShape) == 2 * sizeof(void *) + 6 * sizeof(uint32_t), "has padding");
#define SQL_MAX_FIELDS 32U

/* Parameters beyond the fields: the upper bound, the most rows, and the name of the operation, which new
 * versions end with. */
static inline int sql_parameter_before(const MessageInfo *info) {
        return (int) record_n_fields(info) + 1;
}
static inline int sql_parameter_limit(const MessageInfo *info) {
        return (int) record_n_fields(info) + 2;
}
static inline int sql_parameter_name(const MessageInfo *info) {
        return (int) record_n_fields(info) + 3;
}

/* To be freed with sqlite3_free(); NULL when out of memory. */
char *sql_statement(const StatementShape *shape);
char *sql_create_table(const MessageInfo *info);
char *sql_create_index(const MessageInfo *info, const IndexInfo *index);
char *sql_add_column(const MessageInfo *info, unsigned field);
