/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/table.h"

#include <inttypes.h>
#include <stdarg.h>

#include "util/string-util.h"
#include "util/time-util.h"

typedef struct Cell {
        char *text;
        TableColor color;
} Cell;

struct Table {
        const TableColumn *columns;
        size_t n_columns;
        Cell *cells;
        size_t n_cells, allocated;
        int error;
};

int table_new(Table **ret, const TableColumn *columns, size_t n_columns) {
        Table *table = new0(Table, 1);
        if (!table)
                return -ENOMEM;
        table->columns = columns;
        table->n_columns = n_columns;
        *ret = table;
        return 0;
}

Table *table_free(Table *table) {
        if (!table)
                return NULL;
        FOREACH_ARRAY(cell, table->cells, table->n_cells)
                free(cell->text);
        free(table->cells);
        free(table);
        return NULL;
}

static int add_cell(Table *table, char *text, TableColor color) {
        if (table->n_cells == table->allocated) {
                size_t allocate = MAX(table->allocated * 2, (size_t) 64);
                Cell *cells = reallocarray(table->cells, allocate, sizeof(Cell));
                if (!cells)
                        return -ENOMEM;
                table->cells = cells;
                table->allocated = allocate;
        }
        table->cells[table->n_cells++] = (Cell){text, color};
        return 0;
}

void table_add(Table *table, TableColor color, const char *format, ...) {
        va_list ap;
        char *text;

        va_start(ap, format);
        int n = vasprintf(&text, format, ap);
        va_end(ap);
        if (n < 0) {
                table->error = -ENOMEM;
                return;
        }
        /* Text that others have written must not control the terminal. */
        for (char *p = text; *p; p++)
                if ((uint8_t) *p < 0x20 || *p == 0x7f)
                        *p = '?';
        int r = add_cell(table, text, color);
        if (r < 0) {
                free(text);
                table->error = r;
        }
}

size_t table_n_rows(const Table *table) {
        return table->n_cells / table->n_columns;
}

/* Characters, which is what UTF-8 text without combining or wide ones takes on a terminal. */
static size_t text_width(const char *s) {
        size_t n = 0;
        for (; *s; s++)
                n += ((uint8_t) *s & 0xc0) != 0x80;
        return n;
}

static const char *const color_on[] = {
        [TABLE_PLAIN] = "",
        [TABLE_GOOD] = "\033[32m",
        [TABLE_BAD] = "\033[1;31m",
        [TABLE_DIM] = "\033[2m",
};

static void print_cell(FILE *out, const char *text, size_t width, bool right, bool last, const char *color) {
        int padding = (int) (width - text_width(text));

        if (right)
                fprintf(out, "%*s", padding, "");
        fprintf(out, "%s%s%s", color, text, *color ? "\033[0m" : "");
        if (!last)
                fprintf(out, "%*s", (right ? 0 : padding) + 2, "");
        else
                fputc('\n', out);
}

int table_print(const Table *table, FILE *out, bool legend, bool colors) {
        if (table->error < 0)
                return table->error;
        _cleanup_free_ size_t *widths = new0(size_t, table->n_columns);
        if (!widths)
                return -ENOMEM;
        for (size_t i = 0; legend && i < table->n_columns; i++)
                widths[i] = text_width(table->columns[i].title);
        for (size_t i = 0; i < table->n_cells; i++)
                widths[i % table->n_columns] =
                        MAX(widths[i % table->n_columns], text_width(table->cells[i].text));

        for (size_t i = 0; legend && i < table->n_columns; i++)
                print_cell(out, table->columns[i].title, widths[i], table->columns[i].right,
                        i + 1 == table->n_columns, colors ? "\033[4m" : "");
        for (size_t i = 0; i < table->n_cells; i++) {
                size_t column = i % table->n_columns;
                print_cell(out, table->cells[i].text, widths[column], table->columns[column].right,
                        column + 1 == table->n_columns, colors ? color_on[table->cells[i].color] : "");
        }
        return 0;
}

const char *format_duration(uint64_t usec, char out[static FORMAT_MAX]) {
        static const struct {
                const char *name;
                uint64_t seconds;
        } units[] = {{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}};
        uint64_t seconds = usec / USEC_PER_SEC;

        for (size_t i = 0; i < ELEMENTSOF(units); i++) {
                uint64_t n = seconds / units[i].seconds, rest = seconds % units[i].seconds;
                if (n == 0 && i + 1 < ELEMENTSOF(units))
                        continue;
                uint64_t lower = i + 1 < ELEMENTSOF(units) ? rest / units[i + 1].seconds : 0;
                if (lower > 0)
                        snprintf(out, FORMAT_MAX, "%" PRIu64 "%s %" PRIu64 "%s", n, units[i].name, lower,
                                units[i + 1].name);
                else
                        snprintf(out, FORMAT_MAX, "%" PRIu64 "%s", n, units[i].name);
                break;
        }
        return out;
}

const char *format_size(uint64_t bytes, char out[static FORMAT_MAX]) {
        static const char suffixes[] = "KMGTPE";
        double value = (double) bytes;
        size_t i = 0;

        if (bytes < 1024) {
                snprintf(out, FORMAT_MAX, "%" PRIu64 "B", bytes);
                return out;
        }
        for (value /= 1024; value >= 1023.95 && i + 1 < strlen(suffixes); i++)
                value /= 1024;
        snprintf(out, FORMAT_MAX, "%.1f%c", value, suffixes[i]);
        return out;
}
