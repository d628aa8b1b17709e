/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/result.h"

#include <endian.h>

#include "log/log.h"
#include "util/string-util.h"

static const struct {
        const char *code; /* or the beginning of it: its class */
        PgFailure failure;
        bool is_usual; /* not worth a line in the log */
        int error;
} errors[] = {
        {"23505", PG_FAILURE_RETRY, true, -EEXIST}, /* unique violation */
        {"40", PG_FAILURE_RETRY, true, -EIO}, /* rolled back: serialization failure, deadlock */
        {"55P03", PG_FAILURE_RETRY, true, -EIO}, /* a lock was not to be had */
        {"57014", PG_FAILURE_RETRY, true, -EIO}, /* cancelled, or took too long */
        {"25P02", PG_FAILURE_RETRY, true, -EIO}, /* what was sent before in this transaction failed */
        {"26000", PG_FAILURE_RETRY, true, -EIO}, /* preparing the statement fell to that */
        {"57P", PG_FAILURE_RETRY, true, -EIO}, /* the server ends: the connection is lost in a moment */
        {"25006", PG_FAILURE_READ_ONLY, true, -ENOTCONN},
        {"53100", PG_FAILURE_FINAL, true, -ENOSPC}, /* the role tells, once */
        {"53200", PG_FAILURE_FINAL, false, -ENOMEM},
        {"22", PG_FAILURE_FINAL, false, -EINVAL}, /* a value that cannot be stored */
        {"", PG_FAILURE_FINAL, false, -EIO},
};

int pg_result_error(const PGresult *result, PgFailure *ret) {
        const char *code = strempty(PQresultErrorField(result, PG_DIAG_SQLSTATE));
        size_t i = 0;

        while (!startswith(code, errors[i].code))
                i++;
        /* The detail of an error shows values; the primary message does not. */
        if (!errors[i].is_usual)
                log_peer((), LOG_ERR, "The store's server refuses: %s (%s)",
                        strempty(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)), code);
        *ret = errors[i].failure;
        return errors[i].error;
}

static uint32_t read_u32(const uint8_t *bytes) {
        uint32_t number;

        memcpy(&number, bytes, sizeof(number));
        return be32toh(number);
}

static int read_value(ValueType type, const uint8_t *bytes, uint32_t size, Value *ret) {
        uint64_t bits;

        switch (type) {
        case VALUE_INTEGER:
        case VALUE_REAL:
                if (size != sizeof(bits))
                        return -EBADMSG;
                memcpy(&bits, bytes, sizeof(bits));
                *ret = (Value){.type = type, .integer = (int64_t) be64toh(bits)};
                return 0;
        case VALUE_TEXT:
        case VALUE_BLOB:
                *ret = (Value){.type = type, .size = size, .blob = bytes};
                return 0;
        case VALUE_NULL:
                break;
        }
        return -EBADMSG;
}

int pg_result_number(const PGresult *result, int row, int column, int64_t *ret) {
        Value value;

        if (row >= PQntuples(result) || column >= PQnfields(result) || PQgetisnull(result, row, column))
                return -EBADMSG;
        int r = read_value(VALUE_INTEGER, (const uint8_t *) PQgetvalue(result, row, column),
                (uint32_t) PQgetlength(result, row, column), &value);
        if (r < 0)
                return r;
        *ret = value.integer;
        return 0;
}

/* -EBADMSG becomes what a stored record that cannot be read is to callers. */
static int make_record(const MessageInfo *info, const Value *values, Arena *arena, ProtobufCMessage **ret) {
        int r = record_from_values(info, values, arena, ret);
        return r == -EBADMSG ? -EIO : r;
}

int pg_result_record(const PGresult *result, int row, int first, const MessageInfo *info, Arena *arena,
        ProtobufCMessage **ret, size_t *ret_size) {
        size_t n = record_n_fields(info), size = 0;
        Value values[PG_MAX_FIELDS];

        if (n > PG_MAX_FIELDS || (size_t) PQnfields(result) < (size_t) first + n)
                return -EBADMSG;
        for (size_t i = 0; i < n; i++) {
                int column = first + (int) i;
                values[i] = (Value){.type = VALUE_NULL};
                if (!PQgetisnull(result, row, column)) {
                        int r = read_value(record_field_type(&info->descriptor->fields[i]),
                                (const uint8_t *) PQgetvalue(result, row, column),
                                (uint32_t) PQgetlength(result, row, column), &values[i]);
                        if (r < 0)
                                return r;
                }
                size += sizeof(int64_t) + values[i].size;
        }
        *ret_size = size;
        return make_record(info, values, arena, ret);
}

/* --- arrays of rows --- */

typedef struct Reader {
        const uint8_t *bytes;
        size_t left;
} Reader;

static const uint8_t *take(Reader *reader, size_t n) {
        if (reader->left < n)
                return NULL;
        const uint8_t *bytes = reader->bytes;
        reader->bytes += n;
        reader->left -= n;
        return bytes;
}

static int take_u32(Reader *reader, uint32_t *ret) {
        const uint8_t *bytes = take(reader, sizeof(uint32_t));
        if (!bytes)
                return -EBADMSG;
        *ret = read_u32(bytes);
        return 0;
}

/* As record_send() of PostgreSQL writes it: the number of fields, and of each its type, size and bytes. */
static int take_record(Reader *reader, const MessageInfo *info, Arena *arena, ProtobufCMessage **ret) {
        Value values[PG_MAX_FIELDS];
        uint32_t n, type, size;

        int r = take_u32(reader, &n);
        if (r < 0 || n != record_n_fields(info) || n > PG_MAX_FIELDS)
                return -EBADMSG;
        for (uint32_t i = 0; i < n; i++) {
                r = take_u32(reader, &type);
                if (r >= 0)
                        r = take_u32(reader, &size);
                if (r < 0)
                        return r;
                values[i] = (Value){.type = VALUE_NULL};
                if (size == UINT32_MAX)
                        continue;
                const uint8_t *bytes = take(reader, size);
                r = bytes ? read_value(
                                    record_field_type(&info->descriptor->fields[i]), bytes, size, &values[i])
                          : -EBADMSG;
                if (r < 0)
                        return r;
        }
        return make_record(info, values, arena, ret);
}

/* As array_send() writes it: dimensions, flags, type, and of the one dimension its size and first number. */
int pg_result_records(const PGresult *result, int row, int column, const MessageInfo *info, Arena *arena,
        ProtobufCMessage ***ret, size_t *ret_n) {
        uint32_t header[5], size;

        if (row >= PQntuples(result) || column >= PQnfields(result))
                return -EBADMSG;
        Reader reader = {(const uint8_t *) PQgetvalue(result, row, column),
                (size_t) PQgetlength(result, row, column)};
        for (unsigned i = 0; i < 3; i++)
                if (take_u32(&reader, &header[i]) < 0)
                        return -EBADMSG;
        *ret_n = 0;
        if (header[0] == 0)
                return 0;
        if (header[0] != 1 || take_u32(&reader, &header[3]) < 0 || take_u32(&reader, &header[4]) < 0)
                return -EBADMSG;
        ProtobufCMessage **records = arena_new(arena, ProtobufCMessage *, header[3]);
        if (!records)
                return -ENOMEM;
        for (uint32_t i = 0; i < header[3]; i++) {
                if (take_u32(&reader, &size) < 0)
                        return -EBADMSG;
                int r = take_record(&reader, info, arena, &records[i]);
                if (r < 0)
                        return r;
        }
        *ret = records;
        *ret_n = header[3];
        return 0;
}
