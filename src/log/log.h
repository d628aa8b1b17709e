/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Logging: structured entries for the journal, or "<N>text" lines on standard error when that is no journal
 * (tests, a terminal). Program code logs an error once, where it is handled; library code returns it.
 *
 * What a remote peer can trigger is rate-limited by call site (LOG_RATE_*); what was dropped is counted and
 * told. No message text, token or password is ever logged.
 *
 * Thread-safe. */

#include <stdarg.h>
#include <stdbool.h>
#include <syslog.h>

#include "log/trace.h"
#include "util/macro.h"

/* Opens the log for this process: `identifier` is "stonechat-api". Level: one of LOG_DEBUG … LOG_ERR. */
void log_open(const char *identifier, int level);
/* For a command that people call: plain lines on standard error, never the journal. */
void log_open_command(const char *identifier, int level);
/* For a process that ends soon after it started: waits, at most two seconds, until the journal has read its
 * entries. The journal finds out the unit of an entry from the process, so `journalctl -u` would not show an
 * entry that is read after the process has ended. */
void log_flush(void);
/* The journal is never waited for: entries that it does not take are counted. Says how many were lost, once it
 * takes entries again; each entry does so, and a role's housekeeping. */
void log_report_lost(void);
void log_set_level(int level);
/* Where entries go: "journal" or "console" (standard error), as org.freedesktop.LogControl1 names it. */
const char *log_get_target(void);
int log_get_level(void);
/* "debug", "info", "notice", "warning", "err": the level, or -EINVAL; and back. */
int log_level_from_string(const char *s);
const char *log_level_to_string(int level);

/* What an entry says beyond its text; unset members leave their field out. */
typedef struct LogFields {
        const char *message_id; /* one of log/message-ids.h: an event with a catalog entry */
        const Trace *trace; /* STONECHAT_TRACE_ID=; NULL: that of log_set_trace() */
        const char *user; /* STONECHAT_USER= */
        const char *conversation; /* STONECHAT_CONVERSATION= */
        const char *method; /* STONECHAT_METHOD= */
        const char *host; /* STONECHAT_HOST= */
        const char *unit; /* STONECHAT_UNIT= */
        const char *error; /* STONECHAT_ERROR=: a stable code */
        int error_number; /* ERRNO=: a positive errno; the format may use %m */
} LogFields;

/* The trace of this thread's entries that name none of their own; NULL: none. A fiber has one of its own,
 * and swaps it in with each switch. Answers the one before; the caller keeps it alive while it is set. */
const Trace *log_set_trace(const Trace *trace);

/* Always answers -error_number of the fields, or 0, so that `return log_…` reads well. */
int log_write(int level, const LogFields *fields, const char *file, int line, const char *function,
        const char *format, ...) _printf_(6, 7);

/* At most 10 a 5 s from one call site; afterwards one line says how many were dropped. */
typedef struct LogRateLimit {
        uint64_t begin_usec;
        unsigned n_passed, n_dropped;
} LogRateLimit;
bool log_rate_limit_pass(LogRateLimit *limit, const char *file, int line);

#define log_full(level, fields, ...)                                                                        \
        ({                                                                                                  \
                int _level = (level);                                                                       \
                const LogFields *_fields = (fields);                                                        \
                _level <= log_get_level()                                                                   \
                        ? log_write(_level, _fields, __FILE__, __LINE__, __func__, __VA_ARGS__)             \
                        : -(_fields ? _fields->error_number : 0);                                           \
        })

#define log_debug(...) log_full(LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_full(LOG_INFO, NULL, __VA_ARGS__)
#define log_notice(...) log_full(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_warning(...) log_full(LOG_WARNING, NULL, __VA_ARGS__)
#define log_error(...) log_full(LOG_ERR, NULL, __VA_ARGS__)

/* `return log_error_errno(r, "Failed to open %s: %m", path);` with r a negative errno. */
#define log_full_errno(level, r, ...) log_full(level, &((LogFields){.error_number = -(r)}), __VA_ARGS__)
#define log_debug_errno(r, ...) log_full_errno(LOG_DEBUG, r, __VA_ARGS__)
#define log_warning_errno(r, ...) log_full_errno(LOG_WARNING, r, __VA_ARGS__)
#define log_error_errno(r, ...) log_full_errno(LOG_ERR, r, __VA_ARGS__)
#define log_oom() log_error_errno(-ENOMEM, "Out of memory")

/* Text with fields: log_with((.message_id = MESSAGE_ID_STARTED, .host = host), LOG_NOTICE, "…", …). */
#define LOG_FIELDS_EXPAND(...) __VA_ARGS__
#define log_with(fields, level, ...) log_full(level, &((LogFields){LOG_FIELDS_EXPAND fields}), __VA_ARGS__)

/* The same for what a peer can trigger. */
#define log_peer(fields, level, ...)                                                                        \
        ({                                                                                                  \
                static LogRateLimit _limit;                                                                 \
                if ((level) <= log_get_level() && log_rate_limit_pass(&_limit, __FILE__, __LINE__))         \
                        log_with(fields, level, __VA_ARGS__);                                               \
        })
