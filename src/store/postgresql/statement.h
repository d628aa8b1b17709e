/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Prepared statements, made once a shape and shared by all connections, and their parameters in PostgreSQL's
 * binary form. */

#include <libpq-fe.h>

#include "store/postgresql/sql.h"
#include "util/bytes.h"

typedef struct PgStatement {
        unsigned id; /* 0, 1, 2, … */
        char name[12];
        PgText text;
        Oid types[PG_MAX_PARAMETERS];
} PgStatement;

typedef struct PgStatements PgStatements;

PgStatements *pg_statements_new(const char *schema);
PgStatements *pg_statements_free(PgStatements *statements);
DEFINE_CLEANUP(PgStatements *, pg_statements_free);

/* The statement of this shape, owned by the collection: -ENOMEM, -E2BIG. */
int pg_statements_get(PgStatements *statements, const PgShape *shape, const PgStatement **ret);

/* The value of a parameter: of row i, if it is an array. */
typedef Value (*PgGetValue)(const PgParameter *parameter, size_t i, const void *userdata);

/* What PQsendQueryPrepared() takes. Zero-initialise it; it is used again and again. */
typedef struct PgParameters {
        Buffer data;
        size_t offsets[PG_MAX_PARAMETERS]; /* into data */
        bool is_null[PG_MAX_PARAMETERS];
        const char *values[PG_MAX_PARAMETERS];
        int lengths[PG_MAX_PARAMETERS], formats[PG_MAX_PARAMETERS];
} PgParameters;

/* Fills in the parameters; arrays get n elements. -ENOMEM. */
int pg_parameters_fill(
        PgParameters *p, const PgStatement *statement, size_t n, PgGetValue get, const void *userdata);
void pg_parameters_done(PgParameters *p);
