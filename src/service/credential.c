/* SPDX-License-Identifier: Apache-2.0 */
#include "service/credential.h"

#include <sodium.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "util/fd-util.h"
#include "util/string-util.h"

#define NAME_MAX_SIZE 64

typedef struct Credential Credential;
struct Credential {
        SLIST_ENTRY(Credential) others;
        char name[NAME_MAX_SIZE];
        char *content;
        size_t size;
};

/* Those that a reload has brought. */
static SLIST_HEAD(, Credential) renewed = SLIST_HEAD_INITIALIZER(renewed);

void credential_wipe_and_freep(char **secret) {
        if (*secret)
                sodium_memzero(*secret, strlen(*secret));
        free(*secret);
}

static Credential *find_renewed(const char *name) {
        Credential *credential;

        SLIST_FOREACH(credential, &renewed, others)
                if (streq(credential->name, name))
                        return credential;
        return NULL;
}

int credential_read(const char *name, size_t max, char **ret, size_t *ret_size) {
        const Credential *credential = find_renewed(name);
        const char *directory = getenv("CREDENTIALS_DIRECTORY");

        if (credential) {
                if (credential->size > max)
                        return -EFBIG;
                char *copy = malloc(credential->size + 1);
                if (!copy)
                        return -ENOMEM;
                memcpy(copy, credential->content, credential->size + 1);
                *ret = copy;
                *ret_size = credential->size;
                return 0;
        }
        if (isempty(directory))
                return -ENOENT;
        _cleanup_free_ char *path = format_string("%s/%s", directory, name);
        return path ? read_file(path, max, ret, ret_size) : -ENOMEM;
}

static Credential *add_renewed(const char *name) {
        Credential *credential = new0(Credential, 1);

        if (!credential)
                return NULL;
        strcpy(credential->name, name);
        SLIST_INSERT_HEAD(&renewed, credential, others);
        return credential;
}

int credential_renew(const char *name, int fd) {
        _cleanup_free_ char *content = NULL;
        struct stat st;
        size_t size;

        if (isempty(name) || strlen(name) >= NAME_MAX_SIZE || strchr(name, '/'))
                return -EINVAL;
        /* Reading anything else might block. */
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EBADF;
        int r = read_fd(fd, CREDENTIAL_MAX, &content, &size);
        if (r < 0)
                return r;
        Credential *credential = find_renewed(name) ?: add_renewed(name);
        if (!credential) {
                sodium_memzero(content, size);
                return -ENOMEM;
        }
        if (credential->content)
                sodium_memzero(credential->content, credential->size);
        free(credential->content);
        credential->content = TAKE_PTR(content);
        credential->size = size;
        return 0;
}
