/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/statement.h"

#include <endian.h>
#include <stdio.h>

/* Of PostgreSQL's catalog (pg_type.dat): these never change. */
static const struct {
        Oid type, array;
} oids[] = {
        [VALUE_INTEGER] = {20, 1016},
        [VALUE_REAL] = {701, 1022},
        [VALUE_TEXT] = {25, 1009},
        [VALUE_BLOB] = {17, 1001},
};

/* --- the collection --- */

typedef struct Entry {
        uint64_t hash;
        Buffer key;
        PgStatement *statement;
} Entry;

/* The number of shapes follows from the program's calls of the store: some dozens. */
struct PgStatements {
        char *schema;
        Entry *entries;
        unsigned n, allocated;
        Buffer key; /* of the shape that is looked up */
};

PgStatements *pg_statements_new(const char *schema) {
        _cleanup_(pg_statements_freep) PgStatements *statements = new0(PgStatements, 1);

        if (!statements)
                return NULL;
        statements->schema = strdup(schema);
        return statements->schema ? TAKE_PTR(statements) : NULL;
}

PgStatements *pg_statements_free(PgStatements *statements) {
        if (!statements)
                return NULL;
        FOREACH_ARRAY(entry, statements->entries, statements->n) {
                buffer_done(&entry->key);
                free(entry->statement->text.sql);
                free(entry->statement);
        }
        free(statements->entries);
        buffer_done(&statements->key);
        free(statements->schema);
        return mfree(statements);
}

static int make_key(const PgShape *shape, Buffer *key) {
        const uint16_t numbers[] = {
                (uint16_t) shape->kind,
                (uint16_t) (shape->guard | shape->notes << 1 | shape->many << 2 | shape->after << 3 |
                            shape->before << 4 | shape->descending << 5),
                (uint16_t) shape->n_prefix,
                (uint16_t) shape->n_changes,
        };

        buffer_consume(key, key->size);
        (void) buffer_append(key, &shape->info, sizeof(shape->info));
        (void) buffer_append(key, &shape->index, sizeof(shape->index));
        (void) buffer_append(key, numbers, sizeof(numbers));
        FOREACH_ARRAY(change, shape->changes, shape->n_changes) {
                const uint16_t words[] = {(uint16_t) change->field, (uint16_t) change->kind};
                (void) buffer_append(key, words, sizeof(words));
        }
        FOREACH_ARRAY(field, shape->equal, shape->n_equal)
                (void) buffer_append(key, field, sizeof(*field));
        return key->error;
}

/* FNV-1a (Fowler, Noll, Vo), 64 bits. */
static uint64_t hash_key(const Buffer *key) {
        uint64_t hash = 0xcbf29ce484222325;

        FOREACH_ARRAY(byte, key->data, key->size)
                hash = (hash ^ *byte) * 0x100000001b3;
        return hash;
}

static PgStatement *statement_new(const char *schema, const PgShape *shape, unsigned id, int *ret_error) {
        PgStatement *statement = new0(PgStatement, 1);

        *ret_error = statement ? pg_sql_statement(schema, shape, &statement->text) : -ENOMEM;
        if (*ret_error < 0)
                return mfree(statement);
        statement->id = id;
        snprintf(statement->name, sizeof(statement->name), "s%u", id);
        for (unsigned i = 0; i < statement->text.n_parameters; i++) {
                const PgParameter *parameter = &statement->text.parameters[i];
                statement->types[i] =
                        parameter->array ? oids[parameter->type].array : oids[parameter->type].type;
        }
        return statement;
}

static int add_entry(PgStatements *s, const PgShape *shape, uint64_t hash, const PgStatement **ret) {
        int r;

        if (s->n == s->allocated) {
                unsigned n = MAX(s->allocated * 2, 32U);
                Entry *entries = realloc(s->entries, n * sizeof(Entry));
                if (!entries)
                        return -ENOMEM;
                s->entries = entries;
                s->allocated = n;
        }
        PgStatement *statement = statement_new(s->schema, shape, s->n, &r);
        if (!statement)
                return r;
        s->entries[s->n++] =
                (Entry){.hash = hash, .key = TAKE_GENERIC(s->key, (Buffer){}), .statement = statement};
        *ret = statement;
        return 0;
}

