/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One value of the configuration: from text, to text, compared, moved; each by its key's type. */

#include "conf/conf.h"

#define CONF_PROBLEM_MAX 256U

/* Sets the value from what a user wrote. An empty text resets it to its default; a list's words are added to
 * those there. -EINVAL with `problem` filled in, and the value as it was; or -ENOMEM. */
int conf_value_set(Conf *conf, const ConfKey *key, const char *text, char problem[static CONF_PROBLEM_MAX]);
int conf_value_reset(Conf *conf, const ConfKey *key);

bool conf_value_equal(const Conf *a, const Conf *b, const ConfKey *key);
void conf_value_swap(Conf *a, Conf *b, const ConfKey *key);

/* A number as a user would write one of this type: "256K", "1h 30min", "12". Caller frees. */
char *conf_number_format(ConfType type, uint64_t value);

static inline bool conf_type_is_text(ConfType type) {
        return type == CONF_STRING || type == CONF_LIST;
}
static inline bool conf_type_is_number(ConfType type) {
        return type == CONF_UNSIGNED || type == CONF_SIZE || type == CONF_DURATION;
}

/* Where the value lives. */
static inline char **conf_text(const Conf *conf, const ConfKey *key) {
        return (char **) ((char *) conf + key->offset);
}
static inline uint64_t *conf_number(const Conf *conf, const ConfKey *key) {
        return (uint64_t *) ((char *) conf + key->offset);
}
static inline bool *conf_boolean(const Conf *conf, const ConfKey *key) {
        return (bool *) ((char *) conf + key->offset);
}
