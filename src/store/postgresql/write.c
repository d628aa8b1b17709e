/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/write.h"

#include "schema-tables.h"
#include "store/postgresql/result.h"
#include "util/string-util.h"

static const Extras *extras_of(const Operation *o) {
        switch (o->kind) {
        case OPERATION_WRITE:
                return &o->write.extras;
        case OPERATION_APPEND:
                return &o->append.extras;
        default:
                return NULL;
        }
}

unsigned pg_write_n_parts(const Operation *o) {
        const Extras *extras = extras_of(o);
        return extras ? 1 + (unsigned) extras->n_followers + (extras->n_intents > 0) : 1;
}

/* --- statements --- */

static PgShape item_shape(const WriteItem *item) {
        static const PgKind kinds[] = {
                [STORE_INSERT] = PG_INSERT,
                [STORE_PUT] = PG_PUT,
                [STORE_PATCH] = PG_PATCH,
                [STORE_DELETE] = PG_DELETE,
        };

        return (PgShape){
                .kind = kinds[item->verb],
                .info = item->info,
                .changes = item->changes,
                .n_changes = item->n_changes,
                .equal = item->equal,
                .n_equal = item->n_equal,
        };
}

static PgShape guard_shape(const Operation *o) {
        PgShape shape;

        switch (o->kind) {
        case OPERATION_APPEND:
                shape = (PgShape){.kind = PG_APPEND, .info = o->append.info, .many = o->append.n > 1};
                break;
        case OPERATION_DELETE_ENTRIES:
                shape = (PgShape){.kind = PG_DELETE_ENTRIES, .info = o->delete_entries.info};
                break;
        default:
                shape = item_shape(&o->write.guard);
                break;
        }
        shape.guard = true;
        shape.notes = pg_write_n_parts(o) > 1;
        return shape;
}

int pg_write_statement(
        PgStatements *statements, const Operation *o, unsigned part, const PgStatement **ret) {
        const Extras *extras = extras_of(o);
        PgShape shape;

        if (part == 0)
                shape = guard_shape(o);
        else if (part <= extras->n_followers)
                shape = item_shape(&extras->followers[part - 1]);
        else
                shape = (PgShape){
                        .kind = PG_INTENTS,
                        .info = &sc__intent__info,
                        .counter = &sc__intent_counter__info,
                };
        return pg_statements_get(statements, &shape, ret);
}

/* --- parameters --- */

static Value number_value(uint64_t number) {
        return (Value){.type = VALUE_INTEGER, .integer = (int64_t) number};
}

typedef struct ItemOf {
        const WriteItem *item;
        const Operation *o;
} ItemOf;

static Value get_of_item(const PgParameter *parameter, _unused_ size_t i, const void *userdata) {
        const ItemOf *of = userdata;

        if (parameter->source == PG_NAME)
                return number_value(of->o->name);
        return of->item->values[parameter->field];
}

static Value get_of_append(const PgParameter *parameter, size_t i, const void *userdata) {
        const Operation *o = userdata;

        if (parameter->source == PG_AFTER_SEQ)
                return number_value(o->append.after_seq);
        return o->append.values[i * record_n_fields(o->append.info) + parameter->field];
}

static Value get_of_intents(const PgParameter *parameter, size_t i, const void *userdata) {
        const Extras *extras = userdata;

        if (parameter->source == PG_COUNT)
                return number_value(extras->n_intents);
        return extras->intents[i * record_n_fields(&sc__intent__info) + parameter->field];
}

static Value get_of_delete(const PgParameter *parameter, _unused_ size_t i, const void *userdata) {
        const Operation *o = userdata;

        switch (parameter->source) {
        case PG_AFTER_SEQ:
                return number_value(o->delete_entries.last_seq);
        case PG_LIMIT:
                return number_value(o->delete_entries.limit);
        default:
                return (Value){
                        .type = VALUE_TEXT, .size = (uint32_t) strlen(o->partition), .text = o->partition};
        }
}

