/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/keys.h"

#include <fcntl.h>
#include <stdio.h>

#include "service/credential.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define PRIVATE_FILE TOKEN_PRIVATE_CREDENTIAL
#define PUBLIC_FILE TOKEN_PUBLIC_CREDENTIAL
#define NEXT_FILE "token.next.pem"
#define OLD_FILE "token.key" /* of releases before 0.3, which signed with one secret for all roles */

static int read_text(int directory, const char *name, char **ret) {
        _cleanup_close_ int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : read_fd(fd, TOKEN_PEM_MAX, ret, NULL);
}

static int write_all(int fd, const char *text) {
        for (size_t left = strlen(text); left > 0;) {
                ssize_t n = write(fd, text, left);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                text += n;
                left -= (size_t) n;
        }
        return 0;
}

/* The directory's entry of it is on disk with the next call of sync_directory(). */
static int write_text(int directory, const char *name, const char *text) {
        char new_name[64];

        snprintf(new_name, sizeof(new_name), "%s.new", name);
        if (unlinkat(directory, new_name, 0) < 0 && errno != ENOENT)
                return -errno;
        _cleanup_close_ int fd =
                openat(directory, new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        int r = write_all(fd, text);
        if (r >= 0 && fsync(fd) < 0)
                r = -errno;
        if (r >= 0 && renameat(directory, new_name, directory, name) < 0)
                r = -errno;
        if (r < 0)
                (void) unlinkat(directory, new_name, 0);
        return r;
}

static int sync_directory(int directory) {
        return fsync(directory) < 0 ? -errno : 0;
}

static int key_id(const char *private_pem, char ret[static TOKEN_KEY_ID_SIZE]) {
        _cleanup_(token_signer_freep) TokenSigner *signer = NULL;

        int r = token_signer_new(&signer, private_pem, strlen(private_pem));
        if (r < 0)
                return r;
        strcpy(ret, token_signer_key_id(signer));
        return 0;
}

/* The public part of the key that signs. */
static int read_present(int directory, char **ret_public, char ret_id[static TOKEN_KEY_ID_SIZE]) {
        _cleanup_(credential_wipe_and_freep) char *private_pem = NULL;

        int r = read_text(directory, PRIVATE_FILE, &private_pem);
        if (r >= 0)
                r = key_id(private_pem, ret_id);
        return r < 0 ? r : token_key_public(private_pem, ret_public);
}

int keys_make(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]) {
        _cleanup_(credential_wipe_and_freep) char *private_pem = NULL;
        _cleanup_free_ char *public_pem = NULL;

        int r = read_present(directory, &public_pem, ret_id);
        if (r != -ENOENT)
                return r;
        r = token_key_generate(&private_pem, &public_pem);
        if (r >= 0)
                r = key_id(private_pem, ret_id);
        /* The private one last: if it is there, all is. */
        if (r >= 0)
                r = write_text(directory, PUBLIC_FILE, public_pem);
        if (r >= 0)
                r = write_text(directory, PRIVATE_FILE, private_pem);
        if (r >= 0)
                r = sync_directory(directory);
        if (r < 0)
                return r;
        (void) unlinkat(directory, OLD_FILE, 0);
        return 1;
}

int keys_prepare(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]) {
        _cleanup_(credential_wipe_and_freep) char *next = NULL;
        _cleanup_free_ char *present_public = NULL, *next_public = NULL;

        int r = read_present(directory, &present_public, ret_id);
        if (r >= 0)
                r = token_key_generate(&next, &next_public);
        if (r >= 0)
                r = key_id(next, ret_id);
        if (r < 0)
                return r;
        _cleanup_free_ char *both = format_string("%s%s", next_public, present_public);
        if (!both)
                return -ENOMEM;
        r = write_text(directory, NEXT_FILE, next);
        if (r >= 0)
                r = write_text(directory, PUBLIC_FILE, both);
        return r < 0 ? r : sync_directory(directory);
}

/* A next key that an interrupted rotation left may not be known to anybody. */
static int check_public(int directory, const char *id) {
        _cleanup_(token_keys_unrefp) TokenKeys *keys = NULL;
        _cleanup_free_ char *pem = NULL;

        int r = read_text(directory, PUBLIC_FILE, &pem);
        if (r >= 0)
                r = token_keys_new(&keys, pem, strlen(pem));
        if (r < 0)
                return r;
        return token_keys_has(keys, id) ? 0 : -ENOKEY;
}

int keys_activate(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]) {
        _cleanup_(credential_wipe_and_freep) char *next = NULL;

        int r = read_text(directory, NEXT_FILE, &next);
        if (r >= 0)
                r = key_id(next, ret_id);
        if (r >= 0)
                r = check_public(directory, ret_id);
        if (r < 0)
                return r;
        if (renameat(directory, NEXT_FILE, directory, PRIVATE_FILE) < 0)
                return -errno;
        return sync_directory(directory);
}

int keys_revoke(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]) {
        _cleanup_free_ char *public_pem = NULL;

        int r = read_present(directory, &public_pem, ret_id);
        if (r < 0)
                return r;
        if (unlinkat(directory, NEXT_FILE, 0) < 0 && errno != ENOENT)
                return -errno;
        r = write_text(directory, PUBLIC_FILE, public_pem);
        return r < 0 ? r : sync_directory(directory);
}
