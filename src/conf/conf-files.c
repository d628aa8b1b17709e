/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf-files.h"

#include <dirent.h>
#include <stdbool.h>
#include <unistd.h>

#include "util/string-util.h"

#define MAX_DROP_INS 1024U

typedef struct FileList {
        char **paths; /* NULL-terminated once something is in it */
        size_t n;
} FileList;

static void file_list_done(FileList *list) {
        conf_files_free(list->paths);
}

char **conf_files_free(char **files) {
        for (char **file = files; file && *file; file++)
                free(*file);
        free(files);
        return NULL;
}

/* Takes the path. NULL: the caller was out of memory when it made the path. */
static int file_list_add(FileList *list, char *path) {
        _cleanup_free_ char *owned = path;

        if (!owned)
                return -ENOMEM;
        char **paths = reallocarray(list->paths, list->n + 2, sizeof(char *));
        if (!paths)
                return -ENOMEM;
        list->paths = paths;
        paths[list->n++] = TAKE_PTR(owned);
        paths[list->n] = NULL;
        return 0;
}

static const char *file_name(const char *path) {
        const char *slash = strrchr(path, '/');
        return slash ? slash + 1 : path;
}

static bool has_name(const FileList *list, const char *name) {
        FOREACH_ARRAY(path, list->paths, list->n)
                if (streq(file_name(*path), name))
                        return true;
        return false;
}

static bool is_drop_in_name(const char *name) {
        size_t n = strlen(name);
        return name[0] != '.' && n > 5 && streq(name + n - 5, ".conf");
}

static void closedirp(DIR **dir) {
        if (*dir)
                closedir(*dir);
}

/* Adds the drop-ins of one directory that no more important one has by the same name. */
static int add_drop_ins(FileList *list, const char *dir_path) {
        _cleanup_free_ char *path = format_string("%s/" CONF_FILE_NAME ".d", dir_path);
        if (!path)
                return -ENOMEM;
        _cleanup_(closedirp) DIR *dir = opendir(path);
        if (!dir)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        for (;;) {
                errno = 0;
                struct dirent *entry = readdir(dir);
                if (!entry)
                        return -errno;
                if (!is_drop_in_name(entry->d_name) || has_name(list, entry->d_name))
                        continue;
                if (list->n >= MAX_DROP_INS)
                        return -E2BIG;
                int r = file_list_add(list, format_string("%s/%s", path, entry->d_name));
                if (r < 0)
                        return r;
        }
}

static int compare_names(const void *a, const void *b) {
        return strcmp(file_name(*(char *const *) a), file_name(*(char *const *) b));
}

static int add_main_file(FileList *list, const char *const *dirs) {
        for (const char *const *dir = dirs; *dir; dir++) {
                _cleanup_free_ char *path = format_string("%s/" CONF_FILE_NAME, *dir);
                if (!path)
                        return -ENOMEM;
                if (access(path, F_OK) >= 0)
                        return file_list_add(list, TAKE_PTR(path));
        }
        return 0;
}

int conf_files_find(const char *const *dirs, char ***ret) {
        _cleanup_(file_list_done) FileList drop_ins = {}, files = {};
        int r = 0;

        for (const char *const *dir = dirs; *dir && r >= 0; dir++)
                r = add_drop_ins(&drop_ins, *dir);
        if (r < 0)
                return r;
        if (drop_ins.n > 1)
                qsort(drop_ins.paths, drop_ins.n, sizeof(char *), compare_names);
        r = add_main_file(&files, dirs);
        for (size_t i = 0; i < drop_ins.n && r >= 0; i++)
                r = file_list_add(&files, strdup(drop_ins.paths[i]));
        if (r < 0)
                return r;
        if (!files.paths) {
                files.paths = new0(char *, 1);
                if (!files.paths)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(files.paths);
        return 0;
}
