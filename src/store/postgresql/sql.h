/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The SQL of the PostgreSQL back end, written from the descriptors of records.
 *
 * Statements do not fail for what a store refuses: a guard answers one row that says whether it was done, and
 * why not. So writes that are refused and writes that are not share one transaction. What a guard found is
 * noted in a setting of the transaction, and the statements of its followers act only if it was done. They are
 * statements by themselves, rather than parts of the guard's, because the parts of one statement do not see
 * each other's rows.
 *
 * What the rows of guards hold:
 *   INSERT  done
 *   PATCH   done, the new version (0: none), whether there is such a record
 *   DELETE  the same, without a version
 *   APPEND  the last seq before, an array of the stored entries that have a client_msg_id and sender of these
 *
 * PUT, PATCH and DELETE as followers answer nothing; INTENTS the number of the last; SELECT the fields of the
 * record in their order, behind the number of the read (1, 2, …) if it stands for many; CHECK_PAGES a number,
 * CHECK_GAPS and CHECK_COUNTS a finding a row. */

#include "store/operation.h"

#define PG_MAX_PARAMETERS 64U
#define PG_MAX_FIELDS 48U /* of a record */

typedef enum PgKind {
        PG_BEGIN,
        PG_COMMIT,
        PG_ROLLBACK,
        PG_INSERT,
        PG_PUT,
        PG_PATCH,
        PG_DELETE,
        PG_APPEND,
        PG_INTENTS,
        PG_DELETE_ENTRIES,
        PG_SELECT,
        PG_CHECK_SETTINGS,
        PG_CHECK_PAGES,
        PG_CHECK_GAPS,
        PG_CHECK_COUNTS,
} PgKind;

/* What distinguishes one statement from another. */
typedef struct PgShape {
        PgKind kind;
        const MessageInfo *info;
        const MessageInfo *counter; /* of INTENTS: the type IntentCounter */
        bool guard; /* of PATCH and DELETE: this is a guard */
        bool notes; /* of a guard: it has followers or intents */
        bool many; /* of APPEND and SELECT: an array a parameter, for several rows or reads at once */
        const StoreChange *changes; /* of PATCH */
        size_t n_changes;
        const unsigned *equal; /* of PATCH and DELETE as guards */
        size_t n_equal;
        const IndexInfo *index; /* this and the rest: of SELECT */
        unsigned n_prefix;
        bool after, before, descending;
} PgShape;

typedef enum PgSource {
        PG_FIELD, /* a field of the record; of SELECT: of `from` */
        PG_TO, /* a field of `to` */
        PG_NAME, /* the random part of versions */
        PG_AFTER_SEQ, /* where a conversation stands; of DELETE_ENTRIES: the last seq to go */
        PG_COUNT, /* of the intents */
        PG_LIMIT, /* most rows */
        PG_MAX_BYTES, /* most bytes of the rows before the last */
} PgSource;

typedef struct PgParameter {
        PgSource source;
        unsigned field;
        ValueType type;
        bool array;
} PgParameter;

typedef struct PgText {
        char *sql; /* NULL: out of memory */
        PgParameter parameters[PG_MAX_PARAMETERS];
        unsigned n_parameters;
} PgText;

/* -ENOMEM, or -E2BIG if the record has too many fields. The caller frees ret->sql. */
int pg_sql_statement(const char *schema, const PgShape *shape, PgText *ret);

/* Does SELECT bound the bytes of what it answers? For records that may be large. */
bool pg_sql_is_sized(const MessageInfo *info);

/* The fields of Message by their parts, from the indexes of its record. */
const IndexInfo *pg_sql_client_id_index(const MessageInfo *message);

/* Definitions; NULL when out of memory. */
char *pg_sql_create_table(const char *schema, const MessageInfo *info);
char *pg_sql_create_index(const char *schema, const MessageInfo *info, const IndexInfo *index);
char *pg_sql_add_column(const char *schema, const MessageInfo *info, unsigned field);
