/* SPDX-License-Identifier: Apache-2.0 */

/* The configuration's parser, and every key's values: whatever the parser accepts is set, and what was set
 * is written and read back alike. */

#include "conf/conf-parse.h"
#include "conf/conf-value.h"
#include "util/string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Conf *new_conf(void) {
        Conf *conf = NULL;
        static const char *const nowhere[] = {NULL};

        assert_se(conf_load(&(ConfSource){.dirs = nowhere}, NULL, NULL, &conf) == 0);
        return conf;
}

static void on_assignment(
        unsigned line, const char *section, const char *name, const char *value, void *userdata) {
        char problem[CONF_PROBLEM_MAX] = "";
        Conf *conf = userdata;

        assert_se(line > 0 && *section && *name && utf8_is_valid(value, strlen(value)));
        FOREACH_ARRAY(key, conf_keys, conf_n_keys) {
                if (!streq(key->section, section) || !streq(key->name, name))
                        continue;
                int r = conf_value_set(conf, key, value, problem);
                assert_se(r == 0 || (r == -EINVAL && *problem));
                _cleanup_free_ char *text = conf_format(conf, key);
                _cleanup_(conf_freep) Conf *again = new_conf();
                assert_se(text && conf_value_set(again, key, text, problem) == 0);
                assert_se(conf_value_equal(conf, again, key));
        }
}

static void on_problem(unsigned line, const char *problem, _unused_ void *userdata) {
        assert_se(line > 0 && *problem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const ConfParser parser = {.on_assignment = on_assignment, .on_problem = on_problem};
        _cleanup_(conf_freep) Conf *conf = new_conf();

        conf_parse((const char *) data, size, &parser, conf);
        return 0;
}
