/* SPDX-License-Identifier: Apache-2.0 */
#include "log/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log/journal.h"
#include "log/message-ids.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define MESSAGE_MAX 2048 /* bytes of one entry's text; longer ones are cut */
#define FIELD_MAX 288 /* bytes of another field with its name: ids have at most 64, paths may be longer */
#define ENTRY_MAX_FIELDS 17

#define RATE_LIMIT_INTERVAL_USEC (5 * USEC_PER_SEC)
#define RATE_LIMIT_BURST 10

static atomic_int max_level = LOG_INFO;
static atomic_bool use_journal, plain;
static atomic_uint n_lost; /* entries that the journal did not take */
static const char *_Atomic identifier;
static _Thread_local const Trace *current_trace;

static const char *const level_names[] = {
        [LOG_ERR] = "err",
        [LOG_WARNING] = "warning",
        [LOG_NOTICE] = "notice",
        [LOG_INFO] = "info",
        [LOG_DEBUG] = "debug",
};

/* systemd tells in $JOURNAL_STREAM where it connected standard error: "DEVICE:INODE". If that was redirected
 * since, entries have to go to standard error. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        struct stat st;
        char here[48];

        if (isempty(stream) || fstat(STDERR_FILENO, &st) < 0)
                return false;
        snprintf(here, sizeof(here), "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
        return streq(stream, here);
}

void log_open(const char *name, int level) {
        atomic_store(&identifier, name);
        atomic_store(&use_journal, stderr_is_journal() && journal_open(JOURNAL_ADDRESS) >= 0);
        atomic_store(&plain, isatty(STDERR_FILENO) != 0); /* the levels are for what collects the output */
        log_set_level(level);
}

void log_open_command(const char *name, int level) {
        log_open(name, level);
        atomic_store(&use_journal, false);
        atomic_store(&plain, true);
}

const char *log_get_target(void) {
        return atomic_load(&use_journal) ? "journal" : "console";
}

void log_set_level(int level) {
        atomic_store(&max_level, level);
}

int log_get_level(void) {
        return atomic_load_explicit(&max_level, memory_order_relaxed);
}

int log_level_from_string(const char *s) {
        for (int level = LOG_ERR; level <= LOG_DEBUG; level++)
                if (streq(s, level_names[level]))
                        return level;
        return -EINVAL;
}

const char *log_level_to_string(int level) {
        return level_names[MIN(MAX(level, LOG_ERR), LOG_DEBUG)];
}

/* The fields of one entry, on the stack: logging must work when memory is short. */
typedef struct Entry {
        struct iovec fields[ENTRY_MAX_FIELDS];
        int n_fields;
        size_t used;
        char text[MESSAGE_MAX + ENTRY_MAX_FIELDS * FIELD_MAX];
} Entry;

static void entry_addv(Entry *entry, size_t max, const char *format, va_list ap) _printf_(3, 0);
static void entry_addv(Entry *entry, size_t max, const char *format, va_list ap) {
        char *field = entry->text + entry->used;

        assert_se(entry->n_fields < ENTRY_MAX_FIELDS && entry->used + max <= sizeof(entry->text));
        int n = vsnprintf(field, max, format, ap);
        if (n < 0)
                return;
        size_t size = MIN((size_t) n, max - 1);
        entry->fields[entry->n_fields++] = (struct iovec){.iov_base = field, .iov_len = size};
        entry->used += size;
}

static void entry_add(Entry *entry, const char *format, ...) _printf_(2, 3);
static void entry_add(Entry *entry, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        entry_addv(entry, FIELD_MAX, format, ap);
        va_end(ap);
}

/* Leaves the field out when the value is unset; `name` ends in "=". */
static void entry_add_string(Entry *entry, const char *name, const char *value) {
        if (!isempty(value))
                entry_add(entry, "%s%s", name, value);
}

const Trace *log_set_trace(const Trace *trace) {
        const Trace *before = current_trace;
        current_trace = trace;
        return before;
}

static void entry_add_fields(Entry *entry, const LogFields *fields) {
        const Trace *trace = fields->trace ?: current_trace;

        if (trace) {
                char id[TRACE_ID_TEXT_SIZE];
                trace_format_id(trace, id);
                entry_add_string(entry, "STONECHAT_TRACE_ID=", id);
        }
        entry_add_string(entry, "MESSAGE_ID=", fields->message_id);
        entry_add_string(entry, "STONECHAT_USER=", fields->user);
        entry_add_string(entry, "STONECHAT_CONVERSATION=", fields->conversation);
        entry_add_string(entry, "STONECHAT_METHOD=", fields->method);
        entry_add_string(entry, "STONECHAT_HOST=", fields->host);
        entry_add_string(entry, "STONECHAT_UNIT=", fields->unit);
        entry_add_string(entry, "STONECHAT_ERROR=", fields->error);
        if (fields->error_number > 0)
                entry_add(entry, "ERRNO=%d", fields->error_number);
}

