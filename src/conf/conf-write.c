/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf-value.h"
#include "util/string-util.h"

#define EXAMPLE_WIDTH 100U

/* Words of the text in lines that begin with `prefix`. */
static void write_wrapped(FILE *out, const char *prefix, const char *text) {
        size_t column = 0;

        for (const char *p = text; *p; p += strspn(p, " ")) {
                size_t length = strcspn(p, " ");
                if (column > 0 && column + 1 + length > EXAMPLE_WIDTH) {
                        fputc('\n', out);
                        column = 0;
                }
                column += (size_t) fprintf(out, "%s%.*s", column == 0 ? prefix : " ", (int) length, p);
                p += length;
        }
        fputc('\n', out);
}

static bool begins_section(const ConfKey *key) {
        return key == conf_keys || !streq(key[-1].section, key->section);
}

/* "A size from 1K to 16M", "One of: sqlite". */
static void write_domain(FILE *out, const ConfKey *key) {
        static const char *const nouns[] = {
                [CONF_UNSIGNED] = "A number",
                [CONF_SIZE] = "A size",
                [CONF_DURATION] = "A duration",
        };

        if (conf_type_is_number(key->type)) {
                _cleanup_free_ char *min = conf_number_format(key->type, key->min);
                _cleanup_free_ char *max = conf_number_format(key->type, key->max);
                fprintf(out, "%s from %s to %s", nouns[key->type], strempty(min), strempty(max));
        } else if (key->choices) {
                fputs("One of:", out);
                for (const char *const *choice = key->choices; *choice; choice++)
                        fprintf(out, " %s", *choice);
        } else
                fputs(key->type == CONF_BOOLEAN  ? "yes or no"
                        : key->type == CONF_LIST ? "A list of words"
                                                 : "A text",
                        out);
}

void conf_write_example(FILE *out) {
        fputs("# Configuration of Stonechat: every key with its default. See stonechat.conf(5).\n"
              "#\n"
              "# To change something, put it into a file of its own below /etc/stonechat/stonechat.conf.d/, "
              "such as\n"
              "# 60-local.conf, with the section's header above it; then: systemctl reload "
              "'stonechat-*.service'.\n",
                out);
        FOREACH_ARRAY(key, conf_keys, conf_n_keys) {
                if (begins_section(key))
                        fprintf(out, "\n[%s]\n", key->section);
                else
                        fputc('\n', out);
                write_wrapped(out, "# ", key->help);
                fprintf(out, "#%s=%s\n", key->name, key->default_value);
        }
}

/* Escapes text for roff: hyphens, so that they can be copied as such, backslashes, and dots at the beginning
 * of a line. */
static void write_roff(FILE *out, const char *text) {
        if (*text == '.' || *text == '\'')
                fputs("\\&", out);
        for (const char *p = text; *p; p++)
                if (*p == '-')
                        fputs("\\-", out);
                else if (*p == '\\')
                        fputs("\\e", out);
                else
                        fputc(*p, out);
}

void conf_write_manual(FILE *out) {
        FOREACH_ARRAY(key, conf_keys, conf_n_keys) {
                if (begins_section(key))
                        fprintf(out, ".SS [%s]\n", key->section);
                fprintf(out, ".TP\n.B %s=\n", key->name);
                write_roff(out, key->help);
                fputs("\n.br\n", out);
                write_domain(out, key);
                fprintf(out, "; default: ");
                write_roff(out, *key->default_value ? key->default_value : "empty");
                fprintf(out, "; %s.\n", key->reloadable ? "a reload applies it" : "needs a restart");
        }
}
