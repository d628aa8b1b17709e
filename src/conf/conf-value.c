/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf-value.h"

#include <inttypes.h>

#include "util/string-util.h"
#include "util/time-util.h"

#define BLANKS " \t"

typedef struct Unit {
        const char *name;
        uint64_t factor;
} Unit;

/* A size is written in the largest unit that divides it, a duration as a sum of them. */
static const Unit size_units[] = {{"G", 1ULL << 30}, {"M", 1ULL << 20}, {"K", 1ULL << 10}};
static const Unit duration_units[] = {
        {"d", 86400 * USEC_PER_SEC},
        {"h", 3600 * USEC_PER_SEC},
        {"min", 60 * USEC_PER_SEC},
        {"s", USEC_PER_SEC},
        {"ms", USEC_PER_MSEC},
        {"us", 1},
};

static char *format_size(uint64_t value) {
        FOREACH_ARRAY(unit, size_units, ELEMENTSOF(size_units))
                if (value > 0 && value % unit->factor == 0)
                        return format_string("%" PRIu64 "%s", value / unit->factor, unit->name);
        return format_string("%" PRIu64, value);
}

static char *format_duration(uint64_t value) {
        char text[128];
        size_t n = 0;

        text[0] = 0;
        FOREACH_ARRAY(unit, duration_units, ELEMENTSOF(duration_units)) {
                if (value < unit->factor)
                        continue;
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%" PRIu64 "%s", n > 0 ? " " : "",
                        value / unit->factor, unit->name);
                value %= unit->factor;
        }
        return strdup(n > 0 ? text : "0");
}

char *conf_number_format(ConfType type, uint64_t value) {
        switch (type) {
        case CONF_SIZE:
                return format_size(value);
        case CONF_DURATION:
                return format_duration(value);
        default:
                return format_string("%" PRIu64, value);
        }
}

char *conf_format(const Conf *conf, const ConfKey *key) {
        if (conf_type_is_text(key->type))
                return strdup(*conf_text(conf, key));
        if (key->type == CONF_BOOLEAN)
                return strdup(*conf_boolean(conf, key) ? "yes" : "no");
        return conf_number_format(key->type, *conf_number(conf, key));
}

static int parse_number(ConfType type, const char *text, uint64_t *ret, const char **ret_expected) {
        switch (type) {
        case CONF_SIZE:
                *ret_expected = "a size such as 65536, 64K or 1M";
                return parse_size(text, ret);
        case CONF_DURATION:
                *ret_expected = "a duration such as 30s, 5min or 1h";
                return parse_duration(text, ret);
        default:
                *ret_expected = "a whole number";
                return parse_u64(text, UINT64_MAX, ret);
        }
}

static int set_number(Conf *conf, const ConfKey *key, const char *text, char *problem) {
        const char *expected;
        uint64_t value;

        int r = parse_number(key->type, text, &value, &expected);
        if (r == -EINVAL) {
                snprintf(problem, CONF_PROBLEM_MAX, "\"%.80s\" is not %s", text, expected);
                return -EINVAL;
        }
        if (r == -ERANGE || value < key->min || value > key->max) {
                _cleanup_free_ char *min = conf_number_format(key->type, key->min);
                _cleanup_free_ char *max = conf_number_format(key->type, key->max);
                if (!min || !max)
                        return -ENOMEM;
                snprintf(problem, CONF_PROBLEM_MAX, "%.80s is not between %s and %s", text, min, max);
                return -EINVAL;
        }
        *conf_number(conf, key) = value;
        return 0;
}

static int set_boolean(Conf *conf, const ConfKey *key, const char *text, char *problem) {
        int r = parse_boolean(text);
        if (r < 0) {
                snprintf(problem, CONF_PROBLEM_MAX, "\"%.80s\" is neither yes nor no", text);
                return -EINVAL;
        }
        *conf_boolean(conf, key) = r > 0;
        return 0;
}

static int replace_text(Conf *conf, const ConfKey *key, char *text) {
        if (!text)
                return -ENOMEM;
        char **place = conf_text(conf, key);
        free(*place);
        *place = text;
        return 0;
}

static int set_string(Conf *conf, const ConfKey *key, const char *text, char *problem) {
        bool allowed = !key->choices;

        for (const char *const *choice = key->choices; choice && *choice; choice++)
                allowed = allowed || streq(*choice, text);
        if (allowed)
                return replace_text(conf, key, strdup(text));
        int n = snprintf(problem, CONF_PROBLEM_MAX, "\"%.80s\" is not one of:", text);
        for (const char *const *choice = key->choices; *choice && n < (int) CONF_PROBLEM_MAX; choice++)
                n += snprintf(problem + n, CONF_PROBLEM_MAX - (size_t) n, " %s", *choice);
        return -EINVAL;
}

static int add_to_list(Conf *conf, const ConfKey *key, const char *text) {
        for (const char *p = text + strspn(text, BLANKS); *p; p += strspn(p, BLANKS)) {
                size_t length = strcspn(p, BLANKS);
                _cleanup_free_ char *word = strndup(p, length);
                if (!word)
                        return -ENOMEM;
                p += length;
                const char *list = strempty(*conf_text(conf, key));
                if (conf_list_contains(list, word))
                        continue;
                int r = replace_text(conf, key, format_string("%s%s%s", list, *list ? " " : "", word));
                if (r < 0)
                        return r;
        }
        return 0;
}

bool conf_list_contains(const char *list, const char *word) {
        size_t length = strlen(word);

        for (const char *p = list; *p; p += strspn(p, BLANKS)) {
                size_t n = strcspn(p, BLANKS);
                if (n == length && strncmp(p, word, n) == 0)
                        return true;
                p += n;
        }
        return false;
}

int conf_value_reset(Conf *conf, const ConfKey *key) {
        char problem[CONF_PROBLEM_MAX];

        if (conf_type_is_text(key->type))
                return replace_text(conf, key, strdup(key->default_value));
        return conf_value_set(conf, key, key->default_value, problem);
}

int conf_value_set(Conf *conf, const ConfKey *key, const char *text, char problem[static CONF_PROBLEM_MAX]) {
        if (isempty(text))
                return conf_value_reset(conf, key);
        switch (key->type) {
        case CONF_BOOLEAN:
                return set_boolean(conf, key, text, problem);
        case CONF_STRING:
                return set_string(conf, key, text, problem);
        case CONF_LIST:
                return add_to_list(conf, key, text);
        default:
                return set_number(conf, key, text, problem);
        }
}

bool conf_value_equal(const Conf *a, const Conf *b, const ConfKey *key) {
        if (conf_type_is_text(key->type))
                return streq(*conf_text(a, key), *conf_text(b, key));
        if (key->type == CONF_BOOLEAN)
                return *conf_boolean(a, key) == *conf_boolean(b, key);
        return *conf_number(a, key) == *conf_number(b, key);
}

#define SWAP(a, b)                                                                                          \
        do {                                                                                                \
                typeof(a) _saved = (a);                                                                     \
                (a) = (b);                                                                                  \
                (b) = _saved;                                                                               \
        } while (0)

void conf_value_swap(Conf *a, Conf *b, const ConfKey *key) {
        if (conf_type_is_text(key->type))
                SWAP(*conf_text(a, key), *conf_text(b, key));
        else if (key->type == CONF_BOOLEAN)
                SWAP(*conf_boolean(a, key), *conf_boolean(b, key));
        else
                SWAP(*conf_number(a, key), *conf_number(b, key));
}
