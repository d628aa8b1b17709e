/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/read.h"

#include "store/postgresql/result.h"

typedef struct Part {
        const PgStatement *statement;
        unsigned first, n; /* of `order` */
        bool many;
} Part;

struct PgRead {
        Part *parts;
        unsigned n_parts;
        unsigned *order; /* numbers of the submission's reads, those of a part together */
};

static PgShape item_shape(const ReadItem *item, bool many) {
        return (PgShape){
                .kind = PG_SELECT,
                .info = item->info,
                .many = many,
                .index = item->index,
                .n_prefix = item->n_prefix,
                .after = item->after,
                .before = item->before,
                .descending = item->descending,
        };
}

static bool has_same_shape(const ReadItem *a, const ReadItem *b) {
        return a->info == b->info && a->index == b->index && a->n_prefix == b->n_prefix &&
               a->after == b->after && a->before == b->before && a->descending == b->descending;
}

/* The part whose reads are like this one; there are few. `first` is one of them as yet. */
static Part *find_part(PgRead *read, const Operation *o, unsigned i) {
        FOREACH_ARRAY(part, read->parts, read->n_parts)
                if (has_same_shape(&o->read.items[part->first], &o->read.items[i]))
                        return part;
        Part *part = &read->parts[read->n_parts++];
        *part = (Part){.first = i};
        return part;
}

static void sort_into_parts(PgRead *read, const Operation *o, unsigned *part_of) {
        unsigned first = 0;

        for (unsigned i = 0; i < o->read.n; i++) {
                Part *part = find_part(read, o, i);
                part->n++;
                part_of[i] = (unsigned) (part - read->parts);
        }
        FOREACH_ARRAY(part, read->parts, read->n_parts) {
                part->first = first;
                first += part->n;
                part->many = part->n > 1;
                part->n = 0;
        }
        for (unsigned i = 0; i < o->read.n; i++) {
                Part *part = &read->parts[part_of[i]];
                read->order[part->first + part->n++] = i;
        }
}

int pg_read_new(PgRead **ret, PgStatements *statements, const Operation *o) {
        size_t n = o->read.n;
        _cleanup_(pg_read_freep) PgRead *read =
                calloc(1, sizeof(PgRead) + n * (sizeof(Part) + 2 * sizeof(unsigned)));
        if (!read)
                return -ENOMEM;
        read->parts = (Part *) (read + 1);
        read->order = (unsigned *) (read->parts + n);
        sort_into_parts(read, o, read->order + n);
        FOREACH_ARRAY(part, read->parts, read->n_parts) {
                const PgShape shape = item_shape(&o->read.items[read->order[part->first]], part->many);
                int r = pg_statements_get(statements, &shape, &part->statement);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(read);
        return 0;
}

PgRead *pg_read_free(PgRead *read) {
        return mfree(read);
}

unsigned pg_read_n_parts(const PgRead *read) {
        return read->n_parts;
}

const PgStatement *pg_read_statement(const PgRead *read, unsigned part) {
        return read->parts[part].statement;
}

/* --- parameters --- */

typedef struct PartOf {
        const ReadItem *items;
        const unsigned *order; /* of the part */
} PartOf;

static Value get_of_part(const PgParameter *parameter, size_t i, const void *userdata) {
        const PartOf *of = userdata;
        const ReadItem *item = &of->items[of->order[i]];

        switch (parameter->source) {
        case PG_TO:
                return item->to[parameter->field];
        case PG_LIMIT: /* one more than asked for tells whether there is more */
                return (Value){.type = VALUE_INTEGER, .integer = (int64_t) item->limit + 1};
        case PG_MAX_BYTES:
                return (Value){.type = VALUE_INTEGER,
                        .integer = (int64_t) MIN(item->max_bytes, (size_t) INT64_MAX)};
        default:
                return item->from[parameter->field];
        }
}

int pg_read_parameters(PgParameters *parameters, const PgRead *read, const Operation *o, unsigned part) {
        const Part *p = &read->parts[part];
        const PartOf of = {o->read.items, read->order + p->first};

        return pg_parameters_fill(parameters, p->statement, p->n, get_of_part, &of);
}

/* --- rows --- */

/* The rows of one read, which are `n` from row `first` of the result. */
static int take_rows(const PGresult *result, int first, int n, bool many, const ReadItem *item, Arena *arena,
        StoreRows *rows) {
        size_t size = 0, row_size;

        *rows = (StoreRows){.records = arena_new(arena, ProtobufCMessage *, (size_t) n)};
        if (!rows->records)
                return -ENOMEM;
        for (int row = first; row < first + n; row++) {
                ProtobufCMessage *record;
                if (rows->n == item->limit) {
                        rows->more = true;
                        return 0;
                }
                int r = pg_result_record(result, row, many, item->info, arena, &record, &row_size);
                if (r < 0)
                        return r == -ENOMEM ? r : -EIO;
                size += row_size;
                /* One record always, so that who reads on gets on. */
                if (rows->n > 0 && size > item->max_bytes) {
                        rows->more = true;
                        return 0;
                }
                rows->records[rows->n++] = record;
        }
        return 0;
}

/* How many rows from this one belong to the read that it belongs to, whose number goes to *ret. */
static int count_rows(const PGresult *result, int first, const Part *part, int64_t *ret) {
        int n = 1;

        *ret = 1;
        if (!part->many)
                return PQntuples(result) - first;
        int r = pg_result_number(result, first, 0, ret);
        if (r < 0 || *ret < 1 || *ret > (int64_t) part->n)
                return -EIO;
        for (; first + n < PQntuples(result); n++) {
                int64_t number;
                r = pg_result_number(result, first + n, 0, &number);
                if (r < 0)
                        return -EIO;
                if (number != *ret)
                        break;
        }
        return n;
}

int pg_read_result(const PgRead *read, Operation *o, unsigned part, const PGresult *result) {
        const Part *p = &read->parts[part];
        int64_t number;

        for (unsigned i = 0; i < p->n; i++)
                o->read.rows[read->order[p->first + i]] = (StoreRows){};
        for (int row = 0, n; row < PQntuples(result); row += n) {
                n = count_rows(result, row, p, &number);
                if (n < 0)
                        return n;
                unsigned i = read->order[p->first + (unsigned) number - 1];
                int r = take_rows(result, row, n, p->many, &o->read.items[i], &o->arena, &o->read.rows[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}
