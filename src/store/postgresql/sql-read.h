/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The SQL of reads and checks, for pg_sql_statement(). */

#include "store/postgresql/builder.h"

void pg_add_select(PgBuilder *b);
void pg_add_check_settings(PgBuilder *b);
void pg_add_check_pages(PgBuilder *b);
void pg_add_check_gaps(PgBuilder *b);
void pg_add_check_counts(PgBuilder *b);
