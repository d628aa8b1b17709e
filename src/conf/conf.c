/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf.h"

#include <ctype.h>
#include <stdarg.h>

#include "conf/conf-files.h"
#include "conf/conf-parse.h"
#include "conf/conf-value.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define ENVIRONMENT_PREFIX "STONECHAT_"

typedef struct Loader {
        Conf *conf;
        bool *bad; /* parallel to conf_keys[]: the last value given was bad */
        ConfReport report;
        void *userdata;
        const char *file; /* being read */
        bool any_bad;
        int error; /* -ENOMEM sticks */
} Loader;

static void loader_done(Loader *loader) {
        conf_free(loader->conf);
        free(loader->bad);
}

Conf *conf_free(Conf *conf) {
        if (!conf)
                return NULL;
        FOREACH_ARRAY(key, conf_keys, conf_n_keys)
                if (conf_type_is_text(key->type))
                        free(*conf_text(conf, key));
        for (size_t i = 0; conf->sources && i < conf_n_keys; i++)
                free(conf->sources[i]);
        free(conf->sources);
        free(conf);
        return NULL;
}

/* All defaults. */
static int conf_new(Conf **ret) {
        _cleanup_(conf_freep) Conf *conf = new0(Conf, 1);
        if (!conf)
                return -ENOMEM;
        conf->sources = new0(char *, conf_n_keys);
        if (!conf->sources)
                return -ENOMEM;
        FOREACH_ARRAY(key, conf_keys, conf_n_keys) {
                int r = conf_value_reset(conf, key);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(conf);
        return 0;
}

static void report(Loader *loader, const char *format, ...) _printf_(2, 3);
static void report(Loader *loader, const char *format, ...) {
        char text[1024];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (loader->report)
                loader->report(text, loader->userdata);
}

static const ConfKey *find_key(const char *section, const char *name) {
        FOREACH_ARRAY(key, conf_keys, conf_n_keys)
                if (streq(key->section, section) && streq(key->name, name))
                        return key;
        return NULL;
}

static bool section_exists(const char *section) {
        FOREACH_ARRAY(key, conf_keys, conf_n_keys)
                if (streq(key->section, section))
                        return true;
        return false;
}

/* `place`: "FILE:LINE" or the name of an environment variable. */
static void apply(Loader *loader, const ConfKey *key, const char *value, const char *place) {
        size_t index = (size_t) (key - conf_keys);
        char problem[CONF_PROBLEM_MAX];

        int r = conf_value_set(loader->conf, key, value, problem);
        if (r == -EINVAL) {
                report(loader, "%s: %s.%s: %s", place, key->section, key->name, problem);
                loader->bad[index] = loader->any_bad = true;
                return;
        }
        char *source = r < 0 ? NULL : strdup(place);
        if (!source) {
                loader->error = -ENOMEM;
                return;
        }
        free(loader->conf->sources[index]);
        loader->conf->sources[index] = source;
        loader->bad[index] = false;
}

static void on_assignment(
        unsigned line, const char *section, const char *name, const char *value, void *userdata) {
        Loader *loader = userdata;
        const ConfKey *key = find_key(section, name);

        if (!key) {
                report(loader, "%s:%u: %s.%s: there is no such %s; ignored", loader->file, line, section,
                        name, section_exists(section) ? "key" : "section");
                return;
        }
        _cleanup_free_ char *place = format_string("%s:%u", loader->file, line);
        if (place)
                apply(loader, key, value, place);
        else
                loader->error = -ENOMEM;
}

static void on_problem(unsigned line, const char *problem, void *userdata) {
        Loader *loader = userdata;

        loader->any_bad = true;
        report(loader, "%s:%u: %s", loader->file, line, problem);
}

static int load_file(Loader *loader, const char *path) {
        static const ConfParser parser = {.on_assignment = on_assignment, .on_problem = on_problem};
        _cleanup_free_ char *text = NULL;
        size_t size;

        int r = read_file(path, CONF_MAX_FILE, &text, &size);
        if (r == -ENOENT) /* removed since we listed it */
                return 0;
        if (r < 0) {
                report(loader, "%s: cannot be read: %s", path, strerror(-r));
                return r;
        }
        loader->file = path;
        conf_parse(text, size, &parser, loader);
        return loader->error;
}

static int load_files(Loader *loader, const char *const *dirs) {
        char **files;

        int r = conf_files_find(dirs, &files);
        if (r < 0) {
                report(loader, "The configuration's directories cannot be read: %s", strerror(-r));
                return r;
        }
        for (char **file = files; *file && r >= 0; file++)
                r = load_file(loader, *file);
        conf_files_free(files);
        return r;
}

/* The value of STONECHAT_SECTION_KEY in an assignment of the environment, or NULL if that is another one. */
static const char *environment_value(const char *assignment, const ConfKey *key) {
        const char *p = startswith(assignment, ENVIRONMENT_PREFIX);
        const char *const parts[] = {key->section, "_", key->name, "="};

        for (size_t i = 0; p && i < ELEMENTSOF(parts); i++)
                for (const char *c = parts[i]; *c && p; c++)
                        p = *p == toupper((unsigned char) *c) ? p + 1 : NULL;
        return p;
}

static int load_environment(Loader *loader, char *const *environment) {
        FOREACH_ARRAY(key, conf_keys, conf_n_keys)
                for (char *const *variable = environment; variable && *variable; variable++) {
                        const char *value = environment_value(*variable, key);
                        if (!value)
                                continue;
                        _cleanup_free_ char *name = strndup(*variable, (size_t) (value - 1 - *variable));
                        if (!name)
                                return -ENOMEM;
                        if (key->type == CONF_LIST) /* the whole list, not an addition to the files' */
                                apply(loader, key, "", name);
                        apply(loader, key, value, name);
                }
        return loader->error;
}

/* Takes back the value of a key that does not fit the others, and says why. */
static int refuse(Loader *loader, const char *section, const char *name, const char *why) {
        const ConfKey *key = find_key(section, name);
        size_t index = (size_t) (key - conf_keys);

        report(loader, "%s: %s.%s: %s", loader->conf->sources[index] ?: "stonechat.conf", section, name,
                why);
        loader->bad[index] = loader->any_bad = true;
        return conf_value_reset(loader->conf, key);
}

/* Looks in the authority (user:password@) and among the parameters; no parameter that is needed contains
 * "password". */
static bool uri_has_password(const char *uri) {
        const char *authority = strstr(uri, "://");

        if (strcasestr(uri, "password"))
                return true;
        if (!authority)
                return false;
        authority += strlen("://");
        size_t size = strcspn(authority, "/?");
        const char *at = memchr(authority, '@', size);
        return at && memchr(authority, ':', (size_t) (at - authority));
}

/* What no single key shows. */
static int check_combinations(Loader *loader) {
        const Conf *conf = loader->conf;
        int r = 0;

        if (streq(conf->store_kind, "sqlite") && !isempty(conf->cluster_peers))
                r = refuse(loader, "Cluster", "Peers",
                        "a store of kind sqlite lives on one host and cannot be shared with others; set "
                        "Store.Kind= to one that can, or remove the peers");
        /* The configuration can be read by anybody, and is shown by stonechatctl. */
        if (r >= 0 && uri_has_password(conf->store_uri))
                r = refuse(loader, "Store", "URI",
                        "holds a password; give it as the credential store.password of the units");
        else if (r >= 0 && streq(conf->store_kind, "postgresql") && isempty(conf->store_uri))
                r = refuse(loader, "Store", "Kind", "postgresql needs Store.URI=");
        return r;
}

static int load(Loader *loader, const ConfSource *source) {
        static const char *const standard_dirs[] = {
                "/etc/stonechat", "/run/stonechat", "/usr/lib/stonechat", NULL};

        loader->bad = new0(bool, conf_n_keys);
        if (!loader->bad)
                return -ENOMEM;
        int r = conf_new(&loader->conf);
        if (r >= 0)
                r = load_files(loader, source->dirs ?: standard_dirs);
        if (r >= 0)
                r = load_environment(loader, source->environment);
        if (r >= 0)
                r = check_combinations(loader);
        return r;
}

int conf_load(const ConfSource *source, ConfReport report_function, void *userdata, Conf **ret) {
        _cleanup_(loader_done) Loader loader = {.report = report_function, .userdata = userdata};

        int r = load(&loader, source);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(loader.conf);
        return loader.any_bad ? -EINVAL : 0;
}

int conf_reload(Conf *conf, const ConfSource *source, ConfReport report_function, void *userdata) {
        _cleanup_(loader_done) Loader loader = {.report = report_function, .userdata = userdata};
        int n_changed = 0;

        int r = load(&loader, source);
        if (r < 0)
                return r;
        for (size_t i = 0; i < conf_n_keys; i++) {
                const ConfKey *key = &conf_keys[i];
                if (loader.bad[i])
                        continue;
                bool changed = !conf_value_equal(conf, loader.conf, key);
                if (changed && !key->reloadable) {
                        report(&loader, "%s: %s.%s: takes effect after a restart",
                                loader.conf->sources[i] ?: "default", key->section, key->name);
                        continue;
                }
                conf_value_swap(conf, loader.conf, key);
                char *old_source = conf->sources[i];
                conf->sources[i] = loader.conf->sources[i];
                loader.conf->sources[i] = old_source;
                n_changed += changed;
        }
        return n_changed;
}
