/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tables for people, as systemctl prints them, and how numbers read best in them. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "util/macro.h"

typedef enum TableColor {
        TABLE_PLAIN,
        TABLE_GOOD,
        TABLE_BAD,
        TABLE_DIM,
} TableColor;

typedef struct TableColumn {
        const char *title;
        bool right; /* numbers */
} TableColumn;

typedef struct Table Table;

/* The columns must outlive the table. */
int table_new(Table **ret, const TableColumn *columns, size_t n_columns);
Table *table_free(Table *table);
DEFINE_CLEANUP(Table *, table_free);

/* Appends the next cell, row by row; control characters become '?'. Errors stick and are told by
 * table_print(). */
void table_add(Table *table, TableColor color, const char *format, ...) _printf_(3, 4);
size_t table_n_rows(const Table *table);
int table_print(const Table *table, FILE *out, bool legend, bool colors);

#define FORMAT_MAX 32
/* "17s", "2min 3s", "5h 12min", "3d 4h": the two largest units. */
const char *format_duration(uint64_t usec, char out[static FORMAT_MAX]);
/* "812B", "5.2K", "31.0M" (powers of 1024). */
const char *format_size(uint64_t bytes, char out[static FORMAT_MAX]);
