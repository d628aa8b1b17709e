/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The syntax of stonechat.conf on its own: pure, fuzzed.
 *
 * Lines of "[Section]" and "Key=Value"; blanks around each part do not count; empty lines and lines that
 * begin with "#" or ";" are comments. There is no quoting and no continuation. A line is at most
 * CONF_MAX_LINE bytes of UTF-8 without NUL; a line that breaks a rule is a problem and has no other effect.
 */

#include <stddef.h>

#define CONF_MAX_FILE (1U << 20) /* bytes */
#define CONF_MAX_LINE 4096U /* bytes, without the line break */
#define CONF_MAX_NAME 64U /* bytes of a section's or key's name: letters and digits */

typedef struct ConfParser {
        void (*on_assignment)(
                unsigned line, const char *section, const char *name, const char *value, void *userdata);
        void (*on_problem)(unsigned line, const char *problem, void *userdata);
} ConfParser;

void conf_parse(const char *text, size_t size, const ConfParser *parser, void *userdata);