/* The path below src/: what stands before it depends on where the build happened. */
static const char *source_path(const char *file) {
        const char *p = strstr(file, "src/");
        return p ?: file;
}

/* Writes the line at once, so that lines of several threads do not mix. Control characters become blanks, as
 * what a peer sent may hold line breaks and escape sequences. */
static void write_stderr(int level, const char *message, size_t size) {
        char line[MESSAGE_MAX + 8];
        size_t n = atomic_load(&plain) ? 0 : (size_t) snprintf(line, sizeof(line), "<%d>", level);

        for (size_t i = 0; i < size && n < sizeof(line) - 1; i++, n++)
                line[n] = (unsigned char) message[i] < ' ' || message[i] == 0x7f ? ' ' : message[i];
        line[n++] = '\n';
        /* If it is a socket, then of the journal, for which nothing here waits. */
        if (send(STDERR_FILENO, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ENOTSOCK)
                (void) !write(STDERR_FILENO, line, n);
}

/* False if the journal does not keep up, so that the entry is lost. */
static bool write_entry(int level, const LogFields *fields, const char *file, int line, const char *function,
        const char *format, va_list ap) _printf_(6, 0);
static bool write_entry(int level, const LogFields *fields, const char *file, int line, const char *function,
        const char *format, va_list ap) {
        int r = -ENOTCONN;
        Entry entry;

        memcpy(entry.text, "MESSAGE=", 8);
        entry.used = 8;
        entry.n_fields = 0;
        errno = fields->error_number;
        entry_addv(&entry, MESSAGE_MAX, format, ap);
        if (entry.n_fields == 0)
                return true;
        const char *message = entry.text + 8;
        size_t size = entry.fields[0].iov_len;
        if (atomic_load(&use_journal)) {
                entry.fields[0] = (struct iovec){.iov_base = entry.text, .iov_len = size + 8};
                entry_add(&entry, "PRIORITY=%d", level);
                entry_add_string(&entry, "SYSLOG_IDENTIFIER=", atomic_load(&identifier));
                entry_add(&entry, "CODE_FILE=%s", source_path(file));
                entry_add(&entry, "CODE_LINE=%d", line);
                entry_add(&entry, "CODE_FUNC=%s", function);
                entry_add_fields(&entry, fields);
                r = journal_send(entry.fields, entry.n_fields);
        }
        if (r < 0 && r != -EAGAIN)
                write_stderr(level, message, size);
        return r != -EAGAIN;
}

static void write_lost(unsigned n, const char *format, ...) _printf_(2, 3);
static void write_lost(unsigned n, const char *format, ...) {
        static const LogFields fields = {.message_id = MESSAGE_ID_JOURNAL_LOST};
        va_list ap;

        va_start(ap, format);
        bool written = write_entry(LOG_WARNING, &fields, __FILE__, __LINE__, __func__, format, ap);
        va_end(ap);
        if (!written)
                atomic_fetch_add(&n_lost, n);
}

void log_report_lost(void) {
        int saved_errno = errno;
        unsigned n = atomic_load(&n_lost) > 0 ? atomic_exchange(&n_lost, 0) : 0;

        if (n > 0)
                write_lost(n, "%u entries are missing here: the journal did not take them.", n);
        errno = saved_errno;
}

int log_write(int level, const LogFields *fields, const char *file, int line, const char *function,
        const char *format, ...) {
        static const LogFields none = {};
        int saved_errno = errno;
        va_list ap;

        if (!fields)
                fields = &none;
        log_report_lost();
        va_start(ap, format);
        if (!write_entry(level, fields, file, line, function, format, ap))
                atomic_fetch_add(&n_lost, 1);
        va_end(ap);
        errno = saved_errno;
        return -fields->error_number;
}

bool log_rate_limit_pass(LogRateLimit *limit, const char *file, int line) {
        static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        uint64_t now = boottime_usec();
        unsigned n_dropped = 0;

        pthread_mutex_lock(&mutex);
        if (limit->begin_usec == 0 || now - limit->begin_usec >= RATE_LIMIT_INTERVAL_USEC) {
                n_dropped = limit->n_dropped;
                *limit = (LogRateLimit){.begin_usec = now};
        }
        bool pass = limit->n_passed < RATE_LIMIT_BURST;
        if (pass)
                limit->n_passed++;
        else
                limit->n_dropped++;
        pthread_mutex_unlock(&mutex);
        if (n_dropped > 0)
                log_write(LOG_NOTICE, NULL, file, line, __func__, "%u entries from %s:%d were left out",
                        n_dropped, source_path(file), line);
        return pass;
}