int pg_write_parameters(
        PgParameters *parameters, const Operation *o, unsigned part, const PgStatement *statement) {
        const Extras *extras = extras_of(o);

        if (part > 0 && part > extras->n_followers)
                return pg_parameters_fill(parameters, statement, extras->n_intents, get_of_intents, extras);
        if (part > 0) {
                const ItemOf of = {&extras->followers[part - 1], o};
                return pg_parameters_fill(parameters, statement, 1, get_of_item, &of);
        }
        switch (o->kind) {
        case OPERATION_APPEND:
                return pg_parameters_fill(parameters, statement, o->append.n, get_of_append, o);
        case OPERATION_DELETE_ENTRIES:
                return pg_parameters_fill(parameters, statement, 1, get_of_delete, o);
        default: {
                const ItemOf of = {&o->write.guard, o};
                return pg_parameters_fill(parameters, statement, 1, get_of_item, &of);
        }
        }
}

/* --- results --- */

static int take_guard(Operation *o, const PGresult *result) {
        const WriteItem *guard = &o->write.guard;
        int64_t done, version = 0, exists = 0;

        int r = pg_result_number(result, 0, 0, &done);
        if (r >= 0 && guard->verb != STORE_INSERT)
                r = pg_result_number(result, 0, 1, &version);
        if (r >= 0 && guard->verb != STORE_INSERT)
                r = pg_result_number(result, 0, 2, &exists);
        if (r < 0)
                return r;
        if (guard->verb == STORE_INSERT) {
                int field = guard->info->record->version_field;
                version = field >= 0 ? guard->values[field].integer : 0;
                o->r = done ? 0 : -EEXIST;
        } else
                o->r = done ? 0 : exists ? -ESTALE : -ENOENT;
        o->write.version = (uint64_t) version;
        return 0;
}

static int take_append(Operation *o, const PGresult *result) {
        ProtobufCMessage **taken;
        int64_t last_seq;
        size_t n;

        int r = pg_result_number(result, 0, 0, &last_seq);
        if (r >= 0)
                r = pg_result_records(result, 0, 1, o->append.info, &o->arena, &taken, &n);
        if (r < 0)
                return r;
        o->append.last_seq = (uint64_t) last_seq;
        if (o->append.last_seq != o->append.after_seq)
                o->r = -ESTALE;
        else if (n > 0) {
                o->r = -EEXIST;
                o->append.taken = (Sc__Message **) taken;
                o->append.n_taken = n;
        } else
                o->append.last_seq += o->append.n;
        return 0;
}

static int take_deleted(Operation *o, const PGresult *result) {
        uint64_t n;

        int r = parse_u64(PQcmdTuples((PGresult *) result), UINT32_MAX, &n);
        if (r < 0)
                return r;
        o->delete_entries.n_deleted = (unsigned) n;
        return 0;
}

/* No row: the guard was refused. */
static int take_intents(Extras *extras, const PGresult *result) {
        int64_t last;

        if (PQntuples(result) == 0)
                return 0;
        int r = pg_result_number(result, 0, 0, &last);
        if (r < 0)
                return r;
        extras->last_intent = (uint64_t) last;
        return 0;
}

static int take_result(Operation *o, unsigned part, const PGresult *result) {
        if (part > 0) {
                Extras *extras = o->kind == OPERATION_APPEND ? &o->append.extras : &o->write.extras;
                return part > extras->n_followers ? take_intents(extras, result) : 0;
        }
        switch (o->kind) {
        case OPERATION_APPEND:
                return take_append(o, result);
        case OPERATION_DELETE_ENTRIES:
                return take_deleted(o, result);
        default:
                return take_guard(o, result);
        }
}

int pg_write_result(Operation *o, unsigned part, const PGresult *result) {
        int r = take_result(o, part, result);
        return r < 0 && r != -ENOMEM ? -EIO : r;
}