int pg_statements_get(PgStatements *s, const PgShape *shape, const PgStatement **ret) {
        int r = make_key(shape, &s->key);
        if (r < 0) {
                buffer_done(&s->key);
                return r;
        }
        uint64_t hash = hash_key(&s->key);
        FOREACH_ARRAY(entry, s->entries, s->n)
                if (entry->hash == hash && entry->key.size == s->key.size &&
                        memcmp(entry->key.data, s->key.data, s->key.size) == 0) {
                        *ret = entry->statement;
                        return 0;
                }
        return add_entry(s, shape, hash, ret);
}

/* --- parameters --- */

static void append_u32(Buffer *data, uint32_t number) {
        number = htobe32(number);
        (void) buffer_append(data, &number, sizeof(number));
}

static void append_value(Buffer *data, const Value *value) {
        uint64_t bits;

        switch (value->type) {
        case VALUE_NULL:
                break;
        case VALUE_INTEGER:
        case VALUE_REAL:
                memcpy(&bits, &value->integer, sizeof(bits));
                bits = htobe64(bits);
                (void) buffer_append(data, &bits, sizeof(bits));
                break;
        case VALUE_TEXT:
        case VALUE_BLOB:
                (void) buffer_append(data, value->blob, value->size);
                break;
        }
}

static uint32_t value_size(const Value *value) {
        if (value->type == VALUE_NULL)
                return UINT32_MAX; /* -1: it is NULL */
        return value->type >= VALUE_TEXT ? value->size : sizeof(uint64_t);
}

/* As array_recv() of PostgreSQL reads it: one dimension, whose first element has the number 1. */
static void append_array(
        Buffer *data, const PgParameter *parameter, size_t n, PgGetValue get, const void *userdata) {
        bool has_null = false;

        for (size_t i = 0; i < n; i++)
                has_null |= get(parameter, i, userdata).type == VALUE_NULL;
        append_u32(data, n > 0);
        append_u32(data, has_null);
        append_u32(data, oids[parameter->type].type);
        if (n == 0)
                return;
        append_u32(data, (uint32_t) n);
        append_u32(data, 1);
        for (size_t i = 0; i < n; i++) {
                Value value = get(parameter, i, userdata);
                append_u32(data, value_size(&value));
                append_value(data, &value);
        }
}

static void append_parameter(PgParameters *p, unsigned i, const PgParameter *parameter, size_t n,
        PgGetValue get, const void *userdata) {
        p->offsets[i] = p->data.size;
        p->is_null[i] = false;
        if (parameter->array)
                append_array(&p->data, parameter, n, get, userdata);
        else {
                Value value = get(parameter, 0, userdata);
                p->is_null[i] = value.type == VALUE_NULL;
                append_value(&p->data, &value);
        }
        p->lengths[i] = (int) (p->data.size - p->offsets[i]);
        p->formats[i] = 1;
}

int pg_parameters_fill(
        PgParameters *p, const PgStatement *statement, size_t n, PgGetValue get, const void *userdata) {
        const PgText *text = &statement->text;

        buffer_consume(&p->data, p->data.size);
        for (unsigned i = 0; i < text->n_parameters; i++)
                append_parameter(p, i, &text->parameters[i], n, get, userdata);
        /* An empty value is no null pointer. */
        (void) buffer_append(&p->data, "", 1);
        if (p->data.error < 0) {
                pg_parameters_done(p);
                return -ENOMEM;
        }
        for (unsigned i = 0; i < text->n_parameters; i++)
                p->values[i] = p->is_null[i] ? NULL : (const char *) p->data.data + p->offsets[i];
        return 0;
}

void pg_parameters_done(PgParameters *p) {
        buffer_done(&p->data);
}
