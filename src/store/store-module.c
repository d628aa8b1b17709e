/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store-module.h"

#include <dlfcn.h>

#include "log/log.h"
#include "util/string-util.h"

#define MAX_REGISTERED 4U

static const BackendClass *registered[MAX_REGISTERED];
static unsigned n_registered;

void store_register_backend(const BackendClass *class) {
        FOREACH_ARRAY(r, registered, n_registered)
                if (*r == class)
                        return;
        assert_se(n_registered < MAX_REGISTERED);
        registered[n_registered++] = class;
}

/* The kind comes from the configuration: it must not lead elsewhere. */
static bool kind_is_valid(const char *kind) {
        return !isempty(kind) && kind[strspn(kind, "abcdefghijklmnopqrstuvwxyz")] == 0;
}

static int load_module(const char *kind, const BackendClass **ret) {
        const char *directory = secure_getenv("STONECHAT_MODULE_DIRECTORY") ?: STONECHAT_LIBEXECDIR;
        _cleanup_free_ char *path = format_string("%s/store-%s.so", directory, kind);

        if (!path)
                return -ENOMEM;
        /* Never unloaded: its library may have registered what must outlive the store. */
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        const BackendClass *class = module ? dlsym(module, STORE_BACKEND_SYMBOL) : NULL;
        if (!class) {
                log_error("Failed to load the store's back end: %s", dlerror());
                return -ENOPKG;
        }
        /* While a package is unpacked one may be new and the other old. */
        if (!streq(class->version, STONECHAT_VERSION)) {
                log_error("%s is of release %s, and this program of %s", path, class->version,
                        STONECHAT_VERSION);
                return -ENOPKG;
        }
        *ret = class;
        return 0;
}

int store_find_backend(const char *kind, const BackendClass **ret) {
        if (!kind_is_valid(strempty(kind)))
                return -ENOPKG;
        FOREACH_ARRAY(class, registered, n_registered)
                if (streq((*class)->kind, kind)) {
                        *ret = *class;
                        return 0;
                }
        return load_module(kind, ret);
}
